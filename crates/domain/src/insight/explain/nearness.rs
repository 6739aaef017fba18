//! How near a miss is, and what may be behind it.

use serde_json::{Map, Value};

use crate::trust::preset::{Preset, SubjectForm, SubjectPart};
use crate::values::claim_path::ClaimPath;
use crate::values::name::Audience;
use crate::values::subject_match::{CompiledMatch, SubjectMatch};
use crate::values::text;

/// How many bytes a pattern's literal ends have in common with a subject's. Cheap, for a first choice among many.
pub(super) fn common_ends(pattern: &CompiledMatch, subject: &str) -> usize {
    let common = |a: &mut dyn Iterator<Item = u8>, b: &mut dyn Iterator<Item = u8>| a.zip(b).take_while(|(a, b)| a == b).count();
    match pattern {
        CompiledMatch::Exact(text) => {
            common(&mut text.bytes(), &mut subject.bytes()) + common(&mut text.bytes().rev(), &mut subject.bytes().rev())
        }
        CompiledMatch::Pattern(pattern) => {
            common(&mut pattern.prefix().bytes(), &mut subject.bytes())
                + common(&mut pattern.suffix().bytes().rev(), &mut subject.bytes().rev())
        }
    }
}

/// How much an early difference weighs against the number of differences.
const EARLY: f64 = 0.9;

/// What a difference in one character costs, and what a character costs that a `*` takes in.
const CHANGE: usize = 2;
const TAKEN_IN: usize = 1;

/// How many characters of a pattern and of a subject are compared one by one, which takes the product of both numbers.
const COMPARED: usize = 256;

/// How far the subject is from what the pattern accepts, 0 to 1.
///
/// Subjects go from the whole to the parts, so a pattern for another branch of the repository is nearer than one for anything of
/// another repository, however little of that is written out: what counts most is how early the two part. A pattern whose
/// beginning agrees, as that of one which begins with `*` does, is as far as its text differs.
pub(super) fn distance(pattern: &CompiledMatch, subject: &str) -> f64 {
    if pattern.accepts(subject) {
        return 0.0;
    }
    let difference = difference(pattern, subject);
    parting(pattern, subject).map_or(difference, |parting| EARLY * parting + (1.0 - EARLY) * difference)
}

/// The share of the subject that is left where it parts from how the pattern begins, back to the last delimiter; `None` when it does
/// not part from that.
fn parting(pattern: &CompiledMatch, subject: &str) -> Option<f64> {
    let (beginning, goes_on) = match pattern {
        CompiledMatch::Exact(text) => (&**text, false),
        CompiledMatch::Pattern(pattern) => (pattern.prefix(), true),
    };
    if goes_on && subject.starts_with(beginning) {
        return None;
    }
    let (beginning, subject) = (beginning.as_bytes(), subject.as_bytes());
    let shared = beginning.iter().zip(subject).take_while(|(a, b)| a == b).count();
    let ends_a_part = |at: usize| {
        let delimits = |byte: &u8| matches!(byte, b':' | b'/');
        at == 0
            || [beginning, subject].iter().all(|text| text.get(at).is_none_or(delimits))
            || beginning.get(at - 1).is_some_and(delimits)
    };
    let parts = (0..=shared).rev().find(|at| ends_a_part(*at)).unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "subjects have at most 1,024 bytes")]
    let left = (subject.len() - parts) as f64 / subject.len().max(1) as f64;
    Some(left)
}

