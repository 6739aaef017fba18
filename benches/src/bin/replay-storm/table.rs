//! How long access tokens took, while nothing happened and during each fault.

use std::time::Duration;

use countersign_benches::latencies::Latencies;
use countersign_tests::replay_storm::{Attempt, Outcome, Record, Suffered};

/// For so long after a fault what came of it may still be felt.
const AFTERMATH: Duration = Duration::from_millis(500);

/// Prints a line for all calm times and one for each fault.
pub(crate) fn print(record: &Record) {
    let minted = || record.attempts.iter().filter(|attempt| attempt.outcome == Outcome::Minted);
    let calm = minted().filter(|attempt| !record.faults.iter().any(|fault| felt(fault, attempt)));
    println!("  {:<37}{}", "access tokens in calm times", latencies(calm));
    for fault in &record.faults {
        let name = if fault.lost_claims > 0 {
            format!("{} ({} claims)", fault.fault, fault.lost_claims)
        } else {
            fault.fault.to_string()
        };
        let felt = latencies(minted().filter(|attempt| felt(fault, attempt)));
        let (began, took) = (fault.began.as_secs_f64(), fault.ended.saturating_sub(fault.began).as_secs_f64());
        println!("  {began:>6.1} s {name:<38} {took:>4.1} s {felt}");
    }
}

fn felt(fault: &Suffered, attempt: &Attempt) -> bool {
    attempt.answered >= fault.began && attempt.sent <= fault.ended + AFTERMATH
}

fn latencies<'a>(attempts: impl Iterator<Item = &'a Attempt>) -> Latencies {
    attempts.map(Attempt::latency).collect()
}
