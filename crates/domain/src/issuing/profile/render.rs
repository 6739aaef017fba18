//! From the attributes of a run to its identity.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::attribute::text_of;
use super::declared::{ISSUER_HOST, ISSUER_URL, WORKSPACE_ID};
use super::form::SubjectForm;
use super::{ClaimSource, Profile, check};
use crate::exchange::decision;
use crate::trust::cel::{CelExpression, CelFailure};
use crate::values::id::WorkspaceId;
use crate::values::issuer_url::IssuerUrl;
use crate::values::name::{Audience, Subject};
use crate::values::violation::Violations;

/// The most attributes of a request that are looked at one by one.
const MAX_GIVEN: usize = 64;

/// What a profile knows of the issuer, whatever the caller says.
#[derive(Debug, Clone, Copy)]
pub struct IdentityContext<'a> {
    /// The workspace that owns the issuer.
    pub workspace_id: &'a WorkspaceId,
    /// The issuer's URL.
    pub issuer_url: &'a IssuerUrl,
}

/// Who a run is. Made by [`Profile::identify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `sub`.
    pub subject: Subject,
    /// The audience, where the profile fixes it.
    pub audience: Option<Audience>,
    /// Claims beside the registered ones.
    pub claims: Map<String, Value>,
}

impl Profile {
    /// The identity of a run with these attributes. `form` is the subject form that was asked for; empty text leaves the choice to
    /// the profile.
    ///
    /// # Errors
    /// Everything that is wrong, under the request's fields `attributes` and `subject_form`: undeclared or missing attributes;
    /// values that their declaration excludes, or that hold a delimiter of the subject; a form that is not there, or not for such
    /// a run; an expression without a result; a subject that is kept for callers who ask for themselves.
    pub fn identify(
        &self,
        context: IdentityContext<'_>,
        form: &str,
        given: &BTreeMap<String, String>,
    ) -> Result<Identity, Violations> {
        let mut run = Run { profile: self, context, values: Map::new(), violations: Violations::new() };
        run.read(given);
        // What is computed from values that are wrong would be wrong for no reason of its own.
        let computes = run.violations.is_empty();
        run.know();
        if computes {
            run.default(given);
            run.derive();
        }
        let form = run.form(form, computes);
        let subject = form.and_then(|form| run.subject(form, computes));
        let audience = run.audience();
        let claims = run.claims();
        match (subject, audience) {
            (Some(subject), Some(audience)) if run.violations.is_empty() => Ok(Identity { subject, audience, claims }),
            _ => Err(run.violations),
        }
    }

    /// The identity of a caller who asks for himself: the subject of his access token, and nothing that the profile says of runs.
    /// No run has such a subject ([`identify`](Self::identify)).
    ///
    /// # Errors
    /// The subject is too long for one (`authorization`); the profile makes the audience of a run's attributes (`issuer_id`).
    pub fn identify_caller(&self, context: IdentityContext<'_>, subject: &str) -> Result<Identity, Violations> {
        let mut run = Run { profile: self, context, values: Map::new(), violations: Violations::new() };
        run.know();
        let subject =
            subject.parse().map_err(|error| format!("is an access token whose subject, as that of an ID token, {error}"));
        let subject = run.violations.check("authorization", subject);
        let needs_run =
            run.profile.checked().audience.as_ref().is_some_and(|template| template.render(|name| run.text(name)).is_none());
        if needs_run {
            run.add("issuer_id", "is an issuer whose audience is made of a run's attributes, and none for callers themselves");
        }
        match (subject, run.audience()) {
            (Some(subject), Some(audience)) if run.violations.is_empty() => {
                Ok(Identity { subject, audience, claims: Map::new() })
            }
            _ => Err(run.violations),
        }
    }
}

/// What is known of one run so far, and what is wrong with it.
struct Run<'a> {
    profile: &'a Profile,
    context: IdentityContext<'a>,
    values: Map<String, Value>,
    violations: Violations,
}

impl<'a> Run<'a> {
    fn add(&mut self, field: impl Into<String>, problem: impl std::fmt::Display) {
        self.violations.add(field, problem.to_string());
    }

