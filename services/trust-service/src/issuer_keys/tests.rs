use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
use countersign_jose::Signer as _;
use countersign_jose::SigningKey;
use countersign_proto::issuer_v1::key_set_service_server::{KeySetService, KeySetServiceServer};
use countersign_proto::issuer_v1::{GetJsonWebKeySetResponse, GetOpenIdConfigurationRequest, GetOpenIdConfigurationResponse};
use countersign_runtime::client::PeerAddress;
use countersign_runtime::server::{Server, Surface};
use countersign_runtime::shutdown::Shutdown;
use countersign_runtime::transport::Listeners;
use futures::future::join_all;
use serde_json::json;
use tonic::{Request, Response, Status};

use super::*;

/// An issuer-service that can be made to hang.
#[derive(Default)]
struct Issuer {
    hangs: AtomicBool,
    questions: AtomicUsize,
    key: std::sync::Mutex<Option<SigningKey>>,
}

struct Service(Arc<Issuer>);

#[tonic::async_trait]
impl KeySetService for Service {
    async fn get_json_web_key_set(
        &self,
        _: Request<GetJsonWebKeySetRequest>,
    ) -> Result<Response<GetJsonWebKeySetResponse>, Status> {
        self.0.questions.fetch_add(1, Ordering::SeqCst);
        if self.0.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let key = self.0.key.lock().unwrap();
        let keys: Vec<_> = key.iter().map(SigningKey::public_jwk).collect();
        let json_web_key_set = json!({ "keys": keys }).to_string().into();
        let issuer_base_url = "https://id.example.com/issuers".to_owned();
        Ok(Response::new(GetJsonWebKeySetResponse { json_web_key_set, issuer_base_url, ..Default::default() }))
    }

    async fn get_open_id_configuration(
        &self,
        _: Request<GetOpenIdConfigurationRequest>,
    ) -> Result<Response<GetOpenIdConfigurationResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }
}

impl Issuer {
    fn rotate(&self) {
        *self.key.lock().unwrap() = Some(SigningKey::generate(SignatureAlgorithm::Es256).unwrap());
    }

    fn hang(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::SeqCst);
    }

    fn questions(&self) -> usize {
        self.questions.load(Ordering::SeqCst)
    }

    fn published(&self) -> Vec<String> {
        self.key.lock().unwrap().iter().map(|key| key.key_id().to_string()).collect()
    }
}

fn issuer() -> (Arc<Issuer>, Arc<IssuerKeys>) {
    let issuer = Arc::new(Issuer::default());
    issuer.rotate();
    let (listeners, connectors) = Listeners::in_process();
    let surface = Surface::new().grpc(KeySetServiceServer::new(Service(Arc::clone(&issuer))));
    Server::new("issuer-service").public(surface).start(listeners, Shutdown::new()).unwrap();
    let channel = PeerChannel::new("issuer-service", PeerAddress::InProcess(connectors.public));
    (issuer, Arc::new(IssuerKeys::new(channel, "https://gateway.example".parse().unwrap())))
}

fn ids(keys: &KeySet) -> Vec<String> {
    keys.key_ids().map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn while_issuer_service_hangs_all_who_wait_for_keys_wait_for_one_attempt() {
    let (issuer, keys) = issuer();
    issuer.hang(true);
    let began = Instant::now();
    let answers = join_all((0..50).map(|_| keys.key_set(false))).await;
    assert!(answers.iter().all(Option::is_none));
    assert_eq!(issuer.questions(), 1);
    assert!(began.elapsed() < FETCH_LIMIT + ATTEMPT_INTERVAL, "{:?}", began.elapsed());
    // Who comes right after is answered at once.
    let came = Instant::now();
    assert!(keys.key_set(false).await.is_none());
    assert_eq!(came.elapsed(), Duration::ZERO);
    issuer.hang(false);
    tokio::time::advance(ATTEMPT_INTERVAL).await;
    assert_eq!(ids(&keys.key_set(false).await.unwrap()), issuer.published());
}

#[tokio::test(start_paused = true)]
async fn s72_tokens_with_made_up_keys_keep_nobody_waiting_whose_key_is_known() {
    let (issuer, keys) = issuer();
    let held = keys.key_set(false).await.unwrap();
    issuer.hang(true);
    tokio::time::advance(Duration::from_secs(25)).await;
    let before = issuer.questions();
    let began = Instant::now();
    let made_up = join_all((0..50).map(|_| async {
        let keys = keys.key_set(true).await.unwrap();
        (ids(&keys), began.elapsed())
    }));
    let known = async {
        tokio::task::yield_now().await;
        let keys = keys.key_set(false).await.unwrap();
        (ids(&keys), began.elapsed())
    };
    let (made_up, known) = tokio::join!(made_up, known);
    assert_eq!(known, (ids(&held), Duration::ZERO));
    assert!(made_up.iter().all(|(found, _)| *found == ids(&held)));
    assert_eq!(made_up.iter().filter(|(_, waited)| *waited > Duration::ZERO).count(), 1, "one of them asks");
    assert_eq!(issuer.questions() - before, 1);
    // A caller who goes away does not make room for another question.
    assert!(timeout(Duration::from_millis(1), keys.key_set(true)).await.is_ok());
    tokio::time::advance(ATTEMPT_INTERVAL).await;
    for _ in 0..10 {
        let _ = timeout(Duration::from_millis(1), keys.key_set(true)).await;
    }
    assert_eq!(issuer.questions() - before, 2);
}

#[tokio::test(start_paused = true)]
async fn s59_a_revoked_key_is_not_known_after_five_seconds_though_nobody_calls() {
    let (issuer, keys) = issuer();
    let task = tokio::spawn(Arc::clone(&keys).run());
    assert_eq!(ids(&keys.key_set(false).await.unwrap()), issuer.published());
    for _ in 0..5 {
        issuer.rotate();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(ids(&keys.key_set(false).await.unwrap()), issuer.published());
    }
    // Cut off from issuer-service, the keys are used for a while, and no longer.
    issuer.hang(true);
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert!(keys.key_set(false).await.is_some());
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(keys.key_set(false).await.is_none());
    task.abort();
}

#[tokio::test]
async fn issuers_of_the_deployment_are_known_from_the_answer() {
    let (_issuer, keys) = issuer();
    let own: IssuerUrl = "https://id.example.com/issuers/rwx".parse().unwrap();
    assert!(!keys.is_own_issuer(&own), "nothing was asked");
    keys.key_set(false).await.unwrap();
    assert!(keys.is_own_issuer(&own) && !keys.is_own_issuer(&"https://idp.example".parse().unwrap()));
}
