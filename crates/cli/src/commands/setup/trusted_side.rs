//! Whose tokens are to be trusted: an issuer, and what is known of it where it is one of ours.

use std::collections::BTreeMap;

use countersign_domain::id::WorkspaceId;
use countersign_domain::issuer_url::{IssuerUrl, LoopbackHttp};
use countersign_domain::profile::{Identity, IdentityContext, Profile, ProfileDefinition};
use countersign_domain::subject_match::SubjectMatch;
use countersign_domain::trusted_issuer::SignatureAlgorithm;
use countersign_domain::violation::Violations;
use countersign_proto::issuer_v1::issuer_service_client::IssuerServiceClient;
use countersign_proto::issuer_v1::{GetIssuerRequest, Issuer};

use super::recipe::quoted;
use crate::arguments::Session;
use crate::connection::Service;
use crate::duration::moment_from_wire;
use crate::failure::{Failure, Result};

/// An issuer.
#[derive(Debug)]
pub(super) struct TrustedSide {
    pub(super) url: IssuerUrl,
    /// What it signs with; `None` when that is not known.
    pub(super) algorithms: Option<Vec<SignatureAlgorithm>>,
    ours: Option<Issuer>,
}

/// A run of one of our issuers.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) subject: SubjectMatch,
    /// Where the profile fixes it.
    pub(super) audience: Option<String>,
    attributes: BTreeMap<String, String>,
    subject_form: String,
}

impl TrustedSide {
    /// Anybody's issuer.
    pub(super) fn elsewhere(url: &str) -> Result<Self> {
        Ok(Self { url: read(url)?, algorithms: None, ours: None })
    }

    /// An issuer of the workspace.
    pub(super) async fn ours(session: &Session, issuer_id: String) -> Result<Self> {
        let workspace_id = session.connection.workspace(&session.clock)?;
        let channel = session.connection.authorized(Service::Issuer, &session.clock).await?;
        let request = GetIssuerRequest { workspace_id, issuer_id };
        let issuer = IssuerServiceClient::new(channel).get_issuer(request).await?.into_inner().issuer.unwrap_or_default();
        Self::of(issuer)
    }

    fn of(issuer: Issuer) -> Result<Self> {
        let algorithms = issuer.algorithms.iter().filter_map(|algorithm| algorithm.parse().ok()).collect();
        Ok(Self { url: read(&issuer.issuer_url)?, algorithms: Some(algorithms), ours: Some(issuer) })
    }

    /// The run with these attributes, by the issuer's own profile. `None` where the issuer is not ours.
    ///
    /// # Errors
    /// The profile gives such a run no identity.
    pub(super) fn run(&self, attributes: BTreeMap<String, String>, subject_form: String) -> Result<Option<Run>> {
        let Some(issuer) = &self.ours else { return Ok(None) };
        let mut violations = Violations::new();
        let profile = match issuer.profile_definition.clone().map(ProfileDefinition::from) {
            Some(definition) => Profile::custom(definition, "profile_definition", &mut violations),
            None => violations.check("profile", issuer.profile.parse()),
        };
        let workspace_id: Option<WorkspaceId> = violations.check("workspace_id", issuer.workspace_id.parse());
        let (Some(profile), Some(workspace_id)) = (profile, workspace_id) else {
            return Err(Failure::usage(format!("the issuer's profile cannot be read here: {violations}")));
        };
        let context = IdentityContext { workspace_id: &workspace_id, issuer_url: &self.url };
        let identity = profile.identify(context, &subject_form, &attributes);
        let Identity { subject, audience, .. } = identity.map_err(|violations| Failure::usage(violations.to_string()))?;
        // To a relying party it would be a pattern.
        if subject.as_str().contains('*') {
            return Err(Failure::usage(
                "a run whose subject holds `*` cannot be trusted by it alone: name what is meant with --subject",
            ));
        }
        let subject = subject.as_str().parse().map_err(|error| Failure::usage(format!("the run's subject {error}")))?;
        Ok(Some(Run { subject, audience: audience.map(|audience| audience.to_string()), attributes, subject_form }))
    }

