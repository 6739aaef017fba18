//! What messages show of the values that somebody passed to a program: arguments, environment variables, settings, file names.
//!
//! A token often arrives where a file name or a URL belongs (`--token-file "$JWT"`), and a message that repeats it puts it into the
//! log of a CI job (SECURITY 81). Messages therefore name the flag or setting, show a value only once it has been read as what it
//! must be, and show a file name only while it looks like one ([`FileName`]). [`Concealed`] is the net below: it removes from a
//! message every longer part of the secret-looking values that the program was started with.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Component, Path};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;

/// The longest name of one file on the usual file systems, in bytes.
const MAX_FILE_NAME: usize = 255;
/// The longest path.
const MAX_PATH: usize = 4096;
/// The shortest run of characters that counts as a random secret.
const MIN_OPAQUE: usize = 20;
/// The length of the parts of a concealed value that no message may contain.
const WINDOW: usize = 12;

/// What makes a value look like a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretShape {
    /// A JWT, or the beginning of one; also percent-encoded or broken into lines.
    Token,
    /// An `Authorization` header or its value.
    Authorization,
    /// Text in PEM (RFC 7468).
    Pem,
    /// A URL with a user name, a password or a secret parameter.
    Credentials,
    /// A long run of random characters: a bootstrap token, a key in base64 or hexadecimal.
    Random,
    /// Not the name of a file: several lines, control characters, digits alone, or longer than names can be.
    Implausible,
}

impl SecretShape {
    /// The shape of a value of any kind; `None` when it does not look like a secret.
    pub fn of(text: &str) -> Option<Self> {
        Self::certain(text).or_else(|| random_runs(text).next().map(|_| Self::Random))
    }

    /// The shape of a value that is a secret whatever it was passed for.
    pub fn certain(text: &str) -> Option<Self> {
        let decoded = percent_decode_str(text).decode_utf8_lossy();
        let joined: String = decoded.split_whitespace().collect();
        if [text, &decoded, &joined].into_iter().any(holds_token) {
            return Some(Self::Token);
        }
        if is_authorization(&decoded) {
            return Some(Self::Authorization);
        }
        if decoded.contains("-----BEGIN") {
            return Some(Self::Pem);
        }
        has_credentials(text).then_some(Self::Credentials)
    }

    /// The shape of what was passed as the name of a file or folder; `None` when it can be one.
    pub fn of_file_name(path: &Path) -> Option<Self> {
        let text = path.to_string_lossy();
        if let Some(shape) = Self::certain(&text) {
            return Some(shape);
        }
        if text.chars().any(char::is_control) || text.len() > MAX_PATH || names(path).any(|name| name.len() > MAX_FILE_NAME) {
            return Some(Self::Implausible);
        }
        let is_random = names(path).any(|name| random_runs(&name.to_string_lossy()).next().is_some())
            // Base64 has slashes, so the parts between them can be short.
            || (!path.has_root() && !text.starts_with('.') && is_random_base64(&text));
        // Names of this kind exist, in stores that name files by their hash.
        (is_random && !path.exists()).then_some(Self::Random)
    }

    /// What the value is, as an object: "contains a token".
    pub const fn description(self) -> &'static str {
        match self {
            Self::Token => "a token",
            Self::Authorization => "an authorization header",
            Self::Pem => "PEM text",
            Self::Credentials => "a URL with credentials",
            Self::Random => "what looks like a secret",
            Self::Implausible => "text that cannot be a file name",
        }
    }
}

fn names(path: &Path) -> impl Iterator<Item = &OsStr> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        _ => None,
    })
}

/// Whether a JSON object in base64url is in the text, as each of a JWT's first two parts is.
fn holds_token(text: &str) -> bool {
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    text.match_indices("eyJ").any(|(at, _)| text.as_bytes().iter().skip(at).take_while(|byte| is_base64url(**byte)).count() >= 16)
}

/// Whether the text is the value of an `Authorization` header, with or without its name.
fn is_authorization(text: &str) -> bool {
    let text = text.trim();
    let rest =
        |word: &str| text.get(..word.len()).filter(|start| start.eq_ignore_ascii_case(word)).and_then(|_| text.get(word.len()..));
    let is_basic = |credentials: &str| STANDARD.decode(credentials.trim()).is_ok_and(|decoded| decoded.contains(&b':'));
    rest("authorization:").is_some()
        || ["bearer ", "dpop "].into_iter().filter_map(rest).any(|token| !token.trim().contains(char::is_whitespace))
        // "Basic" is a word of names too.
        || rest("basic ").is_some_and(is_basic)
}

