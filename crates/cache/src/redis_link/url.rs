//! Where Redis is: one server, a primary that sentinels name, or a cluster.
//!
//! The three forms are those that other programs read, so that an address can be carried over. `url` cannot parse a list of
//! hosts, and repairs what it reads, so this is a parser of its own. A message never quotes the address: a forgotten escape makes
//! part of a password look like part of a host.

use std::fmt;
use std::net::Ipv6Addr;

use percent_encoding::percent_decode_str;
use redis::io::tcp::TcpSettings;
use redis::{Client, ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo, RedisError};

const SERVER_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// Why a text is not the address of a Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRedisUrl {
    /// No scheme of ours.
    #[error(
        "must begin with redis://, rediss://, redis-sentinel://, rediss-sentinel://, redis-cluster:// or rediss-cluster:// \
         (`s` for TLS)"
    )]
    Scheme,
    /// A fragment; `#insecure` would turn the verification of certificates off.
    #[error("must not hold a fragment; `#` inside a password is written %23")]
    Fragment,
    /// What is before the `@`.
    #[error("what is before the @ must be `user:password` or `:password`, special characters percent-encoded")]
    Credentials,
    /// A host that is none.
    #[error(
        "must name hosts as `host` or `host:port`, IPv6 addresses in brackets, several separated by commas; special characters \
         of a password must be percent-encoded"
    )]
    Host,
    /// One host twice.
    #[error("names one host twice")]
    SameHost,
    /// Several hosts where one belongs.
    #[error("redis:// names one server; several are redis-sentinel:// or redis-cluster://")]
    SeveralServers,
    /// A path that is no database.
    #[error("the path must be the number of a database")]
    Database,
    /// A cluster has database 0 alone.
    #[error("a cluster has no databases, so the path must be empty")]
    ClusterDatabase,
    /// The sentinels' name for the primary is missing or cannot be one.
    #[error("must be redis-sentinel://host,host/service[/database], with the name that the sentinels have for the primary")]
    Service,
    /// Something after `?`.
    #[error("may hold nothing after the path but ?sentinel_password=…[&sentinel_username=…] of redis-sentinel://")]
    Query,
}

/// The address of a Redis, credentials included, so it is masked in `Debug` and has no `Display`.
#[derive(Clone)]
pub struct RedisUrl {
    pub(super) shape: Shape,
    /// At least one.
    pub(super) hosts: Vec<Address>,
    pub(super) servers: Dial,
}

#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// The one host is the server.
    Server,
    /// The hosts are sentinels, which know where the primary of this service is.
    Sentinel { service: String, sentinels: Dial },
    /// The hosts are some nodes of a cluster, which know the others.
    Cluster,
}

/// Where one server is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// How servers of one kind are talked to, wherever they are.
#[derive(Clone)]
pub(super) struct Dial {
    tls: bool,
    settings: RedisConnectionInfo,
}

impl Dial {
    fn new(tls: bool, credentials: Option<Credentials>, database: i64) -> Self {
        let mut settings = RedisConnectionInfo::default().set_db(database);
        if let Some(Credentials { user, password }) = credentials {
            settings = settings.set_password(password);
            if let Some(user) = user {
                settings = settings.set_username(user);
            }
        }
        Self { tls, settings }
    }

    pub(super) fn is_tls(&self) -> bool {
        self.tls
    }

    pub(super) fn client(&self, address: &Address) -> Result<Client, RedisError> {
        let Address { host, port } = address.clone();
        let address = if self.tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let info = address.into_connection_info()?.set_redis_settings(self.settings.clone());
        // Many small commands share a connection: none shall wait for the answer to the one before it.
        Client::open(info.set_tcp_settings(TcpSettings::default().set_nodelay(true)))
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dial").field("tls", &self.tls).finish_non_exhaustive()
    }
}

struct Credentials {
    user: Option<String>,
    password: String,
}

impl std::str::FromStr for RedisUrl {
    type Err = InvalidRedisUrl;

