//! Publishing: RabbitMQ's checks in RabbitMQ's order, then routing, then the queues.
//!
//! The common case touches the properties once (to check them), finds its route in the connection's
//! memory, builds the message with one allocation and gathers it for its queues.

use std::sync::Arc;

use super::content::{Body, Content};
use super::tx::Publish;
use super::{Channel, Mode};
use crate::broker::exchange::Traits;
use crate::broker::message::{Envelope, Message};
use crate::broker::queue::Queue;
use crate::broker::vhost::Routed;
use crate::broker::views::NodeCounters;
use crate::broker::{Broker, REPLY_TO};
use crate::protocol::frame;
use crate::protocol::method::{Method, basic as methods};
use crate::protocol::properties::{Properties, Summary};
use crate::protocol::refusal::{self, Refusal};
use crate::protocol::reply_code::ReplyCode;
use crate::protocol::table::{RawTable, Table, ValueRef};
use crate::session::core::Core;
use crate::store::{Batch, Durability, Progress};

const CLASS_BASIC: u16 = 60;
/// RabbitMQ's longest expiration: ten years, in milliseconds.
const EXPIRATION_MS_MAX: i128 = 315_360_000_000;

/// Where a message goes.
pub(super) enum Targets {
    /// A route that the connection remembers.
    Known(usize),
    /// Queues found for this message alone.
    Once(Vec<Arc<Queue>>),
    /// A channel that consumes direct replies, by routing key.
    Reply,
    /// Nowhere: it has been where it would go.
    Duplicate,
    /// To be found with the message, once it is built.
    Unknown,
}

/// What publishing changes in a message.
#[derive(Default)]
struct Rewritten {
    /// Other properties than the publisher's: the reply address is a real one.
    properties: Option<Vec<u8>>,
    hides_bcc: bool,
}

/// A copy routing key, or several, of a message (CC and BCC).
#[derive(Default)]
struct Copies {
    keys: Vec<Vec<u8>>,
    has_bcc: bool,
}

impl Copies {
    /// All of a message's keys, its own first.
    fn with<'k>(&'k self, own: &'k [u8]) -> Vec<&'k [u8]> {
        std::iter::once(own).chain(self.keys.iter().map(Vec::as_slice)).collect()
    }
}

impl Channel {
    pub(super) fn publish(
        &mut self,
        core: &mut Core,
        content: &Content,
        body: Body<'_>,
    ) -> Result<(), Refusal> {
        if content.immediate {
            return Err(refusal::basic_immediate());
        }
        let size = content.body_size.unwrap_or_default();
        if size > core.settings.message_bytes_max {
            let max = core.settings.message_bytes_max;
            return Err(refusal::basic_message_too_large(size, max));
        }
        let Ok(summary) = Summary::peek(&content.properties) else {
            // RabbitMQ reads them when it knows the exchange.
            core.publishable(&content.exchange)?;
            return Err(refusal::content_malformed_properties());
        };
        let generation = core.vhost.generation();
        let mut rewritten = Rewritten::default();
        let targets = if summary.has_headers
            || summary.has_reply_to
            || summary.has_expiration
            || summary.has_user_id
        {
            self.route_with_care(core, content, generation, &mut rewritten)?
        } else {
            route(core, content, generation, None)?
        };
        core.tally.receive(size);
        if !self.has_published {
            self.has_published = true;
            NodeCounters::add(&core.broker.counters().publishers, 1);
        }
        if matches!(self.mode, Mode::Confirm(_)) {
            core.tally.received_confirm += 1;
        }
        let envelope = Envelope {
            exchange: &content.exchange,
            routing_key: &content.routing_key,
            properties: rewritten.properties.as_deref().unwrap_or(&content.properties),
            persistent: summary.is_persistent(),
            hides_bcc: rewritten.hides_bcc,
            published_ms: core.now.unix_ms,
        };
        let message = match body {
            Body::Borrowed(bytes) => Message::new(&envelope, bytes),
            Body::Gathered(bytes) => Message::with_large_body(&envelope, bytes),
        };
        let targets = match targets {
            Targets::Unknown => route_built(core, &message)?,
            known => known,
        };
        if core.vhost.is_traced() {
            self.trace_publish(core, &message, &targets);
        }
        if let Mode::Transaction(transaction) = &mut self.mode {
            let queues = match targets {
                Targets::Known(at) => Some(core.routes.at(at).queues.clone()),
                Targets::Once(queues) => Some(queues),
                Targets::Reply | Targets::Unknown => None,
                Targets::Duplicate => return Ok(()),
            };
            transaction.publish(Publish { message, queues, mandatory: content.mandatory });
            return Ok(());
        }
        self.hand_over(core, message, &targets, content.mandatory);
        Ok(())
    }

