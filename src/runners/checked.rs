//! What operators and their users write for runners, as it is understood: for whoever tests what
//! becomes of texts that make no sense. Nothing is run.

use std::net::IpAddr;

use super::programs::file::Program;
use super::webhooks::guard;

/// What a program's file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The program's path and its arguments, as they are written.
    pub command: Vec<String>,
    /// The user and group to become.
    pub account: Option<(u32, u32)>,
    /// All of it.
    whole: Program,
}

/// Whose an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// The internet's.
    Public,
    /// Somebody's own network's.
    Private,
}

/// Reads a program's file.
///
/// # Errors
/// The line that is wrong, and why.
pub fn program(text: &str) -> Result<Found, (usize, String)> {
    let whole = Program::read(text).map_err(|fault| (fault.line, fault.reason))?;
    Ok(Found { command: whole.written(), account: whole.account, whole })
}

/// The host of a web address that may be called, in lower case.
///
/// # Errors
/// Why it may not.
pub fn webhook(url: &str, hosts: &[String]) -> Result<String, String> {
    let uri = guard::check(url, hosts)?;
    let host = uri.host().unwrap_or_default();
    Ok(host.trim_end_matches('.').to_ascii_lowercase())
}

/// Whose an address is, as the guard of webhooks sees it.
#[must_use]
pub fn address(address: IpAddr) -> Address {
    if guard::is_public(address) { Address::Public } else { Address::Private }
}
