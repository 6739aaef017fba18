//! Many tokens, each presented several times at several gateways, while something happens to Redis.
//!
//! [`ReplayStorm::rage`] presents and writes down every attempt; [`Tally::of`] says what became of the tokens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::keep_alive::Connection;
use crate::redis_faults::{Fault, Servers};
use crate::token_endpoint;

/// Between two attempts of a client that was told to try again later.
const RETRY_PAUSE: Duration = Duration::from_millis(10);
/// How long a client tries.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is presented, and to whom.
#[derive(Debug)]
pub struct ReplayStorm {
    /// The tokens, no two alike.
    pub tokens: Vec<String>,
    /// How often each is presented.
    pub presentations: usize,
    /// The public ports of the gateways.
    pub gateways: Vec<u16>,
    /// How many presentations are in flight at a time, each on a kept connection.
    pub at_once: usize,
    /// Decides the order.
    pub seed: u64,
}

/// One presentation, or a repetition of one that was refused for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Which token.
    pub token: usize,
    /// When it was sent, from the start of the storm.
    pub sent: Duration,
    /// When it was answered.
    pub answered: Duration,
    /// How.
    pub outcome: Outcome,
}

/// How an attempt was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// With an access token.
    Minted,
    /// That the token was used before.
    Replayed,
    /// That it may be tried again later.
    Unavailable,
    /// In a way that does not belong here.
    Other(Box<str>),
}

/// What happened to Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suffered {
    /// What.
    pub fault: Fault,
    /// When it began, from the start of the storm.
    pub began: Duration,
    /// When all was well again.
    pub ended: Duration,
    /// How many acknowledged claims were lost by a failover.
    pub lost_claims: usize,
}

/// Everything that happened.
#[derive(Debug)]
pub struct Record {
    /// Every attempt.
    pub attempts: Vec<Attempt>,
    /// Every fault, in order.
    pub faults: Vec<Suffered>,
    /// How long all took.
    pub duration: Duration,
    /// The servers, as they came out.
    pub servers: Servers,
}

/// What became of the tokens.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Attempts answered with an access token.
    pub minted: usize,
    /// Attempts refused as repetitions.
    pub replayed: usize,
    /// Attempts refused for a while.
    pub unavailable: usize,
    /// Other answers, and how often they came.
    pub others: BTreeMap<String, usize>,
    /// Tokens for which no access token was given.
    pub never_minted: usize,
    /// Tokens for which more than one was given.
    pub minted_twice: usize,
    /// Tokens refused without cause: for a while, or as repetitions while nobody else presented them and nobody had got an access
    /// token for them. (Who is told of a repetition may have met another who is himself refused in the end, because a third, who
    /// came later, committed first.)
    pub refused_without_cause: usize,
    /// The longest time from such a refusal, or rather from when that attempt was sent, to the access token.
    pub longest_refusal: Duration,
}

impl ReplayStorm {
    /// Presents everything, while the faults happen evenly spread over it. Presentations wait for a fault that takes longer than
    /// its share of them, so that there are some during and after each.
    pub async fn rage(self, servers: Servers, faults: &[Fault]) -> Record {
        let order = self.order();
        let total = order.len();
        // How many presentations may have been begun when that many faults are over.
        let sections = faults.len() + 1;
        let share = move |faults_over: usize| ((faults_over + 2) * total / sections).min(total);
        let (allow, allowed) = watch::channel(share(0));
        let storm = Arc::new(Running { storm: self, order, next: AtomicUsize::new(0), start: Instant::now(), allowed });

        let mut clients = JoinSet::new();
        for client in 0..storm.storm.at_once {
            clients.spawn(Arc::clone(&storm).client(client));
        }
        let (watched, faults) = (Arc::clone(&storm), faults.to_vec());
        let trouble = tokio::task::spawn_blocking(move || {
            let mut servers = servers;
            let mut suffered = Vec::new();
            for fault in faults {
                let due = (suffered.len() + 1) * total / sections;
                while watched.next.load(Ordering::Relaxed) < due {
                    std::thread::sleep(Duration::from_millis(1));
                }
                let began = watched.start.elapsed();
                let lost_claims = servers.suffer(fault);
                suffered.push(Suffered { fault, began, ended: watched.start.elapsed(), lost_claims });
                allow.send_replace(share(suffered.len()));
            }
            allow.send_replace(total);
            (servers, suffered)
        });
        let attempts = clients.join_all().await.concat();
        let duration = storm.start.elapsed();
        let (servers, faults) = trouble.await.expect("the faults happen");
        Record { attempts, faults, duration, servers }
    }

