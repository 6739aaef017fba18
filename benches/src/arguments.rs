//! Arguments of the form `--name value`.

use std::collections::BTreeMap;
use std::str::FromStr;

/// What a program was given.
#[derive(Debug)]
pub struct Arguments(BTreeMap<String, String>);

impl Arguments {
    /// Of this program, which knows these names.
    pub fn read(known: &[&str]) -> Self {
        let mut given = BTreeMap::new();
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").filter(|name| known.contains(name));
            let Some(name) = name else { panic!("{word} is none of {known:?}") };
            given.insert(name.to_owned(), words.next().unwrap_or_else(|| panic!("--{name} has no value")));
        }
        Self(given)
    }

    /// A value, or what stands for it when it is left out.
    pub fn get<T: FromStr>(&self, name: &str, default: T) -> T {
        let Some(value) = self.0.get(name) else { return default };
        value.parse().unwrap_or_else(|_| panic!("--{name} {value} cannot be read"))
    }
}
