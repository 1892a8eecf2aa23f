//! How a scenario fails: small checks that return what was seen instead of what was expected.

use std::fmt::Debug;
use std::time::Duration;

use lapin::ErrorKind;

/// A scenario's result; any error fails it, with its text as the reason.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How long anything that must come may take.
pub(crate) const WAIT: Duration = Duration::from_secs(10);

/// Fails with both values unless they are equal.
pub(crate) fn equal<T: PartialEq<U> + Debug + ?Sized, U: Debug + ?Sized>(
    what: &str,
    actual: &T,
    expected: &U,
) -> Outcome {
    require(actual == expected, &format!("{what}: {actual:?} instead of {expected:?}"))
}

/// Fails with the text unless the condition holds.
pub(crate) fn require(condition: bool, otherwise: &str) -> Outcome {
    if condition { Ok(()) } else { Err(otherwise.into()) }
}

/// Whether the error is the broker's, with this reply code.
pub(crate) fn is_refusal(error: &lapin::Error, code: u16) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(reply) if reply.get_id() == code)
}

/// Fails unless the result is the broker's refusal with this code and a text that starts so.
pub(crate) fn refused<T>(code: u16, text: &str, result: lapin::Result<T>) -> Outcome {
    let Err(error) = result else {
        return Err(format!("not refused with {code}").into());
    };
    let ErrorKind::ProtocolError(reply) = error.kind() else {
        return Err(format!("not refused with {code} but {error}").into());
    };
    equal("reply code", &reply.get_id(), &code)?;
    let message = reply.get_message().as_str();
    require(message.starts_with(text), &format!("reply text {message:?}"))
}
