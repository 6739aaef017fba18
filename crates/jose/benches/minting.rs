//! What an ID token costs beside the signature that nobody can save: from the wish to the compact token, transport and audit left
//! out, against the primitive's own signature of the same bytes.
//!
//! `cargo bench -p countersign-jose`. At most 1.5 times for ES256 and EdDSA.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people, whose input is its own")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use countersign_domain::issuing::id_token::{Holder, ID_TOKEN_TYPE, IdTokenWish};
use countersign_domain::issuing::issuer::{Issuer, IssuerDraft, IssuerSettings};
use countersign_domain::issuing::profile::Profile;
use countersign_domain::values::id::{IssuerId, WorkspaceId};
use countersign_domain::values::time::Timestamp;
use countersign_domain::values::violation::Violations;
use countersign_jose::Signer as _;
use countersign_jose::{SignatureAlgorithm, SigningKey};

/// Rounds alternate between what is compared, so that a busy machine slows both; the median of each counts.
const ROUNDS: usize = 41;
const TOKENS: usize = 2_000;

fn main() {
    println!("{:<12} {:<8} {:>12} {:>12} {:>8}", "profile", "alg", "signature", "token", "ratio");
    for profile in Profile::built_in() {
        let Some((issuer, wish)) = case(profile) else { continue };
        for algorithm in [SignatureAlgorithm::Es256, SignatureAlgorithm::EdDsa] {
            let key = SigningKey::generate(algorithm).unwrap();
            let bytes = mint(&issuer, &wish, &key).rsplit_once('.').unwrap().0.to_owned();
            let primitive = primitive(algorithm, key.to_pkcs8().unwrap().as_slice());
            let (mut signatures, mut tokens) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                signatures.push(time(|| primitive(black_box(bytes.as_bytes()))));
                tokens.push(time(|| drop(black_box(mint(black_box(&issuer), &wish, &key)))));
            }
            let (signature, token) = (median(signatures), median(tokens));
            let ratio = token.as_secs_f64() / signature.as_secs_f64();
            println!("{:<12} {:<8} {signature:>12.2?} {token:>12.2?} {ratio:>8.2}", issuer.profile.name(), algorithm.as_str());
        }
    }
}

/// An issuer, and what is asked of it: two that differ most, one of two attributes and one with derived values and claims.
fn case(profile: Profile) -> Option<(Issuer, IdTokenWish)> {
    let (attributes, audiences) = match profile.name() {
        "rwx" => (&[("org", "my-org"), ("vault", "deploy-vault")][..], vec!["sts.amazonaws.com".to_owned()]),
        "spacelift" => {
            let run = &[
                ("space_id", "production-01"),
                ("caller_type", "stack"),
                ("caller_id", "infra"),
                ("run_type", "TRACKED"),
                ("run_id", "01JB6Q3ZK8RUN"),
            ];
            (&run[..], vec![])
        }
        _ => return None,
    };
    let attributes = attributes.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    let settings = IssuerSettings::create(&IssuerDraft::default(), Some(&profile), &mut Violations::new()).unwrap();
    let issuer = Issuer {
        id: IssuerId::from_random([1; 16]),
        workspace_id: WorkspaceId::from_random([2; 16]),
        issuer_url: "https://id.example.com/a".parse().unwrap(),
        profile,
        former_subjects: Vec::new(),
        settings,
        revision: 1,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
        published_until: None,
    };
    let holder = Holder::Run { attributes, subject_form: String::new() };
    Some((issuer, IdTokenWish { holder, audiences, duration: None, algorithm: String::new() }))
}

fn mint(issuer: &Issuer, wish: &IdTokenWish, key: &SigningKey) -> String {
    let claims = wish.clone().within(issuer).unwrap().claims(Timestamp::UNIX_EPOCH, [7; 16], None);
    key.sign(ID_TOKEN_TYPE, &serde_json::to_vec(&claims).unwrap()).unwrap()
}

/// Signs the bytes by the library alone.
type Primitive = Box<dyn Fn(&[u8])>;

fn primitive(algorithm: SignatureAlgorithm, pkcs8: &[u8]) -> Primitive {
    if algorithm == SignatureAlgorithm::Es256 {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).unwrap();
        Box::new(move |bytes| _ = black_box(key.sign(&SystemRandom::new(), bytes).unwrap()))
    } else {
        let key = Ed25519KeyPair::from_pkcs8(pkcs8).unwrap();
        Box::new(move |bytes| _ = black_box(key.sign(bytes)))
    }
}

fn time(mut work: impl FnMut()) -> Duration {
    let began = Instant::now();
    for _ in 0..TOKENS {
        work();
    }
    began.elapsed() / u32::try_from(TOKENS).unwrap()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
