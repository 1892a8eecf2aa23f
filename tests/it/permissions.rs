//! What users may do, as clients see it: `spec/permissions.toml` as a matrix, and what a change of
//! rights does to connections that are open.

use std::collections::BTreeSet;

use leveret::broker::access::{
    Administer, By, Hashing, PasswordHash, Permission, Right, TopicPermission, UserChange,
};
use leveret::covers;
use leveret::protocol::method::{Method, basic};
use serde::Deserialize;

use crate::spec;
use crate::support::client::open_vhost;
use crate::support::properties::array;
use crate::support::*;

// ---- users -----------------------------------------------------------------------------------

/// Users and their rights, as an operator sets them.
struct Office<'w>(&'w World);

impl Office<'_> {
    fn by(&self) -> By<'static> {
        By { actor: "guest", now: self.0.now() }
    }

    fn user(&self, name: &str, tags: &[&str]) {
        self.0.put_user(name, tags);
    }

    /// Gives a user patterns for configure, write and read in "/".
    fn permit(&self, user: &str, patterns: [&str; 3]) {
        let permission = Permission::new(patterns).unwrap();
        self.0.broker().set_permission(user, "/", permission).unwrap();
        self.0.pump();
    }

    fn permit_topic(&self, user: &str, exchange: &str, write: &str, read: &str) {
        let topic = TopicPermission::new(user, "/", write, read).unwrap();
        self.0.broker().set_topic_permission(user, "/", exchange, topic).unwrap();
        self.0.pump();
    }

    fn limit_user(&self, user: &str, name: &str, max: i64) {
        self.0.broker().set_user_limit(user, name, Some(max)).unwrap();
    }

    fn limit_vhost(&self, vhost: &str, name: &str, max: i64) {
        self.0.broker().set_vhost_limit(vhost, name, Some(max)).unwrap();
    }
}

fn login(user: &str) -> Login {
    Login { user: user.into(), password: "secret".into(), ..Login::default() }
}

fn refusal(right: &str, resource: &str) -> String {
    format!("ACCESS_REFUSED - {right} access to {resource} in vhost '/' refused for user 'app'")
}

// ---- the matrix ------------------------------------------------------------------------------

#[derive(Deserialize)]
struct Permissions {
    method: Vec<Doing>,
    free: Vec<Free>,
}

#[derive(Deserialize)]
struct Doing {
    name: String,
    #[serde(default)]
    needs: Vec<String>,
    #[serde(default)]
    new: Vec<String>,
    any: Option<String>,
}

#[derive(Deserialize)]
struct Free {
    methods: Vec<String>,
}

fn permissions() -> Permissions {
    let text = std::fs::read_to_string(spec::path("permissions.toml")).unwrap();
    toml::from_str(&text).unwrap()
}

/// What a right in the specification is about: a kind and the name it has in these tests.
fn resource(doing: &str, what: &str) -> (&'static str, &'static str) {
    match (doing, what) {
        ("queue.bind" | "queue.unbind", "exchange") => ("exchange", "source"),
        ("basic.publish" | "exchange.delete", "exchange") => ("exchange", "there"),
        (_, "exchange") => ("exchange", "made"),
        (_, "source") => ("exchange", "source"),
        (_, "destination") => ("exchange", "there"),
        (_, "alternate-exchange" | "x-dead-letter-exchange") => ("exchange", "elsewhere"),
        ("queue.declare", "queue") => ("queue", "made"),
        (_, "queue") => ("queue", "there"),
        (_, other) => panic!("{other} is nothing that rights are about"),
    }
}

/// Sends the method, with everything in it that could need a right.
fn send(client: &Client, doing: &str) {
    match doing {
        "exchange.declare" => {
            client.send(1, exchange("made", "fanout").arg("alternate-exchange", "elsewhere"));
        }
        "exchange.declare passive" => client.send(1, exchange("made", "fanout").passive()),
        "exchange.delete" => client.send(1, delete_exchange("there")),
        "exchange.bind" => client.send(1, bind_exchange("there", "source", "k")),
        "exchange.unbind" => client.send(1, unbind_exchange("there", "source", "k")),
        "queue.declare" => {
            client.send(1, queue("made").arg("x-dead-letter-exchange", "elsewhere"));
        }
        "queue.declare passive" => client.send(1, queue("there").passive()),
        "queue.bind" => client.send(1, bind("there", "source", "k")),
        "queue.unbind" => client.send(1, unbind("there", "source", "k")),
        "queue.purge" => client.send(1, purge("there")),
        "queue.delete" => client.send(1, delete_queue("there")),
        "basic.consume" => client.send(1, consume("there", "c")),
        "basic.get" => client.send(1, get("there")),
        "basic.publish" => client.send(1, publish("there", "k", "body")),
        other => panic!("no test sends {other}"),
    }
}

