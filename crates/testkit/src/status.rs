//! Asserts on refusals: always the code and the reason, never the wording.

use countersign_domain::values::reason::Reason;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The name a reason has on the wire: `SUBJECT_TOKEN_REPLAYED`.
///
/// Made from the variant's name and not by the code under test.
pub fn wire_name(reason: Reason) -> String {
    let mut name = String::new();
    for letter in format!("{reason:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// Asserts that a call was refused with this code and, in its `google.rpc.ErrorInfo`, this reason.
#[track_caller]
pub fn assert_refused(status: &Status, code: Code, reason: Reason) {
    let info = status.get_error_details().error_info().cloned();
    let Some(info) = info else { panic!("no google.rpc.ErrorInfo in {status:?}") };
    assert_eq!((status.code(), info.reason.as_str()), (code, wire_name(reason).as_str()), "{}", status.message());
    assert_eq!(info.domain, "countersign");
}

/// The fields that a `google.rpc.BadRequest` complains of, sorted.
#[track_caller]
pub fn violated_fields(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let Some(bad_request) = details.bad_request() else { panic!("no google.rpc.BadRequest in {status:?}") };
    let mut fields: Vec<String> = bad_request.field_violations.iter().map(|violation| violation.field.clone()).collect();
    fields.sort();
    fields
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn wire_names_are_upper_snake_case() {
        assert_eq!(wire_name(Reason::Internal), "INTERNAL");
        assert_eq!(wire_name(Reason::SubjectTokenLifetimeTooLong), "SUBJECT_TOKEN_LIFETIME_TOO_LONG");
    }

    fn refused() -> Status {
        let details = ErrorDetails::with_error_info("SUBJECT_TOKEN_REPLAYED", "countersign", HashMap::new());
        Status::with_error_details(Code::Unauthenticated, "used", details)
    }

    #[test]
    fn the_right_code_and_reason_pass() {
        assert_refused(&refused(), Code::Unauthenticated, Reason::SubjectTokenReplayed);
    }

    #[test]
    #[should_panic(expected = "SUBJECT_TOKEN_EXPIRED")]
    fn another_reason_fails() {
        assert_refused(&refused(), Code::Unauthenticated, Reason::SubjectTokenExpired);
    }

    #[test]
    #[should_panic(expected = "no google.rpc.ErrorInfo")]
    fn a_bare_code_fails() {
        assert_refused(&Status::unauthenticated("used"), Code::Unauthenticated, Reason::SubjectTokenReplayed);
    }
}
