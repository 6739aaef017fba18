//! Conversions of `countersign.issuer.v1`.
//!
//! Issuers come in as drafts, which the domain checks, and go out whole.

mod profile;

use countersign_domain::issuing::id_token::{Holder, IdTokenWish};
use countersign_domain::issuing::issuer::{FormerSubjects, Issuer, IssuerDraft, KeyCustody};
use countersign_domain::issuing::profile::SubjectChange;
use countersign_domain::issuing::signing_key::{KeyWait, Outlook, SigningKeyRecord, SigningKeyState};
use countersign_domain::values::draft::{Given, Unreadable};
use countersign_domain::values::etag::Etag;
use countersign_domain::values::id::IssuerId;
use countersign_domain::values::time::Timestamp;

use crate::common::{duration, given_duration, text, texts, timestamp};
use crate::issuer_v1 as wire;

impl From<&Issuer> for wire::Issuer {
    fn from(issuer: &Issuer) -> Self {
        let settings = &issuer.settings;
        Self {
            id: issuer.id.to_string(),
            workspace_id: issuer.workspace_id.to_string(),
            display_name: text(settings.display_name.as_ref()),
            issuer_url: issuer.issuer_url.to_string(),
            profile: issuer.profile.to_string(),
            algorithms: texts(&settings.algorithms),
            allowed_audiences: texts(&settings.allowed_audiences),
            default_token_duration: Some(duration(settings.default_token_duration)),
            max_token_duration: Some(duration(settings.max_token_duration)),
            rotation_period: Some(duration(settings.rotation.period())),
            etag: Etag::of(&issuer.id, issuer.revision).to_string(),
            create_time: Some(timestamp(issuer.created_at)),
            update_time: Some(timestamp(issuer.updated_at)),
            profile_definition: issuer.profile.is_custom().then(|| issuer.profile.definition().clone().into()),
            subject_templates: issuer.profile.subject_templates().collect(),
            former_subject_forms: issuer.former_subjects.iter().map(Into::into).collect(),
            key_custody: wire::KeyCustody::from(settings.key_custody).into(),
        }
    }
}

impl From<&FormerSubjects> for wire::FormerSubjectForms {
    fn from(former: &FormerSubjects) -> Self {
        Self { templates: former.templates.clone(), replace_time: Some(timestamp(former.replaced_at)) }
    }
}

impl From<wire::SubjectChange> for SubjectChange {
    fn from(change: wire::SubjectChange) -> Self {
        let wire::SubjectChange { from, to } = change;
        Self { from, to }
    }
}

// Id, owner and URL are read where they are needed: they are no settings.
impl From<wire::Issuer> for IssuerDraft {
    fn from(issuer: wire::Issuer) -> Self {
        Self {
            default_token_duration: given_duration(issuer.default_token_duration.as_ref()),
            max_token_duration: given_duration(issuer.max_token_duration.as_ref()),
            profile: issuer.profile,
            profile_definition: issuer.profile_definition.map(Into::into),
            rotation_period: given_duration(issuer.rotation_period.as_ref()),
            key_custody: read_key_custody(issuer.key_custody),
            display_name: issuer.display_name,
            algorithms: issuer.algorithms,
            allowed_audiences: issuer.allowed_audiences,
        }
    }
}

impl From<KeyCustody> for wire::KeyCustody {
    fn from(custody: KeyCustody) -> Self {
        match custody {
            KeyCustody::Sealed => Self::Sealed,
            KeyCustody::Device => Self::Device,
        }
    }
}

fn read_key_custody(custody: i32) -> Given<KeyCustody> {
    match wire::KeyCustody::try_from(custody) {
        Ok(wire::KeyCustody::Unspecified) => None,
        Ok(wire::KeyCustody::Sealed) => Some(Ok(KeyCustody::Sealed)),
        Ok(wire::KeyCustody::Device) => Some(Ok(KeyCustody::Device)),
        Err(_) => Some(Err(Unreadable("must be a value of KeyCustody"))),
    }
}

