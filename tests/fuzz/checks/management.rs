//! Requests to the management API, of whoever may do everything there.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode, header};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use leveret::broker::Broker;
use leveret::broker::access::Administer;
use leveret::broker::inspect::Inspect;
use leveret::broker::operate::Operate;
use leveret::config::Settings;
use leveret::management::{self, Context, LoginPace};
use leveret::metrics::ProcessReader;
use serde_json::Value as Json;
use tokio::runtime::{Builder, Runtime};

use super::input::{Input, text};
use super::node::Node;

const SPEC: &str = include_str!("../../../spec/http-api.toml");
const REQUESTS_MAX: usize = 16;
/// guest:guest
const LOGIN: &str = "Basic Z3Vlc3Q6Z3Vlc3Q=";
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Every request is answered, with JSON where there is anything to say, and never with 500.
pub fn management(bytes: &[u8]) {
    thread_local! {
        static RUNTIME: Runtime = Builder::new_current_thread().build().expect("a runtime");
    }
    let mut input = Input::new(bytes);
    let node = Node::new(1 << 20);
    let app = app(&node);
    let paths: Vec<&str> = SPEC.lines().filter_map(path).collect();
    for _ in 0..REQUESTS_MAX {
        if input.is_empty() {
            break;
        }
        let Some(request) = request(&mut input, &paths) else { continue };
        let shown = format!("{request:?}");
        let (status, body) = RUNTIME.with(|runtime| {
            runtime.block_on(async {
                let service = TowerToHyperService::new(app.clone());
                let answer = service.call(request).await.expect("it always answers");
                let status = answer.status();
                let body = to_bytes(answer.into_body(), ANSWER_BYTES_MAX).await;
                (status, body.expect("an answer of bounded length"))
            })
        });
        assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "{shown}");
        if !body.is_empty() {
            let is_json = serde_json::from_slice::<Json>(&body).is_ok();
            assert!(is_json, "{shown}: {}", text(&body));
        }
    }
    // What was set is understood when it is read back.
    drop(node.restarted());
}

fn app(node: &Node) -> Router {
    let now = node.now;
    let settings = Settings::default();
    let context = Context {
        inspect: Arc::clone(&node.broker) as Arc<dyn Inspect>,
        operate: Arc::clone(&node.broker) as Arc<dyn Operate>,
        administer: Arc::clone(&node.broker) as Arc<dyn Administer>,
        triggers: Arc::<Broker>::clone(&node.broker),
        process: ProcessReader::new(&settings),
        listeners: Vec::new(),
        pace: LoginPace::new(0, 0),
        now: Box::new(move || now),
    };
    let peer = SocketAddr::from(([127, 0, 0, 1], 50_000));
    management::app(Arc::new(context), &settings.management, peer)
}

/// The path of a line of the specification.
fn path(line: &str) -> Option<&str> {
    line.trim().strip_prefix("path = \"")?.strip_suffix('"')
}

fn request(input: &mut Input<'_>, paths: &[&str]) -> Option<Request<Body>> {
    let methods = [Method::GET, Method::PUT, Method::PUT, Method::POST, Method::DELETE];
    let method = methods[usize::from(input.byte()) % methods.len()].clone();
    let template = input.pick(paths);
    // Names for what stands in braces.
    let mut path = String::new();
    for (n, piece) in template.split(['{', '}']).enumerate() {
        match n % 2 {
            0 => path.push_str(piece),
            _ => match input.byte() {
                255 => input.short().iter().for_each(|byte| path.push_str(&format!("%{byte:02X}"))),
                n => path.push_str(NAMES[usize::from(n) % NAMES.len()]),
            },
        }
    }
    let query = text(input.short());
    if !query.is_empty() {
        path.push('?');
        path.push_str(&query);
    }
    let len = usize::from(input.u16()) % 4_096;
    let body = input.take(len).to_vec();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::AUTHORIZATION, LOGIN)
        .body(Body::from(body));
    request.ok()
}

const NAMES: [&str; 11] = [
    "%2F",
    "guest",
    "amq.topic",
    "some",
    "q",
    "e",
    "max-connections",
    "max-queues",
    "1",
    "~",
    "amq.default",
];
