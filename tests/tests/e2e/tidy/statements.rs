//! The statements of `docs/SECURITY.md`: who cites them, and which tests hold them.
//!
//! `docs/SECURITY-TESTS.md` is written by this file. After tests were added, renamed or moved, write it anew:
//!
//! ```sh
//! UPDATE=1 cargo test -p countersign-tests --test e2e tidy::statements
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use super::{root, source_files};

const TABLE: &str = "docs/SECURITY-TESTS.md";

/// Every statement of these parts has a test.
const COMPLETE_PARTS: [char; 3] = ['A', 'C', 'D'];

/// How much of a statement stands in the table: enough to know it again.
const EXCERPT_CHARACTERS: usize = 100;

/// A numbered statement.
struct Statement {
    /// The letter of its part.
    part: char,
    text: String,
}

/// The statements by their numbers, and the titles of the parts by their letters.
fn statements() -> (BTreeMap<u32, Statement>, BTreeMap<char, String>) {
    let document = std::fs::read_to_string(root().join("docs/SECURITY.md")).unwrap();
    let (mut statements, mut parts) = (BTreeMap::new(), BTreeMap::new());
    let mut part = ' ';
    for line in document.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            part = title.split_once(". ").map_or(' ', |(letter, _)| letter.chars().next().unwrap());
            parts.insert(part, title.to_owned());
        }
        if let Some((number, text)) = line.split_once(". ")
            && let Ok(number) = number.parse()
        {
            statements.insert(number, Statement { part, text: text.to_owned() });
        }
    }
    assert!(statements.contains_key(&1) && statements.contains_key(&78), "{:?}", statements.keys());
    (statements, parts)
}

/// Every test that is named after statements, as its file and its name, by statement. A function that no test calls is dead code,
/// which the compiler refuses.
fn tests() -> BTreeMap<u32, BTreeSet<(String, String)>> {
    let mut tests: BTreeMap<u32, BTreeSet<(String, String)>> = BTreeMap::new();
    for file in source_files() {
        let text = std::fs::read_to_string(&file).unwrap();
        let path = file.strip_prefix(root()).unwrap_or(Path::new("")).display().to_string();
        for (place, _) in text.match_indices("fn s") {
            let rest = &text[place + "fn ".len()..];
            let name = &rest[..rest.find(|next: char| !next.is_ascii_alphanumeric() && next != '_').unwrap_or_default()];
            for number in numbers(name) {
                tests.entry(number).or_default().insert((path.clone(), name.to_owned()));
            }
        }
    }
    tests
}

/// The statements that a test is named after: 37 and 72 of `s37_s72_being_forgotten…`.
fn numbers(name: &str) -> impl Iterator<Item = u32> {
    let digits = |word: &str| word.strip_prefix('s').filter(|digits| digits.len() == 2).and_then(|digits| digits.parse().ok());
    name.split('_').map_while(digits)
}

/// The document as it should be.
fn table() -> String {
    let ((statements, parts), tests) = (statements(), tests());
    let mut table = String::from(
        "# Which tests hold what must hold\n\n\
         For each statement of [SECURITY.md](SECURITY.md), the tests that fail when its rule is removed. A statement packs several\n\
         rules into a sentence; the names of the tests say which. This file is written by `tests/tests/e2e/tidy/statements.rs`, which\n\
         fails when it is not what the tree says, and when a statement of A, C or D has no test. To write it anew:\n\n\
         ```sh\nUPDATE=1 cargo test -p countersign-tests --test e2e tidy::statements\n```\n",
    );
    let (complete, others): (Vec<_>, Vec<_>) = parts.iter().partition(|(letter, _)| COMPLETE_PARTS.contains(letter));
    for (letter, title) in complete.into_iter().chain(others) {
        let mut of_part = statements.iter().filter(|(_, statement)| statement.part == *letter).peekable();
        if of_part.peek().is_none() {
            continue;
        }
        let _ = write!(table, "\n## {title}\n\n| | test | where |\n|---|---|---|\n");
        for (number, statement) in of_part {
            let _ = writeln!(table, "| **{number}** | *{}* | |", excerpt(&statement.text));
            for (file, test) in tests.get(number).into_iter().flatten() {
                let _ = writeln!(table, "| {number} | `{test}` | `{file}` |");
            }
        }
    }
    table
}

/// The beginning of a statement, as text for a cell of a table.
fn excerpt(text: &str) -> String {
    let plain = text.replace(['`', '*'], "").replace('|', "/");
    match plain.char_indices().nth(EXCERPT_CHARACTERS) {
        None => plain,
        Some((end, _)) => format!("{}…", plain[..end].rsplit_once(' ').map_or(&plain[..end], |(words, _)| words)),
    }
}

/// Tests are named after statements (`s17_…`) and comments cite them (`SECURITY 17`).
#[test]
fn every_statement_that_is_cited_stands_in_the_document() {
    let (statements, _) = statements();
    let mut cited = 0;
    for file in source_files() {
        let text = std::fs::read_to_string(&file).unwrap();
        for number in numbers_behind(&text, "SECURITY ").chain(numbers_behind(&text, "fn s")) {
            assert!(statements.contains_key(&number), "{} cites statement {number}", file.display());
            cited += 1;
        }
    }
    for number in tests().into_keys() {
        assert!(statements.contains_key(&number), "a test is named after statement {number}");
    }
    assert!(cited > 100, "only {cited} citations found");
}

#[test]
fn every_statement_on_tokens_keys_and_replay_has_a_test() {
    let ((statements, _), tests) = (statements(), tests());
    let untested: Vec<_> = statements
        .iter()
        .filter(|(number, statement)| COMPLETE_PARTS.contains(&statement.part) && !tests.contains_key(number))
        .map(|(number, _)| number)
        .collect();
    assert_eq!(untested, [0_u32; 0].iter().collect::<Vec<_>>(), "statements without a test");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "whoever runs the test asks for a new table")]
fn the_table_of_tests_is_what_the_tree_says() {
    let (path, expected) = (root().join(TABLE), table());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let (written_rows, expected_rows): (BTreeSet<&str>, BTreeSet<&str>) = (written.lines().collect(), expected.lines().collect());
    let missing: Vec<_> = expected_rows.difference(&written_rows).collect();
    let surplus: Vec<_> = written_rows.difference(&expected_rows).collect();
    assert!(
        written == expected,
        "{TABLE} is not what the tree says; run again with UPDATE=1 in the environment\nmissing: {missing:#?}\nsurplus: {surplus:#?}"
    );
}

#[test]
fn a_name_may_carry_several_numbers() {
    let of = |name| numbers(name).collect::<Vec<_>>();
    assert_eq!(of("s37_s72_being_forgotten_ends_no_back_off"), [37, 72]);
    assert_eq!(of("s09_other"), [9]);
    for other in ["sleep", "s_17", "server_s17_x", "s170_x", "sub_s17", "s1_x"] {
        assert_eq!(of(other), [0_u32; 0], "{other}");
    }
}

fn numbers_behind<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = u32> + 'a {
    text.match_indices(mark).filter_map(move |(place, _)| {
        let rest = &text[place + mark.len()..];
        rest[..rest.find(|next: char| !next.is_ascii_digit())?].parse().ok()
    })
}
