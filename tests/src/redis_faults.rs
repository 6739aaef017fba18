//! What can become of Redis, done to real servers while others use them.

use std::fmt;
use std::time::Duration;

use countersign_testkit::redis::Redis;
use countersign_testkit::redis::sentinel::{Loss, SentinelRedis};

/// The servers of a deployment.
#[derive(Debug)]
pub enum Servers {
    /// One that stands alone.
    One(Box<Redis>),
    /// A primary and a replica under a sentinel.
    Sentinel(Box<SentinelRedis>),
}

/// Something that happens to them, after which they are well again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Every key is forgotten.
    Flush,
    /// The primary is killed and started again at once, empty.
    Restart,
    /// It is killed and stays away for so long, or until its replica has taken over; then it comes back empty.
    Kill(Duration),
    /// It keeps its connections and answers nothing for so long, or until its replica has taken over; then it wakes up.
    Hang(Duration),
    /// It is killed after it has acknowledged at least so many claims of which its replica heard nothing, and the replica takes
    /// over. Only under a sentinel.
    LoseToLaggingReplica(usize),
}

impl Servers {
    /// The address that gateways get.
    pub fn url(&self) -> String {
        match self {
            Self::One(redis) => redis.url(),
            Self::Sentinel(redis) => redis.url(),
        }
    }

    /// Does it, and returns when all is well again: how many acknowledged claims were lost by a failover.
    pub fn suffer(&mut self, fault: Fault) -> usize {
        match (self, fault) {
            (Self::One(redis), Fault::Flush) => redis.flush(),
            (Self::Sentinel(redis), Fault::Flush) => redis.primary.flush(),
            (Self::One(redis), Fault::Restart) => redis.restart(),
            (Self::Sentinel(redis), Fault::Restart) => redis.restart_primary(),
            (Self::One(redis), Fault::Kill(duration)) => {
                redis.kill();
                std::thread::sleep(duration);
                redis.restart();
            }
            (Self::One(redis), Fault::Hang(duration)) => {
                redis.pause();
                std::thread::sleep(duration);
                redis.resume();
            }
            (Self::One(_), Fault::LoseToLaggingReplica(_)) => panic!("one server has no replica"),
            (Self::Sentinel(redis), Fault::Kill(_)) => redis.fail_over(Loss::Killed),
            (Self::Sentinel(redis), Fault::Hang(_)) => redis.fail_over(Loss::Hung),
            (Self::Sentinel(redis), Fault::LoseToLaggingReplica(claims)) => return redis.fail_over_to_lagging_replica(claims),
        }
        0
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flush => f.write_str("flush"),
            Self::Restart => f.write_str("restart, empty"),
            Self::Kill(_) => f.write_str("kill"),
            Self::Hang(_) => f.write_str("hang"),
            Self::LoseToLaggingReplica(_) => f.write_str("lose to a lagging replica"),
        }
    }
}
