//! The bytes of a connection: a socket, or TLS over one.
//!
//! A read waits as long as the socket's timeout says, [`Stream::read_now`] not at all. What was
//! written is with the socket when `write` returns, unless the socket took nothing for its timeout:
//! then the next call goes on with it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustix::net::{RecvFlags, recv};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// What is read from the socket at once.
const RECEIVED_BYTES: usize = 256 * 1024;
/// What is encrypted at once.
const BATCH_BYTES_MAX: usize = 128 * 1024;

/// A connection's bytes.
pub(crate) enum Stream {
    /// Just a socket.
    Plain(TcpStream),
    /// TLS over a socket.
    Tls(Box<Tls>),
}

/// TLS over a socket.
pub(crate) struct Tls {
    socket: TcpStream,
    session: ClientConnection,
    received: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Stream {
    /// TLS to a host whose certificate an authority in this file has signed.
    pub(crate) fn tls(socket: TcpStream, host: &str, authorities: &Path) -> io::Result<Self> {
        static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
        let config = match CONFIG.get() {
            Some(config) => Arc::clone(config),
            None => Arc::clone(CONFIG.get_or_init(|| Arc::new(trusting(authorities)))),
        };
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let mut session = ClientConnection::new(config, name).map_err(io::Error::other)?;
        session.set_buffer_limit(Some(BATCH_BYTES_MAX));
        let received = vec![0; RECEIVED_BYTES].into();
        Ok(Self::Tls(Box::new(Tls { socket, session, received, start: 0, end: 0 })))
    }

    /// The socket, to wait for.
    pub(crate) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => &tls.socket,
        }
    }

    /// Reads what is there; `WouldBlock` when nothing is.
    pub(crate) fn read_now(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => receive_now(socket, into),
            Self::Tls(tls) => tls.read(into, receive_now),
        }
    }
}

fn trusting(authorities: &Path) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    if let Ok(certificates) = CertificateDer::pem_file_iter(authorities) {
        roots.add_parsable_certificates(certificates.flatten());
    }
    ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()
}

fn receive_now(socket: &mut TcpStream, into: &mut [u8]) -> io::Result<usize> {
    let (_, read) = recv(&*socket, into, RecvFlags::DONTWAIT)?;
    Ok(read)
}

impl Tls {
    fn read(
        &mut self,
        into: &mut [u8],
        receive: fn(&mut TcpStream, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut read = 0;
        loop {
            match self.session.reader().read(&mut into[read..]) {
                Ok(0) => return Ok(read),
                Ok(n) => read += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if read == into.len() {
                return Ok(read);
            }
            if self.start == self.end {
                if read > 0 {
                    return Ok(read);
                }
                self.flush()?;
                (self.start, self.end) = (0, receive(&mut self.socket, &mut self.received)?);
                if self.end == 0 {
                    return Ok(0);
                }
            }
            let mut pending = &self.received[self.start..self.end];
            self.start += self.session.read_tls(&mut pending)?;
            self.session.process_new_packets().map_err(io::Error::other)?;
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(&mut self.socket)?;
        }
        Ok(())
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(into),
            Self::Tls(tls) => tls.read(into, |socket, into| socket.read(into)),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(tls) => {
                tls.flush()?;
                let taken = tls.session.writer().write(bytes)?;
                match tls.flush() {
                    Err(error) if !crate::connection::is_timeout(&error) => Err(error),
                    _ => Ok(taken),
                }
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(tls) => tls.flush(),
        }
    }
}
