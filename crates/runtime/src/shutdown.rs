//! The signal to stop.

use tokio_util::sync::CancellationToken;

/// Tells everybody who holds a copy that the process is to stop. Soft: what is in flight may finish.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// A signal that nobody has given yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the signal. Doing so twice is harmless.
    pub fn trigger(&self) {
        self.0.cancel();
    }

    /// Waits for the signal. A long-lived stream selects on it and ends, or it is cut when the grace period is over.
    pub async fn requested(&self) {
        self.0.cancelled().await;
    }

    /// Whether the signal was given.
    pub fn is_requested(&self) -> bool {
        self.0.is_cancelled()
    }

    /// A signal that follows this one, and can be given by itself.
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    /// Gives the signal on SIGTERM or SIGINT. A second one is left to the drain's grace period.
    pub fn on_signals(&self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => tracing::info!("SIGTERM: draining"),
                _ = interrupt.recv() => tracing::info!("SIGINT: draining"),
                () = shutdown.requested() => {}
            }
            shutdown.trigger();
        });
        Ok(())
    }
}
