//! Workspaces, trusted issuers, trust relationships.

use super::*;

on_every_database! {
    resources_read_back_as_they_were_written
    lists_are_in_the_order_of_creation_and_continue_behind_their_last_element
    a_write_needs_the_revision_that_was_read
    one_url_is_registered_once_in_a_workspace
    what_is_referred_to_is_not_deleted
    s33_nothing_of_one_workspace_is_reached_from_another
    every_change_raises_the_policy_revision_by_one
    a_workspace_holds_no_more_than_its_quotas
    key_sets_and_certificates_of_a_workspace_have_a_limit_together
    concurrent_creations_of_workspaces_stop_at_the_quota
    s69_an_issuer_is_changed_by_who_may_give_what_its_relationships_give_at_the_commit
    s69_the_reserved_scopes_behind_an_issuer_are_those_of_its_own_workspace_enabled_or_not
}

async fn resources_read_back_as_they_were_written(replicas: Replicas) {
    let Replicas { one, other, .. } = &replicas;
    let Tenant { workspace, issuer, relationship } = replicas.tenant().await;
    let read = other.workspace(&workspace.id).await.unwrap().unwrap();
    assert_eq!(read, Workspace { policy_revision: 3, ..workspace.clone() });
    assert_eq!(other.trusted_issuer(&workspace.id, &issuer.id).await.unwrap().as_ref(), Some(&issuer));
    assert_eq!(other.trust_relationship(&workspace.id, &relationship.id).await.unwrap().as_ref(), Some(&relationship));

    let settings = TrustedIssuerSettings {
        enabled: false,
        clock_skew: Duration::ZERO,
        key_source: KeySource::Fetched {
            jwks_url: Some("https://keys.example/jwks?v=1".parse().unwrap()),
            authorities: Some("-----BEGIN CERTIFICATE-----".parse().unwrap()),
            max_stale_age: Duration::ZERO,
        },
        issuer_url: "https://elsewhere.example".parse().unwrap(),
        ..issuer.settings.clone()
    };
    let updated = one.update_trusted_issuer(&workspace.id, &issuer.id, 1, settings.clone(), &anything, later(1)).await.unwrap();
    let issuer_url = issuer.settings.issuer_url.clone();
    let expected = TrustedIssuerSettings { issuer_url, ..settings };
    assert_eq!((&updated.settings, updated.revision), (&expected, 2), "the URL never changes");
    assert_eq!(other.trusted_issuer(&workspace.id, &issuer.id).await.unwrap(), Some(updated));

    let key_source = KeySource::Uploaded { key_set: r#"{"keys":[]}"#.parse().unwrap(), not_after: later(7) };
    let settings = TrustedIssuerSettings { key_source, ..expected };
    let updated = one.update_trusted_issuer(&workspace.id, &issuer.id, 2, settings.clone(), &anything, later(1)).await.unwrap();
    assert_eq!(updated.settings, settings);
    assert_eq!(other.trusted_issuer(&workspace.id, &issuer.id).await.unwrap(), Some(updated));

    let settings = TrustRelationshipSettings { display_name: None, expires_at: None, ..relationship.settings.clone() };
    let updated = one.update_trust_relationship(&workspace.id, &relationship.id, 1, settings, later(1)).await.unwrap();
    assert_eq!(other.trust_relationship(&workspace.id, &relationship.id).await.unwrap(), Some(updated));

    let settings = WorkspaceSettings { display_name: "New".parse().unwrap(), state: WorkspaceState::Disabled };
    let updated = one.update_workspace(&workspace.id, 1, settings, later(1)).await.unwrap();
    assert_eq!(other.workspace(&workspace.id).await.unwrap(), Some(updated));
}

async fn lists_are_in_the_order_of_creation_and_continue_behind_their_last_element(replicas: Replicas) {
    let Tenant { workspace, issuer, relationship } = replicas.tenant().await;
    let mut expected = vec![relationship.id];
    for second in [0, 0, 0, 1, 2] {
        let new = replicas.new_relationship(&issuer);
        let created = replicas.one.create_trust_relationship(new, later(second)).await.unwrap();
        expected.push(created.id);
    }
    // The first four were created at once.
    expected[..4].sort();
    let mut seen = Vec::new();
    let mut page = Page { after: None, limit: 2 };
    loop {
        let part = replicas.other.list_trust_relationships(&workspace.id, None, &page).await.unwrap();
        let Some(last) = part.last() else { break };
        page.after = Some(PageKey { created_at: last.created_at, id: last.id.to_string() });
        seen.extend(part.into_iter().map(|relationship| relationship.id));
    }
    assert_eq!(seen, expected);
    let of_other = TrustedIssuerId::from_random([0; 16]);
    assert!(replicas.one.list_trust_relationships(&workspace.id, Some(&of_other), &super::page()).await.unwrap().is_empty());
    let of_issuer = replicas.one.list_trust_relationships(&workspace.id, Some(&issuer.id), &super::page()).await.unwrap();
    assert_eq!(of_issuer.len(), 6);

    let second = replicas.workspace().await;
    assert_eq!(replicas.one.list_workspaces(None, &super::page()).await.unwrap().len(), 2);
    let only = replicas.one.list_workspaces(Some(&second.id), &super::page()).await.unwrap();
    assert_eq!(only, [second]);
}

async fn a_write_needs_the_revision_that_was_read(replicas: Replicas) {
    let Replicas { one, .. } = &replicas;
    let Tenant { workspace, issuer, relationship } = replicas.tenant().await;
    let (ws, is, tr) = (&workspace.id, &issuer.id, &relationship.id);
    let changed = |result: Result<(), WriteError>| assert!(matches!(result, Err(WriteError::Changed)), "{result:?}");
    for stale in [0, 2] {
        changed(one.update_workspace(ws, stale, workspace.settings(), now()).await.map(|_| ()));
        changed(one.update_trusted_issuer(ws, is, stale, issuer.settings.clone(), &anything, now()).await.map(|_| ()));
        changed(one.update_trust_relationship(ws, tr, stale, relationship.settings.clone(), now()).await.map(|_| ()));
        changed(one.delete_trust_relationship(ws, tr, stale, now()).await);
        changed(one.delete_trusted_issuer(ws, is, stale, now()).await);
    }
    // Of two writers who read the same revision, one is told.
    let write = |store: &SeaTrustStore| {
        let (store, workspace, relationship) = (store.clone(), workspace.clone(), relationship.clone());
        async move { store.update_trust_relationship(&workspace.id, &relationship.id, 1, relationship.settings.clone(), now()).await }
    };
    let (first, second) = tokio::join!(write(&replicas.one), write(&replicas.other));
    assert_eq!([first.is_ok(), second.is_ok()].iter().filter(|ok| **ok).count(), 1, "{first:?} {second:?}");

    one.delete_trust_relationship(ws, tr, 2, now()).await.unwrap();
    one.delete_trusted_issuer(ws, is, 1, now()).await.unwrap();
    changed(one.delete_workspace(ws, 2, now()).await);
    one.delete_workspace(ws, 1, now()).await.unwrap();
    assert_eq!(one.workspace(ws).await.unwrap(), None);
}

async fn one_url_is_registered_once_in_a_workspace(replicas: Replicas) {
    let Tenant { workspace, issuer, .. } = replicas.tenant().await;
    let other = replicas.workspace().await;
    replicas.issuer(&other.id, issuer.settings.issuer_url.as_str()).await;
    // A trailing slash is part of the name.
    replicas.issuer(&workspace.id, "https://cloud.rwx.com/mint/").await;
    let again =
        replicas.other.create_trusted_issuer(&workspace.id, TrustedIssuerId::from_random([5; 16]), issuer.settings, now()).await;
    assert!(matches!(again, Err(WriteError::AlreadyExists)), "{again:?}");
}

async fn what_is_referred_to_is_not_deleted(replicas: Replicas) {
    let Tenant { workspace, issuer, .. } = replicas.tenant().await;
    let referenced = |result: Result<(), WriteError>| assert!(matches!(result, Err(WriteError::Referenced)), "{result:?}");
    referenced(replicas.one.delete_workspace(&workspace.id, 1, now()).await);
    referenced(replicas.one.delete_trusted_issuer(&workspace.id, &issuer.id, 1, now()).await);
}

async fn s33_nothing_of_one_workspace_is_reached_from_another(replicas: Replicas) {
    let Replicas { one, .. } = &replicas;
    let victim = replicas.tenant().await;
    let (intruder, unknown) = (replicas.workspace().await.id, WorkspaceId::from_random([0; 16]));
    let (is, tr) = (&victim.issuer.id, &victim.relationship.id);
    let missing = |result: Result<(), WriteError>, what| {
        assert!(matches!(result, Err(WriteError::NotFound(resource)) if resource == what), "{result:?}");
    };
    for (ws, issuer, relationship) in
        [(&intruder, Resource::TrustedIssuer, Resource::TrustRelationship), (&unknown, Resource::Workspace, Resource::Workspace)]
    {
        assert_eq!(one.trusted_issuer(ws, is).await.unwrap(), None);
        assert_eq!(one.trust_relationship(ws, tr).await.unwrap(), None);
        assert!(one.list_trusted_issuers(ws, &page()).await.unwrap().is_empty());
        assert!(one.list_trust_relationships(ws, Some(is), &page()).await.unwrap().is_empty());
        let settings = victim.issuer.settings.clone();
        missing(one.update_trusted_issuer(ws, is, 1, settings, &anything, now()).await.map(|_| ()), issuer);
        let settings = victim.relationship.settings.clone();
        missing(one.update_trust_relationship(ws, tr, 1, settings, now()).await.map(|_| ()), relationship);
        missing(one.delete_trusted_issuer(ws, is, 1, now()).await, issuer);
        missing(one.delete_trust_relationship(ws, tr, 1, now()).await, relationship);
        let new = NewTrustRelationship { workspace_id: ws.clone(), ..replicas.new_relationship(&victim.issuer) };
        missing(one.create_trust_relationship(new, now()).await.map(|_| ()), issuer);
    }
    assert_eq!(one.trusted_issuer(&victim.workspace.id, is).await.unwrap(), Some(victim.issuer));
    assert_eq!(one.trust_relationship(&victim.workspace.id, tr).await.unwrap(), Some(victim.relationship));
}

async fn every_change_raises_the_policy_revision_by_one(replicas: Replicas) {
    let Tenant { workspace, issuer, relationship } = replicas.tenant().await;
    let revision = || async { replicas.one.workspace(&workspace.id).await.unwrap().unwrap().policy_revision };
    assert_eq!(revision().await, 3);
    let (ws, tr) = (&workspace.id, &relationship.id);
    replicas.one.update_trust_relationship(ws, tr, 1, relationship.settings, now()).await.unwrap();
    assert_eq!(revision().await, 4);
    replicas.one.delete_trust_relationship(ws, tr, 2, now()).await.unwrap();
    assert_eq!(revision().await, 5);
    // What fails changes nothing.
    replicas.one.delete_trusted_issuer(ws, &issuer.id, 7, now()).await.unwrap_err();
    assert_eq!(revision().await, 5);
}

async fn a_workspace_holds_no_more_than_its_quotas(mut replicas: Replicas) {
    let quotas = TrustQuotas { trusted_issuers: 2, trust_relationships: 3, ..TrustQuotas::default() };
    (replicas.one, replicas.other) = (replicas.one.with_quotas(quotas), replicas.other.with_quotas(quotas));
    let (ours, theirs) = (replicas.tenant().await, replicas.tenant().await);
    let second = replicas.issuer(&ours.workspace.id, "https://second.example").await;
    let create = |store: &SeaTrustStore, workspace: &Workspace, url: &str| {
        let (store, workspace_id, settings) = (store.clone(), workspace.id.clone(), issuer_settings(url));
        let id = TrustedIssuerId::from_random(replicas.entropy.bits128());
        async move { store.create_trusted_issuer(&workspace_id, id, settings, now()).await }
    };
    let refused = create(&replicas.one, &ours.workspace, "https://third.example").await.unwrap_err();
    assert!(matches!(refused, WriteError::QuotaReached { resource: Resource::TrustedIssuer, most: 2, .. }), "{refused:?}");
    create(&replicas.one, &theirs.workspace, "https://third.example").await.unwrap();
    replicas.one.delete_trusted_issuer(&ours.workspace.id, &second.id, 1, now()).await.unwrap();
    create(&replicas.one, &ours.workspace, "https://third.example").await.unwrap();

    // Replicas that create at once do not pass it together.
    let attempts = (0..8).map(|attempt| {
        let store = if attempt % 2 == 0 { replicas.one.clone() } else { replicas.other.clone() };
        let new = replicas.new_relationship(&ours.issuer);
        async move { store.create_trust_relationship(new, now()).await }
    });
    let (created, refused): (Vec<_>, Vec<_>) = futures::future::join_all(attempts).await.into_iter().partition(Result::is_ok);
    assert_eq!((created.len(), refused.len()), (2, 6));
    for error in refused.into_iter().filter_map(Result::err) {
        assert!(matches!(error, WriteError::QuotaReached { resource: Resource::TrustRelationship, most: 3, .. }), "{error:?}");
    }
}

async fn concurrent_creations_of_workspaces_stop_at_the_quota(replicas: Replicas) {
    let quotas = TrustQuotas { workspaces: 3, ..TrustQuotas::default() };
    let stores = [replicas.one.clone().with_quotas(quotas), replicas.other.clone().with_quotas(quotas)];
    let create = |store: &SeaTrustStore| {
        let (store, id) = (store.clone(), WorkspaceId::from_random(replicas.entropy.bits128()));
        let settings = WorkspaceSettings { display_name: "Acme".parse().unwrap(), state: WorkspaceState::Active };
        async move { store.create_workspace(id, settings, now()).await }
    };
    let attempts = (0..10).map(|attempt| create(&stores[attempt % 2]));
    let (created, refused): (Vec<_>, Vec<_>) = futures::future::join_all(attempts).await.into_iter().partition(Result::is_ok);
    assert_eq!((created.len(), refused.len()), (3, 7));
    for error in refused.into_iter().filter_map(Result::err) {
        assert!(matches!(error, WriteError::QuotaReached { owner: None, resource: Resource::Workspace, most: 3 }), "{error:?}");
    }
    let first = created.into_iter().flatten().next().unwrap();
    stores[0].delete_workspace(&first.id, 1, now()).await.unwrap();
    create(&stores[1]).await.expect("a deleted workspace does not count");
}

fn pinned(url: &str) -> KeySource {
    let jwks_url = Some(url.parse().unwrap());
    KeySource::Fetched { jwks_url, authorities: None, max_stale_age: KeySource::DEFAULT_MAX_STALE_AGE }
}

async fn key_sets_and_certificates_of_a_workspace_have_a_limit_together(mut replicas: Replicas) {
    let quotas = TrustQuotas { key_material_characters: 100, ..TrustQuotas::default() };
    replicas.one = replicas.one.with_quotas(quotas);
    let workspace = replicas.workspace().await;
    let uploaded = |length: usize| KeySource::Uploaded { key_set: "x".repeat(length).parse().unwrap(), not_after: later(7) };
    let certified = |length: usize| KeySource::Fetched {
        jwks_url: None,
        authorities: Some("x".repeat(length).parse().unwrap()),
        max_stale_age: Duration::ZERO,
    };
    let create = |url: &str, key_source| {
        let settings = TrustedIssuerSettings { key_source, ..issuer_settings(url) };
        let (store, workspace_id, id) = (replicas.one.clone(), workspace.id.clone(), replicas.entropy.bits128());
        async move { store.create_trusted_issuer(&workspace_id, TrustedIssuerId::from_random(id), settings, now()).await }
    };
    let is_too_long =
        |result: &Result<TrustedIssuer, WriteError>| matches!(result, Err(WriteError::KeyMaterialTooLong { most: 100, .. }));
    let first = create("https://a.example", uploaded(60)).await.unwrap();
    assert!(is_too_long(&create("https://b.example", certified(41)).await));
    create("https://b.example", certified(40)).await.unwrap();
    create("https://c.example", KeySource::default()).await.unwrap();
    // What it holds itself does not count against its replacement.
    let settings = |key_source| TrustedIssuerSettings { key_source, ..first.settings.clone() };
    let update = |revision, settings| {
        let (store, workspace_id, id) = (replicas.one.clone(), workspace.id.clone(), first.id.clone());
        async move { store.update_trusted_issuer(&workspace_id, &id, revision, settings, &anything, now()).await }
    };
    assert!(is_too_long(&update(1, settings(uploaded(61))).await));
    update(1, settings(certified(60))).await.unwrap();
    let other = replicas.workspace().await;
    let settings = TrustedIssuerSettings { key_source: uploaded(100), ..first.settings.clone() };
    replicas.one.create_trusted_issuer(&other.id, TrustedIssuerId::from_random([9; 16]), settings, now()).await.unwrap();
}

async fn s69_an_issuer_is_changed_by_who_may_give_what_its_relationships_give_at_the_commit(replicas: Replicas) {
    let Tenant { workspace, issuer, relationship } = replicas.tenant().await;
    let second = replicas.issuer(&workspace.id, "https://second.example").await;
    let scopes = ["a-countersign:", "countersign:issuers.get", "countersign:issuers.create"].map(|text| text.parse().unwrap());
    let settings = TrustRelationshipSettings { scopes: scopes.to_vec(), ..relationship.settings };
    replicas.one.update_trust_relationship(&workspace.id, &relationship.id, 1, settings, now()).await.unwrap();
    let [_, get, create] = scopes;

    // Every scope below the prefix is asked for, and no other.
    let asked = std::sync::Mutex::new(Vec::new());
    let refuses_get = |scope: &Scope| {
        asked.lock().unwrap().push(scope.clone());
        *scope != get
    };
    let update = |issuer: &TrustedIssuer, settings: TrustedIssuerSettings, may_give| {
        let (store, workspace_id, id) = (replicas.other.clone(), workspace.id.clone(), issuer.id.clone());
        async move { store.update_trusted_issuer(&workspace_id, &id, 1, settings, may_give, now()).await }
    };
    let keys = TrustedIssuerSettings { key_source: pinned("https://keys.example"), ..issuer.settings.clone() };
    let refused = update(&issuer, keys, &refuses_get).await;
    assert!(matches!(&refused, Err(WriteError::NotGrantable(scope)) if *scope == get), "{refused:?}");
    assert_eq!(*asked.lock().unwrap(), [create.clone(), get.clone()]);
    assert_eq!(replicas.one.trusted_issuer(&workspace.id, &issuer.id).await.unwrap().as_ref(), Some(&issuer));

    let nothing = |_: &Scope| false;
    let keys = TrustedIssuerSettings { clock_skew: Duration::ZERO, ..second.settings.clone() };
    update(&second, keys, &nothing).await.unwrap();
    let disabled = TrustedIssuerSettings { enabled: false, ..issuer.settings.clone() };
    update(&issuer, disabled, &nothing).await.unwrap();
}

async fn s69_the_reserved_scopes_behind_an_issuer_are_those_of_its_own_workspace_enabled_or_not(replicas: Replicas) {
    let Tenant { workspace, issuer, relationship } = replicas.tenant().await;
    let second = replicas.issuer(&workspace.id, "https://second.example").await;
    let scopes = ["deploy", "countersign:issuers.get", "countersign:issuers.create"].map(|text| text.parse::<Scope>().unwrap());
    let settings = TrustRelationshipSettings { scopes: scopes.to_vec(), enabled: false, ..relationship.settings };
    replicas.one.update_trust_relationship(&workspace.id, &relationship.id, 1, settings, now()).await.unwrap();
    let disabled = TrustedIssuerSettings { enabled: false, ..issuer.settings.clone() };
    replicas.one.update_trusted_issuer(&workspace.id, &issuer.id, 1, disabled, &anything, now()).await.unwrap();
    let other = replicas.workspace().await;
    replicas.issuer(&other.id, issuer.settings.issuer_url.as_str()).await;

    let behind =
        async |workspace_id, url: &str| replicas.other.reserved_scopes_behind(workspace_id, &url.parse().unwrap()).await.unwrap();
    let url = issuer.settings.issuer_url.as_str();
    let [_, get, create] = scopes;
    assert_eq!(behind(&workspace.id, url).await, [create.clone(), get.clone()].into());
    let nowhere = WorkspaceId::from_random([0xee; 16]);
    for (workspace_id, url) in [
        (&workspace.id, second.settings.issuer_url.as_str()),
        (&workspace.id, "https://nobody.example"),
        (&workspace.id, &format!("{url}/")),
        (&other.id, url),
        (&nowhere, url),
    ] {
        assert!(behind(workspace_id, url).await.is_empty(), "{url}");
    }

    // ID tokens for oneself lead on to what is granted behind other issuers to the subjects that they can have.
    let [own, revoke] =
        ["countersign:id_tokens.issue_own", "countersign:signing_keys.revoke"].map(|text| text.parse::<Scope>().unwrap());
    let mut further = replicas.new_relationship(&second);
    further.settings.subject_matches = vec![format!("{}/{}/*", workspace.id, issuer.id).parse().unwrap()];
    further.settings.scopes = vec![revoke.clone()];
    replicas.one.create_trust_relationship(further, now()).await.unwrap();
    assert_eq!(behind(&workspace.id, url).await, [create.clone(), get.clone()].into());
    let from = async |issuer: &TrustedIssuer, granted: &Scope| {
        let granted = std::slice::from_ref(granted);
        replicas.other.reserved_scopes_from(&workspace.id, &issuer.id, granted).await.unwrap()
    };
    assert_eq!(from(&issuer, &own).await, [own.clone(), revoke.clone()].into());
    assert_eq!(from(&second, &own).await, [own.clone()].into());
    assert_eq!(from(&issuer, &get).await, [get.clone()].into());
    let mut first = replicas.new_relationship(&issuer);
    first.settings.scopes = vec![own.clone()];
    replicas.one.create_trust_relationship(first, now()).await.unwrap();
    assert_eq!(behind(&workspace.id, url).await, [create, get, own, revoke].into());
}
