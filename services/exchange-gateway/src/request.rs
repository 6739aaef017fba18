//! What callers write, read into what the pipeline takes. gRPC and HTTP share it, so that both check alike.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use countersign_domain::exchange::request::ExchangeRequest;
use countersign_domain::values::id::{TrustRelationshipId, WorkspaceId};
use countersign_domain::values::issuer_url::IssuerUrl;
use countersign_domain::values::reason::Reason;
use countersign_domain::values::violation::Violations;
use countersign_proto::status::Refusal;

use crate::client::AUTHORIZATION;
use crate::pipeline::{ExchangeInput, SubjectToken};

/// The most audiences, and the most scopes, of one request.
const MAX_WISHES: usize = 64;

/// The names that addresses below the gateway's own URL are made of: `<gateway>/workspaces/ws_…[/trust-relationships/tr_…]`.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    /// The gateway's URL with a slash at its end.
    base: String,
}

impl Addresses {
    pub(crate) fn below(public_url: &IssuerUrl) -> Self {
        Self { base: format!("{}/", public_url.as_str().trim_end_matches('/')) }
    }
}

/// What a violation concerns: OAuth has an error code for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Concern {
    /// The client, named or authenticated in a way that is not accepted.
    Client,
    /// A proof of possession.
    Proof,
    /// An audience or a resource.
    Target,
    /// A scope.
    Scope,
    /// `authorization_details`.
    AuthorizationDetails,
    /// Anything else.
    Request,
}

impl Concern {
    const fn reason(self) -> Reason {
        match self {
            Self::Client => Reason::InvalidClient,
            Self::Proof => Reason::InvalidDpopProof,
            Self::Target => Reason::InvalidTarget,
            Self::Scope => Reason::InvalidScope,
            Self::AuthorizationDetails => Reason::InvalidAuthorizationDetails,
            Self::Request => Reason::InvalidRequest,
        }
    }
}

/// Everything wrong with a request, and what it concerns.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    violations: Violations,
    concerns: BTreeSet<Concern>,
}

impl Problems {
    pub(crate) fn add(&mut self, concern: Concern, field: impl Into<String>, description: impl Into<String>) {
        self.concerns.insert(concern);
        self.violations.add(field, description);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.concerns.is_empty()
    }

    /// Adds others behind these.
    pub(crate) fn extend(&mut self, more: Self) {
        self.concerns.extend(more.concerns);
        self.violations.extend(more.violations);
    }

    /// Keeps the value of a check, or notes why there is none.
    fn check<T, E: fmt::Display>(&mut self, concern: Concern, field: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(concern, field, error.to_string())).ok()
    }
}

/// All violations are in one answer, under one reason. A client that is not accepted is that reason whatever else is wrong, because
/// the client is identified before anything else, with a status of its own (RFC 6749, section 5.2). Other concerns are the reason
/// only when everything concerns the same.
impl From<Problems> for Refusal {
    fn from(Problems { violations, concerns }: Problems) -> Self {
        let reason = match concerns.first() {
            Some(Concern::Client) => Reason::InvalidClient,
            Some(only) if concerns.len() == 1 => only.reason(),
            _ => Reason::InvalidRequest,
        };
        Self::invalid_for(reason, violations)
    }
}

/// A request being read. Every part notes what is wrong with it under the name its wire gives it.
#[derive(Debug)]
pub(crate) struct RequestReader<'a> {
    addresses: &'a Addresses,
    problems: Problems,
    workspace_id: Option<WorkspaceId>,
    request: ExchangeRequest,
}

impl<'a> RequestReader<'a> {
    pub(crate) fn new(addresses: &'a Addresses) -> Self {
        Self { addresses, problems: Problems::default(), workspace_id: None, request: ExchangeRequest::default() }
    }

    /// Notes that something is wrong.
    pub(crate) fn violation(&mut self, concern: Concern, field: impl Into<String>, description: impl Into<String>) {
        self.problems.add(concern, field, description);
    }

    /// Notes everything that was found wrong elsewhere.
    pub(crate) fn problems(&mut self, more: Problems) {
        self.problems.extend(more);
    }

    /// Whether the client is not accepted.
    pub(crate) fn has_client_problem(&self) -> bool {
        self.problems.concerns.contains(&Concern::Client)
    }

