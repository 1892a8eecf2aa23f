//! The one integration test binary: each module is a suite. One binary links RocksDB once.
#![allow(clippy::unwrap_used, reason = "a failed test's panic is its message, in helpers too")]

mod codec;
mod codegen;
mod config;
mod coverage;
mod management;
mod metrics;
mod spec;
mod store;
