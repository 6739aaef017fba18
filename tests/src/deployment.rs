//! A deployment of its own for a test: PostgreSQL, Redis, and the services as separate processes.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_testkit::folder::Folder;
use countersign_testkit::postgres::Postgres;
use countersign_testkit::process::{Process, Program, search_path};
use countersign_testkit::redis::Redis;
use countersign_testkit::softhsm::SoftHsm;
use countersign_testkit::{ports, wait};
use rustix::process::Signal;

use crate::compose::{Compose, Mount};
use crate::http1;

/// How long a service may take until it is ready. A debug build on a busy machine is slow.
const READY_LIMIT: Duration = Duration::from_mins(1);
/// How long a service may take to end after SIGTERM: its grace of 10 s, and some.
const DRAIN_LIMIT: Duration = Duration::from_secs(20);

/// Where init scripts of the database are mounted.
const INIT_SCRIPTS: &str = "/docker-entrypoint-initdb.d/";

/// A process of the deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Instance {
    /// Signs.
    IssuerService,
    /// Holds relationships and the audit log.
    TrustService,
    /// Exchanges.
    Gateway,
    /// Exchanges too, under the same public URL.
    SecondGateway,
    /// One more, which only deployments have that ask for it.
    ThirdGateway,
}

impl Instance {
    /// Those of a usual deployment, in the order of the compose file.
    pub const ALL: [Self; 4] = [Self::IssuerService, Self::TrustService, Self::Gateway, Self::SecondGateway];
    /// Three gateways, for those that ask for them.
    pub const GATEWAYS: [Self; 3] = [Self::Gateway, Self::SecondGateway, Self::ThirdGateway];

    /// Its service in the compose file, which is the name of its binary too.
    pub const fn service(self) -> &'static str {
        match self {
            Self::IssuerService => "issuer-service",
            Self::TrustService => "trust-service",
            Self::Gateway | Self::SecondGateway | Self::ThirdGateway => "exchange-gateway",
        }
    }

    /// The usual ports of its service: public, private, internal.
    const fn container_ports(self) -> [u16; 3] {
        match self {
            Self::IssuerService => [7401, 7411, 7421],
            Self::TrustService => [7402, 7412, 7422],
            Self::Gateway | Self::SecondGateway | Self::ThirdGateway => [7403, 7413, 7423],
        }
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// What Redis is at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisAtStart {
    /// Running, and empty.
    Running,
    /// Configured, but not there.
    NeverStarted,
}

/// A running deployment. Dropping it ends it and leaves nothing behind.
#[derive(Debug)]
pub struct Deployment {
    /// What was launched at the start.
    instances: Vec<Instance>,
    // Services end before what they use does.
    processes: Mutex<BTreeMap<Instance, Process>>,
    redis: Mutex<Option<Redis>>,
    postgres: Option<Mutex<Postgres>>,
    database_url: String,
    ports: BTreeMap<(Instance, u16), u16>,
    token: Option<SoftHsm>,
    /// Whether the gateways have the operator's credential, which the compose file does not give them: tests explain with it.
    gateways_know_operator: bool,
    compose: Compose,
    folder: Folder,
}

impl Deployment {
    /// Starts everything as the compose file says, with the roles and passwords of PostgreSQL and Redis too. Each service has the
    /// files of its own volumes and no others.
    pub fn start_as_composed() -> Self {
        let postgres = Postgres::start();
        let database = postgres.database();
        let mut deployment = Self::new(&Instance::ALL, &database, Some(postgres));
        deployment.gateways_know_operator = false;
        deployment.create_roles();
        let command = deployment.compose.command("redis");
        let options: Vec<String> = command[1..].iter().map(|option| deployment.in_mounts("redis", option)).collect();
        let redis = Redis::start_with(&options.iter().map(String::as_str).collect::<Vec<_>>());
        deployment.resolve("exchange-gateway-files/redis-url", "redis:6379", &format!("127.0.0.1:{}", redis.port()));
        let server = database.rsplit('@').next().expect("a URL of a database has a user").to_owned();
        for service in ["issuer-service", "trust-service"] {
            deployment.resolve(&format!("{service}-files/database-url"), "postgres:5432/countersign", &server);
        }
        deployment.redis = Mutex::new(Some(redis));
        deployment.launched()
    }

