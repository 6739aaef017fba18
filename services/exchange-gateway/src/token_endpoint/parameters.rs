//! Which parameters are refused rather than ignored.
//!
//! An authorisation server ignores what it does not recognise (RFC 6749, section 3.2). But a parameter that names or authenticates the
//! client, names whose policy decides, or narrows the access token must never be ignored: the client would get more than it requested,
//! or as another than it said (SECURITY 80). So the endpoint recognises all parameters that do so in the registered OAuth extensions,
//! in the documented products whose clients are pointed at this endpoint, and in our own gRPC and command-line interfaces. It obeys
//! those in [`OBEYED`], refuses those in [`UNSUPPORTED`] and misspellings of either, and ignores every other.

use crate::request::Concern;

/// What the endpoint reads.
const OBEYED: [&str; 10] = [
    "grant_type",
    "subject_token",
    "subject_token_type",
    "assertion",
    "requested_token_type",
    "requested_expires_in",
    "client_id",
    "scope",
    "audience",
    "resource",
];

const NO_SECRET: &str = "is not supported: no client has a secret, and the subject token is the credential";
const NO_ASSERTION: &str = "is not supported: no client authenticates by an assertion, and the subject token is the credential";
const NO_DETAILS: &str =
    "is not supported: grants cannot be narrowed yet; leave it out to request every grant of the trust relationship";
const NO_ACTOR: &str = "is not supported: an access token names one subject";
const NO_KEY: &str = "is not supported: access tokens are not bound to keys yet";
const NO_SUBJECT: &str = "is not supported: subject_token names the subject and its issuer";
const NO_ACCESS: &str = "is not supported; use scope and audience to narrow the access token";
const OTHER_GRANT: &str = "belongs to a grant type that is not supported";
const USE_CLIENT: &str = "is not a parameter of this endpoint; use client_id=tr_…";
const USE_AUDIENCE: &str = "is not a parameter of this endpoint; use an audience of the form <gateway>/workspaces/ws_…";
const USE_LIFETIME: &str = "is not a parameter of this endpoint; use requested_expires_in";
const ONE_EACH: &str = "is not a parameter of this endpoint; use scope and audience";
const EXACT: &str = "must be written exactly so, in lower case, with underscores and without brackets";

/// Parameters that are refused, what each concerns, and what its caller is told.
const UNSUPPORTED: [(&str, Concern, &str); 42] = [
    // They authenticate the client: RFC 6749, section 2.3.1, and RFC 7521, section 4.2.
    ("client_secret", Concern::Client, NO_SECRET),
    ("client_assertion", Concern::Client, NO_ASSERTION),
    ("client_assertion_type", Concern::Client, NO_ASSERTION),
    // They narrow: RFC 9396; OpenID Connect Core, section 5.5; RFC 9101; credential access boundaries of Google's STS.
    ("authorization_details", Concern::AuthorizationDetails, NO_DETAILS),
    ("claims", Concern::Request, NO_ACCESS),
    ("request", Concern::Request, NO_ACCESS),
    ("request_uri", Concern::Request, NO_ACCESS),
    ("options", Concern::Request, NO_ACCESS),
    // They name an actor: RFC 8693, section 2.1.
    ("actor_token", Concern::Request, NO_ACTOR),
    ("actor_token_type", Concern::Request, NO_ACTOR),
    // They bind the access token to a key: RFC 9201, section 3.1; RFC 9449, section 10.
    ("req_cnf", Concern::Request, NO_KEY),
    ("dpop_jkt", Concern::Request, NO_KEY),
    // They name the subject or its issuer, as Keycloak's token exchange has them.
    ("requested_subject", Concern::Request, NO_SUBJECT),
    ("requested_issuer", Concern::Request, NO_SUBJECT),
    ("subject_issuer", Concern::Request, NO_SUBJECT),
    // They are the credentials of other grants: RFC 6749, 7636 and 8628; OpenID Connect CIBA; UMA.
    ("username", Concern::Request, OTHER_GRANT),
    ("password", Concern::Request, OTHER_GRANT),
    ("code", Concern::Request, OTHER_GRANT),
    ("code_verifier", Concern::Request, OTHER_GRANT),
    ("refresh_token", Concern::Request, OTHER_GRANT),
    ("device_code", Concern::Request, OTHER_GRANT),
    ("auth_req_id", Concern::Request, OTHER_GRANT),
    ("ticket", Concern::Request, OTHER_GRANT),
    ("claim_token", Concern::Request, OTHER_GRANT),
    // They are what the same is called over gRPC and on the command line.
    ("workspace", Concern::Request, USE_AUDIENCE),
    ("workspace_id", Concern::Request, USE_AUDIENCE),
    ("tenant_id", Concern::Request, USE_AUDIENCE),
    ("trust_relationship", Concern::Request, USE_CLIENT),
    ("trust_relationship_id", Concern::Request, USE_CLIENT),
    ("audiences", Concern::Request, ONE_EACH),
    ("scopes", Concern::Request, ONE_EACH),
    ("resources", Concern::Request, ONE_EACH),
    ("grants", Concern::Request, NO_DETAILS),
    // They name a lifetime.
    ("duration", Concern::Request, USE_LIFETIME),
    ("token_duration", Concern::Request, USE_LIFETIME),
    ("requested_duration", Concern::Request, USE_LIFETIME),
    ("requested_lifetime", Concern::Request, USE_LIFETIME),
    ("requested_token_lifetime", Concern::Request, USE_LIFETIME),
    ("lifetime", Concern::Request, USE_LIFETIME),
    ("expires_in", Concern::Request, USE_LIFETIME),
    ("expiry", Concern::Request, USE_LIFETIME),
    ("ttl", Concern::Request, USE_LIFETIME),
];

