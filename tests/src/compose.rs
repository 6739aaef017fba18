//! What `docker-compose.yml` says, so that tests start the services exactly as it does.

use std::collections::BTreeMap;

use yaml_rust2::{Yaml, YamlLoader};

/// The compose file.
#[derive(Debug)]
pub struct Compose(Yaml);

impl Compose {
    /// Reads the file at the root of the repository.
    pub fn read() -> Self {
        let path = crate::repository().join("docker-compose.yml");
        let text = std::fs::read_to_string(path).expect("docker-compose.yml can be read");
        let mut documents = YamlLoader::load_from_str(&text).expect("docker-compose.yml is YAML");
        assert_eq!(documents.len(), 1);
        Self(documents.remove(0))
    }

    /// The names of all services.
    pub fn services(&self) -> Vec<String> {
        let services = self.0["services"].as_hash().expect("there are services");
        services.keys().map(text).collect()
    }

    /// The environment of a service, with `${NAME:-default}` replaced by a given variable or the default.
    pub fn environment(&self, service: &str, variables: &BTreeMap<&str, String>) -> BTreeMap<String, String> {
        let environment = self.service(service)["environment"].as_hash().cloned().unwrap_or_default();
        environment.iter().map(|(name, value)| (text(name), interpolate(&text(value), variables))).collect()
    }

    /// The program a service runs, and its arguments.
    pub fn command(&self, service: &str) -> Vec<String> {
        list(&self.service(service)["command"])
    }

    /// The command that tells whether a service is healthy; empty when there is none.
    pub fn health_check(&self, service: &str) -> Vec<String> {
        list(&self.service(service)["healthcheck"]["test"])
    }

    fn service(&self, name: &str) -> &Yaml {
        let service = &self.0["services"][name];
        assert!(!service.is_badvalue(), "docker-compose.yml has no service {name}");
        service
    }
}

fn list(yaml: &Yaml) -> Vec<String> {
    yaml.as_vec().into_iter().flatten().map(text).collect()
}

fn text(yaml: &Yaml) -> String {
    match yaml {
        Yaml::String(text) | Yaml::Real(text) => text.clone(),
        Yaml::Integer(number) => number.to_string(),
        Yaml::Boolean(truth) => truth.to_string(),
        other => panic!("{other:?} where a text is expected"),
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
