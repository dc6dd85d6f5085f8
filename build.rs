//! Compiles `proto/` without a system protoc: Rust code for clients and servers, and the descriptor set (comments and JSON
//! names included) for server reflection.

use prost::Message;
use prost_types::FileDescriptorSet;
use prost_types::field_descriptor_proto::Type;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

/// What is told to many and encoded once for all of them: in the Rust code these fields hold the encoded message. On the wire
/// both are the same, and reflection tells what `proto/` says.
const PARTS_AS_BYTES: [(&str, &str); 7] = [
    ("ListOffersResponse", "offers"),
    ("GetOfferResponse", "offer"),
    ("ListGpuModelsResponse", "gpu_models"),
    ("GetSessionResponse", "session"),
    ("ListSessionsResponse", "sessions"),
    ("WatchSessionResponse", "event"),
    ("WatchSessionsResponse", "event"),
];

fn with_parts_as_bytes(mut descriptors: FileDescriptorSet) -> FileDescriptorSet {
    let messages = descriptors.file.iter_mut().filter(|file| file.package() == "gpushopper.v1").flat_map(|file| &mut file.message_type);
    for message in messages {
        let of = message.name().to_owned();
        for field in message.field.iter_mut().filter(|field| PARTS_AS_BYTES.contains(&(of.as_str(), field.name()))) {
            field.set_type(Type::Bytes);
            field.type_name = None;
        }
    }
    descriptors
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(Path::new("proto/gpushopper/v1"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "proto") {
            files.push(path);
        }
    }
    files.sort();
    let descriptors = protox::compile(&files, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    fs::write(out.join("descriptor.bin"), descriptors.encode_to_vec())?;
    let descriptors = with_parts_as_bytes(descriptors);
    let mut builder = tonic_prost_build::configure();
    for (message, field) in PARTS_AS_BYTES {
        builder = builder.bytes(format!(".gpushopper.v1.{message}.{field}"));
    }
    builder
        // Ordered maps make equal messages equal bytes: requests are hashed.
        .btree_map(".")
        // These carry secrets: their Debug is written by hand.
        .skip_debug([
            ".gpushopper.v1.CreateSessionRequest",
            ".gpushopper.v1.CreateSessionResponse",
            ".gpushopper.v1.RotateSessionKeyResponse",
            ".gpushopper.v1.RegistryLogin",
            ".gpushopper.v1.CreateTokenResponse",
        ])
        .codec_path("crate::grpc::codec::FittingCodec")
        .include_file("pb.rs")
        .compile_fds(descriptors)?;
    Ok(())
}
