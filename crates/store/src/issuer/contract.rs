//! What every [`IssuerStore`] must do, run on SQLite and on PostgreSQL.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use countersign_domain::issuing::issuer::{FormerSubjects, IssuerDraft, IssuerSettings};
use countersign_domain::issuing::profile::Profile;
use countersign_domain::issuing::signing_key::RotationPolicy;
use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
use countersign_domain::values::violation::Violations;
use countersign_testkit::postgres::Postgres;
use sea_orm::ConnectionTrait as _;

use super::*;

/// Two replicas on one database.
struct Replicas {
    one: Arc<dyn IssuerStore>,
    other: Arc<dyn IssuerStore>,
    /// Runs SQL behind the store's back.
    database: SeaIssuerStore,
    _directory: Option<tempfile::TempDir>,
}

impl Replicas {
    async fn execute(&self, sql: &str) {
        self.database.database.writer().execute_unprepared(sql).await.unwrap();
    }

    async fn count(&self, table: &str) -> i64 {
        let database = &self.database.database;
        let count = database.statement(format!("SELECT count(*) AS n FROM {table}"), []);
        database.reader().query_one_raw(count).await.unwrap().unwrap().try_get("", "n").unwrap()
    }
}

async fn replicas(url: &str, directory: Option<tempfile::TempDir>) -> Replicas {
    let url = url.parse().unwrap();
    let one = SeaIssuerStore::open(&url).await.unwrap();
    let other = SeaIssuerStore::open(&url).await.expect("a second migration changes nothing");
    Replicas { database: one.clone(), one: Arc::new(one), other: Arc::new(other), _directory: directory }
}

async fn sqlite() -> Replicas {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", directory.path().join("issuer.db").display());
    replicas(&url, Some(directory)).await
}

async fn postgres() -> Replicas {
    let url = tokio::task::spawn_blocking(|| Postgres::shared().database()).await.unwrap();
    replicas(&url, None).await
}

macro_rules! on_every_database {
    ($($test:ident)+) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(super::sqlite().await).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(super::postgres().await).await;
            })+
        }
    };
}

mod keys;

on_every_database! {
    an_issuer_survives_a_round_trip
    a_profile_of_its_own_survives_a_round_trip_and_can_change
    a_url_belongs_to_one_issuer_for_ever
    concurrent_creations_stop_at_the_quota_of_their_workspace
    deleted_issuers_free_the_quota_but_count_for_a_day
    s33_issuers_of_another_workspace_do_not_exist
    lists_are_paged_oldest_first
    a_stale_write_changes_nothing
    s82_the_end_of_an_issuer_is_noted_beside_its_settings
    a_deleted_issuer_takes_its_keys_along
    s76_the_version_before_goes_on_creating_issuers
    every_change_is_seen_once_and_whole
    concurrent_writes_are_all_seen
    what_was_written_is_seen_by_whoever_asks_next
    damaged_rows_take_only_themselves_out
    the_access_token_issuer_is_one_and_owned_by_nobody
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_microsecond(1_790_000_000_000_000 + second * 1_000_000 + 123_456).unwrap()
}

fn workspace(number: u8) -> WorkspaceId {
    WorkspaceId::from_random([number; 16])
}

fn settings(name: &str) -> IssuerSettings {
    let draft = IssuerDraft {
        display_name: name.to_owned(),
        algorithms: vec!["ES256".to_owned(), "RS256".to_owned()],
        allowed_audiences: vec!["sts.amazonaws.com".to_owned(), "a, \"b\"".to_owned()],
        default_token_duration: Some(Ok(Duration::from_mins(2))),
        max_token_duration: Some(Ok(Duration::from_hours(3))),
        rotation_period: Some(Ok(Duration::from_hours(48))),
        ..IssuerDraft::default()
    };
    IssuerSettings::create(&draft, "rwx".parse().ok().as_ref(), &mut Violations::new()).unwrap()
}

fn issuer(number: u8) -> Issuer {
    Issuer {
        id: IssuerId::from_random([number; 16]),
        workspace_id: workspace(1),
        issuer_url: format!("https://id.example.com/{number}").parse().unwrap(),
        profile: "rwx".parse().unwrap(),
        former_subjects: Vec::new(),
        settings: settings("first"),
        revision: 1,
        created_at: at(i64::from(number)),
        updated_at: at(i64::from(number)),
        published_until: None,
    }
}

