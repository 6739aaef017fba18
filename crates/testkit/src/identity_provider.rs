//! An identity provider on loopback that is honest until told otherwise.
//!
//! It speaks HTTP/1.1 by hand, because most ways to misbehave are ones a server library prevents. It runs on a thread of its
//! own, so that it serves whatever the test's runtime does.
//!
//! ```no_run
//! # use countersign_testkit::{claims, clock, identity_provider::{Behaviour, IdentityProvider}};
//! let provider = IdentityProvider::start();
//! let token = provider.sign(&claims::rwx("https://gateway.example", clock::system_time()));
//! provider.key_set_behaves(Behaviour::Stall);
//! ```

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use countersign_domain::trusted_issuer::SignatureAlgorithm;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use crate::claims::ClaimSet;
use crate::signer::Signer;

/// How a document is served.
#[derive(Debug, Clone, Default)]
pub enum Behaviour {
    /// As it should be.
    #[default]
    Honest,
    /// Honest, with these further header lines, for example `cache-control: max-age=60`.
    Headers(Vec<String>),
    /// This status and an empty body.
    Status(u16),
    /// A redirect to this location.
    Redirect(String),
    /// This body, as JSON with status 200.
    Body(Vec<u8>),
    /// Nothing, with the connection left open.
    Stall,
    /// The honest answer, one byte every 100 ms.
    Drip,
    /// Header lines without end.
    EndlessHeader,
    /// A body without end.
    EndlessBody,
    /// A few kilobytes that gzip blows up to 100 MiB.
    GzipBomb,
    /// Half of what the length announces, then the end of the connection.
    Truncated,
    /// The end of the connection before any answer.
    Close,
}

/// A running identity provider. Dropping it closes its port.
#[derive(Debug)]
pub struct IdentityProvider {
    shared: Arc<Shared>,
    issuer_url: String,
    address: SocketAddr,
    ca_certificate: Option<String>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    connections: AtomicUsize,
    discovery_requests: AtomicUsize,
    key_set_requests: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    /// The last one signs.
    signers: Vec<Arc<Signer>>,
    keys: Vec<Value>,
    discovery_document: Value,
    discovery: Behaviour,
    key_set: Behaviour,
    rotations: usize,
}

/// What an answer consists of.
struct Answer {
    behaviour: Behaviour,
    document: Value,
}

impl IdentityProvider {
    /// An issuer `http://127.0.0.1:<port>` with one ES256 key.
    pub fn start() -> Self {
        Self::start_at("")
    }

    /// An issuer `http://127.0.0.1:<port><path>` with one ES256 key.
    pub fn start_at(path: &str) -> Self {
        Self::launch("http://127.0.0.1", path, None)
    }

    /// An issuer `https://localhost:<port>` with one ES256 key, whose certificate comes from a CA of its own.
    pub fn start_tls() -> Self {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = rcgen::generate_simple_self_signed(names).expect("can make a certificate");
        let key = certificate.signing_key.serialize_der().try_into().expect("rcgen writes PKCS #8");
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(vec![certificate.cert.der().clone()], key))
            .expect("a fresh certificate fits its key");
        let mut provider = Self::launch("https://localhost", "", Some(TlsAcceptor::from(Arc::new(config))));
        provider.ca_certificate = Some(certificate.cert.pem());
        provider
    }

    fn launch(origin: &str, path: &str, tls: Option<TlsAcceptor>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("can bind a loopback port");
        listener.set_nonblocking(true).expect("a listener can be non-blocking");
        let address = listener.local_addr().expect("a bound listener has an address");
        let issuer_url = format!("{origin}:{}{path}", address.port());

        let shared = Arc::new(Shared::default());
        shared.state().discovery_document = json!({
            "issuer": issuer_url,
            "jwks_uri": format!("{issuer_url}/keys"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        });
        let (stop, stopped) = oneshot::channel();
        let server = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("can make a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a runtime is entered");
                tokio::select! {
                    () = accept(listener, tls, server) => {}
                    _ = stopped => {}
                }
            });
        });
        let provider = Self { shared, issuer_url, address, ca_certificate: None, stop: Some(stop), thread: Some(thread) };
        provider.rotate(SignatureAlgorithm::Es256);
        provider
    }

    /// The exact `iss` of its tokens.
    pub fn issuer_url(&self) -> &str {
        &self.issuer_url
    }

    /// Where it publishes its keys.
    pub fn key_set_url(&self) -> String {
        format!("{}/keys", self.issuer_url)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate to trust, in PEM, when it speaks https.
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
        let signer = self.shared.state().next_signer(algorithm);
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
}

