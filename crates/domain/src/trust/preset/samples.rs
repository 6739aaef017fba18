//! Every preset holds true of its own samples.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::exchange::claims::Claims;
use crate::trust::trusted_issuer::TrustedIssuerSettings;

/// What is wrong with a value that a claim has, if anything.
fn has_kind(kind: ClaimKind, value: &Value) -> bool {
    match kind {
        ClaimKind::Text => value.is_string(),
        ClaimKind::Integer => value.is_i64() || value.is_u64(),
        ClaimKind::Boolean => value.is_boolean(),
        ClaimKind::List => value.is_array(),
        ClaimKind::Object => value.is_object(),
    }
}

#[test]
fn every_file_is_a_preset() {
    for source in file::SOURCES {
        file::read(source).unwrap_or_else(|error| panic!("{error:?} in\n{}", source.lines().next().unwrap_or_default()));
    }
    let ids: BTreeSet<_> = Preset::all().iter().map(|preset| preset.id.as_str()).collect();
    assert_eq!(ids.len(), file::SOURCES.len(), "ids are unique");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/presets");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(files.collect::<BTreeSet<_>>(), ids.iter().map(|id| format!("{id}.toml")).collect(), "each file is used");
}

#[test]
fn samples_fit_their_preset() {
    for preset in Preset::all() {
        let mut seen = BTreeSet::new();
        for (at, sample) in preset.samples.iter().enumerate() {
            let what = format!("{}, sample {at}", preset.id);
            let claims = Claims::from_members(sample.clone()).unwrap_or_else(|error| panic!("{what}: {error}"));
            let issuer: IssuerUrl = claims.issuer.parse().unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(preset.issuer.fits(&issuer), "{what}: {issuer}");
            let (form, values) = preset.form_of(claims.subject.as_str()).unwrap_or_else(|| panic!("{what}: {}", claims.subject));
            seen.insert(form.id.clone());
            assert_eq!(values.iter().map(|value| value.0).collect::<Vec<_>>(), names(&form.parts), "{what}");
            match preset.token_ids {
                TokenIds::Always => assert!(claims.token_id.is_some(), "{what}"),
                TokenIds::Never => assert!(claims.token_id.is_none(), "{what}"),
                TokenIds::Sometimes => {}
            }
            let lifetime = claims.expires_at.duration_since(claims.issued_at).unsigned_abs();
            assert!(lifetime <= preset.max_token_lifetime, "{what}: {lifetime:?}");
            for spec in &preset.claims {
                if let Some(value) = spec.claim.find(sample).filter(|value| !value.is_null()) {
                    assert!(has_kind(spec.kind, value), "{what}: {} is {value}", spec.claim);
                }
            }
            let registered = ["iss", "sub", "aud", "exp", "iat", "nbf", "jti"];
            let described: BTreeSet<_> = preset.claims.iter().map(|spec| spec.claim.top_level()).collect();
            for name in sample.keys().filter(|name| !registered.contains(&name.as_str())) {
                assert!(described.contains(name), "{what}: {name} is not described");
            }
        }
        let forms: BTreeSet<_> = preset.forms.iter().map(|form| form.id.as_str()).collect();
        let leaving = preset.forms.iter().filter(|form| form.leaving.is_some() && !form.id.contains('_'));
        for form in leaving.chain(preset.forms.first()) {
            assert!(seen.contains(&form.id), "{}: no sample of {}, of {forms:?}", preset.id, form.id);
        }
        let mentioned = |claim: &ClaimPath| preset.samples.iter().any(|sample| claim.find(sample).is_some());
        let rare = ["enterprise", "enterprise_id"].map(|name| ClaimPath::of_top_level(name).unwrap());
        for claim in preset.tenant_claims.iter().map(|tenant| &tenant.claim).filter(|claim| !rare.contains(claim)) {
            assert!(mentioned(claim), "{}: no sample has the tenant claim {claim}", preset.id);
        }
    }
}

#[test]
fn presets_agree_with_what_can_be_set() {
    for preset in Preset::all() {
        assert!(preset.max_token_lifetime <= TrustedIssuerSettings::MAX_TOKEN_LIFETIME_LIMIT, "{}", preset.id);
        let says_whose = preset.forms.iter().all(|form| form.parts.iter().any(|part| part.tenant));
        assert!(!preset.shared || says_whose || !preset.tenant_claims.is_empty(), "{}", preset.id);
        assert!(!preset.shared || !preset.issuer.templates.is_empty(), "{}: a shared issuer has a URL", preset.id);
        let parts = preset.forms.iter().flat_map(|form| &form.parts);
        for part in parts.chain(preset.issuer.templates.iter().flat_map(|template| &template.parts)) {
            assert!(part.description.ends_with('.'), "{}: {}", preset.id, part.name);
        }
    }
}

#[test]
fn no_url_is_that_of_two_presets() {
    for preset in Preset::all() {
        for sample in &preset.samples {
            let issuer: IssuerUrl = sample["iss"].as_str().unwrap().parse().unwrap();
            let recognised: Vec<_> = Preset::all().iter().filter(|other| other.issuer.recognises(&issuer)).collect();
            match recognised[..] {
                [] => assert!(preset.issuer.anywhere, "{}: {issuer}", preset.id),
                [only] => assert_eq!(only.id, preset.id, "{issuer}"),
                _ => panic!("{issuer} is of several"),
            }
        }
    }
}

fn names(parts: &[SubjectPart]) -> Vec<&str> {
    parts.iter().map(|part| part.name.as_str()).collect()
}
