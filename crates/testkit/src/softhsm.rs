//! A PKCS #11 token in software, from the distribution.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

/// Where distributions put the library.
const LIBRARIES: [&str; 6] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
];
/// What former runs left is of no use to anybody after this.
const LEFT_BEHIND: Duration = Duration::from_hours(1);

/// A token with an AES-256 key to seal with.
#[derive(Debug, Clone)]
pub struct SoftHsm {
    /// The PKCS #11 module.
    pub module: PathBuf,
    /// What the variable `SOFTHSM2_CONF` must say in the process that loads the module.
    pub configuration: PathBuf,
    /// The token's label.
    pub label: String,
}

impl SoftHsm {
    /// The user's PIN of every token.
    pub const PIN: &str = "canary-pin-61-0001";
    /// The label of the AES key.
    pub const KEY_ENCRYPTION_KEY: &str = "key-encryption-key";

    /// The token of this process, which is made before its library is loaded: later ones would not be seen.
    ///
    /// # Panics
    /// When SoftHSM is missing, or the variable is: `.cargo/config.toml` sets it for whatever cargo starts.
    #[expect(clippy::disallowed_methods, reason = "what SoftHSM itself reads")]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<SoftHsm> = OnceLock::new();
        SHARED.get_or_init(|| {
            let configuration = std::env::var_os("SOFTHSM2_CONF").expect("SOFTHSM2_CONF is not set: start the tests with cargo");
            Self::make(Path::new(&configuration))
        })
    }

    /// A token for a process that is started with this folder's configuration.
    ///
    /// # Panics
    /// When SoftHSM is missing.
    pub fn in_folder(folder: &Path) -> Self {
        Self::make(&folder.join("softhsm2.conf"))
    }

    fn make(configuration: &Path) -> Self {
        let module = LIBRARIES.iter().map(PathBuf::from).find(|path| path.exists());
        let module = module.expect("SoftHSM is missing: run ./tests/run, or install softhsm2");
        let made = Self { module, configuration: configuration.to_owned(), label: letters() };
        let tokens = configuration.with_file_name("tokens");
        std::fs::create_dir_all(&tokens).expect("the folder for tokens can be made");
        remove_old(&tokens);
        let text = format!("directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n", tokens.display());
        // In one step: others may be reading it.
        let beside = configuration.with_file_name(format!("{}.conf", made.label));
        std::fs::write(&beside, text).expect("the configuration can be written");
        std::fs::rename(&beside, configuration).expect("the configuration can be replaced");

        made.util(&["--init-token", "--free", "--label", &made.label, "--so-pin", "0000", "--pin", Self::PIN]);
        let key = configuration.with_file_name(format!("{}.key", made.label));
        std::fs::write(&key, letters()).expect("the key can be written");
        let file = key.display().to_string();
        let wanted = ["--token", &made.label, "--pin", Self::PIN, "--label", Self::KEY_ENCRYPTION_KEY, "--id", "01"];
        made.util(&[&["--import", &file, "--aes"], &wanted[..]].concat());
        std::fs::remove_file(key).expect("the key can be removed");
        made
    }

    fn util(&self, arguments: &[&str]) {
        let done = Command::new("softhsm2-util").args(arguments).env("SOFTHSM2_CONF", &self.configuration).output();
        let done = done.expect("softhsm2-util is missing: run ./tests/run, or install softhsm2");
        assert!(done.status.success(), "softhsm2-util {}: {}", arguments[0], String::from_utf8_lossy(&done.stderr));
    }
}

/// 32 random letters: a label, or an AES-256 key, which `softhsm2-util` would cut short at some other bytes.
fn letters() -> String {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).expect("there is randomness");
    bytes.iter().map(|byte| char::from(b'a' + byte % 26)).collect()
}

fn remove_old(tokens: &Path) {
    for entry in std::fs::read_dir(tokens).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|data| data.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age > LEFT_BEHIND) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
