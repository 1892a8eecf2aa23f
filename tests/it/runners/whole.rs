//! Triggers of a whole broker, with programs and a web server of their own: from a message that a
//! client publishes to what becomes of it.
#![expect(clippy::disallowed_methods, reason = "what is measured is how soon something happens")]

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use leveret::protocol::table::Value;
use serde_json::{Value as Json, json};

use super::bench::{await_for, await_that};
use super::node::{Node, deliver, persistent, put, script};
use super::receiver::{Call, Receiver};
use crate::support::*;

/// A trigger that hands messages to a web server.
fn webhook(queue: &str, url: &str) -> Json {
    json!({
        "queue": queue,
        "condition": {"type": "every"},
        "mode": "deliver",
        "action": {"type": "webhook", "url": url},
        "retry_delay_ms": 20,
    })
}

#[test]
fn a_program_runs_soon_after_a_message_has_come_to_an_idle_queue() {
    let node = Node::start(&[("mark", "command = ['/bin/mkdir', '--', '{run}']\ndirectory = '@'")]);
    let client = node.client();
    node.declare(&client, "idle");
    node.set("mark", &deliver("idle", "mark"));
    let marks = || fs::read_dir(node.open_file("")).unwrap().count();
    let (mut took, mut alone, mut brokers) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..25 {
        // What this machine takes, busy as it is, to start the same program.
        let begun = Instant::now();
        let direct = node.dir.path().join(run.to_string());
        assert!(Command::new("/bin/mkdir").arg(direct).status().unwrap().success());
        alone.push(begun.elapsed());
        let begun = Instant::now();
        put(&client, persistent("idle", "x"));
        while marks() <= run {
            assert!(begun.elapsed() < Duration::from_secs(20), "no program runs");
            std::thread::sleep(Duration::from_micros(500));
        }
        took.push(begun.elapsed());
        // The broker starts two: its launcher, and the program in its place.
        brokers.push(took[run].saturating_sub(2 * alone[run]));
        node.await_empty("idle");
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    let [took, alone, brokers] = [&mut took, &mut alone, &mut brokers].map(median);
    println!("from publish to program {took:?}; to start it alone {alone:?}");
    assert!(brokers < Duration::from_millis(50), "{took:?}, of which {alone:?} twice is no fault");
    if alone < Duration::from_millis(3) {
        assert!(took < Duration::from_millis(50), "{took:?} on an idle machine");
    }
}

#[test]
fn a_program_that_is_there_is_refused_for_a_queue_that_it_is_not_for() {
    let node = Node::start(&[("send", "command = ['/bin/true']")]);
    let file = node.dir.path().join("programs.d/send.toml");
    let text = fs::read_to_string(&file).unwrap().replace("'*:*'", "'/:mail.*'");
    fs::write(&file, text).unwrap();
    node.reload();
    let put = |queue: &str| node.ask("PUT", "/api/triggers/%2F/t", Some(&deliver(queue, "send")));
    let mut refused = put("orders");
    await_that("the file is read again", || {
        refused = put("orders");
        refused.0 == 400
    });
    let reason = "action.name: program \\\"send\\\" may not be started for queue \\\"orders\\\" of \
                  vhost \\\"/\\\"";
    assert!(refused.1.contains(reason), "{refused:?}");
    assert!((200..300).contains(&put("mail.out").0));
}

#[test]
fn messages_wait_untouched_for_a_program_that_is_missing() {
    let node = Node::start(&[]);
    let client = node.client();
    node.declare(&client, "mail");
    node.set("send", &deliver("mail", "late"));
    put(&client, persistent("mail", "hello"));
    await_that("the trigger is in error", || node.explain("send")["state"] == "error");
    let shown = node.explain("send");
    assert!(shown["reason"].as_str().unwrap().contains("late.toml"), "{shown}");
    await_that("the message is back", || node.depths("mail") == (1, 0));

    node.write_program("late", &script("echo \"$(cat) $LEVERET_ATTEMPT\" >>@/got"));
    node.reload();
    assert_eq!(node.await_lines("got", 1), ["hello 1"]);
    node.await_empty("mail");
    await_that("the trigger is armed", || node.explain("send")["state"] == "armed");
}

#[test]
fn a_message_that_no_program_can_cope_with_is_dead_lettered_with_the_reason() {
    let node = Node::start(&[("fails", &script("echo $LEVERET_ATTEMPT >>@/tried; exit 1"))]);
    let client = node.client();
    node.declare(&client, "dead");
    let source = queue("poison").durable().arg("x-dead-letter-exchange", "");
    client.ok(1, source.arg("x-dead-letter-routing-key", "dead"));
    node.set("fails", &deliver("poison", "fails"));
    put(&client, persistent("poison", "bitter"));
    await_that("the message is dead", || node.depths("dead") == (1, 0));
    assert_eq!(node.lines("tried"), ["1", "2", "3"]);
    assert_eq!(node.depths("poison"), (0, 0));
    let dead = client.fetch(1, "dead");
    assert_eq!(dead.text(), "bitter");
    let Some(Value::Array(deaths)) = dead.header("x-death") else { panic!("{dead:?}") };
    let Value::Table(death) = &deaths[0] else { panic!("{deaths:?}") };
    assert_eq!(death.get("reason").and_then(Value::as_str), Some("delivery_limit"));
}

#[test]
fn a_message_is_run_again_after_the_broker_was_killed_in_the_middle() {
    let text = "echo $LEVERET_REDELIVERED $$ >>@/began; cat >@/body; [ -e @/go ] || exec sleep 60";
    let mut node = Node::start(&[("slow", &script(text))]);
    let client = node.client();
    node.declare(&client, "work");
    node.set("slow", &deliver("work", "slow"));
    put(&client, persistent("work", "precious"));
    let began = node.await_lines("began", 1);
    node.kill();
    let (redelivered, first) = began[0].split_once(' ').unwrap();
    assert_eq!(redelivered, "false");
    let stat = format!("/proc/{first}/stat");
    let is_dead = || fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
    await_that("the program has gone with the broker", is_dead);

    fs::write(node.open_file("go"), "").unwrap();
    node.start_again();
    let began = node.await_lines("began", 2);
    assert!(began[1].starts_with("true "), "{began:?}");
    node.await_empty("work");
    assert_eq!(fs::read_to_string(node.open_file("body")).unwrap(), "precious");
    assert_eq!(node.lines("began").len(), 2);
}

#[test]
fn a_broker_that_stops_ends_its_programs_and_their_messages_wait_for_the_next_start() {
    let text = "echo $LEVERET_ATTEMPT $LEVERET_REDELIVERED >>@/began; [ -e @/go ] && exit 0; \
                trap \"echo >@/go; exit 0\" TERM; while :; do sleep 0.02; done";
    let mut node = Node::start(&[("patient", &script(text))]);
    let client = node.client();
    node.declare(&client, "work");
    node.set("patient", &deliver("work", "patient"));
    put(&client, persistent("work", "precious"));
    node.await_lines("began", 1);
    client.vanish();
    node.stop();
    assert!(node.open_file("go").exists(), "the program was not told");
    node.start_again();
    // It was seen, but nobody holds the end of the last run against it.
    assert_eq!(node.await_lines("began", 2), ["1 false", "1 true"]);
    node.await_empty("work");
}

#[test]
fn what_looks_like_commands_is_none() {
    let text = "cat >@/body.new; printf %s \"$LEVERET_QUEUE\" >@/queue; mv @/body.new @/body";
    let node = Node::start(&[("copy", &script(text))]);
    let client = node.client();
    let open = node.open_file("x").display().to_string();
    let evil = format!("$(touch {open}) `touch {open}`; touch {open} \"'|&");
    node.declare(&client, &evil);
    node.set("copy", &deliver(&evil, "copy"));
    // A line's end is what no queue's name may have.
    let body = format!("{evil}\n{evil}");
    put(&client, persistent(&evil, &body));
    await_that("the program has run", || node.open_file("body").exists());
    assert_eq!(fs::read_to_string(node.open_file("body")).unwrap(), body);
    assert_eq!(fs::read_to_string(node.open_file("queue")).unwrap(), evil);
    assert!(!node.open_file("x").exists());
}

/// Messages that are handed over, some at a time, by four runs at once: each of them once.
fn by_four_at_a_time(messages: usize, batch_max: u32, with: &str, program: &str) {
    let node = Node::start(&[("some", &format!("{}\n{with}", script(program)))]);
    let client = node.client();
    node.declare(&client, "many");
    let mut trigger = deliver("many", "some");
    trigger["batch_max"] = json!(batch_max);
    trigger["concurrency"] = json!(4);
    client.open(2);
    for number in 0..messages {
        client.send(2, persistent("many", &number.to_string()));
    }
    node.set("some", &trigger);
    await_for(Duration::from_secs(600), "all are handled", || node.depths("many") == (0, 0));
    // Whoever begins says so first, and before it ends again.
    let (mut at_once, mut most, mut handled) = (0, 0, Vec::new());
    for line in node.lines("log") {
        match line.split_once(' ') {
            None if line == "+" => at_once += 1,
            None => at_once -= 1,
            Some((_, body)) => handled.push(body.parse::<usize>().unwrap()),
        }
        most = at_once.max(most);
    }
    assert_eq!((at_once, most), (0, 4), "as many as may, and never a fifth");
    handled.sort_unstable();
    assert_eq!(handled, (0..messages).collect::<Vec<_>>());
}

#[test]
fn ten_thousand_messages_are_each_handled_once_by_four_at_a_time() {
    // Nothing but what the shell does itself: it is one process, and starts fast.
    let program = "exec >>@/log; echo +; read body; echo \"= $body\"; echo -";
    by_four_at_a_time(10_000, 1, "", program);
}

#[test]
fn ten_thousand_messages_in_batches_are_each_handled_once_by_four_at_a_time() {
    let program = r#"exec >>@/log; echo +
        sed 's/.*"body":"\([0-9]*\)".*/= \1/'; echo -"#;
    by_four_at_a_time(10_000, 50, "input = 'ndjson'", program);
}

#[test]
fn first_fires_for_a_backlog_that_its_consumer_leaves() {
    let node = Node::start(&[("note", &script("echo $LEVERET_CAUSE >>@/fired"))]);
    let client = node.client();
    node.declare(&client, "attended");
    let consumer = node.client();
    consumer.ok(1, consume("attended", "c"));
    node.set(
        "note",
        &json!({
            "queue": "attended",
            "condition": {"type": "first"},
            "mode": "notify",
            "action": {"type": "program", "name": "note"},
        }),
    );
    put(&client, persistent("attended", "x"));
    await_that("the consumer has it", || node.depths("attended") == (0, 1));
    assert_eq!(node.lines("fired"), [] as [&str; 0]);
    consumer.vanish();
    assert!(node.await_lines("fired", 1)[0].starts_with("first"));
    assert_eq!(node.depths("attended"), (1, 0));
}

/// The outage of a minute, but for its length: pauses begin with a tenth of a second here, so that
/// it spans as many attempts in less time.
#[test]
fn a_webhook_that_was_down_gets_everything_with_the_ids_it_had_before() {
    const MESSAGES: usize = 20;
    let mut node = Node::start(&[]);
    let client = node.client();
    node.declare(&client, "hooked");
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    node.set("call", &webhook("hooked", &format!("http://{address}/hook")));
    for number in 0..MESSAGES {
        put(&client, persistent("hooked", &number.to_string()));
    }
    // Nobody listens: it is tried again and again, with pauses in between that grow.
    let runs = |node: &Node| {
        let runs = node.get("/api/triggers/%2F/call/runs").as_array().unwrap().clone();
        runs.into_iter().rev().collect::<Vec<_>>()
    };
    await_that("it was tried five times", || runs(&node).len() >= 5);
    let tried = runs(&node);
    assert!(tried.iter().all(|run| run["exit"].as_str().unwrap().starts_with("unreachable")));
    let began = |at: usize| tried[at]["started_ms"].as_u64().unwrap();
    let pauses: Vec<u64> = (1..5).map(|at| began(at) - began(at - 1)).collect();
    assert!(pauses[3] > 2 * pauses[0], "{pauses:?}");

    // It is there, and turns everything away; the broker is killed meanwhile.
    let receiver = Receiver::listen(address, 503);
    await_that("it is turned away", || receiver.calls().len() >= 3);
    client.vanish();
    node.kill();
    let before = receiver.calls().len();
    node.start_again();
    await_that("it is turned away again", || receiver.calls().len() >= before + 4);
    await_that("it pauses", || node.explain("call")["state"] == "backoff");
    receiver.answer_with(200);
    node.await_empty("hooked");

    let calls = receiver.calls();
    let mut ids: HashMap<&str, &str> = HashMap::new();
    for call in &calls {
        assert_eq!(*ids.entry(&call.body).or_insert(&call.id), call.id, "{}", call.body);
    }
    assert_eq!(ids.values().collect::<HashSet<_>>().len(), MESSAGES);
    let refused_before = |call: &Call| calls[..before].iter().any(|it| it.id == call.id);
    assert!(calls[before..].iter().any(refused_before), "nothing was tried before and after");
    let mut delivered: Vec<usize> = calls
        .iter()
        .filter(|call| call.status == 200)
        .map(|call| call.body.parse().unwrap())
        .collect();
    delivered.sort_unstable();
    assert_eq!(delivered, (0..MESSAGES).collect::<Vec<_>>());
}

#[test]
fn a_webhook_that_is_gone_switches_its_trigger_off_and_keeps_the_message() {
    let node = Node::start(&[]);
    let client = node.client();
    node.declare(&client, "hooked");
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let receiver = Receiver::listen(address, 410);
    node.set("call", &webhook("hooked", &format!("http://{address}/hook")));
    put(&client, persistent("hooked", "x"));
    await_that("the trigger is off", || node.explain("call")["state"] == "disabled");
    await_that("the message is back", || node.depths("hooked") == (1, 0));
    assert_eq!(receiver.calls().len(), 1);
}
