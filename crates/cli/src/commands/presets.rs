//! `countersign presets …`.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use countersign_domain::trust::key_source::KeyUses;
use countersign_domain::trust::preset::{Preset, PresetAudience, SubjectForm, SubjectPart, TokenIds};
use countersign_domain::values::token_type::TokenType;
use countersign_runtime::disclosure::is_plain_word;
use serde_json::{Value, json};

use crate::failure::{Failure, Result};
use crate::output::{ListFormat, Output};

#[derive(Debug, Subcommand)]
pub(crate) enum PresetsCommand {
    /// List the issuers of which this program knows what their tokens look like.
    List(ListArgs),
    /// Show what is known of one: its subjects with their parts, what names the tenant, its claims.
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// How to print the list.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: ListFormat,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The preset, as `countersign presets list` names it.
    #[arg(value_name = "ID")]
    id: String,
    /// How to print what is known.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: ListFormat,
}

impl PresetsCommand {
    pub(crate) fn run(self, output: &mut Output) -> Result<()> {
        match self {
            Self::List(ListArgs { output: ListFormat::Json }) => {
                output.json(&Preset::all().iter().map(preset_json).collect::<Vec<_>>())?;
            }
            Self::List(ListArgs { output: ListFormat::Table }) => {
                let rows: Vec<_> = Preset::all().iter().map(row).collect();
                output.table(["ID", "NAME", "ISSUER", "SHARED"], &rows)?;
            }
            Self::Show(ShowArgs { id, output: format }) => {
                let preset = find(&id)?;
                match format {
                    ListFormat::Json => output.json(&preset_json(preset))?,
                    ListFormat::Table => output.raw(&text(preset))?,
                }
            }
        }
        Ok(())
    }
}

/// The preset of this id.
pub(crate) fn find(id: &str) -> Result<&'static Preset> {
    let known = || Preset::all().iter().map(|preset| preset.id.as_str()).collect::<Vec<_>>().join(", ");
    let named = if is_plain_word(id) { format!("preset `{id}`") } else { "such preset".to_owned() };
    Preset::find(id).ok_or_else(|| Failure::usage(format!("there is no {named}; there are {}", known())))
}

fn row(preset: &Preset) -> [String; 4] {
    let shared = if preset.shared { "yes" } else { "no" };
    [preset.id.to_string(), preset.name.clone(), issuers(preset).join(" "), shared.to_owned()]
}

fn issuers(preset: &Preset) -> Vec<&str> {
    let known = preset.issuer.templates.iter().map(|template| template.template.as_str());
    known.chain(preset.issuer.anywhere.then_some("any")).collect()
}

fn text(preset: &Preset) -> String {
    let mut text = format!("{}, {}\n{}\n\n", preset.id, preset.name, preset.documentation);
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<16}{value}");
    };
    line("issuer", &issuers(preset).join(" or "));
    line("shared", if preset.shared { "by customers who do not know of each other" } else { "no" });
    line("audience", audience(preset).unwrap_or("as whoever asks for the token chooses"));
    line("algorithms", &preset.algorithms.iter().map(|one| one.as_str()).collect::<Vec<_>>().join(", "));
    line(
        "typ",
        &preset.token_types.iter().map(|one| one.as_ref().map_or("absent", TokenType::as_str)).collect::<Vec<_>>().join(", "),
    );
    line("key use", key_uses(preset.key_uses));
    line("jti", token_ids(preset.token_ids));
    line("lifetime", &format!("up to {}", lifetime(preset)));
    line("keys", preset.jwks_url.as_deref().unwrap_or("as the discovery document says"));
    for form in &preset.forms {
        write_form(&mut text, form);
    }
    let _ = writeln!(text, "\nclaims that name the tenant");
    for tenant in &preset.tenant_claims {
        let _ =
            writeln!(text, "  {}{}", tenant.claim, if tenant.recyclable { ", which somebody else can have later" } else { "" });
    }
    for note in &preset.notes {
        let _ = write!(text, "\n- {note}");
    }
    text.push('\n');
    text
}