/// Whether the whole text is a key of 256 bits in base64 or hexadecimal, as bootstrap tokens and key-encryption keys are.
pub fn is_key(text: &str) -> bool {
    let text = text.trim();
    let all = |good: fn(u8) -> bool| text.bytes().all(good);
    let is_base64 = matches!(text.len(), 43 | 44) && all(|byte| byte.is_ascii_alphanumeric() || b"+/=-_".contains(&byte));
    let is_hexadecimal = text.len() == 64 && all(|byte| byte.is_ascii_hexdigit());
    (is_base64 || is_hexadecimal) && changes_often(text)
}

/// Whether a URL has user information, or a query parameter that is named like a secret.
fn has_credentials(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let query = rest.split_once('?').map_or("", |(_, query)| query).to_ascii_lowercase();
    let is_secret =
        |name: &str| ["password", "passwd", "secret", "token", "key", "sig", "credential"].iter().any(|word| name.contains(word));
    // A password that is not percent-encoded can contain a slash, so that the authority ends too early.
    authority.contains('@')
        || rest.rsplit_once('@').is_some_and(|(before, _)| before.contains(':') && !before.contains("://"))
        || query
            .split(['&', ';'])
            .any(|pair| pair.split_once('=').is_some_and(|(name, value)| !value.is_empty() && is_secret(name)))
}

/// The runs of characters that look random: as long as a key, and changing between letters, capitals and digits as words do not.
fn random_runs(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '+' | '=');
    text.split(move |character| !is_part(character)).filter(|run| is_random(run))
}

fn is_random(run: &str) -> bool {
    if run.len() < MIN_OPAQUE || is_uuid(run) || is_resource_id(run) {
        return false;
    }
    let longest_word = run.split(|character: char| !character.is_ascii_alphanumeric()).map(str::len).max().unwrap_or_default();
    // Words with numbers (`us-east-1-k8s-2`) change often too, but in short steps.
    longest_word >= WINDOW && changes_often(run)
}

/// Whether the whole text can be one value in base64, slashes included.
fn is_random_base64(text: &str) -> bool {
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
    text.len() >= 32 && text.bytes().all(is_base64) && changes_often(text)
}

/// Whether neighbouring letters and digits are of different kinds as often as in random text: a quarter of the time or more. A
/// capital at the beginning of a word does not count.
fn changes_often(text: &str) -> bool {
    #[derive(PartialEq, Clone, Copy)]
    enum Kind {
        Lower,
        Upper,
        Digit,
    }
    let kind = |byte: u8| match byte {
        b'a'..=b'z' => Some(Kind::Lower),
        b'A'..=b'Z' => Some(Kind::Upper),
        b'0'..=b'9' => Some(Kind::Digit),
        _ => None,
    };
    let (mut pairs, mut changes) = (0_usize, 0_usize);
    for pair in text.as_bytes().windows(2) {
        let &[first, second] = pair else { continue };
        if let (Some(first), Some(second)) = (kind(first), kind(second)) {
            pairs += 1;
            changes += usize::from(first != second && (first, second) != (Kind::Upper, Kind::Lower));
        }
    }
    pairs >= 15 && changes * 4 >= pairs
}

/// UUIDs name clients, pods and tenants, and are no secret.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text
            .bytes()
            .enumerate()
            .all(|(at, byte)| if matches!(at, 8 | 13 | 18 | 23) { byte == b'-' } else { byte.is_ascii_hexdigit() })
}

/// Ids of our own resources (`ws_…`) are no secret.
fn is_resource_id(text: &str) -> bool {
    text.split_once('_').is_some_and(|(prefix, body)| {
        prefix.len() == 2
            && prefix.bytes().all(|byte| byte.is_ascii_lowercase())
            && body.len() == 26
            && body.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    })
}

/// A word that a person typed: a flag, a subcommand, the key of a setting. It can be repeated in a message.
pub fn is_plain_word(text: &str) -> bool {
    let word = text.trim_start_matches('-');
    !word.is_empty()
        && word.len() <= 40
        && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.'))
        && word.bytes().filter(u8::is_ascii_digit).count() <= 3
}

/// Shows the name of a file, unless it looks like a secret; then says so.
#[derive(Debug, Clone, Copy)]
pub struct FileName<'a>(pub &'a Path);

impl fmt::Display for FileName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SecretShape::of_file_name(self.0) {
            None => self.0.display().fmt(f),
            Some(shape) => write!(f, "a file whose name is not shown, because it contains {}", shape.description()),
        }
    }
}

/// The scheme, host and port of a URL, for messages; anything else of it is left out.
pub fn origin(text: &str) -> Cow<'static, str> {
    let uri = text.parse::<http::Uri>().ok();
    let origin = uri.as_ref().and_then(|uri| Some((uri.scheme_str()?, uri.host()?, uri.port_u16())));
    match origin {
        Some((scheme, host, port)) if SecretShape::of(host).is_none() => {
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            Cow::Owned(format!("{scheme}://{host}{port}"))
        }
        _ => Cow::Borrowed("an address that is not shown"),
    }
}

