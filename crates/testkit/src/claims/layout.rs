//! Whole tokens of real providers: header, key and claims.

use countersign_domain::values::signature_algorithm::SignatureAlgorithm::{self, Es256, Es384, Rs256, Rs512};
use countersign_domain::values::time::Timestamp;
use serde_json::{Value, json};

use super::delivery::CIRCLECI_ORGANIZATION;
use super::{
    ClaimSet, aks, azure, buildkite, circleci, cognito, github, github_immutable, gitlab, google, kubernetes, meshstack,
    meshstack_runner, okta, rwx, spacelift, spiffe, sts, terraform,
};
use crate::signer::Signer;

/// How the tokens of one provider look.
#[derive(Debug, Clone)]
pub struct Layout {
    /// For the messages of tests.
    pub name: &'static str,
    /// The path of its issuer.
    pub issuer_path: String,
    /// The path of its keys on the issuer's host.
    pub key_set_path: String,
    /// What it signs with.
    pub algorithm: SignatureAlgorithm,
    /// Members of the header beside `alg` and `kid`.
    header: Value,
    /// The name of its key, in the form that it uses.
    key_id: &'static str,
    /// Members of its key that no verifier needs.
    key_extras: Value,
    /// Whether its key says `alg`.
    key_says_algorithm: bool,
    /// Whether a workload reads one token again and again.
    pub is_reused: bool,
    /// Its claims.
    pub claims: ClaimSet,
}

