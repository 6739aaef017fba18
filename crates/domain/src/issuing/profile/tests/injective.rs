//! Rendering is injective. The search that shows it also shows that it finds collisions where the check is left out.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Values that try hard to collide: made of the words and delimiters of the templates.
const VALUES: [&str; 16] = ["a", "b", "x", ":", ".", "aa", "ab", "axb", "bxa", "a:x", "a:x:b", "x.a", "a.b", "x.a.b", "a.x", "7"];

/// A form, and the values of `p`, `q` and `r`.
type Rendered = (String, [&'static str; 3]);

/// Every combination of values that a template can be given, as subjects; the first two that are one. `allows` says which values
/// stand for a name in a form.
fn collision(
    forms: &[SubjectFormDefinition],
    render: impl Fn(&SubjectFormDefinition, [&'static str; 3]) -> Option<String>,
) -> Option<(Rendered, Rendered)> {
    let mut seen: BTreeMap<String, Rendered> = BTreeMap::new();
    for form in forms {
        for p in VALUES {
            for q in VALUES {
                for r in VALUES {
                    // What the subject does not say makes no difference to it.
                    let said = [("{p}", p), ("{q}", q), ("{r}", r)].map(
                        |(name, value)| {
                            if form.template.contains(name) { value } else { "" }
                        },
                    );
                    let Some(subject) = render(form, [p, q, r]) else { continue };
                    let now = (form.id.clone(), said);
                    match seen.insert(subject, now.clone()) {
                        Some(before) if before != now => return Some((before, now)),
                        _ => {}
                    }
                }
            }
        }
    }
    None
}

/// A subject without any check but that no value holds a delimiter.
fn unchecked(form: &SubjectFormDefinition, [p, q, r]: [&'static str; 3]) -> Option<String> {
    let fits = |value: &str| !value.contains(|character| form.delimiters.contains(character));
    let mut text = form.template.clone();
    for (name, value) in [("{p}", p), ("{q}", q), ("{r}", r)] {
        if text.contains(name) && !fits(value) {
            return None;
        }
        text = text.replace(name, value);
    }
    Some(text)
}

fn form(id: &str, template: &str, delimiters: &str) -> SubjectFormDefinition {
    SubjectFormDefinition {
        id: id.to_owned(),
        template: template.to_owned(),
        delimiters: delimiters.to_owned(),
        ..SubjectFormDefinition::default()
    }
}

fn definition(forms: Vec<SubjectFormDefinition>, restrictions: [u8; 3]) -> ProfileDefinition {
    let attribute = |restriction: u8| match restriction {
        1 => AttributeDefinition { allowed_values: vec!["a".to_owned(), "x".to_owned()], ..AttributeDefinition::default() },
        2 => AttributeDefinition { characters: "label".to_owned(), ..AttributeDefinition::default() },
        3 => AttributeDefinition { characters: "digits".to_owned(), ..AttributeDefinition::default() },
        4 => AttributeDefinition { kind: "integer".to_owned(), ..AttributeDefinition::default() },
        _ => AttributeDefinition::default(),
    };
    let attributes = ["p", "q", "r"].into_iter().zip(restrictions);
    ProfileDefinition {
        attributes: attributes.map(|(name, restriction)| (name.to_owned(), attribute(restriction))).collect(),
        subject_forms: forms,
        ..ProfileDefinition::default()
    }
}

fn accepted(definition: &ProfileDefinition) -> Option<Profile> {
    Profile::custom(definition.clone(), "profile", &mut Violations::new())
}

/// The first collision of an accepted profile.
fn collision_of(profile: &Profile) -> Option<(Rendered, Rendered)> {
    collision(&profile.definition().subject_forms, |form, [p, q, r]| {
        let given = attributes(&[("p", p), ("q", q), ("r", r)]);
        let given = given.into_iter().filter(|(name, _)| form.template.contains(&format!("{{{name}}}"))).collect();
        identify(profile, &form.id, &given).ok().map(|identity| identity.subject.to_string())
    })
}

#[test]
fn s54_templates_that_could_render_one_subject_twice_are_refused() {
    for forms in [
        vec![form("one", "{p}{q}", ":")],
        vec![form("one", "{p}x{q}", ":")],
        vec![form("one", "{p}.{q}", ":")],
        vec![form("one", "a:{p}:{q}", ":"), form("two", "a:{p}:{r}", ":")],
        vec![form("one", "a:{p}", ":"), form("two", "{q}:{r}", ":")],
        vec![form("one", "a:{p}", ":"), form("two", "a:{p}.x", ":.")],
        vec![form("one", "a:{p}", ":"), form("two", "a:x.{p}.{q}", ":.")],
    ] {
        let ids: Vec<_> = forms.iter().map(|form| form.template.clone()).collect();
        assert!(collision(&forms, unchecked).is_some(), "the search finds nothing wrong with {ids:?}");
        assert!(accepted(&definition(forms, [0; 3])).is_none(), "{ids:?}");
    }
}

#[test]
fn forms_that_no_subject_has_both_of_are_accepted() {
    for (forms, restrictions) in [
        (vec![form("one", "a:{p}", ":"), form("two", "b:{p}", ":")], [0; 3]),
        (vec![form("one", "a:{p}", ":"), form("two", "a:{p}:{q}", ":")], [0; 3]),
        (vec![form("one", "a:{p}:b", ":"), form("two", "a:{p}:x", ":")], [0; 3]),
        (vec![form("one", "a:{p}", ":."), form("two", "a:x.{q}.{r}", ":.")], [0; 3]),
        (vec![form("one", "a:{p}", ":"), form("two", "a:x.{q}.{r}", ":.")], [2, 0, 0]),
        (vec![form("one", "a:{p}", ":"), form("two", "a:{q}", ":")], [1, 3, 0]),
    ] {
        let mut violations = Violations::new();
        let profile = Profile::custom(definition(forms, restrictions), "profile", &mut violations);
        let profile = profile.unwrap_or_else(|| panic!("{violations}"));
        assert_eq!(collision_of(&profile), None);
    }
}

fn template() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec!["a", "x", ":", ".", ":a:", ":x", ".x.", "{p}", "{q}", "{r}"]);
    prop::collection::vec(piece, 1..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn s54_two_sets_of_attributes_never_render_one_subject(
        one in template(), two in template(), both in any::<bool>(),
        delimiters in prop::array::uniform2(prop::sample::select(vec![":", ":.", "."])),
        restrictions in prop::array::uniform3(0..5_u8),
    ) {
        let mut forms = vec![form("one", &one, delimiters[0])];
        if both {
            forms.push(form("two", &two, delimiters[1]));
        }
        if let Some(profile) = accepted(&definition(forms, restrictions)) {
            prop_assert_eq!(collision_of(&profile), None);
        }
    }
}
