//! The documents of issuers as files, in a directory or an object store: for relying parties that cannot reach this service.
//!
//! Each replica writes what its picture says, and none when its picture may be old, so that all write the same. What lies there is
//! read back now and then, and written again where it is another: somebody removed it, or a replica that stood still for a while
//! wrote what was true before. A key that the export has not shown yet does not sign (`domain/signing_key.rs`); here it is noted
//! when it has.

mod target;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use countersign_domain::issuing::issuer::IssuerNamespace;
use countersign_domain::values::id::IssuerId;
use countersign_domain::values::name::KeyId;
use countersign_runtime::outage::Outage;
use futures::StreamExt as _;
use tokio::time::Instant;

use crate::causes::Causes;
use crate::directory::{Directory, LoadedIssuer};
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
/// How many are read again in one round, so that those whose documents changed do not wait for them.
const READ_AGAIN: usize = 64;
const KEY_SET_TYPE: &str = "application/jwk-set+json";
const DISCOVERY_TYPE: &str = "application/json";
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
    content: Content,
    key_ids: Vec<KeyId>,
    seen: Instant,
}

/// Which documents lie there.
#[derive(Debug, Clone)]
enum Content {
    /// Those with these tags.
    Documents([String; 2]),
    /// Whatever lay there, without so many keys that were revoked.
    Without(usize),
    /// None: the issuer's workspace was deleted.
    Nothing,
}

impl Written {
    /// Whether it is what is to lie there of this issuer.
    fn is_of(&self, issuer: &LoadedIssuer) -> bool {
        match (&self.content, issuer.documents()) {
            (Content::Nothing, _) => issuer.is_withdrawn(),
            (_, None) if issuer.is_withdrawn() => false,
            (Content::Documents([key_set, discovery]), Some(documents)) => {
                *key_set == documents.key_set.etag && *discovery == documents.discovery.etag
            }
            (Content::Without(number), None) => *number == revoked(issuer).count(),
            (Content::Documents(_), None) | (Content::Without(_), Some(_)) => false,
        }
    }
}

fn revoked(issuer: &LoadedIssuer) -> impl Iterator<Item = &KeyId> {
    issuer.records().iter().filter(|key| key.revoked_at.is_some()).map(|key| &key.key_id)
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
        let mut behind = 0;
        let mut failed = |error: &object_store::Error, place: &str| {
            behind += 1;
            if outage.begins() {
                tracing::warn!(place, %error, cause = %Causes(error), "cannot export documents; trying again");
            } else {
                tracing::debug!(place, %error, "still cannot export documents");
            }
        };
        let mut writes = futures::stream::iter(due(&directory, written))
            .map(async |id: IssuerId| {
                // As of now: what was true when this round began may be overtaken by what others have written since.
                let fresh = self.keeper.saw_database_within(FRESH).then(|| self.keeper.latest());
                let due = fresh.and_then(|directory| self.content(directory.by_id(&id)?))?;
                let done = self.write(&due).await;
                Some((id, due.written, done))
            })
            .buffer_unordered(AT_ONCE);
        while let Some(done) = writes.next().await {
            match done {
                Some((id, now, Ok(()))) => _ = written.insert(id, now),
                Some((_, now, Err(error))) => failed(&error, &now.place),
                None => {}
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
            if let Err(error) = self.keeper.note_exported(id, &written.key_ids, BELIEVED).await {
                tracing::warn!(issuer.id = %id, %error, cause = %Causes(&error), "cannot note that keys are exported; trying again");
            }
        }
    }

    /// What is to lie there of an issuer. `None`: whatever does.
    fn content(&self, issuer: &LoadedIssuer) -> Option<Due> {
        let of_workspace = issuer.of_workspace()?;
        let place = self.place(of_workspace.issuer_url.as_str())?;
        // What lies there is as old as the first look at it.
        let seen = Instant::now();
        if issuer.is_withdrawn() {
            let written = Written { place, content: Content::Nothing, key_ids: Vec::new(), seen };
            return Some(Due { documents: None, revoked: BTreeSet::new(), written });
        }
        if let Some(documents) = issuer.documents() {
            let content = Content::Documents([&documents.key_set, &documents.discovery].map(|document| document.etag.clone()));
            let written = Written { place, content, key_ids: documents.key_ids.clone(), seen };
            return Some(Due { documents: Some(documents.clone()), revoked: BTreeSet::new(), written });
        }
        // Of keys that wait for their device the set that lies there stays, but not with a stolen one (SECURITY 59).
        let revoked: BTreeSet<_> = revoked(issuer).cloned().collect();
        let written = Written { place, content: Content::Without(revoked.len()), key_ids: Vec::new(), seen };
        (!revoked.is_empty()).then_some(Due { documents: None, revoked, written })
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
        let Due { documents, revoked, written } = due;
        let path = |document: &str| format!("{}{document}", written.place);
        if matches!(written.content, Content::Nothing) {
            return self.remove(&written.place).await;
        }
        let Some(documents) = documents else {
            return in_time(self.target.take_out(&path(KEY_SET_PATH), revoked, KEY_SET_TYPE, max_age)).await;
        };
        in_time(self.target.ensure(&path(KEY_SET_PATH), &documents.key_set.bytes, KEY_SET_TYPE, max_age)).await?;
        in_time(self.target.ensure(&path(DISCOVERY_PATH), &documents.discovery.bytes, DISCOVERY_TYPE, max_age)).await
    }

    async fn remove(&self, place: &str) -> Result<(), object_store::Error> {
        for path in [DISCOVERY_PATH, KEY_SET_PATH] {
            in_time(self.target.remove(&format!("{place}{path}"))).await?;
        }
        Ok(())
    }
}

/// Whose documents are to be written, and some of those that are to be read again.
fn due(directory: &Directory, written: &HashMap<IssuerId, Written>) -> Vec<IssuerId> {
    let (mut changed, mut believed_long) = (Vec::new(), Vec::new());
    for issuer in directory.all().filter(|issuer| issuer.of_workspace().is_some()) {
        let id = issuer.identity.id();
        match written.get(id).filter(|known| known.is_of(issuer)) {
            None if issuer.is_withdrawn() || issuer.documents().is_some() || revoked(issuer).next().is_some() => {
                changed.push(id.clone());
            }
            Some(known) if known.seen.elapsed() >= BELIEVED => believed_long.push(id.clone()),
            None | Some(_) => {}
        }
    }
    changed.extend(believed_long.into_iter().take(READ_AGAIN));
    changed
}

/// What is to lie in the export of an issuer.
struct Due {
    /// `None`: what lies there, without the keys that were revoked.
    documents: Option<Documents>,
    revoked: BTreeSet<KeyId>,
    written: Written,
}

async fn in_time<T>(work: impl Future<Output = Result<T, object_store::Error>>) -> Result<T, object_store::Error> {
    let late = |_| object_store::Error::Generic { store: "export", source: "there is no answer in time".into() };
    tokio::time::timeout(PATIENCE, work).await.map_err(late)?
}