/// How much of pattern and subject differs, 0 to 1: the fewest insertions, deletions and replacements of characters that make the
/// subject one that the pattern accepts, by the length of the longer. What a `*` stands for counts half, or a pattern would be the
/// nearer the less it says.
fn difference(pattern: &CompiledMatch, subject: &str) -> f64 {
    let pattern: Vec<char> = pattern.to_string().chars().take(COMPARED).collect();
    let subject: Vec<char> = subject.chars().take(COMPARED).collect();
    let mut previous: Vec<usize> = (0..=subject.len()).map(|inserted| inserted * CHANGE).collect();
    let mut current = vec![0; subject.len() + 1];
    for &expected in &pattern {
        if expected == '*' {
            let mut least = usize::MAX;
            for (cost, &before) in current.iter_mut().zip(&previous) {
                least = least.saturating_add(TAKEN_IN).min(before);
                *cost = least;
            }
        } else {
            let mut diagonal = 0;
            for (column, cost) in current.iter_mut().enumerate() {
                let above = previous.get(column).copied().unwrap_or_default();
                *cost = match column.checked_sub(1).and_then(|column| subject.get(column)) {
                    None => above + CHANGE,
                    Some(found) => (diagonal + if *found == expected { 0 } else { CHANGE }).min(above + CHANGE),
                };
                diagonal = above;
            }
            // Characters of the subject that the pattern does not have.
            let mut left = usize::MAX;
            for cost in &mut current {
                *cost = (*cost).min(left.saturating_add(CHANGE));
                left = *cost;
            }
        }
        std::mem::swap(&mut previous, &mut current);
    }
    let longer = pattern.len().max(subject.len()).max(1) * CHANGE;
    #[expect(clippy::cast_precision_loss, reason = "subjects and patterns have at most 1,024 characters")]
    let share = previous.last().copied().unwrap_or_default() as f64 / longer as f64;
    share.min(1.0)
}

/// What a subject that a pattern refuses may have run into.
pub(super) fn subject_hint(pattern: &CompiledMatch, subject: &str) -> Option<String> {
    let text = pattern.to_string();
    if let Some(difference) = pattern_difference(&text, subject) {
        return Some(difference);
    }
    if subject.contains("%3A") && pattern.accepts(&subject.replace("%3A", ":")) {
        return Some("the issuer writes `:` within a value as `%3A`; so must the pattern".to_owned());
    }
    if !text.contains('*') && subject.starts_with(&text) {
        return Some(format!("the subject goes on behind that; `{text}*` would accept it, and whatever else begins so"));
    }
    None
}

/// How a text that a pattern refuses differs from one that it accepts, when both look alike.
pub(super) fn pattern_difference(pattern: &str, found: &str) -> Option<String> {
    text::difference_in_writing(pattern, found, |pattern, found| {
        pattern.parse::<SubjectMatch>().is_ok_and(|pattern| pattern.compile().accepts(found))
    })
}

/// How many bytes a text can be longer than four times another and look like it.
const ALIKE: usize = 64;
/// How many names of claims are compared with that of a claim that is missing.
const NAMES: usize = 100;

/// How two texts that are not the same differ, when they look alike.
pub(super) fn text_difference(expected: &str, found: &str) -> Option<String> {
    // Texts that look alike are about as long, whatever they are composed of.
    let (shorter, longer) = (expected.len().min(found.len()), expected.len().max(found.len()));
    if longer > 4 * shorter + ALIKE {
        return None;
    }
    text::difference_in_writing(expected, found, |expected, found| expected == found)
}

/// What the preset of the issuer knows of a subject that a pattern refuses.
pub(super) fn preset_hint(preset: &Preset, pattern: &CompiledMatch, subject: &str) -> Option<String> {
    let written = pattern.to_string().parse().ok()?;
    let (form, parts) = preset.form_of(subject)?;
    for other in preset.forms.iter().filter(|other| other.id != form.id && other.can_match(&written)) {
        let in_other_form = other.parts.iter().try_fold(other.template.clone(), |text, part| {
            let (_, value) = parts.iter().find(|(name, _)| *name == part.name)?;
            Some(text.replace(&format!("{{{}}}", part.name), value))
        });
        let same_otherwise = in_other_form.as_ref().is_some_and(|text| pattern.accepts(text));
        let leaving = other.leaving.as_ref().or(form.leaving.as_ref());
        if same_otherwise || leaving.is_some() && !form.can_match(&written) {
            let about = leaving.map(|leaving| format!(" {}", leaving.hint)).unwrap_or_default();
            let kinds = in_other_form.and_then(|text| kinds(other, &other.read(&text)?, &written));
            let kinds = kinds.map(|kinds| format!(" Moreover, {kinds}")).unwrap_or_default();
            return Some(format!(
                "the token's subject has the form `{}`, the pattern is for `{}`.{about}{kinds}",
                form.template, other.template
            ));
        }
    }
    if let Some(kinds) = kinds(form, &parts, &written) {
        return Some(kinds);
    }
    (!preset.can_match(&written)).then(|| {
        let forms = preset.forms.iter().map(|form| format!("`{}`", form.template)).collect::<Vec<_>>().join(" or ");
        format!("no subject of {} can match the pattern; its subjects look like {forms}", preset.name)
    })
}

