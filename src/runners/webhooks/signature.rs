//! Signatures and ids as Standard Webhooks has them (standardwebhooks.com).
//!
//! An id is a hash of what does not change however often something is sent: for a message the
//! node, its place in its queue, which it keeps until it is settled, over restarts too, its
//! priority (each has places of its own), and the moment it was published, which tells it from
//! others if the node ever begins anew.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::broker::trigger::run::{Handed, Run};
use crate::runners::shown;
use crate::secret::Secret;

/// How a secret begins, usually.
const PREFIX: &[u8] = b"whsec_";
/// Bytes of a hash that make an id.
const ID_BYTES: usize = 16;

/// The header `webhook-signature`.
///
/// # Errors
/// When the secret is none.
pub(super) fn sign(
    secret: &Secret,
    id: &str,
    timestamp_s: u64,
    body: &[u8],
) -> Result<String, String> {
    let text = secret.expose();
    let text = text.strip_prefix(PREFIX).unwrap_or(text);
    let key = STANDARD
        .decode(text)
        .map_err(|_| "the webhook's secret is not whsec_ and base64 after it".to_owned())?;
    let key = Secret::from(key);
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose())
        .map_err(|error| format!("the webhook's secret cannot be used: {error}"))?;
    mac.update(format!("{id}.{timestamp_s}.").as_bytes());
    mac.update(body);
    Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

/// The id of a message.
pub(super) fn message_id(node: &str, handed: &Handed) -> String {
    let place = handed.id.to_string();
    let priority = shown::read_properties(&handed.message).priority.unwrap_or_default().to_string();
    let published = handed.message.published_ms().to_string();
    id("msg", [node, &place, &priority, &published].into_iter())
}

/// The id of several messages together.
pub(super) fn batch_id<'i>(ids: impl Iterator<Item = &'i str>) -> String {
    id("batch", ids)
}

/// The id of a run without messages.
pub(super) fn run_id(node: &str, run: &Run) -> String {
    let (number, fired) = (run.id.to_string(), run.cause.fired_ms.to_string());
    id("run", [node, &run.vhost, &run.trigger, &number, &fired].into_iter())
}

fn id<'p>(kind: &str, parts: impl Iterator<Item = &'p str>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let hash = hash.finalize();
    let digits = hash[..ID_BYTES].iter().map(|byte| format!("{byte:02x}"));
    format!("{kind}_{}", digits.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::trigger::run::HandedId;
    use crate::runners::tests::{handed, run};

    #[test]
    fn signatures_are_those_of_the_specification() {
        // The example of its libraries' tests.
        let secret = Secret::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let body = br#"{"test": 2432232314}"#;
        let signature = sign(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body).unwrap();
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let bare = Secret::from("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        assert_eq!(sign(&bare, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body), Ok(signature));
        assert!(sign(&Secret::from("whsec_%"), "x", 0, b"").is_err());
    }

    #[test]
    fn a_message_keeps_its_id_and_no_other_has_it() {
        let one = handed(b"one");
        let id = message_id("rabbit@a", &one);
        assert!(id.starts_with("msg_") && id.len() == 36, "{id}");
        let again = Handed { redelivered: false, attempt: 9, ..one.clone() };
        assert_eq!(message_id("rabbit@a", &again), id);
        let other = Handed { id: HandedId { queue: 4, place: 10 }, ..one.clone() };
        let ids = [message_id("rabbit@a", &other), message_id("rabbit@b", &one)];
        assert!(!ids.contains(&id) && ids[0] != ids[1]);
        assert_ne!(batch_id([&*id].into_iter()), batch_id([&*id, &ids[0]].into_iter()));
        assert!(run_id("rabbit@a", &run(Vec::new())).starts_with("run_"));
    }
}
