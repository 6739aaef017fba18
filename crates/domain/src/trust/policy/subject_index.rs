//! Finds the relationships of one issuer that accept a subject, without asking each.
//!
//! Exact subjects are found by hash. A pattern is filed under one of its literal pieces — what it begins with, what it ends with,
//! or some of what stands between two stars — and is evaluated only for subjects that hold that piece in that place. It goes where the
//! fewest patterns are already, so that a thousand patterns which begin alike (`org:acme:*:ref:…`), or all begin with `*`, still
//! lie apart. A pattern whose relationship asks a claim to be one of some values can also lie under these, which is where a bare
//! `*` goes. Where a pattern is filed bears on the cost alone, never on the answer.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::claim_index::{self, ClaimIndex};
use super::hash_index::HashIndex;
use super::literal_map::LiteralMap;
use super::{CompiledRelationship, MatchedRelationship};
use crate::exchange::claims::Claims;
use crate::trust::claim_condition::ClaimValue;
use crate::values::claim_path::ClaimPath;
use crate::values::subject_match::{CompiledMatch, Pattern, Specificity};

/// Patterns that begin alike are filed together up to this number, and by their other pieces beyond. The prefix is the cheapest
/// to look up.
const PREFERRED_PREFIX_ENTRIES: usize = 4;

/// The most bytes of an infix that a pattern is filed under. Infixes are looked for at every place of a subject, so this bounds what
/// a look-up costs when subject and patterns repeat the same text (SECURITY 72).
const MAX_INFIX_KEY: usize = 32;

/// The subject matches of one issuer's relationships. Cloning is cheap and shares everything.
#[derive(Clone, Default)]
pub(super) struct SubjectIndex {
    exact: HashIndex<ExactEntry>,
    /// Keyed, as strangers choose the subjects that are looked up, and workspaces those that are filed.
    hasher: RandomState,
    by_prefix: LiteralMap<Entries>,
    /// The keys are reversed.
    by_suffix: LiteralMap<Entries>,
    by_infix: LiteralMap<Entries>,
    by_claim: ClaimIndex<Entries>,
    /// Those that have nothing to be filed under.
    everywhere: Entries,
}

/// One exact subject of one relationship.
#[derive(Clone)]
struct ExactEntry {
    subject: Arc<str>,
    relationship: Arc<CompiledRelationship>,
}

/// One pattern of one relationship.
#[derive(Clone)]
struct Entry {
    relationship: Arc<CompiledRelationship>,
    /// Which of its subject matches.
    position: usize,
}

type Entries = Vec<Entry>;

/// What a subject or a token must have for a pattern to be evaluated.
#[derive(Clone)]
enum Place<'a> {
    /// A literal piece where it must stand.
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    /// Not more than [`MAX_INFIX_KEY`] bytes of one.
    Infix(Box<[u8]>),
    /// A claim with one of these values.
    Claim(&'a ClaimPath, BTreeSet<&'a ClaimValue>),
}

impl Entry {
    /// The relationship, if this match of it accepts the subject.
    fn accepting(&self, subject: &str) -> Option<MatchedRelationship<'_>> {
        let subject_match = self.relationship.subject_matches.get(self.position)?;
        let specificity = subject_match.accepts(subject).then(|| subject_match.specificity())?;
        Some(MatchedRelationship { relationship: &self.relationship, specificity })
    }
}

