//! A primary with a replica and a sentinel that watches them.

use std::time::Duration;

use super::{Redis, program_of};
use crate::process::find;
use crate::wait;

/// The sentinel's name for the primary.
const SERVICE: &str = "caches";
/// How long the primary must be silent until the sentinel does something.
const DOWN_AFTER_MS: u32 = 300;
const LIMIT: Duration = Duration::from_secs(30);

/// A primary, a replica, and a sentinel that makes the replica the primary when the first one dies, one to two seconds later.
#[derive(Debug)]
pub struct SentinelRedis {
    /// The server that is the primary at first, and after [`fail_over`](Self::fail_over) the one that is it then.
    pub primary: Redis,
    /// The server that is its replica.
    pub replica: Redis,
    sentinel: Redis,
}

/// How a primary is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// It is killed, and comes back empty.
    Killed,
    /// It hangs, and wakes up as it was.
    Hung,
}

impl SentinelRedis {
    /// Starts all three and waits until the replica is in step and the sentinel knows it.
    pub fn start() -> Self {
        // Without the pause in which a primary gathers replicas.
        let at_once = ["--repl-diskless-sync-delay", "0"];
        let primary = Redis::start_with(&at_once);
        let follow = format!("127.0.0.1 {}", primary.port());
        let replica = Redis::start_with(&[&at_once[..], &["--replicaof", &follow]].concat());
        let sentinel = Redis::start_program(|port, folder| {
            // Sentinels write to their file what they learn.
            let file = folder.join("sentinel.conf");
            let settings = format!(
                "port {port}\nbind 127.0.0.1\n\
                 sentinel monitor {SERVICE} 127.0.0.1 {} 1\n\
                 sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}\n\
                 sentinel failover-timeout {SERVICE} 2000\n",
                primary.port()
            );
            std::fs::write(&file, settings).expect("can write into the folder");
            let server = find("redis-server", []);
            program_of([&*server.to_string_lossy(), &*file.to_string_lossy(), "--sentinel"], folder)
        });
        // A sentinel asks a server every ten seconds how it is, and trusts no older word. A Redis before 7 cannot be told so and
        // makes tests slower.
        sentinel.command("SENTINEL DEBUG INFO-PERIOD 100 PING-PERIOD 100 PUBLISH-PERIOD 100");
        let all = Self { primary, replica, sentinel };
        wait::blocking("the replica is in step", LIMIT, || all.primary.command("WAIT 1 1000") == ":1");
        wait::blocking("the sentinel knows the replica", LIMIT, || {
            all.sentinel.command(&format!("SENTINEL REPLICAS {SERVICE}")) == "*1"
        });
        all
    }

    /// The address. The first of its two sentinels was never there.
    pub fn url(&self) -> String {
        let nobody = Redis::never_started().replace("redis://", "");
        format!("redis-sentinel://{nobody},127.0.0.1:{}/{SERVICE}", self.sentinel.port())
    }

    /// The sentinel.
    pub fn sentinel(&self) -> &Redis {
        &self.sentinel
    }

    /// Loses the primary, and returns when the replica has taken over and the old primary has come back as its replica, in step.
    /// Takes seconds, the more so shortly after another failover: the sentinel then waits for four.
    pub fn fail_over(&mut self, loss: Loss) {
        match loss {
            Loss::Killed => self.primary.kill(),
            Loss::Hung => self.primary.pause(),
        }
        wait::blocking("the replica is promoted", LIMIT, || takes_writes(&self.replica));
        match loss {
            Loss::Killed => self.primary.restart(),
            Loss::Hung => self.primary.resume(),
        }
        self.settle();
    }

    /// Kills the primary after others have written at least so many keys of which the replica heard nothing, and goes on like
    /// [`fail_over`](Self::fail_over). Returns how many keys were lost, each of which had been acknowledged.
    pub fn fail_over_to_lagging_replica(&mut self, keys: usize) -> usize {
        // From here on the replica hears of nothing, as if it lagged. The sentinel would mend that two seconds later.
        assert!(self.replica.command("REPLICAOF 127.0.0.1 1").starts_with("+OK"));
        let kept = self.replica.key_count();
        wait::blocking("keys are written that the replica does not have", LIMIT, || self.primary.key_count() >= kept + keys);
        let lost = self.primary.key_count() - kept;
        self.primary.kill();
        assert!(self.replica.text("INFO replication").contains("master_port:1\r"), "the replica caught up before the kill");
        self.fail_over(Loss::Killed);
        lost
    }

    /// Kills the primary and starts it again at once, empty, which the replica follows. Should the sentinel notice, the replica
    /// takes over instead.
    pub fn restart_primary(&mut self) {
        self.primary.restart();
        self.settle();
    }

    /// Waits until one takes writes, the other is in step with it, and the sentinel sees that too; gives them their names.
    fn settle(&mut self) {
        let agree = |primary: &Redis, replica: &Redis| {
            self.sentinel.text("INFO sentinel").contains(&format!("address=127.0.0.1:{},", primary.port()))
                && takes_writes(primary)
                && !takes_writes(replica)
                // A server that is being made a replica breaks its connections.
                && primary.try_command("WAIT 1 100").as_deref() == Some(":1")
                // The primary counts a replica as soon as everything was sent, which the replica may still be loading.
                && replica.text("INFO replication").contains("master_link_status:up")
        };
        let mut changed = false;
        wait::blocking("there are a primary and a replica again", LIMIT, || {
            changed = agree(&self.replica, &self.primary);
            changed || agree(&self.primary, &self.replica)
        });
        if changed {
            std::mem::swap(&mut self.primary, &mut self.replica);
        }
    }
}

fn takes_writes(server: &Redis) -> bool {
    server.try_command("DEL mark").as_deref() == Some(":0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_replica_takes_over_from_a_dead_primary() {
        let mut all = SentinelRedis::start();
        assert!(all.replica.command("SET mark 7").starts_with("-READONLY"));
        all.primary.kill();
        // The connection breaks when the server takes up its new role.
        wait::blocking("the replica is promoted", LIMIT, || all.replica.try_command("SET mark 7").as_deref() == Some("+OK"));
    }

    #[test]
    fn primary_and_replica_change_roles_as_often_as_the_primary_is_lost() {
        let mut all = SentinelRedis::start();
        all.fail_over(Loss::Hung);
        assert_eq!(all.primary.command("SET kept 7"), "+OK");
        // The sentinel may have the replica begin anew after it was in step, so what it has is what counts.
        wait::blocking("the replica has the key", LIMIT, || all.replica.try_command("DBSIZE").as_deref() == Some(":1"));
        // Nobody writes beside this test, so nothing but the one key is ever there, and none is lost.
        assert_eq!(all.fail_over_to_lagging_replica(0), 0);
        assert_eq!(all.primary.key_count(), 1);
        assert!(all.replica.command("SET mark 7").starts_with("-READONLY"));
    }
}
