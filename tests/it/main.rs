//! The one integration test binary: each module is a suite. One binary links RocksDB once.
#![allow(clippy::unwrap_used, reason = "a failed test's panic is its message, in helpers too")]

#[path = "../fuzz/checks/mod.rs"]
mod checks;
#[path = "../support/mod.rs"]
mod support;

mod ack_timeout;
mod alarms;
mod audit;
mod backend_http;
mod backends;
mod bad_input;
mod basic;
mod channel;
mod codec;
mod codegen;
mod cold;
mod config;
mod confirms;
mod coverage;
mod dead_letter;
mod dedup;
mod delayed;
mod deletion;
mod events;
mod exchange_types;
mod exchanges;
mod groups;
mod guards;
mod handshake;
mod hostile;
mod http_logins;
mod leases;
mod limits;
mod management;
mod memory;
mod metrics;
mod model;
mod oauth2;
mod permissions;
mod policies;
mod publish;
mod queues;
mod quorum;
mod recovery;
mod reply_to;
mod runners;
mod secrets;
mod seeds;
mod server;
mod simulation;
mod spec;
mod store;
mod tidy;
mod tls;
mod tracing;
mod triggers;
mod tx;
mod users_api;
mod vhosts;
