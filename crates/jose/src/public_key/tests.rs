use crate::signer::Signer as _;
use serde_json::json;

use super::*;
use crate::fixtures::{RSA, jwk, key, with};

fn unusable(jwk: &Map<String, Value>) -> Option<UnusableKey> {
    PublicKey::from_jwk(jwk, KeyUses::Signature).err()
}

fn ec_key() -> Map<String, Value> {
    jwk(&key(SignatureAlgorithm::Es256))
}

/// An RSA key with this modulus.
fn modulus(bytes: &[u8]) -> Map<String, Value> {
    with(jwk(&RSA), &json!({"n": encoding::encode(bytes)}))
}

/// An odd modulus of this many bits, without the ROCA fingerprint.
fn odd_modulus(bits: usize) -> Vec<u8> {
    let mut bytes = vec![0xff; bits.div_ceil(8)];
    bytes[0] = 0xff >> (bytes.len() * 8 - bits);
    bytes
}

#[test]
fn s04_kty_crv_and_alg_decide_what_a_key_permits() {
    let permitted = |jwk: &Map<String, Value>| PublicKey::from_jwk(jwk, KeyUses::Signature).ok().unwrap().algorithms().to_vec();
    for algorithm in SignatureAlgorithm::ALL {
        assert_eq!(permitted(&jwk(&key(algorithm))), [algorithm]);
    }
    let open = |algorithm| with(jwk(&key(algorithm)), &json!({"alg": null, "use": null}));
    assert_eq!(permitted(&open(SignatureAlgorithm::Rs256)), RSA_ALGORITHMS);
    assert_eq!(permitted(&open(SignatureAlgorithm::Es256)), [SignatureAlgorithm::Es256]);
    assert_eq!(permitted(&open(SignatureAlgorithm::Es384)), [SignatureAlgorithm::Es384]);
    assert_eq!(permitted(&open(SignatureAlgorithm::Es512)), [SignatureAlgorithm::Es512]);
    assert_eq!(permitted(&open(SignatureAlgorithm::EdDsa)), [SignatureAlgorithm::EdDsa]);
    // Its name of RFC 9864.
    assert_eq!(permitted(&with(open(SignatureAlgorithm::EdDsa), &json!({"alg": "Ed25519"}))), [SignatureAlgorithm::EdDsa]);

    for alg in ["RS256", "ES384", "EdDSA", "ES256K", "none", "HS256", "es256", ""] {
        assert_eq!(unusable(&with(ec_key(), &json!({"alg": alg}))), Some(UnusableKey::Algorithm), "{alg}");
    }
    for alg in ["ES256", "RSA-OAEP", "HS256", "Ed25519"] {
        assert_eq!(unusable(&with(jwk(&RSA), &json!({"alg": alg}))), Some(UnusableKey::Algorithm), "{alg}");
        // Whatever its size: it is for something else.
        assert_eq!(unusable(&with(modulus(&[7]), &json!({"alg": alg}))), Some(UnusableKey::Algorithm), "{alg}");
    }
    for alg in ["Ed448", "ed25519", "EDDSA", "ES256"] {
        let key = with(jwk(&key(SignatureAlgorithm::EdDsa)), &json!({"alg": alg}));
        assert_eq!(unusable(&key), Some(UnusableKey::Algorithm), "{alg}");
    }
}

#[test]
fn s04_a_key_verifies_nothing_under_an_algorithm_that_it_does_not_permit() {
    for algorithm in SignatureAlgorithm::ALL {
        let key = key(algorithm);
        let token = key.sign("JWT", b"{}").unwrap();
        let (message, signature) = token.rsplit_once('.').unwrap();
        let (message, signature) = (message.as_bytes(), encoding::decode(signature).unwrap());
        // A good signature, under every name, by a key that is for one of them alone.
        for named in SignatureAlgorithm::ALL {
            let named_so = with(jwk(&key), &json!({"alg": named.as_str()}));
            let Ok(public) = PublicKey::from_jwk(&named_so, KeyUses::Signature) else { continue };
            assert_eq!(public.verifies(algorithm, message, &signature), named == algorithm, "{algorithm} as {named}");
        }
    }
}

#[test]
fn s04_use_and_key_ops_must_permit_verification() {
    for changes in [
        json!({"use": "enc"}),
        json!({"use": "SIG"}),
        json!({"use": ""}),
        json!({"key_ops": []}),
        json!({"key_ops": ["sign"]}),
        json!({"key_ops": ["encrypt", "wrapKey"]}),
        json!({"use": "enc", "key_ops": ["verify"]}),
    ] {
        assert_eq!(unusable(&with(ec_key(), &changes)), Some(UnusableKey::NotForVerification), "{changes}");
    }
    for changes in [json!({"use": null}), json!({"key_ops": ["verify"]}), json!({"use": null, "key_ops": ["sign", "verify"]})] {
        assert_eq!(unusable(&with(ec_key(), &changes)), None, "{changes}");
    }
}