/// A URL for messages: the whole of it while nothing in it can be a secret, or else its origin.
pub fn url(text: &str) -> Cow<'_, str> {
    let is_plain = text.parse::<http::Uri>().is_ok_and(|uri| uri.query().is_none() && uri.host().is_some());
    if is_plain && SecretShape::of(text).is_none() { Cow::Borrowed(text) } else { origin(text) }
}

/// The secret-looking values that a program was started with, which none of its messages shows.
#[derive(Default)]
pub struct Concealed {
    windows: HashSet<[u8; WINDOW]>,
}

impl Concealed {
    /// Takes a value, if it looks like a secret: all of it, or the random parts of a longer text.
    pub fn add(&mut self, value: &str) {
        if SecretShape::certain(value).is_some() {
            self.conceal(value);
            return;
        }
        random_runs(value).for_each(|run| self.conceal(run));
        if is_random_base64(value.trim()) {
            self.conceal(value.trim());
        }
    }

    /// Takes the values of another collection too.
    pub fn extend(&mut self, other: Self) {
        self.windows.extend(other.windows);
    }

    fn conceal(&mut self, secret: &str) {
        self.windows.extend(secret.as_bytes().windows(WINDOW).filter_map(|window| <[u8; WINDOW]>::try_from(window).ok()));
    }

    /// The message without any 12 consecutive bytes of these values.
    pub fn remove_from<'a>(&self, message: &'a str) -> Cow<'a, str> {
        if self.windows.is_empty() {
            return Cow::Borrowed(message);
        }
        let mut hidden = vec![false; message.len()];
        for (at, window) in message.as_bytes().windows(WINDOW).enumerate() {
            if self.windows.contains(window) {
                hidden.iter_mut().skip(at).take(WINDOW).for_each(|hides| *hides = true);
            }
        }
        if !hidden.contains(&true) {
            return Cow::Borrowed(message);
        }
        let mut shown = String::with_capacity(message.len());
        let mut was_hidden = false;
        for (at, character) in message.char_indices() {
            let hides = hidden.get(at..at + character.len_utf8()).is_some_and(|bytes| bytes.contains(&true));
            if !hides {
                shown.push(character);
            } else if !was_hidden {
                shown.push('…');
            }
            was_hidden = hides;
        }
        Cow::Owned(shown)
    }
}

impl fmt::Debug for Concealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Concealed").finish_non_exhaustive()
    }
}

/// Whether a message contains a run of characters of a value, at least six of them, or a shorter value as a whole.
pub fn repeats(message: &str, value: &str) -> bool {
    let value = value.as_bytes();
    let length = value.len().clamp(1, 6);
    let windows: HashSet<&[u8]> = value.windows(length).collect();
    message.as_bytes().windows(length).any(|window| windows.contains(window))
}

#[cfg(test)]
mod tests {
    use super::*;

    const JWT: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJzdWIiOiJvcmc6YSJ9.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg";

    #[test]
    fn s81_secrets_are_recognised_in_every_form() {
        let encoded = JWT.replace('.', "%2E").replace('e', "%65");
        let (lines, columns) = (JWT.replace('.', "\n."), JWT.replace("IjEi", "\r\nIjEi"));
        for (text, shape) in [
            (JWT, SecretShape::Token),
            (&JWT[..40], SecretShape::Token),
            (&encoded, SecretShape::Token),
            (&lines, SecretShape::Token),
            (&columns, SecretShape::Token),
            (&format!("https://host/{JWT}"), SecretShape::Token),
            ("Bearer abc", SecretShape::Authorization),
            ("authorization: x", SecretShape::Authorization),
            ("bearer%20abc", SecretShape::Authorization),
            ("Basic dXNlcjpwYXNz", SecretShape::Authorization),
            ("-----BEGIN PRIVATE KEY-----\nMIIE", SecretShape::Pem),
            ("postgres://user:pass@host/db", SecretShape::Credentials),
            ("postgres://user:pa/ss@host/db", SecretShape::Credentials),
            ("redis://:pass@host", SecretShape::Credentials),
            ("redis-sentinel://a/b?sentinel_password=x", SecretShape::Credentials),
            ("https://host/keys?access_token=x", SecretShape::Credentials),
            // A bootstrap token, its form for URLs, a key in hexadecimal, and tokens of other systems.
            ("q1Z8v0x5m3Jt7b2Kc9Rf4Ws6Yd1Gh8Lp0Nq5Tv2Xz3B=", SecretShape::Random),
            ("q1Z8v0x5-3Jt7b2Kc9Rf4Ws6Yd1Gh8Lp0Nq5Tv2Xz3B", SecretShape::Random),
            ("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", SecretShape::Random),
            ("ghp_16C7e42F292c6912E7710c838347Ae178B4a", SecretShape::Random),
        ] {
            assert_eq!(SecretShape::of(text), Some(shape), "{text}");
            let as_name = SecretShape::of_file_name(Path::new(text));
            assert!(as_name.is_some(), "{text}");
            assert!(!FileName(Path::new(text)).to_string().contains(text), "{text}");
        }
        assert_eq!(SecretShape::of_file_name(Path::new("a\nb")), Some(SecretShape::Implausible));
        assert_eq!(SecretShape::of_file_name(Path::new(&"a".repeat(256))), Some(SecretShape::Implausible));
        assert_eq!(
            SecretShape::of_file_name(Path::new("q1Z8v0/5m3Jt7b+Kc9Rf4/Ws6Yd1Gh8Lp/Nq5Tv2Xz3Bx=")),
            Some(SecretShape::Random)
        );
    }

