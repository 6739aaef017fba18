//! The replay cache in Redis, shared by every gateway.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use data_encoding::BASE64URL_NOPAD;
use redis::Cmd;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::{Nonce, ReplayCache, ReplayClaim, ReplayKey};
use crate::redis_link::RedisLink;

const KEY_PREFIX: &str = "countersign:replay:";
/// Deletes a claim only if it holds our nonce, in one step.
const COMPARE_AND_DELETE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";
/// How many releases may wait for Redis to come back. More are dropped; those claims then end by themselves.
const WAITING_RELEASES: usize = 1_024;
/// How long a release waits for Redis to come back.
const RELEASE_PATIENCE: Duration = Duration::from_mins(1);
/// Between two attempts to make up for a release: a slot of a cluster may be on its way from node to node.
const RELEASE_PAUSE: Duration = Duration::from_millis(500);

/// A [`ReplayCache`] in Redis. Any trouble with Redis is [`ReplayClaim::Unknown`].
///
/// A claim is sent once and never again, whatever becomes of it, so the nonce that is found is always another's, and a duplicate
/// is one. (Were a claim tried again after its answer was lost, it would find its own nonce.)
#[derive(Debug, Clone)]
pub struct RedisReplayCache {
    link: RedisLink,
    waiting: Arc<Semaphore>,
}

impl RedisReplayCache {
    /// The replay cache behind that link.
    pub fn new(link: RedisLink) -> Self {
        Self { link, waiting: Arc::new(Semaphore::new(WAITING_RELEASES)) }
    }
}

fn name(key: &ReplayKey) -> String {
    format!("{KEY_PREFIX}{}", BASE64URL_NOPAD.encode(key.as_bytes()))
}

fn compare_and_delete(name: &str, nonce: Nonce) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(COMPARE_AND_DELETE).arg(1).arg(name).arg(nonce.as_bytes());
    command
}

#[async_trait]
impl ReplayCache for RedisReplayCache {
    async fn claim(&self, key: &ReplayKey, nonce: Nonce, ttl: Duration) -> ReplayClaim {
        // Redis refuses an expiry of zero; one that does not fit is no expiry it could keep.
        let Ok(milliseconds) = i64::try_from(ttl.as_millis().max(1)) else { return ReplayClaim::Unknown };
        let name = name(key);
        let mut command = redis::cmd("SET");
        command.arg(&name).arg(nonce.as_bytes()).arg("NX").arg("PX").arg(milliseconds);
        match self.link.run::<Option<String>>(&name, &command).await {
            Ok(Some(_)) => ReplayClaim::Claimed,
            Ok(None) => ReplayClaim::Duplicate,
            Err(_) => ReplayClaim::Unknown,
        }
    }

    async fn release(&self, key: &ReplayKey, nonce: Nonce) {
        let name = name(key);
        let command = compare_and_delete(&name, nonce);
        if self.link.run::<i64>(&name, &command).await.is_ok() {
            return;
        }
        // The claim may sit in a Redis that is only hung, where it would refuse an honest retry until the token has expired. So
        // the release is made up for when Redis is back; the nonce makes a repetition harmless.
        let Ok(permit) = Arc::clone(&self.waiting).try_acquire_owned() else { return };
        let link = self.link.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let released = async {
                loop {
                    link.available(&name).await;
                    if link.run::<i64>(&name, &command).await.is_ok() {
                        break;
                    }
                    sleep(RELEASE_PAUSE).await;
                }
            };
            let _ = timeout(RELEASE_PATIENCE, released).await;
        });
    }

    fn is_connected(&self) -> bool {
        self.link.is_connected()
    }
}
