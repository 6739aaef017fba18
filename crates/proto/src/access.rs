//! What it takes to call each RPC: the one table, for all services.
//!
//! A method that is not in the table cannot be called at all, so a new one stays shut until somebody classifies it, and a test
//! fails until then (SECURITY 69).

use countersign_domain::access::permission::{Access, Permission};

/// What it takes to call the method at this path, `/package.Service/Method`. `None`: there is no such method.
pub fn access_of(path: &str) -> Option<Access> {
    TABLE.iter().find(|(method, _)| *method == path).map(|(_, access)| *access)
}

/// The name of the method at this path, without the leading slash; `None`: there is no such method. Safe for logs and metrics,
/// as it is from the table and not from the caller.
pub fn name_of(path: &str) -> Option<&'static str> {
    TABLE.iter().find(|(method, _)| *method == path).map(|(method, _)| method.trim_start_matches('/'))
}

/// Every method and what it takes to call it, the busiest first.
pub const TABLE: &[(&str, Access)] = &[
    ("/countersign.exchange.v1.ExchangeService/ExchangeToken", Access::Public),
    ("/countersign.exchange.v1.ExchangeService/ExplainExchange", Access::Requires(Permission::ExchangesExplain)),
    ("/countersign.issuer.v1.AccessTokenService/SignAccessTokens", Access::Internal),
    ("/countersign.trust.v1.CommitService/CommitExchanges", Access::Internal),
    ("/countersign.trust.v1.PolicyService/WatchPolicies", Access::Internal),
    ("/countersign.trust.v1.WorkspaceStateService/WatchWorkspaces", Access::Internal),
    ("/countersign.trust.v1.ReachableScopeService/ListReachableScopes", Access::Internal),
    ("/countersign.trust.v1.IssuerHealthService/ReportIssuerHealth", Access::Internal),
    ("/countersign.trust.v1.AuditLogService/AppendRefusals", Access::Internal),
    ("/countersign.trust.v1.AuditLogService/GetRefusal", Access::Internal),
    ("/countersign.issuer.v1.TokenService/IssueIdToken", Access::Requires(Permission::IdTokensIssue)),
    ("/countersign.issuer.v1.TokenService/IssueOwnIdToken", Access::Requires(Permission::IdTokensIssueOwn)),
    ("/countersign.issuer.v1.KeySetService/GetJsonWebKeySet", Access::Public),
    ("/countersign.issuer.v1.KeySetService/GetOpenIdConfiguration", Access::Public),
    ("/countersign.issuer.v1.IssuerService/CreateIssuer", Access::Requires(Permission::IssuersCreate)),
    ("/countersign.issuer.v1.IssuerService/GetIssuer", Access::Requires(Permission::IssuersGet)),
    ("/countersign.issuer.v1.IssuerService/ListIssuers", Access::Requires(Permission::IssuersGet)),
    ("/countersign.issuer.v1.IssuerService/UpdateIssuer", Access::Requires(Permission::IssuersUpdate)),
    ("/countersign.issuer.v1.IssuerService/DeleteIssuer", Access::Requires(Permission::IssuersDelete)),
    ("/countersign.issuer.v1.SigningKeyService/ListSigningKeys", Access::Requires(Permission::SigningKeysGet)),
    ("/countersign.issuer.v1.SigningKeyService/RotateSigningKey", Access::Requires(Permission::SigningKeysRotate)),
    ("/countersign.issuer.v1.SigningKeyService/RevokeSigningKey", Access::Requires(Permission::SigningKeysRevoke)),
    ("/countersign.issuer.v1.SigningKeyService/RewrapSigningKeys", Access::Requires(Permission::SigningKeysRewrap)),
    ("/countersign.trust.v1.WorkspaceService/CreateWorkspace", Access::Requires(Permission::WorkspacesCreate)),
    ("/countersign.trust.v1.WorkspaceService/GetWorkspace", Access::Requires(Permission::WorkspacesGet)),
    ("/countersign.trust.v1.WorkspaceService/ListWorkspaces", Access::Requires(Permission::WorkspacesGet)),
    ("/countersign.trust.v1.WorkspaceService/UpdateWorkspace", Access::Requires(Permission::WorkspacesUpdate)),
    ("/countersign.trust.v1.WorkspaceService/DeleteWorkspace", Access::Requires(Permission::WorkspacesDelete)),
    ("/countersign.trust.v1.TrustedIssuerService/CreateTrustedIssuer", Access::Requires(Permission::TrustedIssuersCreate)),
    ("/countersign.trust.v1.TrustedIssuerService/GetTrustedIssuer", Access::Requires(Permission::TrustedIssuersGet)),
    ("/countersign.trust.v1.TrustedIssuerService/ListTrustedIssuers", Access::Requires(Permission::TrustedIssuersGet)),
    ("/countersign.trust.v1.TrustedIssuerService/UpdateTrustedIssuer", Access::Requires(Permission::TrustedIssuersUpdate)),
    ("/countersign.trust.v1.TrustedIssuerService/CheckTrustedIssuer", Access::Requires(Permission::TrustedIssuersCheck)),
    ("/countersign.trust.v1.TrustedIssuerService/DeleteTrustedIssuer", Access::Requires(Permission::TrustedIssuersDelete)),
    (
        "/countersign.trust.v1.TrustRelationshipService/CreateTrustRelationship",
        Access::Requires(Permission::TrustRelationshipsCreate),
    ),
    ("/countersign.trust.v1.TrustRelationshipService/GetTrustRelationship", Access::Requires(Permission::TrustRelationshipsGet)),
    (
        "/countersign.trust.v1.TrustRelationshipService/ListTrustRelationships",
        Access::Requires(Permission::TrustRelationshipsGet),
    ),
    (
        "/countersign.trust.v1.TrustRelationshipService/UpdateTrustRelationship",
        Access::Requires(Permission::TrustRelationshipsUpdate),
    ),
    (
        "/countersign.trust.v1.TrustRelationshipService/DeleteTrustRelationship",
        Access::Requires(Permission::TrustRelationshipsDelete),
    ),
    ("/countersign.trust.v1.TrustRelationshipService/LintTrustRelationship", Access::Requires(Permission::TrustRelationshipsGet)),
    (
        "/countersign.trust.v1.TrustRelationshipService/PreviewTrustRelationship",
        Access::Requires(Permission::TrustRelationshipsReview),
    ),
    (
        "/countersign.trust.v1.TrustRelationshipService/ReviewTrustRelationships",
        Access::Requires(Permission::TrustRelationshipsReview),
    ),
    ("/countersign.trust.v1.AuditService/ListAuditEvents", Access::Requires(Permission::AuditEventsGet)),
    ("/grpc.health.v1.Health/Check", Access::Public),
    ("/grpc.health.v1.Health/Watch", Access::Public),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Access::Public),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Access::Public),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;

    use super::*;

    /// Every method of every service that the proto files define.
    fn published() -> BTreeSet<String> {
        let set = prost_types::FileDescriptorSet::decode(crate::FILE_DESCRIPTOR_SET).unwrap();
        let mut methods = BTreeSet::new();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    methods.insert(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
                }
            }
        }
        assert!(!methods.is_empty());
        methods
    }

    #[test]
    fn s69_every_published_method_is_classified_and_nothing_else_is() {
        let classified: BTreeSet<String> = TABLE.iter().map(|(method, _)| (*method).to_owned()).collect();
        assert_eq!(classified.len(), TABLE.len(), "a method is classified twice");
        let ours: BTreeSet<String> = classified.into_iter().filter(|method| method.starts_with("/countersign.")).collect();
        assert_eq!(ours, published());
    }

    #[test]
    fn s69_only_exchange_keys_health_and_reflection_are_public() {
        for (method, access) in TABLE {
            let service = method.split('/').nth(1).unwrap();
            let exchange = *method == "/countersign.exchange.v1.ExchangeService/ExchangeToken";
            let public = exchange
                || matches!(
                    service,
                    "countersign.issuer.v1.KeySetService"
                        | "grpc.health.v1.Health"
                        | "grpc.reflection.v1.ServerReflection"
                        | "grpc.reflection.v1alpha.ServerReflection"
                );
            assert_eq!(*access == Access::Public, public, "{method}");
        }
    }

    const INTERNAL_SERVICES: [&str; 7] = [
        "AccessTokenService",
        "AuditLogService",
        "CommitService",
        "IssuerHealthService",
        "PolicyService",
        "ReachableScopeService",
        "WorkspaceStateService",
    ];

    #[test]
    fn internal_services_are_internal_as_a_whole() {
        for (method, access) in TABLE {
            let internal = INTERNAL_SERVICES.iter().any(|name| method.contains(name));
            assert_eq!(*access == Access::Internal, internal, "{method}");
        }
    }

    #[test]
    fn s69_a_path_must_match_byte_for_byte() {
        let path = "/countersign.exchange.v1.ExchangeService/ExchangeToken";
        assert_eq!(access_of(path), Some(Access::Public));
        for other in [&path[1..], &format!("{path}/"), &path.to_lowercase(), &format!("/{path}"), ""] {
            assert_eq!(access_of(other), None, "{other}");
        }
    }
}
