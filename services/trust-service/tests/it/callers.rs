//! Who may call, and what exists for him.

use countersign_domain::access::permission::Access;
use countersign_domain::values::id::WorkspaceId;
use countersign_domain::values::reason::Reason;
use countersign_proto::access;
use countersign_proto::trust_v1::commit_service_client::CommitServiceClient;
use countersign_proto::trust_v1::{
    CommitExchangesRequest, CreateWorkspaceRequest, DeleteTrustRelationshipRequest, DeleteTrustedIssuerRequest,
    DeleteWorkspaceRequest, GetTrustRelationshipRequest, GetTrustedIssuerRequest, GetWorkspaceRequest,
    LintTrustRelationshipRequest, ListAuditEventsRequest, ListTrustRelationshipsRequest, ListTrustedIssuersRequest,
    ListWorkspacesRequest, PreviewTrustRelationshipRequest, ReviewTrustRelationshipsRequest, UpdateTrustRelationshipRequest,
    UpdateTrustedIssuerRequest, UpdateWorkspaceRequest, Workspace, WorkspaceState,
};
use countersign_runtime::client::{PeerAddress, PeerChannel};
use countersign_testkit::methods::call_with_empty_message;
use countersign_testkit::status::assert_refused;
use countersign_testkit::wait;
use tonic::{Code, Status};

use crate::support::{Caller, Service, Tenant, mask, new_issuer, new_relationship, service};

