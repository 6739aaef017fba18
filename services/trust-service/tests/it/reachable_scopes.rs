//! What subjects of an issuer obtain, as issuer-service asks for it.

use countersign_domain::values::reason::Reason;
use countersign_proto::trust_v1::{
    ListReachableScopesRequest, TrustRelationship, TrustedIssuer, UpdateTrustRelationshipRequest, UpdateTrustedIssuerRequest,
};
use countersign_testkit::status::{assert_refused, violated_fields};
use tonic::{Code, Status};

use crate::support::{Service, mask, new_relationship, service};

async fn behind(service: &Service, workspace_id: &str, issuer_url: &str) -> Result<Vec<String>, Status> {
    let request = ListReachableScopesRequest { workspace_id: workspace_id.to_owned(), issuer_url: issuer_url.to_owned() };
    Ok(service.reachable_scopes().list_reachable_scopes(request).await?.into_inner().scopes)
}

#[tokio::test(flavor = "multi_thread")]
async fn s69_reserved_scopes_behind_an_issuer_are_listed_for_its_own_workspace_enabled_or_not() {
    let service = service().await;
    let mut operator = service.operator();
    let (ours, theirs) = (service.tenant().await, service.tenant().await);
    let url = ours.issuer.issuer_url.clone();
    assert_eq!(behind(&service, &ours.workspace.id, &url).await.unwrap(), [""; 0], "`deploy` is not reserved");

    let (get, revoke) = ("countersign:issuers.get", "countersign:signing_keys.revoke");
    for scopes in [&[revoke, "deploy"][..], &[revoke, get]] {
        let request = new_relationship(&ours.issuer, scopes);
        let created = operator.relationships.create_trust_relationship(request).await.unwrap().into_inner();
        // A relationship that is disabled can be enabled.
        let disabled = TrustRelationship { enabled: false, ..created.trust_relationship.unwrap() };
        let request =
            UpdateTrustRelationshipRequest { trust_relationship: Some(disabled), update_mask: Some(mask(&["enabled"])) };
        operator.relationships.update_trust_relationship(request).await.unwrap();
    }
    let disabled = TrustedIssuer { enabled: false, ..ours.issuer.clone() };
    let request = UpdateTrustedIssuerRequest { trusted_issuer: Some(disabled), update_mask: Some(mask(&["enabled"])) };
    operator.issuers.update_trusted_issuer(request).await.unwrap();
    assert_eq!(behind(&service, &ours.workspace.id, &url).await.unwrap(), [get, revoke]);

    // The same issuer in another workspace, another issuer, a workspace that does not exist.
    let nowhere = countersign_domain::values::id::WorkspaceId::from_random([0xee; 16]).to_string();
    for (workspace_id, url) in [
        (&theirs.workspace.id, url.clone()),
        (&ours.workspace.id, format!("{url}/")),
        (&ours.workspace.id, "https://elsewhere.example".to_owned()),
        (&nowhere, url),
    ] {
        assert_eq!(behind(&service, workspace_id, &url).await.unwrap(), [""; 0], "{workspace_id} {url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s69_a_question_that_cannot_be_read_is_refused_and_not_answered_with_nothing() {
    let service = service().await;
    let refused = behind(&service, "ws_?", "not a URL").await.unwrap_err();
    assert_refused(&refused, Code::InvalidArgument, Reason::InvalidRequest);
    assert_eq!(violated_fields(&refused), ["issuer_url", "workspace_id"]);
}