impl Drop for IdentityProvider {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It only panics when a test's expectations about it were wrong, and then has said so.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to answer to a request for this path, `None` when nothing is there.
    fn answer(&self, path: &str) -> Option<Answer> {
        let state = self.state();
        if path.ends_with("/.well-known/openid-configuration") {
            self.discovery_requests.fetch_add(1, Ordering::SeqCst);
            Some(Answer { behaviour: state.discovery.clone(), document: state.discovery_document.clone() })
        } else if path.ends_with("/keys") {
            self.key_set_requests.fetch_add(1, Ordering::SeqCst);
            Some(Answer { behaviour: state.key_set.clone(), document: json!({ "keys": state.keys }) })
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

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            // A client that goes away in the middle is one of the things under test.
            let _ = match tls {
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => serve(stream, &shared).await,
                    Err(error) => Err(error),
                },
                None => serve(stream, &shared).await,
            };
        });
    }
}

/// Answers one request and closes the connection.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, shared: &Shared) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut chunk = [0; 1_024];
        let read = stream.read(&mut chunk).await?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&chunk[..read]);
    }
    let request = String::from_utf8_lossy(&request);
    let path = request.split(' ').nth(1).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    match shared.answer(path) {
        Some(answer) => answer.write(&mut stream).await?,
        None => stream.write_all(&response("404 Not Found", &[], b"")).await?,
    }
    stream.shutdown().await
}

