//! Issuers of one workspace that accept connections and never answer, under a flood of their tokens, beside honest exchanges in another
//! workspace (SECURITY 72, 85): the honest stay at 99 %, and the gateway's memory near the level before.

#![expect(clippy::print_stdout, clippy::expect_used, reason = "figures are printed, and a measurement that cannot be made ends")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::ExitCode;
use std::time::Duration;

use countersign_benches::arguments::Arguments;
use countersign_benches::latencies::Latencies;
use countersign_benches::load::{Answer, Load};
use countersign_benches::machine::{ProcessorTime, processors};
use countersign_benches::scene::{Scene, ports};
use countersign_benches::verdict::Verdict;
use countersign_testkit::claims;
use countersign_testkit::clock::system_time;
use countersign_testkit::identity_provider::IdentityProvider;
use countersign_tests::deployment::{Deployment, Instance, RedisAtStart};
use countersign_tests::operator::Operator;
use tokio::net::TcpListener;

const QUIET: Duration = Duration::from_secs(5);
const GOOD: &str = "200 -";
const UNAVAILABLE: &str = "503 TEMPORARILY_UNAVAILABLE";
/// A caller who waits for an issuer that never answered before waits for five seconds.
const LONGEST_WAIT: Duration = Duration::from_millis(5_500);
/// By how much the gateway's memory may grow.
const GROWTH: u64 = 100 * 1024 * 1024;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::read(&["flood", "rate", "seconds", "issuers"]);
    let flood: usize = arguments.get("flood", 400);
    let rate: usize = arguments.get("rate", 30);
    let seconds: u64 = arguments.get("seconds", 30);
    let issuers: usize = arguments.get("issuers", 200);
    let duration = Duration::from_secs(seconds);
    let times = |rate: usize, duration: Duration| rate * usize::try_from(duration.as_secs()).unwrap_or(1);

    let deployment = Deployment::start(RedisAtStart::Running);
    let scene = Scene::in_deployment(&deployment).await;
    let load = Load::on(&ports(&deployment, &Instance::GATEWAYS[..1]));
    println!("{rate} honest exchanges and {flood} tokens of silent issuers a second at one gateway, {} processors", processors());
    let mut verdict = Verdict::default();
    for count in [1, issuers] {
        let silent = silent_issuers(&deployment, count).await;
        let quiet = load.spread(scene.tokens(&format!("quiet-{count}"), times(rate, QUIET)), QUIET).await;
        println!("\n{count} silent: honest alone     {}", latencies(&quiet));
        let before = deployment.resident_memory(Instance::Gateway);
        let tokens = silent.iter().cycle().take(times(flood, duration)).cloned().collect();
        let honest = scene.tokens(&format!("beside-{count}"), times(rate, duration));
        let processor = ProcessorTime::now();
        let (honest, flooded) = tokio::join!(load.spread(honest, duration), load.spread(tokens, duration));
        let grown = deployment.resident_memory(Instance::Gateway).saturating_sub(before);
        println!("{count} silent: honest beside    {}   {} % busy", latencies(&honest), processor.percent_since());
        println!("{count} silent: the flood        {}", latencies(&flooded));
        println!("  honest {:?}, flood {:?}, {} MiB more in the gateway", answers(&honest), answers(&flooded), grown >> 20);
        let exchanged = honest.iter().filter(|answer| answer.what == GOOD).count();
        verdict.must_hold("99 % of honest exchanges got a token", exchanged * 100 >= honest.len() * 99);
        verdict.must_hold("no token of a silent issuer got anything else than unavailable", {
            flooded.iter().all(|answer| answer.what == UNAVAILABLE)
        });
        verdict.must_hold("99 % of the flood was answered in 5.5 s", latencies(&flooded).per_mille(990) <= LONGEST_WAIT);
        verdict.must_hold("the gateway's memory grew by at most 100 MiB", grown <= GROWTH);
    }
    verdict.exit_code()
}

/// Registers so many silent issuers in a workspace of their own, and returns a token of each.
async fn silent_issuers(deployment: &Deployment, count: usize) -> Vec<String> {
    let operator = Operator::of(deployment);
    let workspace_id = operator.create_workspace("Silent issuers").await;
    let claims = claims::rwx(&deployment.public_url(), system_time()).lasting(Duration::from_hours(1));
    let stranger = IdentityProvider::start();
    let signer = stranger.signer();
    let mut tokens = Vec::new();
    for number in 0..count {
        let issuer_url = silent_socket(number).await;
        operator.register(&workspace_id, &issuer_url).await;
        tokens.push(signer.sign(&claims.clone().with("iss", issuer_url)));
    }
    tokens
}

/// A socket on an address of its own that takes connections and sends nothing, and the URL that leads to it.
async fn silent_socket(number: usize) -> String {
    let [high, low] = u16::try_from(number + 1).expect("few enough").to_be_bytes();
    let address = SocketAddrV4::new(Ipv4Addr::new(127, 1, high, low), 0);
    let listener = TcpListener::bind(address).await.expect("a loopback address can be bound");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    url
}

fn latencies(answers: &[Answer]) -> Latencies {
    answers.iter().map(|answer| answer.latency).collect()
}

/// How often each answer came.
fn answers(answers: &[Answer]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for answer in answers {
        *counts.entry(answer.what.as_str()).or_default() += 1;
    }
    counts
}