    /// Names the workspace. Empty: says nothing.
    pub(crate) fn workspace(&mut self, concern: Concern, field: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        let Some(id) = self.problems.check(concern, field, text.parse::<WorkspaceId>()) else { return };
        match &self.workspace_id {
            Some(named) if *named != id => self.violation(concern, field, "must not name a second workspace"),
            _ => self.workspace_id = Some(id),
        }
    }

    /// Names the client: the relationship that alone decides. `in_field` is what the request's own field says, empty when it is absent,
    /// and `in_header` what `Authorization` says; both must say the same.
    pub(crate) fn client(&mut self, concern: Concern, field: &str, in_field: &str, in_header: Option<&str>) {
        if !in_field.is_empty() {
            self.trust_relationship(concern, field, in_field);
        }
        match in_header {
            None => {}
            Some("") => {
                self.violation(Concern::Client, AUTHORIZATION, "must have a trust relationship's id, `tr_…`, as its user");
            }
            Some(client) => self.trust_relationship(Concern::Client, AUTHORIZATION, client),
        }
    }

    /// Names the relationship that alone decides.
    fn trust_relationship(&mut self, concern: Concern, field: &str, text: &str) {
        let Some(id) = self.problems.check(concern, field, text.parse::<TrustRelationshipId>()) else { return };
        match &self.request.trust_relationship_id {
            Some(named) if *named != id => self.violation(concern, field, "must not name a second trust relationship"),
            _ => self.request.trust_relationship_id = Some(id),
        }
    }

    /// Whether a list of wishes is short enough to be looked at. One that is not is complained of once, whatever it holds.
    pub(crate) fn few_enough(&mut self, field: &str, wishes: usize) -> bool {
        if wishes > MAX_WISHES {
            self.violation(Concern::Request, field, format!("must name at most {MAX_WISHES}, got {wishes}"));
        }
        wishes <= MAX_WISHES
    }

    /// One audience of [few enough](Self::few_enough): below the gateway's own URL it names workspace and relationship, otherwise it is
    /// requested.
    pub(crate) fn audience(&mut self, field: &str, text: &str) {
        if let Some(address) = text.strip_prefix(&self.addresses.base) {
            let address = address.to_owned();
            self.address(field, &address);
        } else if let Some(audience) = self.problems.check(Concern::Target, field, text.parse()) {
            self.request.audiences.push(audience);
        }
    }

    /// One requested scope, of [few enough](Self::few_enough).
    pub(crate) fn scope(&mut self, field: &str, text: &str) {
        if let Some(scope) = self.problems.check(Concern::Scope, field, text.parse()) {
            self.request.scopes.push(scope);
        }
    }

    /// The requested lifetime.
    pub(crate) fn duration(&mut self, field: &str, duration: Duration) {
        if duration < Duration::from_secs(1) {
            self.violation(Concern::Request, field, "must be at least 1 s");
        } else {
            self.request.duration = Some(duration);
        }
    }

    /// The whole request, unless something is wrong with it.
    pub(crate) fn finish(self, subject_token: SubjectToken, request_id: String) -> Result<ExchangeInput, Problems> {
        let Self { addresses: _, problems, workspace_id, request } = self;
        if problems.is_empty() { Ok(ExchangeInput { subject_token, workspace_id, request, request_id }) } else { Err(problems) }
    }

    fn address(&mut self, field: &str, address: &str) {
        let segments: Vec<&str> = address.split('/').collect();
        match segments.as_slice() {
            ["workspaces", workspace] if !workspace.is_empty() => self.workspace(Concern::Target, field, workspace),
            ["workspaces", workspace, "trust-relationships", relationship]
                if !workspace.is_empty() && !relationship.is_empty() =>
            {
                self.workspace(Concern::Target, field, workspace);
                self.trust_relationship(Concern::Target, field, relationship);
            }
            _ => {
                let form = "below this gateway's URL must be of the form /workspaces/ws_…[/trust-relationships/tr_…]";
                self.violation(Concern::Target, field, form);
            }
        }
    }
}

/// The id of the request being answered.
pub(crate) fn request_id() -> String {
    countersign_runtime::context::current().map(|context| context.request_id.to_string()).unwrap_or_default()
}
