//! Layers, types and checks.
//!
//! No problem repeats the value of a setting, which can be a secret in the wrong place (SECURITY 81): a problem names the key and
//! what its value must be.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use countersign_domain::values::violation::Violation;
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::Telemetry;
use crate::disclosure::{Concealed, FileName, SecretShape, is_plain_word, repeats};
use crate::text::{self, NotText};

/// What every variable of ours begins with.
const PREFIX: &str = "COUNTERSIGN_";
/// What the variables of the command line tool begin with. A shell may well have both.
const CLI_PREFIX: &str = "COUNTERSIGN_CLI_";
/// The variable that names the file; `--config` goes before it.
const FILE_VARIABLE: &str = "COUNTERSIGN_CONFIG";

/// The settings of a service.
pub trait Settings: Default + Serialize + DeserializeOwned {
    /// Where logs and traces go.
    fn telemetry(&self) -> &Telemetry;

    /// Notes everything wrong with the values, files that they name included. [`Telemetry`] is checked by [`load`].
    fn check(&self, problems: &mut Problems);
}

/// One thing wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The path of the key: `database.url`.
    pub key: String,
    /// What to do about it.
    pub description: String,
}

/// Everything wrong with the settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Notes a problem.
    pub fn add(&mut self, key: impl Into<String>, description: impl Into<String>) {
        self.0.push(Problem { key: key.into(), description: description.into() });
    }

    /// Keeps the value of a check, or notes why there is none.
    pub fn check<T, E: std::error::Error>(&mut self, key: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(key, chain(&error))).ok()
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The problems in the order they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl Extend<Violation> for Problems {
    fn extend<I: IntoIterator<Item = Violation>>(&mut self, violations: I) {
        for Violation { field, description } in violations {
            self.add(field, description);
        }
    }
}

/// One problem a line, each line indented and begun with a line break.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|Problem { key, description }| write!(f, "\n  {key}: {description}"))
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file: {}", FileName(path))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not text.
    #[error("the configuration file is not usable: {} {problem}", FileName(path))]
    NotText {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        problem: NotText,
    },
    /// The file is not TOML.
    #[error("the configuration file is not TOML: {}: {problem}", FileName(path))]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why, without the text around it.
        problem: String,
    },
    /// The defaults cannot be written down, which is a mistake in the code.
    #[error("the default settings cannot be written down")]
    Defaults(#[from] toml::ser::Error),
    /// Keys or values are wrong.
    #[error("the configuration is not valid:{0}")]
    Invalid(Problems),
}

/// Loads the settings: defaults, then the file (`--config`, or `COUNTERSIGN_CONFIG`), then the environment. Every secret-looking
/// value of them is added to `concealed`.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
pub fn load<S: Settings>(file: Option<&Path>, concealed: &mut Concealed) -> Result<S, ConfigError> {
    load_from(file, std::env::vars_os(), concealed)
}

/// Loads the settings from a file and these variables, as [`load`] does from the environment.
pub fn load_from<S: Settings>(
    file: Option<&Path>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    concealed: &mut Concealed,
) -> Result<S, ConfigError> {
    let variables: Vec<(String, OsString)> = variables
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with(PREFIX) && !name.starts_with(CLI_PREFIX))
        .collect();
    let named =
        variables.iter().find(|(name, path)| name == FILE_VARIABLE && !path.is_empty()).map(|(_, path)| PathBuf::from(path));
    let defaults = Table::try_from(S::default())?;
    let mut problems = Problems::default();
    let mut given = match file.map(Path::to_owned).or(named) {
        Some(path) => read(path)?,
        None => Table::new(),
    };
    let mut from_environment = Vec::new();
    // An empty variable gives nothing: compose files cannot leave one out.
    for (name, value) in variables.into_iter().filter(|(name, value)| name != FILE_VARIABLE && !value.is_empty()) {
        let path: Vec<String> = name.trim_start_matches(PREFIX).to_lowercase().split("__").map(str::to_owned).collect();
        match value.into_string() {
            Ok(text) => {
                set(&mut given, &path, Value::String(text));
                from_environment.push(path.join("."));
            }
            Err(value) => {
                concealed.add(&value.to_string_lossy());
                problems.add(path.join("."), "must be UTF-8 text");
            }
        }
    }
    texts(&given, &mut |text| concealed.add(text));
    let settings: S = typed(&defaults, given, &from_environment, &mut problems).map_err(|error| error.without(concealed))?;
    settings.check(&mut problems);
    settings.telemetry().check("telemetry", &mut problems);
    if problems.is_empty() { Ok(settings) } else { Err(ConfigError::Invalid(problems).without(concealed)) }
}

