//! What every [`TrustStore`] must do, run on SQLite and on PostgreSQL.

mod audit;
mod commits;
mod feed;
mod health;
mod pruning;
mod resources;

use std::sync::Arc;
use std::time::Duration;

use countersign_domain::exchange::commit::{ExchangeAudit, ReplayMark};
use countersign_domain::exchange::presentation::{KeptClaims, Presentation};
use countersign_domain::exchange::request::ExchangeRequest;
use countersign_domain::trust::key_source::KeySource;
use countersign_domain::trust::trust_relationship::TrustRelationshipDraft;
use countersign_domain::trust::trusted_issuer::TrustedIssuerDraft;
use countersign_domain::trust::workspace::WorkspaceState;
use countersign_domain::values::grant::Grant;
use countersign_domain::values::issuer_url::LoopbackHttp;
use countersign_domain::values::time::Entropy;
use countersign_domain::values::violation::Violations;
use countersign_testkit::clock::SeededEntropy;
use countersign_testkit::postgres::Postgres;
use sea_orm::ConnectionTrait as _;

use super::*;

/// Two replicas on one database.
struct Replicas {
    one: SeaTrustStore,
    other: SeaTrustStore,
    entropy: Arc<dyn Entropy>,
    _folder: Option<tempfile::TempDir>,
}

async fn replicas(url: &str, folder: Option<tempfile::TempDir>) -> Replicas {
    let open = || async { SeaTrustStore::open(Database::connect(&url.parse().unwrap(), SCHEMA).await.unwrap()).await.unwrap() };
    Replicas { one: open().await, other: open().await, entropy: Arc::new(SeededEntropy::new(1)), _folder: folder }
}

async fn sqlite() -> Replicas {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("trust.db").display());
    replicas(&url, Some(folder)).await
}

async fn postgres() -> Replicas {
    let url = tokio::task::spawn_blocking(|| Postgres::shared().database()).await.unwrap();
    replicas(&url, None).await
}

macro_rules! on_every_database {
    ($($test:ident)+) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(crate::trust::contract::sqlite().await).await;
            })+
        }

        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(crate::trust::contract::postgres().await).await;
            })+
        }
    };
}
use on_every_database;

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn later(seconds: u64) -> Timestamp {
    now() + Duration::from_secs(seconds)
}

fn page() -> Page {
    Page { after: None, limit: 1_000 }
}

/// The writer may give any scope.
fn anything(_: &countersign_domain::values::name::Scope) -> bool {
    true
}

fn issuer_settings(url: &str) -> TrustedIssuerSettings {
    let draft = TrustedIssuerDraft { issuer_url: url.to_owned(), ..TrustedIssuerDraft::default() };
    TrustedIssuerSettings::create(&draft, LoopbackHttp::Refused, &mut Violations::new()).unwrap()
}

fn relationship_settings() -> TrustRelationshipSettings {
    let draft = TrustRelationshipDraft {
        display_name: "deploy".to_owned(),
        subject_matches: vec!["org:my-org:vault:deploy-vault".to_owned(), "org:my-org:vault:*".to_owned()],
        access_token_audiences: vec!["https://api.example".to_owned()],
        scopes: vec!["deploy".to_owned()],
        grants: vec![Grant { resource_type: "vault".to_owned(), resource_id: "*".to_owned(), actions: vec!["read".to_owned()] }],
        expires_at: Some(Ok(later(86_400))),
        ..TrustRelationshipDraft::default()
    };
    TrustRelationshipSettings::create(&draft, now(), &mut Violations::new()).unwrap()
}

/// A workspace with an issuer and a relationship.
#[derive(Clone)]
struct Tenant {
    workspace: Workspace,
    issuer: TrustedIssuer,
    relationship: TrustRelationship,
}

impl Replicas {
    async fn workspace(&self) -> Workspace {
        let settings = WorkspaceSettings { display_name: "Acme".parse().unwrap(), state: WorkspaceState::Active };
        self.one.create_workspace(WorkspaceId::from_random(self.entropy.bits128()), settings, now()).await.unwrap()
    }

    async fn issuer(&self, workspace_id: &WorkspaceId, url: &str) -> TrustedIssuer {
        let id = TrustedIssuerId::from_random(self.entropy.bits128());
        self.one.create_trusted_issuer(workspace_id, id, issuer_settings(url), now()).await.unwrap()
    }

    fn new_relationship(&self, issuer: &TrustedIssuer) -> NewTrustRelationship {
        NewTrustRelationship {
            id: TrustRelationshipId::from_random(self.entropy.bits128()),
            workspace_id: issuer.workspace_id.clone(),
            trusted_issuer_id: issuer.id.clone(),
            settings: relationship_settings(),
            creator: "bootstrap".to_owned(),
        }
    }

    async fn relationship(&self, issuer: &TrustedIssuer) -> TrustRelationship {
        self.one.create_trust_relationship(self.new_relationship(issuer), now()).await.unwrap()
    }

    async fn tenant(&self) -> Tenant {
        let workspace = self.workspace().await;
        let issuer = self.issuer(&workspace.id, "https://cloud.rwx.com/mint").await;
        let relationship = self.relationship(&issuer).await;
        Tenant { workspace, issuer, relationship }
    }

    /// Runs SQL behind the store's back.
    async fn sql(&self, sql: &str) -> Result<(), sea_orm::DbErr> {
        self.one.database.writer().execute_unprepared(sql).await.map(|_| ())
    }

    async fn count(&self, sql: &str) -> i64 {
        let row = self.one.database.reader().query_one_raw(self.one.database.statement(sql, [])).await.unwrap();
        row.unwrap().try_get("", "n").unwrap()
    }

    async fn audit_count(&self) -> i64 {
        self.count("SELECT count(*) AS n FROM audit_events").await
    }
}

impl Tenant {
    fn presentation(&self, request_id: &str) -> Presentation {
        let members = serde_json::json!({"aud": "a", "iat": 1_800_000_000, "exp": 1_800_000_300, "ref": "main"});
        let read = ["ref", "environment"].iter().map(|path| path.parse().unwrap()).collect();
        Presentation {
            request_id: request_id.to_owned(),
            subject_issuer: self.issuer.settings.issuer_url.clone(),
            subject: "org:my-org:vault:deploy-vault".parse().unwrap(),
            subject_token_hash: [9; 32],
            subject_token_id: None,
            subject_key_id: Some("k1".parse().unwrap()),
            claims: Some(KeptClaims::from_parts(&members.to_string(), read).unwrap()),
            request: Some(ExchangeRequest {
                trust_relationship_id: Some(self.relationship.id.clone()),
                audiences: vec!["https://api.example".parse().unwrap()],
                scopes: vec!["deploy".parse().unwrap()],
                duration: Some(Duration::from_millis(90_500)),
            }),
        }
    }

    fn exchange(&self, token: u64) -> ExchangeCommit {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&token.to_be_bytes());
        ExchangeCommit {
            workspace_id: self.workspace.id.clone(),
            trusted_issuer_id: self.issuer.id.clone(),
            trust_relationship_id: self.relationship.id.clone(),
            policy_revision: 3,
            trusted_issuer_revision: self.issuer.revision,
            trust_relationship_revision: self.relationship.revision,
            replay: Some(ReplayMark { hash, expires_at: later(600) }),
            audit: ExchangeAudit {
                presentation: self.presentation("req-1"),
                access_token_id: format!("at{token}").parse().unwrap(),
                access_token_audiences: vec!["https://api.example".parse().unwrap()],
                scopes: vec!["deploy".parse().unwrap()],
                access_token_expires_at: later(300),
            },
        }
    }
}
