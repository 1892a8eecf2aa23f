//! What must hold for any bytes: a check for each door through which bytes come in.
//!
//! The library of the fuzz targets, and a module of the integration tests, which run every check
//! over `seeds/` (`tests/it/seeds.rs`). A check panics when what it says does not hold.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::missing_panics_doc,
    reason = "a library to the fuzz targets, a module to the tests"
)]

mod access;
mod client;
pub mod codec;
mod config;
mod content;
mod input;
mod management;
pub mod node;
pub mod passing;
mod proxy;
mod record;
mod routing;
mod session;
mod token;
mod triggers;

/// A check of any bytes.
pub type Check = fn(&[u8]);

/// Every target with its check; `seeds/` has a directory for each.
pub const TARGETS: [(&str, Check); 22] = [
    ("config", config::config),
    ("content", content::content),
    ("cursor", record::cursor),
    ("definitions", record::definitions),
    ("encrypted", config::encrypted),
    ("exchange", routing::exchange),
    ("frame", codec::frame),
    ("headers", routing::headers),
    ("management", management::management),
    ("message", record::message),
    ("method", codec::method),
    ("password", access::password),
    ("pattern", access::pattern),
    ("program", triggers::program),
    ("properties", codec::properties),
    ("proxy", proxy::proxy),
    ("session", session::session),
    ("table", codec::table),
    ("token", token::token),
    ("topic", routing::topic),
    ("trigger", triggers::trigger),
    ("webhook", triggers::webhook),
];

/// What the heap may grow by while 64 KiB of anything are looked at.
const HEAP_BYTES_MAX: u64 = 64 << 20;

/// Runs a target's check, and sees to it that it needed no more memory than it may.
pub fn run(target: &str, bytes: &[u8]) {
    let named = |(name, _): &&(&str, Check)| *name == target;
    let (_, check) = TARGETS.iter().find(named).expect("a target's name");
    let used = allocation_counter::measure(|| check(bytes));
    assert!(used.bytes_max <= HEAP_BYTES_MAX, "{} bytes of memory", used.bytes_max);
}