/// Why a parameter is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RefusedParameter {
    /// Its name, correctly spelt: what the caller wrote is not repeated.
    pub(crate) name: &'static str,
    pub(crate) concern: Concern,
    pub(crate) description: &'static str,
}

/// Why a parameter of this name is refused. `None` when it is obeyed, and when it is ignored.
pub(crate) fn refused(name: &str) -> Option<RefusedParameter> {
    if let Some(&(name, concern, description)) = UNSUPPORTED.iter().find(|(unsupported, ..)| *unsupported == name) {
        return Some(RefusedParameter { name, concern, description });
    }
    if OBEYED.contains(&name) {
        return None;
    }
    // `Client_ID`, `client-id`, `audience[]`, `scope[0]`.
    let plain = name.split('[').next().unwrap_or_default().trim();
    let is_meant = |known: &str| known.len() == plain.len() && known.eq_ignore_ascii_case(&plain.replace('-', "_"));
    let obeyed = OBEYED.iter().map(|&name| (name, Concern::Request));
    let unsupported = UNSUPPORTED.iter().map(|&(name, concern, _)| (name, concern));
    let (name, concern) = obeyed.chain(unsupported).find(|(known, _)| is_meant(known))?;
    Some(RefusedParameter { name, concern, description: EXACT })
}

#[cfg(test)]
pub(crate) fn unsupported() -> impl Iterator<Item = (&'static str, Concern)> {
    UNSUPPORTED.iter().map(|&(name, concern, _)| (name, concern))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s80_no_parameter_is_both_obeyed_and_refused() {
        for (index, (name, ..)) in UNSUPPORTED.iter().enumerate() {
            assert!(!OBEYED.contains(name), "{name}");
            assert!(UNSUPPORTED[..index].iter().all(|(other, ..)| other != name), "{name} twice");
            assert_eq!(refused(name).unwrap().name, *name);
        }
        for name in OBEYED {
            assert_eq!(refused(name), None);
        }
    }

    #[test]
    fn s80_a_misspelt_name_is_refused_under_the_right_one() {
        for (written, meant) in [
            ("Client_ID", "client_id"),
            ("client-id", "client_id"),
            ("SCOPE", "scope"),
            ("scope[]", "scope"),
            ("audience[0]", "audience"),
            ("resource[", "resource"),
            (" scope", "scope"),
            ("authorization-details", "authorization_details"),
            ("Client_Secret", "client_secret"),
        ] {
            assert_eq!(refused(written).map(|refused| refused.name), Some(meant), "{written}");
        }
        assert_eq!(refused("Client_Secret").unwrap().concern, Concern::Client);
    }

    #[test]
    fn what_neither_names_nor_authenticates_nor_narrows_is_ignored() {
        for name in ["", "x", "[", "state", "nonce", "include_client_id", "scopex", "my_scope", "clientid", "redirect_uri"] {
            assert_eq!(refused(name), None, "{name}");
        }
    }
}
