//! Login mechanisms: PLAIN, AMQPLAIN, EXTERNAL and ANONYMOUS, as RabbitMQ reads them.

use crate::protocol::table::{RawTable, ValueRef};
use crate::secret::Secret;

/// A way to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// Name and password between NULs.
    Plain,
    /// Name and password in a field table.
    AmqPlain,
    /// Neither: everyone is one configured user. Off unless configured.
    Anonymous,
    /// Neither: the client's certificate says who it is. Off unless configured.
    External,
}

impl Mechanism {
    /// Its SASL name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::AmqPlain => "AMQPLAIN",
            Self::Anonymous => "ANONYMOUS",
            Self::External => "EXTERNAL",
        }
    }
}

/// Who a client says it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Someone with a password.
    Password(Credentials),
    /// Nobody in particular.
    Anonymous,
    /// Whoever its certificate says.
    Certificate,
}

/// A name and a password, as a client sent them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: Secret,
}

/// Why a response holds no credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SaslError {
    /// The mechanism was not offered.
    UnknownMechanism,
    /// The response is not in the mechanism's form.
    Malformed,
}

/// Reads the initial response of one of the offered mechanisms.
pub(super) fn claim(
    offered: &[Mechanism],
    mechanism: &str,
    response: &[u8],
) -> Result<Claim, SaslError> {
    let chosen = offered.iter().find(|offered| offered.name() == mechanism);
    let read = match chosen.ok_or(SaslError::UnknownMechanism)? {
        Mechanism::Plain => plain(response),
        Mechanism::AmqPlain => amqplain(response),
        Mechanism::Anonymous => return Ok(Claim::Anonymous),
        // Who it is was settled before the first frame; what it says of itself does not count.
        Mechanism::External => return Ok(Claim::Certificate),
    };
    read.map(Claim::Password).ok_or(SaslError::Malformed)
}

/// `\0user\0password`; RabbitMQ takes no authorisation identity before the first NUL.
fn plain(response: &[u8]) -> Option<Credentials> {
    let rest = response.strip_prefix(&[0])?;
    let nul = rest.iter().position(|byte| *byte == 0)?;
    let (user, password) = (&rest[..nul], &rest[nul + 1..]);
    if password.contains(&0) {
        return None;
    }
    Some(Credentials { user: str::from_utf8(user).ok()?.to_owned(), password: password.into() })
}

/// A field table's body with LOGIN and PASSWORD.
fn amqplain(response: &[u8]) -> Option<Credentials> {
    // Looked at where it lies: a copy of the table would leave the password behind.
    let table = RawTable::parse(response).ok()?;
    let user = table.get("LOGIN")?.as_str()?.to_owned();
    let ValueRef::LongStr(password) = table.get("PASSWORD")? else { return None };
    Some(Credentials { user, password: password.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::table::{Table, Value};

    const OFFERED: [Mechanism; 2] = [Mechanism::Plain, Mechanism::AmqPlain];

    fn credentials(mechanism: &str, response: &[u8]) -> Result<Credentials, SaslError> {
        match claim(&OFFERED, mechanism, response)? {
            Claim::Password(credentials) => Ok(credentials),
            claim => panic!("{claim:?} without a mechanism for it"),
        }
    }

    #[test]
    fn plain_takes_exactly_user_and_password() {
        let read = credentials("PLAIN", b"\0app\0secret").unwrap();
        assert_eq!((read.user.as_str(), read.password), ("app", "secret".into()));
        for bad in [&b""[..], b"app\0secret", b"\0app", b"admin\0app\0secret", b"\0a\0b\0c"] {
            assert_eq!(credentials("PLAIN", bad), Err(SaslError::Malformed), "{bad:?}");
        }
    }

    #[test]
    fn amqplain_takes_a_table() {
        let mut table = Table::default();
        table.insert("LOGIN", Value::LongStr(b"app".to_vec()));
        table.insert("PASSWORD", Value::LongStr(b"secret".to_vec()));
        let mut response = Vec::new();
        table.encode_body(&mut response);
        let read = credentials("AMQPLAIN", &response).unwrap();
        assert_eq!((read.user.as_str(), read.password), ("app", "secret".into()));
        assert_eq!(credentials("AMQPLAIN", b"nonsense"), Err(SaslError::Malformed));
        assert_eq!(credentials("ANONYMOUS", b"guest"), Err(SaslError::UnknownMechanism));
    }
}
