//! `countersign.exchange.v1.ExchangeService`.

use async_trait::async_trait;
use countersign_domain::exchange::presentation::Presentation;
use countersign_domain::values::id::WorkspaceId;
use countersign_domain::values::name::{Audience, DisplayName, Scope};
use countersign_proto::common;
use countersign_proto::exchange_v1::exchange_service_server::{ExchangeService, ExchangeServiceServer};
use countersign_proto::exchange_v1::{
    ExchangeTokenRequest, ExchangeTokenResponse, ExplainExchangeRequest, ExplainExchangeResponse,
};
use countersign_proto::status::Refusal;
use countersign_runtime::auth;
use tonic::{Request, Response, Status};

use crate::client;
use crate::pipeline::{ExchangeInput, Exchanged, Pipeline, SubjectToken};
use crate::ports::Viewer;
use crate::request::{Addresses, Concern, Problems, RequestReader, request_id};

/// The largest request: as over HTTP.
const MAX_MESSAGE: usize = 64 * 1024;

/// The service over a pipeline.
pub(crate) struct Exchange {
    pipeline: Pipeline,
    addresses: Addresses,
}

/// The generated server of the service.
pub(crate) fn server(pipeline: Pipeline, addresses: Addresses) -> ExchangeServiceServer<Exchange> {
    ExchangeServiceServer::new(Exchange { pipeline, addresses }).max_decoding_message_size(MAX_MESSAGE)
}

#[async_trait]
impl ExchangeService for Exchange {
    async fn exchange_token(&self, request: Request<ExchangeTokenRequest>) -> Result<Response<ExchangeTokenResponse>, Status> {
        let mut reader = RequestReader::new(&self.addresses);
        let client = client::read_headers(request.metadata().as_ref(), &mut reader);
        let input = read_request(request.into_inner(), client.as_deref(), reader).map_err(Refusal::from)?;
        let exchanged = self.pipeline.exchange(input).await?;
        Ok(Response::new(write_response(exchanged)))
    }

    async fn explain_exchange(
        &self,
        request: Request<ExplainExchangeRequest>,
    ) -> Result<Response<ExplainExchangeResponse>, Status> {
        let caller = auth::caller(&request)?.clone();
        let asked = read_explain_request(request.into_inner(), &self.addresses).map_err(Refusal::from)?;
        let workspace_id = asked.workspace_id();
        if !caller.sees(workspace_id) {
            return Err(Refusal::not_found("Workspace", workspace_id).into());
        }
        let explained = match &asked {
            Explainable::Token(workspace_id, input) => self.pipeline.explain(input, workspace_id, Viewer::from(&caller)).await?,
            Explainable::Past(workspace_id, request_id) => self.pipeline.explain_past(request_id, workspace_id).await?,
        };
        Ok(Response::new(explained.into()))
    }
}

/// What can be explained.
enum Explainable {
    Token(WorkspaceId, Box<ExchangeInput>),
    /// The refusal with this request id.
    Past(WorkspaceId, String),
}

impl Explainable {
    fn workspace_id(&self) -> &WorkspaceId {
        match self {
            Self::Token(workspace_id, _) | Self::Past(workspace_id, _) => workspace_id,
        }
    }
}

/// An explanation of a token is asked for in the words of an exchange.
fn read_explain_request(request: ExplainExchangeRequest, addresses: &Addresses) -> Result<Explainable, Problems> {
    let ExplainExchangeRequest {
        subject_token,
        workspace_id,
        trust_relationship_id,
        audiences,
        scopes,
        duration,
        request_id: past,
    } = request;
    let is_of_token = !subject_token.is_empty() || !trust_relationship_id.is_empty() || duration.is_some();
    let is_of_token = is_of_token || !audiences.is_empty() || !scopes.is_empty();
    let request = ExchangeTokenRequest { subject_token, workspace_id, trust_relationship_id, audiences, scopes, duration };
    let mut problems = Problems::default();
    if !past.is_empty() && is_of_token {
        problems.add(Concern::Request, "request_id", "must be given alone with `workspace_id`");
    }
    if past.len() > Presentation::MAX_REQUEST_ID {
        let description = format!("must be at most {} bytes long", Presentation::MAX_REQUEST_ID);
        problems.add(Concern::Request, "request_id", description);
    }
    // The call's own `authorization` is the credential of whoever asks for the explanation, and names no client.
    let input = match read_request(request, None, RequestReader::new(addresses)) {
        Ok(input) => input,
        Err(more) => {
            problems.extend(more);
            return Err(problems);
        }
    };
    match input.workspace_id.clone() {
        None => {
            problems.add(Concern::Request, "workspace_id", "is required");
            Err(problems)
        }
        Some(_) if !problems.is_empty() => Err(problems),
        Some(workspace_id) if past.is_empty() => Ok(Explainable::Token(workspace_id, Box::new(input))),
        Some(workspace_id) => Ok(Explainable::Past(workspace_id, past)),
    }
}

/// `client`: whom the metadata name as the client.
fn read_request(
    request: ExchangeTokenRequest,
    client: Option<&str>,
    mut reader: RequestReader<'_>,
) -> Result<ExchangeInput, Problems> {
    let ExchangeTokenRequest { subject_token, workspace_id, trust_relationship_id, audiences, scopes, duration } = request;
    reader.workspace(Concern::Request, "workspace_id", &workspace_id);
    reader.client(Concern::Request, "trust_relationship_id", &trust_relationship_id, client);
    if reader.few_enough("audiences", audiences.len()) {
        for (index, audience) in audiences.iter().enumerate() {
            reader.audience(&format!("audiences[{index}]"), audience);
        }
    }
    if reader.few_enough("scopes", scopes.len()) {
        for (index, scope) in scopes.iter().enumerate() {
            reader.scope(&format!("scopes[{index}]"), scope);
        }
    }
    match duration.as_ref().map(common::read_duration) {
        None => {}
        Some(Ok(duration)) => reader.duration("duration", duration),
        Some(Err(unreadable)) => reader.violation(Concern::Request, "duration", unreadable.to_string()),
    }
    reader.finish(SubjectToken::from(subject_token), request_id())
}

fn write_response(exchanged: Exchanged) -> ExchangeTokenResponse {
    ExchangeTokenResponse {
        expire_time: Some(common::timestamp(exchanged.access_token.expires_at)),
        access_token: exchanged.access_token.token,
        workspace_id: exchanged.workspace_id.to_string(),
        trust_relationship_id: exchanged.trust_relationship_id.to_string(),
        scopes: exchanged.scopes.into_iter().map(|scope: Scope| scope.into()).collect(),
        audiences: exchanged.audiences.into_iter().map(|audience: Audience| audience.into()).collect(),
        workspace_display_name: exchanged.workspace_display_name.map(|name: DisplayName| name.into()).unwrap_or_default(),
    }
}
