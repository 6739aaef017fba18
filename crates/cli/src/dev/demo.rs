//! The demo workspace: made once, found again by every later start.

use countersign_proto::common_v1::Grant;
use countersign_proto::issuer_v1::issuer_service_client::IssuerServiceClient;
use countersign_proto::issuer_v1::{CreateIssuerRequest, Issuer, ListIssuersRequest};
use countersign_proto::trust_v1::trust_relationship_service_client::TrustRelationshipServiceClient;
use countersign_proto::trust_v1::trusted_issuer_service_client::TrustedIssuerServiceClient;
use countersign_proto::trust_v1::workspace_service_client::WorkspaceServiceClient;
use countersign_proto::trust_v1::{
    CreateTrustRelationshipRequest, CreateTrustedIssuerRequest, CreateWorkspaceRequest, ListTrustRelationshipsRequest,
    ListTrustedIssuersRequest, ListWorkspacesRequest, TrustRelationship, TrustedIssuer, Workspace,
};

use super::composition::Deployment;
use crate::commands::pages::{self, PAGE_SIZE};
use crate::connection::{Authorized, Bearer, Service};
use crate::failure::Result;
use crate::secret::Secret;

/// Told apart by this name from what people make.
const WORKSPACE_NAME: &str = "Demo";
const ISSUER_NAME: &str = "Demo of RWX";

/// The organisation of the demo's subject.
pub(super) const ORG: &str = "my-org";
/// The vault of the demo's subject.
pub(super) const VAULT: &str = "deploy-vault";

/// What the demo exchange needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Demo {
    pub(super) workspace_id: String,
    pub(super) workspace_name: String,
    pub(super) issuer_id: String,
    pub(super) issuer_url: String,
    pub(super) trusted_issuer_id: String,
    pub(super) trust_relationship_id: String,
    pub(super) subject: String,
    /// Whether an earlier start made all of it.
    pub(super) is_found: bool,
}

/// Finds or makes the demo workspace, its issuer, and the trust in that issuer. Changes nothing that exists.
///
/// # Errors
/// A service refuses.
pub(super) async fn seed(deployment: &Deployment, operator: &Secret) -> Result<Demo> {
    let bearer = Bearer::new(operator)?;
    let (trust, issuer) = tokio::try_join!(deployment.channel(Service::Trust), deployment.channel(Service::Issuer))?;
    let mut seeder = Seeder {
        workspaces: WorkspaceServiceClient::with_interceptor(trust.clone(), bearer.clone()),
        trusted_issuers: TrustedIssuerServiceClient::with_interceptor(trust.clone(), bearer.clone()),
        relationships: TrustRelationshipServiceClient::with_interceptor(trust, bearer.clone()),
        issuers: IssuerServiceClient::with_interceptor(issuer, bearer),
        has_made: false,
    };
    let workspace = seeder.workspace().await?;
    let issuer = seeder.issuer(&workspace.id, deployment.url(Service::Issuer)).await?;
    let trusted_issuer = seeder.trusted_issuer(&workspace.id, &issuer.issuer_url).await?;
    let subject = format!("org:{ORG}:vault:{VAULT}");
    let relationship = seeder.relationship(&workspace.id, &trusted_issuer.id, &subject).await?;
    Ok(Demo {
        workspace_id: workspace.id,
        workspace_name: workspace.display_name,
        issuer_id: issuer.id,
        issuer_url: issuer.issuer_url,
        trusted_issuer_id: trusted_issuer.id,
        trust_relationship_id: relationship.id,
        subject,
        is_found: !seeder.has_made,
    })
}

struct Seeder {
    workspaces: WorkspaceServiceClient<Authorized>,
    trusted_issuers: TrustedIssuerServiceClient<Authorized>,
    relationships: TrustRelationshipServiceClient<Authorized>,
    issuers: IssuerServiceClient<Authorized>,
    /// Whether anything was missing.
    has_made: bool,
}

impl Seeder {
    async fn workspace(&mut self) -> Result<Workspace> {
        let found = pages::all(|page_token| {
            let mut client = self.workspaces.clone();
            async move {
                let page = client.list_workspaces(ListWorkspacesRequest { page_size: PAGE_SIZE, page_token }).await?.into_inner();
                Ok((page.workspaces, page.next_page_token))
            }
        })
        .await?;
        if let Some(workspace) = found.into_iter().find(|workspace| workspace.display_name == WORKSPACE_NAME) {
            return Ok(workspace);
        }
        self.has_made = true;
        let workspace = Workspace { display_name: WORKSPACE_NAME.to_owned(), ..Workspace::default() };
        let request = CreateWorkspaceRequest { workspace: Some(workspace) };
        Ok(self.workspaces.create_workspace(request).await?.into_inner().workspace.unwrap_or_default())
    }

