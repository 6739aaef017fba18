//! What everything else is made of: ids, names, times, URLs, algorithms, patterns and the violations that refuse them.

pub mod claim_path;
pub mod deployment_audience;
pub mod draft;
pub mod etag;
pub mod grant;
pub mod id;
pub mod inexact;
pub mod issuer_url;
pub mod name;
pub mod reason;
pub mod replay_policy;
pub mod signature_algorithm;
pub mod subject_match;
pub mod text;
pub mod time;
pub mod token_type;
pub mod violation;
