//! The compose file and the image, as far as they can be checked without an engine.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use countersign_tests::compose::{Compose, Mount};
use countersign_tests::deployment::{Deployment, Instance};
use countersign_tests::repository;
use serde_json::{Value, json};

/// The services that run once and end.
const JOBS: [&str; 2] = ["secrets", "certs"];

fn lasting(compose: &Compose) -> Vec<String> {
    compose.services().into_iter().filter(|service| !JOBS.contains(&service.as_str())).collect()
}

#[test]
fn every_lasting_service_has_a_health_check() {
    let compose = Compose::read();
    for service in lasting(&compose) {
        assert!(!compose.health_check(&service).is_empty(), "{service}");
    }
}

#[test]
fn every_program_that_containers_run_is_in_the_image() {
    let compose = Compose::read();
    let image = std::fs::read_to_string(repository().join("Dockerfile")).unwrap();
    let ours: BTreeSet<&str> = Instance::ALL.map(Instance::service).into();
    let mut programs: BTreeSet<String> = ours.iter().map(|service| compose.health_check(service)[1].clone()).collect();
    programs.extend(ours.iter().chain(&JOBS).map(|service| compose.command(service)[0].clone()));
    for program in programs {
        assert!(image.contains(&format!("target/release/{program}")), "{program}");
    }
}

#[test]
fn every_container_runs_without_rights_on_a_read_only_file_system() {
    let compose = Compose::read();
    assert!(compose.services().len() >= 7, "{:?}", compose.services());
    for service in compose.services() {
        let key = |key: &str| compose.key(&service, key);
        assert_eq!(key("read_only"), &json!(true), "{service}");
        assert_eq!(key("cap_drop"), &json!(["ALL"]), "{service}");
        assert_eq!(key("security_opt"), &json!(["no-new-privileges:true"]), "{service}");
        let user = key("user").as_str().unwrap_or_default();
        let numbers: Vec<u32> = user.split(':').filter_map(|number| number.parse().ok()).collect();
        assert!(numbers.len() == 2 && !numbers.contains(&0), "{service} runs as {user}");
        for forbidden in ["cap_add", "privileged", "pid", "ipc", "devices", "env_file", "secrets", "configs"] {
            assert_eq!(key(forbidden), &Value::Null, "{service}: {forbidden}");
        }
        let passwords = compose.environment(&service, &BTreeMap::new()).into_iter().filter(|(name, _)| {
            ["PASSWORD", "TOKEN", "SECRET", "KEY"].iter().any(|secret| name.contains(secret)) && !name.ends_with("_FILE")
        });
        assert_eq!(passwords.collect::<Vec<_>>(), [], "{service}: secrets come from files");
    }
    let image = std::fs::read_to_string(repository().join("Dockerfile")).unwrap();
    assert!(image.lines().any(|line| line == "USER 65532:65532"), "the image does not run as root either");
}

#[test]
fn a_container_mounts_its_own_files_and_no_others() {
    let compose = Compose::read();
    let lasting = lasting(&compose);
    for service in &lasting {
        for Mount { source, target, read_only } in compose.mounts(service) {
            match source.as_str() {
                // What the database keeps is the one thing that a container writes.
                "postgres" => assert_eq!(service, "postgres"),
                script if script.starts_with("./deploy/") => {
                    assert!(read_only && repository().join(script).is_file(), "{script}");
                }
                files => {
                    assert_eq!((files, target.as_str()), (&*format!("{service}-files"), "/var/lib/countersign/files"));
                    assert!(read_only, "{service}");
                }
            }
        }
        assert!(compose.mounts(service).iter().any(|mount| mount.source == format!("{service}-files")), "{service}");
    }
    // The originals, and the authority's key with them, are where no lasting container sees them.
    for volume in compose.volumes() {
        let users: BTreeSet<String> = compose
            .services()
            .into_iter()
            .filter(|service| compose.mounts(service).iter().any(|mount| mount.source == volume))
            .collect();
        let of_services = users.iter().filter(|service| lasting.contains(service)).count();
        let expected = usize::from(!["operator", "authority"].contains(&volume.as_str()));
        assert_eq!(of_services, expected, "{volume} is mounted by {users:?}");
    }
    for job in JOBS {
        assert_eq!(compose.key(job, "network_mode"), "none");
        assert_eq!(compose.key(job, "ports"), &Value::Null);
    }
}

