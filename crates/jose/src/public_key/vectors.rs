//! The signature vectors of Project Wycheproof, run through our own reading of key sets, our permissions and our verifier.
//!
//! They sign messages of every form, which no compact JWS can carry, so they enter behind the splitting of a token. Three verdicts
//! differ from theirs, by rule: a key that SECURITY 9 makes unusable verifies nothing; RFC 7518, section 3.5, knows one length of
//! salt and one mask for each hash; and its section 3.4 knows no ASN.1.

use serde_json::json;
use wycheproof::{EllipticCurve, HashFunction, Mgf, TestResult, ecdsa, eddsa, rsa_pkcs1_verify, rsa_pss_verify};

use super::*;
use crate::fixtures::key_set;

/// What became of the vectors of one set.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    /// Valid ones that verified.
    accepted: usize,
    /// Invalid ones that did not.
    refused: usize,
    /// Those which theirs leaves open, refused.
    open: usize,
    /// Those of keys that are unusable.
    unusable: usize,
}

fn tally(accepted: usize, refused: usize, open: usize, unusable: usize) -> Tally {
    Tally { accepted, refused, open, unusable }
}

/// What is expected of the vectors of one key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// Their verdicts.
    Theirs,
    /// No signature verifies: it is of another scheme.
    Nothing,
}

/// One vector: its number, the message, the signature, and their verdict.
type Vector<'a> = (usize, &'a [u8], &'a [u8], TestResult);

impl Tally {
    /// Runs the vectors of one key.
    fn run<'a>(
        &mut self,
        jwk: &Value,
        algorithm: SignatureAlgorithm,
        expected: Expected,
        vectors: impl IntoIterator<Item = Vector<'a>>,
    ) {
        let keys = key_set(&[jwk.as_object().unwrap().clone()]);
        let usable = keys.select(None, algorithm).ok();
        assert_eq!(usable.is_some(), keys.skipped().is_empty());
        for (number, message, signature, verdict) in vectors {
            let Some(key) = usable else {
                self.unusable += 1;
                continue;
            };
            let verifies = key.verifies(algorithm, message, signature);
            let verdict = if expected == Expected::Nothing { TestResult::Invalid } else { verdict };
            assert_eq!(verifies, verdict == TestResult::Valid, "{algorithm}, number {number}");
            match verdict {
                TestResult::Valid => self.accepted += 1,
                TestResult::Invalid => self.refused += 1,
                TestResult::Acceptable => self.open += 1,
            }
        }
    }
}

/// The vectors of a group. Each scheme has types of its own, alike as they are.
macro_rules! vectors {
    ($group:ident) => {
        $group.tests.iter().map(|test| (test.tc_id, test.msg.as_slice(), test.sig.as_slice(), test.result))
    };
}

fn ecdsa(name: ecdsa::TestName, algorithm: SignatureAlgorithm, expected: Expected) -> Tally {
    let mut tally = Tally::default();
    for group in ecdsa::TestSet::load(name).unwrap().test_groups {
        let crv = match group.key.curve {
            EllipticCurve::Secp256r1 => "P-256",
            EllipticCurve::Secp384r1 => "P-384",
            EllipticCurve::Secp521r1 => "P-521",
            curve => panic!("{curve:?}"),
        };
        let (x, y) = group.key.key[1..].split_at(group.key.key.len() / 2);
        let jwk = json!({"kty": "EC", "crv": crv, "x": encoding::encode(x), "y": encoding::encode(y)});
        tally.run(&jwk, algorithm, expected, vectors!(group));
    }
    tally
}

fn rsa_jwk(key: &wycheproof::RsaPublic) -> Value {
    let unsigned = |bytes: &[u8]| encoding::encode(&bytes[bytes.iter().take_while(|byte| **byte == 0).count()..]);
    json!({"kty": "RSA", "n": unsigned(&key.n), "e": unsigned(&key.e)})
}

