//! issuer-service: signs ID tokens for a platform's runs and access tokens for the gateway, and publishes what verifies them.
//!
//! It owns issuers and signing keys, and is the only process that ever holds a private key. It deliberately knows nothing of
//! trust relationships: which access tokens are to be made is the gateway's decision, and all that is decided here is whether a
//! thing to be signed is an access token.
//!
//! Signing and serving go by a picture in memory ([`directory`]), which [`keeper`] keeps fresh, so both outlive the database.
//! [`custody`] seals and opens private keys, [`documents`] renders what is published, [`export`] writes it where relying parties can read it, [`http`] and [`rpc`] are the two surfaces,
//! [`workspaces`] follows which workspaces exist and are active, [`withdrawal`] ends the issuers of deleted ones.
//! [`reach`] asks which permissions subjects of an issuer obtain.
//! [`key_metrics`] is what operators watch. Start at [`start`](fn@start), where it is put together.

mod causes;
mod custody;
mod directory;
mod documents;
mod export;
mod http;
mod keeper;
mod key_metrics;
mod reach;
mod rpc;
mod settings;
mod start;
mod withdrawal;
mod workspaces;

pub use export::{ExportTarget, InvalidExportTarget};
pub use settings::{Export, InvalidExport, IssuerSettings, Pkcs11};
pub use start::{Config, Deps, start};
