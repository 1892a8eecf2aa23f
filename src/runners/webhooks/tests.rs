//! Webhooks against a server that answers as it is told.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread::JoinHandle;

use rustls::pki_types::PrivateKeyDer;
use tokio::sync::watch;

use super::*;
use crate::broker::trigger::run::Action;
use crate::runners::tests::{handed, run};
use crate::secret::Secret;

/// A server that gives these answers, one to each call, and tells what it was sent.
struct Server {
    url: String,
    calls: JoinHandle<Vec<String>>,
}

impl Server {
    fn answering(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook?a=b", listener.local_addr().unwrap());
        let answers: Vec<String> = answers.iter().map(|answer| (*answer).to_owned()).collect();
        let calls = std::thread::spawn(move || {
            let call = |answer: String| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut received = Vec::new();
                let mut chunk = [0; 1024];
                while !is_whole(&received) {
                    let length = stream.read(&mut chunk).unwrap();
                    assert!(length > 0, "the call was cut");
                    received.extend_from_slice(&chunk[..length]);
                }
                stream.write_all(answer.as_bytes()).unwrap();
                String::from_utf8(received).unwrap()
            };
            answers.into_iter().map(call).collect()
        });
        Self { url, calls }
    }

    fn calls(self) -> Vec<String> {
        self.calls.join().unwrap()
    }
}

fn is_whole(received: &[u8]) -> bool {
    let text = String::from_utf8_lossy(received);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}

fn status(status: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno")
}

fn webhook(url: &str) -> Webhook {
    Webhook { url: url.to_owned(), secret: None, headers: Vec::new(), timeout_ms: 2_000 }
}

fn webhooks(private_addresses: bool) -> Webhooks {
    let settings = settings::Webhooks { private_addresses, ..settings::Webhooks::default() };
    Webhooks::new(&settings, "rabbit@a").unwrap()
}

async fn outcome(webhooks: &Webhooks, webhook: Webhook, mut run: Run) -> Outcome {
    run.action = Arc::new(Action::Webhook(webhook.clone()));
    let (_stop, stopped) = watch::channel(false);
    webhooks.call(&webhook, &run, Clock::start(), stopped).await
}

async fn ended(webhooks: &Webhooks, webhook: Webhook) -> Ended {
    match outcome(webhooks, webhook, run(vec![handed(b"hello")])).await {
        Outcome::Ended(ended) => ended,
        other => panic!("{other:?}"),
    }
}

fn header<'c>(call: &'c str, name: &str) -> Option<&'c str> {
    call.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")))
}

