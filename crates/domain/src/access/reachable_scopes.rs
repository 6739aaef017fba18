//! Which permissions are obtained by deciding who the subjects of a trusted issuer are (SECURITY 69).
//!
//! Whoever decides that obtains every scope that the relationships of the issuer grant. Where `id_tokens.issue_own` is one of them, more
//! follows: an ID token for oneself has the subject of one's access token, `<workspace id>/<trusted issuer id>/<external subject>`, the end
//! of which was chosen, and relationships behind our own issuers can accept such subjects.

use std::collections::BTreeSet;

use crate::access::permission::{Permission, is_reserved};
use crate::exchange::decision;
use crate::values::id::{TrustedIssuerId, WorkspaceId};
use crate::values::name::Scope;
use crate::values::subject_match::SubjectMatch;

/// What a trust relationship grants of the reserved scopes, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservedGrant {
    /// The issuer of the subjects.
    pub trusted_issuer_id: TrustedIssuerId,
    /// The accepted subjects.
    pub subject_matches: Vec<SubjectMatch>,
    /// The scopes. Those that are not reserved do not count.
    pub scopes: Vec<Scope>,
}

/// Every reserved scope that is obtained by whoever decides who the subjects of a trusted issuer are, when these scopes are granted to
/// them. `grants` are those of the workspace.
///
/// Conditions of relationships, whether they are enabled and whose issuer they belong to are not looked at: all of it can change without
/// a look at what is reached.
pub fn reachable_scopes<'a>(
    workspace_id: &WorkspaceId,
    trusted_issuer_id: &TrustedIssuerId,
    granted: impl IntoIterator<Item = &'a Scope>,
    grants: &[ReservedGrant],
) -> BTreeSet<Scope> {
    let reserved = |scope: &&Scope| is_reserved(scope);
    let mut scopes: BTreeSet<Scope> = granted.into_iter().filter(reserved).cloned().collect();
    if !issues_own(&scopes) {
        return scopes;
    }
    // The issuers whose subjects can have been chosen, in full or behind the ids in front.
    let mut issuers = BTreeSet::from([trusted_issuer_id.clone()]);
    let mut prefixes = vec![decision::access_token_subject_prefix(workspace_id, trusted_issuer_id)];
    while let Some(prefix) = prefixes.pop() {
        for grant in grants.iter().filter(|grant| grant.subject_matches.iter().any(|subject| subject.can_begin_with(&prefix))) {
            scopes.extend(grant.scopes.iter().filter(reserved).cloned());
            if issues_own(&grant.scopes) && issuers.insert(grant.trusted_issuer_id.clone()) {
                prefixes.push(decision::access_token_subject_prefix(workspace_id, &grant.trusted_issuer_id));
            }
        }
    }
    scopes
}

/// Whether one of the scopes is that of ID tokens for oneself.
pub fn issues_own<'a>(scopes: impl IntoIterator<Item = &'a Scope>) -> bool {
    scopes.into_iter().any(|scope| scope.as_str() == Permission::IdTokensIssueOwn.as_scope())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer(number: u8) -> TrustedIssuerId {
        TrustedIssuerId::from_random([number; 16])
    }

    fn scopes(names: &[&str]) -> Vec<Scope> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn grant(number: u8, subjects: &[String], names: &[&str]) -> ReservedGrant {
        ReservedGrant {
            trusted_issuer_id: issuer(number),
            subject_matches: subjects.iter().map(|subject| subject.parse().unwrap()).collect(),
            scopes: scopes(names),
        }
    }

    const OWN: &str = "countersign:id_tokens.issue_own";
    const REVOKE: &str = "countersign:signing_keys.revoke";
    const ROTATE: &str = "countersign:signing_keys.rotate";

    fn reached(granted: &[&str], grants: &[ReservedGrant]) -> Vec<String> {
        let workspace_id = WorkspaceId::from_random([1; 16]);
        let found = reachable_scopes(&workspace_id, &issuer(1), &scopes(granted), grants);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn s69_id_tokens_for_oneself_lead_to_what_is_granted_to_subjects_behind_our_own_issuers() {
        let workspace_id = WorkspaceId::from_random([1; 16]);
        let chosen = format!("{workspace_id}/{}/", issuer(1));
        let other_issuer = format!("{workspace_id}/{}/", issuer(7));
        let other_workspace = format!("{}/{}/", WorkspaceId::from_random([2; 16]), issuer(1));
        for (subject, is_reached) in [
            (format!("{chosen}repo:acme/app"), true),
            (format!("{chosen}*"), true),
            (format!("{workspace_id}/*"), true),
            ("ws_*".to_owned(), true),
            ("*".to_owned(), true),
            ("*:ref:refs/heads/main".to_owned(), true),
            (format!("{other_issuer}*"), false),
            (format!("{other_workspace}*"), false),
            ("org:acme:*".to_owned(), false),
            ("org:acme:vault".to_owned(), false),
            (workspace_id.to_string(), false),
        ] {
            let grants = [grant(9, &["org:x".to_owned(), subject.clone()], &[REVOKE, "deploy"])];
            assert_eq!(reached(&[OWN, "deploy"], &grants).contains(&REVOKE.to_owned()), is_reached, "{subject}");
            assert_eq!(reached(&["deploy", ROTATE], &grants), [ROTATE], "{subject}");
        }
    }

    #[test]
    fn s69_what_is_reached_leads_on_and_ends() {
        let workspace_id = WorkspaceId::from_random([1; 16]);
        let of = |number: u8| format!("{workspace_id}/{}/*", issuer(number));
        let grants = [
            grant(9, &[of(1)], &[OWN]),
            grant(8, &[of(9)], &[OWN, ROTATE]),
            grant(9, &[of(8)], &[REVOKE]),
            grant(5, &[of(4)], &[REVOKE]),
        ];
        assert_eq!(reached(&[OWN], &grants), [OWN, REVOKE, ROTATE]);
        assert_eq!(reached(&[OWN], &grants[1..]), [OWN]);
        // Where no ID token for oneself can be had, the way ends.
        assert_eq!(reached(&[OWN], &[grant(9, &[of(1)], &[ROTATE]), grant(8, &[of(9)], &[REVOKE])]), [OWN, ROTATE]);
    }
}
