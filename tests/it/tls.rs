//! TLS over real sockets: who is let in and who is not, what each hears of it, what operators see,
//! and how certificates change under a running broker.
#![allow(clippy::disallowed_methods, reason = "these tests measure real time")]

mod authority;
mod node;
mod process;
mod proxy;
mod unix;

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use leveret::config::settings::{CertificateLogin, LoginFrom, TlsOptions, TlsVersion};
use leveret::protocol::method::{basic, connection, queue};
use leveret::protocol::{Method, RawTable, Table};
use tempfile::{TempDir, tempdir};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::management::Client;
use authority::{Authority, mutual, options};
use node::{HOST, Node, PATIENCE, by_tls, external, plain};

/// An authority, and a broker whose certificate it has signed.
async fn started(change: impl FnOnce(&mut TlsOptions)) -> (TempDir, Authority, Node) {
    let (dir, authority) = (tempdir().unwrap(), Authority::new("an authority"));
    let mut options = options(dir.path(), &authority.server(HOST), &authority);
    change(&mut options);
    let node = Node::by_tls(options).await;
    (dir, authority, node)
}

/// The same, for clients that must show a certificate.
async fn started_mutual(change: impl FnOnce(&mut TlsOptions)) -> (TempDir, Authority, Node) {
    started(|options| {
        options.verify_peer = true;
        options.fail_if_no_peer_cert = true;
        change(options);
    })
    .await
}

/// How a connection ends for a client that waits to be greeted.
async fn ends(mut stream: impl AsyncRead + Unpin) -> String {
    let mut greeting = [0; 8];
    let read = timeout(PATIENCE, stream.read(&mut greeting)).await.expect("it ends in time");
    match read {
        Ok(0) => "closed".to_owned(),
        Ok(n) => panic!("greeted with {:?}", &greeting[..n]),
        Err(error) => error.to_string(),
    }
}

/// The certificate that a server shows now.
async fn shown_by(node: &Node, authority: &Authority) -> CertificateDer<'static> {
    let stream = node.dial(&authority.trusting(None)).await;
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}

#[tokio::test]
async fn a_client_comes_by_tls_and_operators_see_by_which() {
    let (_dir, authority, node) = started(|_| ()).await;
    let client = node.log_in(&authority.trusting(None)).await;
    let seen = node.connection().tls.unwrap();
    let shown = [seen.protocol, seen.key_exchange, seen.cipher, seen.hash];
    assert_eq!(shown, ["tlsv1.3", "any", "aes_256_gcm", "aead"]);
    assert_eq!(seen.certificate, None);
    drop(client);
    let (_dir, authority, node) = started(|_| ()).await;
    let _client = node.log_in(&authority.trusting_by_tls12(None)).await;
    let seen = node.connection().tls.unwrap();
    let shown = [seen.protocol, seen.key_exchange, seen.cipher, seen.hash];
    assert_eq!(shown, ["tlsv1.2", "ecdhe_ecdsa", "aes_256_gcm", "aead"]);
}

#[tokio::test]
async fn messages_of_all_sizes_go_both_ways_whole() {
    const SIZES: [usize; 9] = [0, 1, 100, 16_383, 16_384, 16_385, 100_000, 131_064, 3_000_000];
    let (_dir, authority, node) = started(|_| ()).await;
    let mut client = node.log_in(&authority.trusting(None)).await;
    let declare = queue::Declare { queue: "jobs", ..queue::Declare::default() };
    client.send(1, &Method::QueueDeclare(declare)).await;
    client.expect(|method| matches!(method, Method::QueueDeclareOk(_))).await;
    let body: Vec<u8> = (0..3_000_000u32).map(|at| (at % 251) as u8).collect();
    for size in SIZES {
        client.publish_whole("jobs", &body[..size]).await;
    }
    // All of it is asked for before any is read: more than any buffer between the two holds.
    for _ in SIZES {
        client.send(1, &Method::BasicGet(basic::Get { queue: "jobs", no_ack: true })).await;
    }
    for size in SIZES {
        client.expect(|method| matches!(method, Method::BasicGetOk(_))).await;
        assert!(client.content().await == body[..size], "{size} bytes");
    }
}

#[tokio::test]
async fn a_client_that_shows_no_certificate_where_it_must_is_told() {
    let (_dir, authority, node) = started_mutual(|_| ()).await;
    let told = ends(node.dial(&authority.trusting(None)).await).await;
    assert!(told.contains("CertificateRequired"), "{told}");
}

