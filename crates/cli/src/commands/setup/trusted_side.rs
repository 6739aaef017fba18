//! The issuer whose tokens are to be trusted, and its profile where it is an issuer of the workspace.

use std::collections::BTreeMap;

use countersign_domain::issuing::profile::{Identity, IdentityContext, Profile, ProfileDefinition};
use countersign_domain::values::id::WorkspaceId;
use countersign_domain::values::issuer_url::{IssuerUrl, LoopbackHttp};
use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
use countersign_domain::values::subject_match::SubjectMatch;
use countersign_domain::values::violation::Violations;
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
    ours: Option<OurIssuer>,
}

/// What claims with session tags of AWS begin with.
const AWS_TAGS: &str = "https://aws.amazon.com/tags";

/// An issuer of the workspace.
#[derive(Debug)]
struct OurIssuer(Issuer);

impl OurIssuer {
    /// Its profile, and the workspace that subjects can name.
    fn profile(&self) -> Result<(Profile, WorkspaceId)> {
        let Self(issuer) = self;
        let mut violations = Violations::new();
        let profile = match issuer.profile_definition.clone().map(ProfileDefinition::from) {
            Some(definition) => Profile::custom(definition, "profile_definition", &mut violations),
            None => violations.check("profile", issuer.profile.parse()),
        };
        let workspace_id: Option<WorkspaceId> = violations.check("workspace_id", issuer.workspace_id.parse());
        let read = profile.zip(workspace_id);
        read.ok_or_else(|| Failure::usage(format!("this version of countersign cannot read the issuer's profile: {violations}")))
    }
}