    /// Reads what was given, and misses what is required.
    fn read(&mut self, given: &BTreeMap<String, String>) {
        let profile = self.profile;
        let declared = &profile.checked().declared.attributes;
        if given.len() > MAX_GIVEN {
            self.add("attributes", format_args!("must be at most {MAX_GIVEN}"));
        } else {
            for name in given.keys().filter(|name| !declared.contains_key(name.as_str())) {
                // What a caller chose is repeated only where it is short and plain.
                let field = if check::is_name(name) { attribute_field(name) } else { "attributes".to_owned() };
                self.add(field, format_args!("is no attribute of the profile `{profile}`"));
            }
        }
        for (name, attribute) in declared {
            match given.get(&**name).map(|text| attribute.read(text)) {
                Some(Ok(value)) => {
                    self.values.insert(name.to_string(), value);
                }
                Some(Err(error)) => self.add(attribute_field(name), error),
                None if attribute.required => {
                    self.add(attribute_field(name), format_args!("is required by the profile `{profile}`"));
                }
                None => {}
            }
        }
    }

    /// Adds what is known of the issuer. No attribute has such a name.
    fn know(&mut self) {
        let IdentityContext { workspace_id, issuer_url } = self.context;
        let url = issuer_url.as_str();
        for &name in &self.profile.checked().context {
            let value = match name {
                WORKSPACE_ID => workspace_id.as_str(),
                ISSUER_URL => url,
                ISSUER_HOST => host_of(url),
                _ => continue,
            };
            self.values.insert(name.to_owned(), value.into());
        }
    }

    /// Gives attributes that were left out their defaults. All are computed from what was given.
    fn default(&mut self, given: &BTreeMap<String, String>) {
        let mut defaults = Vec::new();
        for (name, attribute) in &self.profile.checked().declared.attributes {
            let Some(default) = attribute.default.as_ref().filter(|_| !given.contains_key(&**name)) else { continue };
            match default.map_attributes(&self.values) {
                Ok(value) => match attribute.check(&value) {
                    Ok(()) => defaults.push((name.to_string(), value)),
                    Err(error) => self.add(attribute_field(name), format_args!("has a default that {error}")),
                },
                Err(failure) => self.failed(attribute_field(name), "its default", failure),
            }
        }
        self.values.extend(defaults);
    }

    fn derive(&mut self) {
        let mut derived = Vec::new();
        let declared = &self.profile.checked().declared;
        for (name, expression) in &declared.derived {
            let known = declared.tables.get(name).and_then(|table| table.look_up(&self.values));
            match known.cloned().unwrap_or_else(|| expression.map_attributes(&self.values)) {
                Ok(value) => derived.push((name.to_string(), value)),
                Err(failure) => self.failed("attributes", &format!("`{name}`"), failure),
            }
        }
        self.values.extend(derived);
    }

