//! What this replica holds of all issuers: a picture of the database, with keys opened and documents rendered.
//!
//! Signing and serving go by this picture alone, so both outlive the database. [`crate::keeper`] keeps it fresh.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use countersign_domain::exchange::access_token;
use countersign_domain::issuing::issuer::{Issuer, KeyCustody};
use countersign_domain::issuing::profile::ID_TOKEN_CLAIMS;
use countersign_domain::issuing::signing_key::{
    self, KeyPolicies, KeyPolicy, Keyring, RotationPolicy, ServedKeySets, SigningKeyRecord,
};
use countersign_domain::values::id::{IssuerId, WorkspaceId};
use countersign_domain::values::issuer_url::IssuerUrl;
use countersign_domain::values::name::KeyId;
use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
use countersign_domain::values::time::Timestamp;
use countersign_jose::{DeviceError, KeySet, Signer};
use countersign_store::issuer::{ChangedIssuer, IssuerChanges, IssuerIdentity, SealedSigningKey};

use crate::causes::Causes;
use crate::custody::{Custody, CustodyError};
use crate::documents::Documents;

/// How long after it was made a key may be missing in a device that is several in truth.
const SHOWN_EVERYWHERE: Duration = Duration::from_mins(5);

/// All issuers, as of one revision of the database.
#[derive(Debug, Clone, Default)]
pub(crate) struct Directory {
    revision: i64,
    by_id: HashMap<IssuerId, Arc<LoadedIssuer>>,
    by_url: HashMap<IssuerUrl, IssuerId>,
    by_workspace: HashMap<WorkspaceId, BTreeSet<IssuerId>>,
    /// Under which policies key sets were handed out.
    served: Vec<ServedKeySets>,
}

/// One issuer with its keys.
#[derive(Debug)]
pub(crate) struct LoadedIssuer {
    pub(crate) identity: IssuerIdentity,
    /// The keys that open and match; nothing else is published or signs.
    pub(crate) keys: Vec<LoadedKey>,
    /// The keys that cannot be opened while a device cannot be used.
    waiting: Vec<SealedSigningKey>,
    /// Those of no more use, which are not opened.
    retired: Vec<SealedSigningKey>,
    /// All keys there ever were, usable or not, newest first.
    records: Vec<SigningKeyRecord>,
    /// Those that do not open although others do. Where none does, it is this replica that has the wrong key to open them with.
    foreign: BTreeSet<KeyId>,
    /// `None`: no key was ever made, none is published any more, or one that may have to be waits for a device: verifiers would
    /// take a set without it for the whole, and keep it.
    documents: Option<Documents>,
    /// When the documents will have changed by the passing of time alone.
    documents_until: Option<Timestamp>,
    /// Whether nothing of it is published any more, as its workspace was deleted long enough ago.
    is_withdrawn: bool,
    /// What verifies the deployment's own access tokens.
    verification: Option<Arc<KeySet>>,
}

/// A key that signs, or did, or will.
#[derive(Debug, Clone)]
pub(crate) struct LoadedKey {
    record: SigningKeyRecord,
    sealed_private_key: Vec<u8>,
    public_jwk: String,
    pub(crate) key: Arc<dyn Signer>,
}

impl AsRef<SigningKeyRecord> for LoadedKey {
    fn as_ref(&self) -> &SigningKeyRecord {
        &self.record
    }
}

// ===== Directory =====

impl Directory {
    /// To ask the database for changes from.
    pub(crate) const fn revision(&self) -> i64 {
        self.revision
    }

    /// Under which policies key sets were handed out, and until when they may be.
    pub(crate) fn served(&self) -> &[ServedKeySets] {
        &self.served
    }

    /// What has to be reckoned with by a replica with this policy.
    pub(crate) fn policies(&self, own: KeyPolicy) -> KeyPolicies {
        KeyPolicies { own, served: self.served.clone() }
    }

    pub(crate) fn by_id(&self, id: &IssuerId) -> Option<&Arc<LoadedIssuer>> {
        self.by_id.get(id)
    }

    pub(crate) fn by_url(&self, url: &str) -> Option<&Arc<LoadedIssuer>> {
        self.by_id(self.by_url.get(url)?)
    }

