//! What tests need and production must not have: private database and cache servers, an identity provider that misbehaves on
//! request, valid claims to start from, a clock that stands still, and asserts on refusals.
//!
//! Everything here reports trouble by failing the test. In particular a server that is not installed fails the tests that need
//! it, and the message names `./tests/run`, which installs it: a test that did not run never looks like one that passed.
//!
//! It deliberately does not know the services, their clients or the `jose` crate: tokens are signed here by separate code, so
//! that a mistake of the verifier is not repeated by its tests.
//!
//! Start reading at [`identity_provider`] and [`postgres`].

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "failing the test is how a test helper reports trouble"
)]

pub mod claims;
pub mod clock;
pub mod folder;
pub mod hostile_keys;
pub mod identity_provider;
pub mod methods;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod redis;
pub mod signer;
pub mod softhsm;
pub mod status;
pub mod wait;
