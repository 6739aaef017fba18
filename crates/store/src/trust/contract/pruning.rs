//! Forgetting replay hashes beside commits and beside another pruner.

use countersign_domain::exchange::commit::CommitOutcome::{Committed, Replayed};
use sea_orm::{QueryTrait as _, TransactionTrait as _};
use tokio::time::timeout;

use super::*;
use crate::trust::commit::ended_hashes;

on_every_database! {
    s50_pruners_and_commits_at_once_lose_no_hash_that_counts
}

/// What the rest must be done in: far below the five seconds after which a lock is given up.
const AT_ONCE: Duration = Duration::from_secs(2);

/// So many exchanges from this token on, whose hashes end at that second.
fn batch(tenant: &Tenant, first: u64, count: u64, ends: u64) -> Vec<ExchangeCommit> {
    let ending = |exchange: ExchangeCommit| ExchangeCommit {
        replay: exchange.replay.map(|mark| ReplayMark { expires_at: later(ends), ..mark }),
        ..exchange
    };
    (first..first + count).map(|token| ending(tenant.exchange(token))).collect()
}

async fn s50_pruners_and_commits_at_once_lose_no_hash_that_counts(replicas: Replicas) {
    let tenant = replicas.tenant().await;
    for part in 0..5 {
        replicas.one.commit_exchanges(&batch(&tenant, part * 200, 200, 10), now()).await.unwrap();
    }
    let prune = |store: &SeaTrustStore| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut forgotten = 0;
            // While others commit, so that the last look finds nothing.
            for _ in 0..30 {
                forgotten += store.forget_replay_hashes(later(60), 50).await.unwrap();
            }
            forgotten
        })
    };
    let pruners = [prune(&replicas.one), prune(&replicas.other)];
    for round in 0..10 {
        let (alive, ended) = (batch(&tenant, 10_000 + round * 20, 20, 60), batch(&tenant, round * 100, 20, 10));
        assert_eq!(replicas.one.commit_exchanges(&alive, now()).await.unwrap(), [Committed; 20]);
        // Hashes that the pruners are at: their rows may be there or be gone, and nobody fails over it.
        replicas.other.commit_exchanges(&ended, now()).await.unwrap();
    }
    let mut forgotten = 0;
    for pruner in pruners {
        forgotten += pruner.await.unwrap();
    }
    assert!(forgotten >= 1_000, "{forgotten}");
    // Ending at the very second is not over yet.
    for round in 0..10 {
        let again = batch(&tenant, 10_000 + round * 20, 20, 60);
        assert_eq!(replicas.other.commit_exchanges(&again, now()).await.unwrap(), [Replayed; 20]);
    }
}

/// Not on SQLite, which has one writer at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s52_a_pruner_waits_for_nobody_and_nobody_for_it() {
    let replicas = postgres().await;
    let tenant = replicas.tenant().await;
    replicas.one.commit_exchanges(&batch(&tenant, 0, 10, 10), now()).await.unwrap();

    // A pruner in the middle of its work: four rows deleted, nothing decided.
    let pruner = replicas.one.database.writer().begin().await.unwrap();
    let delete = "DELETE FROM replay_hashes WHERE hash IN (SELECT hash FROM replay_hashes ORDER BY expires_at LIMIT 4)";
    pruner.execute_unprepared(delete).await.unwrap();
    let others = timeout(AT_ONCE, replicas.other.forget_replay_hashes(later(60), 100)).await.expect("waits for the other pruner");
    assert_eq!(others.unwrap(), 6);
    let alive = batch(&tenant, 100, 10, 600);
    let commit = replicas.other.commit_exchanges(&alive, now());
    assert_eq!(timeout(AT_ONCE, commit).await.expect("waits for the pruner").unwrap(), [Committed; 10]);
    pruner.rollback().await.unwrap();

    // A commit in the middle of its work.
    let open = replicas.one.database.writer().begin().await.unwrap();
    open.execute_unprepared("INSERT INTO replay_hashes (hash, expires_at) VALUES ('\\x00', 0)").await.unwrap();
    let forgotten = timeout(AT_ONCE, replicas.other.forget_replay_hashes(later(60), 100)).await.expect("waits for the commit");
    assert_eq!(forgotten.unwrap(), 4);
    open.commit().await.unwrap();
    assert_eq!(replicas.other.forget_replay_hashes(later(60), 100).await.unwrap(), 1);
}

/// Not on SQLite, whose planner has no such words.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pruning_finds_what_is_over_by_its_index() {
    let replicas = postgres().await;
    let fill = "INSERT INTO replay_hashes (hash, expires_at)
        SELECT decode(lpad(to_hex(n), 64, '0'), 'hex'), n * 1000000 FROM generate_series(1, 20000::bigint) AS n; ANALYZE replay_hashes";
    replicas.sql(fill).await.unwrap();
    let database = &replicas.one.database;
    let end = Timestamp::from_second(15_000).unwrap();
    let query = ended_hashes(database.backend(), end, 500).build(database.backend()).to_string();
    let plan = database.reader().query_all_raw(database.statement(format!("EXPLAIN {query}"), [])).await.unwrap();
    let plan: Vec<String> = plan.iter().map(|row| row.try_get("", "QUERY PLAN").unwrap()).collect();
    assert!(plan.iter().any(|step| step.contains("Index Scan using replay_hashes_by_end")), "{plan:#?}");
    assert_eq!(replicas.one.forget_replay_hashes(end, 500).await.unwrap(), 500);
}
