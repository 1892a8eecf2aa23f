//! The PROXY protocol, versions 1 and 2: what a load balancer writes before a client's first byte,
//! and which ones are believed.
//!
//! Nothing that a header says is believed of whoever may not say it, and nothing it says makes a
//! client more trusted than its sender is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest line of version 1, its end included.
const LINE_BYTES_MAX: usize = 107;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// A version 2 header up to its addresses.
const FIXED_BYTES: usize = 16;
/// The most that may follow: addresses, and what load balancers add to them.
const VARIABLE_BYTES_MAX: usize = 4096;

/// The senders whose headers are believed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustedProxies(pub Vec<(IpAddr, u8)>);

impl TrustedProxies {
    /// Whether an address is in one of the networks.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|(network, bits)| match (network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let shift = 32u32.saturating_sub((*bits).into());
                let differs = network.to_bits() ^ address.to_bits();
                differs.checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let shift = 128u32.saturating_sub((*bits).into());
                let differs = network.to_bits() ^ address.to_bits();
                differs.checked_shr(shift).unwrap_or(0) == 0
            }
            _ => false,
        })
    }
}

/// A header that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The client's address and the one it came to; none when the sender speaks for itself.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// The header's bytes.
    pub len: usize,
}

/// What stands there is no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no header of the PROXY protocol")]
pub struct NoHeader;

/// Reads a header; `None` when more of it has to come.
///
/// # Errors
/// When no more bytes could make a header of these.
pub fn parse(input: &[u8]) -> Result<Option<Header>, NoHeader> {
    let common = input.len().min(SIGNATURE.len());
    if input[..common] == SIGNATURE[..common] {
        return if common < SIGNATURE.len() { Ok(None) } else { version_2(input) };
    }
    version_1(input)
}

fn version_1(input: &[u8]) -> Result<Option<Header>, NoHeader> {
    let start = b"PROXY ";
    let common = input.len().min(start.len());
    if input[..common] != start[..common] {
        return Err(NoHeader);
    }
    let seen = &input[..input.len().min(LINE_BYTES_MAX)];
    let Some(end) = seen.windows(2).position(|two| two == b"\r\n") else {
        return if seen.len() < LINE_BYTES_MAX { Ok(None) } else { Err(NoHeader) };
    };
    let line = str::from_utf8(&input[start.len()..end]).map_err(|_| NoHeader)?;
    let mut words = line.split(' ');
    let kind = words.next();
    if kind == Some("UNKNOWN") {
        return Ok(Some(Header { addresses: None, len: end + 2 }));
    }
    let mut address = || -> Result<IpAddr, NoHeader> {
        let word = words.next().ok_or(NoHeader)?;
        match kind {
            Some("TCP4") => word.parse().map(IpAddr::V4).map_err(|_| NoHeader),
            Some("TCP6") => word.parse().map(IpAddr::V6).map_err(|_| NoHeader),
            _ => Err(NoHeader),
        }
    };
    let (source, destination) = (address()?, address()?);
    let mut port = || -> Result<u16, NoHeader> {
        let word = words.next().ok_or(NoHeader)?;
        let is_plain = word.bytes().all(|octet| octet.is_ascii_digit());
        word.parse().ok().filter(|_| is_plain).ok_or(NoHeader)
    };
    let (source_port, destination_port) = (port()?, port()?);
    if words.next().is_some() {
        return Err(NoHeader);
    }
    let source = SocketAddr::new(source, source_port);
    let destination = SocketAddr::new(destination, destination_port);
    Ok(Some(Header { addresses: Some((source, destination)), len: end + 2 }))
}

fn version_2(input: &[u8]) -> Result<Option<Header>, NoHeader> {
    let Some(fixed) = input.first_chunk::<FIXED_BYTES>() else { return Ok(None) };
    let [.., version_command, family, high, low] = *fixed;
    let variable = usize::from(u16::from_be_bytes([high, low]));
    if variable > VARIABLE_BYTES_MAX {
        return Err(NoHeader);
    }
    let len = FIXED_BYTES + variable;
    let Some(rest) = input.get(FIXED_BYTES..len) else { return Ok(None) };
    let addresses = match (version_command, family) {
        // LOCAL: the sender's own connection, to see whether anyone is there.
        (0x20, _) => None,
        // Neither IP nor a local socket is said, or a local socket: nothing that could be shown.
        (0x21, 0x00 | 0x31) => None,
        (0x21, 0x11) => Some(pair::<4, 12>(rest, |it| Ipv4Addr::from(it).into())?),
        (0x21, 0x21) => Some(pair::<16, 36>(rest, |it| Ipv6Addr::from(it).into())?),
        _ => return Err(NoHeader),
    };
    Ok(Some(Header { addresses, len }))
}