    /// Starts everything, and waits until all are ready. The database is one of many on the server that tests share.
    pub fn start(redis: RedisAtStart) -> Self {
        let redis = (redis == RedisAtStart::Running).then(Redis::start);
        let url = redis.as_ref().map_or_else(Redis::never_started, Redis::url);
        Self::prepare(&Instance::ALL, &url, redis, None).launched()
    }

    /// Starts everything with a PostgreSQL server of its own, for tests that break it.
    pub fn start_with_own_postgres() -> Self {
        let redis = Redis::start();
        Self::prepare(&Instance::ALL, &redis.url(), Some(redis), Some(Postgres::start())).launched()
    }

    /// Starts everything with three gateways, whose Redis is the caller's and has this address.
    pub fn start_with_three_gateways(redis_url: &str) -> Self {
        let mut instances = Instance::ALL.to_vec();
        instances.push(Instance::ThirdGateway);
        Self::prepare(&instances, redis_url, None, None).launched()
    }

    /// Starts everything with a PKCS #11 token that seals private keys, keeps those of access tokens, and may keep those of issuers.
    pub fn start_with_token() -> Self {
        let mut deployment = Self::prepare(&Instance::ALL, &Redis::never_started(), None, None);
        deployment.token = Some(SoftHsm::in_folder(&deployment.file("token")));
        write_private(&deployment.file("pin"), SoftHsm::PIN);
        deployment.launched()
    }

    fn launched(self) -> Self {
        let deployment = self;
        // All at once and in no order: services wait for each other.
        for instance in &deployment.instances {
            deployment.launch(*instance);
        }
        for instance in &deployment.instances {
            deployment.wait_until_ready(*instance);
        }
        deployment
    }

    /// Makes database, secrets and certificates; starts no service yet. PostgreSQL and Redis ask for no passwords.
    fn prepare(instances: &[Instance], redis_url: &str, redis: Option<Redis>, postgres: Option<Postgres>) -> Self {
        let database_url = postgres.as_ref().unwrap_or_else(|| Postgres::shared()).database();
        let mut deployment = Self::new(instances, &database_url, postgres);
        deployment.redis = Mutex::new(redis);
        for service in ["issuer-service", "trust-service"] {
            write_private(&deployment.volume(&format!("{service}-files")).join("database-url"), &database_url);
        }
        write_private(&deployment.volume("exchange-gateway-files").join("redis-url"), redis_url);
        deployment
    }

    /// Runs the init jobs of the compose file.
    fn new(instances: &[Instance], database_url: &str, postgres: Option<Postgres>) -> Self {
        let folder = Folder::new("deployment");
        let ports = instances
            .iter()
            .flat_map(|instance| instance.container_ports().map(|port| ((*instance, port), ports::free())))
            .collect();
        let deployment = Self {
            instances: instances.to_vec(),
            processes: Mutex::default(),
            redis: Mutex::default(),
            database_url: database_url.to_owned(),
            postgres: postgres.map(Mutex::new),
            ports,
            token: None,
            gateways_know_operator: true,
            compose: Compose::read(),
            folder,
        };
        for job in ["secrets", "certs"] {
            deployment.run_job(job);
        }
        deployment
    }

    /// Runs the init scripts that the compose file mounts in the database server, and has roles give their passwords.
    fn create_roles(&self) {
        let scripts: Vec<_> =
            self.compose.mounts("postgres").into_iter().filter(|mount| mount.target.starts_with(INIT_SCRIPTS)).collect();
        assert!(!scripts.is_empty(), "the compose file mounts a script that creates the roles");
        let environment = self.compose.environment("postgres", &BTreeMap::new());
        let environment: BTreeMap<_, _> =
            environment.into_iter().map(|(name, value)| (name, self.in_mounts("postgres", &value))).collect();
        for script in scripts {
            let output = Command::new(crate::repository().join(&script.source))
                .env_clear()
                .envs(&environment)
                // As the entry point of the image does, which names the superuser and the database that it created.
                .env("PATH", search_path())
                .env("POSTGRES_USER", Postgres::superuser())
                .env("POSTGRES_DB", self.database())
                .env("PGHOST", "127.0.0.1")
                .env("PGPORT", self.postgres().port().to_string())
                .output()
                .expect("the script can be started");
            assert!(output.status.success(), "{}: {}", script.source, String::from_utf8_lossy(&output.stderr));
        }
        self.postgres().require_passwords();
    }

