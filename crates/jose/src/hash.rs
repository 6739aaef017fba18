//! SHA-256 over lists.

use aws_lc_rs::digest::{Context, Digest, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512, digest};

use crate::algorithm::{Curve, Scheme, scheme};
use countersign_domain::values::signature_algorithm::SignatureAlgorithm;

/// The SHA-256 of a list of parts, each preceded by its length, so that no two lists are hashed alike.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for_each_framed(parts, |bytes| context.update(bytes));
    to_array(&context.finish())
}

/// The SHA-1 of a certificate in hexadecimal, as AWS names certificates. It identifies, and secures nothing.
pub fn certificate_thumbprint(der: &[u8]) -> String {
    digest(&SHA1_FOR_LEGACY_USE_ONLY, der).as_ref().iter().fold(String::new(), |mut text, byte| {
        text.extend([byte >> 4, byte & 15].map(|half| char::from_digit(half.into(), 16).unwrap_or_default()));
        text
    })
}

/// The digest that an ECDSA algorithm signs (RFC 7518, section 3.4), for devices that do not hash themselves; `None` for the others.
pub fn ecdsa_digest(algorithm: SignatureAlgorithm, message: &[u8]) -> Option<Vec<u8>> {
    let Scheme::Ecdsa(curve) = scheme(algorithm) else { return None };
    let hash = match curve {
        Curve::P256 => &SHA256,
        Curve::P384 => &SHA384,
        Curve::P521 => &SHA512,
    };
    Some(digest(hash, message).as_ref().to_vec())
}

/// The SHA-256 of bytes as they stand.
pub(crate) fn plain_sha256(bytes: &[u8]) -> [u8; 32] {
    to_array(&digest(&SHA256, bytes))
}

/// Feeds each part, after its length in bytes as 64 bits big-endian.
pub(crate) fn for_each_framed(parts: &[&[u8]], mut feed: impl FnMut(&[u8])) {
    for part in parts {
        feed(&(part.len() as u64).to_be_bytes());
        feed(part);
    }
}

fn to_array(digest: &Digest) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_lists_are_hashed_alike() {
        let lists: [&[&[u8]]; 7] = [&[], &[b""], &[b"", b""], &[b"ab"], &[b"a", b"b"], &[b"", b"ab"], &[b"ab", b""]];
        for (index, list) in lists.iter().enumerate() {
            for other in &lists[index + 1..] {
                assert_ne!(sha256(list), sha256(other), "{list:?} {other:?}");
            }
        }
    }

    #[test]
    fn a_thumbprint_is_written_as_aws_writes_it() {
        // FIPS 180-4's example.
        assert_eq!(certificate_thumbprint(b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
    }

    #[test]
    fn a_part_is_preceded_by_its_length_as_64_bits() {
        assert_eq!(sha256(&[b"abc", b"d"]), plain_sha256(b"\0\0\0\0\0\0\0\x03abc\0\0\0\0\0\0\0\x01d"));
    }
}
