//! The protocol header: the eight bytes with which a client opens a connection.
//!
//! Only AMQP 0-9-1 is spoken. Anything else is answered with a header that tells the peer what
//! would be understood, after which the socket is closed (RabbitMQ 4.x answers the same way).

/// Bytes of a protocol header. Nothing is decided before all have arrived.
pub const HEADER_BYTES: usize = 8;

/// AMQP 0-9-1's own header.
const AMQP_0_9_1: [u8; HEADER_BYTES] = *b"AMQP\x00\x00\x09\x01";

/// The form that clients of the 0-9-1 drafts sent, which RabbitMQ takes as 0-9-1.
const AMQP_0_9_1_DRAFT: [u8; HEADER_BYTES] = *b"AMQP\x01\x01\x00\x09";

/// What RabbitMQ 4.x offers a peer that speaks something else: AMQP 1.0 behind SASL.
const AMQP_1_0_SASL: [u8; HEADER_BYTES] = *b"AMQP\x03\x01\x00\x00";

/// What a client's protocol header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolHeader {
    /// AMQP 0-9-1: go on with connection.start.
    Accepted,
    /// Something else: write `answer` and close.
    Refused {
        /// The header to write before closing.
        answer: [u8; HEADER_BYTES],
    },
}

impl ProtocolHeader {
    /// Judges the first bytes of a connection; `None` while fewer than [`HEADER_BYTES`] are there.
    /// Bytes after the header are left alone.
    #[must_use]
    pub fn parse(input: &[u8]) -> Option<Self> {
        let header = input.first_chunk::<HEADER_BYTES>()?;
        if *header == AMQP_0_9_1 || *header == AMQP_0_9_1_DRAFT {
            return Some(Self::Accepted);
        }
        // A later revision of 0-9 is told which one is spoken here.
        let answer = match header {
            [b'A', b'M', b'Q', b'P', 0, 0, revision, _] if *revision >= 9 => AMQP_0_9_1,
            _ => AMQP_1_0_SASL,
        };
        Some(Self::Refused { answer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused_with(input: &[u8]) -> [u8; HEADER_BYTES] {
        match ProtocolHeader::parse(input) {
            Some(ProtocolHeader::Refused { answer }) => answer,
            other => panic!("{input:?} was judged {other:?}"),
        }
    }

    #[test]
    fn amqp_0_9_1_is_accepted_in_both_spellings() {
        for header in [b"AMQP\x00\x00\x09\x01", b"AMQP\x01\x01\x00\x09"] {
            assert_eq!(ProtocolHeader::parse(header), Some(ProtocolHeader::Accepted));
        }
    }

    #[test]
    fn nothing_is_decided_before_eight_bytes() {
        for cut in 0..HEADER_BYTES {
            assert_eq!(ProtocolHeader::parse(&b"GET / HTTP/1.1"[..cut]), None);
        }
    }

    #[test]
    fn other_revisions_of_0_9_are_told_0_9_1() {
        for header in [b"AMQP\x00\x00\x09\x00", b"AMQP\x00\x00\x09\x02", b"AMQP\x00\x00\x0a\x00"] {
            assert_eq!(refused_with(header), *b"AMQP\x00\x00\x09\x01");
        }
    }

    #[test]
    fn everything_else_is_told_amqp_1_0() {
        let others: [&[u8]; 6] = [
            b"AMQP\x00\x01\x00\x00",
            b"AMQP\x03\x01\x00\x00",
            b"AMQP\x01\x01\x08\x00",
            b"AMQP\x00\x00\x08\x00",
            b"GET / HTTP/1.1",
            b"\x16\x03\x01\x02\x00\x01\x00\x01",
        ];
        for header in others {
            assert_eq!(refused_with(header), *b"AMQP\x03\x01\x00\x00");
        }
    }
}
