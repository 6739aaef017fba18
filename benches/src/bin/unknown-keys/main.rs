//! Two gateways, honest exchanges at an even rate, and ten thousand tokens with random key ids from the same issuer (SECURITY 36):
//! the issuer may be asked once in 30 s, and the 99th percentile of the honest may move by less than 20 %.
//!
//! Quiet times, times with unknown keys, and times with as many tokens that are refused at first sight take turns. The last tell
//! what the load alone does to this machine.

#![expect(clippy::print_stdout, clippy::expect_used, reason = "figures are printed, and a measurement that cannot be made ends")]

mod fetches;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use countersign_benches::arguments::Arguments;
use countersign_benches::latencies::{Latencies, milliseconds};
use countersign_benches::load::Load;
use countersign_benches::machine::{ProcessorTime, processors};
use countersign_benches::scene::{Scene, ports};
use countersign_benches::verdict::Verdict;
use countersign_tests::deployment::{Deployment, Instance, RedisAtStart};

use crate::fetches::Fetches;

/// By how much the 99th percentile may move, in percent.
const MOST: f64 = 20.0;
/// How often an issuer may be asked because of unknown keys.
const INTERVAL: Duration = Duration::from_secs(30);
/// The interval is kept between leaves to ask; a request reaches the issuer, and is seen, a little later, not always by as much.
const TOLERANCE: Duration = Duration::from_millis(100);
const WARM_UP: Duration = Duration::from_secs(5);
const GOOD: &str = "200 -";
const NOT_TRUSTED: &str = "400 SUBJECT_TOKEN_NOT_TRUSTED";

/// What is presented beside honest tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Beside {
    Nothing,
    Malformed,
    UnknownKeys,
}

impl Beside {
    const ALL: [Self; 3] = [Self::Nothing, Self::UnknownKeys, Self::Malformed];

    const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "quiet",
            Self::Malformed => "with malformed tokens",
            Self::UnknownKeys => "with unknown keys",
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::read(&["tokens", "seconds", "rate", "rounds"]);
    let tokens: usize = arguments.get("tokens", 10_000);
    let seconds: u64 = arguments.get("seconds", 30);
    let rate: usize = arguments.get("rate", 200);
    let rounds: usize = arguments.get("rounds", 3);
    let duration = Duration::from_secs(seconds);

    let deployment = Deployment::start(RedisAtStart::Running);
    let scene = Arc::new(Scene::in_deployment(&deployment).await);
    let load = Load::on(&ports(&deployment, &Instance::GATEWAYS[..2]));
    println!(
        "{rate} honest exchanges a second at two gateways; {tokens} other tokens in {seconds} s, {} processors",
        processors()
    );
    let honest = |word: &str, duration: Duration| scene.tokens(word, rate * usize::try_from(duration.as_secs()).unwrap_or(1));
    load.spread(honest("first", WARM_UP), WARM_UP).await;

    let fetches = Fetches::watch(&scene);
    let mut honest_latencies: BTreeMap<(Beside, usize), Latencies> = BTreeMap::new();
    let mut moved = BTreeMap::new();
    let mut answers: BTreeMap<(Beside, String), usize> = BTreeMap::new();
    for round in 0..rounds {
        for beside in Beside::ALL {
            let word = format!("{round}-{beside:?}");
            let honest = honest(&word, duration);
            let others = match beside {
                Beside::Nothing => Vec::new(),
                Beside::Malformed => scene.tokens(&word, tokens).iter().map(|token| format!("{token}.")).collect(),
                Beside::UnknownKeys => scene.tokens_of_unknown_keys(&word, tokens),
            };
            let processor = ProcessorTime::now();
            let (honest, others) = tokio::join!(load.spread(honest, duration), load.spread(others, duration));
            let busy = processor.percent_since();
            let latencies: Latencies = honest.iter().map(|answer| answer.latency).collect();
            println!("  {:<23}{latencies}   {busy} % busy", beside.name());
            let of_others: Latencies = others.iter().map(|answer| answer.latency).collect();
            if of_others.count() > 0 {
                println!("  {:<23}{of_others}", "  the others");
            }
            honest_latencies.insert((beside, round), latencies);
            for answer in honest {
                *answers.entry((Beside::Nothing, answer.what)).or_default() += 1;
            }
            for answer in others {
                *answers.entry((beside, answer.what)).or_default() += 1;
            }
        }
    }
    let fetches = fetches.end().await;

    println!();
    let pooled = |beside| rounds_of(&honest_latencies, beside).fold(Latencies::default(), |all, round| all.and(round));
    let quiet = pooled(Beside::Nothing);
    for beside in Beside::ALL {
        let all = pooled(beside);
        let changes: Vec<f64> = rounds_of(&honest_latencies, Beside::Nothing)
            .zip(rounds_of(&honest_latencies, beside))
            .map(|(quiet, round)| change(quiet, round))
            .collect();
        let of_all = change(&quiet, &all);
        println!("  {:<23}{all}   p99 {of_all:+.1} %, round by round {changes:+.1?} %", beside.name());
        moved.insert(beside, of_all);
    }
    println!("  answers {answers:?}");
    println!("  the issuer's keys were asked for at {:.1?} s", fetches.iter().map(Duration::as_secs_f64).collect::<Vec<_>>());
    println!();
    let mut verdict = Verdict::default();
    let expected = [
        ((Beside::Nothing, GOOD.to_owned()), rate * usize::try_from(seconds).unwrap_or(1) * rounds * Beside::ALL.len()),
        ((Beside::Malformed, "400 SUBJECT_TOKEN_MALFORMED".to_owned()), tokens * rounds),
        ((Beside::UnknownKeys, NOT_TRUSTED.to_owned()), tokens * rounds),
    ];
    verdict.must_hold("each honest token was exchanged, and no other", answers == BTreeMap::from(expected));
    let apart = fetches.windows(2).all(|two| two[1].saturating_sub(two[0]) + TOLERANCE >= INTERVAL);
    verdict.must_hold("the issuer was asked at most once in 30 s", apart);
    verdict.must_hold("unknown keys made the gateways ask at all", !fetches.is_empty());
    verdict.must_hold("unknown keys moved the p99 of honest exchanges by less than 20 %", moved[&Beside::UnknownKeys] < MOST);
    verdict.exit_code()
}

/// The latencies beside these, round by round.
fn rounds_of(latencies: &BTreeMap<(Beside, usize), Latencies>, beside: Beside) -> impl Iterator<Item = &Latencies> {
    latencies.iter().filter(move |((what, _), _)| *what == beside).map(|(_, latencies)| latencies)
}

/// By how much the 99th percentile differs, in percent.
fn change(quiet: &Latencies, other: &Latencies) -> f64 {
    100.0 * (milliseconds(other.per_mille(990)) / milliseconds(quiet.per_mille(990)) - 1.0)
}
