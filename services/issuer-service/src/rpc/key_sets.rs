//! `KeySetService`: the documents over gRPC.

use std::sync::Arc;

use countersign_domain::issuing::issuer::IssuerBases;
use countersign_domain::values::issuer_url::IssuerUrl;
use countersign_proto::common::duration;
use countersign_proto::issuer_v1 as wire;
use countersign_proto::issuer_v1::key_set_service_server::KeySetService;
use countersign_proto::status::Refusal;
use tonic::{Request, Response, Status};

use super::key_trouble;
use crate::documents::Documents;
use crate::keeper::Keeper;

#[derive(Debug, Clone)]
pub(crate) struct KeySets {
    pub(crate) keeper: Arc<Keeper>,
    /// Where the issuers of this deployment are, which trust-service recognises them by.
    pub(crate) bases: IssuerBases,
}

impl KeySets {
    /// The documents of the issuer with this URL. No key is made for them.
    async fn documents(&self, issuer_url: &str) -> Result<Documents, Refusal> {
        let url: IssuerUrl = issuer_url.parse().map_err(|error| Refusal::invalid_field("issuer_url", format!("{error}")))?;
        let published = self.keeper.published(url.as_str()).await.map_err(|error| key_trouble(&error, &url))?;
        published.ok_or_else(|| Refusal::not_found("Issuer", &url))
    }
}

#[tonic::async_trait]
impl KeySetService for KeySets {
    async fn get_json_web_key_set(
        &self,
        request: Request<wire::GetJsonWebKeySetRequest>,
    ) -> Result<Response<wire::GetJsonWebKeySetResponse>, Status> {
        let document = self.documents(&request.get_ref().issuer_url).await?.key_set;
        Ok(Response::new(wire::GetJsonWebKeySetResponse {
            json_web_key_set: document.bytes,
            etag: document.etag,
            max_age: Some(duration(self.keeper.policy().key_set_max_age)),
            issuer_base_url: self.bases.base_url.to_string(),
            issuer_host_base_url: self.bases.host_base.as_ref().map(ToString::to_string).unwrap_or_default(),
        }))
    }

    async fn get_open_id_configuration(
        &self,
        request: Request<wire::GetOpenIdConfigurationRequest>,
    ) -> Result<Response<wire::GetOpenIdConfigurationResponse>, Status> {
        let document = self.documents(&request.get_ref().issuer_url).await?.discovery;
        Ok(Response::new(wire::GetOpenIdConfigurationResponse {
            openid_configuration: document.bytes,
            etag: document.etag,
            max_age: Some(duration(self.keeper.policy().key_set_max_age)),
        }))
    }
}
