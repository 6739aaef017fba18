use super::*;
use crate::values::draft::Unreadable;

fn draft() -> TrustedIssuerDraft {
    TrustedIssuerDraft { issuer_url: "https://cloud.rwx.com/mint".to_owned(), ..TrustedIssuerDraft::default() }
}

fn created(draft: &TrustedIssuerDraft) -> Result<TrustedIssuerSettings, Violations> {
    let mut violations = Violations::new();
    let settings = TrustedIssuerSettings::create(draft, LoopbackHttp::Refused, &mut violations);
    assert_eq!(settings.is_none(), !violations.is_empty());
    settings.ok_or(violations)
}

fn fields(violations: &Violations) -> Vec<&str> {
    violations.iter().map(|violation| violation.field.as_str()).collect()
}

#[test]
fn what_is_left_out_has_the_documented_defaults() {
    use SignatureAlgorithm::{EdDsa, Es256, Es384, Rs256};
    let settings = created(&draft()).unwrap();
    assert_eq!(settings.algorithms, [Rs256, Es256, Es384, EdDsa].into());
    assert_eq!(settings.token_types, [None, Some(TokenType::new("JWT"))].into());
    assert_eq!(settings.max_token_lifetime, Duration::from_hours(1));
    assert_eq!(settings.clock_skew, Duration::from_secs(30));
    assert_eq!(settings.replay_policy, ReplayPolicy::SingleUse);
    assert!(settings.enabled);
}

#[test]
fn every_violation_is_reported_at_once() {
    let violations = created(&TrustedIssuerDraft {
        display_name: "a\nb".to_owned(),
        preset: "A preset".to_owned(),
        issuer_url: "http://localhost:7401".to_owned(),
        jwks_url: "ftp://example.com".to_owned(),
        jwks: "x".repeat(UploadedKeySet::MAX_BYTES + 1),
        jwks_expire_time: Some(Err(Unreadable("must be a timestamp"))),
        ca_certificates: "x".repeat(AuthoritiesPem::MAX_BYTES + 1),
        max_stale_age: Some(Ok(Duration::from_secs(86_401))),
        subject_audiences: vec!["a".to_owned(), String::new(), "a".to_owned()],
        algorithms: vec!["RS256".to_owned(), "none".to_owned(), "rs256".to_owned()],
        token_types: vec!["J WT".to_owned()],
        max_token_lifetime: Some(Ok(Duration::from_secs(90_001))),
        clock_skew: Some(Err(Unreadable("must be a duration"))),
        replay_policy: Some(Err(Unreadable("must be a policy"))),
        enabled: false,
    })
    .unwrap_err();
    assert_eq!(
        fields(&violations),
        [
            "trusted_issuer.display_name",
            "trusted_issuer.preset",
            "trusted_issuer.issuer_url",
            "trusted_issuer.jwks_url",
            "trusted_issuer.jwks",
            "trusted_issuer.jwks_expire_time",
            "trusted_issuer.ca_certificates",
            "trusted_issuer.max_stale_age",
            "trusted_issuer.subject_audiences[1]",
            "trusted_issuer.subject_audiences[2]",
            "trusted_issuer.algorithms[1]",
            "trusted_issuer.algorithms[2]",
            "trusted_issuer.token_types[0]",
            "trusted_issuer.max_token_lifetime",
            "trusted_issuer.clock_skew",
            "trusted_issuer.replay_policy",
        ]
    );
}

