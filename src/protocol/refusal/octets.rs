//! Received bytes as RabbitMQ's error texts quote them: in Erlang's notation for binaries.

use std::fmt;

/// Bytes of a frame that a text quotes at most.
const SNIPPET_BYTES_MAX: usize = 16;

/// All of the bytes, as numbers: `<<0,10,255>>`. What "cannot decode" quotes.
#[derive(Debug, Clone, Copy)]
pub struct Octets<'a>(pub &'a [u8]);

impl fmt::Display for Octets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<<")?;
        for (at, octet) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{octet}")?;
        }
        f.write_str(">>")
    }
}

/// The beginning of a frame's payload: `all octets = <<1,2>>` or `first 16 octets = <<...>>`.
/// Printable ASCII stands as text, as it does in Erlang: `<<"GET / HTTP/1.1">>`.
#[derive(Debug, Clone, Copy)]
pub struct Snippet<'a>(pub &'a [u8]);

impl fmt::Display for Snippet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (extent, octets) = match self.0.get(..SNIPPET_BYTES_MAX) {
            Some(first) if self.0.len() > SNIPPET_BYTES_MAX => ("first 16", first),
            _ => ("all", self.0),
        };
        let plain = |octet: &u8| matches!(octet, b' '..=b'~') && !matches!(octet, b'"' | b'\\');
        match std::str::from_utf8(octets) {
            Ok(text) if !text.is_empty() && octets.iter().all(plain) => {
                write!(f, "{extent} octets = <<\"{text}\">>")
            }
            _ => write!(f, "{extent} octets = {}", Octets(octets)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_quoted_as_erlang_prints_them() {
        assert_eq!(Octets(&[]).to_string(), "<<>>");
        assert_eq!(Octets(&[0, 10, 255]).to_string(), "<<0,10,255>>");
        assert_eq!(Snippet(&[]).to_string(), "all octets = <<>>");
        assert_eq!(Snippet(&[1, 2, 3]).to_string(), "all octets = <<1,2,3>>");
        assert_eq!(Snippet(b"GET /").to_string(), "all octets = <<\"GET /\">>");
    }

    #[test]
    fn a_long_payload_is_quoted_in_part() {
        let all: Vec<u8> = (0..16).collect();
        let quoted = "octets = <<0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15>>";
        assert_eq!(Snippet(&all).to_string(), format!("all {quoted}"));
        assert_eq!(Snippet(&[&all[..], &[16]].concat()).to_string(), format!("first 16 {quoted}"));
    }
}