#[tokio::test]
async fn a_client_that_may_but_need_not_show_a_certificate_is_let_in_either_way() {
    let (_dir, authority, node) = started(|options| options.verify_peer = true).await;
    let _without = node.log_in(&authority.trusting(None)).await;
    assert_eq!(node.connection().tls.unwrap().certificate, None);
    let (_dir, authority, node) = started(|options| options.verify_peer = true).await;
    let _with = node.log_in(&authority.trusting(Some(&authority.client("app")))).await;
    let shown = node.connection().tls.unwrap().certificate.clone().unwrap();
    assert_eq!(
        [&*shown.subject, &*shown.issuer],
        ["CN=app,O=Hasen", "CN=an authority"],
        "as RabbitMQ writes them"
    );
}

#[tokio::test]
async fn a_certificate_that_is_not_good_is_refused_even_where_none_is_needed() {
    let (_dir, authority, node) = started(|options| options.verify_peer = true).await;
    let stranger = Authority::new("a stranger");
    let namesake = Authority::new("an authority");
    let expired = authority.client_with("app", |params| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    let early = authority.client_with("app", |params| {
        params.not_before = rcgen::date_time_ymd(2099, 1, 1);
    });
    let of_a_server = authority.client_with("app", |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    });
    for (what, shown, alert) in [
        ("a stranger's", stranger.client("app"), "UnknownCA"),
        ("of an authority with the same name", namesake.client("app"), "DecryptError"),
        ("expired", expired, "CertificateExpired"),
        ("early", early, "CertificateExpired"),
        ("a server's", of_a_server, "CertificateUnknown"),
    ] {
        let told = ends(node.dial(&authority.trusting(Some(&shown))).await).await;
        assert!(told.contains(alert) || told.contains("Certificate"), "{what}: {told}");
    }
    assert_eq!(node.broker.connection_count(), 0);
}

#[tokio::test]
async fn certificates_between_a_client_and_its_authority_are_counted() {
    for (depth, is_let_in) in [(0, false), (1, true), (10, true)] {
        let (_dir, authority, node) = started_mutual(|options| options.depth = depth).await;
        let deputy = authority.deputy("a deputy");
        let config = authority.trusting(Some(&deputy.client("app")));
        let direct = authority.trusting(Some(&authority.client("app")));
        if is_let_in {
            let _client = node.log_in(&config).await;
        } else {
            let told = ends(node.dial(&config).await).await;
            assert!(told.contains("UnknownCA"), "{told}");
        }
        let _direct = node.log_in(&direct).await;
    }
}

#[tokio::test]
async fn external_logs_in_whom_the_certificate_names() {
    for (from, user) in [
        (LoginFrom::DistinguishedName, "CN=app,O=Hasen"),
        (LoginFrom::CommonName, "app"),
        (LoginFrom::SubjectAlternativeName, "app.example"),
    ] {
        let (dir, authority) = (tempdir().unwrap(), Authority::new("an authority"));
        let options = mutual(dir.path(), &authority.server(HOST), &authority);
        let login = CertificateLogin { from, ..CertificateLogin::default() };
        let node = Node::with_user(by_tls(options, login), user).await;
        let shown = authority.client_with("app", |params| {
            let name = rcgen::SanType::DnsName("app.example".try_into().unwrap());
            params.subject_alt_names.push(name);
        });
        let stream = node.dial(&authority.trusting(Some(&shown))).await;
        let _client = Client::over(stream, external(), 0).await;
        let seen = node.connection();
        assert_eq!([&*seen.user, &*seen.auth_mechanism], [user, "EXTERNAL"]);
    }
}

#[tokio::test]
async fn external_refuses_whom_the_broker_does_not_know() {
    let (_dir, authority, node) = started_mutual(|_| ()).await;
    let stream = node.dial(&authority.trusting(Some(&authority.client("nobody")))).await;
    let (mut client, _) = Client::greet(stream).await;
    let mut properties = Vec::new();
    let capabilities = Table::new().with("authentication_failure_close", true);
    Table::new().with("capabilities", capabilities).encode_body(&mut properties);
    let client_properties = RawTable::parse(&properties).unwrap();
    let start_ok = connection::StartOk { client_properties, ..external() };
    client.send(0, &Method::ConnectionStartOk(start_ok)).await;
    let close = client.expect(|method| matches!(method, Method::ConnectionClose(_))).await;
    assert!(close.contains("403"), "{close}");
    assert!(close.contains("Login was refused using authentication mechanism EXTERNAL"), "{close}");
}

