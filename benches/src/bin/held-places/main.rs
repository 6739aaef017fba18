//! What peers without credentials do to hold a service's places, beside honest requests from the same address (SECURITY 85):
//! requests without a body, answers that are never read, streams that only wait. The honest requests stay at 99 %, and the memory
//! of each service near the level before.

#![expect(clippy::print_stdout, reason = "figures are printed")]

mod attack;

use std::process::ExitCode;
use std::time::Duration;

use countersign_benches::arguments::Arguments;
use countersign_benches::verdict::Verdict;
use countersign_tests::deployment::{Deployment, Instance, RedisAtStart};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::time::Instant;

use self::attack::{Attack, whole};

/// By how much a service's memory may grow.
const GROWTH: u64 = 100 * 1024 * 1024;

/// How long an honest client waits.
const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::read(&["seconds", "rate", "streams"]);
    let duration = Duration::from_secs(arguments.get("seconds", 20));
    let rate: u64 = arguments.get("rate", 20);
    let streams: usize = arguments.get("streams", 17_000);
    let deployment = Deployment::start(RedisAtStart::Running);
    let mut verdict = Verdict::default();
    for instance in [Instance::IssuerService, Instance::TrustService, Instance::Gateway] {
        let port = deployment.public_port(instance);
        for attack in [Attack::WithoutBody, Attack::Unread, Attack::Waiting { connections: streams }] {
            println!("\n{}, {attack}", instance.service());
            let before = deployment.resident_memory(instance);
            let attackers = attack.begin(port).await;
            let (mut good, mut all, mut most) = (0, 0, before);
            let end = Instant::now() + duration;
            while Instant::now() < end {
                let answered = honest(port).await;
                (good, all) = (good + u32::from(answered), all + 1);
                most = most.max(deployment.resident_memory(instance));
                tokio::time::sleep(Duration::from_millis(1000 / rate)).await;
            }
            drop(attackers);
            let grown = most.saturating_sub(before);
            println!("  {good} of {all} honest requests answered, {} MiB more at most", grown >> 20);
            verdict.must_hold("99 % of honest requests were answered", good * 100 >= all * 99);
            verdict.must_hold("the memory grew by at most 100 MiB", grown <= GROWTH);
        }
    }
    verdict.exit_code()
}

/// An honest request on a connection of its own.
async fn honest(port: u16) -> bool {
    let request = async {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let (mut client, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.ok()?;
        let connection = tokio::spawn(connection);
        let response = client.send_request(attack::post("/grpc.health.v1.Health/Check", whole(&[]))).await.ok()?;
        let answered = response.headers().get("grpc-status").is_none_or(|status| status == "0");
        connection.abort();
        Some(answered && response.status().is_success())
    };
    matches!(tokio::time::timeout(PATIENCE, request).await, Ok(Some(true)))
}