    /// What to know of it, at any relying party.
    pub(super) fn notes(&self, run: Option<&Run>, audience: &str, token_file: &str) -> Vec<String> {
        let mut notes = Vec::new();
        let Some(issuer) = &self.ours else { return notes };
        if let Some(run) = run {
            let mut words =
                vec![format!("countersign auth issue-id-token --issuer-id {} --audience {}", issuer.id, quoted(audience))];
            words
                .extend(run.attributes.iter().map(|(name, value)| format!("--attribute {}", quoted(&format!("{name}={value}")))));
            words.extend((!run.subject_form.is_empty()).then(|| format!("--subject-form {}", quoted(&run.subject_form))));
            words.push(format!("--to {} --watch", quoted(token_file)));
            notes.push(format!("The run's token comes from: {}", words.join(" ")));
        }
        for former in &issuer.former_subject_forms {
            let until = former.replace_time.as_ref().map(moment_from_wire).unwrap_or_default();
            notes.push(format!(
                "Until {until} the issuer's subjects were {}: where those are still trusted, that can go once the last such token \
                 has expired.",
                former.templates.join(", ")
            ));
        }
        notes
    }
}

// Plain http is told of among the obstacles, along with everything else.
fn read(url: &str) -> Result<IssuerUrl> {
    IssuerUrl::parse(url, LoopbackHttp::Allowed).map_err(|error| Failure::usage(format!("`{url}` {error}")))
}

#[cfg(test)]
mod tests {
    use countersign_proto::issuer_v1::FormerSubjectForms;

    use super::*;

    fn issuer(profile: &str) -> TrustedSide {
        let former = FormerSubjectForms { templates: vec!["mint:{org}".to_owned()], replace_time: None };
        TrustedSide::of(Issuer {
            id: "is_0".to_owned(),
            workspace_id: WorkspaceId::from_random([1; 16]).to_string(),
            issuer_url: "https://id.example.com/a".to_owned(),
            profile: profile.to_owned(),
            algorithms: vec!["ES256".to_owned()],
            former_subject_forms: vec![former],
            ..Issuer::default()
        })
        .unwrap()
    }

    fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn a_run_is_trusted_by_the_subject_that_the_profile_gives_it() {
        let rwx = issuer("rwx");
        let run = rwx.run(attributes(&[("org", "my-org"), ("vault", "deploy vault")]), String::new()).unwrap().unwrap();
        assert_eq!(run.subject.as_str(), "org:my-org:vault:deploy vault");
        assert!(run.subject.is_literal() && run.audience.is_none());
        let notes = rwx.notes(Some(&run), "sts.amazonaws.com", "/run/token");
        assert_eq!(
            notes[0],
            "The run's token comes from: countersign auth issue-id-token --issuer-id is_0 --audience sts.amazonaws.com \
             --attribute org=my-org --attribute 'vault=deploy vault' --to /run/token --watch"
        );
        assert!(notes[1].contains("mint:{org}"));
    }

    #[test]
    fn the_audience_that_a_profile_fixes_is_the_one_to_expect() {
        let run =
            [("space_id", "infra"), ("caller_type", "stack"), ("caller_id", "vpc"), ("run_type", "PROPOSED"), ("run_id", "r1")];
        let run = issuer("spacelift").run(attributes(&run), String::new()).unwrap().unwrap();
        assert_eq!(run.audience.as_deref(), Some("id.example.com"));
        assert_eq!(run.subject.as_str(), "space:infra:stack:vpc:run_type:PROPOSED:scope:read");
    }

    #[test]
    fn what_would_be_a_pattern_or_no_run_is_refused() {
        let rwx = issuer("rwx");
        for given in [&[("org", "a"), ("vault", "*")][..], &[("org", "a")], &[("org", "a:b"), ("vault", "c")]] {
            assert!(rwx.run(attributes(given), String::new()).is_err(), "{given:?}");
        }
        assert!(issuer("of-tomorrow").run(attributes(&[("a", "b")]), String::new()).is_err());
        assert!(
            TrustedSide::elsewhere("https://id.example.com")
                .unwrap()
                .run(attributes(&[("a", "b")]), String::new())
                .unwrap()
                .is_none()
        );
    }
}