#[test]
fn s04_keys_of_a_spiffe_bundle_verify_tokens_only_where_the_issuer_publishes_one() {
    let judged = |key_use: &str, uses| PublicKey::from_jwk(&with(ec_key(), &json!({"use": key_use})), uses).err();
    let (plain, spiffe) = (KeyUses::Signature, KeyUses::SignatureAndJwtSvid);
    assert_eq!((judged("sig", plain), judged("sig", spiffe)), (None, None));
    assert_eq!((judged("jwt-svid", plain), judged("jwt-svid", spiffe)), (Some(UnusableKey::JwtSvid), None));
    for other in ["x509-svid", "enc", "JWT-SVID", "jwt-svid ", "wit-svid", ""] {
        for uses in [plain, spiffe] {
            assert_eq!(judged(other, uses), Some(UnusableKey::NotForVerification), "{other}");
        }
    }
    let absent = with(ec_key(), &json!({"use": null}));
    assert!(PublicKey::from_jwk(&absent, spiffe).is_ok());
    let forbidden = with(ec_key(), &json!({"use": "jwt-svid", "key_ops": ["sign"]}));
    assert_eq!(PublicKey::from_jwk(&forbidden, spiffe).err(), Some(UnusableKey::NotForVerification));
}

#[test]
fn s05_symmetric_keys_and_private_members_are_never_used() {
    let oct = json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"});
    assert_eq!(unusable(oct.as_object().unwrap()), Some(UnusableKey::Symmetric));
    for member in ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"] {
        for jwk in [ec_key(), jwk(&RSA), jwk(&key(SignatureAlgorithm::EdDsa))] {
            assert_eq!(unusable(&with(jwk, &json!({member: "AQAB"}))), Some(UnusableKey::Private), "{member}");
        }
    }
    let empty = with(ec_key(), &json!({"d": ""}));
    assert_eq!(unusable(&empty), Some(UnusableKey::Private));
}

#[test]
fn s09_rsa_moduli_are_odd_and_of_2048_to_8192_bits() {
    for bits in [2048, 2049, 3072, 4095, 4096, 8192] {
        assert_eq!(unusable(&modulus(&odd_modulus(bits))), None, "{bits}");
    }
    for bits in [1, 512, 1024, 2047, 8193, 16_384] {
        assert_eq!(unusable(&modulus(&odd_modulus(bits))), Some(UnusableKey::Modulus), "{bits}");
    }
    let mut even = odd_modulus(2048);
    even[255] = 0xfe;
    assert_eq!(unusable(&modulus(&even)), Some(UnusableKey::Modulus));
    for nothing in [&[][..], &[0], &[0; 256]] {
        assert_eq!(unusable(&modulus(nothing)), Some(UnusableKey::Malformed));
    }
}

#[test]
fn s09_leading_zero_octets_change_neither_a_key_nor_its_limits() {
    let parse = |jwk: &Map<String, Value>| PublicKey::from_jwk(jwk, KeyUses::Signature).ok().unwrap();
    let fine = jwk(&RSA);
    let (n, e) = (encoding::decode(fine["n"].as_str().unwrap()).unwrap(), encoding::decode(fine["e"].as_str().unwrap()).unwrap());
    let token = RSA.sign("JWT", b"{}").unwrap();
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = encoding::decode(signature).unwrap();
    let zeros = |count: usize, octets: &[u8]| encoding::encode(&[&vec![0; count][..], octets].concat());
    assert!(!parse(&fine).has_leading_zeros);
    for (before_n, before_e) in [(1, 0), (0, 1), (1, 1), (2, 5), (300, 300)] {
        let key = parse(&with(fine.clone(), &json!({"n": zeros(before_n, &n), "e": zeros(before_e, &e)})));
        assert!(key.has_leading_zeros && key.has_material_of(&parse(&fine)), "{before_n} {before_e}");
        assert!(key.verifies(SignatureAlgorithm::Rs256, message.as_bytes(), &signature), "{before_n} {before_e}");
    }
    // 256 octets, of which one is zero.
    assert_eq!(unusable(&modulus(&[&[0], &odd_modulus(2040)[..]].concat())), Some(UnusableKey::Modulus));
    assert_eq!(unusable(&modulus(&[&[0], &odd_modulus(8192)[..]].concat())), None);
    assert_eq!(unusable(&modulus(&[&[0], &odd_modulus(8193)[..]].concat())), Some(UnusableKey::Modulus));
    assert_eq!(unusable(&modulus(&[&[0], &roca::tests::vulnerable()[..]].concat())), Some(UnusableKey::Roca));
    assert_eq!(unusable(&with(fine.clone(), &json!({"e": zeros(3, &[3])}))), Some(UnusableKey::Exponent));
    // Coordinates have a fixed length, so a zero before one is another matter.
    let ec = ec_key();
    let x = encoding::decode(ec["x"].as_str().unwrap()).unwrap();
    assert_eq!(unusable(&with(ec, &json!({"x": zeros(1, &x)}))), Some(UnusableKey::Point));
}

