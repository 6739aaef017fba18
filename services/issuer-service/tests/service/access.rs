//! Who may call what, and access tokens.

use std::collections::BTreeSet;

use countersign_domain::access::permission::{Access, Permission, Reach};
use countersign_domain::values::reason::Reason;
use countersign_proto::access;
use countersign_proto::issuer_v1 as wire;
use countersign_proto::issuer_v1::access_token_service_client::AccessTokenServiceClient;
use countersign_proto::issuer_v1::signed_access_token::Result as Signed;
use countersign_testkit::status::{assert_refused, violated_fields};
use serde_json::json;
use tonic::{Code, Status};

use crate::harness::{GATEWAY, Ground, Service, access_token_claims, own_wish, to_sign, verify, wish, workspace};

/// Every administrative method, called as somebody, about one issuer.
pub(crate) async fn call(service: &Service, method: &str, credential: Option<&str>, issuer: &wire::Issuer) -> Result<(), Status> {
    macro_rules! call {
        ($client:ident, $method:ident, $message:expr) => {{
            let message = $message;
            let request = match credential {
                Some(credential) => service.request_as(credential, message),
                None => tonic::Request::new(message),
            };
            service.$client().$method(request).await.map(|_| ())
        }};
    }
    let (workspace_id, issuer_id) = (issuer.workspace_id.clone(), issuer.id.clone());
    match method {
        "CreateIssuer" => {
            let issuer = crate::harness::rwx(&workspace_id.parse().unwrap());
            call!(issuers, create_issuer, wire::CreateIssuerRequest { issuer: Some(issuer) })
        }
        "GetIssuer" => call!(issuers, get_issuer, wire::GetIssuerRequest { workspace_id, issuer_id }),
        "ListIssuers" => {
            call!(issuers, list_issuers, wire::ListIssuersRequest { workspace_id, ..Default::default() })
        }
        "UpdateIssuer" => {
            let update_mask = Some(prost_types::FieldMask { paths: vec!["display_name".to_owned()] });
            let issuer = wire::Issuer { display_name: "taken".to_owned(), ..issuer.clone() };
            call!(issuers, update_issuer, wire::UpdateIssuerRequest { issuer: Some(issuer), update_mask, ..Default::default() })
        }
        "DeleteIssuer" => {
            let etag = String::new();
            call!(issuers, delete_issuer, wire::DeleteIssuerRequest { workspace_id, issuer_id, etag })
        }
        "IssueIdToken" => call!(tokens, issue_id_token, wish(issuer)),
        "IssueOwnIdToken" => call!(tokens, issue_own_id_token, own_wish(issuer)),
        "ListSigningKeys" => {
            let request = wire::ListSigningKeysRequest { workspace_id, issuer_id, ..Default::default() };
            call!(signing_keys, list_signing_keys, request)
        }
        "RotateSigningKey" => {
            let request = wire::RotateSigningKeyRequest { workspace_id, issuer_id, algorithm: String::new() };
            call!(signing_keys, rotate_signing_key, request)
        }
        "RevokeSigningKey" => {
            let key_id = service.key_ids(&issuer.issuer_url).await.remove(0);
            call!(signing_keys, revoke_signing_key, wire::RevokeSigningKeyRequest { workspace_id, issuer_id, key_id })
        }
        other => panic!("{other} has no case here"),
    }
}

/// The methods of this package that need a permission which a workspace can give, deletion last.
pub(crate) fn administrative() -> Vec<(&'static str, Permission)> {
    let mut methods: Vec<_> = access::TABLE
        .iter()
        .filter_map(|(path, access)| match access {
            Access::Requires(permission)
                if path.starts_with("/countersign.issuer.v1.") && permission.reach() == Reach::Workspace =>
            {
                Some((path.rsplit('/').next().unwrap(), *permission))
            }
            _ => None,
        })
        .collect();
    methods.sort_by_key(|(method, _)| *method == "DeleteIssuer");
    assert!(methods.len() >= 7);
    methods
}

