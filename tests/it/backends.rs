//! Users whom others know: a chain of backends says who they are and what they may do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use leveret::broker::access::{
    Authority, Backend, Candidate, ChainLink, Link, Outsider, Resource, Right, User,
};
use leveret::covers;
use leveret::protocol::method::{Method, basic, connection};

use crate::support::client::open_vhost;
use crate::support::*;

const LOGIN_REFUSED: &str = "ACCESS_REFUSED - Login was refused using authentication mechanism \
                             PLAIN. For details see the broker logfile.";

/// Knows those who show "token-N", for N seconds, and lets them use what begins with their name.
#[derive(Debug, Default)]
struct Doorman {
    strict: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Pass {
    name: String,
    expires_unix_ms: u64,
    strict: Arc<AtomicBool>,
}

impl Backend for Doorman {
    fn name(&self) -> &'static str {
        "doorman"
    }

    fn log_in(&self, who: Candidate<'_>, password: &[u8]) -> Option<Outsider> {
        if password == b"i-am-guest" {
            return Some(self.pass("guest", u64::MAX));
        }
        let seconds = str::from_utf8(password).ok()?.strip_prefix("token-")?.parse::<u64>().ok()?;
        let expires_unix_ms = (world::EPOCH_S + seconds) * 1_000;
        Some(self.pass(who.name, expires_unix_ms))
    }

    fn vouch(&self, user: &User, password: &[u8]) -> Option<Arc<dyn Authority>> {
        (password != b"refused here").then(|| self.pass(&user.name, u64::MAX).authority)
    }
}

impl Doorman {
    fn pass(&self, name: &str, expires_unix_ms: u64) -> Outsider {
        let strict = Arc::clone(&self.strict);
        let authority = Arc::new(Pass { name: name.to_owned(), expires_unix_ms, strict });
        Outsider { name: name.to_owned(), tags: vec!["doorman".to_owned()], authority }
    }
}

impl Authority for Pass {
    fn may_enter(&self, vhost: &str, _: Option<&str>) -> bool {
        vhost == "/"
    }

    fn allows(&self, _: Right, _: &str, resource: Resource<'_>) -> bool {
        let name = resource.name();
        !self.strict.load(Ordering::SeqCst)
            && (name.starts_with(&self.name) || name.starts_with("amq."))
    }

    fn allows_topic(&self, _: Right, _: &str, _: &str, key: &str) -> bool {
        key.starts_with(&self.name)
    }

    fn answers_hold_ms(&self) -> Option<u64> {
        Some(5_000)
    }

    fn expires_unix_ms(&self) -> Option<u64> {
        (self.expires_unix_ms < u64::MAX).then_some(self.expires_unix_ms)
    }
}

/// A world that asks its own records first, and then the doorman.
fn world_with(chain: impl FnOnce(Link) -> Vec<ChainLink>) -> (World, Arc<AtomicBool>) {
    let world = World::new();
    let doorman = Doorman::default();
    let strict = Arc::clone(&doorman.strict);
    let chain = chain(Link::Backend(Arc::new(doorman)));
    world.broker().access().ask_others(chain, Box::new(|work| work()));
    (world, strict)
}

fn records_then(doorman: Link) -> Vec<ChainLink> {
    let alone = |authenticates| ChainLink { authenticates, authorises: None };
    vec![alone(Link::Records), alone(doorman)]
}

fn login(user: &str, password: &str) -> Login {
    Login { user: user.into(), password: password.into(), ..Login::default() }
}

#[test]
fn who_is_unknown_here_may_be_known_to_the_next_backend() {
    let (world, _) = world_with(records_then);
    world.client(); // guest, from the node's own records
    let client = world.client_as(&login("app", "token-3600"));
    client.declare(1, queue("app.jobs"));
    let text = "ACCESS_REFUSED - configure access to queue 'jobs' in vhost '/' refused for user \
                'app'";
    client.refused(1, queue("jobs"), 403, text);
    client.send(1, publish("amq.topic", "app.k", "1"));
    client.send(1, publish("amq.topic", "k", "2"));
    let text = "ACCESS_REFUSED - write access to topic 'k' in exchange 'amq.topic' in vhost '/' \
                refused for user 'app'";
    client.expect_channel_close(1, 403, text);
    let stranger = world.stranger();
    stranger.say_hello();
    stranger.start_ok(&login("app", "wrong"));
    world.advance(1_000);
    stranger.expect_connection_close(403, LOGIN_REFUSED);
}

