//! When tokens are accepted, and what they get.

use super::{Change, Reasons};
use crate::trust::trust_relationship::TrustRelationshipSettings;
use crate::values::grant::Grant;
use crate::values::name::{Audience, Scope};
use crate::values::time::Timestamp;

pub(super) fn enabled(before: &TrustRelationshipSettings, after: &TrustRelationshipSettings, reasons: &mut Reasons) {
    match (before.enabled, after.enabled) {
        (false, true) => reasons.add("enabled", Change::Broader, "the relationship holds, and did not"),
        (true, false) => reasons.add("enabled", Change::Narrower, "the relationship does not hold any more"),
        _ => {}
    }
}

pub(super) fn expiry(before: &TrustRelationshipSettings, after: &TrustRelationshipSettings, reasons: &mut Reasons) {
    let (before, after) = (before.expires_at, after.expires_at);
    let end = |end: Option<Timestamp>| end.map_or_else(|| "never".to_owned(), |end| format!("at {end}"));
    let far = |end: Option<Timestamp>| end.unwrap_or(Timestamp::MAX);
    let change = match (before, after) {
        (before, after) if before == after => return,
        // What ends at the end of time does end.
        (Some(_), None) => Change::Broader,
        (None, Some(_)) => Change::Narrower,
        (before, after) if far(after) > far(before) => Change::Broader,
        _ => Change::Narrower,
    };
    reasons.add("expire_time", change, format!("ends {}, and not {}", end(after), end(before)));
}

/// The first audience is what a request gets that names none, so that another first one is something else, whatever the rest is.
/// What the deployment's own is called, which an empty list stands for, is not known here.
pub(super) fn access_token_audiences(
    before: &TrustRelationshipSettings,
    after: &TrustRelationshipSettings,
    reasons: &mut Reasons,
) {
    let field = "access_token_audiences";
    let (before, after) = (&*before.access_token_audiences, &*after.access_token_audiences);
    if before.first() != after.first() {
        let default = |list: &[Audience]| list.first().map_or_else(|| "this deployment".to_owned(), |first| format!("`{first}`"));
        let description =
            format!("tokens are for {} unless others are asked for, and not for {}", default(after), default(before));
        reasons.add(field, Change::Different, description);
    }
    let added = |new: &Audience| format!("tokens may be for `{new}`");
    let removed = |old: &Audience| format!("tokens may not be for `{old}` any more");
    reasons.lists(field, [before, after], |element, list| list.contains(element), [&added, &removed]);
}

pub(super) fn scopes(before: &TrustRelationshipSettings, after: &TrustRelationshipSettings, reasons: &mut Reasons) {
    let added = |new: &Scope| format!("gives `{new}`");
    let removed = |old: &Scope| format!("does not give `{old}` any more");
    let covered = |element: &Scope, list: &[Scope]| list.contains(element);
    reasons.lists("scopes", [&before.scopes, &after.scopes], covered, [&added, &removed]);
}

pub(super) fn grants(before: &TrustRelationshipSettings, after: &TrustRelationshipSettings, reasons: &mut Reasons) {
    let lacking = |grant: &Grant, list: &[Grant]| {
        let lacking: Vec<&str> = grant.actions.iter().filter(|action| !allows(list, grant, action)).map(String::as_str).collect();
        lacking.join("`, `")
    };
    let of = |grant: &Grant| format!("{} `{}`", grant.resource_type, grant.resource_id);
    let added = |new: &Grant| format!("allows `{}` on {}", lacking(new, &before.grants), of(new));
    let removed = |old: &Grant| format!("does not allow `{}` on {} any more", lacking(old, &after.grants), of(old));
    let covered = |grant: &Grant, list: &[Grant]| grant.actions.iter().all(|action| allows(list, grant, action));
    reasons.lists("grants", [&before.grants, &after.grants], covered, [&added, &removed]);
}

/// Whether one of the grants allows the action on the resource, or all the resources, of this one.
fn allows(grants: &[Grant], on: &Grant, action: &String) -> bool {
    grants.iter().any(|grant| {
        grant.resource_type == on.resource_type
            && (grant.resource_id == "*" || grant.resource_id == on.resource_id)
            && grant.actions.contains(action)
    })
}

pub(super) fn token_duration(before: &TrustRelationshipSettings, after: &TrustRelationshipSettings, reasons: &mut Reasons) {
    let (before, after) = (before.token_duration, after.token_duration);
    let change = match after.cmp(&before) {
        std::cmp::Ordering::Equal => return,
        std::cmp::Ordering::Less => Change::Narrower,
        std::cmp::Ordering::Greater => Change::Broader,
    };
    let description = format!("tokens live {} s, and not {} s", after.as_secs(), before.as_secs());
    reasons.add("token_duration", change, description);
}
