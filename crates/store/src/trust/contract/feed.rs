//! What gateways follow.

use super::*;

on_every_database! {
    the_directory_holds_every_workspace_and_its_urls
    changes_lead_from_any_place_to_the_present
    only_what_is_followed_is_read
    a_large_change_is_told_as_a_whole
    the_feed_follows_the_order_of_commits_without_gaps
    who_is_too_far_behind_is_told
}

async fn since(store: &SeaTrustStore, position: FeedPosition) -> (FeedPosition, Vec<DirectoryChange>, Vec<FollowedChange>) {
    match store.changes_since(position, &|_| true).await.unwrap() {
        FeedChanges::Upto { position, complete, directory, policies } => {
            assert!(complete);
            (position, directory, policies)
        }
        FeedChanges::Lost => panic!("nothing was forgotten"),
    }
}

async fn the_directory_holds_every_workspace_and_its_urls(replicas: Replicas) {
    let (empty, _) = replicas.one.directory().await.unwrap();
    assert_eq!(empty, FeedPosition(0));
    let tenant = replicas.tenant().await;
    replicas.issuer(&tenant.workspace.id, "https://second.example").await;
    let bare = replicas.workspace().await;
    let (position, mut entries) = replicas.other.directory().await.unwrap();
    assert_eq!(position, FeedPosition(5));
    entries.sort_by_key(|entry| entry.issuer_urls.len());
    let [bare_entry, entry] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!((&bare_entry.workspace_id, bare_entry.policy_revision), (&bare.id, 1));
    assert_eq!((&entry.workspace_id, entry.policy_revision, entry.state), (&tenant.workspace.id, 4, WorkspaceState::Active));
    let mut urls: Vec<_> = entry.issuer_urls.iter().map(countersign_domain::values::issuer_url::IssuerUrl::as_str).collect();
    urls.sort_unstable();
    assert_eq!(urls, ["https://cloud.rwx.com/mint", "https://second.example"]);
}

async fn changes_lead_from_any_place_to_the_present(replicas: Replicas) {
    let Replicas { one, other, .. } = &replicas;
    let tenant = replicas.tenant().await;
    let Tenant { workspace, issuer, relationship } = &tenant;
    let (position, _) = one.directory().await.unwrap();
    assert_eq!(since(other, position).await, (position, vec![], vec![]));

    // Several changes of one resource are one, and what was made and deleted meanwhile is only deleted.
    let settings = TrustRelationshipSettings { enabled: false, ..relationship.settings.clone() };
    one.update_trust_relationship(&workspace.id, &relationship.id, 1, relationship.settings.clone(), now()).await.unwrap();
    let updated = one.update_trust_relationship(&workspace.id, &relationship.id, 2, settings, now()).await.unwrap();
    let passing = replicas.relationship(issuer).await;
    one.delete_trust_relationship(&workspace.id, &passing.id, 1, now()).await.unwrap();
    let (next, directory, policies) = since(other, position).await;
    assert_eq!(next, FeedPosition(position.0 + 4));
    assert_eq!(
        policies,
        [FollowedChange::Changed(PolicyChange {
            workspace_id: workspace.id.clone(),
            state: WorkspaceState::Active,
            policy_revision: 7,
            trusted_issuers: vec![],
            trust_relationships: vec![updated],
            deleted_trusted_issuer_ids: vec![],
            deleted_trust_relationship_ids: vec![passing.id],
        })]
    );
    assert!(matches!(&directory[..], [DirectoryChange::Changed(entry)] if entry.policy_revision == 7));

    // The same place again gives the same answer; snapshot and changes agree.
    assert_eq!(since(one, position).await.2, policies);
    let snapshot = other.policy(&workspace.id).await.unwrap().unwrap();
    assert_eq!(snapshot.policy_revision, 7);
    assert_eq!(snapshot.trusted_issuers, std::slice::from_ref(issuer));

    one.delete_trust_relationship(&workspace.id, &relationship.id, 3, now()).await.unwrap();
    one.delete_trusted_issuer(&workspace.id, &issuer.id, 1, now()).await.unwrap();
    one.delete_workspace(&workspace.id, 1, now()).await.unwrap();
    let (_, directory, policies) = since(other, next).await;
    assert_eq!(directory, [DirectoryChange::Deleted(workspace.id.clone())]);
    assert_eq!(policies, [FollowedChange::Deleted(workspace.id.clone())]);
    assert_eq!(other.policy(&workspace.id).await.unwrap(), None);
}

async fn only_what_is_followed_is_read(replicas: Replicas) {
    let (followed, ignored) = (replicas.tenant().await, replicas.tenant().await);
    let changes = replicas.one.changes_since(FeedPosition(0), &|id| *id == followed.workspace.id).await.unwrap();
    let FeedChanges::Upto { directory, policies, .. } = changes else { panic!("nothing was forgotten") };
    assert_eq!(directory.len(), 2);
    assert!(matches!(&policies[..], [FollowedChange::Changed(change)] if change.workspace_id == followed.workspace.id));
    drop(ignored);
}

async fn a_large_change_is_told_as_a_whole(replicas: Replicas) {
    let tenant = replicas.tenant().await;
    let (position, _) = replicas.one.directory().await.unwrap();
    for _ in 0..501 {
        replicas.relationship(&tenant.issuer).await;
    }
    let (_, _, policies) = since(&replicas.other, position).await;
    let [FollowedChange::Replaced(snapshot)] = &policies[..] else { panic!("{} changes", policies.len()) };
    assert_eq!(snapshot.trust_relationships.len(), 502);
}

async fn the_feed_follows_the_order_of_commits_without_gaps(replicas: Replicas) {
    let tenants = [replicas.tenant().await, replicas.tenant().await, replicas.tenant().await];
    let (mut position, _) = replicas.one.directory().await.unwrap();
    let writers = (0..30).map(|index: usize| {
        let store = if index.is_multiple_of(2) { replicas.one.clone() } else { replicas.other.clone() };
        let new = replicas.new_relationship(&tenants[index % 3].issuer);
        tokio::spawn(async move { store.create_trust_relationship(new, now()).await.unwrap() })
    });
    let mut writers = Box::pin(futures::future::join_all(writers.collect::<Vec<_>>()));
    let mut seen = std::collections::BTreeMap::new();
    let mut done = false;
    // Read while they write: whoever reads never misses what was committed before a later number.
    while !done || position != FeedPosition(9 + 30) {
        if !done {
            done = tokio::time::timeout(Duration::from_millis(1), &mut writers).await.is_ok();
        }
        let (next, _, policies) = since(&replicas.other, position).await;
        assert!(next >= position);
        position = next;
        for change in policies {
            let FollowedChange::Changed(change) = change else { panic!("{change:?}") };
            for relationship in change.trust_relationships {
                seen.insert(relationship.id, change.policy_revision);
            }
        }
    }
    assert_eq!(seen.len(), 30);
}

async fn who_is_too_far_behind_is_told(replicas: Replicas) {
    replicas.tenant().await;
    assert_eq!(replicas.one.forget_policy_changes(now(), 100).await.unwrap(), 0);
    assert_eq!(replicas.one.forget_policy_changes(later(1), 2).await.unwrap(), 2);
    let lost = |position| {
        let store = replicas.other.clone();
        async move { store.changes_since(FeedPosition(position), &|_| true).await.unwrap() == FeedChanges::Lost }
    };
    assert!(lost(0).await && lost(1).await);
    assert!(!lost(2).await && !lost(3).await);
    // The place of another database, or of a backup that was restored.
    assert!(lost(99).await);
}
