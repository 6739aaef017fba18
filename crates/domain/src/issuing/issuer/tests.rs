use super::*;
use crate::values::draft::Unreadable;

fn rwx() -> Profile {
    "rwx".parse().unwrap()
}

fn create(draft: &IssuerDraft) -> Result<IssuerSettings, Vec<String>> {
    let mut violations = Violations::new();
    let settings = IssuerSettings::create(draft, Some(&rwx()), &mut violations);
    assert_eq!(settings.is_some(), violations.is_empty());
    settings.ok_or_else(|| violations.into_iter().map(|violation| violation.field).collect())
}

#[expect(clippy::unnecessary_wraps, reason = "drafts hold optional values")]
fn given(seconds: u64) -> Given<Duration> {
    Some(Ok(Duration::from_secs(seconds)))
}

#[test]
fn an_empty_draft_means_the_documented_defaults() {
    let settings = create(&IssuerDraft::default()).unwrap();
    assert_eq!(settings.algorithms, [SignatureAlgorithm::Rs256]);
    assert_eq!(settings.default_token_duration, Duration::from_hours(1));
    assert_eq!(settings.max_token_duration, Duration::from_hours(1));
    assert_eq!(settings.rotation, RotationPolicy::Every(Duration::from_hours(90 * 24)));
    let short = create(&IssuerDraft { max_token_duration: given(300), ..IssuerDraft::default() }).unwrap();
    assert_eq!(short.default_token_duration, Duration::from_mins(5), "the default never exceeds the maximum");
}

#[test]
fn every_violation_of_a_draft_is_noted_at_once() {
    let draft = IssuerDraft {
        display_name: "x".repeat(101),
        algorithms: ["RS256", "none", "RS256", "RS512"].map(str::to_owned).to_vec(),
        allowed_audiences: ["a", "", "a"].map(str::to_owned).to_vec(),
        default_token_duration: given(59),
        max_token_duration: Some(Err(Unreadable("must be a duration"))),
        rotation_period: given(86_399),
        ..IssuerDraft::default()
    };
    assert_eq!(
        create(&draft).unwrap_err(),
        [
            "issuer.display_name",
            "issuer.algorithms[1]",
            "issuer.algorithms[2]",
            "issuer.algorithms[3]",
            "issuer.allowed_audiences[1]",
            "issuer.allowed_audiences[2]",
            "issuer.max_token_duration",
            "issuer.default_token_duration",
            "issuer.rotation_period",
        ]
    );
}

#[test]
fn a_definition_is_for_the_custom_profile_and_no_other() {
    let definition =
        ProfileDefinition::from_toml("attributes.a = {}\nsubject_forms = [{ id = 'a', template = 'a:{a}', delimiters = ':' }]");
    let definition = definition.unwrap();
    let violated = |name: &str, profile_definition: Option<ProfileDefinition>| {
        let draft = IssuerDraft { profile: name.to_owned(), profile_definition, ..IssuerDraft::default() };
        let mut violations = Violations::new();
        let profile = draft.profile(&mut violations);
        let fields: Vec<_> = violations.into_iter().map(|violation| violation.field).collect();
        profile.filter(|_| fields.is_empty()).map(|profile| profile.name().to_owned()).ok_or(fields)
    };
    assert_eq!(violated("rwx", None), Ok("rwx".to_owned()));
    assert_eq!(violated("custom", Some(definition.clone())), Ok("custom".to_owned()));
    assert_eq!(violated("custom", None), Err(vec!["issuer.profile_definition".to_owned()]));
    assert_eq!(violated("rwx", Some(definition)), Err(vec!["issuer.profile_definition".to_owned()]));
    assert_eq!(violated("unheard-of", None), Err(vec!["issuer.profile".to_owned()]));
    let nothing = violated("custom", Some(ProfileDefinition::default()));
    assert_eq!(nothing, Err(vec!["issuer.profile_definition.subject_forms".to_owned()]));
}