impl SubjectIndex {
    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty()
            && self.by_prefix.is_empty()
            && self.by_suffix.is_empty()
            && self.by_infix.is_empty()
            && self.by_claim.is_empty()
            && self.everywhere.is_empty()
    }

    pub(super) fn insert(&mut self, relationship: &Arc<CompiledRelationship>) {
        for (position, subject_match) in relationship.subject_matches.iter().enumerate() {
            let relationship = Arc::clone(relationship);
            match subject_match {
                CompiledMatch::Exact(subject) => {
                    let entry = ExactEntry { subject: Arc::clone(subject), relationship };
                    self.exact.insert(self.hasher.hash_one(subject), entry);
                }
                CompiledMatch::Pattern(pattern) => {
                    let entry = Entry { relationship: Arc::clone(&relationship), position };
                    match self.least_crowded_place(&relationship, pattern) {
                        Some(place) => self.file(&place, entry),
                        None => self.everywhere.push(entry),
                    }
                }
            }
        }
    }

    pub(super) fn remove(&mut self, relationship: &CompiledRelationship) {
        for subject_match in &relationship.subject_matches {
            match subject_match {
                CompiledMatch::Exact(text) => {
                    self.exact.remove(self.hasher.hash_one(text), |entry| entry.relationship.id == relationship.id);
                }
                CompiledMatch::Pattern(pattern) => {
                    for place in places(relationship, pattern) {
                        if self.crowd(&place) > 0 {
                            self.forget(&place, relationship);
                        }
                    }
                    self.everywhere.retain(|entry| entry.relationship.id != relationship.id);
                }
            }
        }
    }

    /// Every match that is exactly the subject, in no order.
    pub(super) fn accepting_exactly<'a>(&'a self, subject: &str) -> impl Iterator<Item = MatchedRelationship<'a>> {
        let entries = self.exact.under(self.hasher.hash_one(subject)).filter(move |entry| *entry.subject == *subject);
        let specificity = Specificity::of_exact(subject);
        entries.map(move |entry| MatchedRelationship { relationship: &entry.relationship, specificity })
    }

    /// Every pattern that accepts the subject, in no order.
    pub(super) fn accepting_by_pattern(&self, claims: &Claims) -> Vec<MatchedRelationship<'_>> {
        let subject = claims.subject.as_str();
        let mut matched = Vec::new();
        self.for_each_candidate(claims, |entry| matched.extend(entry.accepting(subject)));
        matched
    }

    /// Calls `found` with every pattern that has to be evaluated for these claims, each once.
    fn for_each_candidate<'a>(&'a self, claims: &Claims, mut found: impl FnMut(&'a Entry)) {
        let subject = claims.subject.as_str().as_bytes();
        self.by_prefix.for_each_start_of(subject, |entries| entries.iter().for_each(&mut found));
        if !self.by_suffix.is_empty() {
            self.by_suffix.for_each_start_of(&reversed(subject), |entries| entries.iter().for_each(&mut found));
        }
        if !self.by_infix.is_empty() {
            self.by_infix.for_each_part_of(subject, |entries| entries.iter().for_each(&mut found));
        }
        self.by_claim.for_each_of(&claims.members, |entries| entries.iter().for_each(&mut found));
        self.everywhere.iter().for_each(&mut found);
    }

    fn least_crowded_place<'a>(&self, relationship: &'a CompiledRelationship, pattern: &Pattern) -> Option<Place<'a>> {
        let mut best: Option<(usize, Place<'a>)> = None;
        for place in places(relationship, pattern) {
            if let Place::Claim(path, _) = place
                && !self.by_claim.has_room_for(path)
            {
                continue;
            }
            let crowd = self.crowd(&place);
            if matches!(place, Place::Prefix(_)) && crowd < PREFERRED_PREFIX_ENTRIES {
                return Some(place);
            }
            if best.as_ref().is_none_or(|(least, _)| crowd < *least) {
                best = Some((crowd, place));
            }
        }
        best.map(|(_, place)| place)
    }

    /// How many are filed in a place.
    fn crowd(&self, place: &Place<'_>) -> usize {
        let entries = |entries: Option<&Entries>| entries.map_or(0, Vec::len);
        match place {
            Place::Prefix(key) => entries(self.by_prefix.get(key)),
            Place::Suffix(key) => entries(self.by_suffix.get(key)),
            Place::Infix(key) => entries(self.by_infix.get(key)),
            Place::Claim(path, values) => values.iter().map(|value| entries(self.by_claim.get(path, value))).max().unwrap_or(0),
        }
    }

    fn file(&mut self, place: &Place<'_>, entry: Entry) {
        match place {
            Place::Prefix(key) => self.by_prefix.entry(key).push(entry),
            Place::Suffix(key) => self.by_suffix.entry(key).push(entry),
            Place::Infix(key) => self.by_infix.entry(key).push(entry),
            Place::Claim(path, values) => {
                for value in values {
                    self.by_claim.change(path, value, |entries| entries.push(entry.clone()));
                }
            }
        }
    }

    /// Removes what a relationship has in a place.
    fn forget(&mut self, place: &Place<'_>, relationship: &CompiledRelationship) {
        let is_left = |entry: &Entry| entry.relationship.id != relationship.id;
        let (map, key) = match place {
            Place::Prefix(key) => (&mut self.by_prefix, key),
            Place::Suffix(key) => (&mut self.by_suffix, key),
            Place::Infix(key) => (&mut self.by_infix, key),
            Place::Claim(path, values) => {
                for value in values {
                    self.by_claim.change(path, value, |entries| entries.retain(is_left));
                    if self.by_claim.get(path, value).is_some_and(Vec::is_empty) {
                        self.by_claim.remove(path, value);
                    }
                }
                return;
            }
        };
        let entries = map.entry(key);
        entries.retain(is_left);
        if entries.is_empty() {
            map.remove(key);
        }
    }
}