#[test]
fn who_one_backend_knows_another_may_authorise() {
    let (world, _) = world_with(|doorman| {
        vec![ChainLink { authenticates: Link::Records, authorises: Some(doorman) }]
    });
    world.put_user("app", &[]);
    let client = world.client_as(&login("app", "secret"));
    client.declare(1, queue("app.jobs"));
    let (world, _) = world_with(|doorman| {
        vec![ChainLink { authenticates: doorman, authorises: Some(Link::Records) }]
    });
    world.put_user("app", &[]);
    let stranger = world.stranger();
    stranger.say_hello();
    stranger.start_ok(&login("app", "token-3600"));
    stranger.tune_ok(&Login::default());
    stranger.send(0, open_vhost("/"));
    let text = "NOT_ALLOWED - access to vhost '/' refused for user 'app'";
    stranger.expect_connection_close(530, text);
}

#[test]
fn whoever_another_backend_knows_needs_a_record_to_have_rights_in_the_records() {
    let (world, _) = world_with(|doorman| {
        vec![ChainLink { authenticates: doorman, authorises: Some(Link::Records) }]
    });
    let who = Candidate { name: "app", from_loopback: true };
    let (broker, token) = (world.broker(), b"token-3600");
    assert!(broker.access().log_in(who, token).is_none());
    world.put_user("app", &["monitoring", "doorman"]);
    let known = broker.access().log_in(who, token).unwrap();
    assert_eq!(known.user.tags, ["doorman", "monitoring"]);
    assert!(known.authority.is_none());
}

#[test]
fn what_another_backend_revokes_ends_when_its_answers_do() {
    let (world, strict) = world_with(records_then);
    let client = world.client_as(&login("app", "token-3600"));
    client.declare(1, queue("app.jobs"));
    client.ok(1, consume("app.jobs", "c"));
    strict.store(true, Ordering::SeqCst);
    world.advance(5_000);
    let cancel = basic::Cancel { consumer_tag: "c", nowait: true };
    client.expect(1, Method::BasicCancel(cancel));
    let text = "ACCESS_REFUSED - read access to queue 'app.jobs' in vhost '/' refused for user \
                'app'";
    client.refused(1, get("app.jobs"), 403, text);
}

#[test]
fn a_login_that_was_for_a_time_ends_with_it_unless_it_is_renewed() {
    let (world, _) = world_with(records_then);
    let client = world.client_as(&login("app", "token-60"));
    let other = world.client_as(&login("app", "token-60"));
    world.advance(50_000);
    let update = connection::UpdateSecret { new_secret: b"token-120", reason: "soon" };
    client.send(0, Method::ConnectionUpdateSecret(update));
    client.expect(0, Method::ConnectionUpdateSecretOk(Default::default()));
    world.advance(10_000);
    other.expect_connection_close(320, "CONNECTION_FORCED - credential expired");
    client.declare(1, queue("app.jobs"));
    world.advance(60_000);
    client.expect_connection_close(320, "CONNECTION_FORCED - credential expired");
    covers!("connection.credential-expired");
}

#[test]
fn a_new_secret_that_nobody_knows_ends_the_connection() {
    let (world, _) = world_with(records_then);
    let client = world.client_as(&login("app", "token-60"));
    let update = connection::UpdateSecret { new_secret: b"forged", reason: "" };
    client.send(0, Method::ConnectionUpdateSecret(update));
    let text = "NOT_ALLOWED - New secret was refused by one of the backends";
    client.expect_connection_close(530, text);
    covers!("connection.secret-refused");
}

#[test]
fn who_may_only_come_from_a_loopback_address_is_who_the_backend_says_it_is() {
    let (world, _) = world_with(records_then);
    let knock = |address: &str| {
        let stranger = world.stranger_from(address);
        stranger.say_hello();
        stranger.start_ok(&login("anyone", "i-am-guest"));
        world.advance(1_000);
        stranger
    };
    knock("192.0.2.1").expect_connection_close(403, LOGIN_REFUSED);
    knock("127.0.0.1").tune_ok(&Login::default());
}

#[test]
fn an_outsider_has_the_limits_of_the_user_of_the_same_name() {
    let (world, _) = world_with(records_then);
    world.put_user("app", &[]);
    world.broker().set_user_limit("app", "max-channels", Some(1)).unwrap();
    let client = world.client_as(&login("app", "token-60"));
    client.send(2, Method::ChannelOpen(Default::default()));
    let text = "NOT_ALLOWED - number of channels opened for user 'app' has reached the maximum \
                allowed user limit of (1)";
    client.expect_connection_close(530, text);
}