fn key(kid: &str, algorithm: SignatureAlgorithm, generation: i32) -> SealedSigningKey {
    SealedSigningKey {
        record: SigningKeyRecord {
            key_id: kid.parse().unwrap(),
            algorithm,
            generation,
            created_at: at(10),
            activate_at: at(20),
            awaits_export: false,
            retirement: None,
            revoked_at: None,
        },
        public_jwk: "{}".to_owned(),
        sealed_private_key: vec![0, 159, 146, 150],
    }
}

/// Changes an issuer's keys by a picture of now.
async fn change(store: &Arc<dyn IssuerStore>, id: &IssuerId, changes: &[KeyChange]) -> ChangeKeysOutcome {
    let as_of = store.changes_since(0).await.unwrap().revision;
    store.change_signing_keys(id, as_of, changes).await.unwrap()
}

fn add(keys: &[SealedSigningKey]) -> Vec<KeyChange> {
    keys.iter().cloned().map(KeyChange::Add).collect()
}

/// The keys of an issuer that is there, oldest generation first.
async fn keys_of(store: &Arc<dyn IssuerStore>, id: &IssuerId) -> Vec<SealedSigningKey> {
    let all = store.changes_since(0).await.unwrap().changed;
    let mut keys = all
        .into_iter()
        .find_map(|change| match change {
            ChangedIssuer::Present(identity, keys) if identity.id() == id => Some(keys),
            _ => None,
        })
        .expect("the issuer is there");
    keys.sort_by_key(|key| (key.record.generation, key.record.key_id.clone()));
    keys
}

async fn an_issuer_survives_a_round_trip(replicas: Replicas) {
    let issuer = issuer(1);
    assert_eq!(replicas.one.create_issuer(&issuer).await.unwrap(), CreateOutcome::Created);
    assert_eq!(replicas.other.get_issuer(&workspace(1), &issuer.id).await.unwrap(), Some(issuer.clone()));

    let settings = IssuerSettings { display_name: None, rotation: RotationPolicy::OnRequest, ..settings("x") };
    let changed = Issuer { settings, revision: 2, updated_at: at(50), ..issuer };
    assert_eq!(replicas.other.update_issuer(&changed, 1).await.unwrap(), WriteOutcome::Done);
    assert_eq!(replicas.one.get_issuer(&workspace(1), &changed.id).await.unwrap(), Some(changed));
}

async fn a_profile_of_its_own_survives_a_round_trip_and_can_change(replicas: Replicas) {
    let mut violations = Violations::new();
    for (number, built_in) in (1..).zip(Profile::built_in()) {
        let custom = Profile::custom(built_in.definition().clone(), "profile", &mut violations).unwrap();
        let issuer = Issuer { profile: custom, ..issuer(number) };
        replicas.one.create_issuer(&issuer).await.unwrap();
        assert_eq!(replicas.other.get_issuer(&workspace(1), &issuer.id).await.unwrap(), Some(issuer.clone()));

        let former_subjects =
            vec![FormerSubjects { templates: issuer.profile.subject_templates().collect(), replaced_at: at(60) }];
        let changed = Issuer { profile: "rwx".parse().unwrap(), former_subjects, revision: 2, ..issuer };
        assert_eq!(replicas.other.update_issuer(&changed, 1).await.unwrap(), WriteOutcome::Done);
        assert_eq!(replicas.one.get_issuer(&workspace(1), &changed.id).await.unwrap(), Some(changed));
    }
}

async fn a_url_belongs_to_one_issuer_for_ever(replicas: Replicas) {
    let first = issuer(1);
    replicas.one.create_issuer(&first).await.unwrap();
    let second = Issuer { issuer_url: first.issuer_url.clone(), workspace_id: workspace(2), ..issuer(2) };
    assert_eq!(replicas.other.create_issuer(&second).await.unwrap(), CreateOutcome::UrlTaken);
    assert_eq!(replicas.one.delete_issuer(&workspace(1), &first.id, None, at(5)).await.unwrap(), WriteOutcome::Done);
    assert_eq!(replicas.other.create_issuer(&second).await.unwrap(), CreateOutcome::UrlTaken, "used before");
    assert_eq!(replicas.one.get_issuer(&workspace(2), &second.id).await.unwrap(), None);
    let id = IssuerId::from_random([9; 16]);
    assert_eq!(replicas.one.ensure_access_token_issuer(&first.issuer_url, &id, at(6)).await.unwrap(), None);
}

