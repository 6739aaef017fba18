//! `countersign issuers update`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use countersign_domain::issuing::profile::Profile;
use countersign_proto::common;
use countersign_proto::issuer_v1::{Issuer, SubjectChange, UpdateIssuerRequest};

use super::{custody, read_profile};
use crate::duration;
use crate::failure::{Failure, Result};
use crate::resources::KeyCustodyArg;

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// The issuer, `is_…`.
    #[arg(value_name = "ID")]
    id: String,
    /// What tokens say of a run, as for `create`.
    #[arg(long, value_name = "PROFILE", conflicts_with = "profile_file")]
    profile: Option<String>,
    /// A profile of your own, TOML, as for `create`.
    #[arg(long, value_name = "FILE")]
    profile_file: Option<PathBuf>,
    /// When runs will have other subjects: a template of them as it is. Repeat for several, in order.
    #[arg(long, value_name = "TEMPLATE", requires = "accept_subject_to")]
    accept_subject_from: Vec<String>,
    /// When runs will have other subjects: a template of them as it will be. Repeat for several, in order.
    #[arg(long, value_name = "TEMPLATE", requires = "accept_subject_from")]
    accept_subject_to: Vec<String>,
    /// A name for people; empty for none.
    #[arg(long, value_name = "NAME")]
    display_name: Option<String>,
    /// A JOSE algorithm it signs with, in place of all present ones; the first is the default. Repeat for several.
    #[arg(long, value_name = "ALG")]
    algorithm: Vec<String>,
    /// An audience that tokens may be asked for, in place of all present ones. Repeat for several.
    #[arg(long, value_name = "AUDIENCE", conflicts_with = "any_audience")]
    allowed_audience: Vec<String>,
    /// Tokens may be asked for any audience.
    #[arg(long)]
    any_audience: bool,
    /// How long a token lives when the request does not say.
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    default_token_duration: Option<Duration>,
    /// The longest a token may live.
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    max_token_duration: Option<Duration>,
    /// How long a key signs before the next one takes over; 0s for until somebody asks.
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    rotation_period: Option<Duration>,
    /// Where the private halves of keys are kept that are made from now on.
    #[arg(long, value_name = "CUSTODY")]
    key_custody: Option<KeyCustodyArg>,
}

impl UpdateArgs {
    /// What is asked of the service: the fields that were given, and no other.
    pub(super) fn into_request(self, workspace_id: String) -> Result<UpdateIssuerRequest> {
        let mut issuer = Issuer { id: self.id, workspace_id, ..Issuer::default() };
        let mut paths = Vec::new();
        let mut names = |path: &str, is_given: bool| paths.extend(is_given.then(|| path.to_owned()));
        if let Some(path) = self.profile_file {
            Profile::CUSTOM.clone_into(&mut issuer.profile);
            issuer.profile_definition = Some(read_profile(&path)?.into());
            names("profile_definition", true);
        }
        names("profile", self.profile.is_some() || issuer.profile_definition.is_some());
        names("display_name", self.display_name.is_some());
        names("algorithms", !self.algorithm.is_empty());
        names("allowed_audiences", self.any_audience || !self.allowed_audience.is_empty());
        names("default_token_duration", self.default_token_duration.is_some());
        names("max_token_duration", self.max_token_duration.is_some());
        names("rotation_period", self.rotation_period.is_some());
        names("key_custody", self.key_custody.is_some());
        if paths.is_empty() {
            return Err(Failure::usage("nothing is to be changed: name what is"));
        }
        if let Some(profile) = self.profile {
            issuer.profile = profile;
        }
        issuer.display_name = self.display_name.unwrap_or_default();
        issuer.algorithms = self.algorithm;
        issuer.allowed_audiences = self.allowed_audience;
        issuer.default_token_duration = self.default_token_duration.map(common::duration);
        issuer.max_token_duration = self.max_token_duration.map(common::duration);
        issuer.rotation_period = self.rotation_period.map(common::duration);
        issuer.key_custody = custody(self.key_custody);
        let accepts = !self.accept_subject_from.is_empty();
        Ok(UpdateIssuerRequest {
            issuer: Some(issuer),
            update_mask: Some(prost_types::FieldMask { paths }),
            accept_subject_change: accepts
                .then_some(SubjectChange { from: self.accept_subject_from, to: self.accept_subject_to }),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: UpdateArgs,
    }

    fn request(line: &[&str]) -> Result<UpdateIssuerRequest> {
        let line = ["update", "is_1"].into_iter().chain(line.iter().copied());
        let parsed = Line::try_parse_from(line).map_err(|error| Failure::usage(error.to_string()))?;
        parsed.args.into_request("ws_1".to_owned())
    }

    fn paths(line: &[&str]) -> Vec<String> {
        request(line).unwrap().update_mask.unwrap().paths
    }

    #[test]
    fn what_is_given_is_changed_and_nothing_else() {
        assert_eq!(paths(&["--display-name", ""]), ["display_name"]);
        assert_eq!(paths(&["--any-audience", "--algorithm", "ES256"]), ["algorithms", "allowed_audiences"]);
        assert_eq!(paths(&["--max-token-duration", "2h"]), ["max_token_duration"]);
        assert_eq!(paths(&["--rotation-period", "0s"]), ["rotation_period"]);
        assert!(matches!(request(&[]), Err(Failure::Usage(_))));
        assert!(matches!(request(&["--any-audience", "--allowed-audience", "a"]), Err(Failure::Usage(_))));
    }

    #[test]
    fn a_change_of_subjects_is_accepted_with_both_forms() {
        let templates = ["--accept-subject-from", "a:{a}", "--accept-subject-to", "b:{b}", "--accept-subject-to", "c:{c}"];
        let request_of = |more: &[&str]| request(&[&["--profile", "rwx"], more].concat());
        let accepted = request_of(&templates).unwrap().accept_subject_change.unwrap();
        assert_eq!((accepted.from, accepted.to), (vec!["a:{a}".to_owned()], vec!["b:{b}".to_owned(), "c:{c}".to_owned()]));
        assert_eq!(request_of(&[]).unwrap().accept_subject_change, None);
        assert!(matches!(request_of(&templates[..2]), Err(Failure::Usage(_))), "one of them is not enough");
        assert!(matches!(request_of(&templates[2..]), Err(Failure::Usage(_))));
    }

    #[test]
    fn a_file_is_the_custom_profile() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("profile.toml");
        std::fs::write(&path, "audience = 'a'").unwrap();
        let request = request(&["--profile-file", path.to_str().unwrap()]).unwrap();
        assert_eq!(request.update_mask.unwrap().paths, ["profile_definition", "profile"]);
        let issuer = request.issuer.unwrap();
        assert_eq!((issuer.profile.as_str(), issuer.profile_definition.unwrap().audience.as_str()), ("custom", "a"));
    }
}
