//! Who gets through to which method.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{BOOTSTRAP_TOKEN, Keys, Service, bootstrap, call};
use countersign_domain::access::permission::{Access, Permission, Reach};
use countersign_domain::trust::workspace::WorkspaceState;
use countersign_domain::values::id::{IssuerId, WorkspaceId};
use countersign_domain::values::reason::Reason;
use countersign_domain::values::time::Clock as _;
use countersign_jose::Signer as _;
use countersign_jose::SigningKey;
use countersign_proto::access::TABLE;
use countersign_proto::status::Refusal;
use countersign_runtime::auth::{Authenticator, StateUnknown, WorkspaceStates};
use countersign_runtime::server::Limits;
use countersign_testkit::clock::TestClock;
use countersign_testkit::status::assert_refused;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

const GATEWAY: &str = "https://gateway.example.com";
const GET_WORKSPACE: &str = "/countersign.trust.v1.WorkspaceService/GetWorkspace";
const CREATE_WORKSPACE: &str = "/countersign.trust.v1.WorkspaceService/CreateWorkspace";

fn methods(wanted: impl Fn(Access) -> bool) -> impl Iterator<Item = &'static str> {
    let ours = TABLE.iter().filter(|(path, _)| path.starts_with("/countersign."));
    ours.filter(move |(_, access)| wanted(*access)).map(|(path, _)| *path)
}

fn needs_permission(access: Access) -> bool {
    matches!(access, Access::Requires(_))
}

type SharedState = Arc<Mutex<Result<Option<WorkspaceState>, StateUnknown>>>;

/// What is known of the only workspace there is.
#[derive(Debug)]
struct OneWorkspace(SharedState);

#[async_trait::async_trait]
impl WorkspaceStates for OneWorkspace {
    async fn workspace_state(&self, id: &WorkspaceId) -> Result<Option<WorkspaceState>, StateUnknown> {
        assert_eq!(*id, WorkspaceId::from_random([1; 16]));
        *self.0.lock().unwrap()
    }
}

/// Access tokens of a deployment, each with one thing changed.
struct Deployment {
    key: SigningKey,
    clock: TestClock,
}

impl Deployment {
    fn new() -> Self {
        Self { key: SigningKey::generate(countersign_jose::SignatureAlgorithm::Es256).unwrap(), clock: TestClock::noon() }
    }

    fn service(&self, keys: Arc<Keys>) -> Service {
        self.service_of_workspace(keys, Arc::new(Mutex::new(Ok(Some(WorkspaceState::Active)))))
    }

    fn service_of_workspace(&self, keys: Arc<Keys>, state: SharedState) -> Service {
        let authenticator =
            Authenticator::new().with_access_tokens(GATEWAY, keys, Arc::new(OneWorkspace(state)), Arc::new(self.clock.clone()));
        Service::start_with(Limits::default(), authenticator)
    }

    fn claims(&self) -> Value {
        let now = self.clock.now().as_second();
        json!({
            "iss": GATEWAY, "sub": "ws/ti/me", "aud": [GATEWAY], "iat": now, "exp": now + 300, "jti": "1",
            "workspace_id": WorkspaceId::from_random([1; 16]).to_string(),
            "scope": "deploy countersign:workspaces.get",
        })
    }

    fn token(&self, change: impl FnOnce(&mut Value)) -> String {
        self.token_typed("at+jwt", change)
    }

    fn token_typed(&self, typ: &str, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = self.claims();
        change(&mut claims);
        self.key.sign(typ, claims.to_string().as_bytes()).unwrap()
    }
}

async fn present(service: &Service, path: &str, token: &str) -> Status {
    call(service.public(), path, &[("authorization", &format!("Bearer {token}"))]).await
}

#[tokio::test]
async fn s69_without_credentials_every_method_that_is_not_public_is_refused() {
    let service = Service::start();
    for path in methods(needs_permission) {
        assert_refused(&call(service.public(), path, &[]).await, Code::Unauthenticated, Reason::CredentialsMissing);
    }
}

