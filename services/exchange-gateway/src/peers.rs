//! What the pipeline asks of the other two services, over their internal ports, in batches.

use std::error::Error as _;
use std::time::Duration;

use async_trait::async_trait;
use countersign_domain::exchange::audit::NewRefusal;
use countersign_domain::exchange::commit::{CommitOutcome, ExchangeCommit};
use countersign_domain::values::id::WorkspaceId;
use countersign_proto::common;
use countersign_proto::issuer_v1::access_token_service_client::AccessTokenServiceClient;
use countersign_proto::issuer_v1::signed_access_token::Result as Signed;
use countersign_proto::issuer_v1::{AccessTokenToSign, SignAccessTokensRequest, SignAccessTokensResponse, SignedAccessToken};
use countersign_proto::status::Refusal;
use countersign_proto::trust::audit::read_refusal_response;
use countersign_proto::trust::commit::{commit_request, read_commit_response};
use countersign_proto::trust_v1::GetRefusalRequest;
use countersign_proto::trust_v1::audit_log_service_client::AuditLogServiceClient;
use countersign_proto::trust_v1::commit_service_client::CommitServiceClient;
use countersign_runtime::client::PeerChannel;
use tonic::{Code, Request, Status};

use crate::batch::{Batcher, Unanswered};
use crate::ports::{CommitError, CommitPoint, CutOff, PastRefusals, SignError, SignedToken, Signer, UnsignedToken};

/// The longest a batch of signatures may take.
const SIGN_LIMIT: Duration = Duration::from_secs(3);
/// The longest a batch of commits may take. An outcome that comes later is unknown, and its token is used up.
const COMMIT_LIMIT: Duration = Duration::from_secs(5);
/// The longest a look into the audit log may take.
const LOOK_UP_LIMIT: Duration = Duration::from_secs(5);

/// issuer-service as the signer of access tokens.
pub(crate) struct IssuerService {
    batches: Batcher<UnsignedToken, Result<SignedToken, SignError>>,
}

impl IssuerService {
    pub(crate) fn new(channel: PeerChannel) -> Self {
        let client = AccessTokenServiceClient::new(channel);
        Self { batches: Batcher::new("sign access tokens", move |tokens| sign_batch(client.clone(), tokens)) }
    }
}

#[async_trait]
impl Signer for IssuerService {
    async fn sign(&self, token: UnsignedToken) -> Result<SignedToken, SignError> {
        match self.batches.send(token).await {
            Ok(signed) => signed,
            Err(unanswered) => Err(SignError::Unavailable(unanswered.to_string())),
        }
    }
}

async fn sign_batch(
    mut client: AccessTokenServiceClient<PeerChannel>,
    tokens: Vec<UnsignedToken>,
) -> Vec<Result<SignedToken, SignError>> {
    let sent = tokens.len();
    let access_tokens = tokens
        .into_iter()
        .map(|UnsignedToken { claims_json, duration }| AccessTokenToSign {
            claims_json: claims_json.into(),
            duration: Some(common::duration(duration)),
        })
        .collect();
    let mut request = Request::new(SignAccessTokensRequest { access_tokens });
    request.set_timeout(SIGN_LIMIT);
    match client.sign_access_tokens(request).await {
        Ok(response) => read_signed(response.into_inner(), sent),
        Err(status) => {
            let error = SignError::Unavailable(describe(&status));
            vec![Err(error); sent]
        }
    }
}

fn read_signed(response: SignAccessTokensResponse, sent: usize) -> Vec<Result<SignedToken, SignError>> {
    if response.access_tokens.len() != sent {
        return vec![
            Err(SignError::Unavailable("issuer-service answered another number of tokens than asked for".to_owned()));
            sent
        ];
    }
    response.access_tokens.into_iter().map(read_signed_token).collect()
}

fn read_signed_token(signed: SignedAccessToken) -> Result<SignedToken, SignError> {
    match (signed.result, signed.expire_time.as_ref().map(common::read_timestamp)) {
        (Some(Signed::AccessToken(token)), Some(Ok(expires_at))) => Ok(SignedToken { token, expires_at }),
        (Some(Signed::Refusal(refusal)), _) => Err(SignError::Refused(refusal)),
        _ => Err(SignError::Unavailable("issuer-service's answer cannot be read".to_owned())),
    }
}