#[test]
fn durations_are_whole_seconds_from_a_minute_to_a_day() {
    for good in [60, 3600, 86_400] {
        assert!(create(&IssuerDraft { max_token_duration: given(good), ..IssuerDraft::default() }).is_ok());
    }
    for bad in [Duration::ZERO, Duration::from_secs(59), Duration::from_secs(86_401), Duration::from_millis(90_500)] {
        let draft = IssuerDraft { max_token_duration: Some(Ok(bad)), ..IssuerDraft::default() };
        assert_eq!(create(&draft).unwrap_err(), ["issuer.max_token_duration"], "{bad:?}");
    }
    let longer = IssuerDraft { default_token_duration: given(7200), ..IssuerDraft::default() };
    assert_eq!(create(&longer).unwrap_err(), ["issuer.default_token_duration"], "longer than the maximum");
}

#[test]
fn keys_are_rotated_every_day_to_every_other_year_or_on_request() {
    for (seconds, expected) in [
        (0, Some(RotationPolicy::OnRequest)),
        (1, None),
        (86_399, None),
        (86_400, Some(RotationPolicy::Every(Duration::from_hours(24)))),
        (730 * 86_400, Some(RotationPolicy::Every(Duration::from_hours(730 * 24)))),
        (730 * 86_400 + 1, None),
    ] {
        let created = create(&IssuerDraft { rotation_period: given(seconds), ..IssuerDraft::default() });
        assert_eq!(created.map(|settings| settings.rotation).ok(), expected, "{seconds} s");
    }
}

fn issuer(settings: IssuerSettings) -> Issuer {
    Issuer {
        id: IssuerId::from_random([1; 16]),
        workspace_id: WorkspaceId::from_random([2; 16]),
        issuer_url: "https://id.example.com/a".parse().unwrap(),
        profile: rwx(),
        former_subjects: Vec::new(),
        settings,
        revision: 1,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
        published_until: None,
    }
}

fn later() -> Timestamp {
    Timestamp::from_second(1_790_000_000).unwrap()
}

fn update(present: &Issuer, draft: &IssuerDraft, mask: &[&str], accepted: Option<&SubjectChange>) -> Result<Issuer, Vec<String>> {
    let mask: Vec<_> = mask.iter().map(ToString::to_string).collect();
    let updated = present.update(draft, &mask, accepted, later());
    updated.map_err(|violations| violations.into_iter().map(|violation| violation.field).collect())
}

#[test]
fn a_mask_changes_what_it_names_and_nothing_else() {
    let present = create(&IssuerDraft {
        display_name: "before".to_owned(),
        algorithms: vec!["ES256".to_owned()],
        allowed_audiences: vec!["a".to_owned()],
        default_token_duration: given(120),
        max_token_duration: given(180),
        rotation_period: given(0),
        ..IssuerDraft::default()
    });
    let present = issuer(present.unwrap());
    // Unreadable where it is not named.
    let unreadable = Some(Err(Unreadable("must be a duration")));
    let draft = IssuerDraft {
        display_name: "after".to_owned(),
        default_token_duration: unreadable,
        max_token_duration: unreadable,
        ..IssuerDraft::default()
    };
    let update = |draft: &IssuerDraft, mask: &[&str]| {
        update(&present, draft, mask, None).map(|updated| {
            assert_eq!((updated.revision, updated.updated_at), (present.revision + 1, later()));
            assert_eq!((&updated.id, &updated.profile), (&present.id, &present.profile));
            updated.settings
        })
    };
    let renamed = IssuerSettings { display_name: Some("after".parse().unwrap()), ..present.settings.clone() };
    assert_eq!(update(&draft, &["display_name"]), Ok(renamed));
    assert_eq!(update(&draft, &["max_token_duration"]).unwrap_err(), ["issuer.max_token_duration"]);
    let all = update(&IssuerDraft { profile: "rwx".to_owned(), ..IssuerDraft::default() }, &Issuer::SETTABLE);
    assert_eq!(all, Ok(create(&IssuerDraft::default()).unwrap()));
    let shorter = IssuerDraft { max_token_duration: given(60), ..IssuerDraft::default() };
    assert_eq!(update(&shorter, &["max_token_duration"]).unwrap_err(), ["issuer.default_token_duration"]);
    let fixed = update(&draft, &["issuer_url", "former_subject_forms", "nonsense"]).unwrap_err();
    assert_eq!(fixed, ["update_mask.paths[0]", "update_mask.paths[1]", "update_mask.paths[2]"]);
    assert_eq!(update(&draft, &[]).unwrap_err(), ["update_mask"]);
}