// Workspace and issuer are read where they are needed: they decide who signs.
impl From<wire::IssueIdTokenRequest> for IdTokenWish {
    fn from(request: wire::IssueIdTokenRequest) -> Self {
        Self {
            holder: Holder::Run { attributes: request.attributes.into_iter().collect(), subject_form: request.subject_form },
            audiences: request.audiences,
            duration: given_duration(request.duration.as_ref()),
            algorithm: request.algorithm,
        }
    }
}

/// What is asked for the caller himself, whose access token has this subject.
pub fn own_id_token_wish(request: wire::IssueOwnIdTokenRequest, subject: &str) -> IdTokenWish {
    IdTokenWish {
        holder: Holder::Caller { subject: subject.to_owned() },
        audiences: request.audiences,
        duration: given_duration(request.duration.as_ref()),
        algorithm: request.algorithm,
    }
}

/// A signing key as of `now`: its state follows from its record and the time.
/// `custody` is unknown of a key of which nothing is left.
pub fn signing_key(
    issuer_id: &IssuerId,
    record: &SigningKeyRecord,
    custody: Option<KeyCustody>,
    outlook: Option<Outlook>,
    now: Timestamp,
) -> wire::SigningKey {
    let SigningKeyRecord { key_id, algorithm, generation: _, created_at, activate_at, awaits_export, retirement, revoked_at } =
        record;
    wire::SigningKey {
        key_id: key_id.to_string(),
        issuer_id: issuer_id.to_string(),
        algorithm: algorithm.to_string(),
        state: wire::SigningKeyState::from(record.state(now)).into(),
        create_time: Some(timestamp(*created_at)),
        activate_time: (!awaits_export).then(|| timestamp(*activate_at)),
        retire_time: retirement.map(|end| timestamp(end.sign_until)),
        withdraw_time: retirement.map(|end| timestamp(end.publish_until)),
        revoke_time: revoked_at.map(timestamp),
        key_custody: custody.map_or(wire::KeyCustody::Unspecified, Into::into).into(),
        next_change_time: outlook.and_then(|outlook| outlook.until).map(timestamp),
        wait: outlook.map(|outlook| wire::SigningKeyWait::from(outlook.wait)).unwrap_or_default().into(),
    }
}

impl From<KeyWait> for wire::SigningKeyWait {
    fn from(wait: KeyWait) -> Self {
        match wait {
            KeyWait::Export => Self::Export,
            KeyWait::KeySetCopies => Self::KeySetCopies,
            KeyWait::RotationPeriod => Self::RotationPeriod,
            KeyWait::RotationRequest => Self::RotationRequest,
            KeyWait::IssuedTokens => Self::IssuedTokens,
        }
    }
}

impl From<SigningKeyState> for wire::SigningKeyState {
    fn from(state: SigningKeyState) -> Self {
        match state {
            SigningKeyState::Prepared => Self::Prepared,
            SigningKeyState::Active => Self::Active,
            SigningKeyState::Retiring => Self::Retiring,
            SigningKeyState::Retired => Self::Retired,
            SigningKeyState::Revoked => Self::Revoked,
        }
    }
}

#[cfg(test)]
mod tests {
    use countersign_domain::issuing::issuer::IssuerSettings;
    use countersign_domain::issuing::signing_key::Retirement;
    use countersign_domain::values::id::WorkspaceId;
    use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
    use countersign_domain::values::violation::Violations;

    use super::*;

