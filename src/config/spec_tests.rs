//! Holds `spec/config.toml`, the parser's table and the generated list together.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::keys::keys;
use super::known::{IGNORED, REFUSED};
use super::load::Listing;
use super::{Loader, Settings};

const SPEC: &str = include_str!("../../spec/config.toml");
const KNOWN: &str = include_str!("known.rs");

fn spec() -> toml::Table {
    SPEC.parse().expect("spec/config.toml is TOML")
}

fn text(table: &toml::Value, field: &str) -> Option<String> {
    table.get(field).and_then(toml::Value::as_str).map(str::to_owned)
}

fn entries(kind: &str) -> Vec<toml::Value> {
    let mut entries = Vec::new();
    for entry in spec()[kind].as_array().expect("a list of tables") {
        entries.push(entry.clone());
        let also = entry.get("also").and_then(toml::Value::as_array).into_iter().flatten();
        for name in also {
            let mut other = entry.clone();
            other["name"] = name.clone();
            entries.push(other);
        }
    }
    entries
}

fn load(name: &str, value: &str) -> Result<Settings, String> {
    let key = name.replace("$num", "1").replace('$', "some-");
    let loaded = Loader::new().set(format!("{key}={value}")).load();
    loaded.map(|l| l.settings).map_err(|e| e.to_string())
}

#[test]
fn the_specification_and_the_parser_list_the_same_keys() {
    let written: Vec<String> = entries("key").iter().filter_map(|k| text(k, "name")).collect();
    let parsed: Vec<&str> = keys().map(|key| key.pattern).collect();
    assert_eq!(
        written.iter().map(String::as_str).collect::<BTreeSet<_>>(),
        parsed.iter().copied().collect::<BTreeSet<_>>()
    );
    assert_eq!(parsed.len(), parsed.iter().collect::<BTreeSet<_>>().len(), "a key is there twice");
    assert_eq!(written.len(), parsed.len(), "a key is described twice");
}

#[test]
fn every_supported_key_is_complete_and_takes_its_example() {
    for key in entries("key") {
        let name = text(&key, "name").expect("a name");
        assert_eq!(text(&key, "status").as_deref(), Some("supported"), "{name}");
        assert!(text(&key, "meaning").is_some_and(|m| m.ends_with('.')), "{name}");
        assert!(text(&key, "type").is_some(), "{name}");
        let example = text(&key, "example").expect("an example");
        load(&name, &example).unwrap_or_else(|e| panic!("{name} = {example}: {e}"));
    }
}

#[test]
fn every_described_default_is_the_parsers_default() {
    for key in entries("key") {
        let name = text(&key, "name").expect("a name");
        if let Some(default) = text(&key, "default").filter(|_| !name.contains('$')) {
            assert_eq!(load(&name, &default), Ok(Settings::default()), "{name}");
        }
    }
}

#[test]
fn every_example_that_is_not_the_default_changes_the_settings() {
    for key in entries("key") {
        let name = text(&key, "name").expect("a name");
        let example = text(&key, "example").expect("an example");
        let fixed = key.get("fixed").is_some();
        let changed = load(&name, &example) != Ok(Settings::default());
        assert_eq!(changed, !fixed, "{name}");
    }
}

#[test]
fn the_generated_list_is_fresh() {
    let mut fresh = String::from(
        "//! RabbitMQ's keys without effect here: the harmless ones and those we must refuse.\n\
         //! Generated from `spec/config.toml` by `UPDATE_SPEC=1 cargo test config`.\n\n\
         use super::load::Listing;\n",
    );
    for (kind, doc, name) in [
        ("refused", "Refused: ignoring them would be unsafe.", "REFUSED"),
        ("ignored", "Accepted with a warning.", "IGNORED"),
    ] {
        let _ =
            write!(fresh, "\n/// {doc}\n#[rustfmt::skip]\npub(super) const {name}: Listing = &[\n");
        for group in entries(kind) {
            let _ = write!(
                fresh,
                "    (\n        {:?},\n        &[\n",
                group["reason"].as_str().expect("a reason")
            );
            for key in group["keys"].as_array().expect("a list of keys") {
                let _ = writeln!(fresh, "            {:?},", key.as_str().expect("a key"));
            }
            fresh.push_str("        ],\n    ),\n");
        }
        fresh.push_str("];\n");
    }
    if std::env::var_os("UPDATE_SPEC").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/known.rs");
        std::fs::write(path, &fresh).expect("known.rs can be written");
        return;
    }
    assert_eq!(KNOWN, fresh, "run UPDATE_SPEC=1 cargo test config");
}

fn patterns(listing: Listing) -> impl Iterator<Item = &'static str> {
    listing.iter().flat_map(|(_, keys)| keys.iter().copied())
}

#[test]
fn no_key_is_both_supported_and_listed_as_having_no_effect() {
    let supported: BTreeSet<&str> = keys().map(|key| key.pattern).collect();
    let mut seen = BTreeSet::new();
    for pattern in patterns(REFUSED).chain(patterns(IGNORED)) {
        assert!(!supported.contains(pattern), "{pattern}");
        assert!(seen.insert(pattern), "{pattern} is listed twice");
    }
}

#[test]
fn refused_keys_stop_the_start_and_ignored_ones_warn() {
    let concrete = |pattern: &str| pattern.replace('$', "some-").replace('*', "some.thing");
    for pattern in patterns(REFUSED) {
        let loaded = Loader::new().set(format!("{}=1", concrete(pattern))).load();
        assert!(loaded.is_err(), "{pattern}");
    }
    for pattern in patterns(IGNORED) {
        let loaded = Loader::new().set(format!("{}=1", concrete(pattern))).load();
        let loaded = loaded.unwrap_or_else(|e| panic!("{pattern}: {e}"));
        assert_eq!(loaded.warnings.len(), 1, "{pattern}");
        assert_eq!(loaded.settings, Settings::default(), "{pattern}");
    }
}