/// A profile with this template, and claims that no subject depends on.
fn custom(template: &str, claim: &str) -> IssuerDraft {
    let definition = format!(
        "attributes.a = {{ required = true }}\nattributes.b = {{}}\nclaims.{claim} = {{ attribute = 'b' }}\n\
         subject_forms = [{{ id = 'a', template = '{template}', delimiters = ':' }}]"
    );
    IssuerDraft {
        profile: Profile::CUSTOM.to_owned(),
        profile_definition: Some(ProfileDefinition::from_toml(&definition).unwrap()),
        ..IssuerDraft::default()
    }
}

fn change(from: &str, to: &str) -> SubjectChange {
    SubjectChange { from: vec![from.to_owned()], to: vec![to.to_owned()] }
}

const RWX: &str = "org:{org}:vault:{vault}";
const BOTH: [&str; 2] = ["profile", "profile_definition"];

#[test]
fn s54_subjects_change_only_when_both_forms_are_named_and_the_former_is_kept() {
    let present = issuer(create(&IssuerDraft::default()).unwrap());
    let draft = custom("a:{a}", "b");
    assert_eq!(update(&present, &draft, &BOTH, None).unwrap_err(), ["accept_subject_change"]);
    for (accepted, field) in [
        (change(RWX, "a:{b}"), "accept_subject_change.to"),
        (change("org:{org}", "a:{a}"), "accept_subject_change.from"),
        (SubjectChange { from: vec![], ..change(RWX, "a:{a}") }, "accept_subject_change.from"),
    ] {
        assert_eq!(update(&present, &draft, &BOTH, Some(&accepted)).unwrap_err(), [field], "{accepted:?}");
    }
    let first = update(&present, &draft, &BOTH, Some(&change(RWX, "a:{a}"))).unwrap();
    let former = FormerSubjects { templates: vec![RWX.to_owned()], replaced_at: later() };
    assert_eq!((first.profile.name(), first.former_subjects.clone()), (Profile::CUSTOM, vec![former.clone()]));

    let draft = custom("a:{a}:b:{b}", "b");
    let second = update(&first, &draft, &["profile_definition"], Some(&change("a:{a}", "a:{a}:b:{b}"))).unwrap();
    let next = FormerSubjects { templates: vec!["a:{a}".to_owned()], replaced_at: later() };
    assert_eq!(second.former_subjects, [former, next], "none is forgotten");
}

#[test]
fn what_leaves_subjects_alone_needs_no_naming() {
    let custom_issuer = |template| {
        let draft = custom(template, "b");
        Issuer { profile: draft.profile(&mut Violations::new()).unwrap(), ..issuer(create(&IssuerDraft::default()).unwrap()) }
    };
    let present = custom_issuer("a:{a}");
    let other_claim = update(&present, &custom("a:{a}", "c"), &["profile_definition"], None).unwrap();
    assert_eq!(other_claim.former_subjects, []);
    assert_ne!(other_claim.profile, present.profile);
    let named = update(&present, &custom("a:{a}", "c"), &["profile_definition"], Some(&change("a:{a}", "a:{a}")));
    assert_eq!(named.unwrap_err(), ["accept_subject_change"], "a change that is none");
    let renamed = IssuerDraft { display_name: "x".to_owned(), ..IssuerDraft::default() };
    assert_eq!(update(&present, &renamed, &["display_name"], None).unwrap().profile, present.profile);
}

#[test]
fn a_definition_stays_as_long_as_the_profile_is_the_operators() {
    let draft = custom("a:{a}", "b");
    let custom_profile = draft.profile(&mut Violations::new()).unwrap();
    let present = Issuer { profile: custom_profile, ..issuer(create(&IssuerDraft::default()).unwrap()) };
    let named = |name: &str| IssuerDraft { profile: name.to_owned(), ..IssuerDraft::default() };
    assert_eq!(update(&present, &named("custom"), &["profile"], None).unwrap().profile, present.profile);
    let back = update(&present, &named("rwx"), &["profile"], Some(&change("a:{a}", RWX))).unwrap();
    assert_eq!(back.profile, rwx());
    assert_eq!(update(&present, &named("rwx"), &["profile_definition"], None).unwrap_err(), ["issuer.profile_definition"]);
    assert_eq!(update(&back, &draft, &["profile_definition"], None).unwrap_err(), ["issuer.profile_definition"]);
    assert_eq!(update(&back, &named("custom"), &["profile"], None).unwrap_err(), ["issuer.profile_definition"]);
    assert_eq!(update(&back, &named("unheard-of"), &["profile"], None).unwrap_err(), ["issuer.profile"]);
}

