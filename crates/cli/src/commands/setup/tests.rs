//! Every relying party, with every profile, by subject and by attributes.

use std::collections::BTreeMap;

use countersign_domain::issuing::profile::{ClaimDefinition, Profile, ProfileDefinition};
use countersign_domain::values::id::WorkspaceId;
use countersign_proto::issuer_v1::Issuer;

use super::*;

const URL: &str = "https://id.example.com/a";

/// A run of each profile that comes with the system, its subject, and the audience that its tokens always have.
const RUNS: &[(&str, &[&str], &str, Option<&str>)] = &[
    ("namespace", &["path=runner"], "{workspace_id}/runner", None),
    ("rwx", &["org=my-org", "vault=deploy"], "org:my-org:vault:deploy", None),
    (
        "spacelift",
        &["space_id=infra", "caller_type=stack", "caller_id=vpc", "run_type=PROPOSED", "run_id=r1"],
        "space:infra:stack:vpc:run_type:PROPOSED:scope:read",
        Some("id.example.com"),
    ),
    ("meshstack-runner", &["meshstack_id=m", "runner_id=r"], "system:serviceaccount:m:r", None),
    (
        "meshstack-run",
        &["meshstack_id=m", "workspace_identifier=w", "bbd_uuid=4b8c2d1e-7f3a-4960-8e5d-0a9c6b3f1e27"],
        "system:serviceaccount:m:workspace.w.buildingblockdefinition.4b8c2d1e-7f3a-4960-8e5d-0a9c6b3f1e27",
        None,
    ),
    ("kubernetes", &["namespace=deploy", "service_account=runner"], "system:serviceaccount:deploy:runner", None),
];

/// Each party, and the audience that it expects where the issuer leaves the choice.
const PARTIES: &[(&str, &str)] = &[
    ("aws --account-id 123456789012", "sts.amazonaws.com"),
    (
        "gcp --project-number 1",
        "https://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/countersign/providers/countersign",
    ),
    ("azure --client-id c --azure-tenant-id t", "api://AzureADTokenExchange"),
    ("vault --role r --policy p", "vault"),
    ("kubernetes --cluster-role view", "kubernetes"),
];

fn ours(profile: &str, definition: Option<ProfileDefinition>, allowed_audiences: &[&str]) -> TrustedSide {
    TrustedSide::of(Issuer {
        id: "is_0".to_owned(),
        workspace_id: WorkspaceId::from_random([1; 16]).to_string(),
        issuer_url: URL.to_owned(),
        profile: profile.to_owned(),
        profile_definition: definition.map(Into::into),
        algorithms: vec!["RS256".to_owned()],
        allowed_audiences: allowed_audiences.iter().map(|&audience| audience.to_owned()).collect(),
        ..Issuer::default()
    })
    .unwrap()
}

/// What the command prints, or why it refuses.
fn recipe(party: &str, issuer: &TrustedSide, flags: &[&str]) -> std::result::Result<String, String> {
    use clap::Parser as _;
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: SetupArgs,
    }
    let line = ["setup"].into_iter().chain(party.split(' ')).chain(["--issuer-id", "is_0"]).chain(flags.iter().copied());
    let SetupArgs { wanted, party, .. } = Line::try_parse_from(line).map_err(|error| error.to_string())?.args;
    let prepared = wanted.prepare(&party, issuer).map_err(|failure| failure.to_string())?;
    party.recipe(&prepared.plan, None, prepared.notes).map(|recipe| recipe.text()).map_err(|failure| failure.to_string())
}

/// Whether the set-up asks for this audience, wherever the party has it, and for no other.
fn expects(party: &str, recipe: &str, audience: &str) -> bool {
    let place = match party.split(' ').next().unwrap() {
        "aws" => format!("\"id.example.com/a:aud\": \"{audience}\""),
        "gcp" => format!("--allowed-audiences={audience}"),
        "azure" => format!("\"audiences\": [\n    \"{audience}\"\n  ]"),
        "vault" => format!("\"bound_audiences\": [\n    \"{audience}\"\n  ]"),
        _ => format!("audiences:\n    - {audience}\n"),
    };
    let in_commands = !party.starts_with("aws") || recipe.contains(&format!("--client-id-list {audience}"));
    recipe.contains(&place) && in_commands
}

fn flags<'a>(attributes: &[&'a str]) -> Vec<&'a str> {
    attributes.iter().flat_map(|attribute| ["--attribute", attribute]).collect()
}