/// The parts of a subject that are of another kind than the pattern accepts: an environment in place of a ref.
fn kinds(form: &SubjectForm, parts: &[(&str, &str)], pattern: &SubjectMatch) -> Option<String> {
    let others = form.other_kinds(parts, pattern.as_str());
    let sentence = |(part, value, accepted): &(&SubjectPart, &str, Vec<String>)| {
        let accepted = accepted.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(" or ");
        let value = text::visible(value, usize::MAX);
        format!("the subject has `{value}` where the pattern accepts {accepted}; {{{}}}: {}", part.name, part.description)
    };
    let sentences: Vec<String> = others.iter().map(sentence).collect();
    (!sentences.is_empty()).then(|| sentences.join(" "))
}

/// What an audience that is not accepted may have run into.
pub(super) fn audience_hint(refused: &Audience, accepted: &[Audience]) -> Option<String> {
    let plain = |text: &str| {
        let text = text.trim_end_matches('/');
        text.split_once("://").map_or(text, |(_, rest)| rest).to_lowercase()
    };
    if let Some(near) = accepted.iter().find(|audience| plain(audience.as_str()) == plain(refused.as_str())) {
        return Some(format!("`{near}` differs only in its scheme, its case or a slash at the end, which count."));
    }
    let alike = |audience: &Audience| text_difference(audience.as_str(), refused.as_str());
    accepted.iter().find_map(alike).map(|difference| format!("An accepted audience looks the same: {difference}."))
}

/// The issuer that was probably intended, of those that are trusted.
pub(super) fn issuer_hint<'a>(issuer_url: &str, trusted: impl Iterator<Item = &'a str>) -> Option<String> {
    let plain = |url: &str| url.trim_end_matches('/').to_lowercase();
    let without_scheme = |url: &str| plain(url).split_once("://").map_or_else(|| plain(url), |(_, rest)| rest.to_owned());
    let mut trusted: Vec<&str> = trusted.filter(|url| *url != issuer_url).collect();
    trusted.sort_unstable();
    trusted.into_iter().find_map(|url| {
        if plain(url) == plain(issuer_url) {
            Some(format!("it trusts `{url}`, and case and a slash at the end count"))
        } else if let Some(difference) = text_difference(url, issuer_url) {
            Some(format!("it trusts `{url}`: {difference}"))
        } else {
            let differs_in_scheme = without_scheme(url) == without_scheme(issuer_url);
            differs_in_scheme.then(|| format!("it trusts `{url}`, and the scheme counts"))
        }
    })
}

