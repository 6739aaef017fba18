//! The commit point.

use std::sync::atomic::{AtomicBool, Ordering};

use countersign_domain::exchange::commit::CommitOutcome::{Committed, Disabled, Replayed, Stale};
use sea_orm::{EntityTrait as _, QueryOrder as _};

use super::*;

on_every_database! {
    s49_of_many_commits_of_one_token_on_two_replicas_one_is_committed
    s52_of_equal_hashes_in_one_batch_the_first_wins
    s48_only_what_is_live_claims_its_hash
    s30_outcomes_follow_the_state_at_the_commit
    s30_nothing_is_committed_after_a_relationship_was_disabled_under_load
    s33_ids_of_different_workspaces_do_not_mix
    s74_each_commit_has_one_audit_event
    s74_without_its_audit_event_nothing_is_committed
    s51_a_commit_that_the_database_refuses_committed_nothing
    s51_a_connection_lost_at_the_commit_leaves_the_outcome_unknown
    s74_audit_events_are_only_ever_added
    s50_a_hash_is_kept_to_its_end_and_forgotten_after
    reusable_tokens_leave_no_hash
}

async fn commit(store: &SeaTrustStore, exchange: ExchangeCommit) -> CommitOutcome {
    store.commit_exchanges(&[exchange], now()).await.unwrap()[0]
}

async fn s49_of_many_commits_of_one_token_on_two_replicas_one_is_committed(replicas: Replicas) {
    let tenant = replicas.tenant().await;
    for token in 0..3 {
        let attempts = (0..40).map(|attempt| {
            let store = if attempt % 2 == 0 { replicas.one.clone() } else { replicas.other.clone() };
            // Batches that share several hashes in different orders.
            let mut batch: Vec<_> = (0..4).map(|step| tenant.exchange(token * 4 + (attempt + step) % 4)).collect();
            if attempt % 3 == 0 {
                batch.reverse();
            }
            tokio::spawn(async move { store.commit_exchanges(&batch, now()).await.unwrap() })
        });
        let outcomes: Vec<_> = futures::future::join_all(attempts).await.into_iter().flat_map(Result::unwrap).collect();
        let committed = outcomes.iter().filter(|outcome| **outcome == Committed).count();
        assert_eq!(committed, 4, "each of four tokens once");
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Committed | Replayed)));
    }
    assert_eq!(replicas.audit_count().await, 12);
}

async fn s52_of_equal_hashes_in_one_batch_the_first_wins(replicas: Replicas) {
    let tenant = replicas.tenant().await;
    let batch = [1, 2, 1, 2, 1].map(|token| tenant.exchange(token));
    let outcomes = replicas.one.commit_exchanges(&batch, now()).await.unwrap();
    assert_eq!(outcomes, [Committed, Committed, Replayed, Replayed, Replayed]);
    let outcomes = replicas.other.commit_exchanges(&batch, now()).await.unwrap();
    assert_eq!(outcomes, [Replayed; 5]);
}

async fn s48_only_what_is_live_claims_its_hash(replicas: Replicas) {
    let tenant = replicas.tenant().await;
    let stale = ExchangeCommit { trust_relationship_revision: 7, ..tenant.exchange(1) };
    // The stale one stands first, and still does not take the hash from the honest one.
    let outcomes = replicas.one.commit_exchanges(&[stale.clone(), tenant.exchange(1)], now()).await.unwrap();
    assert_eq!(outcomes, [Stale, Committed]);
    assert_eq!(commit(&replicas.one, stale).await, Stale);
}

