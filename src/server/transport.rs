//! What a connection's bytes travel on, as its driver needs it: reads and writes that never wait,
//! and one wait for either.
//!
//! The driver is compiled for each transport by itself, so that a plain socket costs what it always
//! cost: one `read` or one `writev` a turn, with nothing in between.

use std::future::Future;
use std::io::{self, IoSlice};

use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

/// A way to the peer and back.
pub(super) trait Transport: Send + Sync {
    /// Reads what is there; 0 is the peer's end.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; anything else ends the connection.
    fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize>;

    /// Takes some of the bytes, in order, to write them.
    ///
    /// # Errors
    /// `WouldBlock` when none can be taken now; anything else ends the connection.
    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Writes what was taken; true when nothing of it is left.
    ///
    /// # Errors
    /// What ends the connection.
    fn try_flush(&mut self) -> io::Result<bool> {
        Ok(true)
    }

    /// The peer has logged in: it gets memory for being fast.
    fn may_have_more(&mut self) {}

    /// Waits until one of the two is worth a try.
    fn ready(&self, interest: Interest) -> impl Future<Output = io::Result<()>> + Send;

    /// Says good-bye, if there is a way to.
    fn close(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

macro_rules! socket {
    ($socket:ty) => {
        impl Transport for $socket {
            fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                let mut read = None;
                let attempt = self.try_io(Interest::READABLE, || {
                    let n = recv(&*self, &mut *into, RecvFlags::empty())?.1;
                    read = Some(n);
                    // A read that leaves room has emptied the socket: nobody need ask it again to
                    // learn that. Readiness that comes meanwhile, and the peer's end, are kept.
                    if 0 < n && n < into.len() {
                        Err(io::ErrorKind::WouldBlock.into())
                    } else {
                        Ok(())
                    }
                });
                read.map_or_else(|| attempt.map(|()| 0), Ok)
            }

            fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
                match slices {
                    [one] => <$socket>::try_write(self, one),
                    many => self.try_write_vectored(many),
                }
            }

            async fn ready(&self, interest: Interest) -> io::Result<()> {
                <$socket>::ready(self, interest).await.map(drop)
            }
        }
    };
}

socket!(TcpStream);
socket!(UnixStream);