    /// A workspace's issuers, at most `limit`.
    pub(crate) fn of_workspace(&self, id: &WorkspaceId, limit: usize) -> Vec<&Arc<LoadedIssuer>> {
        self.by_workspace.get(id).into_iter().flatten().filter_map(|id| self.by_id(id)).take(limit).collect()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<LoadedIssuer>> {
        self.by_id.values()
    }

    /// This picture with changes applied. Opens keys, which takes long for RSA: not for an async thread.
    pub(crate) fn with(&self, changes: IssuerChanges, custody: &Custody, now: Timestamp) -> Self {
        let opening = Opening::new(custody, now);
        let IssuerChanges { revision, changed, served } = changes;
        let mut next = Self { revision, served, ..self.clone() };
        for change in changed {
            match change {
                ChangedIssuer::Gone(id) => next.remove(&id),
                ChangedIssuer::Present(identity, sealed) => {
                    let known = next.by_id.get(identity.id()).cloned();
                    next.remove(identity.id());
                    next.insert(LoadedIssuer::load(identity, sealed, known.as_deref(), &opening));
                }
            }
        }
        next
    }

    /// This picture with the documents of keys that have entered another stage rendered again; `None` when there are none.
    pub(crate) fn as_of(&self, now: Timestamp) -> Option<Self> {
        let due: Vec<_> = self.all().filter(|issuer| issuer.documents_until.is_some_and(|until| until <= now)).collect();
        if due.is_empty() {
            return None;
        }
        let mut next = self.clone();
        for issuer in due {
            next.by_id.insert(issuer.identity.id().clone(), Arc::new(issuer.rendered_again(now)));
        }
        Some(next)
    }

    /// Whether keys wait for a device.
    pub(crate) fn waits(&self) -> bool {
        self.all().any(|issuer| !issuer.waiting.is_empty())
    }

    /// The issuers whose keys waited for a device, with those opened that open now. Takes long: not for an async thread.
    pub(crate) fn opened_again(&self, custody: &Custody, now: Timestamp) -> Vec<Opened> {
        let opening = Opening::new(custody, now);
        let waiting = self.all().filter(|issuer| !issuer.waiting.is_empty());
        waiting.map(|issuer| Opened { before: Arc::clone(issuer), now: Arc::new(issuer.opened_again(&opening)) }).collect()
    }

    /// This picture with those issuers, as far as nothing has become of them meanwhile.
    pub(crate) fn with_opened(&self, opened: Vec<Opened>) -> Self {
        let mut next = self.clone();
        for Opened { before, now } in opened {
            if let Some(present) = next.by_id.get_mut(before.identity.id())
                && Arc::ptr_eq(present, &before)
            {
                *present = now;
            }
        }
        next
    }

    fn insert(&mut self, issuer: LoadedIssuer) {
        let id = issuer.identity.id().clone();
        self.by_url.insert(issuer.identity.issuer_url().clone(), id.clone());
        if let IssuerIdentity::Workspace(of_workspace) = &issuer.identity {
            self.by_workspace.entry(of_workspace.workspace_id.clone()).or_default().insert(id.clone());
        }
        self.by_id.insert(id, Arc::new(issuer));
    }

    fn remove(&mut self, id: &IssuerId) {
        let Some(issuer) = self.by_id.remove(id) else { return };
        self.by_url.remove(issuer.identity.issuer_url());
        if let IssuerIdentity::Workspace(of_workspace) = &issuer.identity
            && let Some(siblings) = self.by_workspace.get_mut(&of_workspace.workspace_id)
        {
            siblings.remove(id);
            if siblings.is_empty() {
                self.by_workspace.remove(&of_workspace.workspace_id);
            }
        }
    }
}

// ===== LoadedIssuer =====

impl LoadedIssuer {
    /// The workspace's issuer; `None` for the deployment's own.
    pub(crate) const fn of_workspace(&self) -> Option<&Issuer> {
        match &self.identity {
            IssuerIdentity::Workspace(issuer) => Some(issuer),
            IssuerIdentity::AccessTokens { .. } => None,
        }
    }

    /// The workspace; `None` for the deployment's own.
    pub(crate) fn owner(&self) -> Option<WorkspaceId> {
        self.of_workspace().map(|issuer| issuer.workspace_id.clone())
    }

    /// What it signs with, the default first.
    pub(crate) fn algorithms(&self) -> &[SignatureAlgorithm] {
        match &self.identity {
            IssuerIdentity::Workspace(issuer) => &issuer.settings.algorithms,
            IssuerIdentity::AccessTokens { .. } => &[access_token::ALGORITHM],
        }
    }

