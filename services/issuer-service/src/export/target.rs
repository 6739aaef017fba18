//! Where documents are exported to.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use countersign_domain::values::name::KeyId;
use countersign_runtime::disclosure::{is_plain_word, repeats};
use object_store::aws::AmazonS3ConfigKey;
use object_store::azure::AzureConfigKey;
use object_store::gcp::GoogleConfigKey;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Attribute, Attributes, ClientConfigKey, ObjectStore, ObjectStoreExt as _, PutOptions};
use serde_json::Value;
use url::Url;

use crate::causes::Causes;

/// A directory, or a bucket of an object store with a prefix.
#[derive(Clone)]
pub struct ExportTarget {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// A directory has no headers for its files: whoever serves it adds them.
    has_headers: bool,
    shown: Box<str>,
}

/// Not a place to export to.
#[derive(Debug, thiserror::Error)]
pub enum InvalidExportTarget {
    /// Not a URL of a kind that is known.
    #[error("must be a URL like file:///directory, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix")]
    Url,
    /// Not an option of the store; its name, where that can be shown.
    #[error("{} is not an option of such a store", .0.as_deref().unwrap_or("an option whose name is not shown"))]
    Option(Option<String>),
    /// The store refuses URL or options.
    #[error("cannot be used{}", .0.as_deref().map(|cause| format!(": {cause}")).unwrap_or_default())]
    Store(Option<String>),
    /// The directory.
    #[error("cannot be used: the directory must exist")]
    Directory(#[source] object_store::Error),
}

impl ExportTarget {
    /// Reads what the operator wrote: a URL, and options of the store by their names in the `object_store` crate, credentials among
    /// them. Nothing is asked of the store yet.
    ///
    /// # Errors
    /// See [`InvalidExportTarget`].
    pub fn parse(url: &str, options: Vec<(String, String)>) -> Result<Self, InvalidExportTarget> {
        let parsed = Url::parse(url).map_err(|_| InvalidExportTarget::Url)?;
        let is_known: fn(&str) -> bool = match parsed.scheme() {
            "file" => |_| false,
            "s3" | "s3a" => |name| name.parse::<AmazonS3ConfigKey>().is_ok(),
            "gs" => |name| name.parse::<GoogleConfigKey>().is_ok(),
            "az" | "azure" | "abfs" | "abfss" => |name| name.parse::<AzureConfigKey>().is_ok(),
            _ => return Err(InvalidExportTarget::Url),
        };
        // The crate passes over what it does not know.
        let unknown = options.iter().find(|(name, _)| !is_known(name) && name.parse::<ClientConfigKey>().is_err());
        if let Some((name, _)) = unknown {
            return Err(unknown_option(name));
        }
        // What may stand in a URL beside the place is never shown.
        let shown = format!("{}://{}{}", parsed.scheme(), parsed.host_str().unwrap_or_default(), parsed.path()).into();
        if parsed.scheme() == "file" {
            if let Some((name, _)) = options.first() {
                return Err(unknown_option(name));
            }
            let directory = parsed.to_file_path().map_err(|()| InvalidExportTarget::Url)?;
            let store = LocalFileSystem::new_with_prefix(directory).map_err(InvalidExportTarget::Directory)?;
            return Ok(Self { store: Arc::new(store.with_fsync(true)), prefix: Path::default(), has_headers: false, shown });
        }
        let values: Vec<String> = options.iter().map(|(_, value)| value.clone()).collect();
        let (store, prefix) = object_store::parse_url_opts(&parsed, options).map_err(|error| {
            // The options are secret, and the crate's errors can repeat them.
            let cause = format!("{error}: {}", Causes(&error));
            let is_shown = !values.iter().map(String::as_str).chain([url]).any(|value| repeats(&cause, value));
            InvalidExportTarget::Store(is_shown.then_some(cause))
        })?;
        Ok(Self { store: store.into(), prefix, has_headers: true, shown })
    }

    /// Anything that behaves like an object store.
    #[cfg(test)]
    pub(super) fn of(store: Arc<dyn ObjectStore>, has_headers: bool) -> Self {
        Self { store, prefix: Path::from("prefix"), has_headers, shown: "test".into() }
    }

    /// Has these bytes lie there. They are read first: to write is dearer, and rings the bell of whoever watches.
    pub(super) async fn ensure(
        &self,
        path: &str,
        bytes: &Bytes,
        content_type: &'static str,
        max_age: Duration,
    ) -> Result<(), object_store::Error> {
        let path = self.path(path)?;
        let mut attributes = Attributes::new();
        if self.has_headers {
            attributes.insert(Attribute::ContentType, content_type.into());
            attributes.insert(Attribute::CacheControl, format!("public, max-age={}", max_age.as_secs()).into());
        }
        match self.store.get(&path).await {
            Ok(found) => {
                let has_headers = attributes.iter().all(|(name, value)| found.attributes.get(name) == Some(value));
                // What is longer or shorter need not be read.
                if has_headers && found.meta.size == bytes.len() as u64 && found.bytes().await? == *bytes {
                    return Ok(());
                }
            }
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let options = PutOptions { attributes, ..PutOptions::default() };
        self.store.put_opts(&path, bytes.clone().into(), options).await?;
        tracing::info!(target = %self.shown, %path, "exported a document");
        Ok(())
    }

    /// Has no key set lie there with one of these keys.
    pub(super) async fn take_out(
        &self,
        path: &str,
        revoked: &BTreeSet<KeyId>,
        content_type: &'static str,
        max_age: Duration,
    ) -> Result<(), object_store::Error> {
        let found = match self.store.get(&self.path(path)?).await {
            Ok(found) => found.bytes().await?,
            Err(object_store::Error::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        // What is no key set has none of the keys.
        let Ok(mut set) = serde_json::from_slice::<Value>(&found) else { return Ok(()) };
        let Some(keys) = set.get_mut("keys").and_then(Value::as_array_mut) else { return Ok(()) };
        let before = keys.len();
        keys.retain(|key| key["kid"].as_str().is_none_or(|id| !revoked.iter().any(|revoked| revoked.as_str() == id)));
        if keys.len() == before {
            return Ok(());
        }
        self.ensure(path, &set.to_string().into(), content_type, max_age).await
    }

    /// Has nothing lie there.
    pub(super) async fn remove(&self, path: &str) -> Result<(), object_store::Error> {
        match self.store.delete(&self.path(path)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn path(&self, below: &str) -> Result<Path, object_store::Error> {
        let prefix = self.prefix.as_ref();
        let whole = if prefix.is_empty() { below.to_owned() } else { format!("{prefix}/{below}") };
        Ok(Path::parse(whole)?)
    }
}

/// A secret can stand in the place of a name.
fn unknown_option(name: &str) -> InvalidExportTarget {
    InvalidExportTarget::Option(is_plain_word(name).then(|| format!("`{name}`")))
}

impl fmt::Debug for ExportTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ExportTarget").field(&self.shown).finish()
    }
}