impl ConfigError {
    /// The error without secret-looking values.
    fn without(self, concealed: &Concealed) -> Self {
        let Self::Invalid(Problems(problems)) = self else { return self };
        let problems = problems.into_iter().map(|Problem { key, description }| Problem {
            key: shown_key(&key).to_owned(),
            description: concealed.remove_from(&description).into_owned(),
        });
        Self::Invalid(Problems(problems.collect()))
    }
}

/// The path of a key, unless that can be a secret itself: somebody pasted it in place of a name.
fn shown_key(key: &str) -> &str {
    let mut names = key.split_once('[').map_or(key, |(names, _)| names).split('.');
    let is_plain = names.all(is_plain_word) && SecretShape::of(key).is_none();
    if is_plain { key } else { "a key that is not shown" }
}

/// Every text in the settings.
fn texts(table: &Table, found: &mut impl FnMut(&str)) {
    fn of_value(value: &Value, found: &mut impl FnMut(&str)) {
        match value {
            Value::String(text) => found(text),
            Value::Array(values) => values.iter().for_each(|value| of_value(value, found)),
            Value::Table(table) => texts(table, found),
            _ => {}
        }
    }
    table.values().for_each(|value| of_value(value, found));
}

fn read(path: PathBuf) -> Result<Table, ConfigError> {
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(source) => return Err(ConfigError::Read { path, source }),
    };
    let text = match text::decode(&bytes) {
        Ok(text) => text,
        Err(problem) => return Err(ConfigError::NotText { path, problem }),
    };
    text.parse().map_err(|error| ConfigError::Syntax { path, problem: toml_problem(&error, text) })
}

/// Where a text is not TOML and why, without the line itself, which can hold a secret.
pub fn toml_problem(error: &toml::de::Error, text: &str) -> String {
    let at = error.span().map_or(text.len(), |span| span.start).min(text.len());
    let before = text.get(..at).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let content = text.lines().nth(line - 1).unwrap_or_default();
    let message = match error.message().rsplit_once(", expected ") {
        // Behind the last one stands what a type says of itself; before it, what was found.
        Some((_, expected)) => format!(": expected {expected}"),
        None if repeats(error.message(), content) => String::new(),
        None => format!(": {}", error.message()),
    };
    format!("line {line}, column {column}{message}")
}

/// The settings that these keys give on top of the defaults. A value of the wrong type is noted and replaced by its default, so
/// that the next one is found too.
fn typed<S: Settings>(
    defaults: &Table,
    mut given: Table,
    from_environment: &[String],
    problems: &mut Problems,
) -> Result<S, ConfigError> {
    // Text from the environment that was not accepted as text, and why.
    let mut reread: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let mut unknown = Vec::new();
        let mut track = serde_path_to_error::Track::new();
        let merged = Value::Table(merge(defaults.clone(), given.clone()));
        let tracked = serde_path_to_error::Deserializer::new(merged, &mut track);
        let result: Result<S, toml::de::Error> = serde_ignored::deserialize(tracked, |path| unknown.push(path.to_string()));
        let error = match result {
            Ok(settings) => {
                for key in unknown {
                    problems.add(key, "is not a setting");
                }
                return Ok(settings);
            }
            Err(error) => error,
        };
        // An element of a list counts as the list.
        let key = track.path().to_string().split('[').next().unwrap_or_default().trim_end_matches('.').to_owned();
        let path: Vec<String> = key.split('.').map(str::to_owned).collect();
        if from_environment.contains(&key)
            && !reread.contains_key(&key)
            && let Some(Value::String(text)) = get(&given, &path)
        {
            let value = literal(text);
            let description = description(&error, get(&given, &path));
            set(&mut given, &path, value);
            reread.insert(key, description);
            continue;
        }
        let description = reread.remove(&key).unwrap_or_else(|| description(&error, get(&given, &path)));
        problems.add(key, description);
        if !remove(&mut given, &path) {
            // Not of a key that was given: nothing to leave out, so nothing more to find.
            return Err(ConfigError::Invalid(std::mem::take(problems)));
        }
    }
}

/// What a value of the wrong type must be. The error's own words can contain the value.
fn description(error: &toml::de::Error, value: Option<&Value>) -> String {
    let message = error.message();
    // Behind the last one stands what a type says of itself; before it, what was found.
    if let Some((_, expected)) = message.rsplit_once(", expected ") {
        return format!("must be {expected}");
    }
    let mut is_repeated = false;
    if let Some(value) = value {
        texts(&Table::from_iter([("value".to_owned(), value.clone())]), &mut |text| is_repeated |= repeats(message, text));
    }
    if is_repeated { "is not valid".to_owned() } else { message.to_owned() }
}

