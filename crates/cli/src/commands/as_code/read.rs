//! Reads files. Everything that is wrong with all of them is told at once, and then nothing is done.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

use countersign_domain::trust::claim_condition::ClaimConditionDraft;
use countersign_domain::trust::trust_relationship::{TrustRelationshipDraft, TrustRelationshipSettings};
use countersign_domain::trust::trusted_issuer::{TrustedIssuerDraft, TrustedIssuerSettings};
use countersign_domain::values::grant::Grant;
use countersign_domain::values::id::TrustRelationshipId;
use countersign_domain::values::issuer_url::LoopbackHttp;
use countersign_domain::values::time::Timestamp;
use countersign_domain::values::violation::Violations;
use countersign_proto::trust_v1::{TrustRelationship, TrustedIssuer};
use countersign_runtime::disclosure::{FileName, is_plain_word};
use serde::de::DeserializeOwned;
use serde::{Deserialize as _, Serialize, Serializer};
use serde_norway::{Mapping, Value};

use super::format::{IssuerDocument, Length, Moment, RelationshipDocument, Replay};
use super::yaml;
use crate::failure::{Failure, Result};
use crate::text_file;

/// What all files say together.
#[derive(Debug, Default)]
pub(super) struct Declared {
    pub(super) issuers: Vec<DeclaredIssuer>,
    pub(super) relationships: Vec<DeclaredRelationship>,
}

/// A trusted issuer that a file asks for.
#[derive(Debug, Clone)]
pub(super) struct DeclaredIssuer {
    pub(super) place: Place,
    pub(super) wire: TrustedIssuer,
    pub(super) settings: TrustedIssuerSettings,
}

/// A trust relationship that a file asks for.
#[derive(Debug, Clone)]
pub(super) struct DeclaredRelationship {
    pub(super) place: Place,
    pub(super) issuer_url: String,
    /// With the id that the file names, if it does.
    pub(super) wire: TrustRelationship,
    pub(super) settings: TrustRelationshipSettings,
}

/// Where something is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: String,
    /// Which document of the file, from 1.
    pub(super) document: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: document {}", self.file, self.document)
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Everything that is wrong, a line each.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<String>);

impl Problems {
    pub(super) fn add(&mut self, at: impl fmt::Display, what: impl fmt::Display) {
        self.0.push(format!("{at}: {what}"));
    }

    fn extend(&mut self, place: &Place, prefix: &str, violations: &Violations) {
        for violation in violations.iter() {
            let field = violation.field.strip_prefix(prefix).unwrap_or(&violation.field);
            self.add(place, format_args!("{field}: {}", violation.description));
        }
    }

    /// Fails with all of it, unless there is nothing.
    pub(super) fn into_result(self) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let lines = self.0.join("\n  - ");
        Err(Failure::Failed(anyhow::anyhow!("nothing was changed, because of what the files say:\n  - {lines}")))
    }

    #[cfg(test)]
    pub(super) fn lines(&self) -> &[String] {
        &self.0
    }
}

/// Reads files, and folders of them.
///
/// # Errors
/// A file cannot be read, or one of them is wrong.
pub(super) fn read_paths(paths: &[PathBuf]) -> Result<Declared> {
    let mut files = Vec::new();
    for path in paths {
        find(path, &mut files).map_err(|error| Failure::while_doing(error, format!("cannot read --file {}", FileName(path))))?;
    }
    let mut texts = Vec::with_capacity(files.len());
    for file in files {
        texts.push((FileName(&file).to_string(), text_file::read("--file", &file)?));
    }
    let mut problems = Problems::default();
    let declared = read(&texts, &mut problems);
    problems.into_result()?;
    if declared.issuers.is_empty() && declared.relationships.is_empty() {
        // With `--prune` that would mean: delete everything. A wrong folder is likelier.
        return Err(Failure::Failed(anyhow::anyhow!(
            "there is neither a trusted issuer nor a trust relationship in what -f names"
        )));
    }
    Ok(declared)
}