/// Where a pattern can be filed, each place once; nowhere, when it is a bare `*` and its relationship names no values. Of infixes
/// the longer come first.
fn places<'a>(relationship: &'a CompiledRelationship, pattern: &Pattern) -> Vec<Place<'a>> {
    let mut places = Vec::with_capacity(4);
    if !pattern.prefix().is_empty() {
        places.push(Place::Prefix(pattern.prefix().as_bytes().into()));
    }
    if !pattern.suffix().is_empty() {
        places.push(Place::Suffix(reversed(pattern.suffix().as_bytes())));
    }
    let mut infixes: Vec<&[u8]> = pattern.infixes().flat_map(|infix| infix_keys(infix.as_bytes())).collect();
    infixes.sort_unstable_by_key(|infix| (Reverse(infix.len()), *infix));
    infixes.dedup();
    places.extend(infixes.into_iter().map(|infix| Place::Infix(infix.into())));
    let conditions = relationship.claim_conditions.iter().filter_map(|condition| claim_index::keys(condition.written()));
    places.extend(conditions.map(|(path, values)| Place::Claim(path, values)));
    places
}

/// The parts of an infix that a pattern can be filed under. They cover it, so that wherever in it patterns differ, a part differs.
fn infix_keys(infix: &[u8]) -> impl Iterator<Item = &[u8]> {
    let last = infix.len().saturating_sub(MAX_INFIX_KEY);
    let starts = (0..last).step_by(MAX_INFIX_KEY).chain([last]);
    starts.map(move |start| &infix[start..infix.len().min(start + MAX_INFIX_KEY)])
}

