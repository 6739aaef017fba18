//! Claims of clouds and clusters.

use std::time::Duration;

use countersign_domain::values::time::Timestamp;
use serde_json::json;

use super::ClaimSet;

/// The issuer that all customers of Amazon Cognito share.
pub const COGNITO_ISSUER: &str = "https://cognito-identity.amazonaws.com";

/// The developer identity that Amazon Cognito gives a run of a workspace. To be signed as RS512 with `typ: JWS`. No `jti`, no
/// `nbf`; `amr` is an array.
pub fn cognito(audience: &str, now: Timestamp) -> ClaimSet {
    let identity = "eu-west-1:7d3b6c1e-2f48-4a0b-9c57-8e1f0a2b3c4d";
    ClaimSet::new(COGNITO_ISSUER, identity, audience, now)
        .with("amr", json!(["authenticated", "login.example", format!("login.example:{audience}:my-workspace")]))
        .with("https://aws.amazon.com/tags", json!({ "principal_tags": { "team": ["deploy"] } }))
        .lasting(Duration::from_mins(15))
}

/// A role of an AWS account, by `GetWebIdentityToken`. To be signed as ES384; what AWS says of the role is nested in one claim.
pub fn sts(audience: &str, now: Timestamp) -> ClaimSet {
    let issuer = "https://9f8c1d2e-4b5a-4c6d-8e7f-0a1b2c3d4e5f.tokens.sts.global.api.aws";
    ClaimSet::new(issuer, "arn:aws:iam::123456789012:role/service-role/DataProcessingRole", audience, now)
        .with("jti", "c3b1f5a7-6d2e-4f90-8a1b-7c5d3e9f0b24")
        .with(
            "https://sts.amazonaws.com/",
            json!({
                "aws_account": "123456789012",
                "source_region": "us-east-1",
                "org_id": "o-abc1234567",
                "ou_path": ["o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/ou-ab12-22222222/"],
                "principal_id": "arn:aws:iam::123456789012:role/service-role/DataProcessingRole",
                "principal_tags": { "environment": "production", "cost-center": "engineering" },
                "request_tags": { "job-id": "job-2024-001" },
                "lambda_source_function_arn": "arn:aws:lambda:us-east-1:123456789012:function:process-data",
            }),
        )
}

/// A managed identity of Azure, by the version 1.0 endpoint: the issuer ends in `/`, `nbf` and `iat` are back-dated by five
/// minutes, and the token lives for a day beyond that.
pub fn azure(audience: &str, now: Timestamp) -> ClaimSet {
    let (tenant, principal) = ("c3c8f6a1-5b2d-4e7f-9a0b-1c2d3e4f5a6b", "8d7c6b5a-4938-4716-a5f4-e3d2c1b0a998");
    let issued = now.as_second() - 300;
    let resource = "/subscriptions/0a1b2c3d-4e5f-4061-8283-a4b5c6d7e8f9/resourcegroups/rg/providers/Microsoft.ManagedIdentity/\
                    userAssignedIdentities/deploy";
    ClaimSet::new(&format!("https://sts.windows.net/{tenant}/"), principal, audience, now)
        .with("iat", issued)
        .with("nbf", issued)
        .with("exp", issued + 86_700)
        .with("aio", "k2RgYPj5Ze3WtEV8HFsf7ZsUfKTQGgA=")
        .with("appid", "4f3e2d1c-0b9a-4887-9665-544332211000")
        .with("appidacr", "2")
        .with("idp", format!("https://sts.windows.net/{tenant}/"))
        .with("idtyp", "app")
        .with("oid", principal)
        .with("rh", "1.AVEAofbIwy1bf06aCxwtPk9aa0ZIf3kAutdPukPawfj2MBNRAAA.")
        .with("tid", tenant)
        .with("uti", "cRZ8-NDqNECeq2PmIKW8Ag")
        .with("ver", "1.0")
        .with("xms_mirid", resource)
}

/// A pod with a projected Kubernetes token: an array of audiences and a nested object.
pub fn kubernetes(audience: &str, now: Timestamp) -> ClaimSet {
    ClaimSet::new("https://kubernetes.default.svc.cluster.local", "system:serviceaccount:deploy:runner", audience, now)
        .with("aud", json!([audience]))
        .with("jti", "6c5d4e3f-2a1b-4c9d-8e7f-0a1b2c3d4e5f")
        .with("nbf", now.as_second())
        .with(
            "kubernetes.io",
            json!({
                "namespace": "deploy",
                "node": { "name": "node-1", "uid": "3b2a1908-f7e6-4d5c-8b4a-392817060504" },
                "pod": { "name": "runner-0", "uid": "0f1e2d3c-4b5a-4968-8776-5a4b3c2d1e0f" },
                "serviceaccount": { "name": "runner", "uid": "9a8b7c6d-5e4f-4321-8fed-cba987654321" },
            }),
        )
        .lasting(Duration::from_hours(1))
}

/// A pod of a cluster on Azure: as any pod, by an issuer that ends in `/`.
pub fn aks(audience: &str, now: Timestamp) -> ClaimSet {
    let issuer = "https://westeurope.oic.prod-aks.azure.com/c3c8f6a1-5b2d-4e7f-9a0b-1c2d3e4f5a6b/\
                  1f2e3d4c-5b6a-4798-8a9b-0c1d2e3f4a5b/";
    kubernetes(audience, now).with("iss", issuer)
}

/// A service account of Google Cloud on an instance, in the full format. No `jti`, no `nbf`.
pub fn google(audience: &str, now: Timestamp) -> ClaimSet {
    ClaimSet::new("https://accounts.google.com", "112233445566778899001", audience, now)
        .with("azp", "112233445566778899001")
        .with("email", "deploy@my-project.iam.gserviceaccount.com")
        .with("email_verified", true)
        .with(
            "google",
            json!({
                "compute_engine": {
                    "instance_creation_timestamp": 1_700_000_000,
                    "instance_id": "152986662232938449",
                    "instance_name": "runner-1",
                    "project_id": "my-project",
                    "project_number": 739_419_398_126_i64,
                    "zone": "us-west1-a",
                },
            }),
        )
        .lasting(Duration::from_hours(1))
}
