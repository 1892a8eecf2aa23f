//! Just enough of HTTP to call a management API: one request a connection, answered in full.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long an answer may take.
const WAIT: Duration = Duration::from_secs(10);

/// Where the API is and who calls it.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    /// Host and port.
    pub(crate) address: String,
    /// User and password, as in `user:password`.
    pub(crate) login: String,
}

impl Api {
    /// Calls it. Returns the status and the body.
    ///
    /// # Errors
    /// When there is no whole answer: what was asked for may have been done.
    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(WAIT))?;
        stream.set_write_timeout(Some(WAIT))?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Basic {}\r\nConnection: \
             close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            base64(self.login.as_bytes()),
            body.len(),
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        parse(&answer).ok_or_else(|| io::Error::other("no whole answer"))
    }
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let octet = |at: usize| u32::from(part.get(at).copied().unwrap_or(0));
        let bits = octet(0) << 16 | octet(1) << 8 | octet(2);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit) & 63) as usize;
            text.push(if digit <= part.len() { DIGITS[value].into() } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_encoded_as_rfc_4648_has_it() {
        let cases = ["", "f", "fo", "foo", "foob", "fooba", "foobar"];
        let encoded = cases.map(|text| base64(text.as_bytes()));
        assert_eq!(encoded, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
    }

    #[test]
    fn an_answer_without_its_end_is_none() {
        assert_eq!(parse("HTTP/1.1 204 No Content\r\na: b\r\n\r\n"), Some((204, String::new())));
        assert_eq!(parse("HTTP/1.1 204 No Content\r\na: b\r\n"), None);
    }
}
