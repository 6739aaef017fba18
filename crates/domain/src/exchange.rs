//! One exchange: the claims of a subject token, the request, the decision, the access token, and what is recorded.

pub mod access_token;
pub mod access_token_check;
pub mod audit;
pub mod claims;
pub mod commit;
pub mod decision;
pub mod granted_claims;
pub mod lineage;
pub mod presentation;
pub mod request;