/// A world with the queue `there` and the exchanges `there` and `source`, and a client of the user
/// `app` with just these rights: pairs of a right and a name.
fn stage(rights: &[(Right, &str)]) -> (World, Client) {
    let world = World::new();
    let guest = world.client();
    guest.declare(1, queue("there"));
    guest.ok(1, exchange("there", "fanout"));
    guest.ok(1, exchange("source", "fanout"));
    let office = Office(&world);
    office.user("app", &[]);
    let pattern = |wanted: Right| {
        let names = rights.iter().filter(|(right, _)| *right == wanted);
        let names: Vec<String> = names.map(|(_, name)| format!("^{name}$")).collect();
        names.join("|")
    };
    let patterns = Right::ALL.map(pattern);
    office.permit("app", [&*patterns[0], &*patterns[1], &*patterns[2]]);
    let client = world.client_as(&login("app"));
    (world, client)
}

fn parse<'n>(doing: &Doing, need: &'n str) -> (Right, &'static str, &'static str, &'n str) {
    let (right, what) = need.split_once(" of ").unwrap();
    let right = Right::ALL.into_iter().find(|it| it.name() == right).unwrap();
    let (kind, name) = resource(&doing.name, what);
    (right, kind, name, what)
}

#[test]
fn every_method_is_refused_for_want_of_each_right_that_it_needs_and_of_no_other() {
    for doing in permissions().method {
        let needs: Vec<_> =
            doing.needs.iter().chain(&doing.new).map(|need| parse(&doing, need)).collect();
        for missing in 0..needs.len() {
            let held = needs.iter().enumerate().filter(|(at, _)| *at != missing);
            let held: Vec<_> = held.map(|(_, (right, _, name, _))| (*right, *name)).collect();
            let (right, kind, name, _) = needs[missing];
            if held.contains(&(right, name)) {
                continue; // the same right twice
            }
            let (_world, client) = stage(&held);
            send(&client, &doing.name);
            let text = refusal(right.name(), &format!("{kind} '{name}'"));
            client.expect_channel_close(1, 403, &text);
        }
        if doing.any.is_none() {
            let all: Vec<_> = needs.iter().map(|(right, _, name, _)| (*right, *name)).collect();
            let (_world, client) = stage(&all);
            send(&client, &doing.name);
            let refused = client.next(1).is_some_and(|answer| {
                matches!(answer.method(), Method::ChannelClose(_) | Method::ConnectionClose(_))
            });
            assert!(!refused && !client.is_gone(), "{} needs nothing else", doing.name);
        }
    }
    covers!("access.refused");
}

#[test]
fn what_is_new_needs_more_than_what_is_there_already() {
    let (world, client) = stage(&[(Right::Configure, "made")]);
    let guest = world.client();
    guest.declare(1, queue("made").arg("x-dead-letter-exchange", "elsewhere"));
    guest.ok(1, exchange("made", "fanout").arg("alternate-exchange", "elsewhere"));
    client.declare(1, queue("made").arg("x-dead-letter-exchange", "elsewhere"));
    client.ok(1, exchange("made", "fanout").arg("alternate-exchange", "elsewhere"));
}

#[test]
fn who_has_no_right_at_all_on_something_is_not_told_whether_it_is_there() {
    for right in Right::ALL {
        let (_world, client) = stage(&[(right, "there"), (right, "nowhere")]);
        client.ok(1, queue("there").passive());
        client.ok(1, exchange("there", "fanout").passive());
        let text = "NOT_FOUND - no queue 'nowhere' in vhost '/'";
        client.refused(1, queue("nowhere").passive(), 404, text);
    }
    let (_world, client) = stage(&[]);
    for name in ["there", "nowhere"] {
        let text = refusal("configure", &format!("queue '{name}'"));
        client.refused(1, queue(name).passive(), 403, &text);
        let text = refusal("configure", &format!("exchange '{name}'"));
        client.refused(1, exchange(name, "fanout").passive(), 403, &text);
    }
}

