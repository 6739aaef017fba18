//! Where the services are, as whom to call them, and the channels to them.
//!
//! Each setting is taken from the first place that has it: flag, environment variable, context file, default. The credential is
//! `--credential-file`, else its environment variable, else the context's `credential_file`, else the token that
//! `auth exchange-oidc-token` stored for this gateway, while it is valid.

use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_discovery::Authorities;
use countersign_domain::values::time::Clock;
use countersign_runtime::disclosure::{self, Concealed, FileName, SecretShape};
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use url::{Host, Url};

use crate::context::{Context, FILE_NAME};
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::secret::Secret;
use crate::stored_token::StoredToken;
use crate::text_file;

/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Which deployment to speak to, and as whom.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionArgs {
    /// The context file [default: countersign/context.toml in the user's configuration folder].
    #[arg(long, global = true, env = "COUNTERSIGN_CLI_CONTEXT", value_name = "FILE")]
    pub(crate) context: Option<PathBuf>,
    /// URL of issuer-service [default: of the context, else <http://localhost:7401>].
    #[arg(long, global = true, env = "COUNTERSIGN_CLI_ISSUER_ADDRESS", value_name = "URL")]
    pub(crate) issuer_address: Option<String>,
    /// URL of trust-service [default: of the context, else <http://localhost:7402>].
    #[arg(long, global = true, env = "COUNTERSIGN_CLI_TRUST_ADDRESS", value_name = "URL")]
    pub(crate) trust_address: Option<String>,
    /// URL of exchange-gateway [default: of the context, else <http://localhost:7403>].
    #[arg(long, global = true, env = "COUNTERSIGN_CLI_GATEWAY_ADDRESS", value_name = "URL")]
    pub(crate) gateway_address: Option<String>,
    /// PEM file of the authorities that sign the services' certificates, when the system does not know them.
    #[arg(long, global = true, env = "COUNTERSIGN_CLI_CA_FILE", value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// File with the bootstrap token or an access token [default: of the context, else the stored token].
    #[arg(long, global = true, env = "COUNTERSIGN_CLI_CREDENTIAL_FILE", value_name = "FILE")]
    pub(crate) credential_file: Option<PathBuf>,
    /// Use the token that `auth exchange-oidc-token` stored, whatever credential file is set.
    #[arg(long, global = true)]
    pub(crate) use_stored_token: bool,
    /// The workspace, `ws_…` [default: of the context, else the stored token's].
    #[arg(
        long,
        global = true,
        env = "COUNTERSIGN_CLI_WORKSPACE",
        value_name = "ID",
        visible_alias = "tenant-id",
        alias = "tenant_id"
    )]
    pub(crate) workspace: Option<String>,
    /// Allow http:// to hosts other than this machine. Tokens then travel in the clear.
    #[arg(long, global = true, env = "COUNTERSIGN_CLI_ALLOW_PLAINTEXT")]
    pub(crate) allow_plaintext: bool,
    #[command(flatten)]
    pub(crate) folders: FolderArgs,
}

/// Where the system says a user's files belong (XDG base directories).
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct FolderArgs {
    #[arg(long, global = true, hide = true, env = "XDG_CONFIG_HOME")]
    xdg_config_home: Option<PathBuf>,
    #[arg(long, global = true, hide = true, env = "XDG_STATE_HOME")]
    xdg_state_home: Option<PathBuf>,
}

impl FolderArgs {
    /// Where the default context file and the stored tokens lie.
    pub(crate) fn configuration(&self) -> Result<PathBuf> {
        folder(self.xdg_config_home.as_deref(), ".config")
    }

    /// Where `countersign dev` keeps its state.
    pub(crate) fn state(&self) -> Result<PathBuf> {
        folder(self.xdg_state_home.as_deref(), ".local/state")
    }
}

/// The specification says to ignore relative paths.
fn folder(set: Option<&Path>, below_home: &str) -> Result<PathBuf> {
    let base = set.filter(|path| path.is_absolute()).map(Path::to_owned);
    let base = base.or_else(|| std::env::home_dir().filter(|home| home.is_absolute()).map(|home| home.join(below_home)));
    base.map(|base| base.join("countersign"))
        .ok_or_else(|| Failure::usage("there is no home folder: set HOME or XDG_CONFIG_HOME"))
}

/// One of the services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Issuer,
    Trust,
    Gateway,
}