impl Replicas {
    /// The same replicas with these quotas.
    fn with_quotas(&self, quotas: IssuerQuotas) -> [Arc<dyn IssuerStore>; 2] {
        let store = || Arc::new(self.database.clone().with_quotas(quotas)) as Arc<dyn IssuerStore>;
        [store(), store()]
    }
}

async fn concurrent_creations_stop_at_the_quota_of_their_workspace(replicas: Replicas) {
    assert_eq!(IssuerQuotas::default().issuers, 100);
    let stores = replicas.with_quotas(IssuerQuotas { issuers: 5, ..IssuerQuotas::default() });
    let create = |number: u8, owner: u8| {
        let store = Arc::clone(&stores[usize::from(number % 2)]);
        let issuer = Issuer { workspace_id: workspace(owner), ..issuer(number) };
        tokio::spawn(async move { store.create_issuer(&issuer).await.unwrap() })
    };
    // Two workspaces at the same time: each has its own quota.
    let outcomes = futures::future::join_all((0..24).map(|number| create(number, 1 + number % 3 / 2))).await;
    let mut created = [0, 0];
    for (number, outcome) in outcomes.into_iter().enumerate() {
        match outcome.unwrap() {
            CreateOutcome::Created => created[number % 3 / 2] += 1,
            other => assert_eq!(other, CreateOutcome::TooMany(5)),
        }
    }
    assert_eq!(created, [5, 5]);
    for owner in [1, 2] {
        assert_eq!(stores[0].list_issuers(&workspace(owner), None, 100).await.unwrap().len(), 5);
    }
    assert_eq!(replicas.count("issuer_urls").await, 10, "a refused creation takes no URL");
    // A lower quota deletes nothing and refuses what would be added.
    let [lower, _] = replicas.with_quotas(IssuerQuotas { issuers: 2, ..IssuerQuotas::default() });
    let another = Issuer { workspace_id: workspace(1), ..issuer(100) };
    assert_eq!(lower.create_issuer(&another).await.unwrap(), CreateOutcome::TooMany(2));
    assert_eq!(lower.list_issuers(&workspace(1), None, 100).await.unwrap().len(), 5);
}

async fn deleted_issuers_free_the_quota_but_count_for_a_day(replicas: Replicas) {
    let [store, _] = replicas.with_quotas(IssuerQuotas { issuers: 1, issuers_created_per_day: 3 });
    let at_second = |number: u8, second: i64| Issuer { created_at: at(second), ..issuer(number) };
    for number in 1..=3 {
        let issuer = at_second(number, i64::from(number));
        assert_eq!(store.create_issuer(&issuer).await.unwrap(), CreateOutcome::Created);
        assert_eq!(store.create_issuer(&at_second(100, 4)).await.unwrap(), CreateOutcome::TooMany(1));
        assert_eq!(store.delete_issuer(&workspace(1), &issuer.id, None, at(4)).await.unwrap(), WriteOutcome::Done);
    }
    let day = 24 * 3_600;
    for (second, expected) in [(4, CreateOutcome::TooManyPerDay(3)), (day, CreateOutcome::TooManyPerDay(3))] {
        assert_eq!(store.create_issuer(&at_second(100, second)).await.unwrap(), expected, "{second}");
    }
    let elsewhere = Issuer { workspace_id: workspace(2), ..at_second(101, 4) };
    assert_eq!(store.create_issuer(&elsewhere).await.unwrap(), CreateOutcome::Created, "another workspace is not affected");
    assert_eq!(store.create_issuer(&at_second(100, 1 + day)).await.unwrap(), CreateOutcome::Created, "the first was a day ago");
}

async fn s33_issuers_of_another_workspace_do_not_exist(replicas: Replicas) {
    let own = issuer(1);
    replicas.one.create_issuer(&own).await.unwrap();
    let (store, other) = (&replicas.one, workspace(2));
    assert_eq!(store.get_issuer(&other, &own.id).await.unwrap(), None);
    assert_eq!(store.list_issuers(&other, None, 10).await.unwrap(), []);
    let stolen = Issuer { workspace_id: other.clone(), revision: 2, ..own.clone() };
    assert_eq!(store.update_issuer(&stolen, 1).await.unwrap(), WriteOutcome::NotFound);
    assert_eq!(store.delete_issuer(&other, &own.id, None, at(5)).await.unwrap(), WriteOutcome::NotFound);
    assert_eq!(store.get_issuer(&workspace(1), &own.id).await.unwrap(), Some(own));
}