    fn issuer() -> Issuer {
        let mut violations = Violations::new();
        let draft = IssuerDraft {
            display_name: "vaults".to_owned(),
            algorithms: ["ES256", "RS256"].map(str::to_owned).to_vec(),
            allowed_audiences: vec!["sts.amazonaws.com".to_owned()],
            rotation_period: Some(Ok(std::time::Duration::ZERO)),
            ..IssuerDraft::default()
        };
        Issuer {
            id: IssuerId::from_random([1; 16]),
            workspace_id: WorkspaceId::from_random([2; 16]),
            issuer_url: "https://id.example.com/rwx".parse().unwrap(),
            profile: "rwx".parse().unwrap(),
            former_subjects: vec![FormerSubjects {
                templates: vec!["{org}/{vault}".to_owned()],
                replaced_at: Timestamp::from_second(1_790_000_001).unwrap(),
            }],
            settings: IssuerSettings::create(&draft, "rwx".parse().ok().as_ref(), &mut violations).unwrap(),
            revision: 3,
            created_at: Timestamp::from_second(1_790_000_000).unwrap(),
            updated_at: Timestamp::from_second(1_790_000_001).unwrap(),
            published_until: None,
        }
    }

    #[test]
    fn what_goes_out_comes_back_as_the_same_settings() {
        let issuer = issuer();
        let wire = wire::Issuer::from(&issuer);
        assert_eq!(wire.profile, "rwx");
        assert_eq!(wire.algorithms, ["ES256", "RS256"]);
        assert_eq!(wire.subject_templates, ["org:{org}:vault:{vault}"]);
        assert_eq!(wire.former_subject_forms[0].templates, ["{org}/{vault}"]);
        assert_eq!(wire.former_subject_forms[0].replace_time, wire.update_time);
        assert_ne!(wire.etag, wire::Issuer::from(&Issuer { revision: 4, ..issuer.clone() }).etag);
        let mut violations = Violations::new();
        assert_eq!(
            IssuerSettings::create(&IssuerDraft::from(wire), Some(&issuer.profile), &mut violations),
            Some(issuer.settings)
        );
    }

    #[test]
    fn an_unreadable_duration_is_a_violation_and_not_a_default() {
        let mut wire = wire::Issuer::from(&issuer());
        wire.max_token_duration = Some(prost_types::Duration { seconds: -1, nanos: 0 });
        let mut violations = Violations::new();
        assert_eq!(IssuerSettings::create(&IssuerDraft::from(wire), Some(&issuer().profile), &mut violations), None);
        assert_eq!(violations.iter().next().unwrap().field, "issuer.max_token_duration");
    }

    #[test]
    fn a_key_says_where_it_is_in_its_life_and_what_it_waits_for() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let record = SigningKeyRecord {
            key_id: "k".parse().unwrap(),
            algorithm: SignatureAlgorithm::EdDsa,
            generation: 2,
            created_at: at(100),
            activate_at: at(200),
            awaits_export: false,
            retirement: None,
            revoked_at: None,
        };
        let outlook = Some(Outlook { wait: KeyWait::KeySetCopies, until: Some(at(200)) });
        let prepared = signing_key(&issuer().id, &record, Some(KeyCustody::Device), outlook, at(199));
        assert_eq!((prepared.state(), prepared.wait()), (wire::SigningKeyState::Prepared, wire::SigningKeyWait::KeySetCopies));
        assert_eq!(prepared.key_custody(), wire::KeyCustody::Device);
        assert_eq!(prepared.next_change_time, Some(timestamp(at(200))));
        assert_eq!((prepared.retire_time, prepared.withdraw_time, prepared.revoke_time), (None, None, None));
        assert_eq!(signing_key(&issuer().id, &record, None, outlook, at(200)).state(), wire::SigningKeyState::Active);

        let retirement = Some(Retirement { sign_until: at(300), publish_until: at(400) });
        let revoked = SigningKeyRecord { retirement, revoked_at: Some(at(350)), ..record };
        let revoked = signing_key(&issuer().id, &revoked, None, None, at(300));
        assert_eq!((revoked.state(), revoked.wait()), (wire::SigningKeyState::Revoked, wire::SigningKeyWait::Unspecified));
        let times = (revoked.retire_time, revoked.withdraw_time, revoked.revoke_time);
        assert_eq!(times, (Some(timestamp(at(300))), Some(timestamp(at(400))), Some(timestamp(at(350)))));
    }
}
