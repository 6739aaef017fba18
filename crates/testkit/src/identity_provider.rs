//! An identity provider on loopback that is honest until told otherwise.
//!
//! It speaks HTTP/1.1 by hand, because most ways to misbehave are ones a server library prevents. It runs on a thread of its
//! own, so that it serves whatever the test's runtime does.
//!
//! What it can do wrong lies in several places: [`Behaviour`] is how a document is served and [`ConnectionBehaviour`] how a
//! connection begins, [`Leaf`] is what it shows for itself over TLS, [`bombs`] and [`crate::hostile_keys`] are what its documents
//! may hold, and [`IdentityProvider::claim_in_discovery`] is how it lies about itself.
//!
//! ```no_run
//! # use countersign_testkit::{claims, clock, identity_provider::{Behaviour, IdentityProvider}};
//! let provider = IdentityProvider::start();
//! let token = provider.sign(&claims::rwx("https://gateway.example", clock::system_time()));
//! provider.key_set_behaves(Behaviour::Stall);
//! ```

mod answer;
mod authority;
mod behaviour;
pub mod bombs;
mod server;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

pub use self::authority::{CertificateAuthority, Leaf};
pub use self::behaviour::{Behaviour, ConnectionBehaviour};

use self::answer::Answer;
use self::server::Server;
use crate::claims::{ClaimSet, Layout};
use crate::signer::Signer;

/// A running identity provider. Dropping it closes its port.
#[derive(Debug)]
pub struct IdentityProvider {
    shared: Arc<Shared>,
    origin: String,
    issuer_url: String,
    address: SocketAddr,
    authority: Option<Arc<CertificateAuthority>>,
    ca_certificate: Option<String>,
    /// Closes the port when dropped.
    _server: Server,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    connections: AtomicUsize,
    discovery_requests: AtomicUsize,
    key_set_requests: AtomicUsize,
}

#[derive(Default)]
struct State {
    /// The last one signs.
    signers: Vec<Arc<Signer>>,
    keys: Vec<Value>,
    discovery_path: String,
    key_set_path: String,
    discovery_document: Value,
    discovery: Behaviour,
    key_set: Behaviour,
    connection: ConnectionBehaviour,
    tls: Option<TlsAcceptor>,
    requests: Vec<String>,
    rotations: usize,
}

impl IdentityProvider {
    /// An issuer `http://127.0.0.1:<port>` with one ES256 key.
    pub fn start() -> Self {
        Self::start_at("")
    }

    /// An issuer `http://127.0.0.1:<port><path>` with one ES256 key. A path may end in `/`, and then the issuer does.
    pub fn start_at(path: &str) -> Self {
        Self::launch("http://127.0.0.1", path, None)
    }

    /// An issuer that looks like a real one: path, place of the key set, algorithm and form of its one key.
    pub fn imitating(layout: &Layout) -> Self {
        let provider = Self::start_at(&layout.issuer_path);
        provider.publish_at(&layout.key_set_path);
        let signer = Arc::new(layout.new_signer());
        provider.publish(vec![layout.jwk(&signer)]);
        provider.shared.state().signers.push(signer);
        provider
    }

    /// An issuer `https://localhost:<port>` with one ES256 key, whose certificate comes from a CA of its own.
    pub fn start_tls() -> Self {
        Self::start_tls_at("", &Arc::new(CertificateAuthority::new()), Leaf::Honest)
    }

    /// An issuer `https://localhost:<port><path>` with one ES256 key, which shows this certificate of this authority.
    pub fn start_tls_at(path: &str, authority: &Arc<CertificateAuthority>, leaf: Leaf) -> Self {
        let mut provider = Self::launch("https://localhost", path, Some(authority.acceptor(leaf)));
        provider.ca_certificate = Some(authority.certificate());
        provider.authority = Some(Arc::clone(authority));
        provider
    }

    fn launch(origin: &str, path: &str, tls: Option<TlsAcceptor>) -> Self {
        let (listener, address) = server::bind();
        let origin = format!("{origin}:{}", address.port());
        let issuer_url = format!("{origin}{path}");
        let base = path.trim_end_matches('/');

        let shared = Arc::new(Shared::default());
        {
            let mut state = shared.state();
            state.tls = tls;
            // OpenID Connect Discovery 1.0, section 4.1: a final slash of the issuer is left out.
            state.discovery_path = format!("{base}/.well-known/openid-configuration");
            state.key_set_path = format!("{base}/keys");
            state.discovery_document = json!({
                "issuer": issuer_url,
                "jwks_uri": format!("{origin}{}", state.key_set_path),
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
            });
        }
        let server = Server::start(listener, Arc::clone(&shared));
        let provider = Self { shared, origin, issuer_url, address, authority: None, ca_certificate: None, _server: server };
        provider.rotate(SignatureAlgorithm::Es256);
        provider
    }