#[test]
fn settings_must_fit_a_new_profile() {
    let day = create(&IssuerDraft { max_token_duration: given(86_400), ..IssuerDraft::default() }).unwrap();
    let present = issuer(IssuerSettings { allowed_audiences: vec!["vault".parse().unwrap()], ..day });
    let spacelift: Profile = "spacelift".parse().unwrap();
    let accepted = rwx().subject_change(&spacelift).unwrap();
    let draft = IssuerDraft { profile: "spacelift".to_owned(), ..IssuerDraft::default() };
    let refused = update(&present, &draft, &["profile"], Some(&accepted)).unwrap_err();
    assert_eq!(refused, ["issuer.allowed_audiences", "issuer.max_token_duration"]);
    let mask = ["profile", "allowed_audiences", "max_token_duration"];
    let fits = update(&present, &draft, &mask, Some(&accepted)).unwrap();
    assert_eq!(fits.settings.max_token_duration, Duration::from_hours(1));
}

#[test]
fn subjects_do_not_change_for_ever_nor_is_an_answer_longer_than_it_can_be() {
    let former = FormerSubjects { templates: vec![RWX.to_owned()], replaced_at: later() };
    let present = issuer(create(&IssuerDraft::default()).unwrap());
    let present = Issuer { former_subjects: vec![former; Issuer::MAX_FORMER_SUBJECTS], ..present };
    let accepted = change(RWX, "a:{a}");
    assert_eq!(update(&present, &custom("a:{a}", "b"), &BOTH, Some(&accepted)).unwrap_err(), ["accept_subject_change"]);
    assert_eq!(quoted(&vec!["x".repeat(512); 3], "many"), "many");
    assert_eq!(quoted(&["a".to_owned(), "b".to_owned()], "many"), "`a`, `b`");
}

#[test]
fn s69_an_update_that_changes_what_can_be_signed_is_told_from_one_that_only_takes_away() {
    let of = |change: &dyn Fn(&mut Issuer)| {
        let allowed_audiences = ["one", "two"].map(str::to_owned).to_vec();
        let mut issuer = issuer(create(&IssuerDraft { allowed_audiences, ..IssuerDraft::default() }).unwrap());
        change(&mut issuer);
        issuer
    };
    let former = of(&|_| {});
    let audiences = |names: &'static [&'static str]| {
        move |issuer: &mut Issuer| issuer.settings.allowed_audiences = names.iter().map(|name| name.parse().unwrap()).collect()
    };
    let harmless: [&dyn Fn(&mut Issuer); 9] = [
        &|_| {},
        &|issuer| issuer.settings.display_name = "another".parse().ok(),
        &|issuer| issuer.settings.algorithms = vec![SignatureAlgorithm::EdDsa],
        &|issuer| issuer.settings.max_token_duration = Duration::from_hours(24),
        &|issuer| issuer.settings.default_token_duration = Duration::from_mins(1),
        &|issuer| issuer.settings.rotation = RotationPolicy::OnRequest,
        &|issuer| issuer.settings.key_custody = KeyCustody::Device,
        &audiences(&["two"]),
        &audiences(&["two", "one"]),
    ];
    for (index, change) in harmless.iter().enumerate() {
        assert!(of(change).only_takes_from(&former), "{index}");
    }
    let deciding: [&dyn Fn(&mut Issuer); 4] = [
        &|issuer| issuer.profile = "namespace".parse().unwrap(),
        &audiences(&["one", "two", "three"]),
        &audiences(&["three"]),
        &audiences(&[]),
    ];
    for (index, change) in deciding.iter().enumerate() {
        assert!(!of(change).only_takes_from(&former), "{index}");
    }
    // Where every audience was allowed, any list takes away.
    let open = of(&audiences(&[]));
    assert!(former.only_takes_from(&open));
    assert!(!open.only_takes_from(&former));
}
