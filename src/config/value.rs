//! One value's text as a typed value. Every function says, when it refuses, what it would have
//! taken; the caller adds the key and where it stands.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::settings::{ListenAddress, LogLevel, Network};

/// Why a value is refused: a sentence part that follows the key.
pub(super) type Reason = String;

fn expected(what: &str, found: &str) -> Reason {
    format!("expected {what}, found '{found}'")
}

/// `true` or `false`; `on` and `off` mean the same.
pub(super) fn boolean(text: &str) -> Result<bool, Reason> {
    match text {
        "true" | "on" => Ok(true),
        "false" | "off" => Ok(false),
        _ => Err(expected("true or false", text)),
    }
}

/// A whole number within a range.
pub(super) fn integer(text: &str, range: RangeInclusive<u64>) -> Result<u64, Reason> {
    match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(expected(&range_text("a whole number", &range), text)),
    }
}

/// A whole number within the range of its type.
pub(super) fn number<T: TryFrom<u64>>(text: &str, range: RangeInclusive<u64>) -> Result<T, Reason> {
    let wide = integer(text, range.clone())?;
    T::try_from(wide).map_err(|_| expected(&range_text("a whole number", &range), text))
}

/// A whole number above zero, or `infinity`.
pub(super) fn number_or_infinity(text: &str) -> Result<Option<u64>, Reason> {
    if text == "infinity" {
        return Ok(None);
    }
    integer(text, 1..=u64::MAX)
        .map(Some)
        .map_err(|_| expected("a whole number above 0 or infinity", text))
}

/// What `kb`, `mb`, `gb`... count in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Units {
    /// `64MB` is 64,000,000 and `64MiB` is 64 * 1024 * 1024: memory and disk, since RabbitMQ 3.13.
    Decimal,
    /// `64kb` is 64 * 1024: RabbitMQ's older "bytesize" keys, such as `frame_max`.
    Binary,
}

/// A number of bytes with an optional unit, such as `131072`, `64MB`, `1GiB` or `2Gi`.
pub(super) fn bytes(text: &str, units: Units, range: RangeInclusive<u64>) -> Result<u64, Reason> {
    let refused = || expected(&range_text("a number of bytes such as 64MB or 1GiB", &range), text);
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| refused())?;
    let unit = unit_bytes(unit, units).ok_or_else(refused)?;
    match number.checked_mul(unit) {
        Some(bytes) if range.contains(&bytes) => Ok(bytes),
        _ => Err(refused()),
    }
}

fn unit_bytes(unit: &str, units: Units) -> Option<u64> {
    let unit = unit.to_ascii_lowercase();
    if matches!(unit.as_str(), "" | "b") {
        return Some(1);
    }
    let (prefix, rest) = unit.split_at_checked(1)?;
    let power = 1 + u32::try_from("kmgtp".find(prefix)?).ok()?;
    let base: u64 = match (rest, units) {
        ("i" | "ib", _) | ("" | "b", Units::Binary) => 1024,
        ("" | "b", Units::Decimal) => 1000,
        _ => return None,
    };
    base.checked_pow(power)
}

/// A time in milliseconds, or with a unit: `500ms`, `10s`, `30m`, `1h`, `2d`.
pub(super) fn duration_ms(text: &str, range: RangeInclusive<u64>) -> Result<u64, Reason> {
    let refused = || expected(&range_text("milliseconds or a time such as 30s", &range), text);
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| refused())?;
    let unit_ms = match unit {
        "" | "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        "d" => 24 * 3600 * 1000,
        _ => return Err(refused()),
    };
    match number.checked_mul(unit_ms) {
        Some(ms) if range.contains(&ms) => Ok(ms),
        _ => Err(refused()),
    }
}

/// A share, at most `max`.
pub(super) fn share(text: &str, max: f64) -> Result<f64, Reason> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=max).contains(&share) => Ok(share),
        _ => Err(expected(&format!("a number from 0 to {max}"), text)),
    }
}

/// A port.
pub(super) fn port(text: &str) -> Result<u16, Reason> {
    text.parse().map_err(|_| expected("a port from 0 to 65535", text))
}

/// An IP address.
pub(super) fn ip(text: &str) -> Result<IpAddr, Reason> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    bare.parse().map_err(|_| expected("an IP address", text))
}

/// `5672`, `127.0.0.1:5672`, `::1:5672` (as RabbitMQ writes IPv6) or `[::1]:5672`.
pub(super) fn listener(text: &str) -> Result<ListenAddress, Reason> {
    let wanted = "a port or an address and a port such as 127.0.0.1:5672";
    if text.starts_with("local:") {
        return Err("a Unix socket is named in leveret.listeners.unix.NAME".to_owned());
    }
    if let Ok(port) = text.parse() {
        return Ok(ListenAddress::any(port));
    }
    let (address, port_text) = text.rsplit_once(':').ok_or_else(|| expected(wanted, text))?;
    match (ip(address), port(port_text)) {
        (Ok(ip), Ok(port)) => Ok(ListenAddress { ip: Some(ip), port }),
        _ => Err(expected(wanted, text)),
    }
}

/// `10.0.0.0/8`, `fd00::/8`, or one address.
pub(super) fn network(text: &str) -> Result<Network, Reason> {
    let refused = || expected("an IP address or a network such as 10.0.0.0/8", text);
    let (address, bits) = text.split_once('/').map_or((text, None), |(ip, n)| (ip, Some(n)));
    let ip = ip(address).map_err(|_| refused())?.to_canonical();
    let bits_max = if ip.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        None => bits_max,
        Some(bits) => bits.parse().ok().filter(|it| *it <= bits_max).ok_or_else(refused)?,
    };
    Ok(Network { ip, bits })
}

