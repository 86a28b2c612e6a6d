//! The wire: `.proto` files and the code generated from them, [`codes`]: what protocols call an error, [`openapi`]: the
//! description of HTTP routes, [`media`]: what HTTP bodies are in, and [`prometheus`]: the text format of metrics.
//!
//! The files lie in `proto/`, the code in `src/generated/`; both are checked in, so that a build needs no compiler
//! for them. `cargo xtask generate` writes the code again, `cargo xtask generate --check` fails where it is stale.
//!
//! This crate must never contain a conversion of values: each server and client converts wire types to kernel types itself.

pub mod codes;
pub mod media;
pub mod openapi;
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

/// The calls of a `FileDescriptorSet` as `package.Service/Method`, in its order.
///
/// # Errors
/// Fails where the bytes are no such set.
pub fn calls(descriptors: &[u8]) -> Result<Vec<String>, prost::DecodeError> {
    let set: types::FileDescriptorSet = prost::Message::decode(descriptors)?;
    let of_file = |file: types::FileDescriptorProto| {
        let package = file.package().to_owned();
        let of_service = move |service: types::ServiceDescriptorProto| {
            let name = format!("{package}.{}", service.name());
            let methods = service.method.into_iter();
            methods.map(|method| format!("{name}/{}", method.name())).collect::<Vec<_>>()
        };
        file.service.into_iter().flat_map(of_service).collect::<Vec<_>>()
    };
    Ok(set.file.into_iter().flat_map(of_file).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_named_in_full() {
        let calls = calls(FILE_DESCRIPTOR_SET).expect("a set");
        let expected = ["Lookup", "GetService", "ListServices"]
            .map(|call| format!("tidemark.serving.v1.Serving/{call}"));
        assert_eq!(calls, expected);
    }
}
