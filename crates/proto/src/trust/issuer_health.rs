//! How the keys of trusted issuers fare: gateways report it, trust-service stores and answers it.

use countersign_domain::trust::issuer_health::{HeldKeys, IssuerHealth, IssuerHealthReport, IssuerProblem, MAX_REPORTS};
use countersign_domain::values::violation::Violations;

use crate::common::{read, read_list, read_time, read_timestamp, texts, timestamp};
use crate::trust_v1 as wire;

/// Reports for the wire.
pub fn report_request(reports: impl IntoIterator<Item = IssuerHealthReport>) -> wire::ReportIssuerHealthRequest {
    wire::ReportIssuerHealthRequest { reports: reports.into_iter().map(Into::into).collect() }
}

/// Reads reports; notes everything wrong with any of them.
pub fn read_report_request(request: &wire::ReportIssuerHealthRequest) -> Result<Vec<IssuerHealthReport>, Violations> {
    let mut violations = Violations::new();
    if request.reports.is_empty() || request.reports.len() > MAX_REPORTS {
        violations.add("reports", format!("must hold 1 to {MAX_REPORTS} elements"));
        return Err(violations);
    }
    let reports = request
        .reports
        .iter()
        .enumerate()
        .filter_map(|(index, report)| read_report(&format!("reports[{index}]"), report, &mut violations))
        .collect();
    violations.into_result(reports)
}

impl From<IssuerHealthReport> for wire::IssuerHealthReport {
    fn from(report: IssuerHealthReport) -> Self {
        Self {
            workspace_id: report.workspace_id.to_string(),
            trusted_issuer_id: report.trusted_issuer_id.to_string(),
            revision: report.revision,
            health: Some((&report.health).into()),
        }
    }
}

impl From<&IssuerHealth> for wire::TrustedIssuerHealth {
    fn from(health: &IssuerHealth) -> Self {
        let (problem, http_status) = health.problem.map_or((wire::TrustedIssuerProblem::Unspecified, 0), problem);
        Self {
            attempt_time: Some(timestamp(health.attempted_at)),
            success_time: health.succeeded_at.map(timestamp),
            problem: problem.into(),
            http_status: http_status.into(),
            usable_keys: count(health.keys.usable),
            key_ids: texts(&health.keys.key_ids),
            ambiguous_key_ids: texts(&health.keys.ambiguous_key_ids),
            unusable_keys: count(health.keys.unusable),
            is_internal: health.is_internal,
        }
    }
}

fn problem(problem: IssuerProblem) -> (wire::TrustedIssuerProblem, u16) {
    use wire::TrustedIssuerProblem as Wire;
    match problem {
        IssuerProblem::HostRefused => (Wire::HostRefused, 0),
        IssuerProblem::Unreachable => (Wire::Unreachable, 0),
        IssuerProblem::CertificateRefused => (Wire::CertificateRefused, 0),
        IssuerProblem::DiscoveryStatus { status } => (Wire::DiscoveryStatus, status),
        IssuerProblem::DiscoveryDocumentInvalid => (Wire::DiscoveryDocumentInvalid, 0),
        IssuerProblem::DiscoveryIssuerMismatch => (Wire::DiscoveryIssuerMismatch, 0),
        IssuerProblem::JwksUriInvalid => (Wire::JwksUriInvalid, 0),
        IssuerProblem::JwksUriElsewhere => (Wire::JwksUriElsewhere, 0),
        IssuerProblem::KeySetStatus { status } => (Wire::KeySetStatus, status),
        IssuerProblem::KeySetInvalid => (Wire::KeySetInvalid, 0),
        IssuerProblem::KeySetSingleKey => (Wire::KeySetSingleKey, 0),
        IssuerProblem::KeySetWithoutKeys => (Wire::KeySetWithoutKeys, 0),
        IssuerProblem::KeySetTooManyKeys => (Wire::KeySetTooManyKeys, 0),
        IssuerProblem::UploadedKeysExpired => (Wire::UploadedKeysExpired, 0),
    }
}

#[expect(clippy::option_option, reason = "the outer option is a violation, the inner one an absent value")]
fn read_problem(field: &str, health: &wire::TrustedIssuerHealth, violations: &mut Violations) -> Option<Option<IssuerProblem>> {
    use wire::TrustedIssuerProblem as Wire;
    let status = violations.check(format!("{field}.http_status"), u16::try_from(health.http_status))?;
    let Ok(problem) = Wire::try_from(health.problem) else {
        violations.add(format!("{field}.problem"), "must be a value of TrustedIssuerProblem");
        return None;
    };
    Some(match problem {
        Wire::Unspecified => None,
        Wire::HostRefused => Some(IssuerProblem::HostRefused),
        Wire::Unreachable => Some(IssuerProblem::Unreachable),
        Wire::CertificateRefused => Some(IssuerProblem::CertificateRefused),
        Wire::DiscoveryStatus => Some(IssuerProblem::DiscoveryStatus { status }),
        Wire::DiscoveryDocumentInvalid => Some(IssuerProblem::DiscoveryDocumentInvalid),
        Wire::DiscoveryIssuerMismatch => Some(IssuerProblem::DiscoveryIssuerMismatch),
        Wire::JwksUriInvalid => Some(IssuerProblem::JwksUriInvalid),
        Wire::JwksUriElsewhere => Some(IssuerProblem::JwksUriElsewhere),
        Wire::KeySetStatus => Some(IssuerProblem::KeySetStatus { status }),
        Wire::KeySetInvalid => Some(IssuerProblem::KeySetInvalid),
        Wire::KeySetSingleKey => Some(IssuerProblem::KeySetSingleKey),
        Wire::KeySetWithoutKeys => Some(IssuerProblem::KeySetWithoutKeys),
        Wire::KeySetTooManyKeys => Some(IssuerProblem::KeySetTooManyKeys),
        Wire::UploadedKeysExpired => Some(IssuerProblem::UploadedKeysExpired),
    })
}

