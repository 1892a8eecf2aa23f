//! The PROXY protocol over real sockets: whose header is believed, and what it can change.

use std::sync::Arc;
use std::time::{Duration, Instant};

use leveret::broker::inspect::Inspect;
use leveret::config::settings::CertificateLogin;
use leveret::protocol::Method;
use leveret::server::{Entrance, TrustedProxies};
use tempfile::tempdir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::authority::{Authority, host, options};
use super::node::{HOST, Node, PATIENCE, by_tls, plain};
use crate::management::Client;

fn through(network: &str, bits: u8) -> Entrance {
    let trusted = TrustedProxies(vec![(network.parse().unwrap(), bits)]);
    Entrance { tls: None, proxies: Some(Arc::new(trusted)) }
}

/// A connection that begins with these bytes.
async fn beginning(node: &Node, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(node.amqp).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// Whether the broker drops a connection without a word.
async fn ends_dropped(mut stream: TcpStream) -> bool {
    let mut heard = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut heard)).await.expect("it ends in time");
    heard.is_empty()
}

#[tokio::test]
async fn operators_see_the_client_behind_the_proxy() {
    let node = Node::with(through("127.0.0.0", 8)).await;
    let stream = beginning(&node, b"PROXY TCP4 127.0.0.9 198.51.100.2 4711 5671\r\n").await;
    let _client = Client::over(stream, plain(), 0).await;
    let seen = node.connection();
    assert_eq!(seen.name, "127.0.0.9:4711 -> 198.51.100.2:5671");
    assert_eq!(
        (seen.peer, seen.host),
        (("127.0.0.9".to_owned(), 4711), ("198.51.100.2".to_owned(), 5671))
    );
}

#[tokio::test]
async fn a_header_can_take_a_local_clients_privilege_away_but_not_give_it() {
    let node = Node::with(through("127.0.0.1", 32)).await;
    for (header, may_enter) in [
        (&b"PROXY TCP4 203.0.113.7 198.51.100.2 4711 5672\r\n"[..], false),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 5672\r\n", false),
        (b"PROXY TCP4 127.0.0.1 198.51.100.2 4711 5672\r\n", true),
        (b"PROXY TCP6 ::ffff:127.0.0.1 ::1 4711 5672\r\n", true),
        (b"PROXY UNKNOWN\r\n", true),
    ] {
        let stream = beginning(&node, header).await;
        let (mut client, _) = Client::greet(stream).await;
        client.send(0, &Method::ConnectionStartOk(plain())).await;
        if may_enter {
            client.expect(|method| matches!(method, Method::ConnectionTune(_))).await;
        } else {
            // guest is one of those who must be local; the socket closes without a word.
            assert!(client.ends_dropped().await, "{}", String::from_utf8_lossy(header));
        }
    }
}

#[tokio::test]
async fn a_trusted_proxy_elsewhere_makes_nobody_local_whatever_it_claims() {
    // Its own address, by which packets would go out; none of them do.
    let probe = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let own = probe.connect("192.0.2.1:9").and_then(|()| probe.local_addr());
    let Some(own) = own.ok().map(|own| own.ip()).filter(|own| !own.is_loopback()) else {
        return eprintln!("this machine has no address but loopback");
    };
    let node = Node::on(own, through(&own.to_string(), 32)).await;
    for header in [
        &b"PROXY TCP4 127.0.0.1 127.0.0.1 4711 5672\r\n"[..],
        b"PROXY TCP6 ::1 ::1 4711 5672\r\n",
        b"PROXY TCP6 ::ffff:127.0.0.1 ::1 4711 5672\r\n",
        b"PROXY UNKNOWN\r\n",
    ] {
        let stream = beginning(&node, header).await;
        assert_eq!(stream.peer_addr().unwrap().ip(), own);
        let (mut client, _) = Client::greet(stream).await;
        client.send(0, &Method::ConnectionStartOk(plain())).await;
        assert!(client.ends_dropped().await, "{}", String::from_utf8_lossy(header));
    }
}

#[tokio::test]
async fn whoever_is_not_trusted_is_not_even_read() {
    let node = Node::with(through("192.0.2.0", 24)).await;
    for bytes in [
        &b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\nAMQP\0\0\x09\x01"[..],
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nAMQP\0\0\x09\x01",
        b"AMQP\0\0\x09\x01",
        b"",
    ] {
        assert!(ends_dropped(beginning(&node, bytes).await).await, "{bytes:?}");
    }
}

#[tokio::test]
async fn a_missing_malformed_or_oversized_header_ends_the_connection() {
    let node = Node::with(through("127.0.0.1", 32)).await;
    let too_long = [b"PROXY TCP4 ".as_slice(), &[b' '; 4096]].concat();
    let mut too_large = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".to_vec();
    too_large.extend([0; 4096]);
    for bytes in [
        &b"AMQP\0\0\x09\x01"[..],
        b"PROXY TCP4 127.0.0.1\r\nAMQP\0\0\x09\x01",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 70000 2\r\n",
        &too_long,
        &too_large,
    ] {
        assert!(ends_dropped(beginning(&node, bytes).await).await, "{bytes:?}");
    }
    assert_eq!(node.broker.connection_count(), 0);
}

#[tokio::test]
async fn a_header_that_does_not_come_is_not_waited_for_longer_than_a_handshake() {
    let node = Node::with(through("127.0.0.1", 32)).await;
    for begun in [&b""[..], b"PROXY TCP4 127.0.0.1", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"] {
        let since = Instant::now();
        assert!(ends_dropped(beginning(&node, begun).await).await);
        let waited = since.elapsed();
        assert!(waited > Duration::from_millis(900), "{waited:?}");
    }
}

#[tokio::test]
async fn a_header_stands_before_the_tls_handshake_and_may_come_with_its_start() {
    let (dir, authority) = (tempdir().unwrap(), Authority::new("an authority"));
    let options = options(dir.path(), &authority.server(HOST), &authority);
    let tls = by_tls(options, CertificateLogin::default());
    let entrance = Entrance { tls: tls.tls, ..through("127.0.0.1", 32) };
    let node = Node::with(entrance).await;
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f".to_vec();
    header.extend([127, 0, 0, 9, 198, 51, 100, 2, 0x12, 0x67, 0x16, 0x28, 0x04, 0, 0]);
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let socket = TcpStream::connect(node.amqp).await.unwrap();
    let relay = tokio::spawn(async move {
        let (mut from_broker, mut to_broker) = socket.into_split();
        let (mut from_client, mut to_client) = tokio::io::split(theirs);
        let mut first = vec![0; 64 * 1024];
        let read = from_client.read(&mut first).await.unwrap();
        header.extend(&first[..read]);
        to_broker.write_all(&header).await.unwrap();
        let there = tokio::io::copy(&mut from_client, &mut to_broker);
        let back = tokio::io::copy(&mut from_broker, &mut to_client);
        let _ = tokio::join!(there, back);
    });
    let connector = TlsConnector::from(authority.trusting(None));
    let stream = connector.connect(host(HOST), ours).await.unwrap();
    let _client = Client::over(stream, plain(), 0).await;
    assert_eq!(node.connection().name, "127.0.0.9:4711 -> 198.51.100.2:5672");
    assert!(node.broker.connections()[0].tls.is_some());
    relay.abort();
}
