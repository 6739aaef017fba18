//! Ports for servers that must know their number before they start, or keep it over a restart.
//!
//! A server that can bind port 0 itself should do that instead.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below Linux's ephemeral range (from 32,768), so that no outgoing connection takes a port while its server is down.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

/// A loopback port that nobody listens on. Two calls in one process never return the same port until the range is used up.
pub fn free() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes that run at the same time start far apart.
    let start = u16::try_from(std::process::id().wrapping_mul(7_919) % u32::from(COUNT)).expect("reduced to 16 bits");
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (start + step % COUNT) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free loopback port between {FIRST} and {}", FIRST + COUNT);
}

#[cfg(test)]
mod tests {
    #[test]
    fn ports_differ_and_can_be_bound() {
        let ports: std::collections::BTreeSet<u16> = (0..50).map(|_| super::free()).collect();
        assert_eq!(ports.len(), 50);
    }
}