impl Service {
    /// The name of its binary.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Issuer => "issuer-service",
            Self::Trust => "trust-service",
            Self::Gateway => "exchange-gateway",
        }
    }

    /// The flag that says where it is.
    const fn address_flag(self) -> &'static str {
        match self {
            Self::Issuer => "--issuer-address",
            Self::Trust => "--trust-address",
            Self::Gateway => "--gateway-address",
        }
    }
}

/// The settings in effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Connection {
    issuer_address: String,
    trust_address: String,
    gateway_address: String,
    ca_file: Option<PathBuf>,
    credential_file: Option<PathBuf>,
    workspace: Option<String>,
    /// The issuer of commands that name none.
    issuer_id: Option<String>,
    allow_plaintext: bool,
    /// Where stored tokens lie: beside the context file.
    folder: PathBuf,
}

impl Connection {
    /// Reads the context file and puts flags and environment variables over it.
    ///
    /// # Errors
    /// The context named does not exist, or is not valid.
    pub(crate) fn resolve(args: &ConnectionArgs) -> Result<Self> {
        let (path, context) = if let Some(path) = &args.context {
            let missing = || Failure::usage(format!("cannot read --context {}: there is no such file", FileName(path)));
            (path.clone(), Context::read(path)?.ok_or_else(missing)?)
        } else {
            let path = args.folders.configuration()?.join(FILE_NAME);
            let context = Context::read(&path)?.unwrap_or_default();
            (path, context)
        };
        Ok(Self::merge(args, context, path.parent().unwrap_or(Path::new(""))))
    }

    fn merge(args: &ConnectionArgs, context: Context, folder: &Path) -> Self {
        let address = |flag: &Option<String>, context: Option<String>, default: &str| {
            flag.clone().or(context).unwrap_or_else(|| default.to_owned()).trim_end_matches('/').to_owned()
        };
        Self {
            issuer_address: address(&args.issuer_address, context.issuer_address, "http://localhost:7401"),
            trust_address: address(&args.trust_address, context.trust_address, "http://localhost:7402"),
            gateway_address: address(&args.gateway_address, context.gateway_address, "http://localhost:7403"),
            ca_file: args.ca_file.clone().or(context.ca_file),
            credential_file: args.credential_file.clone().or(context.credential_file).filter(|_| !args.use_stored_token),
            // An issuer belongs to the workspace that is named beside it.
            issuer_id: context.issuer_id.filter(|_| args.workspace.is_none() || args.workspace == context.workspace),
            workspace: args.workspace.clone().or(context.workspace).filter(|id| !id.is_empty()),
            allow_plaintext: args.allow_plaintext,
            folder: folder.to_owned(),
        }
    }

    /// Keeps secret-looking settings, those of the context file included, out of messages.
    pub(crate) fn conceal_in(&self, output: &mut Output) {
        let mut concealed = Concealed::default();
        let files = [&self.ca_file, &self.credential_file].into_iter().flatten();
        files.filter(|file| SecretShape::of_file_name(file).is_some()).for_each(|file| concealed.add(&file.to_string_lossy()));
        let texts = [&self.issuer_address, &self.trust_address, &self.gateway_address];
        texts.into_iter().chain(&self.workspace).chain(&self.issuer_id).for_each(|text| concealed.add(text));
        output.conceal(concealed);
    }

    /// The URL of a service.
    pub(crate) fn address(&self, service: Service) -> &str {
        match service {
            Service::Issuer => &self.issuer_address,
            Service::Trust => &self.trust_address,
            Service::Gateway => &self.gateway_address,
        }
    }

    /// Where stored tokens lie.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file whose token outranks a stored one.
    pub(crate) fn credential_file(&self) -> Option<&Path> {
        self.credential_file.as_deref()
    }

    /// The authorities that `--ca-file` names.
    ///
    /// # Errors
    /// The file cannot be read, or contains something else.
    pub(crate) fn authorities(&self) -> Result<Option<Authorities>> {
        let Some(file) = &self.ca_file else { return Ok(None) };
        let authorities = text_file::read("--ca-file", file)?.parse();
        authorities.map(Some).map_err(|error| Failure::usage(format!("--ca-file {} {error}", FileName(file))))
    }

    /// The workspace named by flag, environment or context.
    pub(crate) fn named_workspace(&self) -> Option<&str> {
        self.workspace.as_deref()
    }

    /// The issuer that the context names, of the workspace in use.
    pub(crate) fn issuer_id(&self) -> Option<&str> {
        self.issuer_id.as_deref()
    }

