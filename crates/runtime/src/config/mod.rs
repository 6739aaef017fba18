//! Settings: defaults in code, then a file, then the environment.
//!
//! A service has one struct of settings, made of the sections here and its own, and says by [`Settings`] what it defaults to and
//! what is wrong with it:
//!
//! ```
//! # use std::path::PathBuf;
//! # use countersign_domain::values::issuer_url::LoopbackHttp;
//! # use countersign_runtime::config::{self, Database, InternalTls, Listen, Peer, Problems, Settings, Telemetry};
//! # use serde::{Deserialize, Serialize};
//! #[derive(Debug, Clone, Serialize, Deserialize)]
//! struct TrustServiceSettings {
//!     listen: Listen,
//!     database: Database,
//!     internal_tls: InternalTls,
//!     issuer_service: Peer,
//!     telemetry: Telemetry,
//!     public_url: String,
//!     bootstrap_token_file: Option<PathBuf>,
//! }
//!
//! impl Default for TrustServiceSettings {
//!     fn default() -> Self {
//!         Self {
//!             listen: Listen::on_loopback(7402),
//!             database: Database::default(),
//!             internal_tls: InternalTls::default(),
//!             issuer_service: Peer::at("https://issuer-service:7421"),
//!             telemetry: Telemetry::default(),
//!             public_url: String::new(),
//!             bootstrap_token_file: None,
//!         }
//!     }
//! }
//!
//! impl Settings for TrustServiceSettings {
//!     fn telemetry(&self) -> &Telemetry {
//!         &self.telemetry
//!     }
//!
//!     fn check(&self, problems: &mut Problems) {
//!         self.database.check("database", problems);
//!         self.internal_tls.check("internal_tls", problems);
//!         self.issuer_service.check("issuer_service", problems);
//!         problems.check("public_url", config::public_url(&self.public_url, LoopbackHttp::Refused));
//!     }
//! }
//! ```
//!
//! In the file, `[database] url = "…"`; in the environment, `COUNTERSIGN_DATABASE__URL`, with `__` between sections; an empty variable gives nothing. Unknown keys
//! are errors, and every problem is reported at once with the path of its key, before any port opens. Do not use
//! `serde(flatten)` or `serde(default)`: the first hides unknown keys, the second is not needed, since what is not given is taken
//! from `Default`.

mod deployment;
mod load;
mod sections;

pub use deployment::{InvalidDeploymentSecret, InvalidPublicUrl, deployment_secret, public_url};
pub use load::{ConfigError, Problem, Problems, Settings, load, load_from, masked, toml_problem};
pub use sections::{Database, InternalTls, Listen, LogFormat, OptionalUrl, Peer, SecretText, Telemetry, check_quotas};
