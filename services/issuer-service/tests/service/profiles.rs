//! What the tokens of each profile say, as a relying party reads them.

use std::collections::HashMap;

use countersign_domain::profile::Profile;
use countersign_domain::reason::Reason;
use countersign_proto::issuer_v1 as wire;
use countersign_testkit::status::{assert_refused, violated_fields};
use serde_json::{Value, json};
use tonic::Code;

use crate::harness::{BASE, Ground, Service, path_of, rwx, verify, workspace};

const AUDIENCE: &str = "sts.amazonaws.com";

async fn issuer(service: &Service, profile: &str) -> wire::Issuer {
    service.create(wire::Issuer { profile: profile.to_owned(), ..rwx(&workspace(1)) }).await.unwrap()
}

fn run(issuer: &wire::Issuer, attributes: &[(&str, &str)]) -> wire::IssueIdTokenRequest {
    wire::IssueIdTokenRequest {
        workspace_id: issuer.workspace_id.clone(),
        issuer_id: issuer.id.clone(),
        attributes: attributes.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect::<HashMap<_, _>>(),
        ..Default::default()
    }
}

/// The claims of a token, verified by its issuer's documents alone, without those that no two tokens share. Its times are checked
/// here: an hour, from now on.
async fn claims(service: &Service, issuer: &wire::Issuer, request: wire::IssueIdTokenRequest, audience: &str) -> Value {
    let answer = service.issue(request).await.unwrap();
    let discovery = service.get_json(&format!("{}/.well-known/openid-configuration", path_of(issuer))).await;
    assert_eq!(discovery["issuer"], json!(issuer.issuer_url));
    let key_set = service.get_json(discovery["jwks_uri"].as_str().unwrap().strip_prefix(BASE).unwrap()).await;
    let mut claims = verify(&answer.id_token, &key_set, &issuer.issuer_url, audience).claims;
    let object = claims.as_object_mut().unwrap();
    assert_eq!(object.remove("iss"), Some(json!(issuer.issuer_url)));
    let [exp, iat, nbf] = ["exp", "iat", "nbf"].map(|name| object.remove(name).unwrap().as_i64().unwrap());
    assert_eq!((exp - iat, nbf), (3600, iat));
    assert!(object.remove("jti").is_some());
    claims
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_every_built_in_profile_say_what_those_of_the_field_say() {
    let service = Ground::sqlite().start().await;
    let host = BASE.strip_prefix("http://").unwrap();
    let uuid = "4b8c2d1e-7f3a-4960-8e5d-0a9c6b3f1e27";
    let tracked = [
        ("space_id", "production-01"),
        ("space_path", "/root/production-01"),
        ("caller_type", "stack"),
        ("caller_id", "infra"),
        ("run_type", "TRACKED"),
        ("run_id", "01JB6Q3ZK8RUN"),
        ("phase", "applying"),
    ];
    let cases = [
        ("namespace", vec![("path", "runner")], json!({"sub": format!("{}/runner", workspace(1)), "aud": AUDIENCE})),
        (
            "rwx",
            vec![("org", "my-org"), ("vault", "deploy-vault"), ("run_id", "c9d0"), ("run_url", "https://ci.example/runs/c9d0")],
            json!({
                "sub": "org:my-org:vault:deploy-vault",
                "aud": AUDIENCE,
                "run_id": "c9d0",
                "run_url": "https://ci.example/runs/c9d0",
            }),
        ),
        (
            "spacelift",
            tracked.to_vec(),
            json!({
                "sub": "space:production-01:stack:infra:run_type:TRACKED:scope:write",
                "aud": host,
                "spaceId": "production-01",
                "spacePath": "/root/production-01",
                "callerType": "stack",
                "callerId": "infra",
                "runType": "TRACKED",
                "runId": "01JB6Q3ZK8RUN",
                "scope": "write",
            }),
        ),
        (
            "meshstack-runner",
            vec![("meshstack_id", "my-meshstack"), ("runner_id", "runner-7f6a")],
            json!({"sub": "system:serviceaccount:my-meshstack:runner-7f6a", "aud": AUDIENCE}),
        ),
        (
            "meshstack-run",
            vec![("meshstack_id", "my-meshstack"), ("workspace_identifier", "my-workspace"), ("bbd_uuid", uuid)],
            json!({
                "sub": format!("system:serviceaccount:my-meshstack:workspace.my-workspace.buildingblockdefinition.{uuid}"),
                "aud": AUDIENCE,
            }),
        ),
        (
            "kubernetes",
            vec![("namespace", "deploy"), ("service_account", "runner"), ("pod", "runner-0"), ("pod_uid", uuid)],
            json!({
                "sub": "system:serviceaccount:deploy:runner",
                "aud": [AUDIENCE],
                "kubernetes.io": {
                    "namespace": "deploy",
                    "serviceaccount": {"name": "runner"},
                    "pod": {"name": "runner-0", "uid": uuid},
                },
            }),
        ),
    ];
    let tested: Vec<_> = cases.iter().map(|(profile, ..)| *profile).collect();
    assert_eq!(tested, Profile::built_in().map(|profile| profile.name().to_owned()).collect::<Vec<_>>());
    for (profile, attributes, expected) in cases {
        let issuer = issuer(&service, profile).await;
        let fixed = profile == "spacelift";
        let audiences = if fixed { vec![] } else { vec![AUDIENCE.to_owned()] };
        let request = wire::IssueIdTokenRequest { audiences, ..run(&issuer, &attributes) };
        let audience = if fixed { host } else { AUDIENCE };
        assert_eq!(claims(&service, &issuer, request, audience).await, expected, "{profile}");
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tracked_run_reads_while_it_plans_and_writes_while_it_applies() {
    let service = Ground::sqlite().start().await;
    let issuer = issuer(&service, "spacelift").await;
    let subject = |more: &[(&'static str, &'static str)]| {
        let mut attributes = vec![("space_id", "s"), ("caller_type", "stack"), ("caller_id", "infra"), ("run_id", "r")];
        attributes.extend(more);
        let request = run(&issuer, &attributes);
        let service = &service;
        async move { service.issue(request).await.map(|answer| answer.subject) }
    };
    for (more, scope) in [
        (vec![("run_type", "TRACKED"), ("phase", "planning")], "TRACKED:scope:read"),
        (vec![("run_type", "TRACKED"), ("phase", "applying")], "TRACKED:scope:write"),
        (vec![("run_type", "TRACKED"), ("phase", "planning"), ("autodeploy", "true")], "TRACKED:scope:write"),
        (vec![("run_type", "PROPOSED"), ("phase", "applying"), ("autodeploy", "true")], "PROPOSED:scope:read"),
        (vec![("run_type", "TASK")], "TASK:scope:write"),
    ] {
        assert_eq!(subject(&more).await.unwrap(), format!("space:s:stack:infra:run_type:{scope}"), "{more:?}");
    }
    let refused = subject(&[("run_type", "TRACKED"), ("scope", "write")]).await.unwrap_err();
    assert_refused(&refused, Code::InvalidArgument, Reason::InvalidRequest);
    assert_eq!(violated_fields(&refused), ["attributes[scope]"], "no caller says its own scope");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_limits_its_issuers() {
    let service = Ground::sqlite().start().await;
    let draft = wire::Issuer {
        profile: "spacelift".to_owned(),
        allowed_audiences: vec!["other".to_owned()],
        max_token_duration: Some(prost_types::Duration { seconds: 3601, nanos: 0 }),
        ..rwx(&workspace(1))
    };
    let longer = service.create(draft.clone()).await.unwrap_err();
    assert_eq!(violated_fields(&longer), ["issuer.max_token_duration"]);
    let chosen = service.create(wire::Issuer { max_token_duration: None, ..draft }).await.unwrap_err();
    assert_eq!(violated_fields(&chosen), ["issuer.allowed_audiences"]);

    let issuer = issuer(&service, "spacelift").await;
    let proposed = [("space_id", "s"), ("caller_type", "module"), ("caller_id", "m"), ("run_id", "r"), ("run_type", "TESTING")];
    let request = wire::IssueIdTokenRequest { audiences: vec![AUDIENCE.to_owned()], ..run(&issuer, &proposed) };
    assert_eq!(violated_fields(&service.issue(request).await.unwrap_err()), ["audiences"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_names_the_form_of_its_subject() {
    let service = Ground::sqlite().start().await;
    let issuer = issuer(&service, "meshstack-run").await;
    let request = |form: &str| wire::IssueIdTokenRequest {
        subject_form: form.to_owned(),
        audiences: vec![AUDIENCE.to_owned()],
        ..run(&issuer, &[("meshstack_id", "m"), ("runner_id", "r")])
    };
    assert_eq!(service.issue(request("runner")).await.unwrap().subject, "system:serviceaccount:m:r");
    let missing = ["attributes[bbd_uuid]", "attributes[workspace_identifier]"];
    assert_eq!(violated_fields(&service.issue(request("")).await.unwrap_err()), missing);
    assert_eq!(violated_fields(&service.issue(request("pod")).await.unwrap_err()), ["subject_form"]);
}
