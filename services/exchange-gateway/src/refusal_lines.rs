//! Which refused exchanges have a line in the gateway's log.
//!
//! Anybody can cause refusals, and a line for each would let them fill the log: 3,200 requests a second make 1 MB a second. So lines
//! are sampled by cause and workspace, and by all workspaces together; every refusal is counted, by cause for `/metrics`, and the
//! refusals without a line in a line of their own for each cause. A flood of one cause in one workspace takes no line from other
//! causes, nor, before it reaches the common budget, from other workspaces.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_domain::values::id::WorkspaceId;
use countersign_runtime::shutdown::Shutdown;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::budget::{Budget, Rate};
use crate::cause::Cause;
use crate::refusals::Met;

/// Lines of one cause in one workspace.
const OF_CAUSE: Rate = Rate { burst: 20.0, per_second: 1.0 };
/// Lines of one workspace for tokens that verified.
const OF_WORKSPACE: Rate = Rate { burst: 100.0, per_second: 2.0 };
/// Lines of all tokens that did not verify, together, and of all that did.
const UNVERIFIED: Rate = Rate { burst: 200.0, per_second: 10.0 };
const VERIFIED: Rate = Rate { burst: 500.0, per_second: 50.0 };
/// How many causes in workspaces are told apart. Beyond, workspaces are not.
const MAX_KEYS: usize = 2_048;
/// How often refusals without a line are reported.
const INTERVAL: Duration = Duration::from_secs(10);

/// Decides about lines, and counts.
#[derive(Default)]
pub(crate) struct RefusalLines(Mutex<Lines>);

#[derive(Default)]
struct Lines {
    budgets: HashMap<Scope, Budget>,
    /// Refusals since the service started, by cause.
    counted: BTreeMap<&'static str, u64>,
    /// Refusals without a line since they were last reported.
    without_line: HashMap<Key, u64>,
}

/// Whose refusals share a budget.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Scope {
    Cause(Key),
    /// Of tokens that verified.
    Workspace(WorkspaceId),
    Verified,
    Unverified,
}

/// A cause in a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    cause: &'static str,
    workspace_id: Option<WorkspaceId>,
}

impl RefusalLines {
    /// Writes the line of a refusal, if it is to have one, and counts it.
    pub(crate) fn write(&self, cause: &Cause, reason: &'static str, request_id: &str, met: &Met) {
        let is_verified = met.verified.is_some();
        if !self.lines().admit(cause.kind(), met.workspace_id.as_ref(), is_verified, Instant::now()) {
            return;
        }
        let workspace_id = met.workspace_id.as_ref().map(tracing::field::display);
        if cause.is_trouble() {
            tracing::warn!(request_id, workspace.id = workspace_id, reason, %cause, "exchange failed");
        } else {
            tracing::info!(request_id, workspace.id = workspace_id, reason, %cause, "exchange refused");
        }
    }