    /// The exact `iss` of its tokens.
    pub fn issuer_url(&self) -> &str {
        &self.issuer_url
    }

    /// Where it publishes its keys.
    pub fn key_set_url(&self) -> String {
        format!("{}{}", self.origin, self.shared.state().key_set_path)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate to trust, in PEM, when it speaks https: its authority's, not its own.
    pub fn ca_certificate(&self) -> Option<&str> {
        self.ca_certificate.as_deref()
    }

    /// The key that signs.
    pub fn signer(&self) -> Arc<Signer> {
        Arc::clone(self.shared.state().signers.last().expect("there is a key from the start"))
    }

    /// A token with these claims, but for `iss`, which becomes its own.
    pub fn sign(&self, claims: &ClaimSet) -> String {
        self.signer().sign(&claims.clone().with("iss", self.issuer_url.as_str()))
    }

    /// Makes and publishes a key that signs from now on; the older ones stay published.
    pub fn rotate(&self, algorithm: SignatureAlgorithm) -> Arc<Signer> {
        let signer = self.rotate_unpublished(algorithm);
        self.shared.state().keys.push(signer.public_jwk());
        signer
    }

    /// Makes a key that signs from now on without publishing it.
    pub fn rotate_unpublished(&self, algorithm: SignatureAlgorithm) -> Arc<Signer> {
        self.shared.state().next_signer(algorithm)
    }

    /// Takes a key out of the published set. It can still sign.
    pub fn withdraw(&self, key_id: &str) {
        self.shared.state().keys.retain(|key| key["kid"] != key_id);
    }

    /// Replaces the members of the published set, whatever they are.
    pub fn publish(&self, keys: Vec<Value>) {
        self.shared.state().keys = keys;
    }

    /// The members of the published set.
    pub fn published(&self) -> Vec<Value> {
        self.shared.state().keys.clone()
    }

    /// Publishes the keys at this path of its host from now on, and says so in the discovery document.
    pub fn publish_at(&self, path: &str) {
        let mut state = self.shared.state();
        path.clone_into(&mut state.key_set_path);
        state.discovery_document["jwks_uri"] = format!("{}{path}", self.origin).into();
    }

    /// Sets a member of the discovery document: `issuer` to lie about itself, `jwks_uri` to point elsewhere.
    pub fn claim_in_discovery(&self, member: &str, value: impl Into<Value>) {
        self.shared.state().discovery_document[member] = value.into();
    }

    /// How the discovery document is served from now on.
    pub fn discovery_behaves(&self, behaviour: Behaviour) {
        self.shared.state().discovery = behaviour;
    }

    /// How the key set is served from now on.
    pub fn key_set_behaves(&self, behaviour: Behaviour) {
        self.shared.state().key_set = behaviour;
    }

    /// How connections begin from now on.
    pub fn connections_behave(&self, behaviour: ConnectionBehaviour) {
        self.shared.state().connection = behaviour;
    }

    /// Shows another certificate of its authority from now on. Only for one that speaks https.
    pub fn shows(&self, leaf: Leaf) {
        let authority = self.authority.as_ref().expect("only one that speaks https shows a certificate");
        self.shared.state().tls = Some(authority.acceptor(leaf));
    }

    /// How often somebody connected.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How often the discovery document was asked for.
    pub fn discovery_requests(&self) -> usize {
        self.shared.discovery_requests.load(Ordering::SeqCst)
    }

    /// How often the key set was asked for.
    pub fn key_set_requests(&self) -> usize {
        self.shared.key_set_requests.load(Ordering::SeqCst)
    }

    /// The heads of all requests so far, request line and header lines, whatever they asked for.
    pub fn requests(&self) -> Vec<String> {
        self.shared.state().requests.clone()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to answer to a request for this path, `None` when nothing is there.
    fn answer(&self, path: &str, request: String) -> Option<Answer> {
        let mut state = self.state();
        state.requests.push(request);
        if path == state.discovery_path {
            self.discovery_requests.fetch_add(1, Ordering::SeqCst);
            Some(Answer { behaviour: state.discovery.next(), document: state.discovery_document.clone() })
        } else if path == state.key_set_path {
            self.key_set_requests.fetch_add(1, Ordering::SeqCst);
            Some(Answer { behaviour: state.key_set.next(), document: json!({ "keys": state.keys }) })
        } else {
            None
        }
    }
}

impl State {
    fn next_signer(&mut self, algorithm: SignatureAlgorithm) -> Arc<Signer> {
        self.rotations += 1;
        let signer = Arc::new(Signer::new(algorithm, &format!("key-{}", self.rotations)));
        self.signers.push(Arc::clone(&signer));
        signer
    }
}

/// An acceptor has no `Debug`, and the documents say enough.
impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("discovery", &self.discovery).field("key_set", &self.key_set).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
