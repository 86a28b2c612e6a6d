//! Lookups over the memory store with real states: the engine, gRPC and HTTP.

#![allow(clippy::unwrap_used, clippy::panic)]

mod engine;
mod grpc;
mod http;
mod shop;
