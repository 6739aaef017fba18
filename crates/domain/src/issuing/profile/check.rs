//! From a definition to a profile, with everything that is wrong with it.

use std::fmt::Display;
use std::time::Duration;

use super::attribute::{Attribute, AttributeKind, CharacterClass};
use super::declared::{CONTEXT, Declared, ISSUER_HOST, ISSUER_URL};
use super::definition::{AttributeDefinition, ClaimDefinition, ProfileDefinition, SubjectFormDefinition};
use super::form::{self, SubjectForm};
use super::template::Template;
use super::{ClaimSource, NotBefore};
use crate::exchange::lineage::Lineage;
use crate::issuing::id_token_durations;
use crate::trust::cel::CelExpression;
use crate::values::claim_path::ClaimPath;
use crate::values::subject_match::SubjectMatch;
use crate::values::violation::Violations;

/// The most attributes, and the most derived ones.
pub(super) const MAX_ATTRIBUTES: usize = 32;
const MAX_ALLOWED_VALUES: usize = 64;
const MAX_FORMS: usize = 8;
const MAX_CLAIMS: usize = 32;
/// The most expressions, and their most bytes together: compiling one of 1 KiB takes 2 ms, and whoever reads an issuer from the
/// database compiles them all.
const MAX_EXPRESSIONS: usize = 32;
const MAX_EXPRESSION_BYTES: usize = 8 * 1024;
const MAX_DESCRIPTION_BYTES: usize = 512;
/// The most bytes of a name.
const MAX_NAME_BYTES: usize = 64;
/// The furthest that `nbf` may be back-dated.
const MAX_BACK_DATING_SECONDS: u32 = 600;

/// Claims that only we set, or that verifiers take for something that only the user's own session could say: RFC 7519, 7800,
/// 8417, 8693 and OpenID Connect Core.
const RESERVED_CLAIMS: [&str; 21] = [
    "act",
    "at_hash",
    "aud",
    "auth_time",
    "azp",
    "c_hash",
    "cnf",
    Lineage::CLAIM,
    "events",
    "exp",
    "iat",
    "iss",
    "jti",
    "may_act",
    "nbf",
    "nonce",
    "s_hash",
    "sid",
    "sub",
    "toe",
    "txn",
];

/// A definition that was checked.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub(super) declared: Declared,
    pub(super) forms: Vec<SubjectForm>,
    pub(super) claims: Vec<(ClaimPath, ClaimSource)>,
    pub(super) audience: Option<Template>,
    pub(super) not_before: NotBefore,
    pub(super) default_token_duration: Option<Duration>,
    pub(super) max_token_duration: Duration,
    /// What it uses of what is known of the issuer.
    pub(super) context: Vec<&'static str>,
}

/// Checks a definition. Violations are noted below `field`; what is returned counts only when there are none.
pub(super) fn check(definition: &ProfileDefinition, field: &str, violations: &mut Violations) -> Checked {
    let (number, bytes) = definition.expressions().fold((0, 0), |(number, bytes), source| (number + 1, bytes + source.len()));
    if number > MAX_EXPRESSIONS || bytes > MAX_EXPRESSION_BYTES {
        let most = format!("must hold at most {MAX_EXPRESSIONS} expressions, of {MAX_EXPRESSION_BYTES} bytes together");
        violations.add(field, most);
        return Checked::default();
    }
    let mut checker = Checker { field, violations, declared: Declared::default() };
    checker.attributes(definition);
    checker.derived(definition);
    checker.declared.tabulate();
    let forms = checker.forms(definition);
    let claims = checker.claims(definition);
    let audience = checker.audience(definition);
    let not_before = checker.not_before(definition);
    let (default_token_duration, max_token_duration) = checker.durations(definition);
    let declared = checker.declared;
    let mut all = Checked {
        declared,
        forms,
        claims,
        audience,
        not_before,
        default_token_duration,
        max_token_duration,
        context: Vec::new(),
    };
    all.context = CONTEXT.into_iter().filter(|name| all.uses(name)).collect();
    all
}