#[tokio::test]
async fn external_is_offered_to_those_alone_who_have_shown_a_good_certificate() {
    let offers = |start: String| {
        let mechanisms = [b"EXTERNAL".as_slice(), b"PLAIN"].map(|it| format!("{it:?}"));
        mechanisms.map(|it| start.contains(it.trim_matches(['[', ']'])))
    };
    let (_dir, authority, node) = started(|options| options.verify_peer = true).await;
    let with = node.dial(&authority.trusting(Some(&authority.client("app")))).await;
    assert_eq!(offers(Client::greet(with).await.1), [true, true]);
    let without = node.dial(&authority.trusting(None)).await;
    assert_eq!(offers(Client::greet(without).await.1), [false, true]);
    let unasked = started(|_| ()).await;
    let shown = unasked.1.trusting(Some(&unasked.1.client("app")));
    let stream = unasked.2.dial(&shown).await;
    assert_eq!(offers(Client::greet(stream).await.1), [false, true]);
    let plain_node = Node::with(Default::default()).await;
    let stream = TcpStream::connect(plain_node.amqp).await.unwrap();
    assert_eq!(offers(Client::greet(stream).await.1), [false, true]);
}

#[tokio::test]
async fn plain_bytes_on_a_tls_port_are_answered_with_an_alert_and_no_amqp() {
    let (_dir, _authority, node) = started(|_| ()).await;
    for bytes in [&b"AMQP\0\0\x09\x01"[..], b"GET / HTTP/1.1\r\n\r\n", &[0; 64], &[0xff; 64]] {
        let mut stream = TcpStream::connect(node.amqp).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer.first(), Some(&0x15), "an alert record: {answer:?}");
        assert!(answer.len() <= 7, "{answer:?}");
    }
}

#[tokio::test]
async fn a_tls_client_on_a_plain_port_gets_the_protocol_header_that_is_spoken() {
    let node = Node::with(Default::default()).await;
    let mut stream = TcpStream::connect(node.amqp).await.unwrap();
    stream.write_all(&client_hello([3, 3])).await.unwrap();
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer).await {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    assert!(answer.starts_with(b"AMQP"), "{answer:?}");
}

/// A hello of a client that speaks this version at most.
fn client_hello(version: [u8; 2]) -> Vec<u8> {
    let mut hello = version.to_vec();
    hello.extend([7; 32]); // random
    hello.push(0); // no session
    hello.extend([0, 4, 0xc0, 0x13, 0xc0, 0x14]); // ECDHE with AES in CBC mode
    hello.extend([1, 0]); // no compression
    hello.extend([0, 20]); // extensions: two signature schemes, two groups
    hello.extend([0, 13, 0, 6, 0, 4, 4, 1, 2, 1, 0, 10, 0, 6, 0, 4, 0, 23, 0, 24]);
    let length = u8::try_from(hello.len()).unwrap();
    let handshake = [&[1, 0, 0, length][..], &hello].concat();
    [&[0x16, 3, 1, 0, length + 4][..], &handshake].concat()
}

#[tokio::test]
async fn an_old_version_is_refused_by_its_alert() {
    let (_dir, _authority, node) = started(|_| ()).await;
    for version in [[3, 0], [3, 1], [3, 2]] {
        let mut stream = TcpStream::connect(node.amqp).await.unwrap();
        stream.write_all(&client_hello(version)).await.unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        // Alert, fatal, protocol_version.
        let [0x15, 3, _, 0, 2, 2, 70] = answer[..] else { panic!("{version:?}: {answer:?}") };
    }
}

