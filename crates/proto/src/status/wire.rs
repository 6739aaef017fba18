//! A refusal as a gRPC status, within what clients read (SECURITY 84).

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;

use countersign_domain::values::reason::Reason;
use countersign_domain::values::violation::Violation;
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{COMMITTED, ERROR_DOMAIN, NOTHING, Refusal, row};

/// The most that the details of a status are on the wire (SECURITY 84). Clients read 8 KiB of metadata; with the message beside it a
/// status stays below 6.
const DETAILS_BYTES: usize = 4 * 1024;

/// The most that the message of a status is on the wire, where most bytes that are not letters or digits become three.
const MESSAGE_BYTES: usize = 1280;

/// The key in `google.rpc.ErrorInfo.metadata` that says how many violations were left out of `BadRequest`.
const VIOLATIONS_LEFT_OUT: &str = "violations_left_out";

impl From<Refusal> for Status {
    /// Where the details would be too long for clients, violations are left out from the end and counted, in the metadata and
    /// in the message.
    fn from(refusal: Refusal) -> Self {
        let code = row(refusal.reason).code;
        let total = refusal.violations.iter().count();
        let mut kept = total;
        loop {
            let left_out = total - kept;
            let (message, details) = refusal.wire(kept, left_out);
            let status = Self::with_error_details(code, message, details);
            let length = status.details().len();
            if kept == 0 || base64_length(length) <= DETAILS_BYTES {
                return status;
            }
            // What fits by the average so far, and at least one fewer.
            kept = (kept * DETAILS_BYTES / base64_length(length)).min(kept - 1);
        }
    }
}

/// How long bytes are in a `-bin` header.
fn base64_length(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

/// A message that takes at most so many bytes on the wire.
fn bounded_message(message: &str, most: usize) -> Cow<'_, str> {
    let mut length = 0;
    for (place, character) in message.char_indices() {
        let is_plain = character.is_ascii_alphanumeric() || "-._,:;/()[]'=".contains(character);
        length += if is_plain { 1 } else { 3 * character.len_utf8() };
        if length > most {
            return Cow::Owned(format!("{}...", &message[..place]));
        }
    }
    Cow::Borrowed(message)
}

impl Refusal {
    /// The message and details with the first `kept` violations.
    fn wire(&self, kept: usize, left_out: usize) -> (String, ErrorDetails) {
        let Self { reason, message, violations, resource, retry_after, permission, nothing_committed } = self;
        let mut metadata = HashMap::new();
        if let Some(permission) = permission {
            metadata.insert("permission".to_owned(), permission.as_scope().to_owned());
        }
        if *nothing_committed {
            metadata.insert(COMMITTED.to_owned(), NOTHING.to_owned());
        }
        let mut message = bounded_message(message, MESSAGE_BYTES).into_owned();
        if left_out > 0 {
            metadata.insert(VIOLATIONS_LEFT_OUT.to_owned(), left_out.to_string());
            // Writing to a string does not fail.
            let _ = write!(message, " ({left_out} violations are left out of the details, which would be too long)");
        }
        let mut details = ErrorDetails::with_error_info(reason.as_str(), ERROR_DOMAIN, metadata);
        for Violation { field, description } in violations.iter().take(kept) {
            details.add_bad_request_violation(bounded_message(field, 512), bounded_message(description, 1024));
        }
        if let Some(resource) = resource {
            let (kind, name) = (bounded_message(&resource.kind, 128), bounded_message(&resource.name, 256));
            if *reason == Reason::FailedPrecondition {
                details.add_precondition_failure_violation(
                    reason.as_str(),
                    format!("{kind} {name}"),
                    bounded_message(&message, 512),
                );
            }
            if *reason == Reason::QuotaExceeded {
                details.add_quota_failure_violation(format!("{kind} {name}"), bounded_message(&message, 512));
            }
            details.set_resource_info(kind, name, "", bounded_message(&message, 512));
        }
        if retry_after.is_some() {
            details.set_retry_info(*retry_after);
        }
        (message, details)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use countersign_domain::access::permission::Permission;
    use countersign_domain::values::violation::Violations;

    use super::*;

    /// What a status is as metadata, as clients count it (RFC 9113, section 6.5.2: 32 bytes beside name and value).
    fn metadata_bytes(status: &Status) -> usize {
        let mut headers = http::HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
    }

    #[test]
    fn s84_no_status_is_longer_than_6_kib_and_what_is_left_out_is_counted() {
        let refusal = |count: usize, field: &str, description: &str| {
            let mut violations = Violations::new();
            for number in 0..count {
                violations.add(format!("{field}[{number}]"), description);
            }
            Refusal::invalid(violations)
        };
        let long = "y".repeat(4000);
        let wide = "\u{fffd}".repeat(1500);
        let fields = "f.".repeat(2000);
        for count in [1, 2, 8, 9, 40, 41, 100, 1000] {
            for description in ["must be a scope", &long[..100], &long[..700], &long, &wide[..300], &wide] {
                for field in ["scopes", &fields] {
                    let refusal = refusal(count, field, description);
                    // A bound of its own keeps their number small.
                    let count = refusal.violations().iter().count();
                    let status = Status::from(refusal);
                    assert!(metadata_bytes(&status) <= 6 * 1024, "{count} of {}: {}", description.len(), metadata_bytes(&status));
                    let kept = status.get_details_bad_request().map_or(0, |found| found.field_violations.len());
                    let info = status.get_details_error_info().unwrap();
                    let left_out = info.metadata.get(VIOLATIONS_LEFT_OUT).map_or(0, |number| number.parse().unwrap());
                    assert_eq!(kept + left_out, count);
                    assert_eq!(left_out > 0, status.message().contains("left out"));
                    assert!(kept > 0, "at least one fits: {count} of {} with {}", description.len(), field.len());
                }
            }
        }
        let few = Status::from(refusal(20, "scopes", "must be a scope"));
        assert_eq!(few.get_details_bad_request().unwrap().field_violations.len(), 20, "nothing is left out without need");
    }

    #[test]
    fn s84_long_names_and_messages_are_cut() {
        for refusal in [
            Refusal::not_found("TrustRelationship", "x".repeat(10_000)),
            Refusal::failed_precondition("Issuer", "\u{1}".repeat(10_000), "m".repeat(10_000)),
            Refusal::new(Reason::Internal, "\u{fffd}".repeat(10_000)).with_retry(Duration::from_secs(1)),
            Refusal::permission_missing(Permission::IssuersGet).with_nothing_committed(),
        ] {
            let status = Status::from(refusal);
            assert!(metadata_bytes(&status) <= 6 * 1024, "{}", metadata_bytes(&status));
        }
    }
}