#[tokio::test]
async fn a_call_is_signed_and_its_success_an_acknowledgement() {
    let server = Server::answering(&[&status("204 No Content").replace("no", "")]);
    let mut hook = webhook(&server.url);
    hook.secret = Some(Secret::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
    hook.headers = vec![("Authorization".to_owned(), "Bearer x".to_owned())];
    let ended = ended(&webhooks(true), hook.clone()).await;
    assert_eq!(ended.verdicts, Verdicts::All(Verdict::Ack));
    assert_eq!((ended.exit, ended.disable, ended.pause_ms), (Exit::Status(204), false, None));
    let calls = server.calls();
    let (head, body) = calls[0].split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /hook?a=b HTTP/1.1\r\n"), "{head}");
    assert_eq!(body, "hello");
    assert_eq!(header(head, "authorization"), Some("Bearer x"));
    assert_eq!(header(head, "ce-subject"), Some("mail.out"));
    let id = header(head, "webhook-id").unwrap();
    assert_eq!(header(head, "ce-id"), Some(id));
    let at_s = header(head, "webhook-timestamp").unwrap().parse().unwrap();
    let signature = signature::sign(&hook.secret.unwrap(), id, at_s, b"hello").unwrap();
    assert_eq!(header(head, "webhook-signature"), Some(&*signature));
}

#[tokio::test]
async fn what_a_server_is_not_ready_for_is_sent_again_later_with_the_same_id() {
    let server = Server::answering(&[
        &status("503 Service Unavailable"),
        &status("429 Too Many Requests\r\nretry-after: 7"),
        &status("302 Found\r\nlocation: http://127.0.0.1:1/"),
        &status("200 OK"),
    ]);
    let webhooks = webhooks(true);
    let mut pauses = Vec::new();
    for expected in [503, 429, 302] {
        let ended = ended(&webhooks, webhook(&server.url)).await;
        assert_eq!(ended.exit, Exit::Status(expected));
        let pause_ms = ended.pause_ms.unwrap();
        let later = Verdict::Retry { delay_ms: Some(pause_ms) };
        assert_eq!(ended.verdicts, Verdicts::All(later));
        assert_eq!(ended.stderr_tail, "no");
        pauses.push(pause_ms);
    }
    assert!((500..=1_000).contains(&pauses[0]), "{pauses:?}");
    assert_eq!(pauses[1], 7_000);
    assert_eq!(ended(&webhooks, webhook(&server.url)).await.pause_ms, None);
    let calls = server.calls();
    let ids: Vec<_> = calls.iter().map(|call| header(call, "webhook-id").unwrap()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[tokio::test]
async fn what_a_server_will_never_have_is_rejected_and_410_switches_off() {
    let server = Server::answering(&[&status("422 No"), &status("410 Gone")]);
    let webhooks = webhooks(true);
    let rejected = ended(&webhooks, webhook(&server.url)).await;
    assert_eq!(rejected.verdicts, Verdicts::All(Verdict::Reject));
    assert!(!rejected.disable);
    let gone = ended(&webhooks, webhook(&server.url)).await;
    assert_eq!(gone.verdicts, Verdicts::All(Verdict::Retry { delay_ms: Some(0) }));
    assert!(gone.disable);
    server.calls();
}

#[tokio::test]
async fn a_server_that_is_not_there_or_says_nothing_is_tried_again_later() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = ended(&webhooks(true), webhook(&format!("http://{closed}/"))).await;
    assert!(matches!(nobody.exit, Exit::Unreachable(_)) && nobody.pause_ms.is_some());

    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut slow = webhook(&format!("http://{}/", silent.local_addr().unwrap()));
    slow.timeout_ms = 50;
    let late = ended(&webhooks(true), slow).await;
    assert!(late.exit == Exit::TimedOut && late.pause_ms.is_some(), "{late:?}");
}

#[tokio::test]
async fn private_addresses_are_refused_after_their_names_were_resolved() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    for host in ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "169.254.169.254"] {
        let hook = webhook(&format!("http://{host}:{port}/"));
        let outcome = outcome(&webhooks(false), hook, run(vec![handed(b"hello")])).await;
        let Outcome::CouldNotStart { reason } = outcome else { panic!("{host}: {outcome:?}") };
        assert!(reason.contains("which is not public"), "{host}: {reason}");
    }
    server.set_nonblocking(true).unwrap();
    assert!(server.accept().is_err(), "somebody was called");
}

#[tokio::test]
async fn headers_that_are_not_the_webhooks_to_set_are_refused() {
    for name in ["Host", "Content-Length", "webhook-id", "CE-Type", "bad name"] {
        let mut hook = webhook("http://127.0.0.1:1/");
        hook.headers = vec![(name.to_owned(), "x".to_owned())];
        let outcome = outcome(&webhooks(true), hook, run(vec![handed(b"hello")])).await;
        assert!(matches!(outcome, Outcome::CouldNotStart { .. }), "{name}: {outcome:?}");
    }
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let now_ms = 1_795_000_000_000;
    assert_eq!(asked_pause_ms("120", now_ms), Some(120_000));
    assert_eq!(asked_pause_ms("Wed, 18 Nov 2026 11:07:40 GMT", now_ms), Some(60_000));
    for nothing in ["soon", "-1", "", "Wed, 18 Nov 2020 11:07:40 GMT"] {
        assert_eq!(asked_pause_ms(nothing, now_ms), None, "{nothing}");
    }
}

#[tokio::test]
async fn by_https_only_servers_that_somebody_trusted_vouches_for_are_told_anything() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let pem = dir.path().join("ca.pem");
    std::fs::write(&pem, made.cert.pem()).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let (listener, config) = (TcpListener::bind("127.0.0.1:0").unwrap(), Arc::new(config));
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    let server = std::thread::spawn(move || {
        let mut heard = Vec::new();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = rustls::Stream::new(&mut connection, &mut stream);
            let mut chunk = [0; 4096];
            if let Ok(length @ 1..) = tls.read(&mut chunk) {
                heard.push(String::from_utf8_lossy(&chunk[..length]).into_owned());
                tls.write_all(status("200 OK").as_bytes()).unwrap();
            }
        }
        heard
    });
    let refused = ended(&webhooks(true), webhook(&url)).await;
    assert!(matches!(refused.exit, Exit::Unreachable(_)), "{refused:?}");
    let cacertfile = Some(pem);
    let settings =
        settings::Webhooks { cacertfile, private_addresses: true, ..settings::Webhooks::default() };
    let trusting = Webhooks::new(&settings, "rabbit@a").unwrap();
    assert_eq!(ended(&trusting, webhook(&url)).await.exit, Exit::Status(200));
    let heard = server.join().unwrap();
    assert_eq!(heard.len(), 1);
    assert!(heard[0].starts_with("POST / HTTP/1.1"), "{heard:?}");
}