#[test]
fn every_method_of_the_protocol_says_what_it_needs() {
    let permissions = permissions();
    let doings = permissions.method.iter().filter_map(|doing| doing.name.split(' ').next());
    let free = permissions.free.iter().flat_map(|free| free.methods.iter().map(String::as_str));
    let said: BTreeSet<&str> = doings.chain(free).collect();
    let protocol = spec::Protocol::read();
    let of_clients: BTreeSet<String> = protocol
        .classes
        .iter()
        .flat_map(|class| class.methods.iter().map(move |method| (class, method)))
        .filter(|(_, method)| method.from != spec::From::Server)
        .map(|(class, method)| format!("{}.{}", class.name, method.name))
        .collect();
    let missing: Vec<_> = of_clients.iter().filter(|name| !said.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "spec/permissions.toml says nothing of {missing:?}");
}

#[test]
fn rights_in_one_vhost_are_none_in_another() {
    let world = World::new();
    world.broker().create_vhost("other", "guest").unwrap();
    let office = Office(&world);
    office.user("app", &[]);
    office.permit("app", [".*"; 3]);
    let stranger = world.stranger();
    let there = Login { vhost: "other".into(), ..login("app") };
    stranger.say_hello();
    stranger.start_ok(&there);
    stranger.tune_ok(&there);
    stranger.send(0, open_vhost("other"));
    let text = "NOT_ALLOWED - access to vhost 'other' refused for user 'app'";
    stranger.expect_connection_close(530, text);
}

#[test]
fn the_default_exchange_is_amq_default_where_rights_are_looked_at() {
    let world = World::new();
    world.client().declare(1, queue("q"));
    let office = Office(&world);
    office.user("app", &[]);
    office.permit("app", ["", "^q$", ""]);
    let client = world.client_as(&login("app"));
    let text = refusal("write", "exchange 'amq.default'");
    client.send(1, publish("", "q", "1"));
    client.expect_channel_close(1, 403, &text);
    office.permit("app", ["", r"^amq\.default$", ""]);
    client.open(1);
    client.send(1, publish("", "q", "2"));
    assert_eq!(world.client().drain(1, "q"), ["2"]);
}

#[test]
fn a_name_is_looked_at_as_it_is_used_without_line_breaks() {
    let (_world, client) = stage(&[(Right::Write, "x"), (Right::Read, "source")]);
    let text = refusal("write", "queue 'there'");
    client.refused(1, bind("the\nre", "source", "k"), 403, &text);
    let text = refusal("read", "queue 'there'");
    client.refused(1, get("there\r\n"), 403, &text);
}

// ---- topics ----------------------------------------------------------------------------------

#[test]
fn topic_permissions_look_at_every_key() {
    let world = World::new();
    let guest = world.client();
    guest.ok(1, exchange("news", "topic"));
    guest.ok(1, exchange("other", "topic"));
    guest.declare(1, queue("q"));
    let office = Office(&world);
    office.user("app", &[]);
    office.permit("app", [".*"; 3]);
    office.permit_topic("app", "news", r"^{username}\.", r"^public\.");
    let client = world.client_as(&login("app"));
    let refused = |right: &str, key: &str| {
        let on = format!("topic '{key}' in exchange 'news'");
        refusal(right, &on)
    };
    client.ok(1, bind("q", "news", "public.#"));
    client.refused(1, bind("q", "news", "app.#"), 403, &refused("read", "app.#"));
    client.refused(1, unbind("q", "news", "app.#"), 403, &refused("read", "app.#"));
    client.ok(1, bind("q", "other", "app.#"));
    client.send(1, publish("other", "app.1", "1"));
    client.send(1, publish("news", "app.1", "2"));
    client.send(1, publish("news", "public.1", "3"));
    client.expect_channel_close(1, 403, &refused("write", "public.1"));
    client.open(1);
    let copied = props().header("CC", array(["public.2"]));
    client.send(1, publish("news", "app.2", "4").with(copied));
    client.expect_channel_close(1, 403, &refused("write", "public.2"));
    assert_eq!(world.client().drain(1, "q"), ["1"]);
    covers!("access.topic-refused");
}

// ---- changes ---------------------------------------------------------------------------------

