//! Lookups with real states, over the memory store and a damaged file: the engine, gRPC and HTTP.

#![allow(clippy::unwrap_used, clippy::panic)]

mod damage;
mod engine;
mod grpc;
mod http;
mod limits;
mod shop;
