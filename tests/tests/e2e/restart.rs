//! SIGTERM and SIGHUP drain; a restart finds everything again.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use countersign_proto::trust_v1::ListTrustRelationshipsRequest;
use countersign_testkit::wait;
use countersign_tests::deployment::{Deployment, Instance, RedisAtStart};
use countersign_tests::http1;
use countersign_tests::token_endpoint::{JWT, TOKEN_EXCHANGE, document, exchange};
use rustix::process::Signal;

use crate::deployments::Scene;
use crate::verify;

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_finds_everything_and_refuses_used_tokens() {
    let deployment = Deployment::start(RedisAtStart::Running);
    let scene = Scene::in_deployment(&deployment).await;
    let gateway = deployment.url(Instance::Gateway);
    let public_url = deployment.public_url();
    let used = scene.token();
    let access_token = exchange(&gateway, &used, &[]).await.access_token();
    let issuer = scene.operator.create_rwx_issuer(&scene.trust.workspace_id, &["ES256"]).await;
    let keys_url = format!("{}/.well-known/jwks.json", issuer.issuer_url);
    let keys = document(&keys_url).await;

    for instance in Instance::ALL {
        deployment.terminate(instance);
    }
    for instance in Instance::ALL {
        deployment.wait_for_end(instance);
    }
    // What Redis knew is gone too.
    deployment.redis().as_mut().unwrap().restart();
    for instance in Instance::ALL {
        deployment.launch(instance);
    }
    for instance in Instance::ALL {
        deployment.wait_until_ready(instance);
    }

    for gateway in [Instance::Gateway, Instance::SecondGateway] {
        let again = exchange(&deployment.url(gateway), &used, &[]).await;
        assert_eq!(again.reason(), Some("SUBJECT_TOKEN_REPLAYED"), "{}", again.body);
    }
    assert_eq!(document(&keys_url).await, keys);
    verify::access_token(&access_token, &public_url, &public_url).await;
    let request = ListTrustRelationshipsRequest {
        workspace_id: scene.trust.workspace_id.clone(),
        ..ListTrustRelationshipsRequest::default()
    };
    let relationships = scene.operator.trust_relationships().list_trust_relationships(request).await.unwrap().into_inner();
    let ids: Vec<String> = relationships.trust_relationships.into_iter().map(|relationship| relationship.id).collect();
    assert_eq!(ids, std::slice::from_ref(&scene.trust.trust_relationship_id));
    let fresh = exchange(&gateway, &scene.token(), &[]).await.access_token();
    verify::access_token(&fresh, &public_url, &public_url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_a_request_finish_and_takes_no_new_one() {
    a_signal_lets_a_request_finish(Signal::TERM).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_never_ends_a_service_without_draining() {
    a_signal_lets_a_request_finish(Signal::HUP).await;
}

async fn a_signal_lets_a_request_finish(signal: Signal) {
    let deployment = Deployment::start(RedisAtStart::Running);
    let scene = Scene::in_deployment(&deployment).await;
    let port = deployment.public_port(Instance::Gateway);
    let body = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("grant_type", TOKEN_EXCHANGE), ("subject_token", &scene.token()), ("subject_token_type", JWT)])
        .finish();

    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (first, rest) = body.split_at(body.len() / 2);
    let head = "POST /oauth2/token HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-www-form-urlencoded\r\n";
    write!(stream, "{head}content-length: {}\r\nconnection: close\r\n\r\n{first}", body.len()).unwrap();
    // Another request on another connection shows that the first had time to arrive.
    assert!(http1::get(port, "/.well-known/oauth-authorization-server").is_some());

    deployment.signal(Instance::Gateway, signal);
    wait::blocking("the gateway takes no new connection", Duration::from_secs(10), || {
        TcpStream::connect(("127.0.0.1", port)).is_err()
    });
    assert!(deployment.is_running(Instance::Gateway), "it waits for the request");
    stream.write_all(rest.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{}", answer.lines().next().unwrap_or_default());
    assert!(answer.contains("access_token"));
    deployment.wait_for_end(Instance::Gateway);
}
