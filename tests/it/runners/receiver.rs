//! A web server that webhooks call: it notes what it is sent and answers as it is told.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// A call.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) body: String,
    /// What it was answered.
    pub(super) status: u32,
}

/// The server; it listens until the test ends.
pub(super) struct Receiver {
    calls: Arc<Mutex<Vec<Call>>>,
    status: Arc<AtomicU32>,
}

impl Receiver {
    /// Listens here and answers with this status until told otherwise.
    pub(super) fn listen(address: SocketAddr, status: u32) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let receiver = Self { calls: Arc::default(), status: Arc::new(AtomicU32::new(status)) };
        let (calls, status) = (Arc::clone(&receiver.calls), Arc::clone(&receiver.status));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &calls, status.load(Ordering::SeqCst));
            }
        });
        receiver
    }

    pub(super) fn answer_with(&self, status: u32) {
        self.status.store(status, Ordering::SeqCst);
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, calls: &Mutex<Vec<Call>>, status: u32) {
    let mut received = Vec::new();
    let mut chunk = [0; 4096];
    let (head, body) = loop {
        let Ok(length @ 1..) = stream.read(&mut chunk) else { return };
        received.extend_from_slice(&chunk[..length]);
        let text = String::from_utf8_lossy(&received);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length: usize = header(head, "content-length").parse().unwrap();
        if body.len() >= length {
            break (head.to_owned(), body.to_owned());
        }
    };
    calls.lock().unwrap().push(Call { id: header(&head, "webhook-id"), body, status });
    let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let _ = stream.write_all(answer.as_bytes());
}

fn header(head: &str, name: &str) -> String {
    let found = head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
    found.unwrap_or_else(|| panic!("no {name}: {head}")).to_owned()
}