#[tokio::test]
async fn s69_wrong_credentials_are_refused_everywhere() {
    let service = Service::start();
    let almost = format!("Bearer {}x", &BOOTSTRAP_TOKEN[..BOOTSTRAP_TOKEN.len() - 1]);
    let basic = format!("Basic {BOOTSTRAP_TOKEN}");
    for path in methods(needs_permission) {
        for value in [almost.as_str(), basic.as_str(), "Bearer", "Bearer ", "Bearer  x", BOOTSTRAP_TOKEN] {
            let status = call(service.public(), path, &[("authorization", value)]).await;
            assert_refused(&status, Code::Unauthenticated, Reason::CredentialsInvalid);
        }
    }
    let bearer = format!("Bearer {BOOTSTRAP_TOKEN}");
    let twice = call(service.public(), GET_WORKSPACE, &[("authorization", &bearer), ("authorization", &bearer)]).await;
    assert_refused(&twice, Code::Unauthenticated, Reason::CredentialsInvalid);
}

#[tokio::test]
async fn s69_the_bootstrap_token_opens_every_public_surface_and_can_be_switched_off() {
    let service = Service::start();
    for path in methods(needs_permission) {
        assert_eq!(present(&service, path, BOOTSTRAP_TOKEN).await.code(), Code::Ok, "{path}");
    }
    let closed = Service::start_with(Limits::default(), Authenticator::new());
    for path in methods(needs_permission) {
        assert_refused(&present(&closed, path, BOOTSTRAP_TOKEN).await, Code::Unauthenticated, Reason::CredentialsInvalid);
    }
}

#[tokio::test]
async fn s69_an_access_token_opens_exactly_what_its_scopes_say() {
    let deployment = Deployment::new();
    let service = deployment.service(Keys::known(&[&deployment.key]));
    for &held in Permission::ALL {
        let token = deployment.token(|claims| claims["scope"] = format!("deploy {held}").into());
        for (path, access) in TABLE.iter().filter(|(_, access)| needs_permission(*access)) {
            let status = present(&service, path, &token).await;
            if *access == Access::Requires(held) && held.reach() == Reach::Workspace {
                assert_eq!(status.code(), Code::Ok, "{path} with {held}");
            } else {
                assert_refused(&status, Code::PermissionDenied, Reason::PermissionMissing);
                let Access::Requires(needed) = access else { unreachable!() };
                assert_eq!(status.get_details_error_info().unwrap().metadata["permission"], needed.as_scope());
                assert_eq!(Refusal::from_status(&status).permission(), Some(*needed));
            }
        }
    }
}

#[tokio::test]
async fn s82_the_access_token_of_a_workspace_that_is_not_active_is_no_credential_for_any_method() {
    let deployment = Deployment::new();
    let state: SharedState = Arc::new(Mutex::new(Ok(Some(WorkspaceState::Active))));
    let service = deployment.service_of_workspace(Keys::known(&[&deployment.key]), Arc::clone(&state));
    let every: Vec<_> = Permission::ALL.iter().map(|permission| permission.as_scope()).collect();
    let token = deployment.token(|claims| claims["scope"] = every.join(" ").into());
    for path in methods(needs_permission) {
        for (known, expected) in [
            (Ok(Some(WorkspaceState::Disabled)), (Code::Unauthenticated, Reason::CredentialsInvalid)),
            (Ok(None), (Code::Unauthenticated, Reason::CredentialsInvalid)),
            (Err(StateUnknown), (Code::Unavailable, Reason::TemporarilyUnavailable)),
        ] {
            *state.lock().unwrap() = known;
            assert_refused(&present(&service, path, &token).await, expected.0, expected.1);
        }
        *state.lock().unwrap() = Ok(Some(WorkspaceState::Active));
        assert_ne!(present(&service, path, &token).await.code(), Code::Unauthenticated, "{path}: active again");
    }
    // Before the signature verifies, no workspace is looked up: its name would be the presenter's choice.
    *state.lock().unwrap() = Err(StateUnknown);
    let forged = Deployment::new().token(|_| {});
    assert_refused(&present(&service, GET_WORKSPACE, &forged).await, Code::Unauthenticated, Reason::CredentialsInvalid);
}