async fn s30_outcomes_follow_the_state_at_the_commit(replicas: Replicas) {
    let Replicas { one, other, .. } = &replicas;
    let tenant = replicas.tenant().await;
    let Tenant { workspace, issuer, relationship } = &tenant;
    assert_eq!(commit(other, tenant.exchange(1)).await, Committed);
    assert_eq!(other.commit_exchanges(&[tenant.exchange(2)], later(86_400)).await.unwrap(), [Disabled], "expired");

    let settings = TrustRelationshipSettings { enabled: false, ..relationship.settings.clone() };
    one.update_trust_relationship(&workspace.id, &relationship.id, 1, settings, now()).await.unwrap();
    assert_eq!(commit(other, tenant.exchange(2)).await, Disabled);
    one.update_trust_relationship(&workspace.id, &relationship.id, 2, relationship.settings.clone(), now()).await.unwrap();
    assert_eq!(commit(other, tenant.exchange(2)).await, Stale);
    let current = |token| ExchangeCommit { trust_relationship_revision: 3, ..tenant.exchange(token) };
    assert_eq!(commit(other, current(2)).await, Committed);

    let settings = TrustedIssuerSettings { enabled: false, ..issuer.settings.clone() };
    one.update_trusted_issuer(&workspace.id, &issuer.id, 1, settings, &anything, now()).await.unwrap();
    assert_eq!(commit(other, current(3)).await, Disabled);
    one.update_trusted_issuer(&workspace.id, &issuer.id, 2, issuer.settings.clone(), &anything, now()).await.unwrap();
    assert_eq!(commit(other, current(3)).await, Stale);
    let current = |token| ExchangeCommit { trusted_issuer_revision: 3, ..current(token) };
    assert_eq!(commit(other, current(3)).await, Committed);

    let disabled = WorkspaceSettings { state: WorkspaceState::Disabled, ..workspace.settings() };
    one.update_workspace(&workspace.id, 1, disabled, now()).await.unwrap();
    assert_eq!(commit(other, current(4)).await, Disabled);
    one.update_workspace(&workspace.id, 2, workspace.settings(), now()).await.unwrap();
    assert_eq!(commit(other, current(4)).await, Committed);

    one.delete_trust_relationship(&workspace.id, &relationship.id, 3, now()).await.unwrap();
    assert_eq!(commit(other, current(5)).await, Disabled);
    let unknown = ExchangeCommit { workspace_id: WorkspaceId::from_random([0; 16]), ..current(5) };
    assert_eq!(commit(other, unknown).await, Disabled);
}

