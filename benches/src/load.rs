//! Requests at an even rate, whatever becomes of those before them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_tests::keep_alive::Connection;
use countersign_tests::token_endpoint;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// The gateways, and connections that wait to be used again.
#[derive(Debug)]
pub struct Load(Vec<Arc<Pool>>);

#[derive(Debug)]
struct Pool {
    port: u16,
    idle: Mutex<Vec<Connection>>,
}

/// What became of one token.
#[derive(Debug)]
pub struct Answer {
    /// From sending it on.
    pub latency: Duration,
    /// Status and reason.
    pub what: String,
}

impl Load {
    /// On the gateways with these public ports.
    pub fn on(ports: &[u16]) -> Self {
        Self(ports.iter().map(|port| Arc::new(Pool { port: *port, idle: Mutex::default() })).collect())
    }

    /// Presents each token once, by turns at the gateways, evenly over that time. A request that takes long holds no other up.
    pub async fn spread(&self, tokens: Vec<String>, duration: Duration) -> Vec<Answer> {
        let (start, count) = (Instant::now(), u32::try_from(tokens.len()).unwrap_or(u32::MAX).max(1));
        let mut requests = JoinSet::new();
        for (token, (number, pool)) in tokens.into_iter().zip((0..).zip(self.0.iter().cycle())) {
            sleep_until(start + duration * number / count).await;
            requests.spawn(Arc::clone(pool).present(token));
        }
        sleep_until(start + duration).await;
        requests.join_all().await
    }
}

impl Pool {
    async fn present(self: Arc<Self>, token: String) -> Answer {
        let form = token_endpoint::form(&token, &[]);
        let idle = self.idle().pop();
        let mut connection = idle.unwrap_or_else(|| Connection::to(self.port));
        let sent = Instant::now();
        let answer = connection.post_form("/oauth2/token", &form).await;
        let latency = sent.elapsed();
        let what = match answer {
            Ok(answer) => {
                self.idle().push(connection);
                let reason = (answer.status != 200).then(|| answer.reason()).flatten();
                format!("{} {}", answer.status, reason.unwrap_or_else(|| "-".to_owned()))
            }
            Err(error) => format!("no answer: {error}"),
        };
        Answer { latency, what }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