fn reversed(bytes: &[u8]) -> Box<[u8]> {
    bytes.iter().rev().copied().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trust::policy::tests::{claims, relationship};
    use crate::values::id::TrustRelationshipId;

    /// The relationships and the positions of the patterns that are evaluated. Fails when one of them is twice.
    #[track_caller]
    fn evaluated<'a>(index: &'a SubjectIndex, claims: &Claims) -> BTreeSet<(&'a TrustRelationshipId, usize)> {
        let (mut times, mut evaluated) = (0, BTreeSet::new());
        index.for_each_candidate(claims, |entry| {
            times += 1;
            evaluated.insert((&entry.relationship.id, entry.position));
        });
        assert_eq!(times, evaluated.len(), "some were evaluated again for {}", claims.subject);
        evaluated
    }

    fn candidates(index: &SubjectIndex, claims: &Claims) -> usize {
        evaluated(index, claims).len()
    }

    fn index_of(count: usize, pattern: impl Fn(usize) -> String) -> SubjectIndex {
        let mut index = SubjectIndex::default();
        for number in 0..count {
            index.insert(&Arc::new(relationship(number, &[&pattern(number)]).into()));
        }
        index
    }

    #[track_caller]
    fn check_few_are_evaluated(pattern: impl Fn(usize) -> String, subject: &str) {
        let (index, claims) = (index_of(2_000, pattern), claims(subject, &[]));
        let accepting = index.accepting_exactly(subject).count() + index.accepting_by_pattern(&claims).len();
        assert_eq!(accepting, 1, "{subject}");
        let evaluated = candidates(&index, &claims);
        assert!(evaluated <= 2 * PREFERRED_PREFIX_ENTRIES, "{evaluated} of 2,000 were evaluated for {subject}");
    }

    #[test]
    fn patterns_are_found_by_what_tells_them_apart() {
        check_few_are_evaluated(|number| format!("org:o{number}:vault:v"), "org:o77:vault:v");
        check_few_are_evaluated(|number| format!("org:o{number}:*"), "org:o77:vault:v");
        check_few_are_evaluated(|number| format!("*:vault:v{number}"), "org:o:vault:v77");
        check_few_are_evaluated(|number| format!("*:stack:s{number}:*"), "space:x:stack:s77:run");
        check_few_are_evaluated(|number| format!("org:acme:*:ref:r{number}"), "org:acme:x:ref:r77");
        check_few_are_evaluated(|number| format!("org:acme:*:job:j{number}:*:end"), "org:acme:x:job:j77:y:end");
    }

    #[test]
    fn long_infixes_are_told_apart_wherever_they_differ() {
        let same = "a-rather-long-name-that-is-the-same-in-all-of-them";
        check_few_are_evaluated(|number| format!("*:{number}:{same}:{same}:*"), &format!("x:77:{same}:{same}:x"));
        check_few_are_evaluated(|number| format!("*:{same}:{number}:{same}:*"), &format!("x:{same}:77:{same}:x"));
        check_few_are_evaluated(|number| format!("*:{same}:{same}:{number}:*"), &format!("x:{same}:{same}:77:x"));
    }

    #[track_caller]
    fn check_each_is_evaluated_once(pattern: impl Fn(usize) -> String) {
        let (index, subject) = (index_of(1_000, pattern), claims(&"a".repeat(1024), &[]));
        assert_eq!(candidates(&index, &subject), 1_000);
        assert_eq!(index.accepting_by_pattern(&subject).len(), 1_000);
    }

    #[test]
    fn s72_text_that_repeats_is_paid_for_once() {
        let a = |number| "a".repeat(number + 1);
        check_each_is_evaluated_once(|number| format!("*{}*", a(number)));
        check_each_is_evaluated_once(|_| "*a*".to_owned());
        check_each_is_evaluated_once(|number| "*a".repeat(number / 2 + 1) + "*");
        check_each_is_evaluated_once(|number| format!("{}*", a(number)));
        check_each_is_evaluated_once(|number| format!("*{}", a(number)));
    }

    #[test]
    fn s72_what_is_looked_for_at_every_place_of_a_subject_is_short() {
        for length in [1, MAX_INFIX_KEY - 1, MAX_INFIX_KEY, MAX_INFIX_KEY + 1, 2 * MAX_INFIX_KEY, 1022] {
            // No two parts are alike.
            let text: String = (0..length).map(|at| char::from(b'A' + u8::try_from(at / MAX_INFIX_KEY).unwrap())).collect();
            let compiled = relationship(0, &[&format!("*{text}*")]).into();
            let CompiledRelationship { subject_matches, .. } = &compiled;
            let [CompiledMatch::Pattern(pattern)] = &**subject_matches else { panic!("not one pattern") };
            let places = places(&compiled, pattern);
            assert_eq!(places.len(), length.div_ceil(MAX_INFIX_KEY), "{length}");
            for place in places {
                assert!(matches!(place, Place::Infix(key) if key.len() == length.min(MAX_INFIX_KEY)), "{length}");
            }
        }
    }

    proptest! {
        /// Every pattern that accepts is evaluated, and none twice, however long and alike the pieces.
        #[test]
        fn s72_each_match_is_evaluated_at_most_once(
            relationships in prop::collection::vec(
                (
                    prop::collection::vec(r"(a{1,3}|a{30,34}|b|ab|\*){1,6}", 1..4),
                    prop::collection::vec(prop::sample::select(vec!["x", "y"]), 0..4),
                ),
                1..20,
            ),
            subject in "(a{1,40}|b|ab){1,6}",
            claim in prop::sample::select(vec!["x", "y", "z"]),
        ) {
            let claims = claims(&subject, &[("c", claim.into())]);
            let (mut index, mut accepting) = (SubjectIndex::default(), Vec::new());
            for (number, (matches, values)) in relationships.into_iter().enumerate() {
                let matches: Vec<&str> = matches.iter().map(String::as_str).collect();
                let mut written = relationship(number, &matches);
                if !values.is_empty() {
                    let condition = serde_json::json!({"claim": "c", "one_of": values});
                    written.settings.claim_conditions = vec![serde_json::from_value(condition).unwrap()];
                }
                let compiled: Arc<CompiledRelationship> = Arc::new(written.into());
                index.insert(&compiled);
                if values.is_empty() || values.contains(&claim) {
                    let matches = compiled.subject_matches.iter().enumerate();
                    let patterns = matches.filter(|(_, each)| matches!(each, CompiledMatch::Pattern(_)));
                    accepting.extend(
                        patterns.filter(|(_, each)| each.accepts(&subject)).map(|(position, _)| (compiled.id.clone(), position)),
                    );
                }
            }
            let evaluated = evaluated(&index, &claims);
            for (id, position) in &accepting {
                prop_assert!(evaluated.contains(&(id, *position)), "{id}, {position} was not");
            }
        }
    }

    #[test]
    fn what_only_conditions_tell_apart_is_found_by_their_values() {
        for subject in ["*", "repo:my-org/*"] {
            let mut index = SubjectIndex::default();
            for number in 0..2_000 {
                let mut written = relationship(number, &[subject]);
                let condition = format!(r#"{{"claim": "/a/id", "one_of": ["{number}", "x{number}"]}}"#);
                written.settings.claim_conditions = vec![serde_json::from_str(&condition).unwrap()];
                index.insert(&Arc::new(written.into()));
            }
            for id in ["77", "x77"] {
                let claims = claims("repo:my-org/r", &[("a", serde_json::json!({"id": id}))]);
                let evaluated = candidates(&index, &claims);
                assert!((1..=2 * PREFERRED_PREFIX_ENTRIES).contains(&evaluated), "{evaluated} of 2,000 were evaluated for {id}");
            }
        }
    }

    #[test]
    fn nothing_stays_behind_when_everything_is_removed() {
        let mut index = SubjectIndex::default();
        let relationships: Vec<Arc<CompiledRelationship>> = (0..50)
            .map(|number| {
                let (exact, pattern) = (format!("s{}", number % 3), format!("p*m{}*m*s", number % 7));
                Arc::new(relationship(number, &[&exact, "p*", "*s", "*m*m*", "*é*", &pattern]).into())
            })
            .collect();
        for relationship in &relationships {
            index.insert(relationship);
        }
        assert!(!index.is_empty());
        for relationship in &relationships {
            index.remove(relationship);
        }
        assert!(index.is_empty());
    }
}
