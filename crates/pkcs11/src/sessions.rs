//! A token that is open: its library loaded, its user logged in, and sessions for as many threads as call at once.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use countersign_jose::DeviceError;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Function, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::object::{Attribute, ObjectHandle};
use cryptoki::session::{Session, SessionState, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

use crate::workers::Workers;

/// How many sessions are kept for the next caller.
const IDLE_SESSIONS: usize = 32;

/// Which token, and how to get in.
pub struct TokenSettings {
    /// The maker's library.
    pub module: PathBuf,
    /// The label of the token, as `C_GetTokenInfo` has it.
    pub token_label: String,
    /// The user's PIN.
    pub pin: Zeroizing<String>,
}

impl fmt::Debug for TokenSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { module, token_label, pin: _ } = self;
        f.debug_struct("TokenSettings").field("module", module).field("token_label", token_label).finish_non_exhaustive()
    }
}

/// Why a token cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The library.
    #[error("cannot load the PKCS #11 module {}", .0.display())]
    Module(PathBuf, #[source] Error),
    /// No token has the label, or several have.
    #[error("{found} tokens have the label `{label}`, and one must")]
    Label {
        /// What was looked for.
        label: String,
        /// How many have it.
        found: usize,
    },
    /// The PIN is not taken, or something else of the token fails.
    #[error("cannot use the token")]
    Token(#[source] Error),
    /// An object is missing, or is there twice.
    #[error("{found} secret keys have the label `{label}`, and one must")]
    SecretKey {
        /// What was looked for.
        label: String,
        /// How many have it.
        found: usize,
    },
    /// The key-encryption key does not do what it is for.
    #[error("the secret key `{label}` does not seal: {cause}")]
    Unfit {
        /// Its label.
        label: String,
        /// What was seen.
        cause: DeviceError,
    },
}

/// A token that is open. Cloning is cheap.
#[derive(Clone)]
pub struct Token(Arc<Inner>);

struct Inner {
    module: Pkcs11,
    label: String,
    pin: AuthPin,
    state: Mutex<State>,
    workers: Workers,
    /// Held while objects come or go: not every token takes that from several sessions at once.
    changing: Mutex<()>,
}

/// Sessions of one log-in: it holds as long as any of them is open.
struct State {
    slot: Slot,
    /// Never used, and never closed while the log-in is good.
    anchor: Session,
    idle: Vec<Session>,
    /// Counts the log-ins, so that sessions of an earlier one are known.
    generation: u64,
    /// Set when the token no longer takes the PIN.
    pin_refused: Option<RvError>,
}

impl Token {
    /// How long a call may take, and all that it waits for.
    pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
    /// How long the making of a key may take: RSA keys are not made quickly everywhere.
    pub(crate) const PATIENCE_WITH_KEYS: Duration = Duration::from_secs(30);

    /// Loads the library, finds the token and logs in.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(settings: TokenSettings) -> Result<Self, OpenError> {
        let TokenSettings { module: path, token_label: label, pin } = settings;
        let module = load(&path).map_err(|error| OpenError::Module(path, error))?;
        let pin = AuthPin::from(pin.to_string());
        let slot = find_slot(&module, &label)?;
        let anchor = log_in(&module, slot, &pin).map_err(OpenError::Token)?;
        let state = Mutex::new(State { slot, anchor, idle: Vec::new(), generation: 0, pin_refused: None });
        Ok(Self(Arc::new(Inner { module, label, pin, state, workers: Workers::start(), changing: Mutex::default() })))
    }

    /// Does something in a session. Where it fails in a way that another session may mend (the token was restarted, say), it is done
    /// once more in one of a new log-in; so it must do no harm twice. `work` is told which log-in the session is of.
    pub(crate) fn with_session<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl Fn(&Session, u64) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, DeviceError> {
        let token = self.clone();
        self.0.workers.run(patience, move || token.in_session(work).map_err(|error| device_error(&error)))
    }

    /// The same for what makes or destroys objects, one after another.
    pub(crate) fn with_session_alone<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl Fn(&Session) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, DeviceError> {
        let token = self.clone();
        self.with_session(patience, move |session, _| {
            let _alone = token.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
            work(session)
        })
    }

    fn in_session<T>(&self, work: impl Fn(&Session, u64) -> Result<T, Error>) -> Result<T, Error> {
        let generation = self.state().generation;
        let error = match self.session(generation) {
            Ok(session) => match work(&session, generation) {
                Ok(done) => {
                    self.give_back(session, generation);
                    return Ok(done);
                }
                // Without a log-in tokens refuse all kinds of things in all kinds of words.
                Err(error) if is_final(&error) && is_logged_in(&session) && self.state().generation == generation => {
                    self.give_back(session, generation);
                    return Err(error);
                }
                Err(error) => error,
            },
            Err(error) => error,
        };
        tracing::warn!(token = self.0.label, %error, "a PKCS #11 token fails; logging in again");
        self.log_in_again(generation)?;
        let generation = self.state().generation;
        let session = self.session(generation)?;
        let done = work(&session, generation)?;
        self.give_back(session, generation);
        Ok(done)
    }

    /// A session of this log-in, or of a later one.
    fn session(&self, generation: u64) -> Result<Session, Error> {
        let mut state = self.state();
        if state.generation == generation
            && let Some(session) = state.idle.pop()
        {
            return Ok(session);
        }
        let slot = state.slot;
        drop(state);
        self.0.module.open_rw_session(slot)
    }

    fn give_back(&self, session: Session, generation: u64) {
        let mut state = self.state();
        if state.generation == generation && state.idle.len() < IDLE_SESSIONS {
            state.idle.push(session);
        }
    }

    /// Logs in anew, unless somebody did since that log-in. The token may have come back in another slot.
    fn log_in_again(&self, generation: u64) -> Result<(), Error> {
        let mut state = self.state();
        if state.generation != generation {
            return Ok(());
        }
        // Tokens lock after a few wrong PINs, and some erase themselves.
        if let Some(refused) = state.pin_refused {
            return Err(Error::Pkcs11(refused, Function::Login));
        }
        let slot = find_slot(&self.0.module, &self.0.label).unwrap_or(state.slot);
        state.idle.clear();
        state.anchor = match log_in(&self.0.module, slot, &self.0.pin) {
            Ok(anchor) => anchor,
            Err(error) => {
                if let Error::Pkcs11(rv @ (RvError::PinIncorrect | RvError::PinExpired | RvError::PinLocked), _) = &error {
                    tracing::error!(token = self.0.label, %error, "the PIN is refused; it is not tried again before a restart");
                    state.pin_refused = Some(*rv);
                }
                return Err(error);
            }
        };
        state.slot = slot;
        state.generation += 1;
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("label", &self.0.label).finish_non_exhaustive()
    }
}

