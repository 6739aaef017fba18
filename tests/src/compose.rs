//! What `docker-compose.yml` says, so that tests start the services exactly as it does.

use std::collections::BTreeMap;

use serde_json::Value;

/// The compose file.
#[derive(Debug)]
pub struct Compose(Value);

impl Compose {
    /// Reads the file at the root of the repository.
    pub fn read() -> Self {
        let path = crate::repository().join("docker-compose.yml");
        let text = std::fs::read_to_string(path).expect("docker-compose.yml can be read");
        let mut file: Value = serde_norway::from_str(&text).expect("docker-compose.yml is YAML");
        for service in file["services"].as_object_mut().expect("there are services").values_mut() {
            merge(service);
        }
        Self(file)
    }

    /// The names of all services.
    pub fn services(&self) -> Vec<String> {
        let services = self.0["services"].as_object().expect("there are services");
        services.keys().cloned().collect()
    }

    /// The environment of a service, with `${NAME:-default}` replaced by a given variable or the default.
    pub fn environment(&self, service: &str, variables: &BTreeMap<&str, String>) -> BTreeMap<String, String> {
        let environment = self.service(service)["environment"].as_object().cloned().unwrap_or_default();
        environment.iter().map(|(name, value)| (name.clone(), interpolate(&text(value), variables))).collect()
    }

    /// The program a service runs, and its arguments.
    pub fn command(&self, service: &str) -> Vec<String> {
        list(&self.service(service)["command"])
    }

    /// The command that tells whether a service is healthy; empty when there is none.
    pub fn health_check(&self, service: &str) -> Vec<String> {
        list(&self.service(service)["healthcheck"]["test"])
    }

    /// What a service mounts.
    pub fn mounts(&self, service: &str) -> Vec<Mount> {
        list(&self.service(service)["volumes"]).iter().map(|mount| Mount::parse(mount)).collect()
    }

    /// The names of the volumes that the file declares.
    pub fn volumes(&self) -> Vec<String> {
        self.0["volumes"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
    }

    /// A key of a service, as it is written; null when it is not.
    pub fn key(&self, service: &str, key: &str) -> &Value {
        &self.service(service)[key]
    }

    fn service(&self, name: &str) -> &Value {
        self.0["services"].get(name).unwrap_or_else(|| panic!("docker-compose.yml has no service {name}"))
    }
}

/// A volume or a file of the repository, in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The name of a volume, or a path that begins with `./`.
    pub source: String,
    /// Where the container sees it.
    pub target: String,
    /// Whether the container can only read it.
    pub read_only: bool,
}

impl Mount {
    fn parse(text: &str) -> Self {
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, read_only) = match parts[..] {
            [source, target] => (source, target, false),
            [source, target, "ro"] => (source, target, true),
            _ => panic!("{text} is not a mount that this reader knows"),
        };
        Self { source: source.to_owned(), target: target.to_owned(), read_only }
    }

    /// Whether it is a file or folder of this machine, rather than a volume.
    pub fn is_bind(&self) -> bool {
        self.source.starts_with(['.', '/', '~'])
    }
}

/// Puts in what YAML's merge key `<<` refers to, as compose does. Keys that are written themselves win.
fn merge(service: &mut Value) {
    let service = service.as_object_mut().expect("a service is a mapping");
    if let Some(Value::Object(merged)) = service.remove("<<") {
        for (key, value) in merged {
            service.entry(key).or_insert(value);
        }
    }
}

fn list(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        other => panic!("{other} where a text is expected"),
    }
}

/// Compose's own rules, as far as the file uses them.
fn interpolate(text: &str, variables: &BTreeMap<&str, String>) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        result.push_str(before);
        let (expression, after) = after.split_once('}').expect("a variable's brace is closed");
        let (name, default) = expression.split_once(":-").expect("every variable has a default");
        result.push_str(variables.get(name).map_or(default, String::as_str));
        rest = after;
    }
    result + rest
}
