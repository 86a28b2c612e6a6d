//! The wire: `.proto` files and the code generated from them, [`codes`]: what protocols call an error, and
//! [`prometheus`]: the text format of metrics.
//!
//! The files lie in `proto/`, the code in `src/generated/`; both are checked in, so that a build needs no compiler
//! for them. `cargo xtask generate` writes the code anew, `cargo xtask generate --check` fails where it is stale.
//!
//! This crate must never contain a conversion of values: each server and client converts wire types to kernel types itself.

pub mod codes;
pub mod prometheus;

pub use prost_types as types;

/// The wire of lookups: `tidemark.serving.v1`, both client and server.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod serving {
    /// Version 1.
    pub mod v1 {
        include!("generated/tidemark.serving.v1.rs");
    }
}

/// Every `.proto` file with all it imports, as a `google.protobuf.FileDescriptorSet`: what reflection answers from.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptors.bin");