    #[test]
    fn ordinary_names_and_values_stay_shown() {
        for text in [
            "ci.jwt",
            "-",
            "",
            "secrets/bootstrap-token",
            "/var/run/secrets/kubernetes.io/serviceaccount/token",
            "/var/lib/kubelet/pods/4b8c2d1e-7f3a-4960-8e5d-0a9c6b3f1e27/volumes/token",
            "/tmp/.tmpAbCdEf/with \"quotes\"/context.toml",
            "ServiceAccountTokenOfProduction2024.json",
            "k8s-cluster1-ns2-sa3-token4-v5",
            "token-20260101T120000Z",
            "/mnt/workspace/spacelift.oidc",
        ] {
            assert_eq!(SecretShape::of_file_name(Path::new(text)), None, "{text}");
            assert_eq!(FileName(Path::new(text)).to_string(), text);
        }
        for text in [
            "http://localhost:7403/workspaces/ws_4hq2k7d6x3m5yt2jv0r8n9c1be",
            "ws_4hq2k7d6x3m5yt2jv0r8n9c1be",
            "org:my-org:vault:deploy-vault",
            "arn:aws:iam::123456789012:role/ci/deploy",
            "assertion.run_attempt == '1'",
            "11111111-2222-3333-4444-555555555555",
            "Basic plan",
            "Bearer of good news",
        ] {
            assert_eq!(SecretShape::of(text), None, "{text}");
        }
    }

    #[test]
    fn a_message_loses_every_part_of_a_concealed_value_and_nothing_else() {
        let mut concealed = Concealed::default();
        concealed.add("org:my-org");
        assert_eq!(concealed.remove_from("org:my-org is not trusted"), "org:my-org is not trusted");
        concealed.add(JWT);
        assert_eq!(concealed.remove_from(&format!("cannot read `{JWT}` é")), "cannot read `…` é");
        let shown = concealed.remove_from(&JWT[20..40]).into_owned();
        assert_eq!(shown, "…");
        concealed.add("subject:q1Z8v0x5m3Jt7b2Kc9Rf4Ws6:x");
        assert_eq!(concealed.remove_from("subject:q1Z8v0x5m3Jt7b2Kc9Rf4Ws6:x"), "subject:…:x");
        assert_eq!(concealed.remove_from("short"), "short");
    }

    #[test]
    fn an_address_is_shown_as_its_origin() {
        assert_eq!(origin("https://user:pass@host:7401/path?token=x"), "https://host:7401");
        assert_eq!(origin("http://[::1]:7401"), "http://[::1]:7401");
        for text in ["", "q1Z8v0x5m3Jt7b2Kc9Rf4Ws6", "http://q1Z8v0x5m3Jt7b2Kc9Rf4Ws6", "http://user:pa ss@host"] {
            assert_eq!(origin(text), "an address that is not shown", "{text}");
        }
    }

    #[test]
    fn a_key_is_256_bits_in_base64_or_hexadecimal() {
        for text in [
            "q1Z8v0x5m3Jt7b2Kc9Rf4Ws6Yd1Gh8Lp0Nq5Tv2Xz3B=",
            "q1Z8v0x5-3Jt7b2Kc9Rf4_s6Yd1Gh8Lp0Nq5Tv2Xz3B",
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\n",
        ] {
            assert!(is_key(text), "{text}");
        }
        for text in ["", "a", "this-is-a-name-of-forty-three-characters-xx", "8OTC92wYHsiQr5wAb2cD3eF4gH5iJ6kL"] {
            assert!(!is_key(text), "{text}");
        }
    }

    #[test]
    fn only_words_are_plain() {
        for word in ["--audince", "issue-id-token", "database.urll", "-x", "oauth2"] {
            assert!(is_plain_word(word), "{word}");
        }
        for text in ["", "--", JWT, "--Token", "hunter2 x", "a1b2c3d4", "é"] {
            assert!(!is_plain_word(text), "{text}");
        }
    }
}
