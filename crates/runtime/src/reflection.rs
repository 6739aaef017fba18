//! Server reflection, so that `grpcurl` needs no files: of the services on this very surface, and no internal ones.

use countersign_domain::access::permission::Access;
use countersign_proto::access::TABLE;
use tonic_reflection::server::{Builder, Error};

use crate::server::Surface;

/// Adds reflection, in both of its versions, to a surface.
pub(crate) fn add_to(surface: Surface) -> Result<Surface, Error> {
    let own = ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];
    let names: Vec<&'static str> = surface.services().filter(|name| is_reachable(name)).chain(own).collect();
    let builder = || {
        let builder = Builder::configure()
            .register_encoded_file_descriptor_set(countersign_proto::FILE_DESCRIPTOR_SET)
            // The details of refusals, which clients like grpcurl cannot show otherwise.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET);
        names.iter().fold(builder, |builder, name| builder.with_service_name(*name))
    };
    Ok(surface.grpc(builder().build_v1()?).grpc(builder().build_v1alpha()?))
}

/// Whether some method of a service can be called on a public surface.
fn is_reachable(service: &str) -> bool {
    TABLE.iter().any(|(path, access)| *access != Access::Internal && path.split('/').nth(1) == Some(service))
}