/// The library at this path. It is initialised once in a process and never finalised, since others may be using it.
fn load(path: &Path) -> Result<Pkcs11, Error> {
    static LOADED: OnceLock<Mutex<HashMap<PathBuf, Pkcs11>>> = OnceLock::new();
    let mut loaded = LOADED.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(module) = loaded.get(path) {
        return Ok(module.clone());
    }
    let module = Pkcs11::new(path)?;
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(error) => return Err(error),
    }
    loaded.insert(path.to_owned(), module.clone());
    Ok(module)
}

fn find_slot(module: &Pkcs11, label: &str) -> Result<Slot, OpenError> {
    let mut slots = module.get_slots_with_token().map_err(OpenError::Token)?;
    slots.retain(|slot| module.get_token_info(*slot).is_ok_and(|info| info.label() == label));
    match slots.as_slice() {
        [only] => Ok(*only),
        several => Err(OpenError::Label { label: label.to_owned(), found: several.len() }),
    }
}

fn log_in(module: &Pkcs11, slot: Slot, pin: &AuthPin) -> Result<Session, Error> {
    let session = module.open_rw_session(slot)?;
    match session.login(UserType::User, Some(pin)) {
        // Logged in is the process, not the session.
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
        Err(error) => Err(error),
    }
}

/// Objects by their attributes. Without a log-in private ones are not there, which is no answer.
pub(crate) fn find_objects(session: &Session, template: &[Attribute]) -> Result<Vec<ObjectHandle>, Error> {
    if is_logged_in(session) {
        session.find_objects(template)
    } else {
        Err(Error::Pkcs11(RvError::UserNotLoggedIn, Function::FindObjects))
    }
}

fn is_logged_in(session: &Session) -> bool {
    let state = session.get_session_info().map(|info| info.session_state());
    matches!(state, Ok(SessionState::RoUser | SessionState::RwUser))
}

/// Whether another session would not help: what was asked is refused as such.
fn is_final(error: &Error) -> bool {
    use RvError as Rv;
    match error {
        // Of a ciphertext that is not theirs.
        Error::Pkcs11(Rv::GeneralError | Rv::FunctionFailed, Function::Decrypt) => true,
        Error::Pkcs11(rv, _) => matches!(
            rv,
            Rv::ArgumentsBad
                | Rv::AttributeReadOnly
                | Rv::AttributeTypeInvalid
                | Rv::AttributeValueInvalid
                | Rv::CurveNotSupported
                | Rv::DataInvalid
                | Rv::DataLenRange
                | Rv::EncryptedDataInvalid
                | Rv::EncryptedDataLenRange
                | Rv::KeyFunctionNotPermitted
                | Rv::KeySizeRange
                | Rv::KeyTypeInconsistent
                | Rv::MechanismInvalid
                | Rv::MechanismParamInvalid
                | Rv::PinIncorrect
                | Rv::PinLocked
                | Rv::SignatureInvalid
                | Rv::TemplateIncomplete
                | Rv::TemplateInconsistent
        ),
        _ => true,
    }
}

pub(crate) fn device_error(error: &Error) -> DeviceError {
    DeviceError(error.to_string())
}