#[test]
fn only_the_public_ports_are_published_and_the_servers_answer_their_services_alone() {
    let compose = Compose::read();
    let published: BTreeMap<String, Value> = compose
        .services()
        .into_iter()
        .map(|service| (service.clone(), compose.key(&service, "ports").clone()))
        .filter(|(_, ports)| !ports.is_null())
        .collect();
    let expected = [("issuer-service", 7401), ("trust-service", 7402), ("exchange-gateway", 7403)];
    let expected = expected.map(|(service, port)| (service.to_owned(), json!([format!("127.0.0.1:{port}:{port}")])));
    assert_eq!(published, BTreeMap::from(expected));
    let on = |network: &str| -> BTreeSet<String> {
        let is_on = |service: &String| {
            let networks = compose.key(service, "networks").as_array().cloned().unwrap_or_default();
            networks.contains(&json!(network))
        };
        compose.services().into_iter().filter(is_on).collect()
    };
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    assert_eq!(on("database"), names(&["issuer-service", "postgres", "trust-service"]));
    assert_eq!(on("cache"), names(&["exchange-gateway", "redis"]));
    assert_eq!(on("services"), names(&["exchange-gateway", "issuer-service", "trust-service"]));
}

/// Runs SQL as the role of a URL.
fn sql(url: &str, sql: &str) -> Result<String, String> {
    let output =
        Command::new("psql").args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql]).output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_services_work_with_the_files_roles_and_passwords_of_the_compose_file() {
    let deployment = tokio::task::spawn_blocking(Deployment::start_as_composed).await.unwrap();
    let scene = crate::deployments::Scene::in_deployment(&deployment).await;
    let issuer = scene.operator.create_rwx_issuer(&scene.trust.workspace_id, &["ES256"]).await;
    assert!(issuer.issuer_url.starts_with(&deployment.issuer_base_url()));
    let gateway = deployment.url(Instance::Gateway);
    let token = scene.token();
    let answer = countersign_tests::token_endpoint::exchange(&gateway, &token, &[]).await;
    assert!(!answer.access_token().is_empty());
    assert_ne!(countersign_tests::token_endpoint::exchange(&gateway, &token, &[]).await.status, 200, "a token counts once");

    // Redis: the gateway has what it needs, and others have nothing.
    wait_for_redis(&deployment);
    {
        let redis = deployment.redis();
        let redis = redis.as_ref().unwrap();
        assert!(redis.command("GET countersign:x").starts_with("-NOAUTH"), "the default user is off");
        assert!(redis.command("AUTH default none").starts_with("-WRONGPASS"));
        assert_eq!(health_check(redis.port(), &Compose::read()), "PONG");
    }
    let url = std::fs::read_to_string(deployment.volume("exchange-gateway-files").join("redis-url")).unwrap();
    let password = url.strip_prefix("redis://countersign:").and_then(|rest| rest.split_once('@')).unwrap().0.to_owned();
    let as_gateway = |port: u16, arguments: &[&str]| {
        // In the environment, where no list of processes shows it.
        let output = Command::new("redis-cli")
            .args(["-p", &port.to_string(), "--user", "countersign"])
            .args(arguments)
            .env("REDISCLI_AUTH", &password)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let port = deployment.redis().as_ref().unwrap().port();
    for refused in [&["GET", "other"][..], &["KEYS", "*"], &["FLUSHALL"], &["CONFIG", "GET", "*"], &["ACL", "LIST"]] {
        assert!(as_gateway(port, refused).starts_with("NOPERM"), "{refused:?}: {}", as_gateway(port, refused));
    }

    // PostgreSQL: each role has its own schema, needs its password and has no right beyond it.
    let url =
        |service: &str| std::fs::read_to_string(deployment.volume(&format!("{service}-files")).join("database-url")).unwrap();
    let (issuer_url, trust_url) = (url("issuer-service"), url("trust-service"));
    for (own, role, foreign) in [
        (&issuer_url, "countersign_issuer", "countersign_trust.workspaces"),
        (&trust_url, "countersign_trust", "countersign_issuer.signing_keys"),
    ] {
        assert_eq!(sql(own, "SELECT current_user").unwrap(), role);
        let rights = "SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls FROM pg_roles WHERE rolname = current_user";
        assert_eq!(sql(own, rights).unwrap(), "f|f|f|f|f");
        assert_eq!(sql(own, &format!("SELECT count(*) > 0 FROM {role}.schema_migrations")).unwrap(), "t");
        for refused in [
            &*format!("SELECT count(*) FROM {foreign}"),
            &format!("DELETE FROM {foreign}"),
            "CREATE TABLE public.mine (n int)",
            "CREATE SCHEMA another",
            "CREATE TEMPORARY TABLE mine (n int)",
            "SELECT pg_read_file('/etc/passwd')",
            "COPY (SELECT 1) TO PROGRAM 'true'",
            "SELECT rolpassword FROM pg_authid",
        ] {
            let error = sql(own, refused).expect_err(refused);
            assert!(error.contains("permission denied") || error.contains("must be superuser"), "{refused}: {error}");
        }
        let (before, after) = own.split_once('@').unwrap();
        let wrong = format!("{}:wrong@{after}", before.rsplit_once(':').unwrap().0);
        assert!(sql(&wrong, "SELECT 1").expect_err("a wrong password").contains("authentication failed"));
    }

    // Each service has what it names, and the authority's key is in none of their volumes.
    let authority_key = std::fs::read(deployment.volume("authority").join("ca.key")).unwrap();
    let mut seen = BTreeMap::new();
    for service in lasting(&Compose::read()) {
        for file in std::fs::read_dir(deployment.volume(&format!("{service}-files"))).unwrap() {
            let path = file.unwrap().path();
            assert_ne!(std::fs::read(&path).unwrap(), authority_key, "{}", path.display());
            seen.entry(path.file_name().unwrap().to_str().unwrap().to_owned())
                .or_insert_with(BTreeSet::new)
                .insert(service.clone());
        }
    }
    let only = |services: &[&str]| services.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    assert_eq!(seen["key-encryption-key"], only(&["issuer-service"]));
    assert_eq!(seen["bootstrap-token"], only(&["issuer-service", "trust-service"]));
    assert_eq!(seen["superuser-password"], only(&["postgres"]));
    assert_eq!(seen["users.acl"], only(&["redis"]));
    for service in ["issuer-service", "trust-service", "exchange-gateway"] {
        assert_eq!(seen[&format!("{service}.key")], only(&[service]));
    }
}

/// Waits until both gateways are connected to Redis.
fn wait_for_redis(deployment: &Deployment) {
    for instance in [Instance::Gateway, Instance::SecondGateway] {
        let connected = || {
            let metrics = countersign_tests::http1::get(deployment.private_port(instance), "/metrics");
            metrics.is_some_and(|answer| answer.body.lines().any(|line| line == "countersign_replay_cache_connected 1"))
        };
        countersign_testkit::wait::blocking(
            &format!("{instance} is connected to Redis"),
            std::time::Duration::from_secs(30),
            connected,
        );
    }
}

/// What the health check of Redis prints.
fn health_check(port: u16, compose: &Compose) -> String {
    let check = compose.health_check("redis");
    let output = Command::new(&check[1]).args(["-p", &port.to_string()]).args(&check[2..]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