    /// The workspace of a command that needs one.
    ///
    /// # Errors
    /// None is named, and no stored token knows one.
    pub(crate) fn workspace(&self, clock: &dyn Clock) -> Result<String> {
        if let Some(workspace) = &self.workspace {
            return Ok(workspace.clone());
        }
        let stored = if self.credential_file.is_none() { self.stored_token(clock)? } else { None };
        let missing = || Failure::usage("no workspace given; pass --workspace or set COUNTERSIGN_CLI_WORKSPACE");
        stored.map(|token| token.workspace_id).ok_or_else(missing)
    }

    fn stored_token(&self, clock: &dyn Clock) -> Result<Option<StoredToken>> {
        let stored = StoredToken::load(&self.folder, &self.gateway_address)
            .map_err(|error| Failure::while_doing(error, "cannot read the stored token"))?;
        Ok(stored.filter(|token| token.is_valid_at(clock.now())))
    }

    fn credential(&self, clock: &dyn Clock) -> Result<Secret> {
        if let Some(file) = &self.credential_file {
            return Ok(Secret::from_private_file("--credential-file", file)?);
        }
        let missing = || {
            Failure::Failed(anyhow::anyhow!(
                "no credential for {}; pass --credential-file FILE, or sign in with `countersign auth exchange-oidc-token` \
                 (a stored token that has expired is not used)",
                disclosure::url(&self.gateway_address)
            ))
        };
        self.stored_token(clock)?.map(|token| token.access_token).ok_or_else(missing)
    }

    /// A channel to a service without a credential, for public RPCs.
    ///
    /// # Errors
    /// The address is not usable, or nobody answers there.
    pub(crate) async fn public(&self, service: Service) -> Result<Channel> {
        let address = self.address(service);
        let cannot = format!("cannot reach {} at {}", service.name(), disclosure::origin(address));
        let endpoint = self.endpoint(service, address)?;
        endpoint.connect().await.map_err(|error| Failure::while_doing(error, cannot))
    }

    /// A channel to a service that carries the caller's credential.
    ///
    /// # Errors
    /// There is no credential, the address is not usable, or nobody answers there.
    pub(crate) async fn authorized(&self, service: Service, clock: &dyn Clock) -> Result<Authorized> {
        let bearer = Bearer::new(&self.credential(clock)?)?;
        Ok(InterceptedService::new(self.public(service).await?, bearer))
    }

    fn endpoint(&self, service: Service, address: &str) -> Result<Endpoint> {
        let wrong = |why: &str| Failure::usage(format!("{} {why}", service.address_flag()));
        let not_a_url = || wrong("must be a URL such as https://host:port");
        let url = Url::parse(address).map_err(|_| not_a_url())?;
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            return Err(wrong("must not contain a user name, a password or a query; pass --credential-file"));
        }
        let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|_| not_a_url())?;
        let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(CALL_TIMEOUT);
        match url.scheme() {
            "https" => {
                let mut tls = ClientTlsConfig::new().with_enabled_roots();
                if let Some(file) = &self.ca_file {
                    tls = tls.ca_certificate(Certificate::from_pem(text_file::read("--ca-file", file)?));
                }
                endpoint.tls_config(tls).map_err(|error| Failure::while_doing(error, "cannot set up TLS"))
            }
            "http" if self.allow_plaintext || is_this_machine(&url) => Ok(endpoint),
            "http" => Err(wrong("would send tokens unencrypted; use https://, or pass --allow-plaintext")),
            _ => Err(wrong("must begin with https:// or http://")),
        }
    }
}

fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// A channel that carries the caller's credential.
pub(crate) type Authorized = InterceptedService<Channel, Bearer>;

/// Puts `authorization: Bearer …` on every call.
#[derive(Debug, Clone)]
pub(crate) struct Bearer(MetadataValue<Ascii>);