#[tokio::test]
async fn a_version_that_is_not_wanted_is_not_spoken() {
    let only = |version| {
        move |options: &mut TlsOptions| {
            options.versions.insert("1".to_owned(), version);
        }
    };
    let (_dir, authority, node) = started(only(TlsVersion::V13)).await;
    let stream = TcpStream::connect(node.amqp).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(authority.trusting_by_tls12(None));
    let refused = connector.connect(authority::host(HOST), stream).await.unwrap_err();
    assert!(refused.to_string().contains("ProtocolVersion"), "{refused}");
    let (_dir, authority, node) = started(only(TlsVersion::V12)).await;
    let _client = node.log_in(&authority.trusting(None)).await;
    assert_eq!(node.connection().tls.unwrap().protocol, "tlsv1.2");
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_cut() {
    let (_dir, _authority, node) = started(|_| ()).await;
    let silent = TcpStream::connect(node.amqp).await.unwrap();
    let since = Instant::now();
    assert_eq!(ends(silent).await, "closed");
    assert!(since.elapsed() >= Duration::from_millis(400), "{:?}", since.elapsed());
    // A byte now and then is no progress.
    let (mut reads, mut writes) = TcpStream::connect(node.amqp).await.unwrap().into_split();
    let dripping = tokio::spawn(async move {
        for byte in client_hello([3, 3]) {
            if writes.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let since = Instant::now();
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, reads.read_to_end(&mut answer)).await.expect("it is cut");
    assert!(since.elapsed() < Duration::from_millis(2_000), "{:?}", since.elapsed());
    dripping.abort();
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_clients_and_the_old_ones_go_on() {
    let (dir, authority, node) = started(|_| ()).await;
    let mut old = node.log_in(&authority.trusting(None)).await;
    let tls = Arc::clone(node.tls.as_ref().unwrap());
    assert_eq!(tls.reload_if_changed(now_s()), None);
    let renewed = authority.server(HOST);
    renewed.write(dir.path(), "server");
    assert_eq!(tls.reload_if_changed(now_s()), None, "it may still be changing");
    assert_eq!(tls.reload_if_changed(now_s()), Some(Ok(())));
    assert_eq!(tls.reload_if_changed(now_s()), None);
    assert_eq!(shown_by(&node, &authority).await, renewed.chain[0]);
    let declare = queue::Declare { queue: "jobs", ..queue::Declare::default() };
    old.send(1, &Method::QueueDeclare(declare)).await;
    old.expect(|method| matches!(method, Method::QueueDeclareOk(_))).await;
}

#[tokio::test]
async fn a_new_certificate_that_is_not_good_is_refused_and_the_old_one_stays() {
    let (dir, authority, node) = started(|_| ()).await;
    let tls = node.tls.as_ref().unwrap();
    let before = shown_by(&node, &authority).await;
    let (file, key) = (dir.path().join("server.pem"), dir.path().join("server.key"));
    let (first, second) = (authority.server(HOST), authority.server(HOST));
    let expired = authority.client_with("broker", |params| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    for (certificate, private_key, option, wrong) in [
        (&*first.chain_pem, &*second.key_pem, "keyfile", "does not belong to the certificate"),
        ("", &first.key_pem, "certfile", "no certificate in"),
        (&first.chain_pem, "", "keyfile", "is not there"),
        (&first.chain_pem, &first.chain_pem, "keyfile", "is not there"),
        (&expired.chain_pem, &expired.key_pem, "certfile", "has expired"),
    ] {
        std::fs::write(&file, certificate).unwrap();
        std::fs::write(&key, private_key).unwrap();
        let error = tls.reload(tls.options(), now_s()).unwrap_err();
        assert_eq!(error.key, format!("ssl_options.{option}"));
        assert!(error.reason.contains(wrong), "{error}");
        assert_eq!(tls.reload_if_changed(now_s()), None, "it is said once");
        assert_eq!(shown_by(&node, &authority).await, before);
    }
    std::fs::remove_file(&file).unwrap();
    let error = tls.reload(tls.options(), now_s()).unwrap_err();
    assert!(error.reason.starts_with("cannot read"), "{error}");
    assert_eq!(shown_by(&node, &authority).await, before);
}

fn now_s() -> u64 {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn authorities_are_read_again_too() {
    let (dir, authority, node) = started_mutual(|_| ()).await;
    let another = Authority::new("another");
    let brings = authority.trusting(Some(&another.client("app")));
    assert!(ends(node.dial(&brings).await).await.contains("UnknownCA"));
    std::fs::write(dir.path().join("ca.pem"), another.pem()).unwrap();
    let tls = node.tls.as_ref().unwrap();
    tls.reload(tls.options(), now_s()).unwrap();
    let _client = node.log_in(&brings).await;
}

#[tokio::test]
async fn a_client_is_shown_the_certificate_of_the_host_that_it_asks_for() {
    let (dir, authority) = (tempdir().unwrap(), Authority::new("an authority"));
    let mut options = options(dir.path(), &authority.server("elsewhere.example"), &authority);
    for (name, host) in [("1", "other.example"), ("2", HOST)] {
        let identity = authority.server(host).write(dir.path(), name);
        options.certificates.insert(name.to_owned(), identity);
    }
    let node = Node::by_tls(options).await;
    // Both would not be believed by the name of the default one.
    let _client = node.log_in(&authority.trusting(None)).await;
    let stream = TcpStream::connect(node.amqp).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(authority.trusting(None));
    connector.connect(authority::host("elsewhere.example"), stream).await.unwrap();
}

#[tokio::test]
async fn a_client_that_stops_reading_or_says_good_bye_half_way_leaves_nothing_behind() {
    let (_dir, authority, node) = started(|_| ()).await;
    let stream = node.dial(&authority.trusting(None)).await;
    let mut client = Client::over(stream, plain(), 0).await;
    let declare = queue::Declare { queue: "jobs", exclusive: true, ..queue::Declare::default() };
    client.send(1, &Method::QueueDeclare(declare)).await;
    client.expect(|method| matches!(method, Method::QueueDeclareOk(_))).await;
    for _ in 0..20 {
        client.publish(1, "", "jobs", &[b'x'; 100_000]).await;
    }
    let consume = basic::Consume { queue: "jobs", no_ack: true, ..basic::Consume::default() };
    client.send(1, &Method::BasicConsume(consume)).await;
    client.say_good_bye().await;
    let gone = async {
        while node.broker.connection_count() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("the broker has noticed");
}