fn write_form(text: &mut String, form: &SubjectForm) {
    let _ = writeln!(text, "\nsubject `{}`\n  {}", form.id, form.template);
    if let Some(leaving) = &form.leaving {
        let since = leaving.since.as_deref().map(|since| format!(" since {since}")).unwrap_or_default();
        let _ = writeln!(text, "  given up for `{}`{since}: {}", leaving.successor, leaving.hint);
    }
    for part in &form.parts {
        let _ = writeln!(text, "  {:<16}{}", part.name, about(part));
    }
}

/// What a part is, with what else is known of it.
fn about(part: &SubjectPart) -> String {
    let mut about = part.description.clone();
    if !part.values.is_empty() && part.values.len() <= 8 {
        let _ = write!(about, " One of {}.", part.values.join(", "));
    }
    if let Some(default) = &part.default {
        let _ = write!(about, " {default} if nothing is said.");
    }
    about.push_str(match (part.tenant, part.recyclable) {
        (true, true) => " Names the tenant, and can name another later.",
        (true, false) => " Names the tenant.",
        (false, _) => "",
    });
    about
}

fn audience(preset: &Preset) -> Option<&str> {
    match &preset.audience {
        PresetAudience::Chosen => None,
        PresetAudience::Fixed(template) => Some(template),
    }
}

const fn token_ids(token_ids: TokenIds) -> &'static str {
    match token_ids {
        TokenIds::Always => "always",
        TokenIds::Never => "never",
        TokenIds::Sometimes => "sometimes",
    }
}

fn preset_json(preset: &Preset) -> Value {
    json!({
        "id": preset.id,
        "name": preset.name,
        "documentation": preset.documentation,
        "issuers": preset.issuer.templates,
        "other_issuers": preset.issuer.anywhere,
        "shared": preset.shared,
        "audience": audience(preset),
        "algorithms": preset.algorithms,
        "token_types": preset.token_types.iter().map(|one| one.as_ref().map_or("", TokenType::as_str)).collect::<Vec<_>>(),
        "key_uses": preset.key_uses,
        "token_ids": preset.token_ids,
        "max_token_lifetime": lifetime(preset),
        "replay_policy": preset.replay_policy,
        "jwks_url": preset.jwks_url,
        "forms": preset.forms,
        "tenant_claims": preset.tenant_claims,
        "claims": preset.claims,
        "notes": preset.notes,
        "samples": preset.samples,
    })
}

/// The accepted values of `use` on the issuer's keys.
const fn key_uses(uses: KeyUses) -> &'static str {
    match uses {
        KeyUses::Signature => "absent, sig",
        KeyUses::SignatureAndJwtSvid => "absent, sig, jwt-svid",
    }
}

fn lifetime(preset: &Preset) -> String {
    format!("{}s", preset.max_token_lifetime.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::Captured;

    fn run(command: PresetsCommand) -> String {
        let captured = Captured::default();
        command.run(&mut captured.output()).unwrap();
        captured.results()
    }

    #[test]
    fn every_preset_can_be_shown() {
        let list = run(PresetsCommand::List(ListArgs { output: ListFormat::Table }));
        for preset in Preset::all() {
            assert!(list.contains(&preset.name), "{}", preset.id);
            let show = |output| run(PresetsCommand::Show(ShowArgs { id: preset.id.to_string(), output }));
            let text = show(ListFormat::Table);
            for form in &preset.forms {
                assert!(text.contains(&form.template), "{}: {}", preset.id, form.id);
            }
            let json: Value = serde_json::from_str(&show(ListFormat::Json)).unwrap();
            assert_eq!(json["id"], preset.id.as_str());
            assert_eq!(json["forms"][0]["template"], preset.forms[0].template.as_str());
        }
        let all: Value = serde_json::from_str(&run(PresetsCommand::List(ListArgs { output: ListFormat::Json }))).unwrap();
        assert_eq!(all.as_array().unwrap().len(), Preset::all().len());
    }

    #[test]
    fn a_preset_that_there_is_not_is_a_usage_error() {
        assert!(matches!(find("rxw"), Err(Failure::Usage(message)) if message.contains("github-actions")));
    }
}
