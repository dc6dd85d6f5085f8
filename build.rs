//! Compiles `proto/` without a system protoc: Rust code for clients and servers, and the descriptor set (comments and JSON
//! names included) for server reflection.

use prost::Message;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

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
    tonic_prost_build::configure()
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
