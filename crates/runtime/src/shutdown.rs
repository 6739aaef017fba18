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

    /// Gives the signal on SIGTERM, SIGINT or SIGHUP: a service whose terminal closes drains too. Settings are read at the start
    /// alone and certificates whenever their files change, so SIGHUP has nothing to reload. A process that was started with SIGHUP
    /// ignored (`nohup`) goes on ignoring it. A second signal is left to the drain's grace period.
    pub fn on_signals(&self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = if ignores_hang_up() { None } else { Some(signal(SignalKind::hangup())?) };
        let shutdown = self.clone();
        tokio::spawn(async move {
            let ended_terminal = async {
                match &mut hang_up {
                    Some(hang_up) => hang_up.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = terminate.recv() => tracing::info!("SIGTERM: draining"),
                _ = interrupt.recv() => tracing::info!("SIGINT: draining"),
                _ = ended_terminal => tracing::info!("SIGHUP: draining"),
                () = shutdown.requested() => {}
            }
            shutdown.trigger();
        });
        Ok(())
    }
}

/// Whether the process was started with SIGHUP ignored. Only Linux tells without unsafe code; elsewhere it counts as not ignored.
fn ignores_hang_up() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores(&status, 1))
}

/// Whether a `/proc/…/status` lists the signal as ignored.
fn ignores(status: &str, signal: u32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask >> (signal - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_status_of_the_process() {
        let status = |mask: &str| format!("Name:\tx\nSigBlk:\t0000000000000001\nSigIgn:\t{mask}\nSigCgt:\t0000000000000001\n");
        assert!(ignores(&status("0000000000001001"), 1));
        assert!(!ignores(&status("0000000000001000"), 1));
        assert!(!ignores(&status("garbage"), 1) && !ignores("", 1));
    }
}