/// The layouts of all providers that are known, for tokens to that audience, unless the provider fixes it.
pub fn layouts(audience: &str, now: Timestamp) -> Vec<Layout> {
    let jwt = json!({ "typ": "JWT" });
    let thumbprint = "ykNaY4qM_ta4k2TgZOCEYLkcYlA";
    let layout = |name, claims: ClaimSet, key_set_path: &str, key_id| Layout {
        name,
        issuer_path: path_of(&claims),
        key_set_path: key_set_path.to_owned(),
        algorithm: Rs256,
        header: jwt.clone(),
        key_id,
        key_extras: json!({}),
        key_says_algorithm: true,
        is_reused: false,
        claims,
    };
    let with_thumbprint = |claims, name| Layout {
        header: json!({ "typ": "JWT", "x5t": thumbprint }),
        key_extras: json!({ "x5t": thumbprint, "x5c": ["MIIDKzCCAhOgAwIBAgIUDnwm6eRIqGFA3o/P1oBrChvx/nowDQYJKoZIhvcNAQELBQAw"] }),
        ..layout(name, claims, "/.well-known/jwks", "38826b17-6a30-5f9b-b169-8beb8202f723")
    };
    // Kubernetes writes no `typ`.
    let of_a_cluster = |layout: Layout| Layout { header: json!({}), is_reused: true, ..layout };
    let aks = aks(audience, now);
    let aks_keys = format!("{}openid/v1/jwks", path_of(&aks));
    vec![
        layout("RWX", rwx(audience, now), "/mint/.well-known/jwks", "rwx-2024-11"),
        with_thumbprint(github(audience, now), "GitHub, names"),
        with_thumbprint(github_immutable(audience, now), "GitHub, names and ids"),
        layout("GitLab", gitlab(audience, now), "/oauth/discovery/keys", "4i3sFE7sxqNPOT7FdvcGA1ZVGGI_r-tsDXnEuYT4ZqE"),
        layout("Buildkite", buildkite(audience, now), "/.well-known/jwks", "a3c1f0d2b4e5968778695a4b3c2d1e0f"),
        layout(
            "CircleCI",
            circleci(now),
            &format!("/org/{CIRCLECI_ORGANIZATION}/.well-known/jwks-pub.json"),
            "bb0b1f9c-5d9b-4f4e-8f2a-0f3c1e2d4b5a",
        ),
        layout("Spacelift", spacelift(now), "/.well-known/jwks", "YkU3wJ0n5rP1t7Zc"),
        layout("Terraform", terraform(audience, now), "/.well-known/jwks", "j-fFp9evPJAzV5I2_58HY5UvdCK6Q4LLB1rnPOUfQAk"),
        Layout {
            algorithm: Rs512,
            header: json!({ "typ": "JWS" }),
            ..layout(
                "Cognito",
                cognito("eu-west-1:1a2b3c4d-5e6f-4708-9a1b-2c3d4e5f6071", now),
                "/.well-known/jwks_uri",
                "eu-west-11",
            )
        },
        Layout { algorithm: Es384, ..layout("AWS STS", sts(audience, now), "/.well-known/jwks.json", "EC384_0") },
        Layout {
            header: json!({ "typ": "JWT", "x5t": thumbprint }),
            key_extras: json!({
                "x5t": thumbprint,
                "x5c": ["MIIC/TCCAeWgAwIBAgIICHb5qy8hKKgwDQYJKoZIhvcNAQELBQAwLTErMCkGA1UEAxMi"],
                "cloud_instance_name": "microsoftonline.com",
                "issuer": "https://sts.windows.net/c3c8f6a1-5b2d-4e7f-9a0b-1c2d3e4f5a6b/",
            }),
            key_says_algorithm: false,
            is_reused: true,
            ..layout("Azure", azure("api://3f2e1d0c-9b8a-4776-8554-332211009988", now), "/common/discovery/keys", thumbprint)
        },
        of_a_cluster(layout("Azure, a cluster", aks, &aks_keys, "KpkyVRC2Zl3RrQ6PrX9Gm0ExsMQ3V1v2ZJ3wKDhTlFU")),
        of_a_cluster(layout(
            "Kubernetes",
            kubernetes(audience, now),
            "/openid/v1/jwks",
            "wXvXwZ3yq5o1JQ8n7k0aT2bC4dE6fG8hI0jK2lM4nO6",
        )),
        layout("Google", google(audience, now), "/oauth2/v3/certs", "6a906ec119d7ba46a6a43ef1ea842e34a8ee08b4"),
        layout("meshStack", meshstack(audience, now), "/.well-known/jwks.json", "meshstack-1"),
        layout("meshStack, a runner", meshstack_runner(audience, now), "/.well-known/jwks.json", "meshstack-1"),
        Layout {
            algorithm: Es256,
            // A JWK of SPIFFE says what it is for in its own words (SPIFFE Trust Domain and Bundle, section 4.2.2).
            key_says_algorithm: false,
            ..layout("SPIFFE", spiffe(audience, now), "/keys", "C6vs25welZOx6WksNYfbMfiw9l96pMnD")
        },
        Layout {
            header: json!({}),
            ..layout("Okta", okta(audience, now), "/oauth2/default/v1/keys", "U5R8cHbGw445Qbq8zVO1PcCpXL8yG6IcovVa3laCoxM")
        },
    ]
}

fn path_of(claims: &ClaimSet) -> String {
    let issuer = claims.get("iss").and_then(Value::as_str).expect("claims have an issuer");
    issuer.splitn(4, '/').nth(3).map(|path| format!("/{path}")).unwrap_or_default()
}

impl Layout {
    /// A key as the provider has it.
    pub fn new_signer(&self) -> Signer {
        Signer::new(self.algorithm, self.key_id)
    }

    /// The key as the provider publishes it.
    pub fn jwk(&self, signer: &Signer) -> Value {
        let mut jwk = signer.public_jwk();
        let members = jwk.as_object_mut().expect("a key is an object");
        if !self.key_says_algorithm {
            members.remove("alg");
        }
        members.extend(self.key_extras.as_object().cloned().unwrap_or_default());
        jwk
    }

    /// The `typ` of its tokens, if they say one.
    pub fn token_type(&self) -> Option<&str> {
        self.header["typ"].as_str()
    }

    /// A token of these claims with the provider's header.
    pub fn sign(&self, signer: &Signer, claims: &ClaimSet) -> String {
        let mut header = json!({ "alg": self.algorithm.as_str(), "kid": signer.key_id() });
        let members = header.as_object_mut().expect("a header is an object");
        members.extend(self.header.as_object().cloned().unwrap_or_default());
        signer.sign_bytes(&header, &claims.to_json())
    }
}
