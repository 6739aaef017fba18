//! The documents of issuers as files, in a directory or an object store: for relying parties that cannot reach this service.
//!
//! Each replica writes what its picture says, and none when its picture may be old, so that all write the same. What lies there is
//! read back now and then, and written again where it is another: somebody removed it, or a replica that stood still for a while
//! wrote what was true before. A key that the export has not shown yet does not sign (`domain/signing_key.rs`); here it is noted
//! when it has.

mod target;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use countersign_domain::id::IssuerId;
use countersign_domain::issuer::IssuerNamespace;
use countersign_domain::name::KeyId;
use countersign_runtime::outage::Outage;
use futures::StreamExt as _;
use tokio::time::Instant;

use crate::causes::Causes;
use crate::directory::LoadedIssuer;
use crate::documents::{DISCOVERY_PATH, Documents, KEY_SET_PATH};
use crate::keeper::Keeper;

pub use target::{ExportTarget, InvalidExportTarget};

/// How often the picture is looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// A picture that is older may be overtaken by what others have exported since.
const FRESH: Duration = Duration::from_secs(5);
/// How long what was written is taken to lie there still.
const BELIEVED: Duration = Duration::from_mins(5);
/// How long one document may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many issuers are written at a time.
const AT_ONCE: usize = 16;

/// Keeps the export as the picture is.
#[derive(Debug)]
pub(crate) struct Exporter {
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) namespace: Arc<IssuerNamespace>,
    pub(crate) target: ExportTarget,
    pub(crate) behind: Arc<Behind>,
}

/// How many issuers' documents are not as they should be in the export.
#[derive(Debug, Default)]
pub(crate) struct Behind(AtomicI64);

impl Behind {
    pub(crate) fn count(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What lies in the export of an issuer.
#[derive(Debug, Clone)]
struct Written {
    place: String,
    /// Of both documents.
    etags: [String; 2],
    key_ids: Vec<KeyId>,
    seen: Instant,
}

impl Exporter {
    /// Follows the picture until it is dropped.
    pub(crate) async fn run(self) {
        let (mut written, outage) = (HashMap::new(), Outage::default());
        loop {
            if self.keeper.saw_database_within(FRESH) {
                self.bring_up_to_date(&mut written, &outage).await;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    async fn bring_up_to_date(&self, written: &mut HashMap<IssuerId, Written>, outage: &Outage) {
        let directory = self.keeper.latest();
        let gone: Vec<_> = written.keys().filter(|id| directory.by_id(id).is_none()).cloned().collect();
        let due: Vec<_> = directory.all().filter_map(|issuer| self.due(issuer, written)).collect();
        let mut behind = 0;
        let mut failed = |error: &object_store::Error, place: &str| {
            behind += 1;
            if outage.begins() {
                tracing::warn!(place, %error, cause = %Causes(error), "cannot export documents; trying again");
            } else {
                tracing::debug!(place, %error, "still cannot export documents");
            }
        };
        let mut writes = futures::stream::iter(due)
            .map(async |due: Due| {
                let done = self.write(&due).await;
                (due, done)
            })
            .buffer_unordered(AT_ONCE);
        while let Some((due, done)) = writes.next().await {
            match done {
                Ok(()) => _ = written.insert(due.issuer_id, due.written),
                Err(error) => failed(&error, &due.written.place),
            }
        }
        for id in gone {
            let Some(place) = written.get(&id).map(|written| written.place.clone()) else { continue };
            match self.remove(&place).await {
                Ok(()) => _ = written.remove(&id),
                Err(error) => failed(&error, &place),
            }
        }
        self.behind.0.store(behind, Ordering::Relaxed);
        if behind == 0
            && let Some(lasted) = outage.over()
        {
            tracing::info!(lasted_ms = lasted.as_millis(), "the export is up to date again");
        }
        for (id, written) in &*written {
            if let Err(error) = self.keeper.note_exported(id, &written.key_ids).await {
                tracing::warn!(issuer.id = %id, %error, cause = %Causes(&error), "cannot note that keys are exported; trying again");
            }
        }
    }

    /// What is to be written, or read again, of an issuer.
    fn due(&self, issuer: &LoadedIssuer, written: &HashMap<IssuerId, Written>) -> Option<Due> {
        let of_workspace = issuer.of_workspace()?;
        let documents = issuer.documents()?;
        let etags = [&documents.key_set, &documents.discovery].map(|document| document.etag.clone());
        let known = written.get(&of_workspace.id).filter(|known| known.etags == etags);
        if known.is_some_and(|known| known.seen.elapsed() < BELIEVED) {
            return None;
        }
        let place = self.place(of_workspace.issuer_url.as_str())?;
        // What lies there is as old as the first look at it.
        let written = Written { place, etags, key_ids: documents.key_ids.clone(), seen: Instant::now() };
        Some(Due { issuer_id: of_workspace.id.clone(), documents: documents.clone(), written })
    }

    /// Where the documents of an issuer lie: at its path below the base, or at `@` and its host name, which no path begins with.
    fn place(&self, issuer_url: &str) -> Option<String> {
        match self.namespace.below_base(issuer_url) {
            Some(path) => Some(path.to_owned()),
            None => issuer_url.split_once("://").map(|(_, host)| format!("@{host}")),
        }
    }

    /// Writes what is not there. The key set first: nobody shall find the way to one that is not there yet.
    async fn write(&self, due: &Due) -> Result<(), object_store::Error> {
        let max_age = self.keeper.policy().key_set_max_age;
        let Due { documents, written, .. } = due;
        for (path, document, content_type) in [
            (KEY_SET_PATH, &documents.key_set, "application/jwk-set+json"),
            (DISCOVERY_PATH, &documents.discovery, "application/json"),
        ] {
            let path = format!("{}{path}", written.place);
            in_time(self.target.ensure(&path, &document.bytes, content_type, max_age)).await?;
        }
        Ok(())
    }

    async fn remove(&self, place: &str) -> Result<(), object_store::Error> {
        for path in [DISCOVERY_PATH, KEY_SET_PATH] {
            in_time(self.target.remove(&format!("{place}{path}"))).await?;
        }
        Ok(())
    }
}

/// Documents that are to be written.
struct Due {
    issuer_id: IssuerId,
    documents: Documents,
    written: Written,
}

async fn in_time<T>(work: impl Future<Output = Result<T, object_store::Error>>) -> Result<T, object_store::Error> {
    let late = |_| object_store::Error::Generic { store: "export", source: "there is no answer in time".into() };
    tokio::time::timeout(PATIENCE, work).await.map_err(late)?
}
