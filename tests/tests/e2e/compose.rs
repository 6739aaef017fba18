//! The compose file and the image, as far as they can be checked without an engine.

use std::collections::BTreeSet;

use countersign_tests::compose::Compose;
use countersign_tests::deployment::Instance;
use countersign_tests::repository;

#[test]
fn every_lasting_service_has_a_health_check() {
    let compose = Compose::read();
    let jobs = ["secrets", "certs", "database-password"];
    for service in compose.services().iter().filter(|service| !jobs.contains(&service.as_str())) {
        assert!(!compose.health_check(service).is_empty(), "{service}");
    }
}

#[test]
fn every_program_that_containers_run_is_in_the_image() {
    let compose = Compose::read();
    let image = std::fs::read_to_string(repository().join("Dockerfile")).unwrap();
    let ours: BTreeSet<&str> = Instance::ALL.map(Instance::service).into();
    let mut programs: BTreeSet<String> = ours.iter().map(|service| compose.health_check(service)[1].clone()).collect();
    programs.extend(ours.iter().chain(&["secrets", "certs"]).map(|service| compose.command(service)[0].clone()));
    for program in programs {
        assert!(image.contains(&format!("target/release/{program}")), "{program}");
    }
}