/// A number, a truth value or a list in the environment: as TOML has it, or a list separated by commas.
fn literal(text: &str) -> Value {
    match format!("value = {text}").parse::<Table>() {
        Ok(mut table) => table.remove("value").unwrap_or_else(|| Value::String(text.to_owned())),
        Err(_) => Value::Array(text.split(',').map(|item| Value::String(item.trim().to_owned())).collect()),
    }
}

fn merge(mut below: Table, above: Table) -> Table {
    for (key, value) in above {
        let value = match (below.remove(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => Value::Table(merge(below, above)),
            (_, value) => value,
        };
        below.insert(key, value);
    }
    below
}

fn get<'a>(table: &'a Table, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let value = table.get(first)?;
    if rest.is_empty() { Some(value) } else { get(value.as_table()?, rest) }
}

fn set(table: &mut Table, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        table.insert(first.clone(), value);
        return;
    }
    let section = table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new()));
    if !section.is_table() {
        *section = Value::Table(Table::new());
    }
    if let Value::Table(section) = section {
        set(section, rest, value);
    }
}

/// Leaves out the key, or the nearest section above it that was given.
fn remove(table: &mut Table, path: &[String]) -> bool {
    let Some((first, rest)) = path.split_first() else { return false };
    if let Some(Value::Table(section)) = table.get_mut(first)
        && !rest.is_empty()
        && remove(section, rest)
    {
        return true;
    }
    table.remove(first).is_some()
}

/// The settings as TOML. Secrets are masked, and so is every text that looks like one.
pub fn masked<S: Settings>(settings: &S) -> Result<String, toml::ser::Error> {
    let mut table = Table::try_from(settings)?;
    mask(&mut table);
    toml::to_string_pretty(&table)
}