    /// Gathers a message for its queues, returns it, or drops it, and numbers its confirm.
    fn hand_over(&mut self, core: &mut Core, message: Message, targets: &Targets, mandatory: bool) {
        if let Mode::Confirm(ledger) = &mut self.mode {
            ledger.publish();
            core.gathered.await_publishes();
            if !std::mem::replace(&mut self.is_confirming, true) {
                core.confirming.push(self.number);
            }
        }
        let queues = match targets {
            Targets::Known(at) => {
                let route = core.routes.at(*at);
                if route.may_reject {
                    let queues = route.queues.clone();
                    return self.offer(core, &message, &queues);
                }
                &route.queues
            }
            Targets::Once(queues) => {
                if queues.iter().any(|queue| queue.may_reject()) {
                    return self.offer(core, &message, queues);
                }
                queues
            }
            Targets::Reply => {
                let key = message.routing_key().to_vec();
                core.broker.reply(&key, message, &mut core.effects.wakes);
                core.tally.routed += 1;
                return;
            }
            Targets::Duplicate => return self.confirm_duplicate(core),
            Targets::Unknown => &Vec::new(),
        };
        if queues.is_empty() {
            return self.unroutable(core, &message, mandatory);
        }
        core.tally.routed += 1;
        core.gathered.publish(queues, message);
    }

    /// Confirms a message that was dropped because it had come before: not before everything that
    /// the store has been given is durable, for the original is among it.
    fn confirm_duplicate(&mut self, core: &mut Core) {
        core.flush();
        core.tally.routed += 1;
        if let Mode::Confirm(ledger) = &mut self.mode {
            let last = core.broker.store().submit(Batch::default());
            core.flushed = core.flushed.and(Progress::at(last, Durability::Fsync));
            ledger.assign(core.flushed);
        }
    }

    /// Publishes to queues of which at least one may refuse: the answer is needed at once. Those
    /// that take the message do so in one batch.
    fn offer(&mut self, core: &mut Core, message: &Message, queues: &[Arc<Queue>]) {
        // Earlier publishes of this channel come first, and have their own answer.
        core.flush();
        let flushed = core.flushed;
        let mut refused = false;
        let mut queues: Vec<&Arc<Queue>> = queues.iter().collect();
        queues.sort_unstable_by_key(|queue| queue.key());
        let mut changes: Vec<_> = queues.into_iter().map(Queue::begin).collect();
        let mut batch = Batch { ops: Vec::new(), awaited: true };
        for change in &mut changes {
            let (ops, effects) = (&mut batch.ops, &mut core.effects);
            refused |= !change.offer(message.clone(), core.now, ops, effects);
        }
        if !batch.is_empty() {
            let lsn = core.broker.store().submit(batch);
            core.flushed = core.flushed.and(Progress::at(lsn, Durability::Fsync));
        }
        drop(changes);
        core.tally.routed += 1;
        if refused {
            core.vhost.withdraw(message);
        }
        if let Mode::Confirm(ledger) = &mut self.mode {
            if refused {
                ledger.assign_before_last(flushed);
                ledger.refuse();
            } else {
                ledger.assign(core.flushed);
            }
        }
        core.broker.finish(&mut core.effects, core.now);
    }

    pub(super) fn unroutable(&mut self, core: &mut Core, message: &Message, mandatory: bool) {
        if !mandatory {
            core.tally.unroutable_dropped += 1;
            return;
        }
        core.tally.unroutable_returned += 1;
        let returned = Method::BasicReturn(methods::Return {
            reply_code: ReplyCode::NO_ROUTE.0,
            reply_text: "NO_ROUTE".as_ref(),
            exchange: message.exchange(),
            routing_key: message.routing_key(),
        });
        core.send(self.number, &returned);
        self.write_content(core, message);
    }