    /// Puts the address of a server on this machine in the place of its name on the network of the compose file.
    fn resolve(&self, file: &str, name: &str, address: &str) {
        let path = self.folder.path().join("volumes").join(file);
        let url = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(url.contains(name), "{file} has the URL of {name}");
        write_private(&path, &url.replace(name, address));
    }

    /// The folder of a volume.
    pub fn volume(&self, name: &str) -> PathBuf {
        self.folder.path().join("volumes").join(name)
    }

    /// The public URL of the gateway, which is the audience of the deployment and the `iss` of its access tokens.
    pub fn public_url(&self) -> String {
        format!("http://localhost:{}", self.public_port(Instance::Gateway))
    }

    /// Below it lie the issuers of the deployment.
    pub fn issuer_base_url(&self) -> String {
        format!("http://localhost:{}", self.public_port(Instance::IssuerService))
    }

    /// The address of an instance's public port.
    pub fn url(&self, instance: Instance) -> String {
        format!("http://127.0.0.1:{}", self.public_port(instance))
    }

    /// The public port of an instance, on loopback.
    pub fn public_port(&self, instance: Instance) -> u16 {
        self.port(instance, instance.container_ports()[0])
    }

    /// The port with `/readyz`, on loopback.
    pub fn private_port(&self, instance: Instance) -> u16 {
        self.port(instance, instance.container_ports()[1])
    }

    /// The mTLS port, on loopback.
    pub fn internal_port(&self, instance: Instance) -> u16 {
        self.port(instance, instance.container_ports()[2])
    }

    /// The operator's first credential.
    pub fn bootstrap_token(&self) -> String {
        self.secret("bootstrap-token")
    }

    /// A secret that the init job created.
    pub fn secret(&self, name: &str) -> String {
        std::fs::read_to_string(self.volume("operator").join(name)).expect("the init job made it").trim().to_owned()
    }