/// The mode of a file, in octal.
pub(super) fn file_mode(text: &str) -> Result<u32, Reason> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| expected("a file mode in octal such as 660", text))
}

/// A log level. RabbitMQ's three levels above error count as error.
pub(super) fn log_level(text: &str) -> Result<LogLevel, Reason> {
    Ok(match text {
        "debug" => LogLevel::Debug,
        "info" => LogLevel::Info,
        "notice" => LogLevel::Notice,
        "warning" => LogLevel::Warning,
        "error" | "critical" | "alert" | "emergency" => LogLevel::Error,
        "none" => LogLevel::None,
        _ => return Err(expected("debug, info, notice, warning, error or none", text)),
    })
}

/// Text that is not empty and at most `bytes_max` long.
pub(super) fn text(text: &str, bytes_max: usize) -> Result<String, Reason> {
    if text.is_empty() || text.len() > bytes_max {
        return Err(format!("expected 1 to {bytes_max} bytes of text"));
    }
    Ok(text.to_owned())
}

/// One of several words.
pub(super) fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, Reason> {
    words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning).ok_or_else(|| {
        let mut listed: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let last = listed.pop().unwrap_or_default();
        let what = if listed.is_empty() {
            last.to_owned()
        } else {
            format!("{} or {last}", listed.join(", "))
        };
        expected(&what, text)
    })
}

fn range_text(what: &str, range: &RangeInclusive<u64>) -> String {
    match (*range.start(), *range.end()) {
        (0, u64::MAX) => what.to_owned(),
        (least, u64::MAX) => format!("{what}, at least {least}"),
        (least, most) => format!("{what}, from {least} to {most}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Result<u64, Reason> {
        bytes(text, Units::Decimal, 0..=u64::MAX)
    }

    #[test]
    fn sizes_take_rabbitmqs_units() {
        assert_eq!(decimal("1000"), Ok(1000));
        for (text, size) in [
            ("64MB", 64_000_000),
            ("100kb", 100_000),
            ("5k", 5000),
            ("2GiB", 2 << 30),
            ("2Gi", 2 << 30),
            ("1tib", 1 << 40),
            ("3P", 3_000_000_000_000_000),
        ] {
            assert_eq!(decimal(text), Ok(size), "{text}");
        }
        assert_eq!(bytes("128kb", Units::Binary, 0..=u64::MAX), Ok(131_072));
    }

    #[test]
    fn sizes_refuse_nonsense_and_overflow() {
        for text in ["", "MB", "-1", "1.5GB", "10 MB", "12XB", "99999999P", "1kbb", "1é"] {
            assert!(decimal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn networks_are_addresses_or_what_they_begin_with() {
        let read = |text: &str| network(text).map(|it| (it.ip.to_string(), it.bits));
        assert_eq!(read("10.0.0.0/8"), Ok(("10.0.0.0".to_owned(), 8)));
        assert_eq!(read("10.0.0.5"), Ok(("10.0.0.5".to_owned(), 32)));
        assert_eq!(read("::ffff:10.0.0.5"), Ok(("10.0.0.5".to_owned(), 32)));
        assert_eq!(read("fd00::/8"), Ok(("fd00::".to_owned(), 8)));
        for bad in ["", "10.0.0.0/33", "fd00::/129", "10.0.0.0/", "10.0.0.0/-1", "balancer"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn file_modes_are_octal() {
        assert_eq!(file_mode("660"), Ok(0o660));
        assert_eq!(file_mode("0600"), Ok(0o600));
        for bad in ["", "888", "1777", "-1", "rw"] {
            assert!(file_mode(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn listeners_take_ports_and_addresses_of_both_families() {
        assert_eq!(listener("5672"), Ok(ListenAddress::any(5672)));
        for text in ["127.0.0.1:5672", "::1:5672", "[::1]:5672", ":::5672"] {
            let address = listener(text).expect("an address");
            assert_eq!(address.port, 5672, "{text}");
            assert!(address.ip.is_some(), "{text}");
        }
        for text in ["", "localhost:5672", "127.0.0.1", "127.0.0.1:99999", "local:/tmp/s:0"] {
            assert!(listener(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_share_may_be_nothing_at_all() {
        assert_eq!(share("0", 1.0), Ok(0.0));
        assert_eq!(share("1.0", 1.0), Ok(1.0));
        for text in ["-0.1", "1.01", "NaN", "inf", ""] {
            assert!(share(text, 1.0).is_err(), "{text}");
        }
    }

    #[test]
    fn refusals_say_what_would_be_taken() {
        assert_eq!(
            integer("70000", 0..=65_535),
            Err("expected a whole number, from 0 to 65535, found '70000'".to_owned())
        );
        assert_eq!(
            word("maybe", &[("yes", 1), ("no", 2), ("perhaps", 3)]),
            Err("expected yes, no or perhaps, found 'maybe'".to_owned())
        );
    }

    #[test]
    fn durations_are_milliseconds_unless_they_have_a_unit() {
        assert_eq!(duration_ms("10000", 0..=u64::MAX), Ok(10_000));
        assert_eq!(duration_ms("30m", 0..=u64::MAX), Ok(1_800_000));
        assert!(duration_ms("5 s", 0..=u64::MAX).is_err());
        assert!(duration_ms("0", 1..=10).is_err());
    }
}