#[test]
fn a_right_that_is_revoked_ends_at_once() {
    let world = World::new();
    world.client().declare(1, queue("q"));
    let office = Office(&world);
    office.user("app", &[]);
    office.permit("app", [".*"; 3]);
    let client = world.client_as(&login("app"));
    client.ok(1, consume("q", "c"));
    client.send(1, publish("", "q", "1"));
    let first = client.message(1);
    office.permit("app", [".*", ".*", "^other$"]);
    let cancel = basic::Cancel { consumer_tag: "c", nowait: true };
    client.expect(1, Method::BasicCancel(cancel));
    client.send(1, publish("", "q", "2"));
    client.expect_nothing();
    client.send(1, ack(first.delivery_tag));
    assert_eq!(world.client().depth(1, "q"), 1, "what was delivered could be acknowledged");
    office.permit("app", [".*", "", "^other$"]);
    client.send(1, publish("", "q", "3"));
    client.expect_channel_close(1, 403, &refusal("write", "exchange 'amq.default'"));
    assert_eq!(world.client().drain(1, "q"), ["2"]);
}

#[test]
fn a_right_that_is_given_counts_at_once() {
    let (world, client) = stage(&[]);
    client.refused(1, get("there"), 403, &refusal("read", "queue 'there'"));
    Office(&world).permit("app", ["", "", "there"]);
    client.ok(1, purge("there"));
}

#[test]
fn a_user_who_may_not_enter_any_more_may_do_nothing() {
    let world = World::new();
    let office = Office(&world);
    office.user("app", &[]);
    office.permit("app", [".*"; 3]);
    let client = world.client_as(&login("app"));
    client.declare(1, queue("q"));
    world.broker().clear_permission("app", "/").unwrap();
    client.refused(1, get("q"), 403, &refusal("read", "queue 'q'"));
}

#[test]
fn a_deleted_users_connections_are_closed_and_none_can_be_opened() {
    let world = World::new();
    let office = Office(&world);
    office.user("app", &[]);
    office.permit("app", [".*"; 3]);
    let client = world.client_as(&login("app"));
    assert!(world.broker().delete_user("app").is_some());
    world.pump();
    client.expect_connection_close(320, "CONNECTION_FORCED - user 'app' is deleted");
    let stranger = world.stranger();
    stranger.say_hello();
    stranger.start_ok(&login("app"));
    world.advance(1_000);
    let text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For \
                details see the broker logfile.";
    stranger.expect_connection_close(403, text);
    covers!("connection.user-deleted");
}

#[test]
fn users_and_their_rights_survive_a_restart() {
    let world = World::new();
    let office = Office(&world);
    office.user("app", &["impersonator"]);
    office.permit("app", ["^a", "^(a|amq.default)", "^a"]);
    office.permit_topic("app", "amq.topic", "^a", "^b");
    office.limit_user("app", "max-channels", 1);
    office.limit_vhost("/", "max-queues", 1);
    office.user("gone", &[]);
    world.broker().delete_user("gone");
    let before = (world.broker().access().users(), world.broker().access().permissions());
    let topics = world.broker().access().topic_permissions();
    let world = world.restarted(1_000);
    let access = (world.broker().access().users(), world.broker().access().permissions());
    assert_eq!(access, before);
    assert_eq!(world.broker().access().topic_permissions(), topics);
    let client = world.client_as(&login("app"));
    client.declare(1, queue("a"));
    let text = "PRECONDITION_FAILED - cannot declare queue 'ab': queue limit in vhost '/' (1) is \
                reached";
    client.send(1, queue("ab"));
    client.expect_channel_close(1, 406, text);
}

#[test]
fn a_message_may_bear_its_publishers_name_or_anyones_if_that_is_an_impersonator() {
    let world = World::new();
    let office = Office(&world);
    office.user("app", &[]);
    office.permit("app", [".*"; 3]);
    let client = world.client_as(&login("app"));
    client.declare(1, queue("q"));
    let as_guest = || publish("", "q", "1").with(props().user_id("guest"));
    let text = "PRECONDITION_FAILED - user_id property set to 'guest' but authenticated user was \
                'app'";
    client.send(1, as_guest());
    client.expect_channel_close(1, 406, text);
    office.user("app", &["impersonator"]);
    client.open(1);
    client.send(1, as_guest());
    assert_eq!(client.drain(1, "q"), ["1"]);
}

// ---- limits ----------------------------------------------------------------------------------