/// trust-service as the commit point.
pub(crate) struct TrustService {
    batches: Batcher<ExchangeCommit, Result<CommitOutcome, CommitError>>,
}

impl TrustService {
    pub(crate) fn new(channel: PeerChannel) -> Self {
        let client = CommitServiceClient::new(channel);
        Self { batches: Batcher::new("commit exchanges", move |exchanges| commit_batch(client.clone(), exchanges)) }
    }
}

#[async_trait]
impl CommitPoint for TrustService {
    async fn commit(&self, exchange: ExchangeCommit) -> Result<CommitOutcome, CommitError> {
        match self.batches.send(exchange).await {
            Ok(outcome) => outcome,
            Err(unanswered @ Unanswered::NotSent) => Err(CommitError::NotMade(unanswered.to_string())),
            // The batch may have been on its way.
            Err(unanswered @ Unanswered::Lost) => Err(CommitError::OutcomeUnknown(unanswered.to_string())),
        }
    }
}

async fn commit_batch(
    mut client: CommitServiceClient<PeerChannel>,
    exchanges: Vec<ExchangeCommit>,
) -> Vec<Result<CommitOutcome, CommitError>> {
    let sent = exchanges.len();
    let mut request = Request::new(commit_request(exchanges));
    request.set_timeout(COMMIT_LIMIT);
    match client.commit_exchanges(request).await {
        Ok(response) => match read_commit_response(response.into_inner(), sent) {
            Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
            Err(violations) => vec![Err(CommitError::OutcomeUnknown(violations.to_string())); sent],
        },
        Err(status) => vec![Err(commit_error(&status)); sent],
    }
}

/// trust-service as the keeper of past refusals.
pub(crate) struct AuditLog {
    client: AuditLogServiceClient<PeerChannel>,
}

impl AuditLog {
    pub(crate) fn new(channel: PeerChannel) -> Self {
        Self { client: AuditLogServiceClient::new(channel) }
    }
}

#[async_trait]
impl PastRefusals for AuditLog {
    async fn refusal(&self, workspace_id: &WorkspaceId, request_id: &str) -> Result<Option<NewRefusal>, CutOff> {
        let message = GetRefusalRequest { workspace_id: workspace_id.to_string(), request_id: request_id.to_owned() };
        let mut request = Request::new(message);
        request.set_timeout(LOOK_UP_LIMIT);
        match self.client.clone().get_refusal(request).await {
            Ok(response) => match read_refusal_response(response.into_inner()) {
                Ok(refusal) => Ok(Some(refusal)),
                Err(violations) => {
                    tracing::error!(%violations, "what trust-service kept of a refusal cannot be read");
                    Ok(None)
                }
            },
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => {
                tracing::warn!(status = describe(&status), "trust-service cannot be asked for a refusal");
                Err(CutOff)
            }
        }
    }
}

/// An error says that nothing was committed only when the request cannot have reached a transaction, because no connection was made
/// or the request was refused as malformed or unauthorised, or when trust-service vouches for it. Everything else may have happened
/// after the commit (SECURITY 51).
fn commit_error(status: &Status) -> CommitError {
    let refused =
        matches!(status.code(), Code::InvalidArgument | Code::Unimplemented | Code::Unauthenticated | Code::PermissionDenied);
    if refused || never_connected(status) || vouched_for(status) {
        CommitError::NotMade(describe(status))
    } else {
        CommitError::OutcomeUnknown(describe(status))
    }
}

/// trust-service failed, or shed the call, and is certain that it committed nothing. Whatever the reason: a database that refuses the
/// audit event is a fault of ours, `INTERNAL`, and rolls the transaction back all the same.
fn vouched_for(status: &Status) -> bool {
    Refusal::from_status(status).nothing_committed()
}