#[test]
fn s13_lifetime_and_skew_keep_within_their_limits() {
    for (seconds, fits) in [(0, false), (1, true), (90_000, true), (90_001, false)] {
        let draft = TrustedIssuerDraft { max_token_lifetime: Some(Ok(Duration::from_secs(seconds))), ..draft() };
        assert_eq!(created(&draft).is_ok(), fits, "lifetime {seconds}");
    }
    for (skew, fits) in [(0, true), (60_000, true), (60_001, false), (61_000, false), (1_500, false)] {
        let draft = TrustedIssuerDraft { clock_skew: Some(Ok(Duration::from_millis(skew))), ..draft() };
        assert_eq!(created(&draft).is_ok(), fits, "skew {skew} ms");
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn uploaded() -> TrustedIssuerDraft {
    TrustedIssuerDraft { jwks: r#"{"keys":[]}"#.to_owned(), jwks_expire_time: Some(Ok(at(7))), ..draft() }
}

#[test]
fn keys_are_fetched_or_uploaded_and_never_both() {
    let source = |draft: &TrustedIssuerDraft| created(draft).map(|settings| settings.key_source);
    assert_eq!(source(&draft()), Ok(KeySource::default()));
    let key_set: UploadedKeySet = r#"{"keys":[]}"#.parse().unwrap();
    assert_eq!(source(&uploaded()), Ok(KeySource::Uploaded { key_set, not_after: at(7) }));

    let endless = TrustedIssuerDraft { jwks_expire_time: None, ..uploaded() };
    assert_eq!(fields(&source(&endless).unwrap_err()), ["trusted_issuer.jwks_expire_time"]);
    let nothing_ends = TrustedIssuerDraft { jwks: String::new(), ..uploaded() };
    assert_eq!(fields(&source(&nothing_ends).unwrap_err()), ["trusted_issuer.jwks_expire_time"]);
    let both = TrustedIssuerDraft {
        jwks_url: "https://keys.example".to_owned(),
        ca_certificates: "pem".to_owned(),
        max_stale_age: Some(Ok(Duration::from_mins(1))),
        ..uploaded()
    };
    let expected = ["trusted_issuer.jwks_url", "trusted_issuer.ca_certificates", "trusted_issuer.max_stale_age"];
    assert_eq!(fields(&source(&both).unwrap_err()), expected);
}

#[test]
fn s45_the_stale_age_keeps_within_a_day() {
    for (seconds, fits) in [(0, true), (86_400, true), (86_401, false)] {
        let draft = TrustedIssuerDraft { max_stale_age: Some(Ok(Duration::from_secs(seconds))), ..draft() };
        assert_eq!(created(&draft).is_ok(), fits, "{seconds}");
    }
}

#[test]
fn an_update_moves_between_the_sources_of_keys() {
    let update = |settings: TrustedIssuerSettings, draft: &TrustedIssuerDraft, mask: &[&str]| {
        let mask: Vec<String> = mask.iter().map(|path| (*path).to_owned()).collect();
        let mut violations = Violations::new();
        let updated = settings.update(draft, &mask, LoopbackHttp::Refused, &mut violations);
        violations.into_result(updated)
    };
    let pinned = TrustedIssuerDraft {
        jwks_url: "https://keys.example".to_owned(),
        max_stale_age: Some(Ok(Duration::from_mins(1))),
        ..draft()
    };
    let pinned = created(&pinned).unwrap();
    let upload = ["jwks", "jwks_expire_time"];
    // The URL stands in the way until it is cleared, so that nobody loses it unawares.
    assert_eq!(fields(&update(pinned.clone(), &uploaded(), &upload).unwrap_err()), ["trusted_issuer.jwks_url"]);
    let mask = [&upload[..], &["jwks_url"]].concat();
    let now_uploaded = update(pinned.clone(), &uploaded(), &mask).unwrap();
    assert_eq!(now_uploaded.key_source, created(&uploaded()).unwrap().key_source);
    // Keys alone, or their end alone, can be renewed.
    let renewed = TrustedIssuerDraft { jwks_expire_time: Some(Ok(at(9))), ..TrustedIssuerDraft::default() };
    let renewed = update(now_uploaded.clone(), &renewed, &["jwks_expire_time"]).unwrap();
    assert!(matches!(renewed.key_source, KeySource::Uploaded { not_after, .. } if not_after == at(9)));
    let back = update(now_uploaded, &draft(), &upload).unwrap();
    assert_eq!(back.key_source, KeySource::default());
    // A field that is not named stays as it is.
    let stale = TrustedIssuerDraft { max_stale_age: None, ..draft() };
    let source = update(pinned, &stale, &["ca_certificates"]).unwrap().key_source;
    let jwks_url = Some("https://keys.example".parse().unwrap());
    assert_eq!(source, KeySource::Fetched { jwks_url, authorities: None, max_stale_age: Duration::from_mins(1) });
}

#[test]
fn s03_only_asymmetric_algorithms_can_be_allowed() {
    for algorithm in ["none", "HS256", "rs256", "RS256 ", ""] {
        let draft = TrustedIssuerDraft { algorithms: vec![algorithm.to_owned()], ..draft() };
        assert!(created(&draft).is_err(), "{algorithm}");
    }
}

#[test]
fn an_update_changes_only_what_the_mask_names_and_never_the_url() {
    let before = created(&draft()).unwrap();
    let draft = TrustedIssuerDraft {
        issuer_url: "https://elsewhere.example".to_owned(),
        clock_skew: Some(Ok(Duration::from_secs(10))),
        max_token_lifetime: Some(Err(Unreadable("not named by the mask, so never read"))),
        ..TrustedIssuerDraft::default()
    };
    let mut violations = Violations::new();
    let mask = ["clock_skew", "enabled"].map(str::to_owned);
    let after = before.clone().update(&draft, &mask, LoopbackHttp::Refused, &mut violations);
    assert!(violations.is_empty());
    assert_eq!(after, TrustedIssuerSettings { clock_skew: Duration::from_secs(10), enabled: false, ..before.clone() });

    let mask = ["issuer_url", "workspace_id", "nonsense"].map(str::to_owned);
    let after = before.clone().update(&draft, &mask, LoopbackHttp::Refused, &mut violations);
    assert_eq!(after, before);
    assert_eq!(fields(&violations), ["update_mask.paths[0]", "update_mask.paths[1]", "update_mask.paths[2]"]);
}

#[test]
fn s19_without_its_own_audiences_an_issuer_accepts_the_deployments() {
    let deployment: Audience = "https://gateway.example".parse().unwrap();
    let mut settings = created(&draft()).unwrap();
    assert_eq!(settings.accepted_audiences(&deployment), std::slice::from_ref(&deployment));
    settings.subject_audiences = vec!["other".parse().unwrap()];
    assert_eq!(settings.accepted_audiences(&deployment), ["other".parse::<Audience>().unwrap()]);
}

#[test]
fn a_preset_is_one_that_there_is_and_whose_issuers_have_such_a_url() {
    let of = |issuer_url: &str, preset: &str| {
        created(&TrustedIssuerDraft { issuer_url: issuer_url.to_owned(), preset: preset.to_owned(), ..draft() })
    };
    for (issuer_url, preset) in [
        ("https://cloud.rwx.com/mint", "rwx"),
        ("https://kubernetes.default.svc.cluster.local", "kubernetes"),
        ("https://gitlab.example", "gitlab"),
        ("https://acme.app.spacelift.io", "spacelift"),
    ] {
        assert_eq!(of(issuer_url, preset).unwrap().preset, Some(preset.parse().unwrap()));
    }
    for (issuer_url, preset) in [
        ("https://cloud.rwx.com/mint", "rxw"),
        ("https://cloud.rwx.com/mint", "RWX"),
        ("https://cloud.rwx.com/mint/", "rwx"),
        ("https://rwx.example/mint", "rwx"),
        ("https://accounts.google.com.evil.example", "google"),
    ] {
        assert_eq!(fields(&of(issuer_url, preset).unwrap_err()), ["trusted_issuer.preset"], "{issuer_url}: {preset}");
    }
    let settings = created(&draft()).unwrap();
    let update = |preset: &str| {
        let mut violations = Violations::new();
        let draft = TrustedIssuerDraft { preset: preset.to_owned(), ..TrustedIssuerDraft::default() };
        let updated = settings.clone().update(&draft, &["preset".to_owned()], LoopbackHttp::Refused, &mut violations);
        violations.into_result(updated.preset)
    };
    assert_eq!(update("rwx"), Ok(Some("rwx".parse().unwrap())));
    assert_eq!(update(""), Ok(None));
    assert_eq!(fields(&update("buildkite").unwrap_err()), ["trusted_issuer.preset"]);
    assert_eq!(fields(&update("nonsense").unwrap_err()), ["trusted_issuer.preset"]);
}

#[test]
fn an_issuer_of_development_can_play_any_preset() {
    let draft = TrustedIssuerDraft { issuer_url: "http://localhost:7401/rwx".to_owned(), preset: "rwx".to_owned(), ..draft() };
    let mut violations = Violations::new();
    let settings = TrustedIssuerSettings::create(&draft, LoopbackHttp::Allowed, &mut violations).unwrap();
    assert_eq!(settings.known_preset().unwrap().id.as_str(), "rwx");
    let unnamed = TrustedIssuerSettings { preset: None, ..settings };
    assert_eq!(unnamed.known_preset(), None, "no URL of development tells a preset");
}

#[test]
fn s03_both_names_of_ed25519_are_one_algorithm() {
    let algorithms = |names: &[&str]| {
        let algorithms = names.iter().map(|name| (*name).to_owned()).collect();
        created(&TrustedIssuerDraft { algorithms, ..draft() }).map(|settings| settings.algorithms)
    };
    for names in [&["EdDSA"][..], &["Ed25519"], &["EdDSA", "Ed25519"], &["Ed25519", "EdDSA"]] {
        assert_eq!(algorithms(names), Ok([SignatureAlgorithm::EdDsa].into()), "{names:?}");
    }
    let all: Vec<_> = SignatureAlgorithm::ALL.map(SignatureAlgorithm::as_str).into_iter().chain(["Ed25519"]).collect();
    assert_eq!(algorithms(&all), Ok(SignatureAlgorithm::ALL.into()));
    assert_eq!(fields(&algorithms(&["EdDSA", "EdDSA"]).unwrap_err()), ["trusted_issuer.algorithms[1]"]);
    for name in ["ed25519", "EDDSA", "Ed448", " Ed25519"] {
        assert_eq!(fields(&algorithms(&[name]).unwrap_err()), ["trusted_issuer.algorithms[0]"], "{name}");
    }
    // What earlier versions stored under the second name is read as the first.
    let stored: BTreeSet<SignatureAlgorithm> = serde_json::from_str(r#"["EdDSA","Ed25519"]"#).unwrap();
    assert_eq!(stored, [SignatureAlgorithm::EdDsa].into());
}

#[test]
fn s08_spellings_of_one_type_are_listed_once() {
    let types = |types: &[&str]| {
        let token_types = types.iter().map(|one| (*one).to_owned()).collect();
        created(&TrustedIssuerDraft { token_types, ..draft() }).map(|settings| settings.token_types)
    };
    let jwt = Some(TokenType::new("JWT"));
    assert_eq!(types(&["application/JWT", "jwt", ""]), Ok([None, jwt].into()));
    assert_eq!(fields(&types(&["JWT", "JWT"]).unwrap_err()), ["trusted_issuer.token_types[1]"]);
    assert_eq!(fields(&types(&["", ""]).unwrap_err()), ["trusted_issuer.token_types[1]"]);
}

#[test]
fn a_preset_states_which_keys_verify_tokens_unless_the_url_tells_otherwise() {
    let uses = |issuer_url: &str, preset: &str| {
        let draft = TrustedIssuerDraft { issuer_url: issuer_url.to_owned(), preset: preset.to_owned(), ..draft() };
        created(&draft).map(|settings| settings.key_uses())
    };
    assert_eq!(uses("https://spire.example", "spiffe"), Ok(KeyUses::SignatureAndJwtSvid));
    for preset in Preset::all().iter().filter(|preset| preset.id.as_str() != "spiffe") {
        assert_eq!(preset.key_uses, KeyUses::Signature, "{}", preset.id);
    }
    assert_eq!(uses("https://spire.example", ""), Ok(KeyUses::Signature));
    assert_eq!(uses("https://cloud.rwx.com/mint", "spiffe"), Ok(KeyUses::Signature));
}

#[test]
fn s69_a_preset_with_which_more_keys_count_is_no_mere_name() {
    let settings = |preset: &str, display_name: &str| {
        let issuer_url = "https://issuer.example".to_owned();
        let (preset, display_name) = (preset.to_owned(), display_name.to_owned());
        created(&TrustedIssuerDraft { display_name, preset, issuer_url, ..draft() }).unwrap()
    };
    let (plain, kubernetes, spiffe) = (settings("", ""), settings("kubernetes", "a"), settings("spiffe", "b"));
    assert!(kubernetes.only_takes_from(&plain) && plain.only_takes_from(&kubernetes));
    assert!(!spiffe.only_takes_from(&plain) && plain.only_takes_from(&spiffe));
    assert!(spiffe.only_takes_from(&settings("spiffe", "c")));
}
