//! The context file: which deployment the commands speak to, and as whom.
//!
//! Found at `--context`, else `COUNTERSIGN_CLI_CONTEXT`, else `$XDG_CONFIG_HOME/countersign/context.toml`
//! (`~/.config/countersign/context.toml`). A missing default file is an empty context. Flags and environment variables win over
//! every line of it.

use std::io;
use std::path::{Path, PathBuf};

use countersign_runtime::config::toml_problem;
use countersign_runtime::disclosure::FileName;
use countersign_runtime::text;
use serde::{Deserialize, Serialize};

use crate::private_file;

/// The name of a context file in its folder.
pub(crate) const FILE_NAME: &str = "context.toml";

/// Who made a context that `countersign dev` may replace.
const MADE_BY_DEV: &str = "countersign dev";

/// What a context file says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Context {
    /// Present in files that `countersign dev` wrote and may replace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) made_by: Option<String>,
    /// URL of issuer-service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) issuer_address: Option<String>,
    /// URL of trust-service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trust_address: Option<String>,
    /// URL of exchange-gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gateway_address: Option<String>,
    /// PEM file of the authorities that sign the services' certificates, when the system does not know them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<PathBuf>,
    /// File with the bootstrap token or an access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) credential_file: Option<PathBuf>,
    /// The workspace of commands that name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) workspace: Option<String>,
    /// The issuer of `auth issue-id-token` without `--issuer-id`; an issuer of that workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) issuer_id: Option<String>,
}

/// Why a context file was not usable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContextError {
    /// It cannot be read.
    #[error("cannot read the context file {}", FileName(path))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is not what a context file is.
    #[error("the context file {} is not valid: {problem}", FileName(path))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where and why, without the values.
        problem: String,
    },
    /// It cannot be written.
    #[error("cannot write the context file {}", FileName(path))]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl Context {
    /// Marks the context as one that `countersign dev` may replace.
    pub(crate) fn made_by_dev(self) -> Self {
        Self { made_by: Some(MADE_BY_DEV.to_owned()), ..self }
    }

    /// Whether `countersign dev` may replace it.
    pub(crate) fn is_devs(&self) -> bool {
        self.made_by.as_deref() == Some(MADE_BY_DEV)
    }

    /// Reads a context file; `None` when there is none. Paths in it are relative to its folder.
    ///
    /// # Errors
    /// The file exists and is not a readable context.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, ContextError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ContextError::Read { path: path.to_owned(), source }),
        };
        let invalid = |problem: String| ContextError::Invalid { path: path.to_owned(), problem };
        let text = text::decode(&bytes).map_err(|problem| invalid(problem.to_string()))?;
        let mut context: Self = toml::from_str(text).map_err(|error| invalid(toml_problem(&error, text)))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for file in [&mut context.ca_file, &mut context.credential_file].into_iter().flatten() {
            *file = folder.join(&*file);
        }
        Ok(Some(context))
    }

    /// Writes a context file by atomic rename.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn write(&self, path: &Path) -> Result<(), ContextError> {
        let failed = |source| ContextError::Write { path: path.to_owned(), source };
        let text = toml::to_string(self).map_err(|error| failed(io::Error::other(error)))?;
        private_file::replace(path, text.as_bytes()).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_survives_a_round_trip_and_its_paths_are_relative_to_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("with \"quotes\"").join(FILE_NAME);
        assert_eq!(Context::read(&path).unwrap(), None);
        let context = Context {
            trust_address: Some("http://localhost:7402".to_owned()),
            credential_file: Some("secrets/bootstrap-token".into()),
            ..Context::default()
        }
        .made_by_dev();
        context.write(&path).unwrap();
        let read = Context::read(&path).unwrap().unwrap();
        assert!(read.is_devs());
        assert_eq!(read.credential_file, Some(path.parent().unwrap().join("secrets/bootstrap-token")));
        assert_eq!(read.trust_address, context.trust_address);
    }

    #[test]
    fn an_unknown_line_is_an_error_that_says_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        std::fs::write(&path, "trust_adress = \"http://localhost:7402\"\n").unwrap();
        let error = Context::read(&path).unwrap_err();
        assert!(error.to_string().contains("line 1, column 1: expected one of `made_by`"), "{error}");
    }
}
