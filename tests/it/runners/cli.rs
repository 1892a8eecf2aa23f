//! `leveret triggers`, against a broker.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::json;

use super::bench::await_that;
use super::node::{Node, deliver, persistent, put, script};

/// Runs the command with this on its standard input.
fn triggers(node: &Node, words: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_leveret"))
        .arg("triggers")
        .args(words)
        .args(["--url", &format!("http://{}", node.http)])
        .env_remove("LEVERET_PASSWORD")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// What it prints when all is well.
fn printed(node: &Node, words: &[&str]) -> String {
    let output = triggers(node, words, "");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && errors.is_empty(), "{words:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Its exit code and what it complains of.
fn refused(node: &Node, words: &[&str], input: &str) -> (i32, String) {
    let output = triggers(node, words, input);
    assert!(output.stdout.is_empty(), "{output:?}");
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_trigger_is_set_listed_explained_switched_and_deleted_by_the_command() {
    let node = Node::start(&[("send", "command = ['/bin/true']")]);
    let client = node.client();
    node.declare(&client, "mail");
    let mut definition = deliver("mail", "send");
    definition["condition"] = json!({"type": "depth", "count": 3});
    let file = node.open_file("trigger.json");
    std::fs::write(&file, definition.to_string()).unwrap();
    let head = "name\tqueue\tcondition\tmode\tstate\tfired\n";

    assert_eq!(printed(&node, &["list"]), head);
    assert_eq!(printed(&node, &["set", "a name/with signs", file.to_str().unwrap()]), "");
    let listed = printed(&node, &["list"]);
    assert_eq!(listed, format!("{head}a name/with signs\tmail\tdepth\tdeliver\tarmed\t0\n"));
    put(&client, persistent("mail", "x"));
    assert_eq!(
        printed(&node, &["explain", "a name/with signs"]),
        "a name/with signs is armed\n  \
         depth 3: does not hold, 1 messages; missing: 2 more messages\n"
    );
    assert_eq!(printed(&node, &["disable", "a name/with signs"]), "");
    let explained = printed(&node, &["explain", "a name/with signs"]);
    assert!(explained.starts_with("a name/with signs is disabled\n"), "{explained}");
    assert!(explained.ends_with("  also: the trigger is disabled: enable it\n"), "{explained}");
    assert_eq!(printed(&node, &["enable", "a name/with signs"]), "");
    assert!(printed(&node, &["list"]).contains("\tarmed\t"));
    assert_eq!(printed(&node, &["delete", "a name/with signs"]), "");
    assert_eq!(printed(&node, &["list"]), head);

    // From standard input, and what is wrong with it.
    assert!(triggers(&node, &["set", "t", "-"], &definition.to_string()).status.success());
    let (code, error) = refused(&node, &["set", "t", "-"], r#"{"queue": "mail"}"#);
    assert_eq!((code, error.as_str()), (65, "leveret: 400: action: is missing\n"));
    for command in ["delete", "enable", "disable", "explain", "runs"] {
        let (code, error) = refused(&node, &[command, "nobody"], "");
        assert!(code == 65 && error.starts_with("leveret: 404: "), "{command}: {code} {error}");
    }
    let (code, error) = refused(&node, &["list", "--user", "nobody"], "");
    assert!(code == 77 && error.starts_with("leveret: 401: "), "{code} {error}");
    let (code, error) = refused(&node, &["list", "--vhost", "elsewhere"], "");
    assert!(code == 65 && error.starts_with("leveret: 404: "), "{code} {error}");
}

#[test]
fn triggers_move_by_a_definitions_file() {
    let node = Node::start(&[("send", "command = ['/bin/true']")]);
    let client = node.client();
    node.declare(&client, "mail");
    let mut definition = deliver("mail", "send");
    definition["condition"] = json!({"type": "depth", "count": 3});
    for name in ["a/b", "c"] {
        let set = triggers(&node, &["set", name, "-"], &definition.to_string());
        assert!(set.status.success(), "{set:?}");
    }
    let exported = printed(&node, &["export"]);
    let mut file: serde_json::Value = serde_json::from_str(&exported).unwrap();
    let names = |file: &serde_json::Value| {
        let all = file["triggers"].as_array().unwrap().iter();
        all.map(|one| (one["vhost"].clone(), one["name"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(names(&file), [(json!("/"), json!("a/b")), (json!("/"), json!("c"))]);

    // Another node, as far as its triggers go; the file has what RabbitMQ's have, too.
    ["a/b", "c"].iter().for_each(|name| assert_eq!(printed(&node, &["delete", name]), ""));
    file["users"] = json!([{"name": "someone", "password_hash": "x"}]);
    let path = node.open_file("definitions.json");
    std::fs::write(&path, file.to_string()).unwrap();
    assert_eq!(printed(&node, &["import", path.to_str().unwrap()]), "");
    assert_eq!(printed(&node, &["export"]), exported);

    file["triggers"][1]["queue"] = json!(7);
    let (code, error) = refused(&node, &["import", "-"], &file.to_string());
    assert!(
        code == 65 && error.starts_with("leveret: trigger 'c' in vhost '/': 400: queue"),
        "{error}"
    );
    let (code, error) = refused(&node, &["import", "-"], "{}");
    assert_eq!((code, error.as_str()), (65, "leveret: -: there is no list \"triggers\"\n"));
    let (_, error) = refused(&node, &["import", "-"], r#"{"triggers": [{"vhost": "/"}]}"#);
    assert_eq!(error, "leveret: -: triggers[0]: name: a string is missing\n");
}

#[test]
fn the_last_hundred_runs_are_listed_with_the_end_of_what_they_wrote() {
    let text = "read body; echo \"cannot send $body\" >&2; [ $body -ge 3 ] || exit 75";
    let node = Node::start(&[("send", &script(text))]);
    let client = node.client();
    node.declare(&client, "mail");
    let mut definition = deliver("mail", "send");
    definition["starts_max"] = json!(1_000);
    node.set("t", &definition);
    let empty = "run\tstarted\ttook_ms\tmessages\tsettled\tattempt\tresult\texit\n";
    assert_eq!(printed(&node, &["runs", "t"]), empty);
    put(&client, persistent("mail", "3"));
    node.await_empty("mail");
    await_that("it is over", || printed(&node, &["runs", "t"]).lines().count() == 3);
    let runs = printed(&node, &["runs", "t"]);
    let lines: Vec<&str> = runs.lines().collect();
    let fields: Vec<&str> = lines[1].split('\t').collect();
    assert!(fields[1].starts_with("20") && fields[1].ends_with('Z'), "{runs}");
    assert_eq!(fields[3..], ["1", "1", "1", "succeeded", "exit code 0"]);
    assert_eq!(lines[2], "  cannot send 3");

    put(&client, persistent("mail", "1"));
    await_that("the last hundred are remembered", || {
        let runs = printed(&node, &["runs", "t"]);
        let count = runs.lines().filter(|line| line.ends_with("\texit code 75")).count();
        assert!(count <= 100, "{count}");
        count == 100 && !runs.contains("cannot send 3")
    });
    let runs = printed(&node, &["runs", "t"]);
    assert_eq!(runs.matches("  cannot send 1\n").count(), 100);
    assert!(runs.contains("\tretried\texit code 75\n"), "{runs}");
}
