//! What is listened on: TCP, by TLS or not, and Unix sockets.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixSocket, UnixStream};

use super::entrance::Entrance;
use crate::broker::logins::Source;
use crate::session::PeerAddress;

/// Whoever comes by a Unix socket counts as the address 127.0.0.1 where limits are concerned.
const LOCAL: Source = Source(0x7f00_0001);

/// A listener for AMQP, and what it asks of whoever comes.
#[derive(Debug)]
pub struct Door {
    socket: Socket,
    pub(super) entrance: Entrance,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(LocalListener),
}

/// Someone at the door.
pub(super) enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream, PeerAddress),
}

impl Door {
    /// A door for TCP.
    #[must_use]
    pub fn tcp(listener: TcpListener, entrance: Entrance) -> Self {
        Self { socket: Socket::Tcp(listener), entrance }
    }

    /// A door for this machine.
    #[must_use]
    pub fn local(listener: LocalListener) -> Self {
        Self { socket: Socket::Unix(listener), entrance: Entrance::default() }
    }

    /// Waits for the next one.
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (socket, from) = listener.accept().await?;
                Ok(Accepted::Tcp(socket, from))
            }
            Socket::Unix(listener) => {
                let (socket, _) = listener.listener.accept().await?;
                let peer = listener.peer(&socket);
                Ok(Accepted::Unix(socket, peer))
            }
        }
    }
}

impl From<TcpListener> for Door {
    fn from(listener: TcpListener) -> Self {
        Self::tcp(listener, Entrance::default())
    }
}

/// A Unix socket that is listened on. Its file goes with it.
#[derive(Debug)]
pub struct LocalListener {
    listener: UnixListener,
    path: PathBuf,
    accepted: AtomicU16,
}

impl LocalListener {
    /// Listens on a path; a socket that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// When something else is there, somebody listens on it, or the directory does not permit it.
    pub fn bind(path: &Path, mode: u32, backlog: u32) -> io::Result<Self> {
        remove_abandoned(path)?;
        let socket = UnixSocket::new_stream()?;
        socket.bind(path)?;
        // Before anyone can connect.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        let listener = socket.listen(backlog)?;
        Ok(Self { listener, path: path.to_owned(), accepted: AtomicU16::new(0) })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The peer by its process; the number tells its connections apart. It is on this machine.
    fn peer(&self, socket: &UnixStream) -> PeerAddress {
        let process = socket.peer_cred().ok().and_then(|peer| peer.pid()).unwrap_or_default();
        let number = self.accepted.fetch_add(1, Ordering::Relaxed);
        PeerAddress {
            peer: (format!("process {process}"), number),
            host: (self.path.display().to_string(), 0),
            is_loopback: true,
            source: LOCAL,
            tls: None,
        }
    }
}

impl Drop for LocalListener {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn remove_abandoned(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {}
        _ => return Ok(()),
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Ok(_) => Err(io::Error::from(io::ErrorKind::AddrInUse)),
        Err(error) => Err(error),
    }
}
