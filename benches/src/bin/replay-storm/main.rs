//! Three gateways, one Redis, many tokens, each presented three times at random gateways, while Redis is killed, hung, flushed,
//! restarted empty and failed over to a lagging replica (SECURITY 49, 51). Each token must be minted once, and none refused for
//! longer than the breaker needs.

#![expect(clippy::print_stdout, clippy::panic, reason = "figures are printed, and a measurement that cannot be made ends")]

mod table;

use std::process::ExitCode;
use std::time::Duration;

use countersign_benches::arguments::Arguments;
use countersign_benches::latencies::{Latencies, milliseconds};
use countersign_benches::machine::{ProcessorTime, processors};
use countersign_benches::scene::{Scene, ports};
use countersign_benches::verdict::Verdict;
use countersign_testkit::redis::Redis;
use countersign_testkit::redis::sentinel::SentinelRedis;
use countersign_tests::deployment::{Deployment, Instance};
use countersign_tests::redis_faults::{Fault, Servers};
use countersign_tests::replay_storm::{Attempt, ReplayStorm, Tally};

/// The breaker opens after three commands in a row that took their 50 ms. So much of Redis's trouble may be felt.
const BREAKER: Duration = Duration::from_millis(150);
const PRESENTATIONS: usize = 3;
/// How long Redis is away when it is alone.
const AWAY: Duration = Duration::from_secs(1);
/// How many acknowledged claims a failover loses, at least.
const LOST_CLAIMS: usize = 100;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::read(&["tokens", "redis", "rounds", "at-once", "seed"]);
    let tokens: usize = arguments.get("tokens", 100_000);
    let shape: String = arguments.get("redis", "sentinel".to_owned());
    let rounds: usize = arguments.get("rounds", 3);
    let at_once: usize = arguments.get("at-once", 64);
    let seed: u64 = arguments.get("seed", 49);

    let (servers, round) = match shape.as_str() {
        "one" => {
            (Servers::One(Box::new(Redis::start())), vec![Fault::Flush, Fault::Kill(AWAY), Fault::Restart, Fault::Hang(AWAY)])
        }
        "sentinel" => (
            Servers::Sentinel(Box::new(SentinelRedis::start())),
            vec![
                Fault::Flush,
                Fault::LoseToLaggingReplica(LOST_CLAIMS),
                Fault::Restart,
                Fault::Hang(AWAY),
                Fault::LoseToLaggingReplica(LOST_CLAIMS),
                Fault::Kill(AWAY),
            ],
        ),
        other => panic!("--redis {other} is neither one nor sentinel"),
    };
    let deployment = Deployment::start_with_three_gateways(&servers.url());
    let scene = Scene::in_deployment(&deployment).await;
    let storm = ReplayStorm {
        tokens: scene.tokens("storm", tokens),
        presentations: PRESENTATIONS,
        gateways: ports(&deployment, &Instance::GATEWAYS),
        at_once,
        seed,
    };
    println!(
        "{tokens} tokens, each presented {PRESENTATIONS} times at three gateways, {at_once} at a time; Redis: {shape}, seed {seed}"
    );

    let processor = ProcessorTime::now();
    let record = storm.rage(servers, &round.repeat(rounds)).await;
    let busy = processor.percent_since();
    let tally = Tally::of(&record.attempts, tokens);
    let (events, committed) = scene.committed(&deployment);

    let per_second = f64::from(u32::try_from(record.attempts.len()).unwrap_or(u32::MAX)) / record.duration.as_secs_f64();
    println!(
        "{:.1} s, {per_second:.0} presentations/s, {busy} % of {} processors busy",
        record.duration.as_secs_f64(),
        processors()
    );
    println!();
    table::print(&record);
    println!();
    println!(
        "  minted {}, replayed {}, refused for a while {}, other answers {:?}",
        tally.minted, tally.replayed, tally.unavailable, tally.others
    );
    println!(
        "  tokens refused without cause: {}, the longest for {:.1} ms",
        tally.refused_without_cause,
        milliseconds(tally.longest_refusal)
    );
    let all: Latencies = record.attempts.iter().map(Attempt::latency).collect();
    println!("  all answers {all}");
    println!();
    let mut verdict = Verdict::default();
    verdict.must_hold("no token was minted twice", tally.minted_twice == 0);
    verdict.must_hold("each token was minted", tally.never_minted == 0 && tally.minted == tokens);
    verdict.must_hold("each other presentation was refused as a repetition", tally.replayed == tokens * (PRESENTATIONS - 1));
    verdict.must_hold("there was no other answer", tally.others.is_empty());
    verdict.must_hold("the audit log has one event for each token", (events, committed) == (tokens, tokens));
    verdict.must_hold("nobody was refused for longer than the breaker needs (150 ms)", tally.longest_refusal <= BREAKER);
    verdict.must_hold("every fault happened", record.faults.len() == round.len() * rounds);
    verdict.exit_code()
}