fn pkcs1(name: rsa_pkcs1_verify::TestName) -> Tally {
    let mut tally = Tally::default();
    for group in rsa_pkcs1_verify::TestSet::load(name).unwrap().test_groups {
        let (algorithm, expected) = match group.hash {
            HashFunction::Sha2_256 => (SignatureAlgorithm::Rs256, Expected::Theirs),
            HashFunction::Sha2_384 => (SignatureAlgorithm::Rs384, Expected::Theirs),
            HashFunction::Sha2_512 => (SignatureAlgorithm::Rs512, Expected::Theirs),
            _ => (SignatureAlgorithm::Rs256, Expected::Nothing),
        };
        // What they call invalid under another scheme may well be a signature of ours.
        let vectors = vectors!(group).filter(|(.., verdict)| expected == Expected::Theirs || *verdict != TestResult::Invalid);
        tally.run(&rsa_jwk(&group.key), algorithm, expected, vectors);
    }
    tally
}

fn pss(name: rsa_pss_verify::TestName) -> Tally {
    let mut tally = Tally::default();
    for group in rsa_pss_verify::TestSet::load(name).unwrap().test_groups {
        let (algorithm, salt) = match group.hash {
            HashFunction::Sha2_256 => (SignatureAlgorithm::Ps256, 32),
            HashFunction::Sha2_384 => (SignatureAlgorithm::Ps384, 48),
            HashFunction::Sha2_512 => (SignatureAlgorithm::Ps512, 64),
            _ => (SignatureAlgorithm::Ps256, usize::MAX),
        };
        let is_ours = group.salt_size == salt && group.mgf == Mgf::Mgf1 && group.mgf_hash.as_ref() == Some(&group.hash);
        let expected = if is_ours { Expected::Theirs } else { Expected::Nothing };
        // What they call invalid under another scheme may well be a signature of ours.
        let vectors = vectors!(group).filter(|(.., verdict)| expected == Expected::Theirs || *verdict != TestResult::Invalid);
        tally.run(&rsa_jwk(&group.key), algorithm, expected, vectors);
    }
    tally
}

#[test]
fn s04_ecdsa_signatures_of_fixed_length_over_the_hash_of_the_curve() {
    use ecdsa::TestName as Set;
    for (set, algorithm, expected) in [
        (Set::EcdsaSecp256r1Sha256P1363, SignatureAlgorithm::Es256, tally(173, 89, 0, 0)),
        (Set::EcdsaSecp384r1Sha384P1363, SignatureAlgorithm::Es384, tally(193, 87, 0, 0)),
        (Set::EcdsaSecp521r1Sha512P1363, SignatureAlgorithm::Es512, tally(231, 87, 0, 0)),
    ] {
        assert_eq!(ecdsa(set, algorithm, Expected::Theirs), expected, "{set:?}");
    }
}

#[test]
fn s04_ecdsa_signatures_in_asn1_or_over_another_hash_never_verify() {
    use ecdsa::TestName as Set;
    for (set, algorithm, vectors) in [
        (Set::EcdsaSecp256r1Sha256, SignatureAlgorithm::Es256, 484),
        (Set::EcdsaSecp384r1Sha384, SignatureAlgorithm::Es384, 504),
        (Set::EcdsaSecp521r1Sha512, SignatureAlgorithm::Es512, 542),
        (Set::EcdsaSecp256r1Sha512P1363, SignatureAlgorithm::Es256, 332),
        (Set::EcdsaSecp256r1Shake128P1363, SignatureAlgorithm::Es256, 258),
        (Set::EcdsaSecp384r1Sha512P1363, SignatureAlgorithm::Es384, 318),
        (Set::EcdsaSecp384r1Shake256P1363, SignatureAlgorithm::Es384, 314),
        (Set::EcdsaSecp521r1Shake256P1363, SignatureAlgorithm::Es512, 314),
    ] {
        assert_eq!(ecdsa(set, algorithm, Expected::Nothing), tally(0, vectors, 0, 0), "{set:?}");
    }
}

#[test]
fn s03_ed25519_signatures_under_both_names() {
    let algorithm = SignatureAlgorithm::EdDsa;
    for name in [algorithm.as_str(), SignatureAlgorithm::ED25519] {
        let mut found = Tally::default();
        for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap().test_groups {
            let jwk = json!({"kty": "OKP", "crv": "Ed25519", "alg": name, "x": encoding::encode(&group.key.pk)});
            found.run(&jwk, algorithm, Expected::Theirs, vectors!(group));
        }
        assert_eq!(found, tally(88, 63, 0, 0), "{name}");
    }
}