#[test]
fn users_and_vhosts_have_as_many_connections_as_they_may() {
    let world = World::new();
    let office = Office(&world);
    office.user("app", &[]);
    office.permit("app", [".*"; 3]);
    let refused = |user: &str, password: &str, text: &str| {
        let login = Login { user: user.into(), password: password.into(), ..Login::default() };
        let stranger = world.stranger();
        stranger.say_hello();
        stranger.start_ok(&login);
        stranger.tune_ok(&login);
        stranger.send(0, open_vhost("/"));
        stranger.expect_connection_close(530, text);
    };
    office.limit_user("app", "max-connections", 1);
    let first = world.client_as(&login("app"));
    let text =
        "NOT_ALLOWED - connection refused for user 'app': user connection limit (1) is reached";
    refused("app", "secret", text);
    office.limit_vhost("/", "max-connections", 1);
    let text = "NOT_ALLOWED - access to vhost '/' refused for user 'guest': connection limit (1) \
                is reached";
    refused("guest", "guest", text);
    first.close();
    world.client_as(&login("app")).close();
    office.limit_vhost("/", "max-connections", -1);
    world.client();
    world.client();
    covers!("connection.user-limit");
    covers!("connection.vhost-limit");
}

#[test]
fn a_user_has_as_many_channels_as_it_may_over_all_its_connections() {
    let world = World::new();
    let office = Office(&world);
    office.user("app", &[]);
    office.permit("app", [".*"; 3]);
    office.limit_user("app", "max-channels", 2);
    let one = world.client_as(&login("app"));
    let two = world.client_as(&login("app"));
    two.send(2, Method::ChannelOpen(Default::default()));
    let text = "NOT_ALLOWED - number of channels opened for user 'app' has reached the maximum \
                allowed user limit of (2)";
    two.expect_connection_close(530, text);
    one.open(2);
    one.ok(2, close_channel());
    one.open(3);
    covers!("channel.user-limit");
}

#[test]
fn a_vhost_takes_as_many_queues_as_it_may() {
    let world = World::new();
    Office(&world).limit_vhost("/", "max-queues", 1);
    let client = world.client();
    client.declare(1, queue("one"));
    client.declare(1, queue("one"));
    let text = "PRECONDITION_FAILED - cannot declare queue 'two': queue limit in vhost '/' (1) is \
                reached";
    client.refused(1, queue("two"), 406, text);
    client.ok(1, delete_queue("one"));
    client.declare(1, queue("two"));
    covers!("queue.vhost-limit");
}

// ---- what is told ----------------------------------------------------------------------------

#[test]
fn changes_of_users_and_rights_are_told_to_the_event_exchange() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("told"));
    client.ok(1, bind("told", "amq.rabbitmq.event", "#.user.#"));
    client.ok(1, bind("told", "amq.rabbitmq.event", "user.#"));
    client.ok(1, bind("told", "amq.rabbitmq.event", "permission.#"));
    client.ok(1, bind("told", "amq.rabbitmq.event", "topic.#"));
    client.ok(1, bind("told", "amq.rabbitmq.event", "vhost.limits.#"));
    let (broker, by) = (world.broker(), Office(&world).by());
    // Nothing here waits for the disk: what is kept in memory is durable at once.
    let change = || UserChange {
        password: PasswordHash::none(Hashing::Sha256),
        tags: vec!["monitoring".into()],
    };
    Administer::put_user(&*broker, "app", change(), by).unwrap();
    Administer::put_user(&*broker, "app", change(), by).unwrap();
    let permission = Permission::new(["a", "b", "c"]).unwrap();
    Administer::set_permission(&*broker, "app", "/", permission, by).unwrap();
    let topic = TopicPermission::new("app", "/", "w", "r").unwrap();
    Administer::set_topic_permission(&*broker, "app", "/", "amq.topic", topic, by).unwrap();
    Administer::clear_topic_permissions(&*broker, "app", "/", None, by).unwrap();
    Administer::clear_permission(&*broker, "app", "/", by).unwrap();
    Administer::set_user_limit(&*broker, "app", "max-channels", Some(3), by).unwrap();
    Administer::set_vhost_limit(&*broker, "/", "max-queues", None, by).unwrap();
    Administer::delete_user(&*broker, "app", by).unwrap();
    let mut keys = Vec::new();
    for _ in 0..client.depth(1, "told") {
        let message = client.fetch(1, "told");
        assert_eq!(message.header("user_who_performed_action"), Some("guest".into()));
        keys.push(message.routing_key.clone());
    }
    assert_eq!(
        keys,
        [
            "user.created",
            "user.tags.set",
            "user.password.changed",
            "user.tags.set",
            "permission.created",
            "topic.permission.created",
            "topic.permission.deleted",
            "permission.deleted",
            "user.limits.set",
            "vhost.limits.cleared",
            "user.deleted",
        ]
    );
}
