//! A cluster of three primaries.

use std::time::Duration;

use super::Redis;
use crate::{ports, wait};

const SLOTS: [&str; 3] = ["0 5460", "5461 10922", "10923 16383"];
const LIMIT: Duration = Duration::from_secs(30);

/// Three primaries with a third of the slots each, which go on when one of them is dead.
#[derive(Debug)]
pub struct RedisCluster {
    /// The nodes, in the order of their slots.
    pub nodes: Vec<Redis>,
    bus_ports: Vec<u16>,
}

impl RedisCluster {
    /// Starts the nodes and waits until they agree. Nodes of a new cluster refuse everything for two seconds.
    pub fn start() -> Self {
        let mut cluster = Self { nodes: Vec::new(), bus_ports: Vec::new() };
        for (slots, epoch) in SLOTS.iter().zip(1..) {
            cluster.start_node();
            let node = cluster.nodes.last().expect("just started");
            assert_eq!(node.command(&format!("CLUSTER ADDSLOTSRANGE {slots}")), "+OK");
            assert_eq!(node.command(&format!("CLUSTER SET-CONFIG-EPOCH {epoch}")), "+OK");
        }
        cluster.meet(1);
        cluster.meet(2);
        cluster.wait_until("the nodes agree", |node| {
            node.command("CLUSTER SLOTS") == "*3" && node.text("CLUSTER INFO").contains("cluster_state:ok")
        });
        cluster
    }

    /// Starts one more node, a replica of that one, and returns its place when it is in step.
    pub fn add_replica_of(&mut self, place: usize) -> usize {
        let primary = self.id(place);
        self.start_node();
        let replica = self.nodes.len() - 1;
        self.nodes[place].command("CONFIG SET repl-diskless-sync-delay 0");
        self.meet(replica);
        self.wait_until("all know the replica", |node| node.text("CLUSTER INFO").contains("cluster_known_nodes:4"));
        assert_eq!(self.nodes[replica].command(&format!("CLUSTER REPLICATE {primary}")), "+OK");
        // The primary counts a replica as soon as everything was sent, which the replica may still be loading.
        wait::blocking("the replica has loaded", LIMIT, || {
            self.nodes[replica].text("INFO replication").contains("master_link_status:up")
        });
        // Otherwise it might take over under an epoch that the others hold to be older than its dead primary's, and be put in its place.
        let epoch = self.epoch(place);
        wait::blocking("the replica knows its primary's epoch", LIMIT, || self.epoch(replica) == epoch);
        wait::blocking("the replica is in step", LIMIT, || self.nodes[place].command("WAIT 1 1000") == ":1");
        replica
    }

    /// The address, by its first two nodes. They tell of the rest.
    pub fn url(&self) -> String {
        format!("redis-cluster://127.0.0.1:{},127.0.0.1:{}", self.nodes[0].port(), self.nodes[1].port())
    }

    /// Forgets every key.
    pub fn flush(&self) {
        for node in &self.nodes {
            node.flush();
        }
    }

    /// What the cluster calls a node.
    pub fn id(&self, place: usize) -> String {
        self.nodes[place].text("CLUSTER MYID")
    }

    /// The place of the node that has a key's slot at the start, and the slot.
    pub fn place_of(&self, key: &str) -> (usize, u16) {
        let slot = self.nodes[0].command(&format!("CLUSTER KEYSLOT {key}"));
        let slot: u16 = slot.trim_start_matches(':').parse().expect("KEYSLOT answers a number");
        (usize::from(slot >= 5_461) + usize::from(slot >= 10_923), slot)
    }

    /// The epoch of a node's slots; of a replica, as far as it knows, that of its primary's.
    fn epoch(&self, place: usize) -> String {
        let info = self.nodes[place].text("CLUSTER INFO");
        info.lines().find(|line| line.starts_with("cluster_my_epoch:")).expect("a node has an epoch").to_owned()
    }

    fn start_node(&mut self) {
        let bus = ports::free();
        let fast = ["--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no"];
        let options = ["--cluster-enabled", "yes", "--cluster-port", &bus.to_string()];
        self.nodes.push(Redis::start_with(&[&options[..], &fast[..]].concat()));
        self.bus_ports.push(bus);
    }

    fn meet(&self, place: usize) {
        let (port, bus) = (self.nodes[0].port(), self.bus_ports[0]);
        assert_eq!(self.nodes[place].command(&format!("CLUSTER MEET 127.0.0.1 {port} {bus}")), "+OK");
    }

    fn wait_until(&self, what: &str, holds: impl Fn(&Redis) -> bool) {
        wait::blocking(what, LIMIT, || self.nodes.iter().all(&holds));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_has_its_slots_and_a_replica_takes_over() {
        let mut cluster = RedisCluster::start();
        let (place, slot) = cluster.place_of("123456789");
        assert_eq!((place, slot), (2, 0x31c3));
        assert_eq!(cluster.nodes[2].command("SET 123456789 7"), "+OK");
        assert_eq!(cluster.nodes[0].command("SET 123456789 7"), format!("-MOVED 12739 127.0.0.1:{}", cluster.nodes[2].port()));
        let replica = cluster.add_replica_of(2);
        cluster.nodes[2].kill();
        assert_eq!(cluster.nodes[replica].command("CLUSTER FAILOVER TAKEOVER"), "+OK");
        wait::blocking("the replica has taken over", LIMIT, || cluster.nodes[replica].command("GET 123456789") == "$1");
    }
}
