//! Leveret: a message broker that speaks AMQP 0-9-1 as RabbitMQ does.
//!
//! The modules are layers; each may name only those below it (`tests/it/tidy.rs` enforces it):
//!
//! | module | what it owns |
//! | --- | --- |
//! | [`management`], [`metrics`] | what operators read over HTTP |
//! | [`server`] | sockets, tasks, the clock, signals: the only place that names tokio |
//! | [`runners`] | programs and webhooks that triggers start |
//! | [`backends`] | others who are asked who someone is and what they may do |
//! | [`tls`] | certificates and keys, who they let in, what a handshake has agreed on |
//! | [`config`] | `rabbitmq.conf` and `--set`, parsed into typed settings |
//! | [`session`] | connection and channel state machines, without IO |
//! | [`broker`] | vhosts, exchanges, queues, routing: synchronous, without a clock |
//! | [`store`] | what durable means: the trait, its contract, RocksDB behind it |
//! | [`protocol`] | the AMQP 0-9-1 codec, without IO |
//! | [`secret`] | what no log may show |

pub mod backends;
pub mod broker;
pub mod config;
pub mod management;
pub mod metrics;
pub mod protocol;
pub mod runners;
pub mod secret;
pub mod server;
pub mod session;
pub mod store;
pub mod tls;
