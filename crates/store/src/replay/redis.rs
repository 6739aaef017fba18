//! The replay cache in Redis, shared by every gateway.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use data_encoding::BASE64URL_NOPAD;
use redis::Cmd;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{Nonce, ReplayCache, ReplayClaim, ReplayKey};
use crate::redis_link::RedisLink;

const KEY_PREFIX: &str = "countersign:replay:";
/// Deletes a claim only if it holds our nonce, in one step.
const COMPARE_AND_DELETE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";
/// How many releases may wait for Redis to come back. More are dropped; those claims then end by themselves.
const WAITING_RELEASES: usize = 1_024;
/// How long a release waits for Redis to come back.
const RELEASE_PATIENCE: Duration = Duration::from_mins(1);

/// A [`ReplayCache`] in Redis. Any trouble with Redis is [`ReplayClaim::Unknown`].
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

fn compare_and_delete(key: &ReplayKey, nonce: Nonce) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(COMPARE_AND_DELETE).arg(1).arg(name(key)).arg(nonce.as_bytes());
    command
}

#[async_trait]
impl ReplayCache for RedisReplayCache {
    async fn claim(&self, key: &ReplayKey, nonce: Nonce, ttl: Duration) -> ReplayClaim {
        // Redis refuses an expiry of zero; one that does not fit is no expiry it could keep.
        let Ok(milliseconds) = i64::try_from(ttl.as_millis().max(1)) else { return ReplayClaim::Unknown };
        let mut command = redis::cmd("SET");
        command.arg(name(key)).arg(nonce.as_bytes()).arg("NX").arg("PX").arg(milliseconds);
        match self.link.run::<Option<String>>(&command).await {
            Ok(Some(_)) => ReplayClaim::Claimed,
            Ok(None) => ReplayClaim::Duplicate,
            Err(_) => ReplayClaim::Unknown,
        }
    }

    async fn release(&self, key: &ReplayKey, nonce: Nonce) {
        let command = compare_and_delete(key, nonce);
        if self.link.run::<i64>(&command).await.is_ok() {
            return;
        }
        // The claim may sit in a Redis that is only hung, where it would refuse an honest retry until the token has expired. So
        // the release is made up for when Redis is back; the nonce makes a repetition harmless.
        let Ok(permit) = Arc::clone(&self.waiting).try_acquire_owned() else { return };
        let link = self.link.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let released = async {
                link.available().await;
                link.run::<i64>(&command).await
            };
            let _ = timeout(RELEASE_PATIENCE, released).await;
        });
    }
}
