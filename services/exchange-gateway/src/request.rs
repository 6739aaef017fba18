//! What callers write, read into what the pipeline takes. gRPC and HTTP share it, so that both check alike.

use std::time::Duration;

use countersign_domain::exchange::ExchangeRequest;
use countersign_domain::id::{TrustRelationshipId, WorkspaceId};
use countersign_domain::issuer_url::IssuerUrl;
use countersign_domain::violation::Violations;

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

/// A request being read. Every part notes what is wrong with it under the name its wire gives it.
#[derive(Debug)]
pub(crate) struct RequestReader<'a> {
    addresses: &'a Addresses,
    violations: Violations,
    workspace_id: Option<WorkspaceId>,
    request: ExchangeRequest,
}

impl<'a> RequestReader<'a> {
    pub(crate) fn new(addresses: &'a Addresses) -> Self {
        Self { addresses, violations: Violations::new(), workspace_id: None, request: ExchangeRequest::default() }
    }

    /// Notes that something is wrong.
    pub(crate) fn violation(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.violations.add(field, description);
    }

    /// Names the workspace. Empty: says nothing.
    pub(crate) fn workspace(&mut self, field: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        let Some(id) = self.violations.check(field, text.parse::<WorkspaceId>()) else { return };
        match &self.workspace_id {
            Some(named) if *named != id => self.violation(field, "must not name another workspace beside the first"),
            _ => self.workspace_id = Some(id),
        }
    }

    /// Names the relationship that alone decides. Empty: says nothing.
    pub(crate) fn trust_relationship(&mut self, field: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        let Some(id) = self.violations.check(field, text.parse::<TrustRelationshipId>()) else { return };
        match &self.request.trust_relationship_id {
            Some(named) if *named != id => {
                self.violation(field, "must not name another trust relationship beside the first");
            }
            _ => self.request.trust_relationship_id = Some(id),
        }
    }

    /// Whether a list of wishes is short enough to be looked at. One that is not is complained of once, whatever it holds.
    pub(crate) fn few_enough(&mut self, field: &str, wishes: usize) -> bool {
        if wishes > MAX_WISHES {
            self.violation(field, format!("must name at most {MAX_WISHES}"));
        }
        wishes <= MAX_WISHES
    }

    /// One audience of [few enough](Self::few_enough): below the gateway's own URL it names workspace and relationship, otherwise it is wished for.
    pub(crate) fn audience(&mut self, field: &str, text: &str) {
        if let Some(address) = text.strip_prefix(&self.addresses.base) {
            let address = address.to_owned();
            self.address(field, &address);
        } else if let Some(audience) = self.violations.check(field, text.parse()) {
            self.request.audiences.push(audience);
        }
    }

    /// One scope that is wished for, of [few enough](Self::few_enough).
    pub(crate) fn scope(&mut self, field: &str, text: &str) {
        if let Some(scope) = self.violations.check(field, text.parse()) {
            self.request.scopes.push(scope);
        }
    }

    /// The lifetime that is wished for.
    pub(crate) fn duration(&mut self, field: &str, duration: Duration) {
        if duration < Duration::from_secs(1) {
            self.violation(field, "must be at least one second");
        } else {
            self.request.duration = Some(duration);
        }
    }

    /// The whole request, unless something is wrong with it.
    pub(crate) fn finish(self, subject_token: SubjectToken, request_id: String) -> Result<ExchangeInput, Violations> {
        let Self { addresses: _, violations, workspace_id, request } = self;
        violations.into_result(ExchangeInput { subject_token, workspace_id, request, request_id })
    }

    fn address(&mut self, field: &str, address: &str) {
        let segments: Vec<&str> = address.split('/').collect();
        match segments.as_slice() {
            ["workspaces", workspace] if !workspace.is_empty() => self.workspace(field, workspace),
            ["workspaces", workspace, "trust-relationships", relationship]
                if !workspace.is_empty() && !relationship.is_empty() =>
            {
                self.workspace(field, workspace);
                self.trust_relationship(field, relationship);
            }
            _ => {
                self.violation(field, "below this gateway's URL must be of the form /workspaces/ws_…[/trust-relationships/tr_…]");
            }
        }
    }
}

/// The id of the request being answered.
pub(crate) fn request_id() -> String {
    countersign_runtime::context::current().map(|context| context.request_id.to_string()).unwrap_or_default()
}