/// The pattern of a template's subjects: `*` for each value.
fn pattern_of(template: &str) -> Option<SubjectMatch> {
    let mut pattern = String::new();
    let mut rest = template;
    while let Some((literal, behind)) = rest.split_once('{') {
        let (_, behind) = behind.split_once('}')?;
        pattern.extend([literal, "*"]);
        rest = behind;
    }
    pattern.push_str(rest);
    pattern.parse().ok()
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
    /// An issuer that is not known here.
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

    pub(super) fn of(issuer: Issuer) -> Result<Self> {
        let algorithms = issuer.algorithms.iter().filter_map(|algorithm| algorithm.parse().ok()).collect();
        Ok(Self { url: read(&issuer.issuer_url)?, algorithms: Some(algorithms), ours: Some(OurIssuer(issuer)) })
    }

    /// The run with these attributes, by the issuer's own profile. `None` where the issuer is not ours.
    ///
    /// # Errors
    /// The profile gives such a run no identity.
    pub(super) fn run(&self, attributes: BTreeMap<String, String>, subject_form: String) -> Result<Option<Run>> {
        let Some(issuer) = &self.ours else { return Ok(None) };
        let (profile, workspace_id) = issuer.profile()?;
        let context = IdentityContext { workspace_id: &workspace_id, issuer_url: &self.url };
        let identity = profile.identify(context, &subject_form, &attributes);
        let Identity { subject, audience, .. } = identity.map_err(|violations| Failure::usage(violations.to_string()))?;
        // To a relying party it would be a pattern.
        if subject.as_str().contains('*') {
            return Err(Failure::usage(
                "the subject of the run contains `*`, which relying parties read as a pattern; pass --subject",
            ));
        }
        let subject = subject.as_str().parse().map_err(|error| Failure::usage(format!("the run's subject {error}")))?;
        Ok(Some(Run { subject, audience: audience.map(|audience| audience.to_string()), attributes, subject_form }))
    }

    /// The audience that the tokens have: one that the issuer fixes or allows, else the requested one, else the party's.
    ///
    /// # Errors
    /// No token of the issuer has the requested audience, or there is no telling which one it has.
    pub(super) fn audience(&self, run: Option<&Run>, requested: Option<String>, of_party: String) -> Result<String> {
        let Some(issuer) = &self.ours else { return Ok(requested.unwrap_or(of_party)) };
        let fixed = match run {
            Some(run) => run.audience.clone(),
            None => self.fixed_audience(issuer)?,
        };
        if let Some(fixed) = fixed {
            return match requested {
                Some(requested) if requested != fixed => Err(Failure::usage(format!(
                    "--audience must be `{fixed}`, which every token of the issuer has; leave the flag out"
                ))),
                _ => Ok(fixed),
            };
        }
        let allowed = &issuer.0.allowed_audiences;
        let is_allowed = |audience: &String| allowed.is_empty() || allowed.contains(audience);
        match (requested, allowed.as_slice()) {
            (Some(requested), _) if is_allowed(&requested) => Ok(requested),
            (None, _) if is_allowed(&of_party) => Ok(of_party),
            (None, [only]) => Ok(only.clone()),
            _ => Err(Failure::usage(format!("--audience must be one of the issuer's allowed audiences: {}", allowed.join(", ")))),
        }
    }

    /// The audience that the profile gives every token, whatever the run.
    fn fixed_audience(&self, issuer: &OurIssuer) -> Result<Option<String>> {
        let (profile, workspace_id) = issuer.profile()?;
        if !profile.fixes_audience() {
            return Ok(None);
        }
        // A caller has no attributes, and the subject is of no account.
        let context = IdentityContext { workspace_id: &workspace_id, issuer_url: &self.url };
        match profile.identify_caller(context, "any") {
            Ok(identity) => Ok(identity.audience.map(|audience| audience.to_string())),
            Err(_) => Err(Failure::usage(
                "the issuer's profile makes the audience from attributes of the run; pass --attribute for each instead of --subject",
            )),
        }
    }

    /// Whether tokens carry session tags of AWS. Of an external issuer it is not known.
    pub(super) fn has_session_tags(&self) -> bool {
        let profile = self.ours.as_ref().and_then(|issuer| issuer.profile().ok());
        profile.is_some_and(|(profile, _)| profile.claim_names().iter().any(|name| name.starts_with(AWS_TAGS)))
    }

    /// What of the requested subjects cannot come from the issuer, or is not known.
    pub(super) fn doubts(&self, subjects: &[SubjectMatch]) -> Vec<String> {
        let Some(issuer) = &self.ours else {
            return vec![
                "Not checked: whether the issuer has such subjects and this audience, as it is not an issuer of the workspace."
                    .to_owned(),
            ];
        };
        let Ok((profile, workspace_id)) = issuer.profile() else { return Vec::new() };
        let forms: Vec<(String, SubjectMatch)> =
            profile.subject_templates().filter_map(|template| Some((template.clone(), pattern_of(&template)?))).collect();
        // Callers who ask for themselves have subjects below the id of the workspace.
        let is_own = |subject: &str| subject.split_once('/').is_some_and(|(workspace, _)| workspace == workspace_id.as_str());
        let unknown = subjects.iter().filter(|subject| {
            subject.is_literal()
                && !is_own(subject.as_str())
                && !forms.iter().any(|(_, form)| form.compile().accepts(subject.as_str()))
        });
        let templates = forms.iter().map(|(template, _)| format!("`{template}`")).collect::<Vec<_>>().join(" or ");
        unknown
            .map(|subject| {
                format!("WARNING: no run of the issuer has the subject `{subject}`; its subjects have the form {templates}.")
            })
            .collect()
    }

    /// What to know of it, at any relying party.
    pub(super) fn notes(&self, run: Option<&Run>, audience: &str, token_file: &str) -> Vec<String> {
        let mut notes = Vec::new();
        let Some(OurIssuer(issuer)) = &self.ours else { return notes };
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
                "Until {until} the issuer's subjects had the form {}; remove trust in them once the last such token has expired.",
                former.templates.join(", ")
            ));
        }
        notes
    }
}

// Plain http is reported among the obstacles, with everything else.
fn read(url: &str) -> Result<IssuerUrl> {
    IssuerUrl::parse(url, LoopbackHttp::Allowed).map_err(|error| Failure::usage(format!("the issuer URL {error}")))
}

#[cfg(test)]
mod tests {
    use countersign_proto::issuer_v1::FormerSubjectForms;

    use super::*;

    #[test]
    fn a_template_is_the_pattern_of_its_subjects() {
        let accepts = |template: &str, subject: &str| pattern_of(template).unwrap().compile().accepts(subject);
        assert!(accepts("org:{org}:vault:{vault}", "org:a:vault:b") && !accepts("org:{org}:vault:{vault}", "org:a"));
        assert!(accepts("{workspace_id}/{path}", "ws_0/a"));
    }

    #[test]
    fn s86_a_subject_that_no_run_has_is_doubted() {
        let doubts = |subject: &str| issuer("rwx").doubts(&[subject.parse().unwrap()]);
        assert_eq!(doubts("org:a:vault:b"), [""; 0]);
        assert_eq!(doubts("org:*"), [""; 0], "a pattern");
        assert!(doubts("repo:a/b")[0].contains("`org:{org}:vault:{vault}`"));
        let own = format!("{}/ti_0/repo:a/b", WorkspaceId::from_random([1; 16]));
        assert_eq!(doubts(&own), [""; 0]);
    }

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
        assert!(issuer("of-tomorrow").audience(None, None, "a".to_owned()).is_err());
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
