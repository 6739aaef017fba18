//! Modules of the domain import each other in one direction.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::{root, source_files};

/// The modules of the domain's rooms, as `trust::policy`, and which others the code of each imports, tests and comments apart.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let domain = root().join("crates/domain/src");
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in source_files() {
        let Ok(place) = file.strip_prefix(&domain) else { continue };
        let parts: Vec<_> = place.iter().map(|part| part.to_string_lossy().trim_end_matches(".rs").to_owned()).collect();
        let [room, module, inner @ ..] = parts.as_slice() else { continue };
        if inner.iter().any(|name| name == "tests" || name == "samples") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        let mentioned = lines.flat_map(|line| line.split("crate::").skip(1)).filter_map(|path| {
            let mut segments = path.split(|character: char| !character.is_alphanumeric() && character != '_');
            let (room, _, module) = (segments.next()?, segments.next()?, segments.next()?);
            (!module.is_empty()).then(|| format!("{room}::{module}"))
        });
        imports.entry(format!("{room}::{module}")).or_default().extend(mentioned);
    }
    imports
}

/// A circle, if there is one: each of these imports the next, and the last the first.
fn circle(imports: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<&str>> {
    fn walk<'a>(
        module: &'a str,
        imports: &'a BTreeMap<String, BTreeSet<String>>,
        path: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<Vec<&'a str>> {
        if let Some(start) = path.iter().position(|visited| *visited == module) {
            return path.get(start..).map(<[&str]>::to_vec);
        }
        let next = imports.get(module).filter(|_| !done.contains(module))?;
        path.push(module);
        let found = next.iter().filter(|next| *next != module).find_map(|next| walk(next, imports, path, done));
        path.pop();
        done.insert(module);
        found
    }
    let mut done = BTreeSet::new();
    imports.keys().find_map(|module| walk(module, imports, &mut Vec::new(), &mut done))
}

#[test]
fn no_modules_of_the_domain_import_each_other_in_a_circle() {
    let imports = imports();
    assert!(imports["exchange::decision"].contains("trust::policy"), "imports are read");
    assert_eq!(circle(&imports), None);
}

#[test]
fn a_circle_is_found_wherever_it_is() {
    let imports = |edges: &[(&str, &str)]| {
        let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in edges {
            imports.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        imports
    };
    let straight = imports(&[("a", "b"), ("a", "c"), ("b", "c"), ("c", "outside"), ("c", "c")]);
    assert_eq!(circle(&straight), None);
    let round = imports(&[("a", "b"), ("b", "c"), ("c", "d"), ("d", "b"), ("a", "d")]);
    assert_eq!(circle(&round), Some(vec!["b", "c", "d"]));
}