/// Every RPC on the resources of a tenant, with the ids given.
async fn every_rpc(caller: &mut Caller, tenant: &Tenant) -> Vec<(&'static str, Result<(), Status>)> {
    let Tenant { workspace, issuer, relationship } = tenant.clone();
    let (workspace_id, trusted_issuer_id, trust_relationship_id) =
        (workspace.id.clone(), issuer.id.clone(), relationship.id.clone());
    let etag = String::new;
    let Caller { workspaces, issuers, relationships, audit } = caller;
    macro_rules! call {
        ($client:ident.$method:ident($request:expr)) => {
            (stringify!($method), $client.$method($request).await.map(|_| ()))
        };
    }
    vec![
        call!(workspaces.get_workspace(GetWorkspaceRequest { workspace_id: workspace_id.clone() })),
        call!(
            workspaces
                .update_workspace(UpdateWorkspaceRequest { workspace: Some(workspace), update_mask: Some(mask(&["state"])) })
        ),
        call!(issuers.create_trusted_issuer(new_issuer(&workspace_id, "https://new.example"))),
        call!(issuers.get_trusted_issuer(GetTrustedIssuerRequest {
            workspace_id: workspace_id.clone(),
            trusted_issuer_id: trusted_issuer_id.clone()
        })),
        call!(
            issuers.list_trusted_issuers(ListTrustedIssuersRequest { workspace_id: workspace_id.clone(), ..Default::default() })
        ),
        call!(issuers.update_trusted_issuer(UpdateTrustedIssuerRequest {
            trusted_issuer: Some(issuer.clone()),
            update_mask: Some(mask(&["enabled"]))
        })),
        call!(issuers.delete_trusted_issuer(DeleteTrustedIssuerRequest {
            workspace_id: workspace_id.clone(),
            trusted_issuer_id: trusted_issuer_id.clone(),
            etag: etag()
        })),
        call!(relationships.create_trust_relationship(new_relationship(&issuer, &["deploy"]))),
        call!(relationships.get_trust_relationship(GetTrustRelationshipRequest {
            workspace_id: workspace_id.clone(),
            trust_relationship_id: trust_relationship_id.clone()
        })),
        call!(relationships.list_trust_relationships(ListTrustRelationshipsRequest {
            workspace_id: workspace_id.clone(),
            ..Default::default()
        })),
        call!(audit.list_audit_events(ListAuditEventsRequest { workspace_id: workspace_id.clone(), ..Default::default() })),
        call!(relationships.lint_trust_relationship(LintTrustRelationshipRequest {
            trust_relationship: Some(relationship.clone()),
            update_mask: None
        })),
        call!(relationships.preview_trust_relationship(PreviewTrustRelationshipRequest {
            trust_relationship: Some(relationship.clone()),
            ..Default::default()
        })),
        call!(relationships.review_trust_relationships(ReviewTrustRelationshipsRequest {
            workspace_id: workspace_id.clone(),
            ..Default::default()
        })),
        call!(relationships.update_trust_relationship(UpdateTrustRelationshipRequest {
            trust_relationship: Some(relationship),
            update_mask: Some(mask(&["enabled"]))
        })),
        call!(relationships.delete_trust_relationship(DeleteTrustRelationshipRequest {
            workspace_id,
            trust_relationship_id,
            etag: etag()
        })),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn s33_nothing_of_another_workspace_is_there_and_nothing_of_it_changes() {
    let service = service().await;
    let (ours, theirs) = (service.tenant().await, service.tenant().await);
    let mut member = service.member_without(&ours.workspace.id, &[]);
    for (method, result) in every_rpc(&mut member, &theirs).await {
        assert_refused(&result.expect_err(method), Code::NotFound, Reason::ResourceNotFound);
    }
    // Their resources, named as if they were in our workspace.
    let mut mixed = theirs.clone();
    mixed.issuer.workspace_id.clone_from(&ours.workspace.id);
    mixed.relationship.workspace_id.clone_from(&ours.workspace.id);
    for (method, result) in every_rpc(&mut member, &mixed).await {
        if ["update_trusted_issuer", "update_trust_relationship", "create_trust_relationship", "lint_trust_relationship"]
            .contains(&method)
        {
            assert_refused(&result.expect_err(method), Code::NotFound, Reason::ResourceNotFound);
        }
    }
    let request =
        GetTrustedIssuerRequest { workspace_id: ours.workspace.id.clone(), trusted_issuer_id: theirs.issuer.id.clone() };
    let status = member.issuers.get_trusted_issuer(request).await.unwrap_err();
    assert_refused(&status, Code::NotFound, Reason::ResourceNotFound);
    let listed = member.workspaces.list_workspaces(ListWorkspacesRequest::default()).await.unwrap().into_inner().workspaces;
    assert_eq!(listed, [ours.workspace]);

    let mut operator = service.operator();
    let (workspace_id, trust_relationship_id) = (theirs.workspace.id.clone(), theirs.relationship.id.clone());
    let request = GetTrustRelationshipRequest { workspace_id: workspace_id.clone(), trust_relationship_id };
    let read = operator.relationships.get_trust_relationship(request).await.unwrap().into_inner();
    assert_eq!(read.trust_relationship, Some(theirs.relationship));
    let list = ListTrustedIssuersRequest { workspace_id, ..Default::default() };
    let read = operator.issuers.list_trusted_issuers(list).await.unwrap().into_inner();
    assert_eq!(read.trusted_issuers, [theirs.issuer]);
}

#[tokio::test(flavor = "multi_thread")]
async fn s69_every_rpc_needs_a_caller_and_its_own_permission() {
    let service = service().await;
    let tenant = service.tenant().await;
    for (method, result) in every_rpc(&mut service.nobody(), &tenant).await {
        assert_refused(&result.expect_err(method), Code::Unauthenticated, Reason::CredentialsMissing);
    }
    // Everything but what the method needs.
    for (lacking, methods) in [("workspaces.", 2), ("trusted_issuers.", 5), ("trust_relationships.", 8)] {
        let mut member = service.member_without(&tenant.workspace.id, &[lacking]);
        let mut denied = 0;
        for (method, result) in every_rpc(&mut member, &tenant).await {
            if lacking.starts_with("workspaces") == method.ends_with("workspace")
                && lacking.starts_with("trusted_issuers") == method.contains("trusted_issuer")
                && lacking.starts_with("trust_relationships") == method.contains("trust_relationship")
            {
                assert_refused(&result.expect_err(method), Code::PermissionDenied, Reason::PermissionMissing);
                denied += 1;
            }
        }
        assert_eq!(denied, methods, "{lacking}");
        // The rounds before may have deleted things, which does not matter to who is let in.
    }
    // A workspace's token never holds what is the operator's, whatever it says.
    let mut member = service.member(&tenant.workspace.id, &["countersign:workspaces.create"]);
    let status = member.workspaces.create_workspace(CreateWorkspaceRequest::default()).await.unwrap_err();
    assert_refused(&status, Code::PermissionDenied, Reason::PermissionMissing);
}

#[tokio::test(flavor = "multi_thread")]
async fn s30_a_disabled_workspace_is_changed_and_enabled_by_the_operator_alone() {
    let service = service().await;
    let mut tenant = service.tenant().await;
    let mut member = service.member_without(&tenant.workspace.id, &[]);
    let id = tenant.workspace.id.clone();
    let set = |state: WorkspaceState| UpdateWorkspaceRequest {
        workspace: Some(Workspace { id: id.clone(), state: state.into(), ..Default::default() }),
        update_mask: Some(mask(&["state"])),
    };
    // A member can disable their own workspace. After that they can neither change nor read anything in it.
    let answer = member.workspaces.update_workspace(set(WorkspaceState::Disabled)).await.unwrap().into_inner();
    let disabled = answer.workspace.unwrap();
    tenant.workspace = Workspace { state: WorkspaceState::Active.into(), ..disabled.clone() };
    for (method, result) in every_rpc(&mut member, &tenant).await {
        assert_refused(&result.expect_err(method), Code::Unauthenticated, Reason::CredentialsInvalid);
    }
    let mut operator = service.operator();
    let get = GetWorkspaceRequest { workspace_id: tenant.workspace.id.clone() };
    let read = operator.workspaces.get_workspace(get).await.unwrap().into_inner().workspace;
    assert_eq!(read, Some(disabled));
    operator.issuer(&tenant.workspace.id, "https://second.example").await;
    operator.workspaces.update_workspace(set(WorkspaceState::Active)).await.unwrap();
    member.issuer(&tenant.workspace.id, "https://third.example").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s82_no_method_accepts_the_access_token_of_a_disabled_or_deleted_workspace() {
    let service = service().await;
    let mut operator = service.operator();
    let (active, disabled, deleted) =
        (operator.workspace("Active").await, operator.workspace("Disabled").await, operator.workspace("Deleted").await);
    let update = UpdateWorkspaceRequest {
        workspace: Some(Workspace { state: WorkspaceState::Disabled.into(), ..disabled.clone() }),
        update_mask: Some(mask(&["state"])),
    };
    operator.workspaces.update_workspace(update).await.unwrap();
    let delete = DeleteWorkspaceRequest { workspace_id: deleted.id.clone(), etag: String::new() };
    operator.workspaces.delete_workspace(delete).await.unwrap();
    let never_existed = WorkspaceId::from_random([0xee; 16]).to_string();
    let mut walked = 0;
    for (path, access) in access::TABLE.iter().filter(|(path, _)| path.starts_with("/countersign.trust.v1.")) {
        if !matches!(access, Access::Requires(_)) {
            continue;
        }
        let call = async |workspace_id: &str| {
            let channel = PeerChannel::new("trust-service", PeerAddress::InProcess(service.public.clone()));
            call_with_empty_message(channel, path, Some(&service.token_with_every_scope(workspace_id))).await
        };
        assert_ne!(call(&active.id).await.code(), Code::Unauthenticated, "{path}");
        for workspace_id in [&disabled.id, &deleted.id, &never_existed] {
            assert_refused(&call(workspace_id).await, Code::Unauthenticated, Reason::CredentialsInvalid);
        }
        walked += 1;
    }
    assert!(walked >= 20, "{walked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn s69_internal_methods_are_not_on_the_public_listener() {
    let service = service().await;
    let channel = PeerChannel::new("trust-service", PeerAddress::InProcess(service.public.clone()));
    let status = CommitServiceClient::new(channel).commit_exchanges(CommitExchangesRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test(flavor = "multi_thread")]
async fn access_tokens_are_verified_with_the_keys_that_the_issuer_publishes_now() {
    let service = service().await;
    let tenant = service.tenant().await;
    let get = |service: &Service| {
        let mut member = service.member(&tenant.workspace.id, &["countersign:workspaces.get"]);
        let request = GetWorkspaceRequest { workspace_id: tenant.workspace.id.clone() };
        async move { member.workspaces.get_workspace(request).await }
    };
    get(&service).await.unwrap();
    // A new key is found, though anybody could make up its name: soon, not at once.
    let mut old = service.member(&tenant.workspace.id, &["countersign:workspaces.get"]);
    service.keys.rotate();
    wait::until("the new key is accepted", || async { get(&service).await.is_ok() }).await;
    let request = GetWorkspaceRequest { workspace_id: tenant.workspace.id.clone() };
    let status = old.workspaces.get_workspace(request).await.unwrap_err();
    assert_refused(&status, Code::Unauthenticated, Reason::CredentialsInvalid);
}
