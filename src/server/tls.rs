//! TLS as a transport. rustls does the protocol on bytes; this moves them between it and the
//! socket.
//!
//! Invariants: one read of the socket for each `try_read`, into a buffer as large as what comes; no
//! more is encrypted than [`BATCH_BYTES_MAX`] before the socket has taken all of it, so that a peer
//! that does not read is noticed by the session as it is without TLS.

use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::time::{Duration, timeout};

use super::buffer::ReadBuffer;
use super::transport::Transport;

/// What is encrypted at once.
const BATCH_BYTES_MAX: usize = 128 * 1024;
/// How long a good-bye may take to be written.
const CLOSE_WAIT: Duration = Duration::from_secs(3);
/// How long, and how much, is read from a peer that was refused: a socket closed with unread bytes
/// would cost the peer the reason.
const LINGER_WAIT: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 64 * 1024;

/// A TLS connection over a socket.
pub(super) struct Tls {
    socket: TcpStream,
    session: ServerConnection,
    /// Bytes from the socket that rustls has not taken.
    received: ReadBuffer,
    /// Whether the peer gets memory for being fast.
    may_have_more: bool,
    /// Whether the last read may have left some of what is decrypted.
    has_more: bool,
}

impl Tls {
    /// Does the handshake. `received` is what has already been read from the socket.
    ///
    /// # Errors
    /// When the peer goes away, is no TLS client, or one that is not let in; it has been told.
    pub(super) async fn accept(
        socket: TcpStream,
        received: ReadBuffer,
        config: Arc<ServerConfig>,
    ) -> io::Result<Self> {
        let mut session = ServerConnection::new(config).map_err(io::Error::other)?;
        session.set_buffer_limit(Some(BATCH_BYTES_MAX));
        let mut tls = Self { socket, session, received, may_have_more: false, has_more: false };
        match tls.handshake().await {
            Ok(()) => Ok(tls),
            Err(error) => {
                tls.linger().await;
                Err(error)
            }
        }
    }

    /// What was agreed on.
    pub(super) fn session(&self) -> &ServerConnection {
        &self.session
    }

    async fn handshake(&mut self) -> io::Result<()> {
        loop {
            while self.session.is_handshaking() && !self.received.pending().is_empty() {
                self.decrypt()?;
            }
            let wrote_all = self.try_flush()?;
            if wrote_all && !self.session.is_handshaking() {
                return Ok(());
            }
            let interest = if wrote_all { Interest::READABLE } else { Interest::WRITABLE };
            self.socket.ready(interest).await?;
            match self.fill() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                filled => filled?,
            }
        }
    }

    /// Reads the socket once.
    fn fill(&mut self) -> io::Result<()> {
        match self.socket.try_read(self.received.room()) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                self.received.filled(n, self.may_have_more);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Hands rustls some of what was received. What the peer is to hear of a mistake is written.
    fn decrypt(&mut self) -> io::Result<()> {
        let mut pending = self.received.pending();
        let taken = self.session.read_tls(&mut pending)?;
        if taken == 0 {
            // The peer has said good-bye and goes on.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.received.consume(taken);
        match self.session.process_new_packets() {
            Ok(_) => Ok(()),
            Err(error) => {
                let _ = self.try_flush();
                Err(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        }
    }

    /// Reads and forgets what a refused peer had under way.
    async fn linger(&mut self) {
        let _ = self.socket.shutdown().await;
        let drained = async {
            let mut left = LINGER_BYTES_MAX;
            let mut bytes = [0; 4096];
            while left > 0 && self.socket.readable().await.is_ok() {
                match self.socket.try_read(&mut bytes) {
                    Ok(0) => return,
                    Ok(n) => left = left.saturating_sub(n),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return,
                }
            }
        };
        let _ = timeout(LINGER_WAIT, drained).await;
    }
}

impl Transport for Tls {
    fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let (mut read, mut has_filled) = (0, false);
        self.has_more = false;
        loop {
            match self.session.reader().read(&mut into[read..]) {
                Ok(0) => return Ok(read),
                Ok(n) => {
                    read += n;
                    if read == into.len() {
                        self.has_more = true;
                        return Ok(read);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if !self.received.pending().is_empty() {
                self.decrypt()?;
                continue;
            }
            if has_filled && read > 0 {
                return Ok(read);
            }
            match self.fill() {
                Ok(()) => has_filled = true,
                Err(error) => {
                    self.received.shrink();
                    self.received.release_if_empty();
                    return if read > 0 { Ok(read) } else { Err(error) };
                }
            }
        }
    }

    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.try_flush()? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = self.session.writer().write_vectored(slices)?;
        self.try_flush()?;
        Ok(taken)
    }

    fn try_flush(&mut self) -> io::Result<bool> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut Writer(&self.socket)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn may_have_more(&mut self) {
        self.may_have_more = true;
    }

    async fn ready(&self, interest: Interest) -> io::Result<()> {
        if interest.is_readable() && (self.has_more || !self.received.pending().is_empty()) {
            return Ok(());
        }
        self.socket.ready(interest).await.map(drop)
    }

    async fn close(&mut self) {
        self.session.send_close_notify();
        let written = async {
            while let Ok(false) = self.try_flush() {
                if self.socket.writable().await.is_err() {
                    return;
                }
            }
        };
        let _ = timeout(CLOSE_WAIT, written).await;
    }
}

/// A socket as rustls writes to it: at once or not at all.
struct Writer<'s>(&'s TcpStream);

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
