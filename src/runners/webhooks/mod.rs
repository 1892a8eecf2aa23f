//! Calls of web addresses: one POST for each run, signed, and what its answer means.
//!
//! 2xx is an acknowledgement. 408, 425, 429, 5xx, a redirect and no answer at all mean later: the
//! trigger pauses, longer each time, and the messages go back without an attempt counted. 410 means
//! never again, and switches the trigger off. Any other 4xx says that the server will not have
//! these messages: they are rejected.

mod backoff;
mod envelope;
pub(super) mod guard;
mod signature;

use std::error::Error as _;
use std::io::Read as _;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use ureq::Agent;
use ureq::http::Uri;
use ureq::unversioned::transport::DefaultConnector;

use self::backoff::Backoff;
use self::envelope::Call;
use self::guard::{GuardedResolver, NotPublic};
use crate::backends::https;
use crate::broker::trigger::run::{Ended, Exit, Outcome, Run, Verdict, Verdicts, Webhook};
use crate::config::settings;
use crate::runners::{Stop, tail};
use crate::server::clock::Clock;

/// How much of an answer is read, for people.
const ANSWER_BYTES_MAX: u64 = 4_096;
/// How large the head of an answer may be.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const CALL_MS_MAX: u64 = 15 * 60 * 1000;

/// Headers that are the broker's to set; those that begin with one of `OWN_PREFIXES` are, too.
const OWN_HEADERS: &[&str] =
    &["connection", "content-length", "content-type", "host", "te", "transfer-encoding", "upgrade"];
const OWN_PREFIXES: &[&str] = &["ce-", "webhook-"];

/// Calls web addresses.
pub struct Webhooks {
    agent: Agent,
    hosts: Vec<String>,
    /// The node, as ids have it.
    node: Arc<str>,
    backoff: Backoff,
}

/// What came back.
struct Answer {
    status: u16,
    retry_after: Option<String>,
    body: Vec<u8>,
}

