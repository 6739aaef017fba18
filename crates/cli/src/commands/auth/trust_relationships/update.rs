//! `countersign auth trust-relationships update`.

use std::time::Duration;

use clap::Args;
use countersign_proto::common;
use countersign_proto::common_v1::Grant;
use countersign_proto::trust_v1::{PreviewTrustRelationshipRequest, TrustRelationship, UpdateTrustRelationshipRequest};

use super::conditions::ConditionArgs;
use super::dry_run::DryRunArgs;
use crate::arguments::Session;
use crate::duration;
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::resources::parse_grant;

#[derive(Debug, Default, Args)]
pub(crate) struct UpdateArgs {
    /// The relationship, `tr_…`.
    #[arg(long, required = true, value_name = "ID")]
    id: String,
    /// The accepted subjects, in place of those there are.
    #[arg(long, value_name = "PATTERN")]
    subject_match: Vec<String>,
    #[command(flatten)]
    conditions: ConditionArgs,
    /// The audiences of presented tokens, in place of those there are.
    #[arg(long, value_name = "AUDIENCE")]
    audience: Vec<String>,
    /// The grants, in place of those there are.
    #[arg(long, value_name = "JSON", value_parser = parse_grant)]
    grant: Vec<Grant>,
    /// The scopes, in place of those there are.
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// The access token's audiences, in place of those there are.
    #[arg(long, value_name = "AUDIENCE")]
    access_token_audience: Vec<String>,
    /// How long access tokens live.
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    default_token_duration: Option<Duration>,
    /// When the relationship ends, in RFC 3339.
    #[arg(long, value_name = "TIME", value_parser = duration::parse_moment)]
    expire_time: Option<prost_types::Timestamp>,
    /// Whether the relationship holds.
    #[arg(long, value_name = "BOOL")]
    enabled: Option<bool>,
    /// A name for people.
    #[arg(long, value_name = "NAME")]
    display_name: Option<String>,
    /// Make a field empty. Repeat for several.
    #[arg(long, value_name = "FIELD")]
    clear: Vec<Clearable>,
    /// Change it only if it still has this etag.
    #[arg(long, value_name = "ETAG", default_value = "", hide_default_value = true)]
    etag: String,
    #[command(flatten)]
    dry_run: DryRunArgs,
}

/// Fields that may be empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Clearable {
    Audience,
    Grant,
    Scope,
    AccessTokenAudience,
    DefaultTokenDuration,
    ExpireTime,
    DisplayName,
    Key,
    Condition,
    CelCondition,
    Attribute,
}

impl Clearable {
    /// The field's name on the wire.
    fn path(self) -> &'static str {
        match self {
            Self::Audience => "subject_audiences",
            Self::Grant => "grants",
            Self::Scope => "scopes",
            Self::AccessTokenAudience => "access_token_audiences",
            Self::DefaultTokenDuration => "token_duration",
            Self::ExpireTime => "expire_time",
            Self::DisplayName => "display_name",
            Self::Key => "key",
            Self::Condition => "claim_conditions",
            Self::CelCondition => "cel_condition",
            Self::Attribute => "attribute_mapping",
        }
    }
}

impl UpdateArgs {
    pub(super) async fn run(mut self, session: &Session, output: &mut Output) -> Result<()> {
        let dry_run = std::mem::take(&mut self.dry_run);
        let request = self.into_request(session.connection.workspace(&session.clock)?)?;
        if dry_run.is_wanted() {
            let UpdateTrustRelationshipRequest { trust_relationship, update_mask } = request;
            let request =
                PreviewTrustRelationshipRequest { trust_relationship, update_mask, ..PreviewTrustRelationshipRequest::default() };
            return dry_run.run(&mut super::client(session).await?, request, output).await;
        }
        let updated = super::client(session).await?.update_trust_relationship(request).await?.into_inner();
        let relationship = updated.trust_relationship.unwrap_or_default();
        output.message(format!("Updated {}, now at revision {}.", relationship.id, relationship.revision));
        super::lint::tell(&updated.findings, output);
        Ok(())
    }

    /// The fields whose flags are given, and the mask that names exactly them.
    fn into_request(mut self, workspace_id: String) -> Result<UpdateTrustRelationshipRequest> {
        let given = [
            ("subject_matches", !self.subject_match.is_empty()),
            ("subject_audiences", !self.audience.is_empty()),
            ("grants", !self.grant.is_empty()),
            ("scopes", !self.scope.is_empty()),
            ("access_token_audiences", !self.access_token_audience.is_empty()),
            ("token_duration", self.default_token_duration.is_some()),
            ("expire_time", self.expire_time.is_some()),
            ("enabled", self.enabled.is_some()),
            ("display_name", self.display_name.is_some()),
        ];
        let given = given.into_iter().chain(self.conditions.given());
        let mut paths: Vec<&str> = given.filter(|(_, is_given)| *is_given).map(|(path, _)| path).collect();
        for cleared in self.clear.iter().map(|field| field.path()) {
            if paths.contains(&cleared) {
                return Err(Failure::usage(format!("`{cleared}` is both set and cleared, or cleared twice")));
            }
            paths.push(cleared);
        }
        if paths.is_empty() {
            return Err(Failure::usage("nothing to change: give at least one flag besides --id"));
        }
        Ok(UpdateTrustRelationshipRequest {
            update_mask: Some(prost_types::FieldMask { paths: paths.into_iter().map(str::to_owned).collect() }),
            trust_relationship: Some(TrustRelationship {
                id: self.id,
                workspace_id,
                display_name: self.display_name.unwrap_or_default(),
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
                enabled: self.enabled.unwrap_or_default(),
                etag: self.etag,
                ..TrustRelationship::default()
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(args: UpdateArgs) -> Option<Vec<String>> {
        args.into_request("ws_0".to_owned()).ok().and_then(|request| request.update_mask).map(|mask| mask.paths)
    }

    #[test]
    fn only_the_flags_given_are_in_the_mask() {
        let scope = || vec!["deploy".to_owned()];
        assert_eq!(mask(UpdateArgs { scope: scope(), ..UpdateArgs::default() }).unwrap(), ["scopes"]);
        let args = UpdateArgs { enabled: Some(false), clear: vec![Clearable::ExpireTime], ..UpdateArgs::default() };
        assert_eq!(mask(args).unwrap(), ["enabled", "expire_time"]);
    }

    #[test]
    fn an_update_that_changes_nothing_or_contradicts_itself_is_refused() {
        assert_eq!(mask(UpdateArgs::default()), None);
        let args = UpdateArgs { scope: vec!["a".to_owned()], clear: vec![Clearable::Scope], ..UpdateArgs::default() };
        assert_eq!(mask(args), None);
    }
}
