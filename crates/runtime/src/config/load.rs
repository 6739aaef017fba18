//! Layers, types and checks.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use countersign_domain::violation::Violation;
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::Telemetry;

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
    #[error("cannot read the configuration file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("the configuration file {path} is not TOML")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// The defaults cannot be written down, which is a mistake in the code.
    #[error("the default settings cannot be written down")]
    Defaults(#[from] toml::ser::Error),
    /// Keys or values are wrong.
    #[error("the configuration is not valid:{0}")]
    Invalid(Problems),
}

/// Loads the settings: defaults, then the file (`--config`, or `COUNTERSIGN_CONFIG`), then the environment.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
pub fn load<S: Settings>(file: Option<&Path>) -> Result<S, ConfigError> {
    let variables = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    load_from(file, variables)
}

fn load_from<S: Settings>(file: Option<&Path>, variables: impl Iterator<Item = (String, String)>) -> Result<S, ConfigError> {
    let variables: Vec<(String, String)> =
        variables.filter(|(name, _)| name.starts_with(PREFIX) && !name.starts_with(CLI_PREFIX)).collect();
    let named = variables.iter().find(|(name, _)| name == FILE_VARIABLE).map(|(_, path)| PathBuf::from(path));
    let defaults = Table::try_from(S::default())?;
    let mut given = match file.map(Path::to_owned).or(named) {
        Some(path) => read(path)?,
        None => Table::new(),
    };
    let mut from_environment = Vec::new();
    // An empty variable gives nothing: compose files cannot leave one out.
    for (name, text) in variables.into_iter().filter(|(name, text)| name != FILE_VARIABLE && !text.is_empty()) {
        let path: Vec<String> = name.trim_start_matches(PREFIX).to_lowercase().split("__").map(str::to_owned).collect();
        set(&mut given, &path, Value::String(text));
        from_environment.push(path.join("."));
    }
    let mut problems = Problems::default();
    let settings: S = typed(&defaults, given, &from_environment, &mut problems)?;
    settings.check(&mut problems);
    settings.telemetry().check("telemetry", &mut problems);
    if problems.is_empty() { Ok(settings) } else { Err(ConfigError::Invalid(problems)) }
}

fn read(path: PathBuf) -> Result<Table, ConfigError> {
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(ConfigError::Read { path, source }),
    };
    text.parse().map_err(|source| ConfigError::Syntax { path, source: Box::new(source) })
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
            set(&mut given, &path, value);
            reread.insert(key, error.message().to_owned());
            continue;
        }
        let description = reread.remove(&key).unwrap_or_else(|| error.message().to_owned());
        problems.add(key, description);
        if !remove(&mut given, &path) {
            // Not of a key that was given: nothing to leave out, so nothing more to find.
            return Err(ConfigError::Invalid(std::mem::take(problems)));
        }
    }
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

/// The settings as TOML, secrets masked.
pub fn masked<S: Settings>(settings: &S) -> Result<String, toml::ser::Error> {
    toml::to_string_pretty(settings)
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
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        match load_from(Some(&path), variables) {
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
        assert!(of("loopback").contains("boolean") && of("max_age_seconds").contains("u32"), "{problems}");
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
        let missing = load_from::<Example>(Some(Path::new("/nowhere/config.toml")), std::iter::empty()).unwrap_err();
        assert!(missing.to_string().contains("/nowhere/config.toml"));
        let variables = [("COUNTERSIGN_CONFIG".to_owned(), "/nowhere/else.toml".to_owned())];
        let named = load_from::<Example>(None, variables.into_iter()).unwrap_err();
        assert!(named.to_string().contains("/nowhere/else.toml"));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.toml"), "a = = b").unwrap();
        let broken = load_from::<Example>(Some(&folder.path().join("config.toml")), std::iter::empty()).unwrap_err();
        assert!(matches!(broken, ConfigError::Syntax { .. }), "{broken}");
    }
}