    /// Writes a message's header and body after the method that announces it.
    pub(super) fn write_content(&self, core: &mut Core, message: &Message) {
        if message.hides_bcc()
            && let Some(properties) = with_headers(message, |headers| {
                headers.remove("BCC");
            })
        {
            return self.write_content_as(core, message, &properties);
        }
        self.write_content_as(core, message, message.properties());
    }

    /// The same with other properties than the message's own.
    pub(super) fn write_content_as(&self, core: &mut Core, message: &Message, properties: &[u8]) {
        let size = message.body_len() as u64;
        let buffer = core.out.buffer();
        frame::content_header(buffer, self.number, CLASS_BASIC, size, properties);
        let payload_max = core.payload_max();
        core.out.body(self.number, message.body(), message.large_body(), payload_max);
    }

    /// The checks that need the properties themselves, then routing.
    fn route_with_care(
        &self,
        core: &mut Core,
        content: &Content,
        generation: u64,
        rewritten: &mut Rewritten,
    ) -> Result<Targets, Refusal> {
        core.publishable(&content.exchange)?;
        let properties = Properties::parse(&content.properties)
            .map_err(|_| refusal::content_malformed_properties())?;
        let reply_to = match properties.reply_to {
            Some(reply_to) if reply_to == REPLY_TO.as_bytes() => {
                let consumer = self.reply_consumer.as_ref();
                Some(&consumer.ok_or_else(refusal::reply_to_no_consumer)?.key)
            }
            _ => None,
        };
        if let Some(expiration) = properties.expiration {
            check_expiration(expiration)?;
        }
        let copies = properties.headers.map(copies).transpose()?;
        if let Some(claimed) = properties.user_id
            && claimed != core.asker.rights.user().name.as_bytes()
            && !core.asker.rights.may_impersonate()
        {
            let claimed = String::from_utf8_lossy(claimed);
            let user = &core.asker.rights.user().name;
            return Err(refusal::basic_user_id_mismatch(claimed, user));
        }
        rewritten.hides_bcc = copies.as_ref().is_some_and(|copies| copies.has_bcc);
        if let Some(reply_to) = reply_to {
            let mut encoded = Vec::new();
            let reply_to = Some(reply_to.as_bytes());
            Properties { reply_to, ..properties }.encode(&mut encoded);
            rewritten.properties = Some(encoded);
        }
        // A reply goes to its requester alone.
        let is_reply = content.exchange.is_empty() && Broker::is_reply_key(&content.routing_key);
        match copies.filter(|copies| !copies.keys.is_empty() && !is_reply) {
            None => route(core, content, generation, Some(&properties)),
            Some(copies) => {
                let keys = copies.with(&content.routing_key);
                let exchange = core.publishable_with(&content.exchange, &keys)?;
                let mut queues = Vec::new();
                let traits = Traits { keys: &keys, properties: &properties, message: None };
                match core.vhost.route(&exchange, traits, &mut queues) {
                    Routed::NeedsMessage => Ok(Targets::Unknown),
                    Routed::ByKey | Routed::Once | Routed::Duplicate => Ok(Targets::Once(queues)),
                }
            }
        }
    }
}

fn route(
    core: &mut Core,
    content: &Content,
    generation: u64,
    properties: Option<&Properties<'_>>,
) -> Result<Targets, Refusal> {
    let (exchange_name, key) = (content.exchange.as_slice(), content.routing_key.as_slice());
    if let Some(at) = core.routes.find(generation, exchange_name, key) {
        return Ok(Targets::Known(at));
    }
    // A route that is known was one that the user may take: it is forgotten when that changes.
    let exchange = core.publishable_with(exchange_name, &[key])?;
    // Routed whether or not its requester is still there: a late reply vanishes.
    if exchange_name.is_empty() && Broker::is_reply_key(key) {
        return Ok(Targets::Reply);
    }
    let mut queues = Vec::new();
    let parsed;
    let properties = match properties {
        Some(properties) => properties,
        None => {
            parsed = Properties::parse(&content.properties)
                .map_err(|_| refusal::content_malformed_properties())?;
            &parsed
        }
    };
    let traits = Traits { keys: &[key], properties, message: None };
    match core.vhost.route(&exchange, traits, &mut queues) {
        Routed::NeedsMessage => Ok(Targets::Unknown),
        Routed::Once | Routed::Duplicate => Ok(Targets::Once(queues)),
        // A key that reaches nothing is not worth remembering, and clients could make up many.
        Routed::ByKey if queues.is_empty() => Ok(Targets::Once(queues)),
        Routed::ByKey => {
            Ok(Targets::Known(core.routes.learn(generation, exchange_name, key, queues)))
        }
    }
}

