//! Private keys appear nowhere, whatever is done to them and however much is logged.

use std::io::Write;
use std::sync::PoisonError;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use countersign_domain::issuing::issuer::{Issuer, IssuerDraft, IssuerSettings};
use countersign_domain::values::id::WorkspaceId;
use countersign_domain::values::signature_algorithm::SignatureAlgorithm::{self, EdDsa, Es256};
use countersign_domain::values::violation::Violations;
use countersign_jose::sealed::KeyEncryptionKey;
use countersign_store::issuer::SeaIssuerStore;
use countersign_testkit::clock::TestClock;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::*;

const POLICY: KeyPolicy = KeyPolicy { key_set_max_age: Duration::from_mins(5), staleness_limit: Duration::from_mins(15) };

/// Everything that is logged in this process.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn keeper(store: &SeaIssuerStore, clock: &TestClock, key_encryption_key: u8) -> Arc<Keeper> {
    let custody = Custody::new(KeyEncryptionKey::from_bytes(&[key_encryption_key; 32]).unwrap(), None);
    Arc::new(Keeper::new(Arc::new(store.clone()), custody, Arc::new(clock.clone()), POLICY))
}

/// The ways in which bytes are usually shown.
fn shown(bytes: &[u8]) -> Vec<String> {
    let decimal = format!("{bytes:?}");
    let hex = |upper: bool| -> String {
        bytes.iter().map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") }).collect()
    };
    vec![
        decimal.trim_matches(['[', ']']).to_owned(),
        hex(false),
        hex(true),
        STANDARD.encode(bytes),
        URL_SAFE_NO_PAD.encode(bytes),
    ]
}

/// Parts of a private key that would give it away, as they would be shown: from three places, so that one of them is found in
/// base64 however that is aligned.
fn canaries(algorithm: SignatureAlgorithm, der: &[u8]) -> Vec<String> {
    // Where the secret begins in PKCS #8: behind the head of RFC 8410, or those of RFC 5958 and RFC 5915.
    let secret = if algorithm == EdDsa { 16 } else { 36 };
    let canaries: Vec<_> = (secret..secret + 3).flat_map(|start| shown(&der[start..start + 12])).collect();
    for whole in shown(der) {
        assert!(canaries.iter().any(|canary| whole.contains(canary)), "the search finds what is there");
    }
    canaries
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s61_no_private_key_is_in_any_log_error_or_debug() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_env_filter(EnvFilter::new("trace")).with_writer(log.clone()).with_ansi(false);
    tracing::subscriber::set_global_default(subscriber.finish()).expect("no other test of this program listens everywhere");

    let store = SeaIssuerStore::open(&"sqlite::memory:".parse().unwrap()).await.unwrap();
    let clock = TestClock::noon();
    let draft = IssuerDraft { algorithms: ["ES256", "EdDSA"].map(str::to_owned).to_vec(), ..IssuerDraft::default() };
    let issuer = Issuer {
        id: IssuerId::from_random([1; 16]),
        workspace_id: WorkspaceId::from_random([1; 16]),
        issuer_url: "https://id.example.com/a".parse().unwrap(),
        profile: "rwx".parse().unwrap(),
        former_subjects: Vec::new(),
        settings: IssuerSettings::create(&draft, "rwx".parse().ok().as_ref(), &mut Violations::new()).unwrap(),
        revision: 1,
        created_at: clock.now(),
        updated_at: clock.now(),
        published_until: None,
    };
    store.create_issuer(&issuer).await.unwrap();
    let ours = keeper(&store, &clock, 7);
    let found = ours.read_again(&issuer.id).await.unwrap();
    ours.in_use(found).await.unwrap();
    for algorithm in [Es256, EdDsa] {
        ours.rotate(&issuer.id, algorithm).await.unwrap();
    }
    let sealed = store.changes_since(0).await.unwrap();
    let signer = ours.read_again(&issuer.id).await.unwrap().default_signer(clock.now()).unwrap().key_id().clone();
    let revoked = ours.revoke(&issuer.id, &signer).await.unwrap();
    // Keys that do not open are told of.
    let foreign = keeper(&store, &clock, 8);
    let unusable = foreign.read_again(&issuer.id).await.unwrap();
    let refused = foreign.in_use(unusable).await.unwrap_err();
    let debug = format!("{ours:?} {sealed:?} {revoked:?} {foreign:?} {refused:?} {refused}");

    let log = String::from_utf8(log.0.lock().unwrap_or_else(PoisonError::into_inner).clone()).unwrap();
    assert!(log.contains("revoked a signing key") && log.contains("a signing key is left out"), "the log is listened to: {log}");
    let [countersign_store::issuer::ChangedIssuer::Present(_, keys)] = &sealed.changed[..] else { panic!("one issuer") };
    assert_eq!(keys.len(), 4);
    for key in keys {
        let der = ours.custody.unseal(&issuer.id, key).unwrap().to_pkcs8().unwrap();
        for canary in canaries(key.record.algorithm, &der) {
            assert!(!log.contains(&canary), "in the log: {canary}");
            assert!(!debug.contains(&canary), "in an error or Debug: {canary}");
        }
    }
    for canary in shown(&[7; 12]) {
        assert!(!log.contains(&canary) && !debug.contains(&canary), "the key-encryption key: {canary}");
    }
}
