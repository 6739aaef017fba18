//! `countersign auth trust-relationships add`.

mod preset;

use std::time::Duration;

use clap::Args;
use countersign_proto::common;
use countersign_proto::common_v1::Grant;
use countersign_proto::trust_v1::{
    CreateTrustRelationshipRequest, DeleteTrustedIssuerRequest, PreviewTrustRelationshipRequest, TrustRelationship, TrustedIssuer,
};

use super::conditions::ConditionArgs;
use super::dry_run::DryRunArgs;
use crate::arguments::Session;
use crate::commands::trusted_issuers::{self, Registered};
use crate::duration;
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::resources::parse_grant;

const GRANT_HELP: &str =
    r#"What the access token allows: {"resource_type":"…","resource_id":"…","actions":["…"]}. Repeat for several"#;

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("whose"))]
pub(crate) struct AddArgs {
    /// The exact issuer URL. It is registered as a trusted issuer of the workspace when it is not one yet.
    #[arg(long, value_name = "URL", group = "whose", required_unless_present_any = ["trusted_issuer", "preset"])]
    issuer: Option<String>,
    /// A trusted issuer of the workspace, `ti_…`, instead of its URL.
    #[arg(long, value_name = "ID", group = "whose")]
    trusted_issuer: Option<String>,
    /// An accepted subject: exact, or with `*` for any run of characters, `:` and `/` included. Repeat for several.
    #[arg(long, required_unless_present = "preset", value_name = "PATTERN")]
    subject_match: Vec<String>,
    #[command(flatten)]
    preset: preset::PresetArgs,
    #[command(flatten)]
    conditions: ConditionArgs,
    /// An audience that the presented token may have [default: those of the trusted issuer; for a new one, this deployment's].
    #[arg(long, value_name = "AUDIENCE")]
    audience: Vec<String>,
    #[arg(long, value_name = "JSON", value_parser = parse_grant, help = GRANT_HELP)]
    grant: Vec<Grant>,
    /// A scope of the access token. Repeat for several. At least one grant or scope is needed.
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// What may stand in the access token's `aud`; the first is the default. Repeat for several [default: this deployment].
    #[arg(long, value_name = "AUDIENCE")]
    access_token_audience: Vec<String>,
    /// How long access tokens live, for example 3600s or 1h [default: 1h].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    default_token_duration: Option<Duration>,
    /// When the relationship ends, in RFC 3339 [default: never].
    #[arg(long, value_name = "TIME", value_parser = duration::parse_moment)]
    expire_time: Option<prost_types::Timestamp>,
    /// A name for people.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    display_name: String,
    #[command(flatten)]
    dry_run: DryRunArgs,
}

impl AddArgs {
    pub(super) async fn run(mut self, session: &Session, output: &mut Output) -> Result<()> {
        let issuer = preset::complete(&mut self)?;
        let workspace_id = session.connection.workspace(&session.clock)?;
        if self.dry_run.is_wanted() {
            return self.preview(&issuer.issuer_url, workspace_id, session, output).await;
        }
        let registered = match &self.trusted_issuer {
            Some(id) => Registered { id: id.clone(), is_new: false },
            None => self.registered(issuer, &workspace_id, session).await?,
        };
        let Registered { id: trusted_issuer_id, is_new } = registered;
        let relationship = self.into_relationship(workspace_id.clone(), trusted_issuer_id.clone());
        let request = CreateTrustRelationshipRequest { trust_relationship: Some(relationship) };
        let created = super::client(session).await?.create_trust_relationship(request).await;
        if created.is_err() && is_new {
            // A command that is refused leaves nothing behind. Somebody who has used the issuer meanwhile keeps it.
            let request = DeleteTrustedIssuerRequest { workspace_id, trusted_issuer_id, etag: String::new() };
            let _ = trusted_issuers::client(session).await?.delete_trusted_issuer(request).await;
        }
        let created = created?.into_inner();
        let relationship = created.trust_relationship.unwrap_or_default();
        if is_new {
            output.message(format!("Registered the issuer as {}.", relationship.trusted_issuer_id));
        }
        output.message(format!("Added trust relationship {} for {}.", relationship.id, relationship.trusted_issuer_id));
        super::lint::tell(&created.findings, output);
        output.line(&relationship.id).map_err(Failure::from)
    }

    /// Says what the relationship would have done. An issuer that is not registered has no past.
    async fn preview(mut self, issuer_url: &str, workspace_id: String, session: &Session, output: &mut Output) -> Result<()> {
        let mut trusted_issuer_id = self.trusted_issuer.take();
        if trusted_issuer_id.is_none() {
            let client = trusted_issuers::client(session).await?;
            trusted_issuer_id = trusted_issuers::find(&client, &workspace_id, issuer_url).await?.map(|found| found.id);
        }
        let Some(trusted_issuer_id) = trusted_issuer_id else {
            output.message("The issuer is not registered yet, so that nothing is known of its tokens.");
            return Ok(());
        };
        let dry_run = std::mem::take(&mut self.dry_run);
        let request = PreviewTrustRelationshipRequest {
            trust_relationship: Some(self.into_relationship(workspace_id, trusted_issuer_id)),
            ..PreviewTrustRelationshipRequest::default()
        };
        dry_run.run(&mut super::client(session).await?, request, output).await
    }

    /// The trusted issuer with the URL of this one, which is registered when there is none.
    ///
    /// The audiences of a new issuer are those of its first relationship. Those of one that exists are left alone: to widen them
    /// here would widen every other relationship of the issuer too.
    async fn registered(&self, issuer: TrustedIssuer, workspace_id: &str, session: &Session) -> Result<Registered> {
        let mut client = trusted_issuers::client(session).await?;
        if let Some(found) = trusted_issuers::find(&client, workspace_id, &issuer.issuer_url).await? {
            return Ok(Registered { id: found.id, is_new: false });
        }
        let issuer = TrustedIssuer { workspace_id: workspace_id.to_owned(), subject_audiences: self.audience.clone(), ..issuer };
        trusted_issuers::create_or_find(&mut client, issuer).await
    }

    fn into_relationship(mut self, workspace_id: String, trusted_issuer_id: String) -> TrustRelationship {
        TrustRelationship {
            workspace_id,
            trusted_issuer_id,
            display_name: self.display_name,
            key: self.conditions.key(),
            claim_conditions: self.conditions.claim_conditions(),
            cel_condition: self.conditions.cel_condition(),
            attribute_mapping: self.conditions.attribute_mapping(),
            subject_matches: self.subject_match,
            subject_audiences: self.audience,
            access_token_audiences: self.access_token_audience,
            scopes: self.scope,
            grants: self.grant,
            token_duration: self.default_token_duration.map(common::duration),
            expire_time: self.expire_time,
            ..TrustRelationship::default()
        }
    }
}