async fn lists_are_paged_oldest_first(replicas: Replicas) {
    // Two of one time, so that the id decides.
    let twin = Issuer { created_at: issuer(3).created_at, ..issuer(4) };
    let all = [issuer(1), issuer(2), issuer(3), twin, issuer(5)];
    for issuer in all.iter().rev() {
        replicas.one.create_issuer(issuer).await.unwrap();
    }
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = replicas.one.list_issuers(&workspace(1), after.as_ref(), 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(IssuerPosition { created_at: last.created_at, id: last.id.clone() });
        seen.extend(page);
    }
    assert_eq!(seen, all);
}

async fn a_stale_write_changes_nothing(replicas: Replicas) {
    let first = issuer(1);
    replicas.one.create_issuer(&first).await.unwrap();
    let second = Issuer { revision: 2, settings: settings("second"), ..first.clone() };
    assert_eq!(replicas.one.update_issuer(&second, 1).await.unwrap(), WriteOutcome::Done);
    let late = Issuer { revision: 2, settings: settings("late"), ..first.clone() };
    assert_eq!(replicas.other.update_issuer(&late, 1).await.unwrap(), WriteOutcome::Stale);
    assert_eq!(replicas.other.delete_issuer(&workspace(1), &first.id, Some(1), at(5)).await.unwrap(), WriteOutcome::Stale);
    assert_eq!(replicas.other.get_issuer(&workspace(1), &first.id).await.unwrap(), Some(second));
    assert_eq!(replicas.one.delete_issuer(&workspace(1), &first.id, Some(2), at(5)).await.unwrap(), WriteOutcome::Done);
    assert_eq!(replicas.one.update_issuer(&late, 2).await.unwrap(), WriteOutcome::NotFound);
}

async fn s82_the_end_of_an_issuer_is_noted_beside_its_settings(replicas: Replicas) {
    let first = issuer(1);
    replicas.one.create_issuer(&first).await.unwrap();
    let start = replicas.other.changes_since(0).await.unwrap().revision;
    replicas.one.set_published_until(&first.id, Some(at(99))).await.unwrap();
    let ended = Issuer { published_until: Some(at(99)), ..first.clone() };
    assert_eq!(replicas.other.get_issuer(&workspace(1), &first.id).await.unwrap().as_ref(), Some(&ended));
    let changes = replicas.other.changes_since(start).await.unwrap();
    assert_eq!(changes.changed, [ChangedIssuer::Present(IssuerIdentity::Workspace(Box::new(ended.clone())), Vec::new())]);
    // Neither takes the other back: an update by what was read before leaves the note, and the note needs no revision.
    let renamed = Issuer { revision: 2, settings: settings("renamed"), ..first.clone() };
    assert_eq!(replicas.other.update_issuer(&renamed, 1).await.unwrap(), WriteOutcome::Done);
    let expected = Issuer { published_until: Some(at(99)), ..renamed.clone() };
    assert_eq!(replicas.one.get_issuer(&workspace(1), &first.id).await.unwrap(), Some(expected));
    replicas.other.set_published_until(&first.id, None).await.unwrap();
    assert_eq!(replicas.one.get_issuer(&workspace(1), &first.id).await.unwrap(), Some(renamed));
    // Of an issuer that is gone there is nothing to note.
    assert_eq!(replicas.one.delete_issuer(&workspace(1), &first.id, None, at(5)).await.unwrap(), WriteOutcome::Done);
    replicas.one.set_published_until(&first.id, Some(at(99))).await.unwrap();
    assert_eq!(replicas.one.changes_since(0).await.unwrap().changed, [ChangedIssuer::Gone(first.id)]);
}

async fn a_deleted_issuer_takes_its_keys_along(replicas: Replicas) {
    let issuer = issuer(1);
    replicas.one.create_issuer(&issuer).await.unwrap();
    let first = add(&[key("a", SignatureAlgorithm::Es256, 1)]);
    assert_eq!(change(&replicas.one, &issuer.id, &first).await, ChangeKeysOutcome::Done);
    replicas.one.delete_issuer(&workspace(1), &issuer.id, None, at(5)).await.unwrap();
    assert_eq!(change(&replicas.one, &issuer.id, &first).await, ChangeKeysOutcome::IssuerGone);
    assert_eq!(replicas.one.changes_since(0).await.unwrap().changed, [ChangedIssuer::Gone(issuer.id)]);
    assert_eq!(replicas.count("signing_keys").await, 0);
}

