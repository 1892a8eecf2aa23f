//! A load generator and crash checker for AMQP 0-9-1 brokers.
//!
//! Raw sockets and messages encoded once: the generator is meant to cost a tenth of what the broker
//! costs, so that both fit on one machine. It shares no code with the broker and knows nothing but
//! AMQP, so it serves any broker alike. `benches/README.md` tells how figures are taken.

mod batch;
mod broker_process;
mod churn;
mod cli;
mod clock;
mod connection;
mod consumer;
mod crash;
mod crowd;
mod delays;
mod engine;
mod idle;
mod latency;
mod logins;
mod null;
mod publisher;
mod queues;
mod report;
mod rpc;
mod shared;
mod stream;
mod topology;
mod verify;
mod window;
mod wire;
mod workload;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    cli::Cli::parse().run()
}
