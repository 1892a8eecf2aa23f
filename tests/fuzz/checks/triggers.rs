//! What triggers are defined by: a document over HTTP, a queue's arguments, an operator's file, a
//! web address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use leveret::broker::queue::QueueArgs;
use leveret::broker::trigger::condition::{Facts, NEVER};
use leveret::broker::trigger::json::Reader;
use leveret::broker::trigger::spec::TriggerSpec;
use leveret::protocol::table::RawTable;
use leveret::runners::checked::{self, Address};
use serde_json::Value as Json;

use super::input::{Input, text};

/// A definition is refused by the field's name, or is the same however often it is written down.
/// The first octet says where it comes from.
pub fn trigger(bytes: &[u8]) {
    let Some((from, bytes)) = bytes.split_first() else { return };
    if from % 2 == 0 {
        let Ok(document) = serde_json::from_slice::<Json>(bytes) else { return };
        match TriggerSpec::from_json(&document) {
            Ok(spec) => defined(&spec),
            Err(error) => assert!(!error.reason.is_empty(), "{document}"),
        }
        return;
    }
    let Ok(arguments) = RawTable::parse(bytes) else { return };
    let Ok(arguments) = QueueArgs::parse(&arguments.to_table()) else { return };
    let queue: Arc<str> = "q".into();
    if let Some(spec) = arguments.wishes.unwrap_or_default().trigger.spec(&queue) {
        assert_eq!(spec.queue, queue);
        defined(&spec);
    }
}

fn defined(spec: &TriggerSpec) {
    let stored = spec.to_json(Reader::Store);
    // What arguments may name, a document may not say: it is not stored as one.
    if let Ok(again) = TriggerSpec::from_json(&stored) {
        assert_eq!(&again, spec);
    }
    let shown = spec.to_json(Reader::Anyone).to_string();
    assert!(!shown.contains("\"secret\""), "{shown}");
    assert_eq!(spec.condition.all().len(), spec.condition.size());
    // Nothing is there, so nothing is to be done, now or later.
    assert_eq!(spec.condition.holds_from(&Nothing), NEVER, "{}", spec.condition);
}

/// An empty queue that has never had a message.
struct Nothing;

impl Facts for Nothing {
    fn count(&self, _: usize) -> u64 {
        0
    }
    fn oldest_ms(&self, _: usize) -> Option<u64> {
        None
    }
    fn untold(&self, _: usize) -> u64 {
        0
    }
    fn came_within(&self, _: usize, _: u64) -> u64 {
        0
    }
    fn idle_since_ms(&self) -> Option<u64> {
        Some(0)
    }
    fn next_ms(&self, _: usize) -> u64 {
        0
    }
}

/// A program's file is refused by its line, or says what is run, by whom and for which queues.
pub fn program(bytes: &[u8]) {
    let file = text(bytes);
    let read = checked::program(&file);
    assert_eq!(read, checked::program(&file));
    match read {
        Err((line, reason)) => {
            assert!((1..=file.matches('\n').count() + 1).contains(&line), "{line}: {reason}");
        }
        Ok(found) => {
            assert!(found.command.first().is_some_and(|path| path.starts_with('/')), "{found:?}");
            assert!(found.account.is_none_or(|(user, group)| user > 0 && group > 0), "{found:?}");
            let with_comment = format!("# more\n{file}");
            let file = if file.starts_with('\u{feff}') { &file } else { &with_comment };
            assert_eq!(checked::program(file).as_ref(), Ok(&found));
        }
    }
}

/// An address is called only if its host is on the list and public, said as plainly as can be.
pub fn webhook(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    is_everyones(&mut input);
    let mut hosts = vec!["hooks.example.com".to_owned(), "*.example.org".to_owned()];
    if input.bit() {
        hosts.push(text(input.short()).to_ascii_lowercase());
    }
    let url = text(input.rest());
    let Ok(host) = checked::webhook(&url, &hosts) else { return };
    let lower = url.to_ascii_lowercase();
    let rest = lower.strip_prefix("http://").or_else(|| lower.strip_prefix("https://"));
    let rest = rest.expect("a web address");
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    assert!(!authority.contains('@'), "{url}");
    let named = match authority.rsplit_once(':') {
        Some((named, port)) if !port.contains(']') => named,
        _ => authority,
    };
    assert_eq!(named.trim_end_matches('.'), host.trim_end_matches('.').to_ascii_lowercase());
    let own = hosts.get(2).is_some_and(|pattern| matches(pattern.as_bytes(), host.as_bytes()));
    let listed = host == "hooks.example.com" || host.ends_with(".example.org");
    assert!(listed || own, "{url}: {host} is on no list");
}

/// Whether a pattern with stars fits, tried every way.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let mut fits = vec![false; name.len() + 1];
    fits[0] = true;
    for letter in pattern {
        if *letter == b'*' {
            let first = fits.iter().position(|fits| *fits).unwrap_or(fits.len());
            fits[first..].fill(true);
        } else {
            for at in (0..name.len()).rev() {
                fits[at + 1] = fits[at] && name[at] == *letter;
            }
            fits[0] = false;
        }
    }
    fits[name.len()]
}

/// An address that the standard library calls somebody's own is not everyone's.
fn is_everyones(input: &mut Input<'_>) {
    let v4 = Ipv4Addr::from([input.byte(), input.byte(), input.byte(), input.byte()]);
    let is_own = v4.is_loopback()
        || v4.is_private()
        || v4.is_link_local()
        || v4.is_multicast()
        || v4.is_broadcast()
        || v4.is_documentation()
        || v4.is_unspecified();
    let is_public = |address: IpAddr| checked::address(address) == Address::Public;
    assert!(!(is_own && is_public(v4.into())), "{v4}");
    for v6 in [v4.to_ipv6_mapped(), v4.to_ipv6_compatible()] {
        assert!(!is_public(v6.into()) || (is_public(v4.into()) && v6 == v4.to_ipv6_mapped()));
    }
    let mut octets = [0; 16];
    input.take(16).iter().zip(&mut octets).for_each(|(from, to)| *to = *from);
    let v6 = Ipv6Addr::from(octets);
    let is_own = v6.is_loopback()
        || v6.is_unspecified()
        || v6.is_multicast()
        || v6.is_unique_local()
        || v6.is_unicast_link_local();
    assert!(!(is_own && is_public(v6.into())), "{v6}");
}
