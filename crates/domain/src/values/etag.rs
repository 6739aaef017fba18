//! Entity tags: opaque text that changes with every change of a resource.

use std::fmt;

/// The etag of one revision of one resource. Clients send it back and do not look inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Etag(Box<str>);

impl Etag {
    /// The etag of this revision of the resource with this id. The id is part of it, so that the tag of one resource never
    /// guards another.
    pub fn of(id: impl fmt::Display, revision: i64) -> Self {
        Self(data_encoding::BASE64URL_NOPAD.encode(format!("{id}.{revision}").as_bytes()).into())
    }

    /// Whether a caller who sent this etag may go on. An empty one asks for no guard.
    pub fn permits(&self, given: &str) -> bool {
        given.is_empty() || given == &*self.0
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_permits_only_its_own_revision_of_its_own_resource() {
        let etag = Etag::of("tr_a", 7);
        assert!(etag.permits(&etag.to_string()));
        assert!(etag.permits(""));
        for other in [Etag::of("tr_a", 8), Etag::of("tr_b", 7)] {
            assert!(!etag.permits(&other.to_string()));
        }
    }
}