impl Checked {
    /// Whether anything is made of what this name stands for.
    fn uses(&self, name: &str) -> bool {
        let in_expression = |expression: &CelExpression| expression.attributes().contains(name);
        let in_template = |template: &Template| template.names().any(|used| used == name);
        let in_claim = |source: &ClaimSource| match source {
            ClaimSource::Attribute(used) => &**used == name,
            ClaimSource::Template(template) => in_template(template),
            ClaimSource::Expression(expression) => in_expression(expression),
        };
        self.forms.iter().any(|form| in_template(&form.template) || form.condition.as_ref().is_some_and(in_expression))
            || self.audience.as_ref().is_some_and(in_template)
            || self.claims.iter().any(|(_, source)| in_claim(source))
            || self.declared.derived.values().any(in_expression)
            || self.declared.attributes.values().any(|attribute| attribute.default.as_ref().is_some_and(in_expression))
    }
}

struct Checker<'a> {
    field: &'a str,
    violations: &'a mut Violations,
    declared: Declared,
}

impl Checker<'_> {
    fn add(&mut self, path: &str, problem: impl Display) {
        self.violations.add(format!("{}.{path}", self.field), problem.to_string());
    }

    fn check<T, E: Display>(&mut self, path: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(path, error)).ok()
    }

    /// Whether the number of elements is within the limit. What is beyond it is not looked at one by one.
    fn few(&mut self, path: &str, number: usize, most: usize) -> bool {
        if number > most {
            self.add(path, format_args!("must be at most {most}"));
        }
        number <= most
    }

    /// An element of a map, as it is named in violations, if its name is good. What is wrong with a name is said without it,
    /// where it is long or strange.
    fn named(&mut self, path: &str, name: &str) -> Option<String> {
        let good = is_name(name);
        if !good {
            let problem = "must have names of lower-case letters, digits and `_`, which begin with a letter";
            self.add(path, format_args!("{problem} and have at most {MAX_NAME_BYTES} characters"));
        }
        good.then(|| format!("{path}[{name}]"))
    }

    /// An expression that reads nothing but names for which `may_read` holds. Empty text is none.
    fn expression(&mut self, path: &str, source: &str, may_read: impl Fn(&Declared, &str) -> bool) -> Option<CelExpression> {
        if source.is_empty() {
            return None;
        }
        let expression: CelExpression = self.check(path, source.parse())?;
        if !expression.claims().is_empty() {
            self.add(path, "must read `attribute`, as there is no token to read yet");
            return None;
        }
        let unknown: Vec<_> = expression.attributes().iter().filter(|name| !may_read(&self.declared, name)).cloned().collect();
        for name in &unknown {
            let plain = if is_name(name) { name } else { "a name that is none" };
            self.add(path, format_args!("reads `{plain}`, which is not declared, or computed from this"));
        }
        unknown.is_empty().then_some(expression)
    }

    /// A template whose names are all known.
    fn template(&mut self, path: &str, text: &str) -> Option<Template> {
        let template: Template = self.check(path, text.parse())?;
        let unknown: Vec<_> = template.names().filter(|name| !self.declared.is_known(name)).collect();
        for name in &unknown {
            self.add(
                path,
                if is_name(name) { format!("`{name}` is not declared") } else { "holds a name that is none".to_owned() },
            );
        }
        if unknown.is_empty() { Some(template) } else { None }
    }

    fn attributes(&mut self, definition: &ProfileDefinition) {
        if !self.few("attributes", definition.attributes.len(), MAX_ATTRIBUTES) {
            return;
        }
        for (name, written) in &definition.attributes {
            let Some(path) = self.named("attributes", name) else { continue };
            if CONTEXT.contains(&name.as_str()) {
                self.add(&path, "is known of the issuer, so no caller can say it");
                continue;
            }
            let attribute = self.attribute(&path, written);
            self.declared.attributes.insert(name.as_str().into(), attribute);
        }
        for (name, written) in &definition.attributes {
            let path = format!("attributes[{name}].default");
            let default = self.expression(&path, &written.default, |declared, read| declared.is_given(read) && read != name);
            if let Some(attribute) = self.declared.attributes.get_mut(name.as_str()) {
                attribute.default = default;
            }
        }
    }

    /// An attribute without its default, which may read those that come later.
    fn attribute(&mut self, path: &str, written: &AttributeDefinition) -> Attribute {
        let AttributeDefinition { description, kind, required, allowed_values, pattern, characters, default } = written;
        self.description(path, description);
        let kind = AttributeKind::named(kind).unwrap_or_else(|| {
            self.add(&format!("{path}.kind"), format_args!("must be one of {}", AttributeKind::NAMES));
            AttributeKind::Text
        });
        if kind != AttributeKind::Text && written.restricts_text() {
            self.add(path, "must be text to have a pattern or characters");
        }
        if *required && !default.is_empty() {
            self.add(path, "must not be required and have a default");
        }
        let pattern = if pattern.is_empty() {
            None
        } else {
            self.check(&format!("{path}.pattern"), pattern.parse::<SubjectMatch>()).map(|pattern| pattern.compile())
        };
        let characters = CharacterClass::named(characters);
        if characters.is_none() && !written.characters.is_empty() {
            self.add(&format!("{path}.characters"), format_args!("must be one of {}", CharacterClass::NAMES));
        }
        let mut attribute =
            Attribute { kind, required: *required, allowed_values: Box::default(), pattern, characters, default: None };
        let values_path = format!("{path}.allowed_values");
        if self.few(&values_path, allowed_values.len(), MAX_ALLOWED_VALUES) {
            for (at, value) in allowed_values.iter().enumerate() {
                let value_path = format!("{values_path}[{at}]");
                self.check(&value_path, attribute.read(value));
                if allowed_values[..at].contains(value) {
                    self.add(&value_path, "is named twice");
                }
            }
            attribute.allowed_values = allowed_values.clone().into();
        }
        attribute
    }

    fn derived(&mut self, definition: &ProfileDefinition) {
        if !self.few("derived", definition.derived.len(), MAX_ATTRIBUTES) {
            return;
        }
        for (name, source) in &definition.derived {
            let Some(path) = self.named("derived", name) else { continue };
            if self.declared.is_given(name) {
                self.add(&path, "is an attribute already");
            } else if source.is_empty() {
                self.add(&path, "must not be empty");
            } else if let Some(expression) = self.expression(&path, source, Declared::is_given) {
                self.declared.derived.insert(name.as_str().into(), expression);
            }
        }
    }

    fn forms(&mut self, definition: &ProfileDefinition) -> Vec<SubjectForm> {
        let written = &definition.subject_forms;
        if written.is_empty() {
            self.add("subject_forms", "must hold at least one form");
        }
        if !self.few("subject_forms", written.len(), MAX_FORMS) {
            return Vec::new();
        }
        let mut forms: Vec<(usize, SubjectForm)> = Vec::with_capacity(written.len());
        for (at, form) in written.iter().enumerate() {
            let path = format!("subject_forms[{at}]");
            if written[..at].iter().any(|other| other.id == form.id) {
                self.add(&format!("{path}.id"), "is named twice");
            }
            forms.extend(self.form(&path, form).map(|form| (at, form)));
        }
        for (number, (at, form)) in forms.iter().enumerate() {
            let clash = forms[..number].iter().find(|(_, other)| !form.apart(other, &self.declared));
            if let Some((other, _)) = clash {
                let problem = format!("could render a subject that `subject_forms[{other}]` renders too");
                self.add(&format!("subject_forms[{at}].template"), problem);
            }
        }
        forms.into_iter().map(|(_, form)| form).collect()
    }

    fn form(&mut self, path: &str, written: &SubjectFormDefinition) -> Option<SubjectForm> {
        let SubjectFormDefinition { id, template, delimiters, condition } = written;
        if !is_name(id) {
            self.add(&format!("{path}.id"), "must consist of lower-case letters, digits and `_`, and begin with a letter");
        }
        let condition = self.expression(&format!("{path}.condition"), condition, Declared::is_known);
        let delimiters_are_good = self.check(&format!("{path}.delimiters"), form::check_delimiters(delimiters)).is_some();
        let path = format!("{path}.template");
        let template = self.template(&path, template)?;
        if !delimiters_are_good {
            return None;
        }
        for name in template.names() {
            if [ISSUER_HOST, ISSUER_URL].contains(&name) {
                self.add(&path, format_args!("must not hold `{name}`, which is the same in every token of the issuer"));
            }
            let allowed = self.declared.values(name).unwrap_or_default();
            if let Some(value) = allowed.into_iter().find(|value| value.contains(|character| delimiters.contains(character))) {
                let problem = format!("holds `{name}`, whose allowed value `{value}` holds a delimiter");
                self.add(&path, problem);
            }
        }
        let form = SubjectForm { id: id.as_str().into(), template, delimiters: delimiters.as_str().into(), condition };
        self.check(&path, form.check_injective())?;
        Some(form)
    }

    fn claims(&mut self, definition: &ProfileDefinition) -> Vec<(ClaimPath, ClaimSource)> {
        if !self.few("claims", definition.claims.len(), MAX_CLAIMS) {
            return Vec::new();
        }
        let mut claims: Vec<(ClaimPath, ClaimSource)> = Vec::new();
        for (at, (name, source)) in definition.claims.iter().enumerate() {
            // A name may be long and hold anything, so it is repeated only once it is known to be good.
            let Some(claim) = self.check("claims", name.parse::<ClaimPath>().map_err(|error| format!("(number {at}) {error}")))
            else {
                continue;
            };
            let path = format!("claims[{name}]");
            if RESERVED_CLAIMS.contains(&claim.top_level().as_str()) {
                self.add(&path, "is reserved");
            }
            if claims.iter().any(|(other, _)| claim.overlaps(other)) {
                self.add(&path, "leads through another claim, or to the same");
            }
            if let Some(source) = self.claim_source(&path, source) {
                claims.push((claim, source));
            }
        }
        claims
    }

    fn claim_source(&mut self, path: &str, source: &ClaimDefinition) -> Option<ClaimSource> {
        match source {
            ClaimDefinition::Attribute(name) => {
                let known = self.declared.is_known(name);
                if !known {
                    self.add(path, "is to be an attribute that is not declared");
                }
                known.then(|| ClaimSource::Attribute(name.as_str().into()))
            }
            ClaimDefinition::Template(text) => self.template(path, text).map(ClaimSource::Template),
            ClaimDefinition::Expression(source) if source.is_empty() => {
                self.add(path, "must not be empty");
                None
            }
            ClaimDefinition::Expression(source) => self.expression(path, source, Declared::is_known).map(ClaimSource::Expression),
        }
    }

    fn audience(&mut self, definition: &ProfileDefinition) -> Option<Template> {
        let text = &definition.audience;
        if text.is_empty() { None } else { self.template("audience", text) }
    }

    fn not_before(&mut self, definition: &ProfileDefinition) -> NotBefore {
        let seconds = definition.back_dating_seconds;
        let back_dated = definition.not_before == "back_dated";
        if back_dated && !(1..=MAX_BACK_DATING_SECONDS).contains(&seconds) {
            self.add("back_dating_seconds", format_args!("must be 1 to {MAX_BACK_DATING_SECONDS}"));
        } else if !back_dated && seconds != 0 {
            self.add("back_dating_seconds", "must be 0 unless `not_before` is `back_dated`");
        }
        match definition.not_before.as_str() {
            "" | "issued_at" => NotBefore::IssuedAt,
            "absent" => NotBefore::Absent,
            "back_dated" => NotBefore::BackDated(Duration::from_secs(seconds.into())),
            _ => {
                self.add("not_before", "must be one of issued_at, absent, back_dated");
                NotBefore::IssuedAt
            }
        }
    }

    fn durations(&mut self, definition: &ProfileDefinition) -> (Option<Duration>, Duration) {
        let (least, most) = (id_token_durations::MIN, id_token_durations::MAX_LIMIT);
        let mut read = |path: &str, seconds: u32| {
            let duration = Duration::from_secs(seconds.into());
            if seconds != 0 && !(least..=most).contains(&duration) {
                self.add(path, format_args!("must be {} to {}", least.as_secs(), most.as_secs()));
            }
            (seconds != 0).then_some(duration)
        };
        let default = read("default_token_seconds", definition.default_token_seconds);
        let max = read("max_token_seconds", definition.max_token_seconds).unwrap_or(most);
        if default.is_some_and(|default| default > max) {
            self.add("default_token_seconds", "must not be more than max_token_seconds");
        }
        (default, max)
    }

    fn description(&mut self, path: &str, text: &str) {
        if text.len() > MAX_DESCRIPTION_BYTES || text.chars().any(char::is_control) {
            let path = format!("{path}.description");
            self.add(&path, format_args!("must be one line of at most {MAX_DESCRIPTION_BYTES} bytes"));
        }
    }
}

/// Whether a text can name an attribute or a form.
pub(super) fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    text.len() <= MAX_NAME_BYTES && text.starts_with(|first: char| first.is_ascii_lowercase()) && text.bytes().all(allowed)
}
