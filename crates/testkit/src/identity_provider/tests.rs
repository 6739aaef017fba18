use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use super::*;

fn get(provider: &IdentityProvider, path: &str) -> String {
    let mut stream = TcpStream::connect(provider.address()).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// What comes of a request for the keys before the connection ends or pauses for longer than that.
fn begin(provider: &IdentityProvider, patience: Duration, enough: usize) -> (String, bool) {
    let mut stream = TcpStream::connect(provider.address()).unwrap();
    stream.write_all(b"GET /keys HTTP/1.1\r\n\r\n").unwrap();
    stream.set_read_timeout(Some(patience)).unwrap();
    let mut answer = Vec::new();
    let mut chunk = [0; 4_096];
    let has_ended = loop {
        match stream.read(&mut chunk) {
            Ok(0) => break true,
            Ok(read) => answer.extend_from_slice(&chunk[..read]),
            Err(_) => break false,
        }
        if answer.len() >= enough {
            break false;
        }
    };
    (String::from_utf8_lossy(&answer).into_owned(), has_ended)
}

fn body(answer: &str) -> Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[test]
fn the_documents_lead_to_the_key_that_signs() {
    for path in ["", "/mint", "/mint/"] {
        let provider = IdentityProvider::start_at(path);
        let base = path.trim_end_matches('/');
        let discovery = body(&get(&provider, &format!("{base}/.well-known/openid-configuration")));
        assert_eq!(discovery["issuer"], provider.issuer_url());
        assert!(provider.issuer_url().ends_with(path));
        assert_eq!(discovery["jwks_uri"], provider.key_set_url());
        let keys = body(&get(&provider, &format!("{base}/keys")));
        assert_eq!(keys["keys"][0]["kid"], provider.signer().key_id());
        assert_eq!((provider.connections(), provider.discovery_requests(), provider.key_set_requests()), (2, 1, 1));
        assert!(provider.requests()[1].starts_with(&format!("GET {base}/keys HTTP/1.1\r\n")));
    }
}

#[test]
fn keys_can_be_published_elsewhere() {
    let provider = IdentityProvider::start();
    provider.publish_at("/.well-known/jwks_uri");
    assert!(provider.key_set_url().ends_with("/.well-known/jwks_uri"));
    assert_eq!(body(&get(&provider, "/.well-known/openid-configuration"))["jwks_uri"], provider.key_set_url());
    assert!(body(&get(&provider, "/.well-known/jwks_uri"))["keys"].is_array());
    assert!(get(&provider, "/keys").starts_with("HTTP/1.1 404 "));
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
fn each_request_can_get_another_answer() {
    let provider = IdentityProvider::start();
    let inner = Behaviour::Sequence(vec![Behaviour::Status(500), Behaviour::LoginPage]);
    provider.key_set_behaves(Behaviour::Sequence(vec![inner, Behaviour::Status(404), Behaviour::Honest]));
    assert!(get(&provider, "/keys").starts_with("HTTP/1.1 500 "));
    assert!(get(&provider, "/keys").starts_with("HTTP/1.1 404 "));
    for _ in 0..2 {
        assert!(body(&get(&provider, "/keys"))["keys"].is_array());
    }
}

#[test]
fn what_is_said_in_one_piece_is_as_told() {
    let provider = IdentityProvider::start();
    for (behaviour, expected) in [
        (Behaviour::Headers(vec!["age: 7".to_owned()]), "\r\nage: 7\r\n"),
        (Behaviour::HonestUnder(203), "HTTP/1.1 203 Status\r\n"),
        (Behaviour::Redirect("http://127.0.0.1:1/".to_owned()), "\r\nlocation: http://127.0.0.1:1/\r\n"),
        (Behaviour::RedirectWith(308, "/else".to_owned()), "HTTP/1.1 308 Elsewhere\r\n"),
        (Behaviour::RedirectLoop, "\r\nlocation: /keys\r\n"),
        (Behaviour::LoginPage, "\r\ncontent-type: text/html\r\n"),
        (Behaviour::Raw(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()), "SSH-2.0-"),
        (Behaviour::AnotherAnswer(b"{}".to_vec()), "}HTTP/1.1 200 OK\r\n"),
        (Behaviour::SaidToBeEncoded("br".to_owned()), "\r\ncontent-encoding: br\r\n"),
        (Behaviour::Gzip, "\r\ncontent-encoding: gzip\r\n"),
        (Behaviour::ContentLength(7), "\r\ncontent-length: 7\r\n"),
        (Behaviour::TwoContentLengths, "\r\ncontent-length: 11\r\ncontent-length: "),
        (Behaviour::LongHeader(9_000), &"a".repeat(9_000)),
        (Behaviour::ManyHeaders(100), "\r\nx-99: and more\r\n"),
    ] {
        provider.key_set_behaves(behaviour.clone());
        let answer = get(&provider, "/keys");
        assert!(answer.contains(expected), "{behaviour:?}: {answer}");
    }
    provider.key_set_behaves(Behaviour::Close);
    assert_eq!(get(&provider, "/keys"), "");
}

#[test]
fn what_is_cut_short_is_no_document() {
    let provider = IdentityProvider::start();
    for behaviour in [Behaviour::Truncated, Behaviour::TruncatedChunks] {
        provider.key_set_behaves(behaviour);
        let answer = get(&provider, "/keys");
        assert!(serde_json::from_str::<Value>(answer.split_once("\r\n\r\n").unwrap().1).is_err());
        assert!(!answer.ends_with("0\r\n\r\n"));
    }
}

#[test]
fn who_stalls_says_so_much_and_no_more() {
    let provider = IdentityProvider::start();
    for (behaviour, says) in [
        (Behaviour::Stall, ""),
        (Behaviour::StallAfterHeader, "HTTP/1.1 200 OK\r\n"),
        (Behaviour::StallInBody, "HTTP/1.1 200 OK\r\n"),
    ] {
        provider.key_set_behaves(behaviour.clone());
        let (answer, has_ended) = begin(&provider, Duration::from_millis(100), usize::MAX);
        assert!(answer.starts_with(says) && answer.is_empty() == says.is_empty() && !has_ended, "{behaviour:?}: {answer}");
    }
}

#[test]
fn who_drips_says_little_at_a_time() {
    let provider = IdentityProvider::start();
    for behaviour in [Behaviour::Drip, Behaviour::DripBody, Behaviour::DripChunks] {
        provider.key_set_behaves(behaviour.clone());
        let (answer, has_ended) = begin(&provider, Duration::from_millis(50), usize::MAX);
        assert!(!has_ended && !answer.contains("keys"), "{behaviour:?}: {answer}");
    }
}

#[test]
fn what_has_no_end_goes_on() {
    let provider = IdentityProvider::start();
    for behaviour in [
        Behaviour::EndlessHeader,
        Behaviour::EndlessInterim,
        Behaviour::EndlessBody,
        Behaviour::EndlessChunks,
        Behaviour::EndlessChunkExtension,
        Behaviour::EndlessTrailers,
    ] {
        provider.key_set_behaves(behaviour.clone());
        let (answer, _) = begin(&provider, Duration::from_secs(5), 1_000_000);
        assert!(answer.len() >= 1_000_000, "{behaviour:?}: {}", answer.len());
    }
}

#[test]
fn connections_begin_as_told() {
    let provider = IdentityProvider::start();
    provider.connections_behave(ConnectionBehaviour::Stall);
    assert_eq!(begin(&provider, Duration::from_millis(100), usize::MAX), (String::new(), false));
    provider.connections_behave(ConnectionBehaviour::Drip);
    let (answer, has_ended) = begin(&provider, Duration::from_millis(250), 4);
    assert_eq!((answer.as_str(), has_ended), ("HTTP", false));
    provider.connections_behave(ConnectionBehaviour::PlainHttp);
    assert!(get(&provider, "/keys").starts_with("HTTP/1.1 400 "));
    provider.connections_behave(ConnectionBehaviour::Honest);
    assert!(body(&get(&provider, "/keys"))["keys"].is_array());
}

/// Whether a client that trusts the authority alone speaks with the provider.
async fn is_believed(provider: &IdentityProvider, authority: &CertificateAuthority) -> Result<(), std::io::Error> {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, ServerName};

    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.certificate().as_bytes()).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(provider.address()).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.map(drop)
}

#[tokio::test]
async fn only_what_its_authority_should_sign_is_believed() {
    let authority = Arc::new(CertificateAuthority::new());
    let provider = IdentityProvider::start_tls_at("", &authority, Leaf::Honest);
    assert_eq!(provider.ca_certificate(), Some(authority.certificate().as_str()));
    for leaf in [Leaf::Honest, Leaf::ByIntermediate] {
        provider.shows(leaf);
        is_believed(&provider, &authority).await.unwrap();
        assert!(is_believed(&provider, &CertificateAuthority::new()).await.is_err());
    }
    for leaf in Leaf::REFUSED {
        provider.shows(leaf);
        assert!(is_believed(&provider, &authority).await.is_err(), "{leaf:?}");
    }
    provider.shows(Leaf::Honest);
    for behaviour in [ConnectionBehaviour::PlainHttp, ConnectionBehaviour::Close] {
        provider.connections_behave(behaviour);
        assert!(is_believed(&provider, &authority).await.is_err(), "{behaviour:?}");
    }
}
