//! Threads that call a token's library: so many and no more, and nobody waits longer for them than a call may take.
//!
//! A library may hang, and nothing ends a call that does. What it holds up then are these threads, and not those of whoever asks.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use countersign_jose::DeviceError;

/// How many calls there are at once.
const THREADS: usize = 16;
/// How many wait for a thread.
const QUEUE: usize = 256;

type Job = Box<dyn FnOnce() + Send>;

/// The threads of one token. They end with it.
pub(crate) struct Workers {
    jobs: SyncSender<Job>,
}

impl Workers {
    pub(crate) fn start() -> Self {
        let (jobs, queue) = sync_channel::<Job>(QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..THREADS {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || {
                while let Some(job) = next(&queue) {
                    job();
                }
            });
        }
        Self { jobs }
    }

    /// Has something done within `patience`. What is not begun by then is never begun.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce() -> Result<T, DeviceError> + Send + 'static,
    ) -> Result<T, DeviceError> {
        let (answer, answered) = channel();
        let begin_until = Instant::now() + patience;
        let job = Box::new(move || {
            if Instant::now() < begin_until {
                // Whoever asked may be gone.
                let _ = answer.send(work());
            }
        });
        let trouble = |what: &str| DeviceError(format!("the token {what}"));
        match self.jobs.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(trouble("has more to do than it gets done")),
            Err(TrySendError::Disconnected(_)) => return Err(trouble("is closed")),
        }
        match answered.recv_timeout(patience) {
            Ok(done) => done,
            Err(RecvTimeoutError::Timeout) => Err(trouble("does not answer in time")),
            Err(RecvTimeoutError::Disconnected) => Err(trouble("was not asked in time")),
        }
    }
}

fn next(queue: &Mutex<Receiver<Job>>) -> Option<Job> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_mins(1);

    #[test]
    fn nobody_waits_for_a_library_that_hangs_and_others_go_on_until_all_threads_hang() {
        let workers = Workers::start();
        let (end, wait) = channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        let hang = || {
            let wait = Arc::clone(&wait);
            workers.run(SOON, move || {
                let _ = wait.lock().unwrap_or_else(PoisonError::into_inner).recv();
                Ok(())
            })
        };
        for _ in 1..THREADS {
            assert!(hang().is_err());
        }
        assert_eq!(workers.run(LONG, || Ok(1)), Ok(1));
        assert!(hang().is_err());
        assert!(workers.run(SOON, || Ok(1)).is_err(), "none is left");
        drop(end);
        assert_eq!(workers.run(LONG, || Ok(1)), Ok(1));
    }
}