/// A file as it is named; of a folder every `.yaml` and `.yml` below it, in order, hidden ones left out.
fn find(path: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if !std::fs::metadata(path)?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let mut entries =
        std::fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>()?;
    entries.sort();
    for entry in entries {
        let is_hidden = entry.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let is_yaml = entry.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if !is_hidden && (is_yaml || entry.is_dir()) {
            find(&entry, files)?;
        }
    }
    Ok(())
}

/// Reads the texts of files by their names.
pub(super) fn read(texts: &[(String, String)], problems: &mut Problems) -> Declared {
    let mut declared = Declared::default();
    for (file, text) in texts {
        for (index, document) in serde_norway::Deserializer::from_str(text).enumerate() {
            let place = Place { file: file.clone(), document: index + 1 };
            match yaml::Document::deserialize(document).map(|document| document.0) {
                Ok(Value::Null) => {}
                Ok(Value::Mapping(mapping)) => read_document(mapping, place, &mut declared, problems),
                Ok(_) => problems.add(&place, "must be a mapping with `kind`"),
                Err(error) => {
                    problems.add(&place, text_file::problem(&error.to_string()));
                    // There is no way to tell where the next document begins.
                    break;
                }
            }
        }
    }
    note_duplicates(&declared, problems);
    declared
}

fn read_document(mapping: Mapping, place: Place, declared: &mut Declared, problems: &mut Problems) {
    let mut fields = Fields { mapping, place: &place, problems };
    let kind: String = fields.take("kind");
    match kind.as_str() {
        IssuerDocument::KIND => {
            let document = IssuerDocument::read(&mut fields);
            fields.end();
            let wire = TrustedIssuer::from(document);
            let mut violations = Violations::new();
            let settings = issuer_settings(&wire, &mut violations);
            problems.extend(&place, "trusted_issuer.", &violations);
            declared.issuers.extend(settings.map(|settings| DeclaredIssuer { place, wire, settings }));
        }
        RelationshipDocument::KIND => {
            let document = RelationshipDocument::read(&mut fields);
            fields.end();
            if document.key.is_empty() && document.id.is_empty() {
                problems.add(&place, "key: is missing: it names the relationship (or `id`, one that is there already)");
            }
            if !document.id.is_empty()
                && let Err(error) = document.id.parse::<TrustRelationshipId>()
            {
                problems.add(&place, format_args!("id: {error}"));
            }
            if document.issuer_url.is_empty() {
                problems.add(&place, "issuer_url: is missing: it names the trusted issuer");
            }
            let mut violations = Violations::new();
            let draft = document_draft(&document);
            let settings = relationship_settings(&draft, document.enabled.unwrap_or(true), &mut violations);
            problems.extend(&place, "trust_relationship.", &violations);
            let issuer_url = document.issuer_url.clone();
            let wire = document.into_wire();
            declared.relationships.extend(settings.map(|settings| DeclaredRelationship { place, issuer_url, wire, settings }));
        }
        "" => problems.add(&place, "kind: must be TrustedIssuer or TrustRelationship"),
        other if is_plain_word(&other.to_lowercase()) => {
            problems.add(&place, format_args!("kind: must be TrustedIssuer or TrustRelationship, not `{other}`"));
        }
        _ => problems.add(&place, "kind: must be TrustedIssuer or TrustRelationship"),
    }
}

/// The draft with the conditions as they were written, so that what is wrong with them is told.
fn document_draft(document: &RelationshipDocument) -> TrustRelationshipDraft {
    let conditions = document.claim_conditions.clone();
    TrustRelationshipDraft { claim_conditions: conditions, ..document.clone().into_wire().into() }
}

/// The settings of an issuer. Whether http is acceptable is for the service to say.
pub(super) fn issuer_settings(wire: &TrustedIssuer, violations: &mut Violations) -> Option<TrustedIssuerSettings> {
    let draft = TrustedIssuerDraft::from(wire.clone());
    let settings = TrustedIssuerSettings::create(&draft, LoopbackHttp::Allowed, violations)?;
    Some(TrustedIssuerSettings { enabled: wire.enabled, ..settings })
}