    /// Whether no key was ever made for it.
    pub(crate) fn is_unused(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether it is as if deleted to everyone who asks for its documents.
    pub(crate) const fn is_withdrawn(&self) -> bool {
        self.is_withdrawn
    }

    pub(crate) const fn documents(&self) -> Option<&Documents> {
        self.documents.as_ref()
    }

    pub(crate) const fn verification(&self) -> Option<&Arc<KeySet>> {
        self.verification.as_ref()
    }

    /// The key that signs with an algorithm now.
    pub(crate) fn signer(&self, now: Timestamp, algorithm: SignatureAlgorithm) -> Option<&Arc<dyn Signer>> {
        signing_key::signer(now, &self.keys, algorithm).map(|loaded| &loaded.key)
    }

    /// The key that signs now where no algorithm is asked for.
    pub(crate) fn default_signer(&self, now: Timestamp) -> Option<&Arc<dyn Signer>> {
        signing_key::default_signer(now, &self.keys, self.algorithms()).map(|loaded| &loaded.key)
    }

    /// Its keys as they are stored, but for those that were revoked or that are not ours.
    pub(crate) fn sealed_keys(&self) -> impl Iterator<Item = SealedSigningKey> {
        self.keys.iter().map(LoadedKey::sealed).chain(self.waiting.iter().chain(&self.retired).cloned())
    }

    /// Where the private half of a key is kept; `None` when nothing is left of it.
    pub(crate) fn custody_of(&self, record: &SigningKeyRecord) -> Option<KeyCustody> {
        let opened = self.keys.iter().find(|loaded| loaded.record.key_id == record.key_id);
        let mut others = self.waiting.iter().chain(&self.retired);
        let waiting = others.find(|sealed| sealed.record.key_id == record.key_id);
        Custody::kept(opened.map(|key| &key.sealed_private_key).or(waiting.map(|key| &key.sealed_private_key))?)
    }

    /// All keys there ever were, newest first.
    pub(crate) fn records(&self) -> &[SigningKeyRecord] {
        &self.records
    }

    /// Its keys, with the rules they live by. `exports`: whether this deployment exports documents, which are those of workspaces.
    pub(crate) fn keyring<'a>(&'a self, policies: &'a KeyPolicies, exports: bool) -> Keyring<'a, SigningKeyRecord> {
        let rotation = match &self.identity {
            IssuerIdentity::Workspace(issuer) => issuer.settings.rotation,
            IssuerIdentity::AccessTokens { .. } => RotationPolicy::default(),
        };
        let is_exported = exports && self.of_workspace().is_some();
        Keyring { algorithms: self.algorithms(), rotation, keys: &self.records, foreign: &self.foreign, policies, is_exported }
    }

    fn load(identity: IssuerIdentity, sealed: Vec<SealedSigningKey>, known: Option<&Self>, opening: &Opening<'_>) -> Self {
        let mut records: Vec<_> = sealed.iter().map(|key| key.record.clone()).collect();
        records.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.key_id.cmp(&b.key_id)));
        // Of one that is revoked there is nothing left to open.
        let present = sealed.into_iter().filter(|sealed| sealed.record.revoked_at.is_none()).collect();
        let known = known.map_or(&[][..], |known| &known.keys);
        Self::open(identity, records, present, known, opening)
    }

    fn open(
        identity: IssuerIdentity,
        records: Vec<SigningKeyRecord>,
        present: Vec<SealedSigningKey>,
        known: &[LoadedKey],
        opening: &Opening<'_>,
    ) -> Self {
        let (mut keys, mut waiting, mut retired, mut foreign) = (Vec::new(), Vec::new(), Vec::new(), BTreeSet::new());
        for sealed in present {
            if sealed.record.state(opening.now).is_final() {
                retired.push(sealed);
                continue;
            }
            let same = known.iter().find(|known| known.is(&sealed)).map(|known| Arc::clone(&known.key));
            match same.map_or_else(|| opening.open(identity.id(), &sealed), Ok) {
                Ok(key) => {
                    let SealedSigningKey { record, public_jwk, sealed_private_key } = sealed;
                    keys.push(LoadedKey { record, sealed_private_key, public_jwk, key });
                }
                // Left out, loudly: it neither signs nor is it published.
                Err(error) => {
                    let (issuer_id, key_id) = (identity.id(), &sealed.record.key_id);
                    let cause = Causes(&error);
                    if opening.may_open_later(&error, &sealed.record) {
                        tracing::warn!(issuer.id = %issuer_id, key.id = %key_id, %error, %cause, "a signing key waits for its device");
                        waiting.push(sealed);
                    } else {
                        tracing::error!(issuer.id = %issuer_id, key.id = %key_id, %error, %cause, "a signing key is left out");
                        foreign.insert(key_id.clone());
                    }
                }
            }
        }
        keys.sort_by(|a, b| (a.record.created_at, &a.record.key_id).cmp(&(b.record.created_at, &b.record.key_id)));
        if keys.is_empty() {
            foreign.clear();
        }
        let loaded = Self {
            identity,
            keys,
            waiting,
            retired,
            records,
            foreign,
            documents: None,
            documents_until: None,
            is_withdrawn: false,
            verification: None,
        };
        loaded.rendered(opening.now)
    }

