//! What an operator does before tokens can be exchanged, over gRPC.

use countersign_proto::common_v1::Grant;
use countersign_proto::exchange_v1::exchange_service_client::ExchangeServiceClient;
use countersign_proto::issuer_v1::issuer_service_client::IssuerServiceClient;
use countersign_proto::issuer_v1::token_service_client::TokenServiceClient;
use countersign_proto::issuer_v1::{CreateIssuerRequest, Issuer};
use countersign_proto::trust_v1::trust_relationship_service_client::TrustRelationshipServiceClient;
use countersign_proto::trust_v1::trusted_issuer_service_client::TrustedIssuerServiceClient;
use countersign_proto::trust_v1::workspace_service_client::WorkspaceServiceClient;
use countersign_proto::trust_v1::{
    CreateTrustRelationshipRequest, CreateTrustedIssuerRequest, CreateWorkspaceRequest, TrustRelationship, TrustedIssuer,
    Workspace,
};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::deployment::{Deployment, Instance};

/// A channel whose calls carry the operator's credential.
pub type OperatorChannel = InterceptedService<Channel, Bearer>;

/// Adds a bearer token to each call.
#[derive(Debug, Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Bearer {
    /// Of this token.
    pub fn new(token: &str) -> Self {
        Self(format!("Bearer {token}").parse().expect("a token is ASCII"))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A channel to the public port of an instance. It connects with the first call.
pub fn channel(deployment: &Deployment, instance: Instance) -> Channel {
    Endpoint::from_shared(deployment.url(instance)).expect("a URL of ours is a URL").connect_lazy()
}

/// A client of a gateway, without credential: the subject token is one.
pub fn exchange_client(deployment: &Deployment, gateway: Instance) -> ExchangeServiceClient<Channel> {
    ExchangeServiceClient::new(channel(deployment, gateway))
}

/// The operator of a deployment, with the bootstrap token.
#[derive(Debug, Clone)]
pub struct Operator {
    trust: OperatorChannel,
    issuer: OperatorChannel,
}

/// A workspace that trusts one subject pattern of one issuer.
#[derive(Debug, Clone)]
pub struct Trust {
    /// `ws_…`
    pub workspace_id: String,
    /// `ti_…`
    pub trusted_issuer_id: String,
    /// `tr_…`
    pub trust_relationship_id: String,
}

impl Operator {
    /// Of this deployment.
    pub fn of(deployment: &Deployment) -> Self {
        let bearer = Bearer::new(&deployment.bootstrap_token());
        let to = |instance| InterceptedService::new(channel(deployment, instance), bearer.clone());
        Self { trust: to(Instance::TrustService), issuer: to(Instance::IssuerService) }
    }

    /// The workspaces of the deployment.
    pub fn workspaces(&self) -> WorkspaceServiceClient<OperatorChannel> {
        WorkspaceServiceClient::new(self.trust.clone())
    }

    /// Issuers of others.
    pub fn trusted_issuers(&self) -> TrustedIssuerServiceClient<OperatorChannel> {
        TrustedIssuerServiceClient::new(self.trust.clone())
    }

    /// Which of their tokens get what.
    pub fn trust_relationships(&self) -> TrustRelationshipServiceClient<OperatorChannel> {
        TrustRelationshipServiceClient::new(self.trust.clone())
    }

    /// Issuers of ours.
    pub fn issuers(&self) -> IssuerServiceClient<OperatorChannel> {
        IssuerServiceClient::new(self.issuer.clone())
    }

    /// ID tokens of ours.
    pub fn tokens(&self) -> TokenServiceClient<OperatorChannel> {
        TokenServiceClient::new(self.issuer.clone())
    }

    /// Makes a workspace and returns its id.
    pub async fn create_workspace(&self, display_name: &str) -> String {
        let workspace = Workspace { display_name: display_name.to_owned(), ..Workspace::default() };
        let created = self.workspaces().create_workspace(CreateWorkspaceRequest { workspace: Some(workspace) }).await;
        created.expect("a workspace is created").into_inner().workspace.expect("it is returned").id
    }

    /// Registers an issuer of somebody else and returns its id.
    pub async fn create_trusted_issuer(&self, trusted_issuer: TrustedIssuer) -> String {
        let request = CreateTrustedIssuerRequest { trusted_issuer: Some(trusted_issuer) };
        let created = self.trusted_issuers().create_trusted_issuer(request).await;
        created.expect("a trusted issuer is created").into_inner().trusted_issuer.expect("it is returned").id
    }

    /// Registers the issuer with this URL in a workspace, with the default settings, and returns its id.
    pub async fn register(&self, workspace_id: &str, issuer_url: &str) -> String {
        let (workspace_id, issuer_url) = (workspace_id.to_owned(), issuer_url.to_owned());
        self.create_trusted_issuer(TrustedIssuer { workspace_id, issuer_url, ..TrustedIssuer::default() }).await
    }

    /// Makes a trust relationship and returns its id.
    pub async fn create_trust_relationship(&self, trust_relationship: TrustRelationship) -> String {
        let request = CreateTrustRelationshipRequest { trust_relationship: Some(trust_relationship) };
        let created = self.trust_relationships().create_trust_relationship(request).await;
        created.expect("a trust relationship is created").into_inner().trust_relationship.expect("it is returned").id
    }

    /// A new workspace that trusts the vaults of `my-org` at this issuer, and gives scope `deploy` and a grant on one cluster.
    pub async fn trust(&self, issuer_url: &str) -> Trust {
        let workspace_id = self.create_workspace("My workspace").await;
        self.trust_in(&workspace_id, issuer_url).await
    }

    /// The same in a workspace that exists.
    pub async fn trust_in(&self, workspace_id: &str, issuer_url: &str) -> Trust {
        let trusted_issuer_id = self.register(workspace_id, issuer_url).await;
        let trust_relationship = TrustRelationship {
            workspace_id: workspace_id.to_owned(),
            trusted_issuer_id: trusted_issuer_id.clone(),
            subject_matches: vec!["org:my-org:vault:*".to_owned()],
            scopes: vec!["deploy".to_owned(), "read".to_owned()],
            grants: vec![Grant {
                resource_type: "cluster".to_owned(),
                resource_id: "production".to_owned(),
                actions: vec!["deploy".to_owned()],
            }],
            ..TrustRelationship::default()
        };
        let trust_relationship_id = self.create_trust_relationship(trust_relationship).await;
        Trust { workspace_id: workspace_id.to_owned(), trusted_issuer_id, trust_relationship_id }
    }

    /// Makes an issuer with the profile `rwx` in a workspace.
    pub async fn create_rwx_issuer(&self, workspace_id: &str, algorithms: &[&str]) -> Issuer {
        let issuer = Issuer {
            workspace_id: workspace_id.to_owned(),
            profile: "rwx".to_owned(),
            algorithms: algorithms.iter().map(|algorithm| (*algorithm).to_owned()).collect(),
            ..Issuer::default()
        };
        let created = self.issuers().create_issuer(CreateIssuerRequest { issuer: Some(issuer) }).await;
        created.expect("an issuer is created").into_inner().issuer.expect("it is returned")
    }
}
