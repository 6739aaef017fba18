//! What is due of the keys of issuers: planned and written in the background, at a bounded rate and fairly between workspaces.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use countersign_domain::issuing::signing_key::KeyStep;
use countersign_domain::values::id::IssuerId;
use countersign_domain::values::time::Timestamp;
use countersign_runtime::outage::Outage;
use tokio::time::Instant;

use super::permits::Owner;
use super::{Keeper, KeeperError};
use crate::causes::Causes;
use crate::directory::LoadedIssuer;

/// How long one round makes keys. The next round plans again, so that what became due meanwhile, as after a revocation, has its place
/// in it (SECURITY 59).
const BUDGET: Duration = Duration::from_millis(500);
/// How old an issuer without keys is before the background makes them. Until then the replica that created it does.
const ABANDONED: Duration = Duration::from_secs(10);

/// What one round leaves for the next.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// Whether a failure was logged already.
    writing: Outage,
    /// The owner that was served last: the next round begins behind it.
    last_owner: Option<Owner>,
}

/// What became of an issuer in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// Nothing was due, or the owner already makes another key.
    Nothing,
    /// Records were written.
    Records,
    /// A key was made.
    Key,
}

impl Keeper {
    /// Writes what is due whenever the picture was read, until it is dropped. A task of its own: the picture must stay fresh while keys
    /// are made (SECURITY 59).
    pub(crate) async fn keep_keys(self: Arc<Self>) {
        let mut rounds = Rounds::default();
        loop {
            self.picture_read.notified().await;
            self.take_due_steps(&mut rounds).await;
        }
    }

    /// Writes what is due, for as long as a round takes. Each owner gets one new key in a round.
    pub(super) async fn take_due_steps(&self, rounds: &mut Rounds) {
        let (mut any_taken, mut any_failed, mut any_left) = (false, false, false);
        if let Err(error) = self.note_serving().await {
            any_failed = true;
            if rounds.writing.begins() {
                tracing::warn!(%error, cause = %Causes(&error), "cannot note for how long key sets are handed out; trying again");
            }
        }
        let began = Instant::now();
        let is_behind = |owner: &Owner| rounds.last_owner.as_ref().is_none_or(|last| owner > last);
        let (first, then): (Vec<_>, Vec<_>) = self.due_by_owner().into_iter().partition(|(owner, _)| is_behind(owner));
        for (owner, issuers) in first.into_iter().chain(then) {
            // Whatever is left out now comes first in the next round.
            if began.elapsed() > BUDGET {
                any_left = true;
                break;
            }
            rounds.last_owner = Some(owner);
            let mut issuers = issuers.iter();
            for id in issuers.by_ref() {
                match self.take_due_steps_of(id).await {
                    Ok(taken) => {
                        any_taken |= taken != Taken::Nothing;
                        if taken == Taken::Key {
                            break;
                        }
                    }
                    Err(error) => {
                        any_failed = true;
                        if rounds.writing.begins() {
                            tracing::warn!(issuer.id = %id, %error, cause = %Causes(&error), "cannot bring an issuer's keys up to date; trying again");
                        } else {
                            tracing::debug!(issuer.id = %id, %error, "still cannot bring an issuer's keys up to date");
                        }
                    }
                }
            }
            any_left |= issuers.next().is_some();
        }
        if !any_failed && let Some(lasted) = rounds.writing.over() {
            tracing::info!(lasted_ms = lasted.as_millis(), "the keys of all issuers are up to date again");
        }
        if any_taken {
            // When this fails, the next poll reads them, and reports the outage.
            match self.refresh().await {
                Ok(()) if any_left => self.picture_read.notify_one(),
                Ok(()) => {}
                Err(error) => tracing::debug!(%error, cause = %Causes(&error), "cannot read back new keys"),
            }
        }
    }

    /// The issuers of which something is due, by their owners.
    fn due_by_owner(&self) -> BTreeMap<Owner, Vec<IssuerId>> {
        let directory = self.latest();
        let (policies, now) = (directory.policies(self.policy), self.now());
        let mut due: BTreeMap<Owner, Vec<IssuerId>> = BTreeMap::new();
        // In a workspace that is not active nothing changes by itself, nor where that is not known: nothing is signed there either.
        let is_active = |issuer: &&Arc<LoadedIssuer>| self.check_active(issuer).is_ok();
        let is_kept = |issuer: &&Arc<LoadedIssuer>| !issuer.is_unused() || self.is_abandoned(issuer, now);
        for issuer in directory.all().filter(is_kept).filter(is_active) {
            if !issuer.keyring(&policies, self.exports).next_steps(now).is_empty() {
                due.entry(issuer.owner()).or_default().push(issuer.identity.id().clone());
            }
        }
        due
    }

    /// Whether no call makes the first keys of an issuer any more: its creator was killed or failed, or was of an older version.
    fn is_abandoned(&self, issuer: &LoadedIssuer, now: Timestamp) -> bool {
        let since = |issuer: &countersign_domain::issuing::issuer::Issuer| issuer.created_at.checked_add(ABANDONED);
        let is_old = issuer.of_workspace().is_some_and(|issuer| since(issuer).is_ok_and(|at| at <= now));
        is_old && !self.makes_first_keys_of(issuer.identity.id())
    }

    /// Writes what is due of one issuer. Keys need a permit, which an owner that already makes others does not get.
    async fn take_due_steps_of(&self, id: &IssuerId) -> Result<Taken, KeeperError> {
        let mut permit = None;
        loop {
            // Planned again with the permit: the wait for it may have taken long.
            let directory = self.latest();
            let Some(issuer) = directory.by_id(id) else { return Ok(Taken::Nothing) };
            let now = self.now();
            let steps = issuer.keyring(&directory.policies(self.policy), self.exports).next_steps(now);
            if steps.is_empty() {
                return Ok(Taken::Nothing);
            }
            let makes_key = steps.iter().any(|step| matches!(step, KeyStep::Create { .. }));
            if makes_key && permit.is_none() {
                permit = self.permits.wait_unless_busy(issuer.owner()).await;
                if permit.is_none() {
                    return Ok(Taken::Nothing);
                }
                continue;
            }
            self.carry_out(&directory, issuer, now, steps).await?;
            return Ok(if makes_key { Taken::Key } else { Taken::Records });
        }
    }
}