    fn from_str(text: &str) -> Result<Self, InvalidRedisUrl> {
        let (scheme, rest) = text.split_once("://").ok_or(InvalidRedisUrl::Scheme)?;
        let (scheme, tls) = match scheme.strip_prefix("rediss") {
            Some(scheme) => (scheme, true),
            None => (scheme.strip_prefix("redis").ok_or(InvalidRedisUrl::Scheme)?, false),
        };
        if !matches!(scheme, "" | "-sentinel" | "+sentinel" | "-cluster" | "+cluster") {
            return Err(InvalidRedisUrl::Scheme);
        }
        if rest.contains('#') {
            return Err(InvalidRedisUrl::Fragment);
        }
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, hosts) = match authority.rsplit_once('@') {
            Some((credentials, hosts)) => (Some(credentials_of(credentials)?), hosts),
            None => (None, authority),
        };
        if scheme.ends_with("sentinel") {
            let (service, database) = path.split_once('/').unwrap_or((path, ""));
            let charset = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            if service.is_empty() || !service.chars().all(charset) {
                return Err(InvalidRedisUrl::Service);
            }
            let sentinels = Dial::new(tls, query.map(sentinel_credentials).transpose()?, 0);
            return Ok(Self {
                shape: Shape::Sentinel { service: service.to_owned(), sentinels },
                hosts: addresses(hosts, SENTINEL_PORT)?,
                servers: Dial::new(tls, credentials, database_of(database)?),
            });
        }
        if query.is_some() {
            return Err(InvalidRedisUrl::Query);
        }
        let hosts = addresses(hosts, SERVER_PORT)?;
        let database = database_of(path)?;
        let shape = if scheme.ends_with("cluster") { Shape::Cluster } else { Shape::Server };
        match shape {
            Shape::Cluster if database != 0 => return Err(InvalidRedisUrl::ClusterDatabase),
            Shape::Server if hosts.len() > 1 => return Err(InvalidRedisUrl::SeveralServers),
            _ => {}
        }
        Ok(Self { shape, hosts, servers: Dial::new(tls, credentials, database) })
    }
}

fn credentials_of(text: &str) -> Result<Credentials, InvalidRedisUrl> {
    let (user, password) = text.split_once(':').ok_or(InvalidRedisUrl::Credentials)?;
    let (user, password) = (decoded(user), decoded(password));
    match (user, password) {
        (Some(user), Some(password)) if !password.is_empty() => {
            Ok(Credentials { user: (!user.is_empty()).then_some(user), password })
        }
        _ => Err(InvalidRedisUrl::Credentials),
    }
}

fn sentinel_credentials(query: &str) -> Result<Credentials, InvalidRedisUrl> {
    let (mut user, mut password) = (None, None);
    for parameter in query.split('&') {
        let (name, value) = parameter.split_once('=').ok_or(InvalidRedisUrl::Query)?;
        let value = decoded(value).filter(|value| !value.is_empty()).ok_or(InvalidRedisUrl::Query)?;
        let before = match name {
            "sentinel_username" => user.replace(value),
            "sentinel_password" => password.replace(value),
            _ => return Err(InvalidRedisUrl::Query),
        };
        if before.is_some() {
            return Err(InvalidRedisUrl::Query);
        }
    }
    Ok(Credentials { user, password: password.ok_or(InvalidRedisUrl::Query)? })
}

/// Undoes percent-encoding; `None` where it is broken, and for what no password holds by intention.
fn decoded(text: &str) -> Option<String> {
    let escapes_are_whole =
        text.split('%').skip(1).all(|rest| rest.as_bytes().get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit)));
    let visible = text.chars().all(|c| !c.is_whitespace() && !c.is_control());
    (escapes_are_whole && visible).then(|| percent_decode_str(text).decode_utf8().ok().map(Into::into))?
}

fn addresses(list: &str, default_port: u16) -> Result<Vec<Address>, InvalidRedisUrl> {
    let mut found = Vec::new();
    for item in list.split(',') {
        let address = address(item, default_port).ok_or(InvalidRedisUrl::Host)?;
        if found.contains(&address) {
            return Err(InvalidRedisUrl::SameHost);
        }
        found.push(address);
    }
    Ok(found)
}