/// Where a claim that is missing may be instead.
pub(super) fn claim_hint(missing: &ClaimPath, members: &Map<String, Value>) -> Option<String> {
    let text = missing.as_str();
    // Written with dots or slashes, as other systems do.
    let found = |pointer: String| pointer.parse::<ClaimPath>().ok().filter(|path| path.find(members).is_some());
    let nested = (1..text.len()).filter(|at| matches!(text.as_bytes().get(*at), Some(b'.' | b'/'))).find_map(|at| {
        let (name, rest) = (text.get(..at)?.trim_start_matches('/'), text.get(at + 1..)?);
        let name = name.replace('~', "~0").replace('/', "~1");
        found(format!("/{name}/{}", rest.replace('.', "/"))).or_else(|| found(format!("/{name}/{rest}")))
    });
    if let Some(path) = nested {
        return Some(format!("the token has it at `{path}`"));
    }
    let others = || members.iter().filter(|(name, value)| *name != text && !value.is_null()).map(|(name, _)| name);
    if let Some(alike) = others().find(|name| name.eq_ignore_ascii_case(text)) {
        return Some(format!("the token has `{alike}`; case counts"));
    }
    let alike =
        |name: &String| Some(format!("the token has a claim whose name looks the same: {}", text_difference(text, name)?));
    others().take(NAMES).find_map(alike)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn pattern(text: &str) -> CompiledMatch {
        text.parse::<crate::values::subject_match::SubjectMatch>().unwrap().compile()
    }

    proptest! {
        #[test]
        fn nothing_is_far_from_what_accepts_it_and_only_from_that(text in "[ab*]{1,6}", subject in "[ab]{0,8}") {
            let pattern = pattern(&text);
            prop_assert_eq!(distance(&pattern, &subject) == 0.0, pattern.accepts(&subject), "{} {}", text, subject);
        }
    }

    #[test]
    fn the_nearer_miss_has_the_smaller_distance() {
        let subject = "repo:my-org/my-repo:ref:refs/heads/main";
        let ascending = [
            "repo:my-org/my-repo:*",
            "repo:my-org/my-repo:ref:refs/heads/main2",
            "repo:my-org/my-repo:environment:production",
            "repo:my-org/my-rep:ref:refs/heads/*",
            "repo:my-org/other-repo:ref:refs/heads/main",
            "repo:x/y:environment:production",
        ];
        let distances: Vec<f64> = ascending.iter().map(|text| distance(&pattern(text), subject)).collect();
        assert!(distances.is_sorted_by(|a, b| a < b), "{distances:?}");
    }

    #[test]
    fn s22_the_preset_knows_of_forms_that_issuers_change() {
        let hint = |preset: &str, text: &str, subject: &str| preset_hint(Preset::find(preset).unwrap(), &pattern(text), subject);
        let renamed = "repo:my-org@1/my-repo@2:ref:refs/heads/main";
        let github = hint("github-actions", "repo:my-org/my-repo:ref:refs/heads/main", renamed).unwrap();
        assert!(
            github.contains("`repo:{owner}@{owner_id}/{repo}@{repo_id}:{context}`") && github.contains("2026-07-15"),
            "{github}"
        );
        assert_eq!(hint("github-actions", "repo:my-org/other:*", "repo:my-org/my-repo:ref:refs/heads/main"), None);
        let build = "organization:o:pipeline:p:ref:refs/heads/main:commit:c:step:s";
        let buildkite = hint("buildkite", "organization:o:pipeline:p:ref:refs/heads/main", build).unwrap();
        assert!(buildkite.contains("no subject of Buildkite can match"), "{buildkite}");
    }

    #[test]
    fn s86_the_kind_of_a_part_is_named_where_it_alone_differs() {
        let hint = |preset: &str, text: &str, subject: &str| preset_hint(Preset::find(preset).unwrap(), &pattern(text), subject);
        for (preset, text, subject, words) in [
            (
                "github-actions",
                "repo:o/r:ref:refs/heads/main",
                "repo:o/r:environment:production",
                vec!["`environment:production` where the pattern accepts `ref:*`", "in place of its ref"],
            ),
            (
                "github-actions",
                "repo:o/r:ref:*",
                "repo:o/r:pull_request",
                vec!["`pull_request` where the pattern accepts `ref:*`"],
            ),
            ("github-actions", "repo:o/r:environment:*", "repo:o/r:ref:refs/tags/v1", vec!["accepts `environment:*`"]),
            ("github-actions", "repo:o/r:pull_request", "repo:o/r:ref:refs/heads/x", vec!["accepts `pull_request`"]),
            (
                "github-actions",
                "repo:o@1/r@2:ref:refs/heads/main",
                "repo:o@1/r@2:environment:production",
                vec!["`environment:production` where the pattern accepts `ref:*`"],
            ),
            (
                "github-actions",
                "repo:o/r:ref:refs/heads/main",
                "repo:o@1/r@2:environment:production",
                vec!["repo:{owner}@{owner_id}/{repo}@{repo_id}:{context}", "Moreover", "`environment:production`"],
            ),
            (
                "gitlab",
                "project_path:g/p:ref_type:branch:ref:main",
                "project_path:g/p:ref_type:tag:ref:main",
                vec!["`tag` where the pattern accepts `branch`"],
            ),
            (
                "terraform-cloud",
                "organization:o:project:p:workspace:*:run_phase:apply",
                "organization:o:project:p:workspace:w:run_phase:plan",
                vec!["`plan` where the pattern accepts `apply`"],
            ),
            (
                "spacelift",
                "space:s:stack:c:run_type:TRACKED:scope:write",
                "space:s:stack:c:run_type:PROPOSED:scope:read",
                vec!["`PROPOSED` where the pattern accepts `TRACKED`", "`read` where the pattern accepts `write`"],
            ),
            (
                "aws-sts",
                "arn:aws:iam::123456789012:role/deploy",
                "arn:aws-cn:iam::123456789012:role/deploy",
                vec!["`aws-cn` where the pattern accepts `aws`"],
            ),
        ] {
            let hint = hint(preset, text, subject).unwrap_or_default();
            assert!(words.iter().all(|word| hint.contains(word)), "{preset} {text} {subject}: {hint}");
        }
        for (text, subject) in [
            ("repo:o/r:ref:refs/heads/main", "repo:o/r:ref:refs/heads/other"),
            ("repo:o/r:ref:refs/heads/main", "repo:o/other:environment:production"),
        ] {
            assert_eq!(hint("github-actions", text, subject), None, "{text} {subject}");
        }
    }

    #[test]
    fn s86_an_issuer_or_a_claim_that_looks_the_same_is_named() {
        let issuer = |url: &str| issuer_hint(url, ["https://a.example", "https://b.example/x/"].into_iter());
        assert!(issuer("https://a.example/").unwrap().contains("`https://a.example`, and case and a slash at the end count"));
        assert!(issuer("http://b.example/x").unwrap().contains("the scheme counts"));
        assert!(issuer(" https://a.example").unwrap().contains("white space"));
        assert!(issuer("https://a\u{200b}.example").unwrap().contains("U+200B"));
        assert_eq!(issuer("https://c.example"), None);
        let members = json!({"ref\u{200b}": "x", "name": null, "Name": "y", "other": null});
        let claim = |text: &str| claim_hint(&text.parse().unwrap(), members.as_object().unwrap());
        assert!(claim("ref").unwrap().contains("U+200B"));
        assert_eq!(claim("name").unwrap(), "the token has `Name`; case counts");
        assert_eq!((claim("other"), claim("Other")), (None, None));
    }

    #[test]
    fn hints_name_what_people_run_into() {
        let subject = |text: &str, subject: &str| subject_hint(&pattern(text), subject);
        assert!(subject("repo:My-Org/*", "repo:my-org/x").unwrap().contains("case"));
        assert!(subject("a:b", " a:b").unwrap().contains("white space"));
        assert!(subject("repo:o/r:environment:a:b", "repo:o/r:environment:a%3Ab").unwrap().contains("%3A"));
        assert!(
            subject("organization:o:pipeline:p:ref:r", "organization:o:pipeline:p:ref:r:commit:c").unwrap().contains("goes on")
        );
        assert_eq!(subject("a", "b"), None);
        let audience = |text: &str| audience_hint(&text.parse().unwrap(), &["https://gateway.example".parse().unwrap()]);
        assert!(audience("https://gateway.example/").is_some() && audience("http://Gateway.example").is_some());
        assert_eq!(audience("https://other.example"), None);
        let members = json!({"kubernetes.io": {"namespace": "ci", "pod": {"name": "p"}}, "Ref": "x"});
        let claim = |text: &str| claim_hint(&text.parse().unwrap(), members.as_object().unwrap());
        assert_eq!(claim("kubernetes.io.namespace").unwrap(), "the token has it at `/kubernetes.io/namespace`");
        assert_eq!(claim("kubernetes.io/pod/name").unwrap(), "the token has it at `/kubernetes.io/pod/name`");
        assert_eq!(claim("ref").unwrap(), "the token has `Ref`; case counts");
        assert_eq!(claim("other"), None);
    }
}
