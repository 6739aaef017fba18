//! How a token came of our own tokens: the bound that nobody renews himself past (SECURITY 54).
//!
//! Who holds one of our access tokens may have ID tokens issued with it, and whoever holds one of those may exchange it for an
//! access token again. Without a bound a workload whose own issuer no longer vouches for it could go on so for ever. Each of our
//! tokens that was made with another one therefore carries the claim [`Lineage::CLAIM`]: since when, and by how many ID tokens. It is
//! signed, so that its holder cannot shed it, and a stranger who writes it into a token of his own shortens that token's life alone.

use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::values::time::Timestamp;

/// Since when, and over how many ID tokens of ours, a token goes back to somebody else's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lineage {
    /// When the first access token was issued, in seconds since 1970 (`auth_time` of RFC 9068, section 2.2.1).
    auth_time: i64,
    /// How many of our ID tokens lie between. Zero for that first access token, which does not say so.
    depth: u8,
}

/// Why no further token is made with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineageEnds {
    /// The first access token is too old.
    #[error("the access token that all of this goes back to was issued more than {} h ago", Lineage::MAX_AGE.as_secs() / 3600)]
    Age,
    /// There are too many ID tokens between.
    #[error("there are {} ID tokens of this deployment in its line already", Lineage::MAX_DEPTH)]
    Depth,
}

impl Lineage {
    /// The name of the claim.
    pub const CLAIM: &str = "countersign_lineage";
    /// How long after the first access token the last one of its line has expired. Twice what an access token may live, so that
    /// one given for a day's work can still be used at its end.
    pub const MAX_AGE: Duration = Duration::from_hours(24);
    /// The most ID tokens in one line: a scheduler, the run it starts, and what the run starts.
    pub const MAX_DEPTH: u8 = 3;

    /// The lineage of an access token that was issued then for somebody else's token.
    pub fn beginning(issued_at: Timestamp) -> Self {
        Self { auth_time: issued_at.as_second(), depth: 0 }
    }

    /// Reads the claim. `None`: it is not one that we ever write.
    pub fn read(claim: &Value) -> Option<Self> {
        // Serde would take an array for it as well.
        let lineage = claim.as_object().and_then(|members| Self::deserialize(members).ok())?;
        let depth_is_sound = (1..=Self::MAX_DEPTH).contains(&lineage.depth);
        let time_is_sound = lineage.auth_time >= 0 && Timestamp::from_second(lineage.auth_time).is_ok();
        (depth_is_sound && time_is_sound).then_some(lineage)
    }

    /// The lineage of an ID token that is issued with an access token of this one.
    ///
    /// # Errors
    /// The line ends here.
    pub fn next(self, now: Timestamp) -> Result<Self, LineageEnds> {
        if self.left(now).is_zero() {
            Err(LineageEnds::Age)
        } else if self.depth >= Self::MAX_DEPTH {
            Err(LineageEnds::Depth)
        } else {
            Ok(Self { depth: self.depth + 1, ..self })
        }
    }

    /// How long tokens of this line may still live, in whole seconds; zero when it has ended.
    pub fn left(self, now: Timestamp) -> Duration {
        let began = Timestamp::from_second(self.auth_time).unwrap_or(Timestamp::MIN);
        let age = now.duration_since(began);
        let max_age = SignedDuration::try_from(Self::MAX_AGE).unwrap_or(SignedDuration::MAX);
        let left = Duration::try_from(max_age.saturating_sub(age)).unwrap_or_default();
        // A beginning in the future gains nothing.
        Duration::from_secs(left.min(Self::MAX_AGE).as_secs())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    const BEGAN: i64 = 1_800_000_000;
    const DAY: i64 = 86_400;

    #[test]
    fn s54_a_line_of_tokens_ends_after_so_many_id_tokens() {
        let mut lineage = Lineage::beginning(at(BEGAN));
        for depth in 1..=Lineage::MAX_DEPTH {
            lineage = lineage.next(at(BEGAN + i64::from(depth))).unwrap();
            let claim = serde_json::to_value(lineage).unwrap();
            assert_eq!(claim, json!({"auth_time": BEGAN, "depth": depth}));
            assert_eq!(Lineage::read(&claim), Some(lineage));
        }
        assert_eq!(lineage.next(at(BEGAN + 60)), Err(LineageEnds::Depth));
    }

    #[test]
    fn s54_a_line_of_tokens_ends_a_day_after_it_began() {
        let lineage = Lineage::beginning(at(BEGAN));
        assert_eq!(lineage.left(at(BEGAN)), Lineage::MAX_AGE);
        assert_eq!(lineage.left(at(BEGAN + DAY - 1)), Duration::from_secs(1));
        assert!(lineage.next(at(BEGAN + DAY - 1)).is_ok());
        for later in [DAY, DAY + 1, 1_000 * DAY] {
            assert_eq!(lineage.left(at(BEGAN + later)), Duration::ZERO);
            assert_eq!(lineage.next(at(BEGAN + later)), Err(LineageEnds::Age));
        }
    }

    #[test]
    fn s54_a_claim_that_we_never_write_is_none() {
        for claim in [
            json!(null),
            json!("1"),
            json!([BEGAN, 1]),
            json!({}),
            json!({"auth_time": BEGAN}),
            json!({"depth": 1}),
            json!({"auth_time": BEGAN, "depth": 0}),
            json!({"auth_time": BEGAN, "depth": 4}),
            json!({"auth_time": BEGAN, "depth": 256}),
            json!({"auth_time": BEGAN, "depth": -1}),
            json!({"auth_time": BEGAN, "depth": 1.5}),
            json!({"auth_time": BEGAN.to_string(), "depth": 1}),
            json!({"auth_time": -1, "depth": 1}),
            json!({"auth_time": i64::MAX, "depth": 1}),
            json!({"auth_time": BEGAN, "depth": 1, "more": 1}),
        ] {
            assert_eq!(Lineage::read(&claim), None, "{claim}");
        }
    }

    proptest! {
        /// However the holder times his steps, no token of the line lives past the bound.
        #[test]
        fn s54_no_order_of_steps_leads_past_the_end(waits in prop::collection::vec(0..DAY, 0..8), lifetime in 1..DAY) {
            let (mut lineage, mut now) = (Lineage::beginning(at(BEGAN)), BEGAN);
            for wait in waits {
                now += wait;
                let left = i64::try_from(lineage.left(at(now)).as_secs()).unwrap();
                prop_assert!(now + left.min(lifetime) <= (BEGAN + DAY).max(now));
                let Ok(next) = lineage.next(at(now)) else { break };
                prop_assert!(next.left(at(now)) == lineage.left(at(now)));
                lineage = next;
            }
            prop_assert!(lineage.depth <= Lineage::MAX_DEPTH);
        }
    }
}
