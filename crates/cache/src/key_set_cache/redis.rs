//! The second level in Redis.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use countersign_domain::values::time::Clock;
use countersign_jose::secret::MacKey;
use data_encoding::BASE64URL_NOPAD;

use super::{Document, FetchTurn, KeySetCache, Slot, entry};
use crate::redis_link::RedisLink;

/// Reads an entry with the milliseconds it has left, in one step and one round trip, unless it is longer than any of ours.
const READ: &str = "if redis.call('STRLEN', KEYS[1]) > tonumber(ARGV[1]) then return nil end \
                    return {redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1])}";
/// Takes a turn that is free or ours already. One that never ends, or not as soon as turns do, was not taken by one of us: it
/// would keep all of us from asking an issuer.
const TAKE_TURN: &str = "local owner = redis.call('GET', KEYS[1]) \
                         if owner and owner ~= ARGV[1] then \
                           local left = redis.call('PTTL', KEYS[1]) \
                           if left >= 0 and left <= tonumber(ARGV[2]) then return 0 end \
                         end \
                         redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) return 1";

/// A [`KeySetCache`] in Redis, whose entries are authenticated.
#[derive(Debug, Clone)]
pub struct RedisKeySetCache {
    link: RedisLink,
    key: MacKey,
    clock: Arc<dyn Clock>,
}

impl RedisKeySetCache {
    /// The cache behind that link. `key` is derived from the deployment secret for this purpose alone.
    pub fn new(link: RedisLink, key: MacKey, clock: Arc<dyn Clock>) -> Self {
        Self { link, key, clock }
    }
}

fn document_name(slot: &Slot) -> String {
    format!("countersign:document:{}", BASE64URL_NOPAD.encode(slot.as_bytes()))
}

fn turn_name(slot: &Slot) -> String {
    format!("countersign:fetch-turn:{}", BASE64URL_NOPAD.encode(slot.as_bytes()))
}

#[async_trait]
impl KeySetCache for RedisKeySetCache {
    async fn get(&self, slot: &Slot) -> Option<(Document, Duration)> {
        let name = document_name(slot);
        let mut command = redis::cmd("EVAL");
        command.arg(READ).arg(1).arg(&name).arg(entry::MAX_BYTES);
        let (sealed, remaining): (Option<Vec<u8>>, i64) = self.link.run::<Option<_>>(&name, &command).await.ok()??;
        // Negative: the entry is gone, or somebody made it last forever, which we never do.
        let remaining = Duration::from_millis(u64::try_from(remaining).ok()?);
        let opened = entry::open(&self.key, slot, &sealed?, remaining, self.clock.now());
        if opened.is_none() {
            tracing::warn!(?slot, "an entry in redis is not one we wrote for now and here; ignored");
        }
        opened
    }

    async fn put(&self, slot: &Slot, document: &Document, keep: Duration) {
        if document.bytes.len() > Document::MAX_BYTES {
            return;
        }
        let Ok(milliseconds) = i64::try_from(keep.as_millis().max(1)) else { return };
        let sealed = entry::seal(&self.key, slot, document, keep, self.clock.now());
        let name = document_name(slot);
        let mut command = redis::cmd("SET");
        command.arg(&name).arg(sealed).arg("PX").arg(milliseconds);
        // A document that could not be kept is fetched again by whoever needs it.
        let _ = self.link.run::<()>(&name, &command).await;
    }

    async fn take_turn(&self, slot: &Slot, owner: [u8; 16], turn: Duration) -> FetchTurn {
        let Ok(milliseconds) = i64::try_from(turn.as_millis().max(1)) else { return FetchTurn::Unknown };
        let name = turn_name(slot);
        let mut command = redis::cmd("EVAL");
        command.arg(TAKE_TURN).arg(1).arg(&name).arg(&owner).arg(milliseconds);
        match self.link.run::<i64>(&name, &command).await {
            Ok(1) => FetchTurn::Ours,
            Ok(_) => FetchTurn::Anothers,
            Err(_) => FetchTurn::Unknown,
        }
    }
}
