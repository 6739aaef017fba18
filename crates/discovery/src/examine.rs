//! Reading an issuer's keys for somebody who wants to know how that goes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign_domain::trust::issuer_health::IssuerProblem;
use countersign_domain::values::issuer_url::KeySetUrl;
use countersign_jose::KeySet;
use tokio::time::{Instant, timeout};

use crate::discovery::{Discovery, Inner};
use crate::fetch::{Reach, Stored};
use crate::refresh::{RefreshError, TOTAL_LIMIT};
use crate::room::{NoRoom, Standing};
use crate::source::KeySetSource;

/// How often one source may be examined.
const INTERVAL: Duration = Duration::from_secs(10);
/// How many sources may have been examined lately.
const CAPACITY: usize = 4_096;

/// What was seen of an issuer.
#[derive(Debug)]
pub struct Examination {
    /// Where the keys are, as far as that could be found out.
    pub key_set_url: Option<KeySetUrl>,
    /// The keys, and for how long they count as fresh, or why there are none.
    pub keys: Result<(KeySet, Duration), IssuerProblem>,
    /// Whether the host that failed is not known to be public, so that the problem is for operators only.
    pub is_internal: bool,
    /// When it began. It ends at the latest [`Discovery::EXAMINATION_LIMIT`] later.
    pub began: Instant,
    /// How long it took.
    pub elapsed: Duration,
}

/// Why nobody looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotExamined {
    /// The source was examined a moment ago.
    #[error("the issuer was asked a moment ago")]
    TooSoon {
        /// When it may be examined again.
        after: Duration,
    },
    /// Too many issuers are being asked.
    #[error("too many issuers are being asked")]
    NoRoom,
}

/// Which sources were examined lately.
#[derive(Debug, Default)]
pub(crate) struct Examinations(Mutex<HashMap<[u8; 32], Instant>>);

impl Examinations {
    /// Takes a turn at a source.
    fn begin(&self, source: &KeySetSource, now: Instant) -> Result<(), NotExamined> {
        let mut begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = begun.get(source.digest()).filter(|last| now < **last + INTERVAL) {
            return Err(NotExamined::TooSoon { after: *last + INTERVAL - now });
        }
        if begun.len() >= CAPACITY {
            begun.retain(|_, last| now < *last + INTERVAL);
        }
        if begun.len() >= CAPACITY {
            return Err(NotExamined::NoRoom);
        }
        begun.insert(*source.digest(), now);
        Ok(())
    }
}

impl Discovery {
    /// The longest that an examination lasts.
    pub const EXAMINATION_LIMIT: Duration = TOTAL_LIMIT;

    /// Reads the keys of a source now, past every cache, under the same limits as ever. Nothing that is held changes.
    pub async fn examine(&self, source: &KeySetSource) -> Result<Examination, NotExamined> {
        let inner = &self.0;
        inner.examinations.begin(source, Instant::now())?;
        let asked = source.jwks_url().map_or(source.issuer().as_str(), KeySetUrl::as_str);
        let _place = inner.waiting.enter(source, false).ok_or(NotExamined::NoRoom)?;
        // No token depends on the answer, so refreshes for tokens go first.
        let room = inner.rooms.enter(asked, source.tenant(), Standing::Failing).await.map_err(|NoRoom| NotExamined::NoRoom)?;
        let start = Instant::now();
        let mut key_set_url = None;
        let reach = Arc::default();
        let keys = timeout(TOTAL_LIMIT, look(inner, source, &mut key_set_url, &reach)).await;
        drop(room);
        let keys = keys.map_err(RefreshError::from).flatten().map_err(|error| {
            tracing::info!(issuer = %source.issuer(), error = &error as &dyn std::error::Error, "a check found no keys");
            error.problem()
        });
        let is_internal = keys.is_err() && !reach.is_public();
        Ok(Examination { key_set_url, keys, is_internal, began: start, elapsed: start.elapsed() })
    }
}

async fn look(
    inner: &Inner,
    source: &KeySetSource,
    key_set_url: &mut Option<KeySetUrl>,
    reach: &Arc<Reach>,
) -> Result<(KeySet, Duration), RefreshError> {
    let url = match source.jwks_url() {
        Some(url) => url.clone(),
        None => inner.ask_where_keys_are(source, Stored::Refused, reach).await?.0,
    };
    *key_set_url = Some(url.clone());
    let fetched = inner.ask_for_key_set(source, &url, Stored::Refused, reach).await?;
    Ok((source.parse(&fetched.bytes)?, fetched.lifetime))
}