async fn s30_nothing_is_committed_after_a_relationship_was_disabled_under_load(replicas: Replicas) {
    let tenant = Arc::new(replicas.tenant().await);
    let (disabled, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let workers: Vec<_> = (0..8_u64)
        .map(|worker| {
            let store = if worker % 2 == 0 { replicas.one.clone() } else { replicas.other.clone() };
            let (tenant, disabled, stop) = (tenant.clone(), disabled.clone(), stop.clone());
            tokio::spawn(async move {
                let (mut token, mut committed) = (worker << 32, 0);
                while !stop.load(Ordering::SeqCst) {
                    let after = disabled.load(Ordering::SeqCst);
                    token += 1;
                    match commit(&store, tenant.exchange(token)).await {
                        Committed => {
                            assert!(!after, "committed though disabled before it began");
                            committed += 1;
                        }
                        outcome => assert_eq!(outcome, Disabled),
                    }
                }
                committed
            })
        })
        .collect();
    countersign_testkit::wait::until("a load of commits", || async { replicas.audit_count().await > 20 }).await;
    let Tenant { workspace, relationship, .. } = &*tenant;
    let settings = TrustRelationshipSettings { enabled: false, ..relationship.settings.clone() };
    // A stream of commits does not keep the operator waiting.
    let update = replicas.other.update_trust_relationship(&workspace.id, &relationship.id, 1, settings, now());
    tokio::time::timeout(Duration::from_secs(10), update).await.expect("starved").unwrap();
    disabled.store(true, Ordering::SeqCst);
    let audited = replicas.audit_count().await;
    for token in 0..50 {
        assert_eq!(commit(&replicas.one, tenant.exchange(token)).await, Disabled);
    }
    stop.store(true, Ordering::SeqCst);
    let committed: i64 = futures::future::join_all(workers).await.into_iter().map(Result::unwrap).sum();
    assert_eq!(replicas.audit_count().await, audited, "nothing came after the change");
    assert_eq!(committed, audited, "what was committed is in the log, once");
}

async fn s33_ids_of_different_workspaces_do_not_mix(replicas: Replicas) {
    let (ours, theirs) = (replicas.tenant().await, replicas.tenant().await);
    let second = replicas.issuer(&ours.workspace.id, "https://second.example").await;
    for mixed in [
        ExchangeCommit { workspace_id: theirs.workspace.id.clone(), ..ours.exchange(1) },
        ExchangeCommit { trusted_issuer_id: theirs.issuer.id.clone(), ..ours.exchange(1) },
        ExchangeCommit { trust_relationship_id: theirs.relationship.id.clone(), ..ours.exchange(1) },
        // The same workspace, but not the relationship's issuer.
        ExchangeCommit { trusted_issuer_id: second.id, ..ours.exchange(1) },
    ] {
        assert_eq!(commit(&replicas.one, mixed).await, Disabled);
    }
    assert_eq!(replicas.audit_count().await, 0);
}

async fn s74_each_commit_has_one_audit_event(replicas: Replicas) {
    let tenant = replicas.tenant().await;
    let exchanges: Vec<_> = (0..200).map(|token| tenant.exchange(token)).collect();
    let outcomes = replicas.one.commit_exchanges(&exchanges, now()).await.unwrap();
    assert!(outcomes.iter().all(|outcome| *outcome == Committed));
    assert_eq!(replicas.audit_count().await, 200);
    assert_eq!(replicas.count("SELECT count(DISTINCT access_token_id) AS n FROM audit_events").await, 200);

    let event = entity::audit_event::Entity::find().order_by_asc(entity::audit_event::Column::Sequence);
    let event = event.one(replicas.other.database.reader()).await.unwrap().unwrap();
    assert_eq!(event.workspace_id, tenant.workspace.id.as_str());
    assert_eq!((event.kind.as_str(), event.decision.as_str(), event.reason), ("exchange", "allowed", None));
    assert_eq!(event.time, now().as_microsecond());
    assert_eq!(event.request_id, "req-1");
    assert_eq!(event.trust_relationship_id.as_deref(), Some(tenant.relationship.id.as_str()));
    let revisions = (event.policy_revision, event.trusted_issuer_revision, event.trust_relationship_revision);
    assert_eq!(revisions, (Some(3), Some(1), Some(1)));
    assert_eq!(event.subject_issuer.as_deref(), Some("https://cloud.rwx.com/mint"));
    assert_eq!(event.subject.as_deref(), Some("org:my-org:vault:deploy-vault"));
    assert_eq!(event.subject_token_hash, Some(vec![9; 32]));
    assert_eq!((event.subject_token_id, event.subject_key_id.as_deref()), (None, Some("k1")));
    assert!(event.access_token_id.is_some_and(|id| id.starts_with("at")));
    assert_eq!(event.access_token_audiences.as_deref(), Some("[\"https://api.example\"]"));
    assert_eq!(event.scopes.as_deref(), Some("[\"deploy\"]"));
    assert_eq!(event.access_token_expires_at, Some(later(300).as_microsecond()));
}

async fn s74_without_its_audit_event_nothing_is_committed(replicas: Replicas) {
    let tenant = replicas.tenant().await;
    let postgres = replicas.one.database.backend() == sea_orm::DatabaseBackend::Postgres;
    if postgres {
        replicas
            .sql(
                "CREATE FUNCTION break_audit() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN IF NEW.access_token_id = 'at2' THEN RAISE EXCEPTION 'broken'; END IF; RETURN NEW; END $$;
                CREATE TRIGGER break_audit BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION break_audit()",
            )
            .await
            .unwrap();
    } else {
        replicas
            .sql(
                "CREATE TRIGGER break_audit BEFORE INSERT ON audit_events WHEN NEW.access_token_id = 'at2'
                BEGIN SELECT RAISE(ABORT, 'broken'); END",
            )
            .await
            .unwrap();
    }
    let batch = [1, 2, 3].map(|token| tenant.exchange(token));
    let error = replicas.one.commit_exchanges(&batch, now()).await.unwrap_err();
    assert!(matches!(error, CommitError::NothingCommitted(_)), "{error:?}");
    assert_eq!(replicas.audit_count().await, 0);
    assert_eq!(replicas.count("SELECT count(*) AS n FROM replay_hashes").await, 0);

    replicas.sql(if postgres { "DROP TRIGGER break_audit ON audit_events" } else { "DROP TRIGGER break_audit" }).await.unwrap();
    let outcomes = replicas.other.commit_exchanges(&batch, now()).await.unwrap();
    assert_eq!(outcomes, [Committed; 3], "the honest retry works");
}

async fn s51_a_commit_that_the_database_refuses_committed_nothing(replicas: Replicas) {
    let tenant = replicas.tenant().await;
    // A constraint that is checked at the COMMIT: all statements pass, and it fails.
    let sql = if replicas.one.database.backend() == sea_orm::DatabaseBackend::Postgres {
        "CREATE TABLE nobody (id text PRIMARY KEY);
        ALTER TABLE audit_events ADD CONSTRAINT impossible FOREIGN KEY (access_token_id) REFERENCES nobody (id)
            DEFERRABLE INITIALLY DEFERRED"
    } else {
        "CREATE TABLE nobody (id text PRIMARY KEY);
        CREATE TABLE impossible (id text REFERENCES nobody (id) DEFERRABLE INITIALLY DEFERRED);
        CREATE TRIGGER impossible AFTER INSERT ON audit_events BEGIN INSERT INTO impossible VALUES (NEW.access_token_id); END"
    };
    replicas.sql(sql).await.unwrap();
    let error = replicas.one.commit_exchanges(&[tenant.exchange(1)], now()).await.unwrap_err();
    assert!(matches!(error, CommitError::NothingCommitted(_)), "{error:?}");
    assert_eq!(replicas.audit_count().await, 0);
    assert_eq!(replicas.count("SELECT count(*) AS n FROM replay_hashes").await, 0);
    replicas.sql("DROP TABLE replay_hashes").await.unwrap();
    let error = replicas.one.commit_exchanges(&[tenant.exchange(2)], now()).await.unwrap_err();
    assert!(matches!(error, CommitError::NothingCommitted(_)), "{error:?}");
}

async fn s51_a_connection_lost_at_the_commit_leaves_the_outcome_unknown(replicas: Replicas) {
    if replicas.one.database.backend() != sea_orm::DatabaseBackend::Postgres {
        // SQLite is in the process: there is no connection to lose.
        return;
    }
    let tenant = replicas.tenant().await;
    replicas
        .sql(
            "CREATE FUNCTION hang_up() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
            CREATE CONSTRAINT TRIGGER hang_up AFTER INSERT ON audit_events DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION hang_up()",
        )
        .await
        .unwrap();
    let error = replicas.one.commit_exchanges(&[tenant.exchange(1)], now()).await.unwrap_err();
    assert!(matches!(error, CommitError::OutcomeUnknown(_)), "{error:?}");
}

async fn s74_audit_events_are_only_ever_added(replicas: Replicas) {
    let tenant = replicas.tenant().await;
    assert_eq!(commit(&replicas.one, tenant.exchange(1)).await, Committed);
    replicas.sql("UPDATE audit_events SET decision = 'refused'").await.unwrap_err();
    replicas.sql("DELETE FROM audit_events").await.unwrap_err();
    if replicas.one.database.backend() == sea_orm::DatabaseBackend::Postgres {
        replicas.sql("TRUNCATE audit_events").await.unwrap_err();
    }
    assert_eq!(replicas.count("SELECT count(*) AS n FROM audit_events WHERE decision = 'allowed'").await, 1);
}

async fn s50_a_hash_is_kept_to_its_end_and_forgotten_after(replicas: Replicas) {
    let tenant = replicas.tenant().await;
    let batch: Vec<_> = (0..10).map(|token| tenant.exchange(token)).collect();
    replicas.one.commit_exchanges(&batch, now()).await.unwrap();
    assert_eq!(replicas.one.forget_replay_hashes(later(600), 100).await.unwrap(), 0);
    assert_eq!(commit(&replicas.other, tenant.exchange(1)).await, Replayed);
    assert_eq!(replicas.one.forget_replay_hashes(later(601), 4).await.unwrap(), 4);
    let (one, other) =
        tokio::join!(replicas.one.forget_replay_hashes(later(601), 4), replicas.other.forget_replay_hashes(later(601), 4));
    let again = replicas.one.forget_replay_hashes(later(601), 100).await.unwrap();
    assert_eq!(one.unwrap() + other.unwrap() + again, 6);
}

async fn reusable_tokens_leave_no_hash(replicas: Replicas) {
    let tenant = replicas.tenant().await;
    let reusable = ExchangeCommit { replay: None, ..tenant.exchange(1) };
    let batch = [reusable.clone(), reusable.clone()];
    assert_eq!(replicas.one.commit_exchanges(&batch, now()).await.unwrap(), [Committed; 2]);
    assert_eq!(commit(&replicas.other, reusable).await, Committed);
    assert_eq!(replicas.audit_count().await, 3);
    assert_eq!(replicas.one.commit_exchanges(&[], now()).await.unwrap(), []);
}
