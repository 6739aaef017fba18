//! Time as a value.
//!
//! Decisions take the time they are made at. [`Clock`] is the one port through which the rest of the system learns it; the
//! system's clock lives in the `runtime` crate, tests bring their own.

pub use jiff::Timestamp;

/// Tells the time. Wall time, for claims and records; never for the age of caches.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// Gives unpredictable bytes.
pub trait Entropy: Send + Sync + std::fmt::Debug {
    /// Fills the buffer.
    fn fill(&self, buffer: &mut [u8]);
}

impl dyn Entropy {
    /// 128 random bits.
    pub fn bits128(&self) -> [u8; 16] {
        let mut bits = [0; 16];
        self.fill(&mut bits);
        bits
    }
}