async fn s76_the_version_before_goes_on_creating_issuers(replicas: Replicas) {
    let issuer = issuer(1);
    replicas.one.create_issuer(&issuer).await.unwrap();
    // As that version writes: without the columns it does not know.
    let columns = "workspace_id, profile, display_name, algorithms, allowed_audiences, default_token_seconds, max_token_seconds, \
                   revision, created_at, updated_at";
    replicas
        .execute(&format!(
            "INSERT INTO issuers (id, issuer_url, {columns}) SELECT '{}', 'https://id.example.com/older', {columns} FROM issuers",
            IssuerId::from_random([2; 16])
        ))
        .await;
    let all = replicas.one.list_issuers(&workspace(1), None, 10).await.unwrap();
    assert_eq!(all.len(), 2);
    let older = all.iter().find(|found| found.id != issuer.id).unwrap();
    assert_eq!(older.settings.rotation, RotationPolicy::default());
}

async fn every_change_is_seen_once_and_whole(replicas: Replicas) {
    let store = &replicas.one;
    let start = store.changes_since(0).await.unwrap();
    assert_eq!(start.changed, []);
    let (first, second) = (issuer(1), issuer(2));
    store.create_issuer(&first).await.unwrap();
    store.create_issuer(&second).await.unwrap();
    let key = key("a", SignatureAlgorithm::Es256, 1);
    change(store, &first.id, &add(std::slice::from_ref(&key))).await;

    let seen = replicas.other.changes_since(start.revision).await.unwrap();
    let present = |issuer: &Issuer, keys: &[SealedSigningKey]| {
        ChangedIssuer::Present(IssuerIdentity::Workspace(Box::new(issuer.clone())), keys.to_vec())
    };
    assert_eq!(seen.changed.len(), 2);
    assert!(seen.changed.contains(&present(&first, std::slice::from_ref(&key))));
    assert!(seen.changed.contains(&present(&second, &[])));

    let nothing = replicas.other.changes_since(seen.revision).await.unwrap();
    assert_eq!(nothing, IssuerChanges { revision: seen.revision, changed: Vec::new(), served: Vec::new() });

    let renamed = Issuer { settings: settings("renamed"), revision: 2, ..second };
    store.update_issuer(&renamed, 1).await.unwrap();
    assert_eq!(store.changes_since(seen.revision).await.unwrap().changed, [present(&renamed, &[])], "only what changed");
    let retirement = Retirement { sign_until: at(30), publish_until: at(40) };
    let seen = store.changes_since(seen.revision).await.unwrap();
    change(store, &first.id, &[KeyChange::Retire { key_id: key.record.key_id.clone(), retirement }]).await;
    store.delete_issuer(&workspace(1), &renamed.id, None, at(70)).await.unwrap();
    let last = store.changes_since(seen.revision).await.unwrap().changed;
    let retired = SealedSigningKey { record: SigningKeyRecord { retirement: Some(retirement), ..key.record }, ..key };
    assert_eq!(last.len(), 2);
    assert!(last.contains(&ChangedIssuer::Gone(renamed.id)));
    assert!(last.contains(&present(&first, &[retired])));
}

async fn concurrent_writes_are_all_seen(replicas: Replicas) {
    let writers = (0..20_u8).map(|number| {
        let store = Arc::clone(if number % 2 == 0 { &replicas.one } else { &replicas.other });
        tokio::spawn(async move { store.create_issuer(&issuer(number)).await.unwrap() })
    });
    let writers = tokio::spawn(futures::future::join_all(writers));
    let (mut seen, mut revision) = (BTreeSet::new(), 0);
    loop {
        let finished = writers.is_finished();
        let changes = replicas.other.changes_since(revision).await.unwrap();
        assert!(changes.revision >= revision);
        revision = changes.revision;
        seen.extend(changes.changed.iter().map(|change| match change {
            ChangedIssuer::Present(identity, _) => identity.id().clone(),
            ChangedIssuer::Gone(id) => panic!("{id} is not gone"),
        }));
        if finished {
            break;
        }
    }
    assert_eq!(seen.len(), 20, "a reader that only moves forward misses none");
}

