//! `Debug` of the messages that hold tokens: everything but the token.

use std::fmt;

use crate::{exchange_v1, issuer_v1};

const HIDDEN: &str = "<redacted>";

impl fmt::Debug for exchange_v1::ExchangeTokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExchangeTokenRequest")
            .field("subject_token", &HIDDEN)
            .field("workspace_id", &self.workspace_id)
            .field("trust_relationship_id", &self.trust_relationship_id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for exchange_v1::ExchangeTokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExchangeTokenResponse")
            .field("access_token", &HIDDEN)
            .field("workspace_id", &self.workspace_id)
            .field("trust_relationship_id", &self.trust_relationship_id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for exchange_v1::ExplainExchangeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExplainExchangeRequest")
            .field("subject_token", &HIDDEN)
            .field("workspace_id", &self.workspace_id)
            .field("trust_relationship_id", &self.trust_relationship_id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for issuer_v1::IssueIdTokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssueIdTokenResponse").field("id_token", &HIDDEN).field("subject", &self.subject).finish_non_exhaustive()
    }
}

impl fmt::Debug for issuer_v1::SignedAccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedAccessToken").field("result", &self.result).field("expire_time", &self.expire_time).finish()
    }
}

impl fmt::Debug for issuer_v1::signed_access_token::Result {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AccessToken(_) => f.debug_tuple("AccessToken").field(&HIDDEN).finish(),
            Self::Refusal(reason) => f.debug_tuple("Refusal").field(reason).finish(),
        }
    }
}
