//! What the tokens of each profile say, as a relying party reads them.

use std::collections::HashMap;

use countersign_domain::issuing::profile::{Profile, ProfileDefinition};
use countersign_domain::values::reason::Reason;
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
    let host = "localhost";
    assert!(BASE.starts_with("http://localhost:"), "a port is no part of the host's name");
    let uuid = "4b8c2d1e-7f3a-4960-8e5d-0a9c6b3f1e27";
    let tracked = [
        ("space_id", "production-01"),
        ("space_path", "/all/production-01"),
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
                "spacePath": "/all/production-01",
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

/// Terraform runs of a platform of one's own.
const CUSTOM: &str = r#"
not_before = "back_dated"
back_dating_seconds = 60
max_token_seconds = 900
attributes.team = { required = true, characters = "label" }
attributes.stage = { required = true, allowed_values = ["plan", "apply"] }
attributes.attempt = { kind = "integer", default = "1" }
derived.access = "attribute.stage == 'apply' ? 'write' : 'read'"
subject_forms = [{ id = "run", template = "team:{team}:access:{access}", delimiters = ":" }]
claims.attempt = { attribute = "attempt" }
claims."/run/url" = { template = "{issuer_url}/{team}/{attempt}" }
"#;

fn custom(definition: &str) -> wire::Issuer {
    let definition = ProfileDefinition::from_toml(definition).unwrap();
    wire::Issuer { profile: "custom".to_owned(), profile_definition: Some(definition.into()), ..rwx(&workspace(1)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_can_define_a_profile() {
    for ground in [Ground::sqlite(), Ground::postgres().await] {
        let service = ground.start().await;
        let issuer = service.create(custom(CUSTOM)).await.unwrap();
        assert_eq!(issuer.subject_templates, ["team:{team}:access:{access}"]);
        let request = wire::GetIssuerRequest { workspace_id: issuer.workspace_id.clone(), issuer_id: issuer.id.clone() };
        let read = service.issuers().get_issuer(service.request(request)).await.unwrap().into_inner().issuer.unwrap();
        assert_eq!(read, issuer);

        let request = wire::IssueIdTokenRequest {
            audiences: vec![AUDIENCE.to_owned()],
            ..run(&issuer, &[("team", "core"), ("stage", "apply")])
        };
        let answer = service.issue(request).await.unwrap();
        let key_set = service.key_set(&issuer.issuer_url).await.unwrap();
        let claims = verify(&answer.id_token, &key_set, &issuer.issuer_url, AUDIENCE).claims;
        assert_eq!(claims["sub"], "team:core:access:write");
        assert_eq!(claims["attempt"], 1);
        assert_eq!(claims["run"], json!({"url": format!("{}/core/1", issuer.issuer_url)}));
        let times = ["exp", "nbf"].map(|name| claims[name].as_i64().unwrap() - claims["iat"].as_i64().unwrap());
        assert_eq!(times, [900, -60], "no longer than the profile allows");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s54_a_profile_that_could_name_two_runs_alike_is_refused_with_all_that_is_wrong() {
    let service = Ground::sqlite().start().await;
    let definition = CUSTOM
        .replace("team:{team}:access:{access}", "team:{team}-{access}")
        .replace("claims.attempt", "claims.sub")
        .replace("kind = \"integer\"", "kind = \"number\"");
    let draft = wire::Issuer { algorithms: vec!["none".to_owned()], ..custom(&definition) };
    let refused = service.create(draft).await.unwrap_err();
    assert_refused(&refused, Code::InvalidArgument, Reason::InvalidRequest);
    assert_eq!(
        violated_fields(&refused),
        [
            "issuer.algorithms[0]",
            "issuer.profile_definition.attributes[attempt].kind",
            "issuer.profile_definition.claims[sub]",
            "issuer.profile_definition.subject_forms[0].template",
        ]
    );
    let nothing = wire::Issuer { profile_definition: None, ..custom(CUSTOM) };
    assert_eq!(violated_fields(&service.create(nothing).await.unwrap_err()), ["issuer.profile_definition"]);
    let empty_claim = {
        let mut issuer = custom(CUSTOM);
        let definition = issuer.profile_definition.as_mut().unwrap();
        definition.claims.insert("empty".to_owned(), wire::ProfileClaim { source: None });
        issuer
    };
    assert_eq!(violated_fields(&service.create(empty_claim).await.unwrap_err()), ["issuer.profile_definition.claims[empty]"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn s54_subjects_change_only_by_name_and_the_former_are_recorded() {
    for ground in [Ground::sqlite(), Ground::postgres().await] {
        let service = ground.start().await;
        let before = issuer(&service, "meshstack-runner").await;
        let update = |accept_subject_change: Option<wire::SubjectChange>| {
            let request = service.request(wire::UpdateIssuerRequest {
                issuer: Some(wire::Issuer { profile: "meshstack-run".to_owned(), ..before.clone() }),
                update_mask: Some(prost_types::FieldMask { paths: vec!["profile".to_owned()] }),
                accept_subject_change,
            });
            let mut client = service.issuers();
            async move { client.update_issuer(request).await.map(|answer| answer.into_inner().issuer.unwrap()) }
        };
        let refused = update(None).await.unwrap_err();
        assert_refused(&refused, Code::InvalidArgument, Reason::InvalidRequest);
        assert_eq!(violated_fields(&refused), ["accept_subject_change"]);
        let from = before.subject_templates.clone();
        let half = wire::SubjectChange { from: from.clone(), to: vec![] };
        assert_eq!(violated_fields(&update(Some(half)).await.unwrap_err()), ["accept_subject_change.to"]);

        let run = "system:serviceaccount:{meshstack_id}:workspace.{workspace_identifier}.buildingblockdefinition.{bbd_uuid}";
        let to = vec![run.to_owned(), from[0].clone()];
        let after = update(Some(wire::SubjectChange { from: from.clone(), to: to.clone() })).await.unwrap();
        assert_eq!(after.subject_templates, to);
        assert_eq!(after.former_subject_forms.len(), 1);
        assert_eq!(after.former_subject_forms[0].templates, from);
        assert_eq!(after.former_subject_forms[0].replace_time, after.update_time);

        let request = wire::IssueIdTokenRequest { audiences: vec![AUDIENCE.to_owned()], ..run_of(&after) };
        let subject = service.issue(request).await.unwrap().subject;
        assert!(subject.starts_with("system:serviceaccount:m:workspace.w."), "{subject}");
    }
}

/// A run of meshStack's newer form.
fn run_of(issuer: &wire::Issuer) -> wire::IssueIdTokenRequest {
    let uuid = "4b8c2d1e-7f3a-4960-8e5d-0a9c6b3f1e27";
    run(issuer, &[("meshstack_id", "m"), ("workspace_identifier", "w"), ("bbd_uuid", uuid)])
}