    /// Issuers below another base URL remain from a start on another port; nobody can read their documents there now.
    async fn issuer(&mut self, workspace_id: &str, base_url: &str) -> Result<Issuer> {
        let found = pages::all(|page_token| {
            let mut client = self.issuers.clone();
            let request = ListIssuersRequest { workspace_id: workspace_id.to_owned(), page_size: PAGE_SIZE, page_token };
            async move {
                let page = client.list_issuers(request).await?.into_inner();
                Ok((page.issuers, page.next_page_token))
            }
        })
        .await?;
        let below = format!("{base_url}/");
        let is_ours = |issuer: &Issuer| issuer.display_name == ISSUER_NAME && issuer.issuer_url.starts_with(&below);
        if let Some(issuer) = found.into_iter().find(is_ours) {
            return Ok(issuer);
        }
        self.has_made = true;
        let issuer = Issuer {
            workspace_id: workspace_id.to_owned(),
            display_name: ISSUER_NAME.to_owned(),
            profile: "rwx".to_owned(),
            // An elliptic key is made in no time; an RSA key would cost the first start a noticeable part of a second.
            algorithms: vec!["ES256".to_owned()],
            ..Issuer::default()
        };
        let request = CreateIssuerRequest { issuer: Some(issuer) };
        Ok(self.issuers.create_issuer(request).await?.into_inner().issuer.unwrap_or_default())
    }

    async fn trusted_issuer(&mut self, workspace_id: &str, issuer_url: &str) -> Result<TrustedIssuer> {
        let found = pages::all(|page_token| {
            let mut client = self.trusted_issuers.clone();
            let request = ListTrustedIssuersRequest { workspace_id: workspace_id.to_owned(), page_size: PAGE_SIZE, page_token };
            async move {
                let page = client.list_trusted_issuers(request).await?.into_inner();
                Ok((page.trusted_issuers, page.next_page_token))
            }
        })
        .await?;
        if let Some(trusted_issuer) = found.into_iter().find(|trusted| trusted.issuer_url == issuer_url) {
            return Ok(trusted_issuer);
        }
        self.has_made = true;
        let trusted_issuer = TrustedIssuer {
            workspace_id: workspace_id.to_owned(),
            display_name: ISSUER_NAME.to_owned(),
            issuer_url: issuer_url.to_owned(),
            ..TrustedIssuer::default()
        };
        let request = CreateTrustedIssuerRequest { trusted_issuer: Some(trusted_issuer) };
        Ok(self.trusted_issuers.create_trusted_issuer(request).await?.into_inner().trusted_issuer.unwrap_or_default())
    }

    async fn relationship(&mut self, workspace_id: &str, trusted_issuer_id: &str, subject: &str) -> Result<TrustRelationship> {
        let found = pages::all(|page_token| {
            let mut client = self.relationships.clone();
            let request = ListTrustRelationshipsRequest {
                workspace_id: workspace_id.to_owned(),
                page_size: PAGE_SIZE,
                page_token,
                trusted_issuer_id: trusted_issuer_id.to_owned(),
            };
            async move {
                let page = client.list_trust_relationships(request).await?.into_inner();
                Ok((page.trust_relationships, page.next_page_token))
            }
        })
        .await?;
        let accepts = |relationship: &TrustRelationship| relationship.subject_matches.iter().any(|pattern| pattern == subject);
        if let Some(relationship) = found.into_iter().find(accepts) {
            return Ok(relationship);
        }
        self.has_made = true;
        let grant = Grant { resource_type: "vault".to_owned(), resource_id: VAULT.to_owned(), actions: vec!["read".to_owned()] };
        let relationship = TrustRelationship {
            workspace_id: workspace_id.to_owned(),
            trusted_issuer_id: trusted_issuer_id.to_owned(),
            display_name: "Deployments".to_owned(),
            subject_matches: vec![subject.to_owned()],
            scopes: vec!["deploy".to_owned()],
            grants: vec![grant],
            ..TrustRelationship::default()
        };
        let request = CreateTrustRelationshipRequest { trust_relationship: Some(relationship) };
        Ok(self.relationships.create_trust_relationship(request).await?.into_inner().trust_relationship.unwrap_or_default())
    }
}