    /// Which token is presented when: the presentations of every second token one after the other, so that they meet; those of
    /// the others anywhere.
    fn order(&self) -> Vec<usize> {
        let mut units = Vec::new();
        for token in 0..self.tokens.len() {
            if token % 2 == 0 {
                units.push((token, self.presentations));
            } else {
                units.extend(std::iter::repeat_n((token, 1), self.presentations));
            }
        }
        let mut random = Random(self.seed);
        for last in (1..units.len()).rev() {
            units.swap(last, random.below(last + 1));
        }
        units.into_iter().flat_map(|(token, times)| std::iter::repeat_n(token, times)).collect()
    }
}

/// A storm that has begun.
struct Running {
    storm: ReplayStorm,
    order: Vec<usize>,
    next: AtomicUsize,
    start: Instant,
    allowed: watch::Receiver<usize>,
}

impl Running {
    /// Presents one after the other until nothing is left.
    async fn client(self: Arc<Self>, number: usize) -> Vec<Attempt> {
        let mut random = Random(self.storm.seed ^ (number as u64 + 1) << 32);
        let mut gateways: Vec<_> = self.storm.gateways.iter().map(|port| Connection::to(*port)).collect();
        let mut allowed = self.allowed.clone();
        let mut attempts = Vec::new();
        loop {
            let place = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(token) = self.order.get(place).copied() else { return attempts };
            // An error means that nobody allows any more, for there is nothing left to wait for.
            let _ = allowed.wait_for(|allowed| *allowed > place).await;
            let form = token_endpoint::form(&self.storm.tokens[token], &[]);
            let began = Instant::now();
            loop {
                let gateway = random.below(gateways.len());
                let sent = self.start.elapsed();
                let outcome = present(&mut gateways[gateway], &form).await;
                let again = outcome == Outcome::Unavailable && began.elapsed() < PATIENCE;
                attempts.push(Attempt { token, sent, answered: self.start.elapsed(), outcome });
                if !again {
                    break;
                }
                sleep(RETRY_PAUSE).await;
            }
        }
    }
}

async fn present(gateway: &mut Connection, form: &str) -> Outcome {
    match gateway.post_form("/oauth2/token", form).await {
        Ok(answer) if answer.status == 200 => Outcome::Minted,
        Ok(answer) => match answer.reason().as_deref() {
            Some("SUBJECT_TOKEN_REPLAYED") => Outcome::Replayed,
            Some("TEMPORARILY_UNAVAILABLE") => Outcome::Unavailable,
            reason => Outcome::Other(format!("{} {}", answer.status, reason.unwrap_or("without a reason")).into()),
        },
        Err(error) => Outcome::Other(format!("no answer: {error}").into()),
    }
}

impl Attempt {
    /// How long the answer took.
    pub fn latency(&self) -> Duration {
        self.answered.saturating_sub(self.sent)
    }

    /// Whether it was refused though no other attempt at the same token explains that.
    fn lacks_cause(&self, attempts: &[&Self]) -> bool {
        let explains = |other: &&Self| {
            *other != self && other.sent < self.answered && (other.outcome == Outcome::Minted || other.answered > self.sent)
        };
        match self.outcome {
            Outcome::Minted => false,
            Outcome::Replayed => !attempts.iter().any(explains),
            Outcome::Unavailable | Outcome::Other(_) => true,
        }
    }
}

impl Tally {
    /// Of these attempts at presenting so many tokens.
    pub fn of(attempts: &[Attempt], tokens: usize) -> Self {
        let mut by_token: Vec<Vec<&Attempt>> = vec![Vec::new(); tokens];
        let mut tally = Self::default();
        for attempt in attempts {
            by_token[attempt.token].push(attempt);
            match &attempt.outcome {
                Outcome::Minted => tally.minted += 1,
                Outcome::Replayed => tally.replayed += 1,
                Outcome::Unavailable => tally.unavailable += 1,
                Outcome::Other(other) => *tally.others.entry(other.to_string()).or_default() += 1,
            }
        }
        for attempts in by_token {
            let mut minted = attempts.iter().filter(|attempt| attempt.outcome == Outcome::Minted);
            let Some(first) = minted.next() else {
                tally.never_minted += 1;
                continue;
            };
            if minted.next().is_some() {
                tally.minted_twice += 1;
            }
            if let Some(refused) =
                attempts.iter().filter(|attempt| attempt.lacks_cause(&attempts)).map(|attempt| attempt.sent).min()
            {
                tally.refused_without_cause += 1;
                tally.longest_refusal = tally.longest_refusal.max(first.answered.saturating_sub(refused));
            }
        }
        tally
    }
}

/// Splitmix64: enough to shuffle with, and the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % bound as u64).expect("less than a usize")
    }
}
