//! The audit log: what a client or an operator does, and the lines that are left of it.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use leveret::broker::access::{Administer, By, Permission, UserChange};
use leveret::broker::alarms::Levels;
use leveret::broker::events::Listener;
use leveret::broker::operate::Operate;
use leveret::broker::policy::{PolicyKind, PolicySpec};
use leveret::broker::trigger::operate::OperateTriggers;
use leveret::broker::trigger::run::Runs as _;
use leveret::broker::trigger::spec::TriggerSpec;
use leveret::protocol::table::Table;
use leveret::server::audit::AuditLog;
use leveret::server::look_for_alarms;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::support::*;

/// A world whose node keeps an audit log.
struct Audited {
    world: World,
    log: Arc<AuditLog>,
    dir: TempDir,
}

impl Audited {
    fn new() -> Self {
        let world = World::new();
        world.only_in_process("RabbitMQ keeps no audit log");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let log =
            Arc::new(AuditLog::open(&path, "rabbit@test", Arc::default(), world.now()).unwrap());
        world.broker().listen(vec![Arc::clone(&log) as Arc<dyn Listener>]);
        Self { world, log, dir }
    }

    fn read(&self, name: &str) -> Vec<Json> {
        let text = std::fs::read_to_string(self.dir.path().join(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The whole log, without what it says of itself, once it is closed.
    fn lines(self) -> Vec<Json> {
        self.log.close(self.world.now());
        let mut lines = self.read("audit.jsonl");
        assert_eq!(lines.remove(0)["event"], "audit.started");
        assert_eq!(lines.pop().unwrap()["event"], "audit.stopped");
        lines
    }

    /// Those lines of it that tell of `events`.
    fn lines_of(self, events: &[&str]) -> Vec<Json> {
        let mut lines = self.lines();
        lines.retain(|line| events.contains(&line["event"].as_str().unwrap()));
        lines
    }
}

fn events(lines: &[Json]) -> Vec<&str> {
    lines.iter().map(|line| line["event"].as_str().unwrap()).collect()
}

fn policy(priority: i64, max_length: i32) -> PolicySpec {
    PolicySpec {
        name: "short".into(),
        pattern: "^q$".into(),
        apply_to: "queues".into(),
        priority,
        definition: Table::new().with("max-length", max_length),
    }
}

// ---- logins -------------------------------------------------------------------------------------

#[test]
fn a_login_is_noted_with_user_address_and_mechanism_and_then_the_vhost() {
    let audited = Audited::new();
    audited.world.advance(1_234);
    audited.world.client().close();
    let lines = audited.lines();
    let keys = ["user.authentication.success", "connection.created", "connection.closed"];
    assert_eq!(events(&lines), keys);
    let login = &lines[0];
    assert_eq!(login["time"], "2026-11-18T11:06:41.234Z");
    assert_eq!((&login["node"], &login["user"]), (&json!("rabbit@test"), &json!("guest")));
    let details = &login["details"];
    assert_eq!(details["auth_mechanism"], "PLAIN");
    assert_eq!(
        (&details["peer_host"], &details["peer_port"]),
        (&json!("127.0.0.1"), &json!(50_000))
    );
    let opened = &lines[1];
    assert_eq!((&opened["user"], &opened["details"]["vhost"]), (&json!("guest"), &json!("/")));
    assert_eq!(opened["connection"], "127.0.0.1:50000 -> 127.0.0.1:5672");
}

#[test]
fn a_login_that_fails_is_noted_with_the_name_that_was_tried() {
    let audited = Audited::new();
    let stranger = audited.world.stranger_from("192.0.2.7");
    stranger.say_hello();
    stranger.start_ok(&Login {
        user: "admin".into(),
        password: "letmein".into(),
        ..Login::default()
    });
    let lines = audited.lines();
    assert_eq!(events(&lines), ["user.authentication.failure"]);
    assert_eq!(lines[0]["user"], "admin");
    assert_eq!(lines[0]["details"]["peer_host"], "192.0.2.7");
    assert_eq!(lines[0]["details"]["error"], "user 'admin' - invalid credentials");
    assert!(!lines[0].to_string().contains("letmein"));
}

// ---- changes ------------------------------------------------------------------------------------

#[test]
fn what_a_client_declares_and_deletes_is_noted_with_who_and_what_was_there() {
    let audited = Audited::new();
    let client = audited.world.client();
    client.ok(1, exchange("x", "fanout").durable());
    client.declare(1, queue("q").arg("x-max-length", 5));
    client.ok(1, bind("q", "x", "k"));
    client.ok(1, delete_queue("q"));
    client.ok(1, delete_exchange("x"));
    let keys = [
        "exchange.created",
        "queue.created",
        "binding.created",
        "binding.deleted",
        "queue.deleted",
        "exchange.deleted",
    ];
    let lines = audited.lines_of(&keys);
    assert_eq!(events(&lines), keys);
    for line in &lines {
        assert_eq!(line["user"], "guest", "{line}");
        assert_eq!(line["connection"], "127.0.0.1:50000 -> 127.0.0.1:5672", "{line}");
    }
    let [_, created, bound, unbound, deleted, gone] = lines.try_into().unwrap();
    assert_eq!((&created["before"], &created["after"]["name"]), (&Json::Null, &json!("q")));
    assert_eq!(created["after"]["arguments"], json!(["{<<\"x-max-length\">>,signedint,5}"]));
    assert_eq!(bound["after"], unbound["before"]);
    assert_eq!(deleted["before"], created["after"]);
    assert_eq!(
        (&gone["before"]["type"], &gone["before"]["durable"]),
        (&json!("fanout"), &json!(true))
    );
}

#[test]
fn what_the_broker_deletes_by_itself_is_nobodys_doing() {
    let audited = Audited::new();
    let client = audited.world.client();
    client.declare(1, queue("q").arg("x-expires", 1_000));
    audited.world.advance(1_000);
    let lines = audited.lines_of(&["queue.deleted"]);
    assert_eq!(lines[0]["user"], "rmq-internal");
    assert_eq!(lines[0]["connection"], Json::Null);
}

#[test]
fn a_policy_that_changes_is_noted_as_it_was_and_as_it_is() {
    let audited = Audited::new();
    audited.world.set_policy(PolicyKind::User, policy(0, 5));
    audited.world.set_policy(PolicyKind::User, policy(1, 9));
    audited.world.clear_policy(PolicyKind::User, "short");
    let lines = audited.lines();
    assert_eq!(events(&lines), ["policy.set", "policy.set", "policy.cleared"]);
    let definition = |at: usize, when: &str| lines[at][when]["definition"].clone();
    assert_eq!(lines[0]["before"], Json::Null);
    assert_eq!(definition(0, "after"), json!({"max-length": 5}));
    assert_eq!(definition(1, "before"), json!({"max-length": 5}));
    assert_eq!(definition(1, "after"), json!({"max-length": 9}));
    assert_eq!((&lines[2]["before"]["priority"], &lines[2]["user"]), (&json!(1), &json!("guest")));
}

#[test]
fn what_operators_make_of_users_and_their_rights_is_noted_without_passwords() {
    let audited = Audited::new();
    let (broker, now) = (audited.world.broker(), audited.world.now());
    let by = By { actor: "guest", now };
    let change = |tag: &str| {
        let password = broker.hash_password(b"secret-of-app");
        UserChange { password, tags: vec![tag.into()] }
    };
    let permission = |write: &str| Permission::new([".*", write, ""]).unwrap();
    Administer::put_user(&*broker, "app", change("monitoring"), by).unwrap();
    Administer::put_user(&*broker, "app", change("management"), by).unwrap();
    Administer::set_permission(&*broker, "app", "/", permission("^a"), by).unwrap();
    Administer::set_permission(&*broker, "app", "/", permission("^b"), by).unwrap();
    Administer::clear_permission(&*broker, "app", "/", by).unwrap();
    Administer::set_user_limit(&*broker, "app", "max-channels", Some(5), by).unwrap();
    Administer::set_user_limit(&*broker, "app", "max-channels", None, by).unwrap();
    Administer::delete_user(&*broker, "app", by).unwrap();
    let lines = audited.lines();
    let keys = [
        "user.created",
        "user.tags.set",
        "user.password.changed",
        "user.tags.set",
        "permission.created",
        "permission.created",
        "permission.deleted",
        "user.limits.set",
        "user.limits.cleared",
        "user.deleted",
    ];
    assert_eq!(events(&lines), keys);
    let told = |at: usize, when: &str, what: &str| lines[at][when][what].clone();
    assert_eq!(told(1, "after", "tags"), json!(["monitoring"]));
    assert_eq!(told(3, "before", "tags"), json!(["monitoring"]));
    assert_eq!(told(3, "after", "tags"), json!(["management"]));
    assert_eq!(lines[4]["before"], Json::Null);
    assert_eq!((told(5, "before", "write"), told(5, "after", "write")), (json!("^a"), json!("^b")));
    assert_eq!(told(6, "before", "write"), json!("^b"));
    assert_eq!(
        (told(7, "after", "max-channels"), told(8, "before", "max-channels")),
        (json!(5), json!(5))
    );
    assert_eq!(told(9, "before", "tags"), json!(["management"]));
    let all = Json::from(lines).to_string();
    assert!(!all.contains("secret") && !all.contains("hash"), "{all}");
}

#[test]
fn what_a_user_has_no_permission_for_is_noted() {
    let audited = Audited::new();
    let (broker, now) = (audited.world.broker(), audited.world.now());
    let by = By { actor: "guest", now };
    let password = broker.hash_password(b"app");
    Administer::put_user(&*broker, "app", UserChange { password, tags: vec![] }, by).unwrap();
    let permission = Permission::new(["^mine", "", ""]).unwrap();
    Administer::set_permission(&*broker, "app", "/", permission, by).unwrap();
    let login = Login { user: "app".into(), password: "app".into(), ..Login::default() };
    let client = audited.world.client_as(&login);
    client.send(1, queue("others"));
    client.take(1);
    let lines = audited.lines_of(&["access.refused"]);
    assert_eq!((lines.len(), &lines[0]["user"]), (1, &json!("app")));
    let text = lines[0]["details"]["text"].as_str().unwrap();
    assert!(text.starts_with("ACCESS_REFUSED - "), "{text}");
}

#[test]
fn a_vhost_that_comes_or_goes_is_noted() {
    let audited = Audited::new();
    let (broker, now) = (audited.world.broker(), audited.world.now());
    Operate::create_vhost(&*broker, "stage", "guest", now).unwrap();
    Operate::delete_vhost(&*broker, "stage", "guest", now).unwrap();
    let lines = audited.lines_of(&["vhost.created", "vhost.deleted"]);
    assert_eq!(events(&lines), ["vhost.created", "vhost.deleted"]);
    assert_eq!(
        (&lines[0]["after"]["name"], &lines[1]["before"]["name"]),
        (&json!("stage"), &json!("stage"))
    );
}

#[test]
fn a_trigger_that_is_set_changed_switches_itself_off_or_goes_is_noted_without_its_secret() {
    let audited = Audited::new();
    let (broker, now) = (audited.world.broker(), audited.world.now());
    let spec = |count: u32| {
        let definition = json!({
            "queue": "q",
            "condition": {"type": "depth", "count": count},
            "one_shot": true,
            "action": {"type": "webhook", "url": "https://example.org", "secret": "whsec_hidden"},
        });
        TriggerSpec::from_json(&definition).unwrap()
    };
    let maker = audited.world.guest();
    let set = |count| OperateTriggers::set_trigger(&*broker, "/", "t", spec(count), &maker, now);
    set(2).unwrap();
    set(1).unwrap();
    let client = audited.world.client();
    client.declare(1, queue("q"));
    client.send(1, publish("", "q", "x"));
    let _run = broker.next_run(now).unwrap();
    assert!(OperateTriggers::delete_trigger(&*broker, "/", "t", "guest", now).unwrap());

    let lines = audited.lines_of(&["trigger.set", "trigger.deleted"]);
    assert_eq!(events(&lines), ["trigger.set", "trigger.set", "trigger.set", "trigger.deleted"]);
    let of = |at: usize, when: &str, field: &str| {
        let definition = lines[at][when]["definition"].as_str().unwrap();
        serde_json::from_str::<Json>(definition).unwrap()[field].clone()
    };
    assert_eq!(lines[0]["before"], Json::Null);
    assert_eq!(lines[0]["after"]["name"], "t");
    assert_eq!(of(1, "before", "condition")["count"], 2);
    assert_eq!(of(1, "after", "condition")["count"], 1);
    assert_eq!(
        (of(2, "before", "enabled"), of(2, "after", "enabled")),
        (true.into(), false.into())
    );
    assert_eq!(of(3, "before", "condition")["count"], 1);
    let users: Vec<&str> = lines.iter().map(|line| line["user"].as_str().unwrap()).collect();
    assert_eq!(users, ["guest", "guest", "rmq-internal", "guest"]);
    let all = Json::from(lines).to_string();
    assert!(!all.contains("hidden"), "{all}");
}

// ---- refusals, alarms ---------------------------------------------------------------------------

#[test]
fn what_a_client_has_no_right_to_is_noted() {
    let audited = Audited::new();
    let owner = audited.world.client();
    owner.declare(1, queue("mine").exclusive());
    let other = audited.world.client();
    other.send(1, get("mine"));
    other.take(1);
    other.open(2);
    other.send(2, exchange("amq.mine", "fanout"));
    other.take(2);
    let lines = audited.lines_of(&["access.refused"]);
    let refusals: Vec<_> = lines.iter().map(|line| line["details"]["refusal"].clone()).collect();
    assert_eq!(refusals, ["queue.locked", "exchange.reserved-name"]);
    for line in &lines {
        assert_eq!(line["user"], "guest");
        assert_eq!(line["connection"], "127.0.0.1:50001 -> 127.0.0.1:5672");
    }
    let text = lines[1]["details"]["text"].as_str().unwrap();
    assert!(text.starts_with("ACCESS_REFUSED - exchange name 'amq.mine'"), "{text}");
}

#[test]
fn a_vhost_that_does_not_let_someone_in_is_noted() {
    let audited = Audited::new();
    let stranger = audited.world.stranger();
    stranger.say_hello();
    stranger.start_ok(&Login::default());
    stranger.tune_ok(&Login::default());
    stranger.send(0, client::open_vhost("elsewhere"));
    let lines = audited.lines_of(&["access.refused"]);
    assert_eq!(lines[0]["user"], "guest");
    assert_eq!(lines[0]["details"]["refusal"], "connection.vhost-not-found");
    assert_eq!(lines[0]["connection"], "127.0.0.1:50000 -> 127.0.0.1:5672");
}

#[test]
fn mistakes_channels_consumers_and_messages_are_not_noted() {
    let audited = Audited::new();
    let client = audited.world.client();
    client.declare(1, queue("q"));
    client.ok(1, consume("q", "c"));
    client.send(1, publish("", "q", "x"));
    client.message(1);
    client.send(1, get("nowhere"));
    client.take(1);
    let lines = audited.lines();
    let keys = ["user.authentication.success", "connection.created", "queue.created"];
    assert_eq!(events(&lines), keys);
}

#[test]
fn alarms_are_noted() {
    let audited = Audited::new();
    let broker = audited.world.broker();
    let look = |used| {
        let used = Levels { memory_used_bytes: Some(used), ..Levels::default() };
        let levels = Levels { memory_limit_bytes: Some(1_000), ..used };
        look_for_alarms(&broker, &levels, audited.world.now());
    };
    [1, 1_001, 1_002, 1].into_iter().for_each(look);
    let lines = audited.lines();
    assert_eq!(events(&lines), ["alarm.set", "alarm.cleared"]);
    assert_eq!(lines[0]["details"], json!({"source": "memory", "node": "rabbit@test"}));
}

// ---- the file -----------------------------------------------------------------------------------

#[test]
fn the_file_is_its_owners_and_is_continued() {
    let audited = Audited::new();
    let path = audited.dir.path().join("audit.jsonl");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    audited.log.close(audited.world.now());
    let again = AuditLog::open(&path, "rabbit@test", Arc::default(), audited.world.now()).unwrap();
    again.close(audited.world.now());
    let keys = ["audit.started", "audit.stopped", "audit.started", "audit.stopped"];
    assert_eq!(events(&audited.read("audit.jsonl")), keys);
}

/// Waits until a file holds a text.
fn await_text(path: &Path, text: &str) {
    for _ in 0..1_000_000 {
        if std::fs::read_to_string(path).is_ok_and(|all| all.contains(text)) {
            return;
        }
        std::thread::yield_now();
    }
    panic!("{text} is not in {}", path.display());
}

#[test]
fn a_file_that_was_moved_away_is_left_for_a_new_one_when_the_log_is_told() {
    let audited = Audited::new();
    let path = audited.dir.path().join("audit.jsonl");
    let client = audited.world.client();
    client.declare(1, queue("first"));
    await_text(&path, "first");
    std::fs::rename(&path, audited.dir.path().join("audit.1")).unwrap();
    client.declare(1, queue("second"));
    await_text(&audited.dir.path().join("audit.1"), "second");
    audited.log.reopen();
    await_text(&path, "");
    client.declare(1, queue("third"));
    audited.log.close(audited.world.now());
    let new = audited.read("audit.jsonl");
    assert_eq!(events(&new), ["queue.created", "audit.stopped"]);
    assert_eq!(new[0]["after"]["name"], "third");
}

#[test]
fn a_file_that_takes_nothing_holds_up_neither_clients_nor_the_end() {
    let audited = Audited::new();
    let full =
        AuditLog::open(Path::new("/dev/full"), "rabbit@test", Arc::default(), audited.world.now())
            .unwrap();
    full.close(audited.world.now());
}

/// What clients cause goes on though nobody writes it; how much of it is missing is said.
#[test]
fn lines_for_which_there_is_no_room_are_counted_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    let status = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(status.success());
    // Held open at both ends, so that opening it waits for nobody.
    let mut pipe = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let world = World::new();
    world.only_in_process("RabbitMQ keeps no audit log");
    let log = Arc::new(AuditLog::open(&path, "rabbit@test", Arc::default(), world.now()).unwrap());
    let broker = world.broker();
    broker.listen(vec![Arc::clone(&log) as Arc<dyn Listener>]);
    let text = "x".repeat(64 * 1024);
    let tell = || {
        let fields = || Table::new().with("name", text.as_str());
        broker.emit("queue.created", world.now(), fields);
    };
    // 8 MiB wait, and what the pipe and the writer hold.
    (0..1_000).for_each(|_| tell());
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        let mut buffer = vec![0; 1 << 20];
        while !all.ends_with(b"the end\n") {
            let n = pipe.read(&mut buffer).unwrap();
            all.extend_from_slice(&buffer[..n]);
        }
        all
    });
    log.close(world.now());
    let mut end = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    end.write_all(b"the end\n").unwrap();
    let all = String::from_utf8(reader.join().unwrap()).unwrap();
    let lines: Vec<Json> = all
        .lines()
        .filter(|line| *line != "the end")
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    let told = lines.iter().filter(|line| line["event"] == "queue.created").count();
    let [.., lost, stopped] = lines.as_slice() else { panic!("{} lines", lines.len()) };
    assert_eq!(
        (&lost["event"], &stopped["event"]),
        (&json!("audit.lost"), &json!("audit.stopped"))
    );
    assert_eq!(lost["details"]["lines"].as_u64().unwrap() + told as u64, 1_000);
    assert!(told > 100, "{told} of them had room");
}
