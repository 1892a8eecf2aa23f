//! The house rules that a machine can check, read from the sources: which layer names which, what
//! may wait or read a clock, and how a file looks.
//!
//! Comments are not looked at, nor are a file's own unit tests where a rule is about layers: they
//! may put an upper layer's stand-in beneath their subject.

use std::path::{Path, PathBuf};

use crate::spec;

/// What a part of `src` may name of the crate, besides itself.
const LAYERS: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    // The one step upwards: a message is kept as the bytes in which it lives in memory.
    ("store", &["protocol", "broker::message"]),
    ("broker", &["secret", "protocol", "store"]),
    ("session", &["secret", "protocol", "store", "broker"]),
    ("config", &["secret"]),
    ("metrics", &["protocol", "store", "broker", "config"]),
    ("tls", &["broker", "config", "secret"]),
    ("server", &["protocol", "broker", "session", "tls"]),
    ("backends", &["broker::access", "config::settings"]),
    (
        "runners",
        &["secret", "protocol", "broker", "config::settings", "backends::https", "server::clock"],
    ),
    ("management", &["secret", "protocol", "store", "broker", "config", "metrics", "tls"]),
];

/// What only the process's edge may name: runtimes, sockets, HTTP.
const EDGE_CRATES: &[&str] = &["axum", "hyper", "hyper_util", "tokio", "tokio_rustls", "ureq"];
const EDGE: &[&str] =
    &["api.rs", "backends", "doors.rs", "main.rs", "management", "run.rs", "runners", "server"];

/// Where things happen because they are called, never later.
const SYNCHRONOUS: &[&str] =
    &["backends", "broker", "config", "metrics", "protocol", "session", "store", "tls"];

/// Who may ask what time it is, and why.
const CLOCKS: &[(&str, &str)] = &[
    ("src/server/clock.rs", "its one home"),
    ("src/server/driver.rs", "a pause before it looks at a busy disk again"),
    ("src/store/rocks/commit.rs", "how long a batch that nobody awaits may wait for company"),
];

/// Files that may be longer than [`LINES_MAX`], and why.
const LONG_FILES: &[(&str, &str)] = &[];

const LINES_MAX: usize = 800;
const COLUMNS_MAX: usize = 100;
const GENERATED: &str = "//! Generated from";

// ---- layers -------------------------------------------------------------------------------------