/// The settings of a relationship. An end that has passed is one: what is exported can be applied.
pub(super) fn relationship_settings(
    draft: &TrustRelationshipDraft,
    enabled: bool,
    violations: &mut Violations,
) -> Option<TrustRelationshipSettings> {
    let settings = TrustRelationshipSettings::create(draft, Timestamp::MIN, violations)?;
    Some(TrustRelationshipSettings { enabled, ..settings })
}

fn note_duplicates(declared: &Declared, problems: &mut Problems) {
    let issuers = declared.issuers.iter().map(|issuer| (("issuer_url", issuer.wire.issuer_url.as_str()), &issuer.place));
    let relationships = declared.relationships.iter().flat_map(|relationship| {
        let names = [("key", relationship.wire.key.as_str()), ("id", relationship.wire.id.as_str())];
        names.into_iter().filter(|(_, name)| !name.is_empty()).map(move |name| (name, &relationship.place))
    });
    let mut places: HashMap<(&str, &str), &Place> = HashMap::new();
    for ((field, name), place) in issuers.chain(relationships) {
        if let Some(other) = places.insert((field, name), place) {
            problems.add(place, format_args!("{field}: `{name}` is also in {other}"));
        }
    }
}

/// The fields of one document, taken one after the other; what is left in the end is unknown.
pub(super) struct Fields<'a> {
    mapping: Mapping,
    place: &'a Place,
    problems: &'a mut Problems,
}

impl Fields<'_> {
    /// The value of a field; nothing when it is not there, or wrong, which is noted.
    pub(super) fn take<T: Field>(&mut self, name: &str) -> T {
        match self.mapping.remove(name) {
            None => T::default(),
            Some(Value::Null) => {
                self.problems.add(self.place, format_args!("{name}: has no value; leave the field out"));
                T::default()
            }
            Some(value) => T::read(value, name, &mut |path, what| {
                self.problems.add(self.place, format_args!("{path}: {}", text_file::problem(&what.to_string())));
            }),
        }
    }

    /// Notes what nobody took.
    fn end(self) {
        for name in self.mapping.keys() {
            match name.as_str() {
                Some(name) if is_plain_word(name) => {
                    self.problems.add(self.place, format_args!("{name}: there is no such field"));
                }
                Some(_) => self.problems.add(self.place, "there is no field of the name that is given"),
                None => self.problems.add(self.place, "the name of a field must be text"),
            }
        }
    }
}

/// A type of a field.
pub(super) trait Field: Default {
    /// Reads a value; tells where something is wrong, and what.
    fn read(value: Value, path: &str, wrong: &mut dyn FnMut(&str, serde_norway::Error)) -> Self;
}

fn read_whole<T: DeserializeOwned + Default>(value: Value, path: &str, wrong: &mut dyn FnMut(&str, serde_norway::Error)) -> T {
    serde_norway::from_value(value).unwrap_or_else(|error| {
        wrong(path, error);
        T::default()
    })
}

macro_rules! whole {
    ($($type:ty),+) => {$(
        impl Field for $type {
            fn read(value: Value, path: &str, wrong: &mut dyn FnMut(&str, serde_norway::Error)) -> Self {
                read_whole(value, path, wrong)
            }
        }
    )+};
}

whole!(String, Option<bool>, Option<Length>, Option<Moment>, Option<Replay>, BTreeMap<String, String>);

/// A type of an element of a list.
trait Element: DeserializeOwned {}

impl Element for String {}
impl Element for ClaimConditionDraft {}
impl Element for Grant {}

impl<T: Element> Field for Vec<T> {
    fn read(value: Value, path: &str, wrong: &mut dyn FnMut(&str, serde_norway::Error)) -> Self {
        let Value::Sequence(elements) = value else {
            // Says that a list was expected.
            return serde_norway::from_value(value).unwrap_or_else(|error| {
                wrong(path, error);
                Self::default()
            });
        };
        let mut read = Self::with_capacity(elements.len());
        for (index, element) in elements.into_iter().enumerate() {
            match serde_norway::from_value(element) {
                Ok(element) => read.push(element),
                Err(error) => wrong(&format!("{path}[{index}]"), error),
            }
        }
        read
    }
}