#[tokio::test(flavor = "multi_thread")]
async fn s69_every_administrative_method_needs_its_permission() {
    let service = Ground::sqlite().start().await;
    let issuer = service.rwx(&workspace(1)).await;
    for (method, permission) in administrative() {
        let refused = call(&service, method, None, &issuer).await.unwrap_err();
        assert_refused(&refused, Code::Unauthenticated, Reason::CredentialsMissing);
        let refused = call(&service, method, Some("not-a-token"), &issuer).await.unwrap_err();
        assert_refused(&refused, Code::Unauthenticated, Reason::CredentialsInvalid);

        let others: Vec<_> = Permission::ALL.iter().filter(|other| **other != permission).map(|other| other.as_scope()).collect();
        let token = service.access_token(&workspace(1), &others.join(" ")).await;
        let refused = call(&service, method, Some(&token), &issuer).await.unwrap_err();
        assert_refused(&refused, Code::PermissionDenied, Reason::PermissionMissing);

        let token = service.access_token(&workspace(1), permission.as_scope()).await;
        assert!(call(&service, method, Some(&token), &issuer).await.is_ok(), "{method} by our own access token");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s69_tokens_of_runs_can_be_left_to_a_caller_for_one_issuer_alone() {
    let service = Ground::sqlite().start().await;
    let (granted, other) = (service.rwx(&workspace(1)).await, service.rwx(&workspace(1)).await);
    let scope = format!("{}:{}", Permission::IdTokensIssue.as_scope(), granted.id);
    let token = service.access_token(&workspace(1), &scope).await;
    call(&service, "IssueIdToken", Some(&token), &granted).await.unwrap();
    let refused = call(&service, "IssueIdToken", Some(&token), &other).await.unwrap_err();
    assert_refused(&refused, Code::PermissionDenied, Reason::PermissionMissing);
    let refused = call(&service, "IssueOwnIdToken", Some(&token), &granted).await.unwrap_err();
    assert_refused(&refused, Code::PermissionDenied, Reason::PermissionMissing);

    // An issuer's id opens nothing in another workspace.
    let foreign = service.access_token(&workspace(2), &scope).await;
    let refused = call(&service, "IssueIdToken", Some(&foreign), &granted).await.unwrap_err();
    assert_refused(&refused, Code::NotFound, Reason::ResourceNotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn s33_an_issuer_of_another_workspace_does_not_exist() {
    let service = Ground::sqlite().start().await;
    let theirs = service.rwx(&workspace(1)).await;
    let every: Vec<_> = administrative().into_iter().map(|(_, permission)| permission.as_scope()).collect();
    let ours = service.access_token(&workspace(2), &every.join(" ")).await;
    for (method, _) in administrative() {
        // By its own workspace, and as if it were in ours.
        let refused = call(&service, method, Some(&ours), &theirs).await.unwrap_err();
        assert_refused(&refused, Code::NotFound, Reason::ResourceNotFound);
        if !matches!(method, "CreateIssuer" | "ListIssuers") {
            let disguised = wire::Issuer { workspace_id: workspace(2).to_string(), ..theirs.clone() };
            let refused = call(&service, method, Some(&ours), &disguised).await.unwrap_err();
            assert_refused(&refused, Code::NotFound, Reason::ResourceNotFound);
        }
    }
    let request = wire::GetIssuerRequest { workspace_id: theirs.workspace_id.clone(), issuer_id: theirs.id.clone() };
    let after = service.issuers().get_issuer(service.request(request)).await.unwrap().into_inner().issuer.unwrap();
    assert_eq!(after, theirs, "nothing changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn s69_internal_methods_do_not_exist_on_the_public_listener() {
    let service = Ground::sqlite().start().await;
    let mut outside = AccessTokenServiceClient::new(service.public.clone());
    let request = wire::SignAccessTokensRequest { access_tokens: vec![to_sign(&access_token_claims(&workspace(1)), 60)] };
    let refused = outside.sign_access_tokens(service.request(request)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
}

#[tokio::test(flavor = "multi_thread")]
async fn s54_access_tokens_are_complete_and_verify_by_the_key_set_alone() {
    let service = Ground::sqlite().start().await;
    let Signed::AccessToken(token) = service.sign(&access_token_claims(&workspace(1)), 600).await else { panic!() };
    let key_set = service.key_set(GATEWAY).await.unwrap();
    let verified = verify(&token, &key_set, GATEWAY, GATEWAY);
    assert_eq!(verified.header.typ.as_deref(), Some("at+jwt"));
    assert_eq!(verified.header.alg, jsonwebtoken::Algorithm::ES256);
    let claims = verified.claims;
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 600);
    for (name, value) in access_token_claims(&workspace(1)).as_object().unwrap() {
        assert_eq!(claims[name], *value, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s54_one_refused_item_does_not_disturb_the_others() {
    let service = Ground::sqlite().start().await;
    let good = access_token_claims(&workspace(1));
    let without = |name: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(name);
        to_sign(&claims, 60)
    };
    let with = |name: &str| {
        let mut claims = good.clone();
        claims[name] = json!(1);
        to_sign(&claims, 60)
    };
    let mut doubled = to_sign(&good, 60);
    doubled.claims_json = [&doubled.claims_json[..doubled.claims_json.len() - 1], br#","scope":"admin"}"#].concat().into();
    let bad = [
        without("sub"),
        without("aud"),
        without("jti"),
        without("client_id"),
        without("workspace_id"),
        without("scope"),
        with("iss"),
        with("exp"),
        with("iat"),
        with("nbf"),
        with("nonce"),
        to_sign(&json!(["not an object"]), 60),
        doubled,
        to_sign(&good, 0),
        to_sign(&good, 12 * 3600 + 1),
        wire::AccessTokenToSign { duration: None, ..to_sign(&good, 60) },
    ];
    let count = bad.len();
    let batch = bad.into_iter().flat_map(|bad| [to_sign(&good, 60), bad]).collect();
    let answer = service.access_tokens().sign_access_tokens(wire::SignAccessTokensRequest { access_tokens: batch }).await;
    let answer = answer.unwrap().into_inner().access_tokens;
    assert_eq!(answer.len(), 2 * count, "in the order of the request");
    for (index, pair) in answer.chunks(2).enumerate() {
        assert!(matches!(pair[0].result, Some(Signed::AccessToken(_))), "{index}");
        assert!(matches!(&pair[1].result, Some(Signed::Refusal(why)) if !why.is_empty()), "{index}: {:?}", pair[1]);
        assert!(pair[0].expire_time.is_some() && pair[1].expire_time.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_bounded() {
    let service = Ground::sqlite().start().await;
    let batch = |count| wire::SignAccessTokensRequest {
        access_tokens: (0..count).map(|_| to_sign(&access_token_claims(&workspace(1)), 60)).collect(),
    };
    let signed = service.access_tokens().sign_access_tokens(batch(256)).await.unwrap().into_inner().access_tokens;
    let tokens: BTreeSet<_> = signed.into_iter().map(|item| format!("{:?}", item.result.is_some())).collect();
    assert_eq!(tokens.len(), 1);
    let refused = service.access_tokens().sign_access_tokens(batch(257)).await.unwrap_err();
    assert_refused(&refused, Code::InvalidArgument, Reason::InvalidRequest);
    assert_eq!(violated_fields(&refused), ["access_tokens"]);
    assert!(service.access_tokens().sign_access_tokens(batch(0)).await.unwrap().into_inner().access_tokens.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn key_sets_are_public_and_unknown_issuers_unknown() {
    let service = Ground::sqlite().start().await;
    let unknown = service.key_set("http://localhost:7401/nobody").await.unwrap_err();
    assert_refused(&unknown, Code::NotFound, Reason::ResourceNotFound);
    let malformed = service.key_set("nonsense").await.unwrap_err();
    assert_refused(&malformed, Code::InvalidArgument, Reason::InvalidRequest);
    // The other services ask on their own listener.
    let mut inside = countersign_proto::issuer_v1::key_set_service_client::KeySetServiceClient::new(service.internal.clone());
    let request = wire::GetJsonWebKeySetRequest { issuer_url: GATEWAY.to_owned() };
    assert!(inside.get_json_web_key_set(request).await.is_ok());
}
