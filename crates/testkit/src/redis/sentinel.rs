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
    /// The server that is the primary at first.
    pub primary: Redis,
    /// The server that is its replica at first.
    pub replica: Redis,
    sentinel: Redis,
}

impl SentinelRedis {
    /// Starts all three and waits until the replica is in step and the sentinel knows it.
    pub fn start() -> Self {
        let primary = Redis::start();
        let follow = format!("127.0.0.1 {}", primary.port());
        // Without the pause in which a primary gathers replicas.
        primary.command("CONFIG SET repl-diskless-sync-delay 0");
        let replica = Redis::start_with(&["--replicaof", &follow]);
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_replica_takes_over_from_a_dead_primary() {
        let mut all = SentinelRedis::start();
        assert!(all.replica.command("SET mark 7").starts_with("-READONLY"));
        all.primary.kill();
        wait::blocking("the replica is promoted", LIMIT, || all.replica.command("SET mark 7") == "+OK");
    }
}
