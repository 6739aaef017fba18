//! A world that fails on request.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use countersign_cache::replay::{Nonce, ReplayCache, ReplayClaim, ReplayKey};
use countersign_domain::exchange::audit::{NewRefusal, Refusals};
use countersign_domain::exchange::commit::{CommitOutcome, ExchangeCommit};
use countersign_domain::trust::issuer_health::IssuerProblem;
use countersign_domain::trust::key_source::KeySource;
use countersign_domain::trust::policy::WorkspacePolicy;
use countersign_domain::trust::policy_feed::PolicySnapshot;
use countersign_domain::trust::trust_relationship::{TrustRelationship, TrustRelationshipSettings};
use countersign_domain::trust::trusted_issuer::{TrustedIssuer, TrustedIssuerSettings};
use countersign_domain::trust::workspace::WorkspaceState;
use countersign_domain::values::deployment_audience::DeploymentAudience;
use countersign_domain::values::id::{TrustRelationshipId, TrustedIssuerId, WorkspaceId};
use countersign_domain::values::issuer_url::{IssuerUrl, LoopbackHttp};
use countersign_domain::values::name::DisplayName;
use countersign_domain::values::replay_policy::ReplayPolicy;
use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
use countersign_domain::values::time::{Clock as _, Timestamp};
use countersign_domain::values::token_type::TokenType;
use countersign_jose::KeySet;
use countersign_testkit::claims::ClaimSet;
use countersign_testkit::clock::{SeededEntropy, TestClock};
use countersign_testkit::signer;
use tokio::sync::Semaphore;

use crate::pipeline::{Parts, Pipeline};
use crate::ports::{
    CatchUpCause, CaughtUp, CommitError, CommitPoint, CutOff, Keys, KeysUnavailable, PastRefusals, Policies, SignError,
    SignedToken, Signer, UnsignedToken, Viewer,
};
use crate::refusal_lines::RefusalLines;
use crate::refusals::RefusalLog;

pub(crate) const GATEWAY: &str = "https://gateway.example";
pub(crate) const ISSUER: &str = "https://cloud.rwx.com/mint";
pub(crate) const SUBJECT: &str = "org:my-org:vault:deploy-vault";
pub(crate) const SIGNED: &str = "a-signed-access-token";

pub(crate) fn workspace_id() -> WorkspaceId {
    WorkspaceId::from_random([1; 16])
}

pub(crate) fn other_workspace_id() -> WorkspaceId {
    WorkspaceId::from_random([2; 16])
}

pub(crate) fn relationship_id() -> TrustRelationshipId {
    TrustRelationshipId::from_random([3; 16])
}

pub(crate) fn gateway_url() -> IssuerUrl {
    IssuerUrl::parse(GATEWAY, LoopbackHttp::Refused).unwrap()
}

