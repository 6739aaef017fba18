//! What a key set costs to serve, beside a static response by the same HTTP stack.
//!
//! Budget: at most twice as much. Each server has one thread, whose processor time is measured; the client, with one connection that
//! is kept, has another. `cargo bench -p issuer-service`.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement prints, and ends where something is wrong")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use countersign_domain::values::id::WorkspaceId;
use countersign_domain::values::issuer_url::LoopbackHttp;
use countersign_jose::sealed::KeyEncryptionKey;
use countersign_jose::secret::DeploymentSecret;
use countersign_proto::issuer_v1 as wire;
use countersign_proto::issuer_v1::issuer_service_client::IssuerServiceClient;
use countersign_runtime::ambient::{SystemClock, SystemEntropy};
use countersign_runtime::client::{PeerAddress, PeerChannel};
use countersign_runtime::secret::BootstrapToken;
use countersign_runtime::server::{Running, Server, Surface};
use countersign_runtime::shutdown::Shutdown;
use countersign_runtime::transport::{Admission, Listener, Listeners};
use countersign_store::issuer::SeaIssuerStore;
use issuer_service::{Config, Deps};
use rustix::time::{ClockId, clock_gettime};

#[expect(dead_code, reason = "tests change the state of workspaces too")]
#[path = "../tests/service/trust_service.rs"]
mod trust_service;

use trust_service::PlayedTrustService;

const BOOTSTRAP: &str = "bootstrap-token-of-a-measurement-01";
const REQUESTS: u32 = 20_000;
const ROUNDS: usize = 9;

/// A server with a thread of its own.
struct Measured {
    address: String,
    ask: mpsc::Sender<mpsc::Sender<Duration>>,
}

impl Measured {
    /// `start` runs on the server's thread.
    fn start<F: Future<Output = Running>>(start: impl FnOnce(Listeners) -> F + Send + 'static) -> Self {
        let (address, ready) = mpsc::channel();
        let (ask, asked) = mpsc::channel::<mpsc::Sender<Duration>>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listen = async || Listener::Tcp(tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap());
                let listeners = Listeners {
                    public: listen().await,
                    internal: None,
                    private: Some(listen().await),
                    admission: Admission::default(),
                };
                let running = start(listeners).await;
                address.send(running.addresses().public.unwrap().to_string()).unwrap();
                loop {
                    while let Ok(answer) = asked.try_recv() {
                        answer.send(processor_time()).unwrap();
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        });
        Self { address: ready.recv().unwrap(), ask }
    }

    /// How much processor time its thread has used.
    fn used(&self) -> Duration {
        let (answer, answered) = mpsc::channel();
        self.ask.send(answer).unwrap();
        answered.recv().unwrap()
    }
}

fn processor_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}

/// Microseconds of the server for one response.
fn cost(server: &Measured, path: &str, headers: &str) -> f64 {
    let mut connection = BufReader::new(TcpStream::connect(&server.address).unwrap());
    connection.get_ref().set_nodelay(true).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
    let mut ask = || {
        connection.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut line, mut length) = (String::new(), 0);
        while line != "\r\n" {
            line.clear();
            connection.read_line(&mut line).unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        if !headers.contains("if-none-match") {
            let mut body = vec![0; length];
            connection.read_exact(&mut body).unwrap();
        }
    };
    (0..1_000).for_each(|_| ask());
    let before = server.used();
    (0..REQUESTS).for_each(|_| ask());
    server.used().checked_sub(before).unwrap().as_secs_f64() * 1e6 / f64::from(REQUESTS)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

async fn start_issuer_service(listeners: Listeners, database: String) -> Running {
    let mut config = Config::new("http://localhost:7401".parse().unwrap(), "http://localhost:7403".parse().unwrap());
    config.loopback_http = LoopbackHttp::Allowed;
    let deps = Deps {
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        store: Arc::new(SeaIssuerStore::open(&database.parse().unwrap()).await.unwrap()),
        trust_service: PlayedTrustService::with_active([1]).serve(&Shutdown::new()),
        key_encryption_keys: KeyEncryptionKey::from_bytes(&[7; 32]).unwrap().into(),
        key_device: None,
        export: None,
        deployment_secret: DeploymentSecret::from_bytes(&[9; 32]).unwrap(),
        bootstrap_token: Some(BootstrapToken::new(BOOTSTRAP).unwrap()),
    };
    issuer_service::start(config, deps, listeners, Shutdown::new()).await.unwrap()
}

/// An issuer with a key of each algorithm.
async fn create_issuer(address: &str) -> String {
    let channel = PeerChannel::new("issuer-service", PeerAddress::plain(&format!("http://{address}")).unwrap());
    let issuer = wire::Issuer {
        workspace_id: WorkspaceId::from_random([1; 16]).to_string(),
        profile: "rwx".to_owned(),
        algorithms: ["RS256", "ES256", "ES384", "EdDSA"].map(str::to_owned).to_vec(),
        ..wire::Issuer::default()
    };
    let mut request = tonic::Request::new(wire::CreateIssuerRequest { issuer: Some(issuer) });
    request.metadata_mut().insert("authorization", format!("Bearer {BOOTSTRAP}").parse().unwrap());
    let created = IssuerServiceClient::new(channel).create_issuer(request).await.unwrap().into_inner();
    created.issuer.unwrap().issuer_url
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite://{}", folder.path().join("issuer.db").display());
    let documents = Measured::start(move |listeners| start_issuer_service(listeners, database));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let issuer_url = runtime.block_on(create_issuer(&documents.address));
    let path = format!("{}/.well-known/jwks.json", issuer_url.strip_prefix("http://localhost:7401").unwrap());
    let response = runtime.block_on(async { reqwest::get(format!("http://{}{path}", documents.address)).await.unwrap() });
    let etag = response.headers()["etag"].to_str().unwrap().to_owned();
    let body = runtime.block_on(response.bytes()).unwrap();
    let length = body.len();

    let fixed = Measured::start(move |listeners| async move {
        let page = get(move || async move { ([("content-type", "application/jwk-set+json")], body.clone()) });
        let public = Surface::new().http(Router::new().route("/static", page));
        Server::new("static").public(public).start(listeners, Shutdown::new()).unwrap()
    });

    let cases = [
        ("static", &fixed, "/static", String::new()),
        ("key set", &documents, path.as_str(), String::new()),
        ("key set, gzip", &documents, path.as_str(), "accept-encoding: gzip\r\n".to_owned()),
        ("key set, not modified", &documents, path.as_str(), format!("if-none-match: {etag}\r\n")),
    ];
    let mut figures = vec![Vec::new(); cases.len()];
    for _ in 0..ROUNDS {
        for (index, (_, server, path, headers)) in cases.iter().enumerate() {
            figures[index].push(cost(server, path, headers));
        }
    }
    let medians: Vec<_> = figures.into_iter().map(median).collect();
    println!("{length} bytes, {ROUNDS} x {REQUESTS} requests each; processor time of the server, median of the rounds");
    for ((name, ..), median) in cases.iter().zip(&medians) {
        println!("{name:24} {median:6.2} us   {:4.2} x", median / medians[0]);
    }
}