fn address(text: &str, default_port: u16) -> Option<Address> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
    } else {
        let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
        let is_name = host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
        (Some(host).filter(|host| !host.is_empty() && is_name)?, port)
    };
    let port = match port {
        None => default_port,
        Some(port) => number(port).filter(|port| *port != 0)?,
    };
    Some(Address { host: host.to_owned(), port })
}

fn database_of(path: &str) -> Result<i64, InvalidRedisUrl> {
    if path.is_empty() { Ok(0) } else { number::<u32>(path).map(i64::from).ok_or(InvalidRedisUrl::Database) }
}

/// Digits alone: `parse` would take a sign too.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shape, hosts, servers } = self;
        let (kind, service) = match shape {
            Shape::Server => ("", None),
            Shape::Sentinel { service, .. } => ("-sentinel", Some(service)),
            Shape::Cluster => ("-cluster", None),
        };
        write!(f, "redis{}{kind}://", if servers.tls { "s" } else { "" })?;
        for (index, host) in hosts.iter().enumerate() {
            write!(f, "{}{host}", if index == 0 { "" } else { "," })?;
        }
        service.map_or(Ok(()), |service| write!(f, "/{service}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How the address is shown, and which database it names.
    fn check(url: &str, expected: Result<(&str, i64), InvalidRedisUrl>) {
        let parsed = url.parse::<RedisUrl>().map(|url| (format!("{url:?}"), url.servers.settings.db()));
        assert_eq!(parsed, expected.map(|(shown, database)| (shown.to_owned(), database)), "{url}");
    }

    #[test]
    fn one_server() {
        check("redis://localhost", Ok(("redis://localhost:6379", 0)));
        check("redis://localhost/", Ok(("redis://localhost:6379", 0)));
        check("redis://:password@10.0.0.1:6380/2", Ok(("redis://10.0.0.1:6380", 2)));
        check("rediss://user:password@redis.example.com:6380", Ok(("rediss://redis.example.com:6380", 0)));
        check("redis://[::1]:7000", Ok(("redis://[::1]:7000", 0)));
        check("redis://[fd00::7]", Ok(("redis://[fd00::7]:6379", 0)));
        check("redis://a,b", Err(InvalidRedisUrl::SeveralServers));
        check("redis://localhost/not-a-number", Err(InvalidRedisUrl::Database));
        check("redis://localhost/+1", Err(InvalidRedisUrl::Database));
        check("redis://localhost/1/2", Err(InvalidRedisUrl::Database));
        check("redis://localhost?protocol=resp3", Err(InvalidRedisUrl::Query));
    }

    #[test]
    fn sentinels() {
        let three = "redis-sentinel://a:26379,b:26380,c:26379/mymaster";
        check("redis-sentinel://a,b:26380,c/mymaster", Ok((three, 0)));
        check("redis+sentinel://:password@a,b:26380,c/mymaster/3", Ok((three, 3)));
        check("rediss-sentinel://[::1],x/cache-1", Ok(("rediss-sentinel://[::1]:26379,x:26379/cache-1", 0)));
        check(
            "rediss+sentinel://user:password@a/mymaster?sentinel_username=watcher&sentinel_password=x%26y",
            Ok(("rediss-sentinel://a:26379/mymaster", 0)),
        );
        for no_service in ["a", "a/", "a//0", "a/my%20master", "a/my master"] {
            check(&format!("redis-sentinel://{no_service}"), Err(InvalidRedisUrl::Service));
        }
        check("redis-sentinel://a/mymaster/x", Err(InvalidRedisUrl::Database));
        for query in ["", "x", "db=1", "sentinel_username=x", "sentinel_password=", "sentinel_password=x&sentinel_password=y"] {
            check(&format!("redis-sentinel://a/mymaster?{query}"), Err(InvalidRedisUrl::Query));
        }
    }

    #[test]
    fn clusters() {
        check("redis-cluster://a:7000,b:7001", Ok(("redis-cluster://a:7000,b:7001", 0)));
        check("rediss+cluster://user:password@a", Ok(("rediss-cluster://a:6379", 0)));
        check("redis-cluster://a/0", Ok(("redis-cluster://a:6379", 0)));
        check("redis-cluster://a/1", Err(InvalidRedisUrl::ClusterDatabase));
        check("redis-cluster://a?sentinel_password=x", Err(InvalidRedisUrl::Query));
    }

    #[test]
    fn what_is_no_address() {
        let schemes = [
            "",
            "localhost",
            "localhost:6379",
            "http://localhost",
            "redis+unix:///run/redis.sock",
            "redis:localhost",
            "REDIS://x",
        ];
        for text in schemes {
            check(text, Err(InvalidRedisUrl::Scheme));
        }
        for scheme in ["redisx://a", "redis-://a", "redisssentinel://a/m", "redis-sentinels://a/m", "valkey://a"] {
            check(scheme, Err(InvalidRedisUrl::Scheme));
        }
        let hosts =
            ["", ",", "a,", "a,,b", "a:", "a:0", "a:65536", "a:+1", "a:b", "::1", "[::1", "[::1]7", "[a]", "a b", "a\n", "ä"];
        for host in hosts {
            check(&format!("redis-cluster://{host}"), Err(InvalidRedisUrl::Host));
        }
        check("redis-cluster://a,b,a:6379", Err(InvalidRedisUrl::SameHost));
        for credentials in ["", "user", ":", "user:", ":%", ":%2", ":%zz", ":%ff", ":a b", ":a\tb"] {
            check(&format!("redis://{credentials}@a"), Err(InvalidRedisUrl::Credentials));
        }
        // A slash that was not escaped; the message must not show what it takes for a host.
        check("redis://:hunter2/x@a", Err(InvalidRedisUrl::Host));
        assert!(!InvalidRedisUrl::Host.to_string().contains("hunter2"));
    }

    #[test]
    fn credentials_are_decoded_and_kept_apart() {
        let url: RedisUrl = "redis-sentinel://us%40er:p%3A%2F%23%C3%A4%2B+@a/m?sentinel_password=s+%2B".parse().unwrap();
        let settings = &url.servers.settings;
        assert_eq!((settings.username(), settings.password()), (Some("us@er"), Some("p:/#ä++")));
        let Shape::Sentinel { sentinels, .. } = &url.shape else { panic!("{url:?}") };
        assert_eq!((sentinels.settings.username(), sentinels.settings.password()), (None, Some("s++")));
        // The servers' password is for the servers.
        let url: RedisUrl = "redis-sentinel://:password@a/m".parse().unwrap();
        let Shape::Sentinel { sentinels, .. } = &url.shape else { panic!("{url:?}") };
        assert_eq!(sentinels.settings.password(), None);
    }

    #[test]
    fn s47_certificate_verification_cannot_be_turned_off() {
        check("rediss://redis.example.com#insecure", Err(InvalidRedisUrl::Fragment));
        check("rediss://redis.example.com/#insecure", Err(InvalidRedisUrl::Fragment));
        check("rediss-sentinel://a/m#insecure", Err(InvalidRedisUrl::Fragment));
        check("rediss-cluster://a/#insecure", Err(InvalidRedisUrl::Fragment));
        check("redis://:pass#word@a", Err(InvalidRedisUrl::Fragment));
    }

    #[test]
    fn s61_passwords_are_not_printed() {
        for text in [
            "redis://user:hunter2@localhost",
            "rediss-cluster://user:hunter2@localhost",
            "redis-sentinel://user:hunter2@localhost/m?sentinel_username=u&sentinel_password=hunter2",
        ] {
            let url: RedisUrl = text.parse().unwrap();
            let printed = format!("{url:?} {:?} {:?}", url.shape, url.servers);
            assert!(printed.contains("localhost") && !printed.contains("hunter2"), "{printed}");
        }
    }
}
