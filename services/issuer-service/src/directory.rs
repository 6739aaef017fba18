//! What this replica holds of all issuers: a picture of the database, with keys opened and documents rendered.
//!
//! Signing and serving go by this picture alone, so both outlive the database. [`crate::keeper`] keeps it fresh.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use countersign_domain::access_token;
use countersign_domain::id::{IssuerId, WorkspaceId};
use countersign_domain::issuer::Issuer;
use countersign_domain::issuer_url::IssuerUrl;
use countersign_domain::signing_key::{self, KeyPolicies, KeyPolicy, Keyring, RotationPolicy, ServedKeySets, SigningKeyRecord};
use countersign_domain::time::Timestamp;
use countersign_domain::trusted_issuer::SignatureAlgorithm;
use countersign_jose::{KeySet, SigningKey};
use countersign_store::issuer::{ChangedIssuer, IssuerChanges, IssuerIdentity, SealedSigningKey};

use crate::causes::Causes;
use crate::custody::Custody;
use crate::documents::Documents;

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
    /// All keys there ever were, usable or not, newest first.
    records: Vec<SigningKeyRecord>,
    /// `None`: no key was ever made, or none is published any more.
    documents: Option<Documents>,
    /// When the documents will have changed by the passing of time alone.
    documents_until: Option<Timestamp>,
    /// What verifies the deployment's own access tokens.
    verification: Option<Arc<KeySet>>,
}

/// A key that signs, or did, or will.
#[derive(Debug)]
pub(crate) struct LoadedKey {
    record: SigningKeyRecord,
    sealed_private_key: Vec<u8>,
    public_jwk: String,
    pub(crate) key: Arc<SigningKey>,
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
        let IssuerChanges { revision, changed, served } = changes;
        let mut next = Self { revision, served, ..self.clone() };
        for change in changed {
            match change {
                ChangedIssuer::Gone(id) => next.remove(&id),
                ChangedIssuer::Present(identity, sealed) => {
                    let known = next.by_id.get(identity.id()).cloned();
                    next.remove(identity.id());
                    next.insert(LoadedIssuer::load(*identity, sealed, known.as_deref(), custody, now));
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

    pub(crate) const fn documents(&self) -> Option<&Documents> {
        self.documents.as_ref()
    }

    pub(crate) const fn verification(&self) -> Option<&Arc<KeySet>> {
        self.verification.as_ref()
    }

    /// The key that signs with an algorithm now.
    pub(crate) fn signer(&self, now: Timestamp, algorithm: SignatureAlgorithm) -> Option<&Arc<SigningKey>> {
        signing_key::signer(now, &self.keys, algorithm).map(|loaded| &loaded.key)
    }

    /// The key that signs now where no algorithm is asked for.
    pub(crate) fn default_signer(&self, now: Timestamp) -> Option<&Arc<SigningKey>> {
        signing_key::default_signer(now, &self.keys, self.algorithms()).map(|loaded| &loaded.key)
    }

    /// All keys there ever were, newest first.
    pub(crate) fn records(&self) -> &[SigningKeyRecord] {
        &self.records
    }

    /// Its keys, with the rules they live by.
    pub(crate) fn keyring<'a>(&'a self, policies: &'a KeyPolicies) -> Keyring<'a, SigningKeyRecord> {
        let rotation = match &self.identity {
            IssuerIdentity::Workspace(issuer) => issuer.settings.rotation,
            IssuerIdentity::AccessTokens { .. } => RotationPolicy::default(),
        };
        Keyring { algorithms: self.algorithms(), rotation, keys: &self.records, policies }
    }

    fn load(
        identity: IssuerIdentity,
        sealed: Vec<SealedSigningKey>,
        known: Option<&Self>,
        custody: &Custody,
        now: Timestamp,
    ) -> Self {
        let mut records: Vec<_> = sealed.iter().map(|key| key.record.clone()).collect();
        records.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.key_id.cmp(&b.key_id)));
        // Of one that is revoked there is nothing left to open.
        let present = sealed.into_iter().filter(|sealed| sealed.record.revoked_at.is_none());
        let keys = present.filter_map(|sealed| {
            let same = |known: &&LoadedKey| {
                known.record.key_id == sealed.record.key_id
                    && known.record.algorithm == sealed.record.algorithm
                    && known.sealed_private_key == sealed.sealed_private_key
                    && known.public_jwk == sealed.public_jwk
            };
            let key = match known.and_then(|known| known.keys.iter().find(same)) {
                Some(known) => Arc::clone(&known.key),
                None => Arc::new(open(identity.id(), &sealed, custody)?),
            };
            let SealedSigningKey { record, public_jwk, sealed_private_key } = sealed;
            Some(LoadedKey { record, sealed_private_key, public_jwk, key })
        });
        let mut keys: Vec<_> = keys.collect();
        keys.sort_by(|a, b| (a.record.created_at, &a.record.key_id).cmp(&(b.record.created_at, &b.record.key_id)));
        Self { identity, keys, records, documents: None, documents_until: None, verification: None }.rendered(now)
    }

    fn rendered_again(&self, now: Timestamp) -> Self {
        let keys = self.keys.iter().map(|loaded| LoadedKey {
            record: loaded.record.clone(),
            sealed_private_key: loaded.sealed_private_key.clone(),
            public_jwk: loaded.public_jwk.clone(),
            key: Arc::clone(&loaded.key),
        });
        Self {
            identity: self.identity.clone(),
            keys: keys.collect(),
            records: self.records.clone(),
            documents: None,
            documents_until: None,
            verification: None,
        }
        .rendered(now)
    }

    fn rendered(mut self, now: Timestamp) -> Self {
        let published: Vec<_> = signing_key::published(now, &self.keys).map(|loaded| loaded.key.public_jwk().clone()).collect();
        // An empty set would be cached by verifiers and make strangers of the first tokens.
        self.documents = (!published.is_empty()).then(|| Documents::new(self.identity.issuer_url(), published));
        self.documents_until = self.keys.iter().filter_map(|loaded| loaded.record.next_change(now)).min();
        if let (IssuerIdentity::AccessTokens { .. }, Some(documents)) = (&self.identity, &self.documents) {
            self.verification = KeySet::parse(&documents.key_set.bytes).ok().map(Arc::new);
        }
        self
    }
}

/// A key that does not open is left out, loudly: it neither signs nor is it published.
fn open(issuer_id: &IssuerId, sealed: &SealedSigningKey, custody: &Custody) -> Option<SigningKey> {
    match custody.open(issuer_id, sealed) {
        Ok(key) => Some(key),
        Err(error) => {
            tracing::error!(issuer.id = %issuer_id, key.id = %sealed.record.key_id, %error, cause = %Causes(&error), "a signing key is left out");
            None
        }
    }
}
