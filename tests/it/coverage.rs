//! The compatibility report's other half: every promise of `spec/` is shown by a test.
//!
//! A test names what it shows with `covers!("queue.not-found")`. Ids of `spec/errors.toml` and
//! `spec/arguments.toml` that no test names fail here, as do names that no file of `spec/` knows,
//! and names outside a test.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::spec;

/// The files whose entries carry an `id` that a test must name.
const SPECS: [&str; 2] = ["errors.toml", "arguments.toml"];

#[test]
fn every_id_of_the_specification_is_named_by_a_test() {
    let promised: BTreeSet<String> = SPECS.iter().flat_map(|name| ids(name)).collect();
    let named = named_by_tests();
    let missing: Vec<&String> = promised.iter().filter(|id| !named.contains_key(*id)).collect();
    assert!(missing.is_empty(), "{} ids are named by no test: {missing:#?}", missing.len());
}

#[test]
fn tests_name_no_id_that_the_specification_does_not_have() {
    let promised: BTreeSet<String> = SPECS.iter().flat_map(|name| ids(name)).collect();
    let unknown: Vec<_> =
        named_by_tests().into_iter().filter(|(id, _)| !promised.contains(id)).collect();
    assert!(unknown.is_empty(), "no file of spec/ has these ids: {unknown:#?}");
}

#[test]
fn ids_are_named_where_they_are_shown() {
    for folder in ["src", "tests"] {
        for path in rust_files(&spec::root().join(folder)) {
            if !path.ends_with(file!()) {
                let source = std::fs::read_to_string(&path).unwrap();
                assert_eq!(named_outside_tests(&source), [] as [usize; 0], "{}", path.display());
            }
        }
    }
}

/// The numbers of the lines that name an id outside a function that is a test.
fn named_outside_tests(source: &str) -> Vec<usize> {
    let mut outside = Vec::new();
    let mut is_test = false;
    let mut attributes = String::new();
    for (at, line) in source.lines().map(str::trim_start).enumerate() {
        let word = line.trim_start_matches("pub(crate) ").trim_start_matches("async ");
        if line.starts_with("#[") {
            attributes.push_str(line);
        } else if word.starts_with("fn ") {
            is_test = attributes.contains("test]");
            attributes.clear();
        } else if !line.starts_with("//") {
            attributes.clear();
            if line.contains("covers!(") && !is_test {
                outside.push(at + 1);
            }
        }
    }
    outside
}

/// The ids of a file of `spec/`.
fn ids(name: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(spec::path(name)).unwrap();
    let file: toml::Table = text.parse().unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut ids = BTreeSet::new();
    for entry in file.values().filter_map(toml::Value::as_array).flatten() {
        if let Some(id) = entry.get("id").and_then(toml::Value::as_str) {
            assert!(ids.insert(id.to_owned()), "{name}: two entries have the id {id}");
        }
    }
    ids
}

/// Every id inside a `covers!(...)` of the sources, with the file that names it first.
fn named_by_tests() -> BTreeMap<String, PathBuf> {
    let mut named = BTreeMap::new();
    for folder in ["src", "tests"] {
        for path in rust_files(&spec::root().join(folder)) {
            if path.ends_with(file!()) {
                continue;
            }
            for id in names_in(&std::fs::read_to_string(&path).unwrap()) {
                named.entry(id).or_insert_with(|| path.clone());
            }
        }
    }
    named
}

/// The ids that a source names, comments aside.
fn names_in(source: &str) -> Vec<String> {
    let code: Vec<&str> =
        source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let mut names = Vec::new();
    for call in code.split("covers!(").skip(1) {
        let arguments = call.split(')').next().unwrap_or_default();
        names.extend(arguments.split('"').skip(1).step_by(2).map(str::to_owned));
    }
    names
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn a_helper_shows_nothing() {
    let source = "#[test]\nfn a() {\n covers!(\"a\");\n}\n\nfn b() {\n covers!(\"b\");\n}";
    assert_eq!(named_outside_tests(source), [7]);
}

#[test]
fn ids_are_found_in_calls_and_not_in_comments() {
    let source = "covers!(\"a.b\");\n    // covers!(\"c\");\n covers!(\n \"d\",\n \"e\",\n);";
    assert_eq!(names_in(source), ["a.b", "d", "e"]);
}
