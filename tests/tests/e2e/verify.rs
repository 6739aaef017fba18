//! Verifies tokens with a library that is not in the project, from the published documents alone.

use countersign_tests::token_endpoint::document;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::Value;

/// The header and claims of an access token, verified through the RFC 8414 metadata of its issuer.
pub(crate) async fn access_token(token: &str, issuer: &str, audience: &str) -> (Value, Value) {
    verified(token, &format!("{issuer}/.well-known/oauth-authorization-server"), issuer, audience).await
}

/// The header and claims of an ID token, verified through the OpenID discovery document of its issuer.
pub(crate) async fn id_token(token: &str, issuer: &str, audience: &str) -> (Value, Value) {
    verified(token, &format!("{issuer}/.well-known/openid-configuration"), issuer, audience).await
}

async fn verified(token: &str, metadata_url: &str, issuer: &str, audience: &str) -> (Value, Value) {
    let metadata = document(metadata_url).await;
    assert_eq!(metadata["issuer"], issuer, "the document is of the issuer that was asked");
    let key_set = document(metadata["jwks_uri"].as_str().unwrap()).await;
    for key in key_set["keys"].as_array().unwrap() {
        for private in ["d", "p", "q", "dp", "dq", "qi", "k"] {
            assert_eq!(key.get(private), None, "s60: a private member is published");
        }
    }
    let key_set: JwkSet = serde_json::from_value(key_set).unwrap();

    let header = jsonwebtoken::decode_header(token).unwrap();
    let key = key_set.find(header.kid.as_deref().unwrap()).unwrap();
    assert!(matches!(header.alg, Algorithm::ES256 | Algorithm::RS256 | Algorithm::ES384 | Algorithm::EdDSA));
    let mut validation = Validation::new(header.alg);
    validation.set_issuer(&[issuer]);
    validation.set_audience(&[audience]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    let decoded = jsonwebtoken::decode::<Value>(token, &DecodingKey::from_jwk(key).unwrap(), &validation).unwrap();
    (serde_json::to_value(header).unwrap(), decoded.claims)
}