/// Routes a message that an exchange on its way has to be shown.
fn route_built(core: &mut Core, message: &Message) -> Result<Targets, Refusal> {
    let exchange = core.publishable(message.exchange())?;
    let properties = Properties::parse(message.properties())
        .map_err(|_| refusal::content_malformed_properties())?;
    let copies = properties.headers.map(copies).transpose()?.unwrap_or_default();
    let keys = copies.with(message.routing_key());
    let traits = Traits { keys: &keys, properties: &properties, message: Some(message) };
    let mut queues = Vec::new();
    Ok(match core.vhost.route(&exchange, traits, &mut queues) {
        Routed::Duplicate if queues.is_empty() => Targets::Duplicate,
        _ => Targets::Once(queues),
    })
}

/// The keys of CC and BCC. Elements that are no strings are ignored, as in RabbitMQ.
fn copies(headers: RawTable<'_>) -> Result<Copies, Refusal> {
    let mut copies = Copies::default();
    for name in ["CC", "BCC"] {
        match headers.get(name) {
            None => continue,
            Some(ValueRef::Array(keys)) => {
                let keys = keys.iter().filter_map(|key| match key {
                    ValueRef::LongStr(key) => Some(key.to_vec()),
                    _ => None,
                });
                copies.keys.extend(keys);
            }
            Some(other) => {
                return Err(refusal::basic_invalid_cc(name, other.to_value().type_name()));
            }
        }
        copies.has_bcc |= name == "BCC";
    }
    Ok(copies)
}

/// A message's properties with changed headers; `None` when they cannot be encoded any more.
pub(super) fn with_headers(message: &Message, change: impl FnOnce(&mut Table)) -> Option<Vec<u8>> {
    let properties = Properties::parse(message.properties()).ok()?;
    let mut headers = properties.headers.map(|raw| raw.to_table()).unwrap_or_default();
    change(&mut headers);
    let mut encoded_headers = Vec::new();
    headers.encode_body(&mut encoded_headers);
    let headers = Some(RawTable::parse(&encoded_headers).ok()?);
    let mut encoded = Vec::new();
    Properties { headers, ..properties }.encode(&mut encoded);
    Some(encoded)
}

fn check_expiration(expiration: &[u8]) -> Result<(), Refusal> {
    let shown = String::from_utf8_lossy(expiration);
    let bad = |reason: String| Err(refusal::basic_invalid_expiration(&shown, reason));
    let digits = shown.strip_prefix(['-', '+']).unwrap_or(&shown);
    let digits_len = digits.bytes().take_while(u8::is_ascii_digit).count();
    if digits_len == 0 {
        return bad("no_integer".into());
    }
    let (_, rest) = digits.split_at(digits_len);
    if !rest.is_empty() {
        return bad(format!("{{leftover_string,\"{rest}\"}}"));
    }
    match shown.parse::<i128>() {
        Ok(n) if n < 0 => bad(format!("{{value_negative,{n}}}")),
        Ok(n) if n <= EXPIRATION_MS_MAX => Ok(()),
        _ => bad(format!("{{value_too_large,{shown}}}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expirations_are_decimal_milliseconds_up_to_ten_years() {
        for good in ["0", "1", "60000", "315360000000"] {
            assert!(check_expiration(good.as_bytes()).is_ok(), "{good}");
        }
        for (bad, reason) in [
            ("", "no_integer"),
            ("soon", "no_integer"),
            ("10s", "{leftover_string,\"s\"}"),
            ("-1", "{value_negative,-1}"),
            ("315360000001", "{value_too_large,315360000001}"),
        ] {
            let refusal = check_expiration(bad.as_bytes()).unwrap_err();
            let text = format!("PRECONDITION_FAILED - invalid expiration '{bad}': {reason}");
            assert_eq!(refusal.text, text);
        }
        crate::covers!("basic.invalid-expiration");
    }
}