fn read_report(field: &str, report: &wire::IssuerHealthReport, violations: &mut Violations) -> Option<IssuerHealthReport> {
    let workspace_id = read(format!("{field}.workspace_id"), &report.workspace_id, violations);
    let trusted_issuer_id = read(format!("{field}.trusted_issuer_id"), &report.trusted_issuer_id, violations);
    let Some(health) = &report.health else {
        violations.add(format!("{field}.health"), "is required");
        return None;
    };
    let health = read_health(&format!("{field}.health"), health, violations);
    Some(IssuerHealthReport {
        workspace_id: workspace_id?,
        trusted_issuer_id: trusted_issuer_id?,
        revision: report.revision,
        health: health?,
    })
}

fn read_health(field: &str, health: &wire::TrustedIssuerHealth, violations: &mut Violations) -> Option<IssuerHealth> {
    let attempted_at = read_time(format!("{field}.attempt_time"), health.attempt_time.as_ref(), violations);
    let succeeded_at = match &health.success_time {
        None => Some(None),
        Some(time) => violations.check(format!("{field}.success_time"), read_timestamp(time)).map(Some),
    };
    let problem = read_problem(field, health, violations);
    let usable = violations.check(format!("{field}.usable_keys"), u32::try_from(health.usable_keys));
    let key_ids = read_list(&format!("{field}.key_ids"), &health.key_ids, violations);
    let ambiguous_key_ids = read_list(&format!("{field}.ambiguous_key_ids"), &health.ambiguous_key_ids, violations);
    let unusable = violations.check(format!("{field}.unusable_keys"), u32::try_from(health.unusable_keys));
    Some(IssuerHealth {
        attempted_at: attempted_at?,
        succeeded_at: succeeded_at?,
        problem: problem?,
        is_internal: health.is_internal,
        keys: HeldKeys { usable: usable?, key_ids: key_ids?, ambiguous_key_ids: ambiguous_key_ids?, unusable: unusable? },
    })
}

/// A set has at most 64 keys.
fn count(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use countersign_domain::values::id::{TrustedIssuerId, WorkspaceId};
    use countersign_domain::values::time::Timestamp;

    use super::*;

    fn report(problem: Option<IssuerProblem>) -> IssuerHealthReport {
        IssuerHealthReport {
            workspace_id: WorkspaceId::from_random([1; 16]),
            trusted_issuer_id: TrustedIssuerId::from_random([2; 16]),
            revision: 3,
            health: IssuerHealth {
                attempted_at: Timestamp::from_second(20).unwrap(),
                succeeded_at: problem.map(|_| Timestamp::from_second(10).unwrap()),
                problem,
                is_internal: problem.is_some(),
                keys: HeldKeys {
                    usable: 2,
                    key_ids: vec!["a".parse().unwrap()],
                    ambiguous_key_ids: vec!["b".parse().unwrap()],
                    unusable: 1,
                },
            },
        }
    }

    #[test]
    fn every_report_survives_a_round_trip() {
        let problems = [
            None,
            Some(IssuerProblem::HostRefused),
            Some(IssuerProblem::Unreachable),
            Some(IssuerProblem::CertificateRefused),
            Some(IssuerProblem::DiscoveryStatus { status: 404 }),
            Some(IssuerProblem::DiscoveryDocumentInvalid),
            Some(IssuerProblem::DiscoveryIssuerMismatch),
            Some(IssuerProblem::JwksUriInvalid),
            Some(IssuerProblem::JwksUriElsewhere),
            Some(IssuerProblem::KeySetStatus { status: 503 }),
            Some(IssuerProblem::KeySetInvalid),
            Some(IssuerProblem::UploadedKeysExpired),
        ];
        let reports = problems.map(report);
        assert_eq!(read_report_request(&report_request(reports.clone())), Ok(reports.to_vec()));
    }

    #[test]
    fn every_fault_of_a_report_is_named() {
        let mut request = report_request([report(None), report(None)]);
        request.reports[0].workspace_id.clear();
        request.reports[0].health.as_mut().unwrap().attempt_time = None;
        request.reports[1].health.as_mut().unwrap().problem = 99;
        request.reports[1].health.as_mut().unwrap().key_ids.push(String::new());
        let violations = read_report_request(&request).unwrap_err();
        let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
        let expected = [
            "reports[0].workspace_id",
            "reports[0].health.attempt_time",
            "reports[1].health.problem",
            "reports[1].health.key_ids[1]",
        ];
        assert_eq!(fields, expected);
        for count in [0, MAX_REPORTS + 1] {
            assert!(read_report_request(&report_request((0..count).map(|_| report(None)))).is_err(), "{count}");
        }
    }
}