pub(crate) fn trusted_issuer() -> TrustedIssuer {
    TrustedIssuer {
        id: TrustedIssuerId::from_random([4; 16]),
        workspace_id: workspace_id(),
        settings: TrustedIssuerSettings {
            display_name: None,
            preset: None,
            issuer_url: IssuerUrl::parse(ISSUER, LoopbackHttp::Refused).unwrap(),
            key_source: KeySource::default(),
            subject_audiences: vec![],
            algorithms: BTreeSet::from([SignatureAlgorithm::Es256]),
            token_types: BTreeSet::from([None, Some(TokenType::new("JWT"))]),
            max_token_lifetime: Duration::from_hours(1),
            clock_skew: Duration::from_secs(30),
            replay_policy: ReplayPolicy::SingleUse,
            enabled: true,
        },
        revision: 2,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

pub(crate) fn relationship(subject_match: &str) -> TrustRelationship {
    TrustRelationship {
        id: relationship_id(),
        workspace_id: workspace_id(),
        trusted_issuer_id: trusted_issuer().id,
        settings: TrustRelationshipSettings {
            display_name: None,
            key: None,
            claim_conditions: Vec::new(),
            cel_condition: None,
            attribute_mapping: std::collections::BTreeMap::new(),
            subject_matches: vec![subject_match.parse().unwrap()],
            subject_audiences: vec![],
            access_token_audiences: vec![],
            scopes: vec!["deploy".parse().unwrap(), "read".parse().unwrap()],
            grants: vec![],
            token_duration: Duration::from_hours(1),
            expires_at: None,
            enabled: true,
        },
        revision: 5,
        creator: "bootstrap".to_owned(),
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

pub(crate) fn policy_of(id: WorkspaceId, revision: i64, relationships: Vec<TrustRelationship>) -> WorkspacePolicy {
    WorkspacePolicy::from(PolicySnapshot {
        workspace_id: id,
        state: WorkspaceState::Active,
        policy_revision: revision,
        trusted_issuers: vec![trusted_issuer()],
        trust_relationships: relationships,
    })
}

pub(crate) fn policy(revision: i64, relationships: Vec<TrustRelationship>) -> WorkspacePolicy {
    policy_of(workspace_id(), revision, relationships)
}

/// A whole world around one pipeline. By default everything works and one relationship accepts [`SUBJECT`].
pub(crate) struct World {
    pub(crate) clock: TestClock,
    pub(crate) issuer_key: signer::Signer,
    pub(crate) policies: Arc<FakePolicies>,
    pub(crate) keys: Arc<FakeKeys>,
    pub(crate) replay: Arc<FakeReplay>,
    pub(crate) signer: Arc<FakeSigner>,
    pub(crate) commits: Arc<FakeCommits>,
    pub(crate) refusals: Arc<RefusalLog>,
    pub(crate) lines: Arc<RefusalLines>,
    pub(crate) past: Arc<FakePast>,
    pub(crate) settling: Arc<Semaphore>,
}

impl World {
    pub(crate) fn new() -> Self {
        let issuer_key = signer::Signer::new(SignatureAlgorithm::Es256, "key-1");
        let clock = TestClock::noon();
        let keys = Arc::new(FakeKeys::default());
        keys.publish(&[&issuer_key]);
        let policies = Arc::new(FakePolicies::default());
        policies.set(policy(7, vec![relationship(SUBJECT)]));
        Self {
            issuer_key,
            policies,
            keys,
            replay: Arc::new(FakeReplay::default()),
            signer: Arc::new(FakeSigner::new(clock.clone())),
            commits: Arc::new(FakeCommits::default()),
            refusals: Arc::new(RefusalLog::new(Arc::new(clock.clone()))),
            lines: Arc::default(),
            past: Arc::new(FakePast::default()),
            settling: Arc::new(Semaphore::new(100)),
            clock,
        }
    }

    pub(crate) fn pipeline(&self) -> Pipeline {
        self.pipeline_with_keys(Arc::clone(&self.keys) as Arc<dyn Keys>)
    }

    /// With the keys of other issuers from elsewhere.
    pub(crate) fn pipeline_with_keys(&self, keys: Arc<dyn Keys>) -> Pipeline {
        Pipeline::new(Parts {
            policies: Arc::clone(&self.policies) as Arc<dyn Policies>,
            keys,
            replay: Arc::clone(&self.replay) as Arc<dyn ReplayCache>,
            signer: Arc::clone(&self.signer) as Arc<dyn Signer>,
            commits: Arc::clone(&self.commits) as Arc<dyn CommitPoint>,
            clock: Arc::new(self.clock.clone()),
            entropy: Arc::new(SeededEntropy::new(1)),
            deployment: DeploymentAudience::new(&gateway_url()).unwrap(),
            refusals: Arc::clone(&self.refusals),
            lines: Arc::clone(&self.lines),
            past: Arc::clone(&self.past) as Arc<dyn PastRefusals>,
            settling: Arc::clone(&self.settling),
        })
    }

    /// The claims of a token that is accepted.
    pub(crate) fn claims(&self) -> ClaimSet {
        ClaimSet::new(ISSUER, SUBJECT, GATEWAY, self.clock.now()).with("jti", "token-1")
    }

    /// A token that is accepted.
    pub(crate) fn token(&self) -> String {
        self.issuer_key.sign(&self.claims())
    }
}

#[derive(Default)]
pub(crate) struct FakePolicies {
    policies: Mutex<HashMap<WorkspaceId, Arc<WorkspacePolicy>>>,
    /// What arrives with the next catching up.
    news: Mutex<Vec<WorkspacePolicy>>,
    pub(crate) cut_off: AtomicBool,
    pub(crate) rationed: AtomicBool,
    pub(crate) loads: AtomicUsize,
    pub(crate) caught_up: Mutex<Vec<CatchUpCause>>,
}

impl FakePolicies {
    pub(crate) fn set(&self, policy: WorkspacePolicy) {
        self.policies.lock().unwrap().insert(policy.workspace_id().clone(), Arc::new(policy));
    }

    pub(crate) fn clear(&self) {
        self.policies.lock().unwrap().clear();
    }

    pub(crate) fn set_with_next_catch_up(&self, policy: WorkspacePolicy) {
        self.news.lock().unwrap().push(policy);
    }
}

#[async_trait]
impl Policies for FakePolicies {
    fn display_name(&self, _: &WorkspaceId) -> Option<DisplayName> {
        "Acme".parse().ok()
    }

    fn registered(&self, workspace_id: &WorkspaceId, issuer_url: &str) -> bool {
        self.policies.lock().unwrap().get(workspace_id).is_some_and(|policy| policy.issuer(issuer_url).is_some())
    }

    fn registrants(&self, issuer_url: &str, limit: usize) -> Vec<WorkspaceId> {
        let policies = self.policies.lock().unwrap();
        let registrants = policies.values().filter(|policy| policy.issuer(issuer_url).is_some());
        registrants.take(limit).map(|policy| policy.workspace_id().clone()).collect()
    }

    async fn policy(&self, workspace_id: &WorkspaceId) -> Result<Option<Arc<WorkspacePolicy>>, CutOff> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        Ok(self.policies.lock().unwrap().get(workspace_id).cloned())
    }

    async fn catch_up(&self, cause: CatchUpCause) -> Result<CaughtUp, CutOff> {
        self.caught_up.lock().unwrap().push(cause);
        if self.cut_off.load(Ordering::SeqCst) {
            return Err(CutOff);
        }
        if self.rationed.load(Ordering::SeqCst) {
            return Ok(CaughtUp::Rationed);
        }
        for policy in std::mem::take(&mut *self.news.lock().unwrap()) {
            self.set(policy);
        }
        Ok(CaughtUp::Fresh)
    }
}

#[derive(Default)]
pub(crate) struct FakeKeys {
    held: Mutex<Option<Arc<KeySet>>>,
    fresh: Mutex<Option<Arc<KeySet>>>,
    pub(crate) asked: AtomicUsize,
    pub(crate) refreshed: Mutex<Vec<Option<String>>>,
    pub(crate) problem: Mutex<Option<IssuerProblem>>,
}

fn key_set(keys: &[&signer::Signer]) -> Arc<KeySet> {
    let keys: Vec<_> = keys.iter().map(|key| key.public_jwk()).collect();
    Arc::new(KeySet::parse(serde_json::json!({ "keys": keys }).to_string().as_bytes()).unwrap())
}

impl FakeKeys {
    pub(crate) fn publish(&self, keys: &[&signer::Signer]) {
        *self.held.lock().unwrap() = Some(key_set(keys));
    }

    pub(crate) fn publish_with_next_refresh(&self, keys: &[&signer::Signer]) {
        *self.fresh.lock().unwrap() = Some(key_set(keys));
    }

    pub(crate) fn fail(&self) {
        *self.held.lock().unwrap() = None;
    }
}

#[async_trait]
impl Keys for FakeKeys {
    async fn key_set(&self, _: &TrustedIssuer) -> Result<Arc<KeySet>, KeysUnavailable> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.held.lock().unwrap().clone().ok_or(KeysUnavailable)
    }

    async fn refresh_for_unknown_key(
        &self,
        issuer: &TrustedIssuer,
        key_id: Option<&str>,
    ) -> Result<Arc<KeySet>, KeysUnavailable> {
        self.refreshed.lock().unwrap().push(key_id.map(str::to_owned));
        if let Some(fresh) = self.fresh.lock().unwrap().take() {
            *self.held.lock().unwrap() = Some(fresh);
        }
        self.key_set(issuer).await
    }

    fn problem(&self, _: &TrustedIssuer, viewer: Viewer) -> Option<IssuerProblem> {
        let problem = *self.problem.lock().unwrap();
        problem.map(|problem| if viewer == Viewer::Operator { problem } else { problem.for_administrators(true) })
    }
}

/// Remembers claims, or answers as it was told.
#[derive(Default)]
pub(crate) struct FakeReplay {
    claims: Mutex<HashMap<ReplayKey, Nonce>>,
    /// What to answer instead of looking.
    pub(crate) answer: Mutex<Option<ReplayClaim>>,
    pub(crate) released: AtomicUsize,
    pub(crate) lifetimes: Mutex<Vec<Duration>>,
}

impl FakeReplay {
    pub(crate) fn claims(&self) -> usize {
        self.claims.lock().unwrap().len()
    }
}

impl fmt::Debug for FakeReplay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeReplay")
    }
}