    /// The form that was asked for, or else the first that is for such a run.
    fn form(&mut self, asked: &str, computes: bool) -> Option<&'a SubjectForm> {
        let forms = &self.profile.checked().forms;
        if asked.is_empty() {
            for form in forms {
                match &form.condition {
                    None => return Some(form),
                    // Without values there is no telling; the other forms may ask for other attributes.
                    Some(_) if !computes => return None,
                    Some(condition) if self.holds(condition)? => return Some(form),
                    Some(_) => {}
                }
            }
            self.add("attributes", "fit none of the profile's subject forms");
            return None;
        }
        let Some(form) = forms.iter().find(|form| &*form.id == asked) else {
            let ids: Vec<_> = forms.iter().map(|form| &*form.id).collect();
            self.add("subject_form", format_args!("must be one of {}", ids.join(", ")));
            return None;
        };
        match &form.condition {
            Some(condition) if computes && !self.holds(condition)? => {
                self.add("subject_form", "is not for a run with these attributes");
                None
            }
            _ => Some(form),
        }
    }

    fn holds(&mut self, condition: &CelExpression) -> Option<bool> {
        match condition.holds_for_attributes(&self.values) {
            Ok(holds) => Some(holds),
            Err(failure) => {
                self.failed("attributes", "the condition of a subject form", failure);
                None
            }
        }
    }

    fn subject(&mut self, form: &SubjectForm, computes: bool) -> Option<Subject> {
        let attributes = &self.profile.checked().declared.attributes;
        let mut complete = true;
        for name in form.template.names() {
            let field = if attributes.contains_key(name) { attribute_field(name) } else { "attributes".to_owned() };
            let problem = match self.values.get(name).map(text_of) {
                Some(Some(text)) => text
                    .chars()
                    .find(|character| form.delimits(*character))
                    .map(|delimiter| format!("must not hold `{delimiter}`, which separates the parts of the subject")),
                Some(None) => Some(format!("make `{name}` a list, which cannot stand in the subject")),
                // Already said, where it was given wrongly or is required in any case.
                None if !attributes.get(name).is_some_and(|attribute| !attribute.required && attribute.default.is_none()) => {
                    complete = false;
                    None
                }
                None if self.violations.iter().any(|known| known.field == field) => None,
                None => Some(format!("is required by the subject form `{}`", form.id)),
            };
            if let Some(problem) = problem {
                complete = false;
                self.add(field, problem);
            }
        }
        if !complete || !computes {
            return None;
        }
        let text = form.template.render(|name| self.text(name))?;
        if decision::is_access_token_subject(self.context.workspace_id, &text) {
            self.add("attributes", "render a subject that is kept for those who ask for themselves");
            return None;
        }
        self.violations.check("attributes", text.parse().map_err(|error| format!("render a subject that {error}")))
    }

    /// The audience, if the profile fixes one. `None` when there is a violation.
    #[expect(clippy::option_option, reason = "the outer option is a violation, the inner one an absent value")]
    fn audience(&mut self) -> Option<Option<Audience>> {
        let Some(template) = &self.profile.checked().audience else { return Some(None) };
        if !self.violations.is_empty() {
            return None;
        }
        let Some(text) = template.render(|name| self.text(name)) else {
            let missing = template.names().find(|name| self.text(name).is_none()).unwrap_or_default();
            self.add(attribute_field(missing), "is required by the profile's audience");
            return None;
        };
        let audience = text.parse().map_err(|error| format!("render an audience that {error}"));
        self.violations.check("attributes", audience).map(Some)
    }

    fn claims(&mut self) -> Map<String, Value> {
        let mut claims = Map::new();
        if !self.violations.is_empty() {
            return claims;
        }
        for (path, source) in &self.profile.checked().claims {
            let value = match source {
                ClaimSource::Attribute(name) => self.values.get(&**name).cloned(),
                ClaimSource::Template(template) => template.render(|name| self.text(name)).map(Value::from),
                ClaimSource::Expression(expression) => match expression.map_attributes(&self.values) {
                    Ok(value) => Some(value),
                    Err(failure) => {
                        self.failed("attributes", &format!("the claim `{path}`"), failure);
                        None
                    }
                },
            };
            if let Some(value) = value {
                path.put(&mut claims, value);
            }
        }
        claims
    }

    fn text(&self, name: &str) -> Option<String> {
        self.values.get(name).and_then(text_of)
    }

    fn failed(&mut self, field: impl Into<String>, what: &str, failure: CelFailure) {
        let why = match failure {
            CelFailure::Absent => "reads an attribute that was not given",
            CelFailure::WrongType => "uses a value as a type that it is not",
            CelFailure::NoResult => "computes what has no result",
            CelFailure::Unordered => "goes through a map, which has no order",
            CelFailure::Inexact => "reads a number that cannot be represented exactly",
            CelFailure::TooLarge | CelFailure::ResultType => "gives a value that no attribute can have",
        };
        self.add(field, format_args!("cannot be used, as {what} {why}"));
    }
}

/// The host name in a URL, which is canonical: no user, and a port only behind the last colon that is not in brackets.
fn host_of(url: &str) -> &str {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).split('/').next().unwrap_or_default();
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

fn attribute_field(name: &str) -> String {
    format!("attributes[{name}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_has_no_port() {
        for (url, host) in [
            ("https://demo.app.example", "demo.app.example"),
            ("https://id.example.com/a/b:c", "id.example.com"),
            ("http://localhost:7401/is_1", "localhost"),
            ("http://127.0.0.1:7401", "127.0.0.1"),
            ("http://[::1]:7401/a", "[::1]"),
            ("http://[::1]/a", "[::1]"),
        ] {
            assert_eq!(host_of(url), host);
        }
    }
}