    /// A file of the test, by its path below the deployment's folder.
    pub fn file(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Runs SQL in its database, one row a line.
    pub fn sql(&self, sql: &str) -> String {
        self.with_postgres(|postgres| postgres.execute(self.database(), sql))
    }

    /// Every row that the services keep, as text.
    pub fn database_contents(&self) -> String {
        self.with_postgres(|postgres| postgres.contents(self.database(), "countersign%"))
    }

    /// Its own PostgreSQL server.
    pub fn postgres(&self) -> MutexGuard<'_, Postgres> {
        let postgres = self.postgres.as_ref().expect("a server that others use too is not for breaking");
        postgres.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its Redis, `None` when that was never started or is the caller's.
    pub fn redis(&self) -> MutexGuard<'_, Option<Redis>> {
        self.redis.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The variables that the compose file gives an instance, with names and paths of the image replaced by those of this
    /// machine.
    pub fn environment(&self, instance: Instance) -> BTreeMap<String, String> {
        let variables = BTreeMap::from([
            ("COUNTERSIGN_PUBLIC_URL", self.public_url()),
            ("COUNTERSIGN_ISSUER_BASE_URL", self.issuer_base_url()),
            // Identity providers of tests, and the deployment's own issuers, are on loopback.
            ("COUNTERSIGN_ALLOW_LOOPBACK_HTTP", "true".to_owned()),
        ]);
        let environment = self.compose.environment(instance.service(), &variables);
        let environment = environment.into_iter().map(|(name, value)| (name, self.localized(instance, &value)));
        let mut environment: BTreeMap<_, _> = environment.collect();
        if instance.service() == "exchange-gateway" && self.gateways_know_operator {
            let file = self.volume("operator").join("bootstrap-token").display().to_string();
            environment.insert("COUNTERSIGN_BOOTSTRAP_TOKEN_FILE".to_owned(), file);
        }
        if let (Instance::IssuerService, Some(token)) = (instance, &self.token) {
            environment.remove("COUNTERSIGN_KEY_ENCRYPTION_KEY_FILE");
            let pin_file = self.file("pin");
            let of_token = [
                ("SOFTHSM2_CONF", token.configuration.display().to_string()),
                ("COUNTERSIGN_PKCS11__MODULE", token.module.display().to_string()),
                ("COUNTERSIGN_PKCS11__TOKEN_LABEL", token.label.clone()),
                ("COUNTERSIGN_PKCS11__PIN_FILE", pin_file.display().to_string()),
                ("COUNTERSIGN_PKCS11__KEY_ENCRYPTION_KEY_LABEL", SoftHsm::KEY_ENCRYPTION_KEY.to_owned()),
                ("COUNTERSIGN_PKCS11__KEEPS_ACCESS_TOKEN_KEYS", "true".to_owned()),
            ];
            environment.extend(of_token.map(|(name, value)| (name.to_owned(), value)));
        }
        environment
    }

    /// Starts an instance without waiting for it.
    pub fn launch(&self, instance: Instance) {
        let mut command = self.compose.command(instance.service());
        command[0] = crate::program(&command[0]).display().to_string();
        let process = Process::start(&Program {
            command,
            environment: self.environment(instance),
            directory: self.folder.path().to_owned(),
            log: self.log_file(instance),
            last_signal: "KILL",
        });
        assert!(self.processes().insert(instance, process).is_none(), "{instance} is running already");
    }

    /// Starts an instance and waits until it is ready.
    pub fn launch_and_wait(&self, instance: Instance) {
        self.launch(instance);
        self.wait_until_ready(instance);
    }

    /// Waits until an instance says that it is ready.
    pub fn wait_until_ready(&self, instance: Instance) {
        let port = self.private_port(instance);
        let ready = || {
            assert!(self.is_running(instance), "{instance} ended:\n{}", self.log(instance));
            http1::get(port, "/readyz").is_some_and(|answer| answer.status == 200)
        };
        let what = format!("{instance} is ready; its log is in {}", self.log_file(instance).display());
        wait::blocking(&what, READY_LIMIT, ready);
    }

    /// Whether an instance was launched and has not ended.
    pub fn is_running(&self, instance: Instance) -> bool {
        self.processes().get(&instance).is_some_and(Process::is_running)
    }

    /// How much memory an instance has resident, in bytes.
    pub fn resident_memory(&self, instance: Instance) -> u64 {
        self.processes().get(&instance).map_or(0, Process::resident_memory)
    }

    /// Sends SIGTERM, without waiting.
    pub fn terminate(&self, instance: Instance) {
        self.signal(instance, Signal::TERM);
    }

    /// Sends a signal, without waiting.
    pub fn signal(&self, instance: Instance, signal: Signal) {
        if let Some(process) = self.processes().get(&instance) {
            process.signal(signal);
        }
    }

    /// Waits for the end of an instance that was told to end, and forgets it, so that it can be launched again.
    pub fn wait_for_end(&self, instance: Instance) {
        // Not under the lock: others go on meanwhile.
        let process = self.processes().remove(&instance);
        if let Some(process) = process {
            process.wait_for_end(DRAIN_LIMIT);
        }
    }

    /// Kills an instance at once.
    pub fn kill(&self, instance: Instance) {
        let process = self.processes().remove(&instance);
        if let Some(process) = process {
            process.kill();
        }
    }

    /// Everything an instance logged, over all its starts.
    pub fn log(&self, instance: Instance) -> String {
        std::fs::read_to_string(self.log_file(instance)).unwrap_or_default()
    }

    /// Runs the `countersign` command against this deployment, with the operator's credential.
    pub fn command_line(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(crate::program("countersign"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.folder.path().join("home"))
            .env("COUNTERSIGN_CLI_ISSUER_ADDRESS", self.url(Instance::IssuerService))
            .env("COUNTERSIGN_CLI_TRUST_ADDRESS", self.url(Instance::TrustService))
            .env("COUNTERSIGN_CLI_GATEWAY_ADDRESS", self.url(Instance::Gateway))
            .env("COUNTERSIGN_CLI_CREDENTIAL_FILE", self.volume("operator").join("bootstrap-token"))
            .current_dir(self.folder.path());
        command
    }

    fn with_postgres<T>(&self, ask: impl Fn(&Postgres) -> T) -> T {
        if self.postgres.is_some() { ask(&self.postgres()) } else { ask(Postgres::shared()) }
    }

    fn database(&self) -> &str {
        self.database_url.rsplit('/').next().unwrap_or_default()
    }

    fn port(&self, instance: Instance, container_port: u16) -> u16 {
        self.ports[&(instance, container_port)]
    }

    fn processes(&self) -> MutexGuard<'_, BTreeMap<Instance, Process>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log_file(&self, instance: Instance) -> PathBuf {
        self.folder.path().join(format!("{instance}.log"))
    }

    /// A value of the compose file, as it is on this machine.
    fn localized(&self, instance: Instance, value: &str) -> String {
        let mut value = self.in_mounts(instance.service(), value);
        for port in instance.container_ports() {
            for address in ["0.0.0.0", "127.0.0.1"] {
                value = value.replace(&format!("{address}:{port}"), &format!("127.0.0.1:{}", self.port(instance, port)));
            }
        }
        for peer in [Instance::IssuerService, Instance::TrustService, Instance::Gateway] {
            for port in peer.container_ports() {
                value = value.replace(&format!("{}:{port}", peer.service()), &format!("localhost:{}", self.port(peer, port)));
            }
        }
        value
    }

    /// A value with paths in a container replaced by those of what is mounted there. A path that the service does not mount stays
    /// as it is, and exists nowhere on this machine.
    fn in_mounts(&self, service: &str, value: &str) -> String {
        let mut mounts = self.compose.mounts(service);
        mounts.sort_by_key(|mount| std::cmp::Reverse(mount.target.len()));
        let mounted = mounts.iter().find(|mount| value.contains(&mount.target));
        mounted.map_or_else(
            || value.to_owned(),
            |mount| {
                let source = if mount.is_bind() { crate::repository().join(&mount.source) } else { self.volume(&mount.source) };
                value.replace(&mount.target, &source.display().to_string())
            },
        )
    }

    /// Runs an init job of the compose file.
    fn run_job(&self, job: &str) {
        let command = self.compose.command(job);
        // A folder with the volumes that a job mounts below it is the folder of all of them.
        let arguments = command[1..].iter().map(|argument| {
            let below = argument.split_once('=').map(|(_, path)| format!("{path}/"));
            let is_above = |mount: &Mount| below.as_ref().is_some_and(|below| mount.target.starts_with(below));
            if self.compose.mounts(job).iter().any(is_above) { self.linked(job, argument) } else { self.in_mounts(job, argument) }
        });
        let output = Command::new(crate::program(&command[0]))
            .args(arguments)
            .env_clear()
            .current_dir(self.folder.path())
            .output()
            .expect("can start a program");
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Deployment {
    /// An argument that names a folder above mounted volumes, with a folder of links to them in its place.
    fn linked(&self, job: &str, argument: &str) -> String {
        let (flag, path) = argument.split_once('=').expect("a flag and its value");
        let folder = self.folder.path().join(job);
        std::fs::create_dir_all(&folder).expect("can make a folder");
        for mount in self.compose.mounts(job) {
            if let Some(name) = mount.target.strip_prefix(&format!("{path}/")) {
                let volume = self.volume(&mount.source);
                std::fs::create_dir_all(&volume).expect("can make a folder");
                std::os::unix::fs::symlink(volume, folder.join(name)).expect("can make a link");
            }
        }
        format!("{flag}={}", folder.display())
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for instance in &self.instances {
                let log = self.log(*instance);
                let start = log.char_indices().rev().nth(4_000).map_or(0, |(start, _)| start);
                #[expect(clippy::print_stderr, reason = "of a failed test, the end of each log is shown")]
                {
                    eprintln!("== {instance}\n{}", &log[start..]);
                }
            }
        }
    }
}

fn write_private(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("can make a folder");
    std::fs::write(path, text).expect("can write a file");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("can change a mode");
}
