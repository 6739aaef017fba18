//! Keys in a PKCS #11 token (OASIS PKCS #11, version 2.40 and later): a hardware security module, or something that behaves like one.
//!
//! A [`Token`] makes signing keys, signs with them and destroys them, as the [`KeyDevice`](countersign_jose::KeyDevice) of
//! issuer-service; no private half ever leaves it. [`Token::key_encryption_key`] seals what is kept elsewhere with an AES key in it.
//! The maker's library is loaded into the process when a token is opened, and called from threads
//! of its own; who asks waits no longer than a call may take.

mod cipher;
mod keys;
mod sessions;
mod workers;

pub use sessions::{OpenError, Token, TokenSettings};