    /// How many refusals there were since the service started, by cause.
    pub(crate) fn counts(&self) -> Vec<(&'static str, i64)> {
        let number = |(cause, count): (&&'static str, &u64)| (*cause, i64::try_from(*count).unwrap_or(i64::MAX));
        self.lines().counted.iter().map(number).collect()
    }

    /// Reports refusals without a line from time to time until it is dropped, and when the service begins to stop.
    pub(crate) async fn run(self: std::sync::Arc<Self>, shutdown: Shutdown) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stopping = false;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.requested(), if !stopping => stopping = true,
            }
            self.report();
        }
    }

    fn report(&self) {
        let without_line = self.lines().close(Instant::now());
        for (Key { cause, workspace_id }, refusals) in without_line {
            let workspace_id = workspace_id.as_ref().map(tracing::field::display);
            tracing::info!(
                cause,
                workspace.id = workspace_id,
                refusals,
                "more exchanges were refused with this cause, without a line each"
            );
        }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    /// Counts a refusal, and decides whether it has a line.
    fn admit(&mut self, cause: &'static str, workspace_id: Option<&WorkspaceId>, is_verified: bool, now: Instant) -> bool {
        *self.counted.entry(cause).or_default() += 1;
        let mut key = Key { cause, workspace_id: workspace_id.cloned() };
        let is_full = self.budgets.len() >= MAX_KEYS || self.without_line.len() >= MAX_KEYS;
        if is_full && !self.budgets.contains_key(&Scope::Cause(key.clone())) {
            key.workspace_id = None;
        }
        let mut scopes = vec![(Scope::Cause(key.clone()), OF_CAUSE)];
        match (is_verified, &key.workspace_id) {
            (true, Some(id)) => scopes.extend([(Scope::Workspace(id.clone()), OF_WORKSPACE), (Scope::Verified, VERIFIED)]),
            (true, None) => scopes.push((Scope::Verified, VERIFIED)),
            (false, _) => scopes.push((Scope::Unverified, UNVERIFIED)),
        }
        let mut has_one =
            |scope: &Scope, rate| self.budgets.entry(scope.clone()).or_insert_with(|| Budget::full(rate, now)).has_one(now);
        // A line that one budget refuses must cost the others nothing.
        let admits = scopes.iter().all(|(scope, rate)| has_one(scope, *rate));
        if admits {
            for (scope, _) in &scopes {
                if let Some(budget) = self.budgets.get_mut(scope) {
                    budget.take(now);
                }
            }
        } else {
            *self.without_line.entry(key).or_default() += 1;
        }
        admits
    }

    /// Takes the numbers of refusals without a line, and forgets budgets that are full again.
    fn close(&mut self, now: Instant) -> Vec<(Key, u64)> {
        self.budgets.retain(|_, budget| !budget.is_full(now));
        let mut without_line: Vec<_> = std::mem::take(&mut self.without_line).into_iter().collect();
        without_line.sort_unstable_by(|(one, first), (other, second)| second.cmp(first).then(one.cause.cmp(other.cause)));
        without_line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(number: u16) -> WorkspaceId {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        WorkspaceId::from_random(bytes)
    }

    /// How many of so many refusals have a line.
    fn admitted(lines: &mut Lines, count: u32, cause: &'static str, workspace: Option<&WorkspaceId>, verified: bool) -> u32 {
        let now = Instant::now();
        (0..count).map(|_| u32::from(lines.admit(cause, workspace, verified, now))).sum()
    }

    #[tokio::test(start_paused = true)]
    async fn s63_a_flood_of_one_cause_is_sampled_counted_and_reported() {
        let mut lines = Lines::default();
        assert_eq!(admitted(&mut lines, 3_200, "issuer_unknown", None, false), 20);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(admitted(&mut lines, 100, "issuer_unknown", None, false), 5);
        assert_eq!(lines.counted["issuer_unknown"], 3_300);
        let reported = lines.close(Instant::now());
        assert_eq!(reported, [(Key { cause: "issuer_unknown", workspace_id: None }, 3_275)]);
        assert!(lines.close(Instant::now()).is_empty(), "reported once");
        assert_eq!(lines.counted["issuer_unknown"], 3_300, "counted for good");
    }

    #[tokio::test(start_paused = true)]
    async fn s63_a_flood_takes_no_line_from_other_causes_and_workspaces() {
        let mut lines = Lines::default();
        admitted(&mut lines, 10_000, "bad_signature", Some(&workspace(1)), false);
        admitted(&mut lines, 10_000, "subject_not_accepted", Some(&workspace(1)), true);
        for (cause, id, verified) in [
            ("bad_signature", workspace(2), false),
            ("unknown_key", workspace(1), false),
            ("subject_not_accepted", workspace(2), true),
            ("audience_not_accepted", workspace(1), true),
        ] {
            assert_eq!(admitted(&mut lines, 10, cause, Some(&id), verified), 10, "{cause} {id}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn s63_a_flood_over_many_workspaces_and_causes_has_few_lines_and_little_memory() {
        let mut lines = Lines::default();
        let mut written = 0;
        for number in 0..10_000 {
            written += admitted(&mut lines, 1, "issuer_unknown", Some(&workspace(number)), false);
        }
        assert_eq!(written, 200);
        assert!(lines.budgets.len() <= MAX_KEYS + 4 && lines.without_line.len() <= MAX_KEYS + 1);
        assert_eq!(lines.without_line.values().sum::<u64>(), 9_800, "each is counted");
        // Tokens that verified have a budget of their own.
        assert_eq!(admitted(&mut lines, 10, "subject_not_accepted", Some(&workspace(1)), true), 10);
        tokio::time::advance(Duration::from_mins(1)).await;
        lines.close(Instant::now());
        assert!(lines.budgets.is_empty() && lines.without_line.is_empty());
    }
}
