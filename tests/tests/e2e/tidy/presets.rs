//! `docs/PRESETS.md` is written by this file, of the presets themselves. After one was added or changed, write it anew:
//!
//! ```sh
//! UPDATE=1 cargo test -p countersign-tests --test e2e tidy::presets
//! ```

use std::fmt::Write as _;

use countersign_domain::trust::preset::{Preset, PresetAudience, SubjectForm, SubjectPart, TokenIds};
use countersign_domain::values::replay_policy::ReplayPolicy;

use super::root;

const DOCUMENT: &str = "docs/PRESETS.md";

/// The document as it should be.
fn document() -> String {
    let mut text = String::from(
        "# Presets\n\n\
         What is known of the tokens of well-known issuers. A preset builds a trust relationship of the parts of a subject:\n\n\
         ```sh\ncountersign auth trust-relationships add --preset rwx --set org=my-org --set vault='*' --scope deploy\n```\n\n\
         It registers the issuer, should the workspace not have it, with the settings listed here, and refuses what no token could\n\
         ever match. `*` stands for anything; parts behind the last one given can be anything. The first form that has all the parts\n\
         given is built, or the one that `--form` names. `countersign presets show <id>` prints what stands here.\n\n\
         The files are in `crates/domain/presets/`. This page is written of them by `tests/tests/e2e/tidy/presets.rs`, which fails when\n\
         it is not what they say. To write it anew:\n\n\
         ```sh\nUPDATE=1 cargo test -p countersign-tests --test e2e tidy::presets\n```\n\n\
         | | issuer | shared | `jti` | algorithms |\n|---|---|---|---|---|\n",
    );
    for preset in Preset::all() {
        let shared = if preset.shared { "yes" } else { "no" };
        let anchor = format!("[{}](#{})", preset.name, preset.id);
        let (issuer, token_ids) = (issuers(preset, "<br>"), token_ids(preset));
        let _ = writeln!(text, "| {anchor} | {issuer} | {shared} | {token_ids} | {} |", algorithms(preset));
    }
    for preset in Preset::all() {
        write_preset(&mut text, preset);
    }
    text
}

fn write_preset(text: &mut String, preset: &Preset) {
    let _ = write!(text, "\n## {}\n\n{}: <{}>\n\n", preset.id, preset.name, preset.documentation);
    for note in &preset.notes {
        let _ = writeln!(text, "- {note}");
    }
    let audience = match &preset.audience {
        PresetAudience::Chosen => "whoever asks for the token chooses".to_owned(),
        PresetAudience::Fixed(template) => format!("`{template}`"),
    };
    let types: Vec<_> =
        preset.token_types.iter().map(|one| one.as_ref().map_or("absent".to_owned(), |typ| format!("`{typ}`"))).collect();
    let replay = match preset.replay_policy {
        ReplayPolicy::SingleUse => "single use",
        ReplayPolicy::RequireJti => "single use, with `jti`",
        ReplayPolicy::Reusable => "as often as it is valid",
    };
    let keys = preset.jwks_url.as_ref().map_or("as the discovery document says".to_owned(), |url| format!("`{url}`"));
    let _ = write!(
        text,
        "\n| | |\n|---|---|\n| issuer | {} |\n| audience | {audience} |\n| `typ` | {} |\n| lifetime | up to {} s |\n\
         | exchanged | {replay} |\n| keys | {keys} |\n",
        issuers(preset, " or "),
        types.join(", "),
        preset.max_token_lifetime.as_secs(),
    );
    for form in &preset.forms {
        write_form(text, form);
    }
    let parts = of_issuer(preset);
    if !parts.is_empty() {
        text.push_str("\nParts of the issuer:\n\n| part | |\n|---|---|\n");
        for part in parts {
            write_part(text, part);
        }
    }
    text.push_str("\nClaims that name the tenant:\n\n| claim | can be somebody else's later |\n|---|---|\n");
    for tenant in &preset.tenant_claims {
        let _ = writeln!(text, "| `{}` | {} |", tenant.claim, if tenant.recyclable { "yes" } else { "no" });
    }
    if !preset.claims.is_empty() {
        text.push_str("\n| claim | type | |\n|---|---|---|\n");
    }
    for claim in &preset.claims {
        let _ = writeln!(text, "| `{}` | {} | {} |", claim.claim, format!("{:?}", claim.kind).to_lowercase(), claim.description);
    }
}

fn write_form(text: &mut String, form: &SubjectForm) {
    let _ = write!(text, "\n### {}\n\n`{}`\n", form.id, form.template);
    if let Some(leaving) = &form.leaving {
        let since = leaving.since.as_deref().map(|since| format!(" since {since}")).unwrap_or_default();
        let _ = write!(text, "\nGiven up for `{}`{since}: {}\n", leaving.successor, leaving.hint);
    }
    text.push_str("\n| part | |\n|---|---|\n");
    for part in &form.parts {
        write_part(text, part);
    }
}

fn write_part(text: &mut String, part: &SubjectPart) {
    let mut about = part.description.clone();
    if !part.values.is_empty() {
        let values: Vec<_> = part.values.iter().map(|value| format!("`{value}`")).collect();
        let _ = write!(about, " One of {}.", values.join(", "));
    }
    if let Some(default) = &part.default {
        let _ = write!(about, " `{default}` if nothing is said.");
    }
    if part.may_be_empty {
        about.push_str(" Can be nothing.");
    }
    about.push_str(match (part.tenant, part.recyclable) {
        (true, true) => " **Names the tenant**, and can name another later.",
        (true, false) => " **Names the tenant.**",
        (false, true) => " Can mean something else later.",
        (false, false) => "",
    });
    let _ = writeln!(text, "| `{}` | {about} |", part.name);
}

/// The parts of all forms of the issuer, each once.
fn of_issuer(preset: &Preset) -> Vec<&SubjectPart> {
    let mut parts: Vec<&SubjectPart> = Vec::new();
    for part in preset.issuer.templates.iter().flat_map(|template| &template.parts) {
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    parts
}

fn issuers(preset: &Preset, separator: &str) -> String {
    let known = preset.issuer.templates.iter().map(|template| format!("`{}`", template.template));
    let any = if preset.issuer.templates.is_empty() { "any URL" } else { "one of your own" };
    known.chain(preset.issuer.anywhere.then(|| any.to_owned())).collect::<Vec<_>>().join(separator)
}

fn algorithms(preset: &Preset) -> String {
    preset.algorithms.iter().map(|one| one.as_str()).collect::<Vec<_>>().join(", ")
}

const fn token_ids(preset: &Preset) -> &'static str {
    match preset.token_ids {
        TokenIds::Always => "always",
        TokenIds::Never => "never",
        TokenIds::Sometimes => "sometimes",
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "whoever runs the test asks for a new page")]
fn the_page_of_presets_is_what_their_files_say() {
    let (path, expected) = (root().join(DOCUMENT), document());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == expected, "{DOCUMENT} is not what the presets say; run again with UPDATE=1 in the environment");
}
