//! Whom webhooks may call: hosts that the operator lists, at addresses that are public.
//!
//! Addresses are looked at after the host's name has been resolved, and what was looked at is what
//! is connected to: there is no second look-up that could say something else. Redirects are not
//! followed and no proxy is used, so nothing leads past this.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::runners::wildcard;

/// A host all of whose addresses are refused.
#[derive(Debug, thiserror::Error)]
#[error(
    "{host} is at {address}, which is not public: leveret.triggers.webhook.private_addresses would \
     allow it"
)]
pub(super) struct NotPublic {
    host: String,
    address: IpAddr,
}

/// Resolves names to addresses that may be called.
#[derive(Debug, Default)]
pub(super) struct GuardedResolver {
    pub(super) allows_private: bool,
    names: DefaultResolver,
}

impl GuardedResolver {
    pub(super) fn new(allows_private: bool) -> Self {
        Self { allows_private, names: DefaultResolver::default() }
    }
}

impl Resolver for GuardedResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.names.resolve(uri, config, timeout)?;
        if self.allows_private {
            return Ok(found);
        }
        let mut allowed = self.empty();
        for address in found.iter().filter(|address| is_public(address.ip())) {
            allowed.push(*address);
        }
        match found.iter().next() {
            Some(address) if allowed.is_empty() => {
                let host = uri.host().unwrap_or_default().to_owned();
                let refused = NotPublic { host, address: address.ip() };
                Err(ureq::Error::Other(Box::new(refused)))
            }
            _ => Ok(allowed),
        }
    }
}

/// Checks an address's form and its host.
///
/// # Errors
/// Why it may not be called.
pub(in crate::runners) fn check(url: &str, hosts: &[String]) -> Result<Uri, String> {
    let uri: Uri = url.parse().map_err(|error| format!("{url:?} is no web address: {error}"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(format!("{url:?} is no web address: it begins with neither http nor https"));
    }
    let host = uri.host().unwrap_or_default();
    if host.is_empty() || uri.authority().is_some_and(|it| it.as_str().contains('@')) {
        return Err("a web address names a host, and a user not".to_owned());
    }
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if !hosts.is_empty() && !hosts.iter().any(|pattern| wildcard::fits(pattern, &host)) {
        return Err(format!(
            "host {host} may not be called: leveret.triggers.webhook.hosts does not name it"
        ));
    }
    Ok(uri)
}

/// Whether an address belongs to nobody in particular's network but the internet's.
pub(in crate::runners) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// The special networks of IPv4 (RFC 6890 and those that follow it), by first address and bits.
const SPECIAL_V4: &[([u8; 4], u32)] = &[
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

fn is_public_v4(address: Ipv4Addr) -> bool {
    let number = address.to_bits();
    !SPECIAL_V4.iter().any(|(network, bits)| {
        let differing = number ^ Ipv4Addr::from(*network).to_bits();
        differing.leading_zeros() >= *bits
    })
}

/// Of IPv6 only 2000::/3 is given out; special networks in it, and addresses that lead to one of
/// IPv4, are not public either.
fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(inner) = address.to_ipv4_mapped() {
        return is_public_v4(inner);
    }
    let segments = address.segments();
    let inner = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match segments {
        // NAT64.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_public_v4(inner(high, low)),
        // 6to4.
        [0x2002, high, low, ..] => is_public_v4(inner(high, low)),
        // Protocols' own (Teredo among them), documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_not_everyones_are_not_public() {
        let private = [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:c0a8:101::1",
            "2001::1",
            "2001:db8::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ];
        for address in private {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        let public = [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.255.255",
            "172.32.0.1",
            "192.0.1.1",
            "223.255.255.255",
            "::ffff:1.1.1.1",
            "2606:4700::1111",
            "2001:200::1",
            "64:ff9b::101:101",
            "2002:101:101::1",
        ];
        for address in public {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn only_listed_hosts_are_called_if_there_is_a_list() {
        let hosts = ["hooks.example.com".to_owned(), "*.example.org".to_owned()];
        for good in [
            "https://hooks.example.com/x",
            "http://A.Example.ORG:8080",
            "https://a.b.example.org./",
        ] {
            assert!(check(good, &hosts).is_ok(), "{good}");
        }
        for bad in ["https://example.com/", "https://example.org.evil.test/", "https://[::1]/"] {
            let reason = check(bad, &hosts).unwrap_err();
            assert!(reason.contains("leveret.triggers.webhook.hosts does not name it"), "{reason}");
            assert!(check(bad, &[]).is_ok(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_web_address_is_not_called() {
        let bad = [
            "",
            "hooks.example.com",
            "/x",
            "ftp://a.test/",
            "file:///etc/passwd",
            "https://",
            "https://user@a.test/",
            "https://user:secret@a.test/",
            "http://a b/",
        ];
        for url in bad {
            assert!(check(url, &[]).is_err(), "{url}");
        }
    }
}
