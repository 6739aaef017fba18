//! The fields that say where a trusted issuer's keys come from, until it is known that they agree.

use std::time::Duration;

use super::TrustedIssuerDraft;
use crate::trust::key_source::{AuthoritiesPem, KeySource, UploadedKeySet};
use crate::values::issuer_url::{KeySetUrl, LoopbackHttp};
use crate::values::time::Timestamp;
use crate::values::violation::Violations;

/// The fields of a [`KeySource`] as the wire has them, side by side.
#[derive(Debug, Default)]
pub(super) struct KeyFields {
    jwks_url: Option<KeySetUrl>,
    jwks: Option<UploadedKeySet>,
    jwks_expire_time: Option<Timestamp>,
    ca_certificates: Option<AuthoritiesPem>,
    max_stale_age: Option<Duration>,
    /// Whether one of them could not be read, which was noted.
    is_broken: bool,
}

impl From<KeySource> for KeyFields {
    fn from(source: KeySource) -> Self {
        match source {
            KeySource::Fetched { jwks_url, authorities, max_stale_age } => {
                Self { jwks_url, ca_certificates: authorities, max_stale_age: Some(max_stale_age), ..Self::default() }
            }
            KeySource::Uploaded { key_set, not_after } => {
                Self { jwks: Some(key_set), jwks_expire_time: Some(not_after), ..Self::default() }
            }
        }
    }
}

impl KeyFields {
    pub(super) const NAMES: [&str; 5] = ["jwks_url", "jwks", "jwks_expire_time", "ca_certificates", "max_stale_age"];

    /// These fields with those that are named taken from the draft.
    pub(super) fn update(
        mut self,
        draft: &TrustedIssuerDraft,
        names: &dyn Fn(&str) -> bool,
        loopback_http: LoopbackHttp,
        violations: &mut Violations,
    ) -> Self {
        macro_rules! take {
            ($($field:ident ( $($argument:expr),* );)+) => {$(
                if names(stringify!($field)) {
                    match draft.$field($($argument),*) {
                        Some(value) => self.$field = value,
                        None => self.is_broken = true,
                    }
                }
            )+};
        }
        take! {
            jwks_url(loopback_http, violations);
            jwks(violations);
            jwks_expire_time(violations);
            ca_certificates(violations);
            max_stale_age(violations);
        }
        // How long fetched keys may be used says nothing once they are uploaded, unless somebody says both.
        if self.jwks.is_some() && names("jwks") && !names("max_stale_age") {
            self.max_stale_age = None;
        }
        self
    }

    /// The source that the fields describe, when they agree.
    pub(super) fn into_source(self, violations: &mut Violations) -> Option<KeySource> {
        let Self { jwks_url, jwks, jwks_expire_time, ca_certificates, max_stale_age, is_broken } = self;
        if is_broken {
            return None;
        }
        let Some(key_set) = jwks else {
            if jwks_expire_time.is_some() {
                violations.add("trusted_issuer.jwks_expire_time", "must be left out without `jwks`");
                return None;
            }
            let max_stale_age = max_stale_age.unwrap_or(KeySource::DEFAULT_MAX_STALE_AGE);
            return Some(KeySource::Fetched { jwks_url, authorities: ca_certificates, max_stale_age });
        };
        let idle = [
            ("trusted_issuer.jwks_url", jwks_url.is_some()),
            ("trusted_issuer.ca_certificates", ca_certificates.is_some()),
            ("trusted_issuer.max_stale_age", max_stale_age.is_some()),
        ];
        for (field, _) in idle.iter().filter(|(_, is_set)| *is_set) {
            violations.add(*field, "must be left out or cleared beside `jwks`: nothing is fetched");
        }
        let is_idle = idle.iter().any(|(_, is_set)| *is_set);
        let Some(not_after) = jwks_expire_time else {
            violations.add("trusted_issuer.jwks_expire_time", "is required beside `jwks`: uploaded keys must end some day");
            return None;
        };
        (!is_idle).then_some(KeySource::Uploaded { key_set, not_after })
    }
}