#[test]
fn s09_rsa_pkcs1_signatures() {
    use rsa_pkcs1_verify::TestName as Set;
    // The open ones lack the NULL in the padding. The unusable ones are of keys whose exponent is 3.
    let ours = [
        (Set::Rsa2048Sha256, tally(7, 249, 1, 2)),
        (Set::Rsa2048Sha384, tally(7, 250, 1, 0)),
        (Set::Rsa2048Sha512, tally(7, 250, 1, 1)),
        (Set::Rsa3072Sha256, tally(7, 250, 1, 1)),
        (Set::Rsa3072Sha384, tally(7, 251, 1, 0)),
        (Set::Rsa3072Sha512, tally(7, 251, 1, 1)),
        (Set::Rsa4096Sha256, tally(7, 250, 1, 0)),
        (Set::Rsa4096Sha384, tally(7, 251, 1, 0)),
        (Set::Rsa4096Sha512, tally(7, 251, 1, 0)),
        (Set::Rsa8192Sha256, tally(7, 250, 1, 0)),
        (Set::Rsa8192Sha384, tally(7, 251, 1, 0)),
        (Set::Rsa8192Sha512, tally(7, 251, 1, 0)),
    ];
    for set in Set::all() {
        let expected = ours.iter().find(|(name, _)| *name == set).map(|(_, expected)| expected);
        // Valid ones over a hash that no algorithm uses.
        assert_eq!(&pkcs1(set), expected.unwrap_or(&tally(0, 8, 0, 0)), "{set:?}");
    }
}

#[test]
fn s09_rsa_pss_signatures_whose_salt_is_as_long_as_the_hash() {
    use rsa_pss_verify::TestName as Set;
    for (set, expected) in [
        (Set::RsaPss2048Sha256Mgf1SaltLen32, tally(63, 45, 0, 0)),
        (Set::RsaPss2048Sha256Mgf1SaltLen32WithParams, tally(63, 45, 0, 0)),
        (Set::RsaPss2048Sha384Mgf1SaltLen48, tally(95, 46, 0, 0)),
        (Set::RsaPss3072Sha256Mgf1SaltLen32, tally(63, 45, 0, 0)),
        (Set::RsaPss3072Sha256Mgf1SaltLen32WithParams, tally(63, 45, 0, 0)),
        (Set::RsaPss4096Sha256Mgf1SaltLen32, tally(63, 45, 0, 0)),
        (Set::RsaPss4096Sha384Mgf1SaltLen48, tally(95, 46, 0, 0)),
        (Set::RsaPss4096Sha512Mgf1SaltLen64, tally(132, 47, 0, 0)),
        (Set::RsaPss4096Sha512Mgf1SaltLen64WithParams, tally(132, 47, 0, 0)),
        (Set::RsaPssmisc, tally(3, 147, 0, 0)),
        (Set::RsaPssmiscWithParams, tally(3, 147, 0, 0)),
    ] {
        assert_eq!(pss(set), expected, "{set:?}");
    }
}

#[test]
fn s04_rsa_pss_signatures_with_another_salt_mask_or_hash_never_verify() {
    use rsa_pss_verify::TestName as Set;
    for (set, valid) in [
        (Set::RsaPss2048Sha1Mgf1SaltLen20, 42),
        (Set::RsaPss2048Sha256Mgf1SaltLen0, 61),
        (Set::RsaPss2048Sha256Mgf1Sha1_20, 63),
        (Set::RsaPss2048Sha512_224Mgf1SaltLen28, 53),
        (Set::RsaPss2048Sha512_256Mgf1SaltLen32, 69),
        (Set::RsaPss2048Sha512Mgf1Sha256SaltLen32WithParams, 132),
        (Set::RsaPss2048Shake128, 69),
        (Set::RsaPss3072Shake256, 138),
        (Set::RsaPss4096Sha512Mgf1SaltLen32, 132),
    ] {
        assert_eq!(pss(set), tally(0, valid, 0, 0), "{set:?}");
    }
}