#[tokio::test]
async fn s69_a_permission_for_one_issuer_opens_its_method_alone() {
    let deployment = Deployment::new();
    let service = deployment.service(Keys::known(&[&deployment.key]));
    let issuer_id = IssuerId::from_random([1; 16]);
    let token = deployment.token(|claims| claims["scope"] = format!("countersign:id_tokens.issue:{issuer_id}").into());
    for (path, access) in TABLE.iter().filter(|(_, access)| needs_permission(*access)) {
        let opened = *access == Access::Requires(Permission::IdTokensIssue);
        assert_eq!(present(&service, path, &token).await.code() == Code::Ok, opened, "{path}");
    }
}

#[tokio::test]
async fn s14_an_access_token_made_of_the_longest_subject_is_a_credential() {
    let deployment = Deployment::new();
    let service = deployment.service(Keys::known(&[&deployment.key]));
    let of = |length: usize| deployment.token(|claims| claims["sub"] = "x".repeat(60 + length).into());
    assert_eq!(present(&service, GET_WORKSPACE, &of(1_024)).await.code(), Code::Ok);
    let status = present(&service, GET_WORKSPACE, &of(1_025)).await;
    assert_refused(&status, Code::Unauthenticated, Reason::CredentialsInvalid);
}

#[tokio::test]
async fn s69_a_deployment_wide_permission_never_comes_from_an_access_token() {
    let deployment = Deployment::new();
    let service = deployment.service(Keys::known(&[&deployment.key]));
    let token = deployment.token(|claims| claims["scope"] = "countersign:workspaces.create".into());
    assert_refused(&present(&service, CREATE_WORKSPACE, &token).await, Code::PermissionDenied, Reason::PermissionMissing);
}

#[tokio::test]
async fn s69_internal_methods_do_not_exist_on_a_public_surface() {
    let service = Service::start();
    let bearer = format!("Bearer {BOOTSTRAP_TOKEN}");
    for path in methods(|access| access == Access::Internal) {
        for headers in [&[][..], &[("authorization", bearer.as_str())][..]] {
            assert_eq!(call(service.public(), path, headers).await.code(), Code::Unimplemented, "{path}");
        }
        assert_eq!(call(service.internal(), path, &[]).await.code(), Code::Ok, "{path}");
    }
}

