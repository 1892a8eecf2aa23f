//! A client of a broker in another process that a test has started.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::client::Client;
use super::transport::{Patience, Transport};

/// How long something that is due may take.
const DUE: Duration = Duration::from_secs(20);
/// Quiet for so long, nothing more will come.
const REST: Duration = Duration::from_millis(150);

/// A client that is connected, and has said nothing yet.
pub(crate) fn connect(address: SocketAddr) -> Client {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    Client::new(Box::new(Socket(stream)))
}

struct Socket(TcpStream);

impl Socket {
    fn wait(&self, patience: Patience) {
        let wait = match patience {
            Patience::Due => DUE,
            Patience::Rest => REST,
        };
        self.0.set_read_timeout(Some(wait)).unwrap();
    }
}

impl Transport for Socket {
    fn send(&self, bytes: &[u8]) {
        (&self.0).write_all(bytes).unwrap();
    }

    fn receive(&self, into: &mut Vec<u8>, patience: Patience) -> bool {
        self.wait(patience);
        let mut chunk = [0; 64 * 1024];
        let length = (&self.0).read(&mut chunk).unwrap_or_default();
        into.extend_from_slice(&chunk[..length]);
        length > 0
    }

    fn is_closed(&self, patience: Patience) -> bool {
        self.wait(patience);
        match self.0.peek(&mut [0]) {
            Ok(length) => length == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }

    fn lose(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}
