//! Connections that never log in, from many addresses, while messages flow: what they cost the
//! broker in memory and everyone else in latency.
//!
//! The same flow of messages is measured twice, alone and with the crowd there. The crowd comes
//! from loopback addresses from 127.1.0.1 on, each connection with a protocol header and the first
//! bytes of a frame. Whoever is dropped may come back, for as long as the second flow lasts: then
//! it is a flood of connections as well.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, ToSocketAddrs};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketType, bind, connect, recv, send, socket,
};

use crate::connection::{ClientError, Target};
use crate::engine::{self, Load};
use crate::report::{CrowdReport, Report};
use crate::wire::PROTOCOL_HEADER;

/// The head of a start-ok that will never be whole.
const PART: &[u8] = b"\x01\0\0\0\0\x20\0\0\x0a\0\x0b";

/// A crowd and the flow that it is to disturb.
pub(crate) struct Crowd {
    /// The flow.
    pub(crate) load: Load,
    /// How many connections stand around.
    pub(crate) connections: usize,
    /// From how many addresses.
    pub(crate) addresses: u32,
    /// Whether those that are dropped come back at once.
    pub(crate) returns: bool,
}

/// Measures the flow alone, then with the crowd.
pub(crate) fn run(crowd: &Crowd) -> Result<Report, ClientError> {
    let quiet = engine::run(&crowd.load)?;
    let (stop, here) = (AtomicBool::new(false), AtomicBool::new(false));
    let came = AtomicU64::new(0);
    let (mut report, standing) = thread::scope(|scope| {
        let standing = scope.spawn(|| stand(crowd, &stop, &here, &came));
        while !here.load(Relaxed) && !standing.is_finished() {
            thread::sleep(Duration::from_millis(10));
        }
        let report = engine::run(&crowd.load);
        stop.store(true, Relaxed);
        Ok::<_, ClientError>((report?, engine::joined(standing)?))
    })?;
    report.crowd = Some(CrowdReport {
        came: came.load(Relaxed),
        standing: standing as u64,
        quiet_latency: quiet.latency,
    });
    Ok(report)
}

/// Keeps the crowd up; returns how many were there at the end.
fn stand(
    crowd: &Crowd,
    stop: &AtomicBool,
    here: &AtomicBool,
    came: &AtomicU64,
) -> Result<usize, ClientError> {
    let target = address(&crowd.load.target)?;
    let mut places: Vec<Option<TcpStream>> = (0..crowd.connections).map(|_| None).collect();
    loop {
        for (number, place) in (0_u32..).zip(&mut places) {
            if stop.load(Relaxed) {
                return Ok(places.iter().flatten().filter(|stream| is_open(stream)).count());
            }
            let is_due = crowd.returns || !here.load(Relaxed);
            if is_due && !place.as_ref().is_some_and(is_open) {
                *place = come(number % crowd.addresses.max(1), target).ok();
                came.fetch_add(1, Relaxed);
            }
        }
        here.store(true, Relaxed);
        thread::sleep(Duration::from_millis(100));
    }
}

/// Whether the broker has not closed a connection, as far as can be seen without waiting.
fn is_open(stream: &TcpStream) -> bool {
    let mut greeting = [0_u8; 1024];
    loop {
        match recv(stream, &mut greeting, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return false,
            Ok(_) => {}
            Err(error) => return error == Errno::AGAIN,
        }
    }
}

fn come(number: u32, target: SocketAddrV4) -> Result<TcpStream, ClientError> {
    let stream = connect_from(number, target)?;
    send(&stream, PROTOCOL_HEADER, SendFlags::NOSIGNAL).map_err(io)?;
    send(&stream, PART, SendFlags::NOSIGNAL).map_err(io)?;
    Ok(stream)
}

/// A socket that is connected from the loopback address of this number.
pub(crate) fn connect_from(number: u32, target: SocketAddrV4) -> Result<TcpStream, ClientError> {
    let stream = socket(AddressFamily::INET, SocketType::STREAM, None).map_err(io)?;
    bind(&stream, &SocketAddrV4::new(from_address(number), 0)).map_err(io)?;
    connect(&stream, &target).map_err(io)?;
    Ok(TcpStream::from(stream))
}

fn from_address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + number % 60_000)
}

/// A broker's loopback address.
pub(crate) fn address(target: &Target) -> Result<SocketAddrV4, ClientError> {
    let found = target.address.to_socket_addrs()?.find_map(|address| match address {
        SocketAddr::V4(address) if address.ip().is_loopback() => Some(address),
        _ => None,
    });
    let text = "a loopback address is needed, as the crowd comes from such addresses";
    found.ok_or_else(|| ClientError::Unexpected(text.to_owned()))
}

fn io(error: Errno) -> ClientError {
    ClientError::Io(error.into())
}