fn never_connected(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// Code and message, for the operator's log.
fn describe(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

#[cfg(test)]
mod tests {
    use countersign_domain::values::reason::Reason;
    use countersign_runtime::client::PeerAddress;
    use countersign_testkit::ports;

    use super::*;

    fn commit() -> ExchangeCommit {
        use countersign_domain::exchange::commit::ExchangeAudit;
        use countersign_domain::exchange::presentation::Presentation;
        use countersign_domain::values::id::{TrustRelationshipId, TrustedIssuerId, WorkspaceId};
        use countersign_domain::values::time::Timestamp;
        ExchangeCommit {
            workspace_id: WorkspaceId::from_random([1; 16]),
            trusted_issuer_id: TrustedIssuerId::from_random([1; 16]),
            trust_relationship_id: TrustRelationshipId::from_random([1; 16]),
            policy_revision: 1,
            trusted_issuer_revision: 1,
            trust_relationship_revision: 1,
            replay: None,
            audit: ExchangeAudit {
                presentation: Presentation {
                    request_id: "r".to_owned(),
                    subject_issuer: "https://issuer.example".parse().unwrap(),
                    subject: "s".parse().unwrap(),
                    subject_token_hash: [0; 32],
                    subject_token_id: None,
                    subject_key_id: None,
                    claims: None,
                    request: None,
                },
                access_token_id: "t".parse().unwrap(),
                access_token_audiences: vec![],
                scopes: vec![],
                access_token_expires_at: Timestamp::UNIX_EPOCH,
            },
        }
    }

    #[tokio::test]
    async fn s51_a_commit_point_that_cannot_be_reached_made_no_commit() {
        let nobody = PeerAddress::plain(&format!("http://127.0.0.1:{}", ports::free())).unwrap();
        let trust_service = TrustService::new(PeerChannel::new("trust-service", nobody));
        let error = trust_service.commit(commit()).await.unwrap_err();
        assert!(matches!(error, CommitError::NotMade(_)), "{error:?}");
    }

    #[tokio::test]
    async fn s51_a_connection_lost_after_the_request_leaves_the_outcome_unknown() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = PeerAddress::plain(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                // An HTTP/2 server's empty SETTINGS, so that the request is sent; then silence and the end.
                stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
                let mut read = 0;
                let mut buffer = [0; 1024];
                while read < 300 {
                    read += stream.read(&mut buffer).await.unwrap();
                }
            }
        });
        let trust_service = TrustService::new(PeerChannel::new("trust-service", address));
        let error = trust_service.commit(commit()).await.unwrap_err();
        assert!(matches!(error, CommitError::OutcomeUnknown(_)), "{error:?}");
    }

    #[test]
    fn s51_only_a_refusal_before_the_transaction_says_that_nothing_was_committed() {
        for code in [Code::InvalidArgument, Code::PermissionDenied, Code::Unauthenticated, Code::Unimplemented] {
            assert!(matches!(commit_error(&Status::new(code, "")), CommitError::NotMade(_)), "{code:?}");
        }
        for code in [Code::Unavailable, Code::DeadlineExceeded, Code::Internal, Code::Cancelled, Code::Unknown, Code::Aborted] {
            assert!(matches!(commit_error(&Status::new(code, "")), CommitError::OutcomeUnknown(_)), "{code:?}");
        }
    }

    #[test]
    fn s51_a_commit_point_that_vouches_for_it_made_no_commit() {
        for certain in [Refusal::unavailable("overloaded"), Refusal::internal(), Refusal::new(Reason::DeadlineExceeded, "x")] {
            let certain = Status::from(certain.with_nothing_committed());
            assert!(matches!(commit_error(&certain), CommitError::NotMade(_)), "{certain:?}");
        }
        for uncertain in [Refusal::unavailable("lost"), Refusal::internal()] {
            assert!(matches!(commit_error(&Status::from(uncertain)), CommitError::OutcomeUnknown(_)));
        }
    }

    #[test]
    fn an_answer_about_another_number_of_tokens_signs_nothing() {
        let signed = SignedAccessToken { result: Some(Signed::AccessToken("t".to_owned())), expire_time: None };
        let answers = read_signed(SignAccessTokensResponse { access_tokens: vec![signed.clone()] }, 2);
        assert!(answers.len() == 2 && answers.iter().all(Result::is_err));
        assert!(read_signed_token(signed).is_err(), "a token without its end of life");
    }
}