#[tokio::test]
async fn s69_a_method_that_nobody_classified_is_shut() {
    let service = Service::start();
    for path in ["/countersign.trust.v1.WorkspaceService/Purge", "/countersign.trust.v1.WorkspaceService/x/y", "/a.B/C"] {
        assert_eq!(present(&service, path, BOOTSTRAP_TOKEN).await.code(), Code::Unimplemented, "{path}");
    }
    // Not reached by another content type either, which the generated servers do not look at.
    let request = http::Request::post("/countersign.trust.v1.WorkspaceService/GetWorkspace").body(String::new()).unwrap();
    assert_eq!(service.http(request).await.status(), http::StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn s69_s79_only_a_valid_access_token_of_this_deployment_is_a_credential() {
    let deployment = Deployment::new();
    let other = Deployment::new();
    let service = deployment.service(Keys::known(&[&deployment.key]));
    let now = deployment.clock.now().as_second();
    assert_eq!(present(&service, GET_WORKSPACE, &deployment.token(|_| {})).await.code(), Code::Ok);
    let good_for_now = [
        deployment.token(|claims| claims["exp"] = (now + 1).into()),
        deployment.token(|claims| claims["iat"] = (now + 30).into()),
        deployment.token(|claims| claims["nbf"] = (now + 30).into()),
        deployment.token(|claims| claims["aud"] = json!(["https://elsewhere.example.com", GATEWAY])),
    ];
    for token in good_for_now {
        assert_eq!(present(&service, GET_WORKSPACE, &token).await.code(), Code::Ok);
    }
    let bad = [
        ("another deployment's key", other.token(|_| {})),
        ("expired", deployment.token(|claims| claims["exp"] = now.into())),
        ("from the future", deployment.token(|claims| claims["iat"] = (now + 31).into())),
        ("not yet valid", deployment.token(|claims| claims["nbf"] = (now + 31).into())),
        ("another audience", deployment.token(|claims| claims["aud"] = "https://elsewhere.example.com".into())),
        ("another issuer", deployment.token(|claims| claims["iss"] = format!("{GATEWAY}/").into())),
        ("an ID token", deployment.token_typed("JWT", |_| {})),
        ("no workspace", deployment.token(|claims| claims["workspace_id"] = Value::Null)),
        ("a scope of another type", deployment.token(|claims| claims["scope"] = json!(["countersign:workspaces.get"]))),
        ("bound to a key", deployment.token(|claims| claims["cnf"] = json!({"jkt": "x"}))),
        ("bound to a key that cannot be read", deployment.token(|claims| claims["cnf"] = Value::Null)),
        ("no token", "x".to_owned()),
    ];
    for (what, token) in bad {
        let status = present(&service, GET_WORKSPACE, &token).await;
        assert_eq!(status.code(), Code::Unauthenticated, "{what}");
        assert_refused(&status, Code::Unauthenticated, Reason::CredentialsInvalid);
    }
    let token = deployment.token(|_| {});
    deployment.clock.advance(Duration::from_secs(299));
    assert_eq!(present(&service, GET_WORKSPACE, &token).await.code(), Code::Ok);
    deployment.clock.advance(Duration::from_secs(1));
    assert_refused(&present(&service, GET_WORKSPACE, &token).await, Code::Unauthenticated, Reason::CredentialsInvalid);
}

#[tokio::test]
async fn an_unknown_key_is_asked_for_once_and_then_verifies() {
    let deployment = Deployment::new();
    let old = SigningKey::generate(countersign_jose::SignatureAlgorithm::Es256).unwrap();
    let keys =
        Arc::new(Keys { first: Some(Keys::of(&[&old])), refreshed: Some(Keys::of(&[&old, &deployment.key])), ..Keys::default() });
    let service = deployment.service(Arc::clone(&keys));
    assert_eq!(present(&service, GET_WORKSPACE, &deployment.token(|_| {})).await.code(), Code::Ok);
    assert_eq!(keys.refreshes.load(Ordering::Relaxed), 1);
    // Another issuer's token makes nobody look for keys.
    let foreign = deployment.token(|claims| claims["iss"] = "https://elsewhere.example.com".into());
    assert_eq!(present(&service, GET_WORKSPACE, &foreign).await.code(), Code::Unauthenticated);
    assert_eq!(keys.refreshes.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn without_keys_an_access_token_is_unavailable_and_never_open() {
    let deployment = Deployment::new();
    let service = deployment.service(Arc::new(Keys::default()));
    let status = present(&service, GET_WORKSPACE, &deployment.token(|_| {})).await;
    assert_refused(&status, Code::Unavailable, Reason::TemporarilyUnavailable);
    assert!(status.get_details_retry_info().is_some());
}

#[tokio::test]
async fn the_handler_learns_who_calls() {
    let request = tonic::Request::new(());
    let refusal = countersign_runtime::auth::caller(&request).unwrap_err();
    assert_eq!(refusal.reason(), Reason::CredentialsMissing);
    let mut headers = http::HeaderMap::new();
    headers.insert("authorization", format!("bEaReR {BOOTSTRAP_TOKEN}").parse().unwrap());
    let caller = bootstrap().authenticate(&headers).await.unwrap();
    assert_eq!((caller.subject.as_str(), caller.only_workspace()), ("bootstrap", None));
}