#[test]
fn s43_keys_are_the_same_by_their_material_alone() {
    let parse = |jwk: &Map<String, Value>| PublicKey::from_jwk(jwk, KeyUses::Signature).ok().unwrap();
    let keys: Vec<_> =
        [SignatureAlgorithm::Es256, SignatureAlgorithm::Es384, SignatureAlgorithm::EdDsa, SignatureAlgorithm::Rs256]
            .into_iter()
            .flat_map(|algorithm| match algorithm {
                SignatureAlgorithm::Rs256 => vec![jwk(&RSA), with(jwk(&RSA), &json!({"e": "AQAD"})), modulus(&odd_modulus(2048))],
                _ => vec![jwk(&key(algorithm)), jwk(&key(algorithm))],
            })
            .collect();
    for (index, one) in keys.iter().enumerate() {
        for (other_index, other) in keys.iter().enumerate() {
            let renamed = with(other.clone(), &json!({"kid": "other", "alg": null, "use": null}));
            assert_eq!(parse(one).has_material_of(&parse(&renamed)), index == other_index, "{index} {other_index}");
        }
    }
}

#[test]
fn s09_rsa_exponents_are_odd_and_at_least_65537() {
    let exponent = |value: u64| {
        let bytes = value.to_be_bytes();
        let significant = &bytes[value.leading_zeros() as usize / 8..];
        with(jwk(&RSA), &json!({"e": encoding::encode(significant)}))
    };
    for value in [65_537, 65_539, (1 << 33) - 1] {
        assert_eq!(unusable(&exponent(value)), None, "{value}");
    }
    for value in [1, 2, 3, 17, 65_535, 65_536, 65_538, 1 << 33, (1 << 33) + 1, u64::MAX] {
        assert_eq!(unusable(&exponent(value)), Some(UnusableKey::Exponent), "{value}");
    }
    assert_eq!(unusable(&with(jwk(&RSA), &json!({"e": encoding::encode(&[0xff; 256])}))), Some(UnusableKey::Exponent));
    // Zeros alone, and nothing at all.
    for e in ["AA", "AAAA", ""] {
        assert_eq!(unusable(&with(jwk(&RSA), &json!({"e": e}))), Some(UnusableKey::Malformed), "{e}");
    }
}

#[test]
fn s09_moduli_with_the_roca_fingerprint_are_unusable() {
    assert_eq!(unusable(&modulus(&roca::tests::vulnerable())), Some(UnusableKey::Roca));
}

#[test]
fn s09_points_off_the_curve_or_of_another_length_are_unusable() {
    for algorithm in [SignatureAlgorithm::Es256, SignatureAlgorithm::Es384, SignatureAlgorithm::Es512] {
        let fine = jwk(&key(algorithm));
        let coordinate = |name: &str| encoding::decode(fine[name].as_str().unwrap()).unwrap();
        let (x, y) = (coordinate("x"), coordinate("y"));
        let point = |x: &[u8], y: &[u8]| with(fine.clone(), &json!({"x": encoding::encode(x), "y": encoding::encode(y)}));
        assert_eq!(unusable(&point(&x, &y)), None);

        let mut off_curve = y.clone();
        *off_curve.last_mut().unwrap() ^= 1;
        let zero = vec![0; x.len()];
        let over_long = |bytes: &[u8]| [&[0], bytes].concat();
        for (x, y) in [
            (x.clone(), off_curve),
            (y.clone(), x.clone()),
            (zero.clone(), zero.clone()),
            (vec![0xff; x.len()], y.clone()),
            (over_long(&x), y.clone()),
            (x.clone(), over_long(&y)),
            (over_long(&x), over_long(&y)),
            (x[1..].to_vec(), y.clone()),
            (x.clone(), y[1..].to_vec()),
            (x.clone(), vec![]),
            // Joined they are the point; each of them has a wrong length.
            (x[..x.len() - 1].to_vec(), [&x[x.len() - 1..], &y].concat()),
            (vec![], [x.as_slice(), &y].concat()),
        ] {
            assert_eq!(unusable(&point(&x, &y)), Some(UnusableKey::Point), "{algorithm} {x:02x?} {y:02x?}");
        }
        for other in ["P-256", "P-384", "P-521"] {
            let other = with(fine.clone(), &json!({"crv": other, "alg": null}));
            let expected = (other["crv"] != fine["crv"]).then_some(UnusableKey::Point);
            assert_eq!(unusable(&other), expected);
        }
    }
    for crv in ["secp256k1", "P-192", "p-256", "Ed25519", ""] {
        assert_eq!(unusable(&with(ec_key(), &json!({"crv": crv}))), Some(UnusableKey::UnknownType), "{crv}");
    }
    let octets = jwk(&key(SignatureAlgorithm::EdDsa));
    for crv in ["X25519", "Ed448", "ed25519", "P-256", ""] {
        assert_eq!(unusable(&with(octets.clone(), &json!({"crv": crv}))), Some(UnusableKey::UnknownType), "{crv}");
    }
}