impl Bearer {
    /// The header of this token.
    ///
    /// # Errors
    /// The token holds characters that no token holds.
    pub(crate) fn new(token: &Secret) -> Result<Self> {
        let mut value: MetadataValue<Ascii> = format!("Bearer {}", token.expose())
            .parse()
            .map_err(|_| Failure::Failed(anyhow::anyhow!("the credential holds characters that no token holds")))?;
        // Masks it in `Debug` and keeps it out of HPACK's table.
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> std::result::Result<Request<()>, tonic::Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use countersign_domain::values::time::Timestamp;

    use super::*;

    #[derive(Debug)]
    struct At(&'static str);

    impl Clock for At {
        fn now(&self) -> Timestamp {
            self.0.parse().unwrap()
        }
    }

    const BEFORE: At = At("2027-01-31T17:00:00Z");
    const AFTER: At = At("2027-01-31T19:00:00Z");

    fn stored(folder: &Path) {
        let token = StoredToken {
            gateway_address: "http://localhost:7403".to_owned(),
            workspace_id: "ws_stored".to_owned(),
            workspace_display_name: "Demo".to_owned(),
            trust_relationship_id: "tr_0".to_owned(),
            access_token: "stored".to_owned().into(),
            expire_time: "2027-01-31T18:00:00Z".parse().unwrap(),
        };
        token.store(StoredToken::reserve(folder, "http://localhost:7403").unwrap()).unwrap();
    }

    #[test]
    fn the_first_place_that_has_a_setting_wins() {
        let context = Context {
            trust_address: Some("https://trust.example.com/".to_owned()),
            workspace: Some("ws_context".to_owned()),
            ..Context::default()
        };
        let args = ConnectionArgs { workspace: Some("ws_flag".to_owned()), ..ConnectionArgs::default() };
        let connection = Connection::merge(&args, context, Path::new("/c"));
        assert_eq!(connection.workspace.as_deref(), Some("ws_flag"));
        assert_eq!(connection.address(Service::Trust), "https://trust.example.com");
        assert_eq!(connection.address(Service::Issuer), "http://localhost:7401");
    }

    #[test]
    fn a_credential_file_outranks_the_stored_token_which_is_used_while_it_is_valid() {
        let folder = tempfile::tempdir().unwrap();
        stored(folder.path());
        let file = folder.path().join("bootstrap");
        crate::private_file::replace(&file, b"operator\n").unwrap();
        let of = |args: ConnectionArgs, file: Option<&Path>| {
            let context = Context { credential_file: file.map(Path::to_owned), ..Context::default() };
            Connection::merge(&args, context, folder.path())
        };
        let secret =
            |connection: Connection, clock: &At| connection.credential(clock).ok().map(|token| token.expose().to_owned());
        let plain = ConnectionArgs::default;

        assert_eq!(secret(of(plain(), Some(&file)), &BEFORE).as_deref(), Some("operator"));
        assert_eq!(secret(of(plain(), None), &BEFORE).as_deref(), Some("stored"));
        assert_eq!(secret(of(plain(), None), &AFTER), None);
        let args = ConnectionArgs { use_stored_token: true, ..plain() };
        assert_eq!(secret(of(args, Some(&file)), &BEFORE).as_deref(), Some("stored"));
        // A file that was named and cannot be read is an error, never a reason to fall back to another identity.
        assert_eq!(secret(of(plain(), Some(&folder.path().join("absent"))), &BEFORE), None);
        // A token of another gateway is not sent to this one.
        let args = ConnectionArgs { gateway_address: Some("http://localhost:9999".to_owned()), ..plain() };
        assert_eq!(secret(of(args, None), &BEFORE), None);

        assert_eq!(of(plain(), None).workspace(&BEFORE).unwrap(), "ws_stored");
        assert!(matches!(of(plain(), Some(&file)).workspace(&BEFORE), Err(Failure::Usage(_))));
    }

    #[test]
    fn tokens_go_over_plain_http_to_this_machine_only() {
        let of = |allow_plaintext| {
            let args = ConnectionArgs { allow_plaintext, ..ConnectionArgs::default() };
            Connection::merge(&args, Context::default(), Path::new("/c"))
        };
        for address in ["http://localhost:7401", "http://127.0.0.1:7401", "http://[::1]:7401", "https://issuer.example.com"] {
            assert!(of(false).endpoint(Service::Trust, address).is_ok(), "{address}");
        }
        for address in ["http://issuer.example.com", "http://localhost.example.com", "http://10.0.0.1:7401"] {
            assert!(of(false).endpoint(Service::Trust, address).is_err(), "{address}");
            assert!(of(true).endpoint(Service::Trust, address).is_ok(), "{address}");
        }
        for address in ["ftp://localhost", "localhost:7401", "", "https://me:hunter2@host", "https://host/?token=x"] {
            assert!(of(true).endpoint(Service::Trust, address).is_err(), "{address}");
        }
    }

    #[test]
    fn s61_a_bearer_header_is_masked() {
        let bearer = Bearer::new(&"canary".to_owned().into()).unwrap();
        assert!(!format!("{bearer:?}").contains("canary"));
        assert!(Bearer::new(&"line\nbreak".to_owned().into()).is_err());
    }
}