#[async_trait]
impl ReplayCache for FakeReplay {
    async fn claim(&self, key: &ReplayKey, nonce: Nonce, ttl: Duration) -> ReplayClaim {
        self.lifetimes.lock().unwrap().push(ttl);
        if let Some(answer) = *self.answer.lock().unwrap() {
            return answer;
        }
        let mut claims = self.claims.lock().unwrap();
        if claims.contains_key(key) {
            return ReplayClaim::Duplicate;
        }
        claims.insert(*key, nonce);
        ReplayClaim::Claimed
    }

    async fn release(&self, key: &ReplayKey, nonce: Nonce) {
        self.released.fetch_add(1, Ordering::SeqCst);
        let mut claims = self.claims.lock().unwrap();
        if claims.get(key) == Some(&nonce) {
            claims.remove(key);
        }
    }
}

pub(crate) struct FakeSigner {
    clock: TestClock,
    /// What to answer, in this order, before signing again.
    pub(crate) failures: Mutex<VecDeque<SignError>>,
    pub(crate) signed: Mutex<Vec<UnsignedToken>>,
}

impl FakeSigner {
    fn new(clock: TestClock) -> Self {
        Self { clock, failures: Mutex::default(), signed: Mutex::default() }
    }
}

#[async_trait]
impl Signer for FakeSigner {
    async fn sign(&self, token: UnsignedToken) -> Result<SignedToken, SignError> {
        if let Some(failure) = self.failures.lock().unwrap().pop_front() {
            return Err(failure);
        }
        let expires_at = self.clock.now() + token.duration;
        self.signed.lock().unwrap().push(token);
        Ok(SignedToken { token: SIGNED.to_owned(), expires_at })
    }
}