#[test]
fn s86_the_audience_of_a_set_up_is_one_that_the_profile_s_tokens_have() {
    assert_eq!(
        RUNS.iter().map(|(profile, ..)| *profile).collect::<Vec<_>>(),
        Profile::built_in().map(|profile| profile.name().to_owned()).collect::<Vec<_>>()
    );
    let workspace_id = WorkspaceId::from_random([1; 16]).to_string();
    for (profile, attributes, subject, fixed) in RUNS {
        let subject = subject.replace("{workspace_id}", &workspace_id);
        for (party, of_party) in PARTIES {
            let expected = fixed.unwrap_or(of_party);
            for by in [flags(attributes), vec!["--subject", &subject]] {
                let with = |more: &[&str], allowed: &[&str]| recipe(party, &ours(profile, None, allowed), &[&by, more].concat());
                let printed = with(&[], &[]).unwrap();
                assert!(expects(party, &printed, expected), "{profile}, {party}, {by:?}: {printed}");
                assert!(printed.contains(&subject) && !printed.contains("WARNING"), "{profile}, {party}, {by:?}: {printed}");
                // Another one is a choice where there is one, and else no token has it.
                let other = with(&["--audience", "other"], &[]);
                match fixed {
                    None => assert!(expects(party, &other.unwrap(), "other"), "{profile}, {party}, {by:?}"),
                    Some(fixed) => {
                        assert!(other.unwrap_err().contains(&format!("must be `{fixed}`")), "{profile}, {party}, {by:?}");
                    }
                }
                if fixed.is_none() {
                    // The issuer allows one other, the party's own among several, or several others.
                    assert!(expects(party, &with(&[], &["one"]).unwrap(), "one"), "{profile}, {party}");
                    assert!(expects(party, &with(&[], &["one", of_party]).unwrap(), of_party), "{profile}, {party}");
                    assert!(with(&[], &["one", "two"]).unwrap_err().contains("one, two"), "{profile}, {party}");
                    assert!(with(&["--audience", "three"], &["one"]).is_err(), "{profile}, {party}");
                }
            }
        }
    }
}

fn custom(change: impl FnOnce(&mut ProfileDefinition)) -> TrustedSide {
    let mut definition = ProfileDefinition::from_toml(
        "attributes.team = { required = true, characters = 'label' }\n\
         subject_forms = [{ id = 'run', template = 'team:{team}', delimiters = ':' }]",
    )
    .unwrap();
    change(&mut definition);
    ours(Profile::CUSTOM, Some(definition), &[])
}

#[test]
fn s86_a_custom_profile_fixes_its_audience_too() {
    for (party, _) in PARTIES {
        let literal = custom(|definition| definition.audience = "fixed".to_owned());
        assert!(expects(party, &recipe(party, &literal, &["--subject", "team:a"]).unwrap(), "fixed"), "{party}");
        let of_issuer = custom(|definition| definition.audience = "{issuer_url}".to_owned());
        assert!(expects(party, &recipe(party, &of_issuer, &["--subject", "team:a"]).unwrap(), URL), "{party}");
        // Made from an attribute, which a subject does not tell.
        let of_run = custom(|definition| definition.audience = "for-{team}".to_owned());
        assert!(expects(party, &recipe(party, &of_run, &["--attribute", "team=a"]).unwrap(), "for-a"), "{party}");
        assert!(recipe(party, &of_run, &["--subject", "team:a"]).unwrap_err().contains("pass --attribute"), "{party}");
    }
}

#[test]
fn s86_aws_allows_session_tags_where_the_profile_has_them() {
    let aws = PARTIES[0].0;
    let plain = recipe(aws, &custom(|_| {}), &["--subject", "team:a"]).unwrap();
    assert!(!plain.contains("\"sts:TagSession\"") && plain.contains("--session-tags"), "{plain}");
    for path in ["/https:~1~1aws.amazon.com~1tags/principal_tags/Team", "https://aws.amazon.com/tags/principal_tags/Team"] {
        let claims = BTreeMap::from([(path.to_owned(), ClaimDefinition::Attribute("team".to_owned()))]);
        let tagged = custom(|definition| definition.claims = claims);
        let printed = recipe(aws, &tagged, &["--subject", "team:a"]).unwrap();
        assert!(printed.contains("\"sts:TagSession\""), "{path}: {printed}");
    }
}

#[test]
fn s86_what_a_party_refuses_is_refused_by_name() {
    let long = format!("team:{}", "a".repeat(700));
    for (party, words) in [(PARTIES[1].0, "127 bytes"), (PARTIES[2].0, "600 characters")] {
        let refused = recipe(party, &custom(|_| {}), &["--subject", &long]).unwrap_err();
        assert!(refused.contains(words), "{refused}");
    }
    assert!(recipe(PARTIES[2].0, &custom(|_| {}), &["--subject", "team:*"]).unwrap_err().contains("exactly"));
    // What no run of the issuer has is said, whoever is to trust it.
    for (party, _) in PARTIES {
        assert!(recipe(party, &custom(|_| {}), &["--subject", "repo:a"]).unwrap().contains("WARNING"), "{party}");
    }
    let elsewhere = TrustedSide::elsewhere(URL).unwrap();
    assert!(
        recipe(PARTIES[3].0, &elsewhere, &["--subject", "a"])
            .unwrap()
            .contains("Not checked: whether the issuer has such subjects")
    );
}
