//! The one integration test binary: each module is a suite. One binary links RocksDB once.
#![allow(clippy::unwrap_used, reason = "a failed test's panic is its message, in helpers too")]

#[path = "../support/mod.rs"]
mod support;

mod basic;
mod channel;
mod codec;
mod codegen;
mod config;
mod coverage;
mod exchanges;
mod handshake;
mod management;
mod metrics;
mod queues;
mod spec;
mod store;
