//! What must hold of every body of the token endpoint, as `countersign_jose::fuzzing` says it of other inputs.

#![expect(clippy::missing_panics_doc, reason = "panicking is how a target says that something does not hold")]

use countersign_domain::exchange::granted_claims::scope_text;
use countersign_domain::values::id::TrustRelationshipId;
use countersign_domain::values::issuer_url::{IssuerUrl, LoopbackHttp};
use http::HeaderMap;

use crate::request::Addresses;
use crate::token_endpoint::{Form, GRANT_TYPES, parameters};

/// A form. Accepted where it asks for an exchange that could be tried.
pub fn form(bytes: &[u8]) -> bool {
    let Ok(gateway) = IssuerUrl::parse("https://gateway.example", LoopbackHttp::Refused) else { return false };
    let addresses = Addresses::below(&gateway);
    let Ok((input, issued_token_type)) = Form::parse(bytes).read(&HeaderMap::new(), &addresses) else { return false };
    let given: Vec<_> = url::form_urlencoded::parse(bytes).filter(|(_, value)| !value.is_empty()).collect();
    let values = |name: &str| given.iter().filter(|(given, _)| given == name).map(|(_, value)| &**value).collect::<Vec<_>>();
    for name in ["grant_type", "subject_token", "subject_token_type", "assertion", "requested_token_type", "client_id", "scope"] {
        assert!(values(name).len() <= 1, "{name} is given twice");
    }
    for (name, value) in &given {
        assert!(parameters::refused(name).is_none(), "{name} is ignored");
        // What is named and requested is what the pipeline gets.
        match &**name {
            "client_id" => {
                assert_eq!(input.request.trust_relationship_id.as_ref().map(TrustRelationshipId::as_str), Some(&**value));
            }
            "scope" => assert_eq!(scope_text(&input.request.scopes), **value),
            "requested_expires_in" => assert!(input.request.duration.is_some()),
            _ => {}
        }
    }
    assert!(values("grant_type").iter().all(|grant| GRANT_TYPES.contains(grant)) && values("grant_type").len() == 1);
    assert!(values("actor_token").is_empty() && values("actor_token_type").is_empty());
    assert!(issued_token_type.starts_with("urn:ietf:params:oauth:token-type:"));
    assert!(input.request.audiences.len() <= values("audience").len() + values("resource").len());
    assert!(values("audience").len() <= 64 && values("resource").len() <= 64 && input.request.scopes.len() <= 64);
    // Written another way it asks for the same.
    let again = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&given).finish();
    assert!(
        Form::parse(again.as_bytes()).read(&HeaderMap::new(), &addresses).is_ok_and(|again| again == (input, issued_token_type))
    );
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s68_every_seed_is_judged_as_its_name_says() {
        assert_eq!(countersign_jose::fuzzing::check_corpus("form", form).unwrap(), [""; 0]);
    }
}