/// Commits each replay hash once, like the real commit point, or answers as it was told.
pub(crate) struct FakeCommits {
    /// What to answer, in this order, before committing again.
    pub(crate) answers: Mutex<VecDeque<Result<CommitOutcome, CommitError>>>,
    pub(crate) committed: Mutex<Vec<ExchangeCommit>>,
    pub(crate) asked: AtomicUsize,
    /// How many commits may go on.
    pub(crate) gate: Semaphore,
}

impl Default for FakeCommits {
    fn default() -> Self {
        Self {
            answers: Mutex::default(),
            committed: Mutex::default(),
            asked: AtomicUsize::default(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        }
    }
}

#[async_trait]
impl CommitPoint for FakeCommits {
    async fn commit(&self, exchange: ExchangeCommit) -> Result<CommitOutcome, CommitError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        if let Some(answer) = self.answers.lock().unwrap().pop_front() {
            return answer;
        }
        let mut committed = self.committed.lock().unwrap();
        let replayed = |mark: &_| committed.iter().any(|earlier: &ExchangeCommit| earlier.replay.as_ref() == Some(mark));
        if exchange.replay.as_ref().is_some_and(replayed) {
            return Ok(CommitOutcome::Replayed);
        }
        committed.push(exchange);
        Ok(CommitOutcome::Committed)
    }
}

/// What was refused earlier, by whomever.
#[derive(Default)]
pub(crate) struct FakePast {
    pub(crate) refusals: Mutex<Vec<NewRefusal>>,
}

#[async_trait]
impl PastRefusals for FakePast {
    async fn refusal(&self, workspace_id: &WorkspaceId, request_id: &str) -> Result<Option<NewRefusal>, CutOff> {
        let refusals = self.refusals.lock().unwrap();
        let is_it = |refusal: &&NewRefusal| {
            refusal.workspace_id.as_ref() == Some(workspace_id)
                && matches!(&refusal.refused, Refusals::One(one) if one.presentation.request_id == request_id)
        };
        Ok(refusals.iter().find(is_it).cloned())
    }
}