impl Answer {
    async fn write(self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> std::io::Result<()> {
        let body = self.document.to_string().into_bytes();
        let honest = response("200 OK", &[], &body);
        match self.behaviour {
            Behaviour::Honest => stream.write_all(&honest).await,
            Behaviour::Headers(lines) => {
                let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
                stream.write_all(&response("200 OK", &lines, &body)).await
            }
            Behaviour::Status(status) => stream.write_all(&response(&format!("{status} Status"), &[], b"")).await,
            Behaviour::Redirect(location) => {
                stream.write_all(&response("302 Found", &[&format!("location: {location}")], b"")).await
            }
            Behaviour::Body(body) => stream.write_all(&response("200 OK", &[], &body)).await,
            Behaviour::Stall => hold(stream).await,
            Behaviour::Drip => {
                for byte in honest {
                    stream.write_all(&[byte]).await?;
                    stream.flush().await?;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Ok(())
            }
            Behaviour::EndlessHeader => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
                forever(stream, b"x-more: and more and more and more and more\r\n").await
            }
            Behaviour::EndlessBody => {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n{\"keys\":[")
                    .await?;
                forever(stream, b"{\"kty\":\"none\"},").await
            }
            Behaviour::GzipBomb => stream.write_all(&response("200 OK", &["content-encoding: gzip"], &gzip_bomb())).await,
            Behaviour::Truncated => stream.write_all(&honest[..honest.len() - body.len() / 2]).await,
            Behaviour::Close => Ok(()),
        }
    }
}

/// Waits until the client gives up.
async fn hold(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<()> {
    while stream.read(&mut [0; 64]).await? > 0 {}
    Ok(())
}

async fn forever(stream: &mut (impl AsyncWrite + Unpin), line: &[u8]) -> std::io::Result<()> {
    let many = line.repeat(100);
    loop {
        stream.write_all(&many).await?;
    }
}

fn response(status: &str, header_lines: &[&str], body: &[u8]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n");
    for line in header_lines {
        head.push_str(line);
        head.push_str("\r\n");
    }
    let mut response = format!("{head}content-length: {}\r\n\r\n", body.len()).into_bytes();
    response.extend_from_slice(body);
    response
}

/// 100 MiB of spaces in one deflate block of about 100 KiB (RFC 1951): a literal, then repeats of 258 bytes at distance 1.
fn gzip_bomb() -> Vec<u8> {
    const REPEATS: usize = 100 * 1_024 * 1_024 / 258;
    let mut bomb = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let mut bits = Bits::default();
    bits.push(0b1, 1); // the last block
    bits.push(0b01, 2); // with the fixed Huffman codes
    bits.push_code(0x30 + u32::from(b' '), 8);
    for _ in 0..REPEATS {
        bits.push_code(0b1100_0101, 8); // length 258
        bits.push_code(0, 5); // distance 1
    }
    bits.push_code(0, 7); // the end of the block
    bomb.extend(bits.finish());
    // The checksum is never reached by a reader with a limit.
    bomb.extend([0; 8]);
    bomb
}

/// Bits in the order of deflate: from the least significant of each byte.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn push(&mut self, bits: u32, count: u32) {
        for index in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if bits >> index & 1 == 1
                && let Some(last) = self.bytes.last_mut()
            {
                *last |= 1 << (self.used % 8);
            }
            self.used += 1;
        }
    }

    /// Huffman codes are written from their most significant bit.
    fn push_code(&mut self, code: u32, count: u32) {
        for index in (0..count).rev() {
            self.push(code >> index & 1, 1);
        }
    }

    fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use super::*;

    fn get(provider: &IdentityProvider, path: &str) -> String {
        let mut stream = TcpStream::connect(provider.address()).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn body(answer: &str) -> Value {
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    #[test]
    fn the_documents_lead_to_the_key_that_signs() {
        let provider = IdentityProvider::start_at("/mint");
        let discovery = body(&get(&provider, "/mint/.well-known/openid-configuration"));
        assert_eq!(discovery["issuer"], provider.issuer_url());
        assert_eq!(discovery["jwks_uri"], provider.key_set_url());
        let keys = body(&get(&provider, "/mint/keys"));
        assert_eq!(keys["keys"][0]["kid"], provider.signer().key_id());
        assert_eq!((provider.connections(), provider.discovery_requests(), provider.key_set_requests()), (2, 1, 1));
    }

    #[test]
    fn a_withdrawn_key_is_no_longer_published() {
        let provider = IdentityProvider::start();
        let old = provider.signer();
        let new = provider.rotate(SignatureAlgorithm::Rs256);
        provider.withdraw(old.key_id());
        assert_eq!(provider.published(), [new.public_jwk()]);
        assert_eq!(provider.signer().key_id(), new.key_id());
    }

    #[test]
    fn misbehaviour_is_as_told() {
        let provider = IdentityProvider::start();
        provider.key_set_behaves(Behaviour::Redirect("http://127.0.0.1:1/".to_owned()));
        assert!(get(&provider, "/keys").contains("location: http://127.0.0.1:1/\r\n"));
        provider.key_set_behaves(Behaviour::Truncated);
        assert!(serde_json::from_str::<Value>(get(&provider, "/keys").split_once("\r\n\r\n").unwrap().1).is_err());
        provider.key_set_behaves(Behaviour::Close);
        assert_eq!(get(&provider, "/keys"), "");
        provider.key_set_behaves(Behaviour::Stall);
        let mut stream = TcpStream::connect(provider.address()).unwrap();
        stream.write_all(b"GET /keys HTTP/1.1\r\n\r\n").unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert!(stream.read(&mut [0; 1]).is_err());
    }

    #[test]
    fn a_bomb_is_small_and_blows_up() {
        let bomb = gzip_bomb();
        assert!(bomb.len() < 1_000_000, "{}", bomb.len());
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bomb.gz");
        std::fs::write(&path, bomb).unwrap();
        // The checksum is wrong, so gzip complains, after having written everything.
        let output = std::process::Command::new("gzip").arg("-dc").arg(&path).output().unwrap();
        assert!(output.stdout.len() > 100_000_000, "{}", output.stdout.len());
        assert!(output.stdout.iter().all(|byte| *byte == b' '));
    }
}
