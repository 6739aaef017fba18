//! Issuers of this deployment: profiles, ID tokens, signing keys, and what relying parties accept.

pub mod id_token;
pub mod id_token_durations;
pub mod issuer;
pub mod profile;
pub mod relying_party;
pub mod signing_key;
