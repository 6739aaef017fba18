//! What `countersign dev` tells, step by step: claims, never tokens.

use std::io;
use std::path::Path;

use serde_json::{Map, Value};

use super::composition::Deployment;
use super::demo::Demo;
use super::exchange::{OAuthError, TokenResponse};
use crate::connection::Service;
use crate::output::{Output, printable};

pub(super) fn services(deployment: &Deployment, folder: &Path, output: &mut Output) -> io::Result<()> {
    output.line(format!("1. Three services, in this process, with their state in {}", folder.display()))?;
    for service in [Service::Issuer, Service::Trust, Service::Gateway] {
        output.line(format!("   {:<18}{}", service.name(), deployment.url(service)))?;
    }
    Ok(())
}

pub(super) fn demo(demo: &Demo, output: &mut Output) -> io::Result<()> {
    let made = if demo.is_found { "as an earlier start made it" } else { "made now" };
    output.line(format!("\n2. A workspace that trusts an issuer, {made}"))?;
    for (what, text) in [
        ("workspace", format!("{}  {}", demo.workspace_id, demo.workspace_name)),
        ("issuer", format!("{}  {}  (signs what RWX would)", demo.issuer_id, demo.issuer_url)),
        ("trusted issuer", demo.trusted_issuer_id.clone()),
        ("trust relationship", format!("{}  accepts {}", demo.trust_relationship_id, demo.subject)),
    ] {
        output.line(format!("   {what:<20}{}", printable(&text)))?;
    }
    Ok(())
}

pub(super) fn id_token(deployment: &Deployment, claims: &Map<String, Value>, output: &mut Output) -> io::Result<()> {
    let host = host_of(deployment.url(Service::Issuer));
    output.line(format!("\n3. A run gets an ID token: gRPC {host} countersign.issuer.v1.TokenService/IssueIdToken"))?;
    show(claims, output)
}

pub(super) fn access_token(
    deployment: &Deployment,
    response: &TokenResponse,
    claims: &Map<String, Value>,
    jwks_uri: &str,
    output: &mut Output,
) -> io::Result<()> {
    let TokenResponse { issued_token_type, token_type, expires_in, scope, .. } = response;
    output.line(format!("\n4. The run exchanges it: POST {}/oauth2/token", deployment.url(Service::Gateway)))?;
    output.line(format!("   {token_type}, {issued_token_type}, for {expires_in} s, scope \"{}\"", printable(scope)))?;
    show(claims, output)?;
    output.line(format!("   verified with the keys at {jwks_uri}"))
}

pub(super) fn replay(refused: &OAuthError, output: &mut Output) -> io::Result<()> {
    output.line("\n5. The same ID token again")?;
    output.line(format!("   refused: {} ({})", refused.error, refused.error_reason))
}

/// A URL without its scheme.
pub(super) fn host_of(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, host)| host)
}

fn show(claims: &Map<String, Value>, output: &mut Output) -> io::Result<()> {
    let text = serde_json::to_string_pretty(claims)?;
    text.lines().try_for_each(|line| output.line(format!("   {}", printable(line))))
}
