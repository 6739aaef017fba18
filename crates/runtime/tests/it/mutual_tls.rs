//! Internal calls: mutual TLS on loopback with generated certificates (SECURITY 71).

use std::sync::Arc;

use countersign_runtime::client::{PeerAddress, PeerChannel};
use countersign_runtime::server::Limits;
use countersign_runtime::tls::{TlsFiles, TlsIdentity};
use countersign_runtime::transport::{Admission, Listener, Listeners};
use countersign_testkit::wait;
use tokio::net::TcpListener;
use tonic::Code;

use crate::certificates::{self, Files};
use crate::support::{Service, ask, bootstrap, call, text};

const COMMIT: &str = "/countersign.trust.v1.CommitService/CommitExchanges";

fn identity(files: &Files, service: &str) -> Arc<TlsIdentity> {
    TlsIdentity::load(TlsFiles { authority: files.authority(), certificate: files.certificate(service), key: files.key(service) })
        .unwrap()
}

/// A trust-service that lets in gateways only.
struct Guarded {
    service: Service,
    url: String,
    identity: Arc<TlsIdentity>,
}

impl Guarded {
    async fn start(files: &Files) -> Self {
        let identity = identity(files, "trust-service");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let (Listeners { public, .. }, connectors) = Listeners::in_process();
        let internal = Listener::Tls {
            listener,
            identity: Arc::clone(&identity),
            allowed_peers: Arc::new(["exchange-gateway".to_owned()].into()),
        };
        let listeners = Listeners { public, internal: Some(internal), private: None, admission: Admission::default() };
        Self { service: Service::start_on(listeners, connectors, Limits::default(), bootstrap()), url, identity }
    }

    fn channel(&self, server_name: &str, identity: Arc<TlsIdentity>) -> PeerChannel {
        PeerChannel::new("trust-service", PeerAddress::mutual_tls(&self.url, Some(server_name), identity).unwrap())
    }
}

/// Whether a connection gets as far as an answer.
async fn reaches(channel: PeerChannel) -> bool {
    ask(channel, "answer").await.is_ok()
}

#[tokio::test]
async fn s71_an_allow_listed_service_gets_through() {
    let folder = tempfile::tempdir().unwrap();
    let files = certificates::make(folder.path());
    let guarded = Guarded::start(&files).await;
    let gateway = identity(&files, "exchange-gateway");
    let channel = guarded.channel("trust-service", Arc::clone(&gateway));
    assert_eq!(text(ask(channel.clone(), "answer").await.unwrap()), "done");
    assert_eq!(call(channel, COMMIT, &[]).await.code(), Code::Ok);
    for name in ["localhost", "127.0.0.1"] {
        assert!(reaches(guarded.channel(name, Arc::clone(&gateway))).await, "{name}");
    }
    assert!(guarded.service.running.addresses().internal.is_some());
}

#[tokio::test]
async fn s71_a_service_that_is_not_allow_listed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let files = certificates::make(folder.path());
    let guarded = Guarded::start(&files).await;
    for service in ["issuer-service", "trust-service"] {
        assert!(!reaches(guarded.channel("trust-service", identity(&files, service))).await, "{service}");
    }
}

#[tokio::test]
async fn s71_another_authority_is_refused_on_either_side() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (files, others) = (certificates::make(folder.path()), certificates::make(other.path()));
    let guarded = Guarded::start(&files).await;
    // The same name from another authority, trusting ours: refused by the server.
    let forged = TlsIdentity::load(TlsFiles {
        authority: files.authority(),
        certificate: others.certificate("exchange-gateway"),
        key: others.key("exchange-gateway"),
    });
    assert!(!reaches(guarded.channel("trust-service", forged.unwrap())).await);
    // Our own name, trusting another authority: refused by the client.
    let misled = TlsIdentity::load(TlsFiles {
        authority: others.authority(),
        certificate: files.certificate("exchange-gateway"),
        key: files.key("exchange-gateway"),
    });
    assert!(!reaches(guarded.channel("trust-service", misled.unwrap())).await);
    // And a server of another name is not the one we meant.
    assert!(!reaches(guarded.channel("issuer-service", identity(&files, "exchange-gateway"))).await);
}

#[tokio::test]
async fn s71_without_a_certificate_nobody_gets_through() {
    let folder = tempfile::tempdir().unwrap();
    let files = certificates::make(folder.path());
    let guarded = Guarded::start(&files).await;
    let authority = tonic::transport::Certificate::from_pem(std::fs::read(files.authority()).unwrap());
    let tls = tonic::transport::ClientTlsConfig::new().ca_certificate(authority).domain_name("trust-service");
    let endpoint = tonic::transport::Endpoint::from_shared(guarded.url.clone()).unwrap().tls_config(tls).unwrap();
    let channel = endpoint.connect_lazy();
    let mut client = countersign_proto::issuer_v1::key_set_service_client::KeySetServiceClient::new(channel);
    let request = countersign_proto::issuer_v1::GetJsonWebKeySetRequest { issuer_url: "answer".into() };
    assert!(client.get_json_web_key_set(request.clone()).await.is_err());
    // Nor in plain text.
    let plain = guarded.url.replace("https", "http");
    assert!(!reaches(PeerChannel::new("trust-service", PeerAddress::plain(&plain).unwrap())).await);
}

#[tokio::test]
async fn s71_certificates_reload_without_dropping_a_request() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let files = certificates::make(folder.path());
    let guarded = Guarded::start(&files).await;
    let gateway = identity(&files, "exchange-gateway");
    let existing = guarded.channel("trust-service", Arc::clone(&gateway));
    assert!(reaches(existing.clone()).await);
    let hanging = tokio::spawn(ask(existing.clone(), "hang"));
    guarded.service.obedient.entered.acquire().await.unwrap().forget();

    // A whole new set under the old names.
    let renewed = certificates::make(other.path());
    for (from, to) in [
        (renewed.authority(), files.authority()),
        (renewed.certificate("trust-service"), files.certificate("trust-service")),
        (renewed.key("trust-service"), files.key("trust-service")),
    ] {
        std::fs::copy(from, to).unwrap();
    }
    let new_gateway = identity(&renewed, "exchange-gateway");
    wait::until("the new certificates are in use", async || {
        reaches(guarded.channel("trust-service", Arc::clone(&new_gateway))).await
    })
    .await;
    assert!(!reaches(guarded.channel("trust-service", Arc::clone(&gateway))).await, "the old authority is gone");
    assert!(reaches(existing).await, "a connection that exists goes on");
    guarded.service.obedient.release.notify_one();
    assert_eq!(text(hanging.await.unwrap().unwrap()), "late");
}

#[tokio::test]
async fn s71_half_written_certificates_leave_the_old_ones_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let files = certificates::make(folder.path());
    let guarded = Guarded::start(&files).await;
    let identity = identity(&files, "exchange-gateway");
    assert!(!guarded.identity.reload().unwrap(), "nothing changed yet");
    std::fs::write(files.certificate("trust-service"), "-----BEGIN CERT").unwrap();
    assert!(guarded.identity.reload().is_err());
    assert!(reaches(guarded.channel("trust-service", identity)).await);
}