impl Webhooks {
    /// Calls from this node what may be called.
    ///
    /// # Errors
    /// When the certificates that are to be trusted cannot be read.
    pub fn new(settings: &settings::Webhooks, node: &str) -> Result<Self, String> {
        let tls = https::trusting(settings.cacertfile.as_deref())?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_response_header_size(HEAD_BYTES_MAX)
            .proxy(None)
            .user_agent(concat!("leveret/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls)
            .build();
        let resolver = GuardedResolver::new(settings.private_addresses);
        Ok(Self {
            agent: Agent::with_parts(config, DefaultConnector::default(), resolver),
            hosts: settings.hosts.values().cloned().collect(),
            node: node.into(),
            backoff: Backoff::default(),
        })
    }

    /// Calls a web address for a trigger.
    pub(super) async fn call(
        &self,
        webhook: &Webhook,
        run: &Run,
        clock: Clock,
        mut stop: Stop,
    ) -> Outcome {
        let begun = clock.now();
        let prepared = guard::check(&webhook.url, &self.hosts)
            .and_then(|uri| Ok((uri, prepare(&self.node, webhook, run, begun.unix_ms / 1000)?)));
        let (uri, call) = match prepared {
            Ok(prepared) => prepared,
            Err(reason) => return Outcome::CouldNotStart { reason },
        };
        let (agent, timeout_ms) = (self.agent.clone(), webhook.timeout_ms.clamp(1, CALL_MS_MAX));
        let calling = tokio::task::spawn_blocking(move || post(&agent, &uri, &call, timeout_ms));
        let answered = tokio::select! {
            answered = calling => answered,
            _ = stop.wait_for(|stop| *stop) => return Outcome::Stopped,
        };
        let now = clock.now();
        let took_ms = now.mono_ms.saturating_sub(begun.mono_ms);
        let (exit, text, asked_ms) = match answered {
            Err(lost) => (Exit::Unreachable(lost.to_string()), Vec::new(), None),
            Ok(Ok(answer)) => {
                let asked = answer.retry_after.as_deref();
                let asked_ms = asked.and_then(|asked| asked_pause_ms(asked, now.unix_ms));
                (Exit::Status(answer.status), answer.body, asked_ms)
            }
            Ok(Err(error)) => match refused(&error) {
                Some(reason) => return Outcome::CouldNotStart { reason },
                None if matches!(error, ureq::Error::Timeout(_)) => {
                    (Exit::TimedOut, Vec::new(), None)
                }
                None => (Exit::Unreachable(error.to_string()), Vec::new(), None),
            },
        };
        let verdict = verdict(&exit);
        let (verdict, pause_ms) = match verdict {
            Said::Verdict(verdict) => {
                self.backoff.answered(run);
                (verdict, None)
            }
            Said::Gone => (Verdict::Retry { delay_ms: Some(0) }, None),
            Said::Later => {
                let random = getrandom::u64().unwrap_or_default();
                let pause_ms = self.backoff.failed(run, asked_ms, random, now.mono_ms);
                (Verdict::Retry { delay_ms: Some(pause_ms) }, Some(pause_ms))
            }
        };
        Outcome::Ended(Ended {
            verdicts: Verdicts::All(verdict),
            disable: exit == Exit::Status(410),
            exit,
            stderr_tail: tail(&text),
            took_ms,
            pause_ms,
        })
    }
}

/// What a server has said.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Gone,
    Later,
    Verdict(Verdict),
}

fn verdict(exit: &Exit) -> Said {
    match exit {
        Exit::Status(200..=299) => Said::Verdict(Verdict::Ack),
        Exit::Status(410) => Said::Gone,
        Exit::Status(408 | 425 | 429) => Said::Later,
        Exit::Status(400..=499) => Said::Verdict(Verdict::Reject),
        _ => Said::Later,
    }
}

/// The call, with its signature and the webhook's own headers.
fn prepare(node: &str, webhook: &Webhook, run: &Run, now_s: u64) -> Result<Call, String> {
    let mut call = envelope::call(node, run);
    for (name, value) in &webhook.headers {
        let lower = name.to_ascii_lowercase();
        let is_own = OWN_HEADERS.contains(&&*lower)
            || OWN_PREFIXES.iter().any(|prefix| lower.starts_with(prefix));
        if is_own {
            return Err(format!("header {name:?} is not the webhook's to set"));
        }
        call.headers.push((lower, value.clone()));
    }
    call.headers.push(("webhook-id".to_owned(), call.id.clone()));
    call.headers.push(("webhook-timestamp".to_owned(), now_s.to_string()));
    if let Some(secret) = &webhook.secret {
        let signature = signature::sign(secret, &call.id, now_s, &call.body)?;
        call.headers.push(("webhook-signature".to_owned(), signature));
    }
    Ok(call)
}

fn post(agent: &Agent, uri: &Uri, call: &Call, timeout_ms: u64) -> Result<Answer, ureq::Error> {
    let mut request = agent.post(uri);
    for (name, value) in &call.headers {
        request = request.header(name, value);
    }
    let timeout = Duration::from_millis(timeout_ms);
    let request = request.config().timeout_global(Some(timeout)).build();
    let mut response = request.send(&*call.body)?;
    let retry_after = response.headers().get("retry-after");
    let retry_after = retry_after.and_then(|it| it.to_str().ok()).map(str::to_owned);
    let mut body = Vec::new();
    // The status is the answer; what cannot be read of the rest is nobody's loss.
    let _ = response.body_mut().as_reader().take(ANSWER_BYTES_MAX).read_to_end(&mut body);
    Ok(Answer { status: response.status().as_u16(), retry_after, body })
}

/// Why nothing was called, if the reason is not the server's.
fn refused(error: &ureq::Error) -> Option<String> {
    match error {
        ureq::Error::Other(reason) if reason.is::<NotPublic>() => Some(reason.to_string()),
        ureq::Error::Http(error) => Some(format!(
            "the webhook's headers cannot be sent: {}",
            error.source().map_or_else(|| error.to_string(), ToString::to_string)
        )),
        ureq::Error::BadUri(reason) => Some(reason.clone()),
        _ => None,
    }
}

/// `Retry-After`: seconds, or a date.
fn asked_pause_ms(text: &str, now_ms: u64) -> Option<u64> {
    if let Ok(seconds) = text.trim().parse::<u64>() {
        return Some(seconds.saturating_mul(1000));
    }
    let at = httpdate::parse_http_date(text.trim()).ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(at.as_millis()).ok()?.checked_sub(now_ms)
}

#[cfg(test)]
mod tests;