#[test]
fn s09_degenerate_ed25519_points_are_unusable() {
    let fine = jwk(&key(SignatureAlgorithm::EdDsa));
    let point = |bytes: &[u8]| with(fine.clone(), &json!({"x": encoding::encode(bytes)}));
    let negative = |mut bytes: [u8; 32]| {
        bytes[31] |= 0x80;
        bytes
    };
    let mut prime_plus_1 = [0xff; 32];
    (prime_plus_1[0], prime_plus_1[31]) = (0xee, 0x7f);
    let identity = little_endian(1);
    for bytes in [[0; 32], negative([0; 32]), identity, negative(identity), prime_plus_1, negative(prime_plus_1), [0xff; 32]] {
        assert_eq!(unusable(&point(&bytes)), Some(UnusableKey::Point), "{bytes:02x?}");
    }
    // Those of order 2 and 8.
    let mut order_2 = [0xff; 32];
    (order_2[0], order_2[31]) = (0xec, 0x7f);
    let order_8 = [
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    ];
    let order_8 = order_8.map(|hex| std::array::from_fn(|index| u8::from_str_radix(&hex[index * 2..][..2], 16).unwrap()));
    for bytes in [order_2, order_8[0], order_8[1]] {
        assert_eq!(unusable(&point(&bytes)), Some(UnusableKey::Point), "{bytes:02x?}");
        assert_eq!(unusable(&point(&negative(bytes))), Some(UnusableKey::Point), "{bytes:02x?}");
    }
    for length in [0, 31, 33, 57] {
        assert_eq!(unusable(&point(&vec![7; length])), Some(UnusableKey::Point), "{length}");
    }

    // Why it matters: the library by itself accepts, under the identity, one signature for every message.
    let signature = [identity, [0; 32]].concat();
    let library = ParsedPublicKey::new(&ED25519, identity).unwrap();
    assert!(library.verify_sig(b"anything", &signature).is_ok());
    assert!(library.verify_sig(b"anything else", &signature).is_ok());
}

#[test]
fn s12_members_of_the_wrong_type_make_a_key_unusable() {
    for member in ["kty", "use", "key_ops", "alg", "kid", "crv", "x", "y"] {
        for value in [json!(1), json!(true), json!({}), json!([1])] {
            assert_eq!(unusable(&with(ec_key(), &json!({member: value}))), Some(UnusableKey::Malformed), "{member} {value}");
        }
    }
    for member in ["kty", "crv", "x", "y"] {
        assert_eq!(unusable(&with(ec_key(), &json!({member: null}))), Some(UnusableKey::Malformed), "{member}");
    }
    for member in ["n", "e"] {
        assert_eq!(unusable(&with(jwk(&RSA), &json!({member: null}))), Some(UnusableKey::Malformed), "{member}");
    }
    for x in ["*", "AA==", "A", "A B"] {
        assert_eq!(unusable(&with(ec_key(), &json!({"x": x}))), Some(UnusableKey::Malformed), "{x}");
    }
    for kty in ["ec", "AKP", "", "RSA "] {
        assert_eq!(unusable(&with(ec_key(), &json!({"kty": kty}))), Some(UnusableKey::UnknownType), "{kty}");
    }
    assert_eq!(unusable(&with(ec_key(), &json!({"kid": "a\nb"}))), Some(UnusableKey::Malformed));
}

#[test]
fn s06_certificate_members_are_ignored() {
    let adorned = with(
        ec_key(),
        &json!({"x5u": "https://attacker.example", "x5c": ["garbage"], "x5t": "x", "x5t#S256": "x", "iat": 1, "nested": {"a": []}}),
    );
    assert_eq!(unusable(&adorned), None);
}
