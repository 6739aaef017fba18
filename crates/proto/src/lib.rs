//! The wire: generated code, conversions between it and the domain, and the one place where a refusal becomes a
//! `google.rpc.Status` or an RFC 6749 error.
//!
//! The protobuf files live in `/proto`. Conversions pair up by package: fallible from the wire, collecting every violation;
//! infallible to the wire. Start at [`status`] for errors and at [`access`] for who may call what.

#[expect(missing_docs, clippy::pedantic, clippy::all, unreachable_pub, reason = "generated")]
mod generated {
    pub mod common {
        pub mod v1 {
            tonic::include_proto!("countersign.common.v1");
        }
    }
    pub mod exchange {
        pub mod v1 {
            tonic::include_proto!("countersign.exchange.v1");
        }
    }
    pub mod issuer {
        pub mod v1 {
            tonic::include_proto!("countersign.issuer.v1");
        }
    }
    pub mod trust {
        pub mod v1 {
            tonic::include_proto!("countersign.trust.v1");
        }
    }
}

pub use generated::{common::v1 as common_v1, exchange::v1 as exchange_v1, issuer::v1 as issuer_v1, trust::v1 as trust_v1};

pub mod access;
pub mod common;
pub mod issuer;
mod redacted;
pub mod status;
pub mod trust;

/// The compiled descriptors of every package, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
