//! RabbitMQ's configuration (`rabbitmq.conf`, a few environment variables and `--set KEY=VALUE`)
//! as typed [`Settings`].
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`settings`] | the typed settings and their defaults |
//! | [`load`] | the order in which sources apply; warnings and errors with their origin |
//! | `parse` | the grammar of the file |
//! | [`encrypted`] | encrypted values |
//! | `value` | booleans, sizes, addresses: one value's text as a typed value |
//! | `keys` | the keys that have an effect, and what they set |
//! | `backends` | who else is asked who someone is, and their keys |
//! | `tls` | the options of TLS listeners, and their keys |
//! | `known` | RabbitMQ's other keys: the harmless ones and the ones we must refuse |
//! | `suggest` | the nearest known key to a misspelt one |
//!
//! `spec/config.toml` lists the same keys for people; a test holds the two together. Nothing here
//! does IO except [`load`], which reads files that it is given or told of.

mod backends;
pub mod encrypted;
mod keys;
mod known;
pub mod load;
mod parse;
pub mod settings;
mod suggest;
mod tls;
mod value;

pub use load::{ConfigError, Loaded, Loader, Origin, Problem, Warning};
pub use settings::Settings;

#[cfg(test)]
mod spec_tests;
