//! Unix sockets as AMQP listeners: who may connect, and what becomes of their files.

use std::os::unix::fs::PermissionsExt;

use leveret::server::LocalListener;
use tempfile::tempdir;
use tokio::net::UnixStream;

use super::node::{Node, plain};
use crate::management::Client;

#[tokio::test]
async fn a_client_of_this_machine_comes_by_a_socket_file_and_counts_as_local() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("amqp.sock");
    let node = Node::local(&path);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let stream = UnixStream::connect(&path).await.unwrap();
    // guest may be local only.
    let first = Client::over(stream, plain(), 0).await;
    let seen = node.connection();
    let process = std::process::id();
    assert_eq!(seen.name, format!("process {process}:0 -> {}:0", path.display()));
    assert_eq!(seen.tls, None);
    drop(first);
    node.stop().await;
    assert!(!path.exists(), "its file goes with it");
}

#[tokio::test]
async fn a_socket_that_a_dead_broker_has_left_is_replaced_and_a_live_ones_is_not() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("amqp.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "left behind");
    let node = Node::local(&path);
    let taken = LocalListener::bind(&path, 0o600, 1).unwrap_err();
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
    let stream = UnixStream::connect(&path).await.unwrap();
    let _client = Client::over(stream, plain(), 0).await;
    node.stop().await;
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("notes.txt");
    std::fs::write(&path, "keep me").unwrap();
    assert!(LocalListener::bind(&path, 0o600, 1).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "keep me");
}