/// Two addresses of `N` octets, then two ports.
fn pair<const N: usize, const ALL: usize>(
    octets: &[u8],
    address: fn([u8; N]) -> IpAddr,
) -> Result<(SocketAddr, SocketAddr), NoHeader> {
    let all = octets.first_chunk::<ALL>().ok_or(NoHeader)?;
    let (source, rest) = all.split_first_chunk::<N>().ok_or(NoHeader)?;
    let (destination, ports) = rest.split_first_chunk::<N>().ok_or(NoHeader)?;
    let [s0, s1, d0, d1] = *ports.first_chunk::<4>().ok_or(NoHeader)?;
    Ok((
        SocketAddr::new(address(*source), u16::from_be_bytes([s0, s1])),
        SocketAddr::new(address(*destination), u16::from_be_bytes([d0, d1])),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version_2_header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend([command, family]);
        header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        header.extend(rest);
        header
    }

    fn read(input: &[u8]) -> Option<(String, String)> {
        let header = parse(input).unwrap().unwrap();
        assert_eq!(header.len, input.len());
        header.addresses.map(|(from, to)| (from.to_string(), to.to_string()))
    }

    fn texts(from: &str, to: &str) -> Option<(String, String)> {
        Some((from.to_owned(), to.to_owned()))
    }

    #[test]
    fn addresses_are_read_in_both_versions() {
        assert_eq!(
            read(b"PROXY TCP4 203.0.113.7 10.0.0.1 56324 5672\r\n"),
            texts("203.0.113.7:56324", "10.0.0.1:5672")
        );
        assert_eq!(
            read(b"PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n"),
            texts("[2001:db8::7]:1", "[2001:db8::1]:2")
        );
        let four = [203, 0, 113, 7, 10, 0, 0, 1, 0xdc, 4, 0x16, 0x28];
        let with_more = [&four[..], &[0x20, 0, 2, 1, 1]].concat();
        for rest in [&four[..], &with_more] {
            let header = version_2_header(0x21, 0x11, rest);
            assert_eq!(read(&header), texts("203.0.113.7:56324", "10.0.0.1:5672"));
        }
        let six = [[0x20; 16].as_slice(), &[0x21; 16], &[0, 1, 0, 2]].concat();
        let from_to = texts("[2020:2020:2020:2020:2020:2020:2020:2020]:1", "");
        let header = version_2_header(0x21, 0x21, &six);
        assert_eq!(read(&header).map(|it| it.0), from_to.map(|it| it.0));
    }

    #[test]
    fn a_sender_may_speak_for_itself() {
        assert_eq!(read(b"PROXY UNKNOWN\r\n"), None);
        assert_eq!(read(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"), None);
        assert_eq!(read(&version_2_header(0x20, 0x00, &[])), None);
        assert_eq!(read(&version_2_header(0x21, 0x00, &[1, 2, 3])), None);
    }

    #[test]
    fn a_header_in_parts_is_waited_for() {
        let v1 = b"PROXY TCP4 203.0.113.7 10.0.0.1 56324 5672\r\n".to_vec();
        let four = [203, 0, 113, 7, 10, 0, 0, 1, 0xdc, 4, 0x16, 0x28];
        for header in [v1, version_2_header(0x21, 0x11, &four)] {
            for cut in 0..header.len() {
                assert_eq!(parse(&header[..cut]), Ok(None), "{cut}");
            }
            let more = [&header[..], b"AMQP"].concat();
            assert_eq!(parse(&more).unwrap().map(|it| it.len), Some(header.len()));
        }
    }

    #[test]
    fn what_is_no_header_is_refused_as_soon_as_it_shows() {
        for bad in [
            &b"AMQP\0\0\x09\x01"[..],
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"PROXI",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 56324\r\n",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 56324 65536\r\n",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 +1 5672\r\n",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 1 2 3\r\n",
            b"PROXY TCP4 203.0.113.256 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n",
            b"PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
            &[b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat(),
            &version_2_header(0x31, 0x11, &[0; 12]),
            &version_2_header(0x22, 0x11, &[0; 12]),
            &version_2_header(0x21, 0x12, &[0; 12]),
            &version_2_header(0x21, 0x11, &[0; 11]),
            &version_2_header(0x21, 0x21, &[0; 35]),
            &version_2_header(0x21, 0x11, &[0; 4097])[..16],
        ] {
            assert_eq!(parse(bad), Err(NoHeader), "{bad:02x?}");
        }
    }

    #[test]
    fn only_named_networks_are_trusted() {
        let trusted = TrustedProxies(vec![
            ("10.1.0.0".parse().unwrap(), 16),
            ("192.0.2.7".parse().unwrap(), 32),
            ("fd00::".parse().unwrap(), 8),
        ]);
        for (address, is_trusted) in [
            ("10.1.255.255", true),
            ("10.2.0.0", false),
            ("::ffff:10.1.0.1", true),
            ("192.0.2.7", true),
            ("192.0.2.6", false),
            ("fd12::1", true),
            ("fe80::1", false),
            ("127.0.0.1", false),
        ] {
            assert_eq!(trusted.contains(address.parse().unwrap()), is_trusted, "{address}");
        }
        assert!(
            TrustedProxies(vec![("0.0.0.0".parse().unwrap(), 0)])
                .contains("203.0.113.1".parse().unwrap())
        );
    }
}
