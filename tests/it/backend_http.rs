//! The HTTP backend protocol against a small web service, as RabbitMQ's backend asks it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use leveret::backends;
use leveret::broker::access::{
    Backend as _, Candidate, Hashing, PasswordHash, Resource, Right, User, UserLimits,
};
use leveret::config::settings::{Auth, AuthBackend, BackendPair, HttpAuth, HttpMethod};
use leveret::protocol::method::{Method, connection};

use crate::support::client::open_vhost;
use crate::support::*;

pub(crate) type Form = BTreeMap<String, String>;

/// A web service that answers each question by a rule, and remembers what it was asked.
pub(crate) struct Service {
    address: String,
    asked: Arc<Mutex<Vec<(String, Form)>>>,
}

impl Service {
    pub(crate) fn start(rule: impl Fn(&str, &Form) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<(String, Form)>>> = Arc::default();
        let seen = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let (path, form) = read(&stream);
                let answer = rule(&path, &form);
                seen.lock().unwrap().push((path, form));
                let length = answer.len();
                let head =
                    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}");
                (&stream).write_all(format!("{head}\r\n\r\n{answer}").as_bytes()).unwrap();
            }
        });
        Self { address, asked }
    }

    pub(crate) fn settings(&self, method: HttpMethod) -> HttpAuth {
        let path = |of: &str| format!("{}/auth/{of}", self.address);
        HttpAuth {
            method,
            user_path: path("user"),
            vhost_path: path("vhost"),
            resource_path: path("resource"),
            topic_path: path("topic"),
            ..HttpAuth::default()
        }
    }

    /// A world that asks this service alone.
    fn world(&self, method: HttpMethod) -> World {
        let world = World::new();
        let pair = BackendPair { authn: AuthBackend::Http, authz: None };
        let http = self.settings(method);
        let auth = Auth { backends: vec![pair], http, ..Auth::default() };
        let timeless: backends::Clock = Arc::new(|| 0);
        world
            .broker()
            .access()
            .ask_others(backends::chain(&auth, &timeless).unwrap(), Box::new(|work| work()));
        world
    }

    pub(crate) fn asked(&self, path: &str) -> Vec<Form> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(of, _)| of == path).map(|(_, form)| form.clone()).collect()
    }
}

/// A request's path and its form, from the query or the body.
fn read(stream: &TcpStream) -> (String, Form) {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    reader.read_line(&mut head).unwrap();
    let target = head.split(' ').nth(1).unwrap().to_owned();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let form = if query.is_empty() { String::from_utf8(body).unwrap() } else { query.to_owned() };
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    };
    let pairs = form.split('&').filter(|it| !it.is_empty()).map(pair);
    (path.to_owned(), pairs.collect())
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        bytes.push(match first {
            b'+' => b' ',
            b'%' => {
                let hex = str::from_utf8(&tail[..2]).unwrap();
                rest = &tail[2..];
                u8::from_str_radix(hex, 16).unwrap()
            }
            other => *other,
        });
    }
    String::from_utf8(bytes).unwrap()
}

fn rule(path: &str, form: &Form) -> String {
    let is = |name: &str, value: &str| form.get(name).is_some_and(|own| own == value);
    let allowed = match path {
        "/auth/user" => {
            return match is("password", "s3 &cret") {
                true => "allow Impersonator mine".to_owned(),
                false => "deny wrong password".to_owned(),
            };
        }
        "/auth/vhost" => is("vhost", "/"),
        "/auth/resource" => !is("name", "forbidden"),
        "/auth/topic" => is("routing_key", "public.a"),
        _ => false,
    };
    if allowed { "Allow".to_owned() } else { "deny".to_owned() }
}

fn login(password: &str) -> Login {
    Login { user: "app".into(), password: password.into(), ..Login::default() }
}

