//! `countersign apply` and `countersign export`: a workspace's trusted issuers and trust relationships as files.
//!
//! Start at [`format`] for what files hold, at [`read`] for how they are read, and at [`plan`] for what is made of them.

mod apply;
mod export;
mod format;
mod plan;
mod read;
mod show;
mod yaml;

use countersign_proto::trust_v1::ListTrustRelationshipsRequest;
use countersign_proto::trust_v1::trust_relationship_service_client::TrustRelationshipServiceClient;

pub(crate) use apply::ApplyArgs;
pub(crate) use export::ExportArgs;

use self::plan::Current;
use super::{pages, trusted_issuers};
use crate::arguments::Session;
use crate::connection::{Authorized, Service};
use crate::failure::Result;

/// How one workspace is read and changed.
struct Clients {
    workspace_id: String,
    issuers: trusted_issuers::Client,
    relationships: TrustRelationshipServiceClient<Authorized>,
}

impl Clients {
    async fn of(session: &Session) -> Result<Self> {
        let relationships = session.connection.authorized(Service::Trust, &session.clock).await?;
        Ok(Self {
            workspace_id: session.connection.workspace(&session.clock)?,
            issuers: trusted_issuers::client(session).await?,
            relationships: TrustRelationshipServiceClient::new(relationships),
        })
    }

    /// Everything that the workspace holds.
    async fn current(&self) -> Result<Current> {
        // Relationships first: the issuer of each is there when issuers are listed, unless both were deleted meanwhile.
        let relationships = pages::all(|page_token| {
            let mut client = self.relationships.clone();
            let request = ListTrustRelationshipsRequest {
                workspace_id: self.workspace_id.clone(),
                page_size: pages::PAGE_SIZE,
                page_token,
                trusted_issuer_id: String::new(),
            };
            async move {
                let page = client.list_trust_relationships(request).await?.into_inner();
                Ok((page.trust_relationships, page.next_page_token))
            }
        })
        .await?;
        let issuers = trusted_issuers::list(&self.issuers, &self.workspace_id).await?;
        Ok(Current { issuers, relationships })
    }
}

#[cfg(test)]
mod tests;