#[test]
fn no_layer_names_one_above_it() {
    let mut found = Vec::new();
    for (layer, allowed) in LAYERS {
        for source in sources(&format!("src/{layer}")) {
            for path in source.crate_paths() {
                let fits = |allowed: &str| {
                    path == allowed
                        || path.strip_prefix(allowed).is_some_and(|p| p.starts_with("::"))
                };
                if !fits(layer) && !allowed.iter().copied().any(fits) {
                    found.push(format!("{} names {path}", source.name));
                }
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_part_of_the_crate_has_its_place_among_the_layers() {
    for entry in std::fs::read_dir(spec::root().join("src")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            assert!(LAYERS.iter().any(|(layer, _)| *layer == name), "src/{name} has no layer");
        }
    }
}

#[test]
fn the_broker_knows_its_store_by_the_trait_alone() {
    let mut found = Vec::new();
    for source in sources("src") {
        if source.is_in(&["store", "backup.rs", "run.rs", "salvage.rs"]) {
            continue;
        }
        for store in ["store::rocks", "store::memory", "store::faulty"] {
            if source.code.contains(store) {
                found.push(format!("{} names {store}", source.name));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn only_the_edge_names_runtimes_sockets_and_http() {
    let mut found = Vec::new();
    for source in sources("src").iter().filter(|source| !source.is_in(EDGE)) {
        for name in EDGE_CRATES.iter().chain(&["std::net"]) {
            if source.names(name) {
                found.push(format!("{} names {name}", source.name));
            }
        }
    }
    found.retain(|found| !exceptions_of_the_edge().iter().any(|(file, _)| found.starts_with(file)));
    assert!(found.is_empty(), "{found:#?}");
}

/// Files that name part of an address or a system call without doing any networking.
fn exceptions_of_the_edge() -> [(&'static str, &'static str); 3] {
    [
        ("src/broker/logins.rs", "where addresses belong is said here"),
        ("src/config/", "addresses to listen on are parsed here"),
        ("src/tls/certificate.rs", "addresses that certificates are for are written out here"),
    ]
}

#[test]
fn nothing_below_the_edge_waits() {
    let mut found = Vec::new();
    for source in sources("src").iter().filter(|source| source.is_in(SYNCHRONOUS)) {
        let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
        let waits = source
            .code
            .match_indices(".await")
            .any(|(at, found)| !source.code[at + found.len()..].starts_with(part_of_word));
        let is_async =
            ["async fn", "async move", "async {"].iter().any(|it| source.code.contains(it));
        if waits || is_async {
            found.push(source.name.clone());
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_time_is_asked_for_in_one_place() {
    let mut found = Vec::new();
    for source in sources("src") {
        let asks = ["Instant::now", "SystemTime::now"].iter().any(|now| source.code.contains(now));
        if asks && !CLOCKS.iter().any(|(file, _)| source.name == *file) {
            found.push(source.name);
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

// ---- files --------------------------------------------------------------------------------------

#[test]
fn every_file_says_first_what_it_owns() {
    for source in everything() {
        assert!(source.text.starts_with("//!"), "{}", source.name);
    }
}

#[test]
fn lines_fit_a_screen() {
    let mut found = Vec::new();
    for source in everything() {
        for (at, line) in source.text.lines().enumerate() {
            if line.chars().count() > COLUMNS_MAX {
                found.push(format!("{}:{}", source.name, at + 1));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn files_are_read_in_one_sitting() {
    let mut found = Vec::new();
    for source in everything() {
        let lines = source.text.lines().count();
        let excused = LONG_FILES.iter().any(|(file, _)| source.name == *file);
        if lines > LINES_MAX && !excused && !source.text.contains(GENERATED) {
            found.push(format!("{}: {lines} lines", source.name));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn nobodys_machine_is_named() {
    let folders = ["work", "root", "home"].map(|folder| format!("/{folder}/"));
    let mut found = Vec::new();
    for path in ["src", "tests", "spec", "benches"].iter().flat_map(|folder| files(folder)) {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for folder in &folders {
            if text.contains(folder) {
                found.push(format!("{}: {folder}", shown(&path)));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn exceptions_are_still_needed() {
    for (file, reason) in LONG_FILES.iter().chain(CLOCKS) {
        assert!(spec::root().join(file).is_file(), "{file} is gone ({reason})");
    }
    for (file, reason) in LONG_FILES {
        let lines = std::fs::read_to_string(spec::root().join(file)).unwrap().lines().count();
        assert!(lines > LINES_MAX, "{file} is short by now ({reason})");
    }
}

// ---- reading the sources ------------------------------------------------------------------------

struct Source {
    /// From the repository's root on.
    name: String,
    text: String,
    /// Without comments and unit tests.
    code: String,
    /// How many `super::` lead to the crate's root.
    depth: usize,
}

impl Source {
    fn read(path: &Path) -> Self {
        let name = shown(path);
        let text = std::fs::read_to_string(path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let is_test = name.ends_with("/tests.rs") || name.ends_with("_tests.rs");
        let code = if is_test { "" } else { code };
        let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
        let code = lines.collect::<Vec<_>>().join("\n");
        let folders = name.matches('/').count() - 1;
        let depth = if name.ends_with("/mod.rs") { folders } else { folders + 1 };
        Self { name, text, code, depth }
    }

    /// Whether it is one of these files or in one of these folders of `src`.
    fn is_in(&self, places: &[&str]) -> bool {
        let place = self.name.strip_prefix("src/").unwrap_or(&self.name);
        places.iter().any(|it| place == *it || place.starts_with(&format!("{it}/")))
    }

    /// Whether a path of this crate or module is named, as a whole word.
    fn names(&self, name: &str) -> bool {
        let part_of_word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        self.code.match_indices(name).any(|(at, _)| {
            let before = self.code[..at].chars().next_back();
            let after = self.code[at + name.len()..].chars().next();
            !before.is_some_and(part_of_word) && matches!(after, Some(':' | ';'))
        })
    }

    /// Paths of the crate, up to two names deep, that the code goes through.
    fn crate_paths(&self) -> Vec<String> {
        let to_root = "super::".repeat(self.depth);
        let mut paths = Vec::new();
        for root in ["crate::", "leveret::", &to_root] {
            for (at, _) in self.code.match_indices(root) {
                let part_of_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
                if self.code[..at].chars().next_back().is_some_and(part_of_path) {
                    continue;
                }
                paths.extend(tree(&self.code[at + root.len()..]));
            }
        }
        paths.retain(|path| !path.starts_with("super"));
        paths
    }
}

/// The first two names of each branch of a use tree: `a::{b::c, d}` is `a::b` and `a::d`.
fn tree(code: &str) -> Vec<String> {
    let name = |code: &str| -> String {
        code.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut paths = Vec::new();
    for (first, rest) in branches(code) {
        let rest = rest.strip_prefix("::").unwrap_or_default();
        let seconds: Vec<String> = match rest.starts_with('{') {
            true => branches(rest).into_iter().map(|(second, _)| second).collect(),
            false => vec![name(rest)],
        };
        for second in seconds {
            paths.push(match second.as_str() {
                "" | "self" => first.clone(),
                second => format!("{first}::{second}"),
            });
        }
    }
    paths
}

/// The branches at the start of `code`: each first name, and what follows it.
fn branches(code: &str) -> Vec<(String, &str)> {
    let split = |code: &str| -> (String, usize) {
        let start = code.len() - code.trim_start().len();
        let name: String =
            code[start..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let end = start + name.len();
        (name, end)
    };
    let Some(group) = code.strip_prefix('{') else {
        let (name, end) = split(code);
        return vec![(name, &code[end..])];
    };
    let mut branches = Vec::new();
    let (mut level, mut from) = (0, 0);
    for (at, c) in group.char_indices() {
        let ends = level == 0 && matches!(c, ',' | '}');
        if ends {
            let (name, end) = split(&group[from..at]);
            if !name.is_empty() {
                branches.push((name, &group[from + end..at]));
            }
            from = at + 1;
        }
        match c {
            '{' => level += 1,
            '}' if level == 0 => break,
            '}' => level -= 1,
            _ => {}
        }
    }
    branches
}

/// The sources in a folder.
fn sources(folder: &str) -> Vec<Source> {
    let is_source = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    files(folder).into_iter().filter(is_source).map(|path| Source::read(&path)).collect()
}

/// Every source of the repository.
fn everything() -> Vec<Source> {
    ["src", "tests", "benches", "interop"].iter().flat_map(|folder| sources(folder)).collect()
}

fn files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![spec::root().join(folder)];
    while let Some(folder) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap_or_default();
            if path.is_dir() && name != "target" && name != "corpus" {
                open.push(path);
            } else if path.is_file() {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(spec::root()).unwrap_or(path).display().to_string()
}

#[test]
fn paths_are_found_in_use_trees() {
    let read = |code: &str| {
        let source =
            Source { name: String::new(), text: String::new(), code: code.to_owned(), depth: 2 };
        source.crate_paths()
    };
    assert_eq!(read("use crate::store::{Batch, memory::X};"), ["store::Batch", "store::memory"]);
    assert_eq!(
        read("use crate::{broker::{Now, queue}, protocol};"),
        ["broker::Now", "broker::queue", "protocol"]
    );
    assert_eq!(read("super::super::session::mod_name()"), ["session::mod_name"]);
    assert_eq!(read("super::session(), my_crate::x"), [] as [&str; 0]);
}
