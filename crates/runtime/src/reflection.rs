//! Server reflection, so that `grpcurl` needs no files: of the services on this very surface, and no others.

use tonic_reflection::server::{Builder, Error};

use crate::server::Surface;

/// Adds reflection, in both of its versions, to a surface.
pub(crate) fn add_to(surface: Surface) -> Result<Surface, Error> {
    let names: Vec<&'static str> =
        surface.services().chain(["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"]).collect();
    let builder = || {
        let builder = Builder::configure()
            .register_encoded_file_descriptor_set(countersign_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET);
        names.iter().fold(builder, |builder, name| builder.with_service_name(*name))
    };
    Ok(surface.grpc(builder().build_v1()?).grpc(builder().build_v1alpha()?))
}
