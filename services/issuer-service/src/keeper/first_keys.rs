//! The first keys of an issuer: made when its owner creates or uses it, and otherwise in the background.
//!
//! Reading a document makes no key: anonymous callers would have the service generate RSA keys for as many issuers as there are
//! (SECURITY 85). Until its first key exists an issuer has no documents. An empty key set would be authoritative, and relying parties
//! would keep it.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use countersign_domain::values::id::IssuerId;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};

use super::{Asker, Keeper, KeeperError};
use crate::directory::LoadedIssuer;
use crate::documents::Documents;

/// How often first keys are planned again because another replica changed the issuer meanwhile.
const ATTEMPTS: usize = 8;
/// How long a call waits for first keys. The keys are made all the same.
const PATIENCE: Duration = Duration::from_secs(5);

/// The making of an issuer's first keys, which all who need them wait for.
pub(super) type FirstKeys = Shared<BoxFuture<'static, Result<Arc<LoadedIssuer>, Arc<KeeperError>>>>;

impl Keeper {
    /// Returns this issuer with its keys, which are made if it has none yet. Only for calls that the owner authorised.
    pub(crate) async fn in_use(self: &Arc<Self>, issuer: Arc<LoadedIssuer>) -> Result<Arc<LoadedIssuer>, Arc<KeeperError>> {
        if issuer.is_unused() {
            self.check_active(&issuer)?;
            self.first_keys(issuer.identity.id()).await
        } else {
            Ok(usable(issuer)?)
        }
    }

    /// Like [`in_use`](Self::in_use), but waits for no longer than a caller does.
    ///
    /// # Errors
    /// [`KeeperError::NoKeyYet`] when the keys are still being made.
    pub(crate) async fn in_use_soon(self: &Arc<Self>, issuer: Arc<LoadedIssuer>) -> Result<Arc<LoadedIssuer>, Arc<KeeperError>> {
        tokio::time::timeout(PATIENCE, self.in_use(issuer)).await.unwrap_or_else(|_| Err(Arc::new(KeeperError::NoKeyYet)))
    }

    /// Has the first keys of an issuer made that this replica just created, and waits for them a little. A failure is only logged: the
    /// issuer exists, and the background tries again.
    pub(crate) async fn prepare(self: &Arc<Self>, id: &IssuerId) {
        let keys = self.first_keys(id);
        match tokio::time::timeout(PATIENCE, keys).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(issuer.id = %id, %error, "cannot make the first keys of a new issuer; trying again"),
            Err(_) => tracing::info!(issuer.id = %id, "the first keys of a new issuer are still being made"),
        }
    }

    /// Returns the documents of the issuer with this URL, for callers without credentials: no key is made for them. `None`: there is no
    /// such issuer.
    ///
    /// # Errors
    /// [`KeeperError::NoKeyYet`] for an issuer without keys, [`KeeperError::Unusable`] for one whose keys cannot be used.
    pub(crate) async fn published(&self, url: &str) -> Result<Option<Documents>, KeeperError> {
        // Another replica may have made the key a moment ago.
        let used = |issuer: &&Arc<LoadedIssuer>| !issuer.is_unused();
        let found = self.find(Asker::Stranger, |directory| directory.by_url(url).filter(used).cloned()).await?;
        match found {
            Some(issuer) if issuer.is_withdrawn() => Ok(None),
            Some(issuer) => issuer.documents().cloned().map(Some).ok_or(KeeperError::Unusable),
            None if self.directory()?.by_url(url).is_some_and(|issuer| !issuer.is_withdrawn()) => Err(KeeperError::NoKeyYet),
            None => Ok(None),
        }
    }

    /// Whether the first keys of an issuer are being made here.
    pub(super) fn makes_first_keys_of(&self, id: &IssuerId) -> bool {
        self.first_keys.lock().unwrap_or_else(PoisonError::into_inner).contains_key(id)
    }

    /// The making of an issuer's first keys: one task, however many callers wait, and none that stops when a caller leaves.
    pub(super) fn first_keys(self: &Arc<Self>, id: &IssuerId) -> FirstKeys {
        let mut first_keys = self.first_keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = first_keys.get(id) {
            return made.clone();
        }
        let forget = Forget { keeper: Arc::clone(self), id: id.clone() };
        let task = tokio::spawn(async move { forget.keeper.make_first_keys(&forget.id).await.map_err(Arc::new) });
        let made = task.map(|made| made.unwrap_or_else(|lost| Err(Arc::new(lost.into())))).boxed().shared();
        first_keys.insert(id.clone(), made.clone());
        made
    }

    async fn make_first_keys(&self, id: &IssuerId) -> Result<Arc<LoadedIssuer>, KeeperError> {
        for _ in 0..ATTEMPTS {
            let known = self.latest().by_id(id).cloned();
            let issuer = if let Some(known) = known { known } else { self.picture_of(id).await?.1 };
            if !issuer.is_unused() {
                return usable(issuer);
            }
            let permit = self.permits.wait(issuer.owner()).await;
            // Planned only now: the wait may have taken long.
            let (directory, issuer) = self.picture_of(id).await?;
            if !issuer.is_unused() {
                return usable(issuer);
            }
            let now = self.now();
            let steps = issuer.keyring(&directory.policies(self.policy), self.exports).next_steps(now);
            self.carry_out_in(permit, &directory, &issuer, now, steps).await?;
            self.refresh().await?;
        }
        Err(KeeperError::Contended)
    }
}

fn usable(issuer: Arc<LoadedIssuer>) -> Result<Arc<LoadedIssuer>, KeeperError> {
    if issuer.keys.is_empty() { Err(KeeperError::Unusable) } else { Ok(issuer) }
}

/// Forgets the task that makes first keys at its end, whatever that is.
struct Forget {
    keeper: Arc<Keeper>,
    id: IssuerId,
}

impl Drop for Forget {
    fn drop(&mut self) {
        self.keeper.first_keys.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}
