//! `countersign.trust.v1.CommitService`, for gateways.

use std::sync::Arc;

use countersign_proto::status::Refusal;
use countersign_proto::trust::commit::{commit_response, read_commit_request};
use countersign_proto::trust_v1::commit_service_server::{CommitService, CommitServiceServer};
use countersign_proto::trust_v1::{CommitExchangesRequest, CommitExchangesResponse};
use tonic::{Request, Response, Status};

use crate::context::Context;
use crate::refusals;

/// 256 exchanges with the longest subjects, ids and lists.
const MAX_MESSAGE: usize = 32 * 1024 * 1024;

/// The service.
pub(crate) struct Commits(Arc<Context>);

/// The generated server of the service.
pub(crate) fn server(context: Arc<Context>) -> CommitServiceServer<Commits> {
    CommitServiceServer::new(Commits(context)).max_decoding_message_size(MAX_MESSAGE)
}

#[tonic::async_trait]
impl CommitService for Commits {
    async fn commit_exchanges(
        &self,
        request: Request<CommitExchangesRequest>,
    ) -> Result<Response<CommitExchangesResponse>, Status> {
        let exchanges = read_commit_request(request.into_inner()).map_err(Refusal::invalid)?;
        let now = self.0.now();
        let outcomes = self.0.store.commit_exchanges(&exchanges, now).await.map_err(refusals::commit)?;
        self.0.uses.note(&exchanges, &outcomes, now);
        Ok(Response::new(commit_response(outcomes)))
    }
}