    /// The same with its keys opened that waited for a device.
    fn opened_again(&self, opening: &Opening<'_>) -> Self {
        Self::open(self.identity.clone(), self.records.clone(), self.sealed_keys().collect(), &self.keys, opening)
    }

    fn rendered_again(&self, now: Timestamp) -> Self {
        Self {
            identity: self.identity.clone(),
            keys: self.keys.clone(),
            waiting: self.waiting.clone(),
            retired: self.retired.clone(),
            records: self.records.clone(),
            foreign: self.foreign.clone(),
            documents: None,
            documents_until: None,
            is_withdrawn: false,
            verification: None,
        }
        .rendered(now)
    }

    fn rendered(mut self, now: Timestamp) -> Self {
        let published: Vec<_> = signing_key::published(now, &self.keys).map(|loaded| loaded.key.public_jwk().clone()).collect();
        // An empty set would be cached by verifiers and make strangers of the first tokens.
        let claims = || match self.of_workspace() {
            Some(issuer) => issuer.profile.claim_names(),
            None => ID_TOKEN_CLAIMS.map(str::to_owned).into(),
        };
        let documents = (!published.is_empty()).then(|| Documents::new(self.identity.issuer_url(), published, claims()));
        if let (IssuerIdentity::AccessTokens { .. }, Some(documents)) = (&self.identity, &documents) {
            self.verification = KeySet::parse(&documents.key_set.bytes).ok().map(Arc::new);
        }
        let published_until = self.of_workspace().and_then(|issuer| issuer.published_until);
        self.is_withdrawn = published_until.is_some_and(|until| until <= now);
        let documents = documents.filter(|_| !self.is_withdrawn);
        self.documents = documents.filter(|_| !self.waiting.iter().any(|key| key.record.state(now).is_published()));
        let changes = self.keys.iter().filter_map(|loaded| loaded.record.next_change(now));
        self.documents_until = changes.chain(published_until.filter(|until| *until > now)).min();
        self
    }
}

/// An issuer whose keys waited for a device.
#[derive(Debug)]
pub(crate) struct Opened {
    before: Arc<LoadedIssuer>,
    now: Arc<LoadedIssuer>,
}

/// The opening of many keys at once.
struct Opening<'a> {
    custody: &'a Custody,
    now: Timestamp,
    /// Set when the device failed once: each key would wait for it as long again.
    device_is_away: Cell<bool>,
}

impl<'a> Opening<'a> {
    fn new(custody: &'a Custody, now: Timestamp) -> Self {
        Self { custody, now, device_is_away: Cell::new(false) }
    }

    fn open(&self, issuer_id: &IssuerId, sealed: &SealedSigningKey) -> Result<Arc<dyn Signer>, CustodyError> {
        if self.device_is_away.get() && self.custody.needs_device(&sealed.sealed_private_key) {
            return Err(CustodyError::Device(DeviceError("it failed a moment ago".to_owned())));
        }
        let opened = self.custody.open(issuer_id, sealed);
        if matches!(&opened, Err(error) if error.is_passing()) {
            self.device_is_away.set(true);
        }
        opened
    }

    /// Whether a key is tried again, rather than taken for somebody else's.
    fn may_open_later(&self, error: &CustodyError, key: &SigningKeyRecord) -> bool {
        // Devices that are several in truth show a new key everywhere after a while.
        let is_new = key.created_at.checked_add(SHOWN_EVERYWHERE).is_ok_and(|shown| self.now < shown);
        error.is_passing() || (matches!(error, CustodyError::NotInDevice) && is_new)
    }
}

impl LoadedKey {
    /// Whether it is the key of this row, as it stands.
    fn is(&self, sealed: &SealedSigningKey) -> bool {
        self.record.key_id == sealed.record.key_id
            && self.record.algorithm == sealed.record.algorithm
            && self.sealed_private_key == sealed.sealed_private_key
            && self.public_jwk == sealed.public_jwk
    }

    /// The row it was opened from.
    fn sealed(&self) -> SealedSigningKey {
        SealedSigningKey {
            record: self.record.clone(),
            public_jwk: self.public_jwk.clone(),
            sealed_private_key: self.sealed_private_key.clone(),
        }
    }
}