fn mask(table: &mut Table) {
    fn of_value(key: &str, value: &mut Value) {
        match value {
            Value::String(text) => {
                let is_file = key == "module" || key.ends_with("_file") || key.ends_with("_files");
                let shape = if is_file { SecretShape::of_file_name(Path::new(text)) } else { SecretShape::of(text) };
                if shape.is_some() {
                    "<redacted>".clone_into(text);
                }
            }
            Value::Array(values) => values.iter_mut().for_each(|value| of_value(key, value)),
            Value::Table(table) => mask(table),
            _ => {}
        }
    }
    for (key, value) in table.iter_mut() {
        of_value(key, value);
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::config::{Database, InternalTls, Listen, Peer, SecretText};

    #[derive(Debug, Serialize, Deserialize)]
    struct Example {
        listen: Listen,
        database: Database,
        internal_tls: InternalTls,
        peer: Peer,
        telemetry: Telemetry,
        public_url: String,
        max_age_seconds: u32,
        names: Vec<String>,
        loopback: bool,
        optional: Option<u16>,
    }

    impl Default for Example {
        fn default() -> Self {
            Self {
                listen: Listen::on_loopback(7402),
                database: Database { url: Some(SecretText::new("sqlite::memory:")), url_file: None },
                internal_tls: InternalTls::allowing(["exchange-gateway"]),
                peer: Peer::at("https://issuer-service:7421"),
                telemetry: Telemetry::default(),
                public_url: "https://example.com".to_owned(),
                max_age_seconds: 300,
                names: vec!["a".to_owned()],
                loopback: false,
                optional: None,
            }
        }
    }

    impl Settings for Example {
        fn telemetry(&self) -> &Telemetry {
            &self.telemetry
        }

        fn check(&self, problems: &mut Problems) {
            self.database.check("database", problems);
            if self.public_url.is_empty() {
                problems.add("public_url", "must be given");
            }
        }
    }

    fn from(toml: &str, variables: &[(&str, &str)]) -> Result<Example, Problems> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, toml).unwrap();
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        match load_from(Some(&path), variables, &mut Concealed::default()) {
            Ok(settings) => Ok(settings),
            Err(ConfigError::Invalid(problems)) => Err(problems),
            Err(error) => panic!("{error}"),
        }
    }

    fn keys(problems: &Problems) -> Vec<&str> {
        let mut keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn the_environment_goes_before_the_file_and_the_file_before_the_defaults() {
        let settings = from(
            "public_url = 'https://file'\nmax_age_seconds = 60\n[listen]\nprivate = '0.0.0.0:1'",
            &[("COUNTERSIGN_PUBLIC_URL", "https://environment"), ("OTHER", "x"), ("COUNTERSIGN_LISTEN__INTERNAL", "0.0.0.0:2")],
        )
        .unwrap();
        assert_eq!(settings.public_url, "https://environment");
        assert_eq!(settings.max_age_seconds, 60);
        assert_eq!(settings.listen.public.to_string(), "127.0.0.1:7402");
        assert_eq!(settings.listen.private.to_string(), "0.0.0.0:1");
        assert_eq!(settings.listen.internal.to_string(), "0.0.0.0:2");
        assert_eq!(settings.internal_tls.allowed_peers, ["exchange-gateway".to_owned()].into());
    }

    #[test]
    fn the_environment_gives_every_type_and_never_mistakes_text_for_it() {
        let settings = from(
            "",
            &[
                ("COUNTERSIGN_MAX_AGE_SECONDS", "90"),
                ("COUNTERSIGN_LOOPBACK", "true"),
                ("COUNTERSIGN_OPTIONAL", "7"),
                ("COUNTERSIGN_NAMES", "b, c"),
                ("COUNTERSIGN_PUBLIC_URL", "12345"),
                ("COUNTERSIGN_TELEMETRY__OTLP_ENDPOINT", ""),
                ("COUNTERSIGN_INTERNAL_TLS__ALLOWED_PEERS", "[\"x\", \"y\"]"),
            ],
        )
        .unwrap();
        assert_eq!((settings.max_age_seconds, settings.loopback, settings.optional), (90, true, Some(7)));
        assert_eq!(settings.names, ["b", "c"]);
        assert_eq!(settings.public_url, "12345");
        assert_eq!(settings.telemetry.otlp_endpoint, None);
        assert_eq!(settings.internal_tls.allowed_peers, ["x".to_owned(), "y".to_owned()].into());
    }

    #[test]
    fn every_problem_is_reported_at_once_with_its_key() {
        let file = "telemetry.log_filter = 'a=b=c'\ntelemetry.otlp_endpoint = 'https://collector'\npublic_url = ''\nmax_age_seconds = 'soon'\nunknown = 1\n[listen]\npublic = 'nowhere'\n\
                    [database]\nurll = 'x'\nurl_file = 'y'";
        let problems = from(file, &[("COUNTERSIGN_LOOPBACK", "perhaps"), ("COUNTERSIGN_PEER__URLS", "x")]).unwrap_err();
        let expected = [
            "database.url_file",
            "database.urll",
            "listen.public",
            "loopback",
            "max_age_seconds",
            "peer.urls",
            "public_url",
            "telemetry.log_filter",
            "telemetry.otlp_endpoint",
            "unknown",
        ];
        assert_eq!(keys(&problems), expected);
        let of = |key| problems.iter().find(|problem| problem.key == key).unwrap().description.as_str();
        assert!(of("loopback") == "must be a boolean" && of("max_age_seconds") == "must be u32", "{problems}");
    }

    #[test]
    fn a_section_of_the_wrong_type_is_one_problem() {
        assert_eq!(keys(&from("names = ['a', 2]\npublic_url = ''", &[]).unwrap_err()), ["names", "public_url"]);
        assert_eq!(keys(&from("listen = 3\npublic_url = ''", &[]).unwrap_err()), ["listen", "public_url"]);
    }

    #[test]
    fn s61_printing_masks_secrets() {
        let settings = from("[database]\nurl = 'postgres://me:hunter2@db/x'", &[]).unwrap();
        let printed = masked(&settings).unwrap();
        assert!(!printed.contains("hunter2") && !format!("{settings:?}").contains("hunter2"));
        assert!(printed.contains("url = \"<redacted>\""), "{printed}");
        assert_eq!(settings.database.resolve().unwrap().reveal(), "postgres://me:hunter2@db/x");
    }

    #[test]
    fn a_missing_file_and_a_broken_one_are_named() {
        let missing = load_from::<Example>(Some(Path::new("/nowhere/config.toml")), [], &mut Concealed::default()).unwrap_err();
        assert!(missing.to_string().contains("/nowhere/config.toml"));
        let variables = [("COUNTERSIGN_CONFIG".into(), "/nowhere/else.toml".into())];
        let named = load_from::<Example>(None, variables, &mut Concealed::default()).unwrap_err();
        assert!(named.to_string().contains("/nowhere/else.toml"));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.toml"), "a = = b").unwrap();
        let broken = load_from::<Example>(Some(&folder.path().join("config.toml")), [], &mut Concealed::default()).unwrap_err();
        assert!(matches!(broken, ConfigError::Syntax { .. }), "{broken}");
        assert!(broken.to_string().contains("line 1, column 5"), "{broken}");
    }

    const SECRETS: [&str; 6] = [
        "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJzdWIiOiJvcmc6YSJ9.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg",
        "q1Z8v0x5m3Jt7b2Kc9Rf4Ws6Yd1Gh8Lp0Nq5Tv2Xz3B=",
        "postgres://user:correct-horse-battery@host/database",
        "Bearer correct-horse-battery",
        "correct-horse-battery, expected nothing",
        "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\n-----END PRIVATE KEY-----",
    ];

    /// Whether six characters in a row of the secret are in the text.
    fn leaks(text: &str, secret: &str) -> bool {
        secret.as_bytes().windows(6).filter_map(|run| std::str::from_utf8(run).ok()).any(|run| {
            // What describes every problem.
            ![" expected nothing", "PRIVATE KEY", "database", "postgres", "Bearer "].iter().any(|word| word.contains(run))
                && text.contains(run)
        })
    }

    #[test]
    fn s81_no_problem_repeats_the_value_of_a_setting() {
        let settings = [
            "LISTEN__PUBLIC",
            "DATABASE__URL_FILE",
            "INTERNAL_TLS__KEY_FILE",
            "PEER__URL",
            "TELEMETRY__LOG_FORMAT",
            "TELEMETRY__LOG_FILTER",
            "TELEMETRY__OTLP_ENDPOINT",
            "PUBLIC_URL",
            "MAX_AGE_SECONDS",
            "NAMES",
            "LOOPBACK",
            "OPTIONAL",
            "UNKNOWN",
            "LISTEN",
            "DATABASE",
        ];
        for secret in SECRETS {
            for setting in settings {
                let name = format!("COUNTERSIGN_{setting}");
                if let Err(problems) = from("", &[(&name, secret)]) {
                    assert!(!leaks(&problems.to_string(), secret), "{setting}: {problems}");
                }
                let quoted = Value::from(secret).to_string();
                let key = setting.to_lowercase().replace("__", ".");
                if let Err(problems) = from(&format!("{key} = {quoted}"), &[]) {
                    assert!(!leaks(&problems.to_string(), secret), "{setting}: {problems}");
                }
            }
            // A secret in place of a key, and one that breaks the file.
            let as_key = from(&format!("{} = 1", serde_json::Value::from(secret)), &[]).unwrap_err().to_string();
            assert!(!leaks(&as_key, secret), "{as_key}");
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("config.toml");
            for text in [secret.to_owned(), format!("public_url = {secret}"), format!("public_url = \"{secret}")] {
                std::fs::write(&path, text).unwrap();
                let broken = load_from::<Example>(Some(&path), [], &mut Concealed::default()).unwrap_err();
                let shown = format!("{:#}", anyhow::Error::from(broken));
                assert!(!leaks(&shown, secret), "{shown}");
            }
        }
    }

    #[test]
    fn s81_what_looks_like_a_secret_is_masked_wherever_it_was_put() {
        let token = SECRETS[0];
        let file = format!("names = ['{token}', 'plain']\ntelemetry.log_filter = '{}'", SECRETS[1].trim_end_matches('='));
        let printed = masked(&from(&file, &[]).unwrap()).unwrap();
        assert!(!leaks(&printed, token) && !leaks(&printed, SECRETS[1]), "{printed}");
        assert!(printed.contains("\"plain\"") && printed.contains("https://issuer-service:7421"), "{printed}");
    }

    #[test]
    fn s81_a_variable_that_is_not_utf_8_is_a_problem_and_not_shown() {
        use std::os::unix::ffi::OsStringExt as _;
        let value = OsString::from_vec(b"correct-horse\xff-battery".to_vec());
        let error =
            load_from::<Example>(None, [("COUNTERSIGN_PUBLIC_URL".into(), value)], &mut Concealed::default()).unwrap_err();
        let shown = error.to_string();
        assert!(shown.contains("public_url: must be UTF-8 text") && !shown.contains("horse"), "{shown}");
    }

    #[test]
    fn a_file_with_a_byte_order_mark_is_read_and_utf_16_is_named() {
        assert_eq!(from("\u{feff}max_age_seconds = 7", &[]).unwrap().max_age_seconds, 7);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, b"\xff\xfea\0").unwrap();
        let error = load_from::<Example>(Some(&path), [], &mut Concealed::default()).unwrap_err().to_string();
        assert!(error.contains("UTF-16"), "{error}");
    }
}