#[test]
fn a_web_service_says_who_may_log_in_and_do_what() {
    for method in [HttpMethod::Get, HttpMethod::Post] {
        let service = Service::start(rule);
        let world = service.world(method);
        let client = world.client_as(&login("s3 &cret"));
        client.declare(1, queue("q"));
        client.send(1, publish("", "q", "1").with(props().user_id("someone")));
        assert_eq!(client.drain(1, "q"), ["1"], "the service gave the tag impersonator");
        let text = "ACCESS_REFUSED - configure access to queue 'forbidden' in vhost '/' refused \
                    for user 'app'";
        client.refused(1, queue("forbidden"), 403, text);
        client.send(1, publish("amq.topic", "public.a", "2"));
        client.send(1, publish("amq.topic", "private", "3"));
        let text = "ACCESS_REFUSED - write access to topic 'private' in exchange 'amq.topic' in \
                    vhost '/' refused for user 'app'";
        client.expect_channel_close(1, 403, text);
        let of_vhost = &service.asked("/auth/vhost")[0];
        assert_eq!((&*of_vhost["username"], &*of_vhost["ip"]), ("app", "127.0.0.1"));
        assert_eq!(of_vhost["tags"], "impersonator mine");
        let of_queue = &service.asked("/auth/resource")[0];
        assert_eq!((&*of_queue["resource"], &*of_queue["name"]), ("queue", "q"));
        assert_eq!(of_queue["permission"], "configure");
        let of_topic = service.asked("/auth/topic");
        assert_eq!(of_topic[0]["variable_map.username"], "app");
        // A new secret is looked at like the first, from where the client is.
        let update = connection::UpdateSecret { new_secret: b"s3 &cret", reason: "" };
        client.send(0, Method::ConnectionUpdateSecret(update));
        client.expect(0, Method::ConnectionUpdateSecretOk(Default::default()));
        let again = &service.asked("/auth/vhost")[1];
        assert_eq!((&*again["username"], &*again["ip"]), ("app", "127.0.0.1"));
    }
}

#[test]
fn an_answer_is_asked_for_once_while_it_holds() {
    let service = Service::start(rule);
    let world = service.world(HttpMethod::Get);
    let client = world.client_as(&login("s3 &cret"));
    for _ in 0..10 {
        client.declare(1, queue("q"));
    }
    let before = service.asked("/auth/resource").len();
    world.advance(5_000);
    client.declare(1, queue("q"));
    assert_eq!((before, service.asked("/auth/resource").len()), (1, 2));
}

#[test]
fn a_wrong_password_or_another_vhost_is_refused() {
    let service = Service::start(rule);
    let world = service.world(HttpMethod::Post);
    let stranger = world.stranger();
    stranger.say_hello();
    stranger.start_ok(&login("wrong"));
    world.advance(1_000);
    let text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For \
                details see the broker logfile.";
    stranger.expect_connection_close(403, text);
    world.broker().create_vhost("other", "guest").unwrap();
    let stranger = world.stranger();
    stranger.say_hello();
    stranger.start_ok(&login("s3 &cret"));
    stranger.tune_ok(&Login::default());
    stranger.send(0, open_vhost("other"));
    let text = "NOT_ALLOWED - access to vhost 'other' refused for user 'app'";
    stranger.expect_connection_close(530, text);
}

#[test]
fn what_is_neither_allow_nor_deny_is_a_refusal_and_so_is_silence() {
    let who = Candidate { name: "app", from_loopback: true };
    for answer in ["", "perhaps", "error", "allowed-not", &"x".repeat(100_000)] {
        let answer = answer.to_owned();
        let service = Service::start(move |_, _| answer.clone());
        let backend = backends::http::HttpBackend::new(service.settings(HttpMethod::Get)).unwrap();
        assert!(backend.log_in(who, b"secret").is_none());
    }
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = HttpAuth { user_path: format!("http://{gone}/user"), ..HttpAuth::default() };
    let backend = backends::http::HttpBackend::new(settings).unwrap();
    assert!(backend.log_in(who, b"secret").is_none());
    assert!(backend.log_in(who, b"\xff").is_none(), "no text");
}

#[test]
fn a_service_that_stops_answering_allows_nothing_more() {
    let service = Service::start(|path, _| match path {
        "/auth/user" => "allow".to_owned(),
        _ => "boom".to_owned(),
    });
    let backend = backends::http::HttpBackend::new(service.settings(HttpMethod::Get)).unwrap();
    let who = Candidate { name: "app", from_loopback: true };
    let known = backend.log_in(who, b"secret").unwrap();
    assert!(!known.authority.may_enter("/", None));
    assert!(!known.authority.allows(Right::Read, "/", Resource::Queue("q")));
    assert!(!known.authority.allows_topic(Right::Write, "/", "amq.topic", "k"));
}

#[test]
fn a_service_that_only_says_what_someone_may_is_shown_what_they_showed_elsewhere() {
    let service = Service::start(rule);
    let settings = service.settings(HttpMethod::Post);
    let backend = backends::http::HttpBackend::new(settings).unwrap();
    let password = PasswordHash::none(Hashing::Sha256);
    let (tags, limits) = (vec!["theirs".to_owned()], UserLimits::default());
    let user = User { name: "app".into(), password, tags, limits };
    assert!(backend.vouch(&user, b"wrong").is_none());
    let authority = backend.vouch(&user, b"s3 &cret").unwrap();
    assert!(authority.may_enter("/", Some("192.0.2.1")));
    let asked = &service.asked("/auth/vhost")[0];
    assert_eq!(
        (&*asked["username"], &*asked["tags"], &*asked["ip"]),
        ("app", "theirs", "192.0.2.1")
    );
}