async fn what_was_written_is_seen_by_whoever_asks_next(replicas: Replicas) {
    let mut last = issuer(1);
    replicas.one.create_issuer(&last).await.unwrap();
    // Others ask all the time, so that every connection has something to remember.
    let asking: Vec<_> = (0..3)
        .map(|_| {
            let store = Arc::clone(&replicas.one);
            tokio::spawn(async move {
                loop {
                    store.changes_since(0).await.unwrap();
                }
            })
        })
        .collect();
    for round in 0..200 {
        let known = replicas.one.changes_since(0).await.unwrap().revision;
        last = Issuer { revision: last.revision + 1, ..last };
        let outcome = replicas.one.update_issuer(&last, last.revision - 1).await.unwrap();
        assert_eq!(outcome, WriteOutcome::Done);
        let seen = replicas.one.changes_since(known).await.unwrap();
        assert_eq!(seen.changed.len(), 1, "round {round}");
        assert_eq!(replicas.one.get_issuer(&workspace(1), &last.id).await.unwrap().unwrap().revision, last.revision);
    }
    for task in asking {
        task.abort();
    }
}

async fn damaged_rows_take_only_themselves_out(replicas: Replicas) {
    let (sound, moved, damaged) = (issuer(1), issuer(2), issuer(3));
    for issuer in [&sound, &moved, &damaged] {
        replicas.one.create_issuer(issuer).await.unwrap();
    }
    let keys = [key("a", SignatureAlgorithm::Es256, 1), key("b", SignatureAlgorithm::Rs256, 1)];
    change(&replicas.one, &sound.id, &add(&keys)).await;
    for sql in [
        format!("UPDATE issuers SET issuer_url = 'https://id.example.com/stolen' WHERE id = '{}'", moved.id),
        format!("UPDATE issuers SET algorithms = '[\"none\"]' WHERE id = '{}'", damaged.id),
        "UPDATE signing_keys SET algorithm = 'HS256' WHERE key_id = 'b'".to_owned(),
    ] {
        replicas.execute(&sql).await;
    }
    let changed = replicas.one.changes_since(0).await.unwrap().changed;
    assert_eq!(changed.len(), 3);
    assert!(changed.contains(&ChangedIssuer::Gone(moved.id)));
    assert!(changed.contains(&ChangedIssuer::Gone(damaged.id.clone())));
    let [first, _] = keys;
    assert!(changed.contains(&ChangedIssuer::Present(IssuerIdentity::Workspace(Box::new(sound)), vec![first])));
    let read = replicas.one.get_issuer(&workspace(1), &damaged.id).await;
    assert!(matches!(read, Err(StoreError::Unreadable { what: "issuer", .. })));
}

async fn the_access_token_issuer_is_one_and_owned_by_nobody(replicas: Replicas) {
    let url: IssuerUrl = "https://gateway.example.com".parse().unwrap();
    let attempts = (0..6_u8).map(|number| {
        let store = Arc::clone(if number % 2 == 0 { &replicas.one } else { &replicas.other });
        let url = url.clone();
        tokio::spawn(
            async move { store.ensure_access_token_issuer(&url, &IssuerId::from_random([number; 16]), at(1)).await.unwrap() },
        )
    });
    let ids: BTreeSet<_> =
        futures::future::join_all(attempts).await.into_iter().map(|id| id.unwrap().expect("the URL is free")).collect();
    let [id] = ids.iter().collect::<Vec<_>>()[..] else { panic!("several issuers: {ids:?}") };

    let identity = IssuerIdentity::AccessTokens { id: id.clone(), issuer_url: url.clone() };
    let keys = [key("a", SignatureAlgorithm::Es256, 1)];
    assert_eq!(change(&replicas.one, id, &add(&keys)).await, ChangeKeysOutcome::Done);
    let changed = replicas.one.changes_since(0).await.unwrap().changed;
    assert_eq!(changed, [ChangedIssuer::Present(identity, keys.to_vec())]);

    let taken = Issuer { issuer_url: url, ..issuer(7) };
    assert_eq!(replicas.one.create_issuer(&taken).await.unwrap(), CreateOutcome::UrlTaken);
    assert_eq!(replicas.one.get_issuer(&workspace(1), id).await.unwrap(), None);
    assert_eq!(replicas.one.delete_issuer(&workspace(1), id, None, at(5)).await.unwrap(), WriteOutcome::NotFound);
}
