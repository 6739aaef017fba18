//! When an issuer was asked for its keys.

use std::sync::Arc;
use std::time::Duration;

use countersign_benches::scene::Scene;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval};

/// How often the provider's counter is looked at: the error of each time.
const LOOK: Duration = Duration::from_millis(10);

/// Watches a provider.
#[derive(Debug)]
pub(crate) struct Fetches {
    end: oneshot::Sender<()>,
    seen: JoinHandle<Vec<Duration>>,
}

impl Fetches {
    /// From now on.
    pub(crate) fn watch(scene: &Arc<Scene>) -> Self {
        let (end, mut ended) = oneshot::channel();
        let scene = Arc::clone(scene);
        let seen = tokio::spawn(async move {
            let (start, before) = (Instant::now(), scene.provider.key_set_requests());
            let (mut seen, mut looks) = (Vec::new(), interval(LOOK));
            loop {
                tokio::select! {
                    _ = looks.tick() => {}
                    _ = &mut ended => return seen,
                }
                while seen.len() < scene.provider.key_set_requests() - before {
                    seen.push(start.elapsed());
                }
            }
        });
        Self { end, seen }
    }

    /// When the keys were asked for, from the start of the watch.
    pub(crate) async fn end(self) -> Vec<Duration> {
        drop(self.end);
        self.seen.await.expect("looking at a number does not fail")
    }
}
