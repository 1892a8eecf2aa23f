//! A trigger's definition as JSON: in the HTTP API, in the store, in definitions files.
//!
//! What is left out has a default; what is not known, or makes no sense, is refused with the
//! field's name, for a trigger that silently does something else is worse than none. A webhook's
//! secret is only written for the store.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::condition::{Condition, Header, Kind, Scalar, Schedule, Selection};
use super::run::{Action, Webhook};
use super::spec::{Mode, TriggerAction, TriggerSpec};

/// Ten years, as for times to live.
const MS_MAX: u64 = 315_360_000_000;
/// Messages of one batch.
const BATCH_MAX: u64 = 10_000;
/// Runs of one trigger at once.
const CONCURRENCY_MAX: u64 = 1_000;
/// Conditions within one.
const WITHIN_MAX: usize = 16;
/// Conditions of a trigger altogether.
const CONDITIONS_MAX: usize = 32;
/// Conditions within conditions.
const DEPTH_MAX: u32 = 4;
/// Headers that a message must have, or that a webhook sends.
const HEADERS_MAX: usize = 16;
/// Bytes of a text.
const TEXT_MAX: usize = 4_096;
const WEBHOOK_TIMEOUT_MS: u64 = 30_000;

/// A definition that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct SpecError {
    /// Where, such as `condition.count`.
    pub field: String,
    /// Why.
    pub reason: String,
}

type Parsed<T> = Result<T, SpecError>;

/// Who is to read what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// Whoever asks.
    Anyone,
    /// The store.
    Store,
}

/// The fields of an object, each to be taken once; what is left over is refused.
struct Fields {
    left: Map<String, Json>,
    path: String,
}

impl Fields {
    fn of(value: &Json, path: &str) -> Parsed<Self> {
        match value {
            Json::Object(fields) => Ok(Self { left: fields.clone(), path: path.to_owned() }),
            _ => Err(error(path, "must be an object")),
        }
    }

    fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn error(&self, name: &str, reason: impl Into<String>) -> SpecError {
        error(&self.path(name), reason)
    }

    /// A field, if it is there; null counts as not there.
    fn take(&mut self, name: &str) -> Option<Json> {
        self.left.remove(name).filter(|value| !value.is_null())
    }

    fn needed(&mut self, name: &str) -> Parsed<Json> {
        self.take(name).ok_or_else(|| self.error(name, "is missing"))
    }

    fn number(&mut self, name: &str, min: u64, max: u64) -> Parsed<Option<u64>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = value.as_u64().filter(|n| (min..=max).contains(n));
        let refused = || self.error(name, format!("must be a whole number from {min} to {max}"));
        number.map(Some).ok_or_else(refused)
    }

    fn count(&mut self, name: &str, default: u32, max: u64) -> Parsed<u32> {
        let number = self.number(name, 1, max)?;
        Ok(number.map_or(default, |number| u32::try_from(number).unwrap_or(u32::MAX)))
    }

    fn flag(&mut self, name: &str, default: bool) -> Parsed<bool> {
        match self.take(name) {
            None => Ok(default),
            Some(Json::Bool(flag)) => Ok(flag),
            Some(_) => Err(self.error(name, "must be true or false")),
        }
    }

    fn text(&mut self, name: &str) -> Parsed<Option<String>> {
        match self.take(name) {
            None => Ok(None),
            Some(Json::String(text)) if text.len() <= TEXT_MAX => Ok(Some(text)),
            Some(Json::String(_)) => {
                Err(self.error(name, format!("must have no more than {TEXT_MAX} bytes")))
            }
            Some(_) => Err(self.error(name, "must be a text")),
        }
    }

    fn needed_text(&mut self, name: &str) -> Parsed<String> {
        let text = self.text(name)?.filter(|text| !text.is_empty());
        text.ok_or_else(|| self.error(name, "is missing"))
    }

    fn done(self) -> Parsed<()> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(name) => Err(self.error(name, "is not known here")),
        }
    }
}

fn error(field: &str, reason: impl Into<String>) -> SpecError {
    SpecError { field: field.to_owned(), reason: reason.into() }
}

impl TriggerSpec {
    /// Understands a definition.
    ///
    /// # Errors
    /// At the first field that is missing, unknown or makes no sense.
    pub fn from_json(value: &Json) -> Parsed<Self> {
        let mut fields = Fields::of(value, "")?;
        let queue: Arc<str> = fields.needed_text("queue")?.into();
        let action = action(&fields.needed("action")?)?;
        let publishes = matches!(action, TriggerAction::Publish { .. });
        let mode = match (fields.text("mode")?.as_deref(), publishes) {
            (Some("event") | None, true) => Mode::Event,
            (Some("notify"), false) => Mode::Notify,
            (Some("deliver") | None, false) => Mode::Deliver,
            (Some("event"), false) => {
                return Err(error("mode", "event needs an action of type event"));
            }
            (Some("notify" | "deliver"), true) => {
                return Err(error("mode", "an action of type event needs mode event"));
            }
            (Some(_), _) => return Err(error("mode", "must be notify, deliver or event")),
        };
        let condition = condition(&fields.needed("condition")?, "condition", 1)?;
        if condition.size() > CONDITIONS_MAX {
            let reason = format!("must hold no more than {CONDITIONS_MAX} conditions");
            return Err(error("condition", reason));
        }
        let alone = match mode {
            Mode::Notify => true,
            Mode::Deliver => false,
            Mode::Event => !condition.is_every(),
        };
        let delivers = mode == Mode::Deliver;
        for name in ["batch_max", "attempts_max"] {
            if !delivers && fields.left.contains_key(name) {
                let reason = format!("has no meaning in mode {}", mode.name());
                return Err(error(name, reason));
            }
        }
        let plain = Self::new(queue, condition, mode, action, alone);
        let interval_ms = fields.number("starts_interval_ms", 1, MS_MAX)?;
        let retry_ms = fields.number("retry_delay_ms", 0, MS_MAX)?;
        let cooldown_ms = fields.number("cooldown_ms", 0, MS_MAX)?;
        let spec = Self {
            batch_max: fields.count("batch_max", plain.batch_max, BATCH_MAX)?,
            concurrency: fields.count("concurrency", plain.concurrency, CONCURRENCY_MAX)?,
            attempts_max: fields.count("attempts_max", plain.attempts_max, 1_000_000)?,
            retry_delay_ms: retry_ms.unwrap_or(plain.retry_delay_ms),
            cooldown_ms: cooldown_ms.unwrap_or(plain.cooldown_ms),
            starts_max: fields.count("starts_max", plain.starts_max, 1_000_000)?,
            starts_interval_ms: interval_ms.unwrap_or(plain.starts_interval_ms),
            one_shot: fields.flag("one_shot", plain.one_shot)?,
            only_without_consumers: fields.flag("only_without_consumers", alone)?,
            enabled: fields.flag("enabled", plain.enabled)?,
            ..plain
        };
        // What a trigger is shown with besides, so that it can be sent back as it was shown.
        ["vhost", "name", "status"].iter().for_each(|name| drop(fields.take(name)));
        fields.done()?;
        Ok(spec)
    }

    /// The definition in full.
    #[must_use]
    pub fn to_json(&self, reader: Reader) -> Json {
        let mut all = json!({
            "queue": &*self.queue,
            "condition": self.condition.to_json(),
            "mode": self.mode.name(),
            "action": action_json(&self.action, reader),
            "concurrency": self.concurrency,
            "retry_delay_ms": self.retry_delay_ms,
            "cooldown_ms": self.cooldown_ms,
            "starts_max": self.starts_max,
            "starts_interval_ms": self.starts_interval_ms,
            "one_shot": self.one_shot,
            "only_without_consumers": self.only_without_consumers,
            "enabled": self.enabled,
        });
        if self.mode == Mode::Deliver {
            all["batch_max"] = self.batch_max.into();
            all["attempts_max"] = self.attempts_max.into();
        }
        all
    }
}

// ---- conditions ------------------------------------------------------------------------------

fn condition(value: &Json, path: &str, depth: u32) -> Parsed<Condition> {
    if depth > DEPTH_MAX {
        return Err(error(path, format!("must not lie deeper than {DEPTH_MAX}")));
    }
    let mut fields = Fields::of(value, path)?;
    let kind_name = fields.needed_text("type")?;
    let mut selection = Selection {
        min_priority: u8::try_from(fields.number("min_priority", 0, 255)?.unwrap_or(0))
            .unwrap_or(u8::MAX),
        headers: filter(&mut fields)?,
    };
    let many = |fields: &mut Fields, name: &str| {
        fields.number(name, 1, u64::MAX)?.ok_or_else(|| fields.error(name, "is missing"))
    };
    let ms = |fields: &mut Fields, name: &str| {
        fields.number(name, 1, MS_MAX)?.ok_or_else(|| fields.error(name, "is missing"))
    };
    let kind = match &*kind_name {
        "every" => Kind::Every,
        "first" => Kind::First,
        "depth" => Kind::Depth { count: many(&mut fields, "count")? },
        "age" => Kind::Age { age_ms: ms(&mut fields, "age_ms")? },
        "rate" => Kind::Rate {
            count: many(&mut fields, "count")?,
            window_ms: ms(&mut fields, "window_ms")?,
        },
        "no_consumers" => Kind::NoConsumers { for_ms: ms(&mut fields, "for_ms")? },
        "schedule" => Kind::Schedule(schedule(&mut fields)?),
        "header" => {
            let name = fields.needed_text("name")?;
            let value = fields.take("value").map(|it| scalar(&it, &fields.path("value")));
            selection.headers.push(Header { name, value: value.transpose()? });
            Kind::First
        }
        "any_of" => Kind::AnyOf(within(&mut fields, depth)?),
        "all_of" => Kind::AllOf(within(&mut fields, depth)?),
        _ => {
            let known =
                "every, first, depth, age, rate, no_consumers, schedule, header, any_of or all_of";
            return Err(fields.error("type", format!("must be {known}")));
        }
    };
    let max_wait_ms = fields.number("max_wait_ms", 1, MS_MAX)?;
    let can_wait =
        matches!(kind, Kind::Depth { .. } | Kind::Rate { .. } | Kind::AnyOf(_) | Kind::AllOf(_));
    if max_wait_ms.is_some() && !can_wait {
        let reason = format!("has no meaning for a condition of type {kind_name}");
        return Err(fields.error("max_wait_ms", reason));
    }
    fields.done()?;
    Ok(Condition { kind, selection, max_wait_ms })
}

fn filter(fields: &mut Fields) -> Parsed<Vec<Header>> {
    let Some(value) = fields.take("filter") else { return Ok(Vec::new()) };
    let path = fields.path("filter");
    let Json::Object(headers) = value else { return Err(error(&path, "must be an object")) };
    if headers.len() > HEADERS_MAX {
        return Err(error(&path, format!("must hold no more than {HEADERS_MAX} headers")));
    }
    let header = |(name, value): (&String, &Json)| {
        let value = match value {
            Json::Null => None,
            value => Some(scalar(value, &format!("{path}.{name}"))?),
        };
        Ok(Header { name: name.clone(), value })
    };
    headers.iter().map(header).collect()
}

fn scalar(value: &Json, path: &str) -> Parsed<Scalar> {
    match value {
        Json::Bool(value) => Ok(Scalar::Bool(*value)),
        Json::String(text) if text.len() <= TEXT_MAX => Ok(Scalar::Text(text.clone())),
        value => {
            let whole = value.as_i64().map(Scalar::Integer);
            whole.ok_or_else(|| error(path, "must be a text, a whole number, true or false"))
        }
    }
}

fn schedule(fields: &mut Fields) -> Parsed<Schedule> {
    let every_ms = fields.number("every_ms", 100, MS_MAX)?;
    match (every_ms, fields.text("daily_at")?) {
        (Some(every_ms), None) => Ok(Schedule::Every(every_ms)),
        (None, Some(time)) => {
            let minute = minute_of_day(&time);
            minute.map(Schedule::DailyAt).ok_or_else(|| {
                fields.error("daily_at", "must be a time of day, such as 03:30 (UTC)")
            })
        }
        _ => Err(fields.error("every_ms", "is needed, or daily_at, and not both")),
    }
}

fn minute_of_day(time: &str) -> Option<u16> {
    let (hour, minute) = time.split_once(':')?;
    let number = |text: &str, below: u16| {
        let is_plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|n: &u16| is_plain && *n < below)
    };
    Some(number(hour, 24)? * 60 + number(minute, 60)?)
}

fn within(fields: &mut Fields, depth: u32) -> Parsed<Vec<Condition>> {
    let path = fields.path("of");
    let Json::Array(of) = fields.needed("of")? else {
        return Err(error(&path, "must be a list of conditions"));
    };
    if of.is_empty() || of.len() > WITHIN_MAX {
        return Err(error(&path, format!("must hold from 1 to {WITHIN_MAX} conditions")));
    }
    let one = |(at, value): (usize, &Json)| condition(value, &format!("{path}[{at}]"), depth + 1);
    of.iter().enumerate().map(one).collect()
}

impl Condition {
    fn to_json(&self) -> Json {
        let list = |of: &[Self]| of.iter().map(Self::to_json).collect::<Vec<_>>();
        let mut all = match &self.kind {
            Kind::Every => json!({"type": "every"}),
            Kind::First => json!({"type": "first"}),
            Kind::Depth { count } => json!({"type": "depth", "count": count}),
            Kind::Age { age_ms } => json!({"type": "age", "age_ms": age_ms}),
            Kind::Rate { count, window_ms } => {
                json!({"type": "rate", "count": count, "window_ms": window_ms})
            }
            Kind::NoConsumers { for_ms } => json!({"type": "no_consumers", "for_ms": for_ms}),
            Kind::Schedule(Schedule::Every(ms)) => json!({"type": "schedule", "every_ms": ms}),
            Kind::Schedule(Schedule::DailyAt(minute)) => {
                let time = format!("{:02}:{:02}", minute / 60, minute % 60);
                json!({"type": "schedule", "daily_at": time})
            }
            Kind::AnyOf(of) => json!({"type": "any_of", "of": list(of)}),
            Kind::AllOf(of) => json!({"type": "all_of", "of": list(of)}),
        };
        if self.selection.min_priority > 0 {
            all["min_priority"] = self.selection.min_priority.into();
        }
        if !self.selection.headers.is_empty() {
            let pair = |header: &Header| (header.name.clone(), scalar_json(header.value.as_ref()));
            all["filter"] = Json::Object(self.selection.headers.iter().map(pair).collect());
        }
        if let Some(max_wait_ms) = self.max_wait_ms {
            all["max_wait_ms"] = max_wait_ms.into();
        }
        all
    }
}

fn scalar_json(value: Option<&Scalar>) -> Json {
    match value {
        None => Json::Null,
        Some(Scalar::Bool(value)) => (*value).into(),
        Some(Scalar::Integer(value)) => (*value).into(),
        Some(Scalar::Text(value)) => value.as_str().into(),
    }
}

// ---- actions ---------------------------------------------------------------------------------

fn action(value: &Json) -> Parsed<TriggerAction> {
    let mut fields = Fields::of(value, "action")?;
    let action = match &*fields.needed_text("type")? {
        "program" => TriggerAction::Run(Arc::new(Action::Program {
            name: fields.needed_text("name")?.into(),
            data: fields.text("data")?.unwrap_or_default(),
        })),
        "webhook" => TriggerAction::Run(Arc::new(Action::Webhook(webhook(&mut fields)?))),
        "event" => TriggerAction::Publish {
            exchange: short(&mut fields, "exchange")?.into(),
            routing_key: short(&mut fields, "routing_key")?.into(),
            process: fields.text("process")?.map(Into::into),
            data: fields.text("data")?.unwrap_or_default(),
        },
        _ => return Err(fields.error("type", "must be program, webhook or event")),
    };
    fields.done()?;
    Ok(action)
}

/// A name or key as AMQP carries it.
fn short(fields: &mut Fields, name: &str) -> Parsed<String> {
    let text = fields.text(name)?.unwrap_or_default();
    if text.len() <= 255 { Ok(text) } else { Err(fields.error(name, "must fit 255 bytes")) }
}

fn webhook(fields: &mut Fields) -> Parsed<Webhook> {
    let url = fields.needed_text("url")?;
    if !(url.starts_with("https://") || url.starts_with("http://")) {
        return Err(fields.error("url", "must begin with https:// or http://"));
    }
    let mut headers = Vec::new();
    if let Some(value) = fields.take("headers") {
        let path = fields.path("headers");
        let Json::Object(given) = value else { return Err(error(&path, "must be an object")) };
        if given.len() > HEADERS_MAX {
            return Err(error(&path, format!("must hold no more than {HEADERS_MAX} headers")));
        }
        for (name, value) in given {
            let Json::String(value) = value else {
                return Err(error(&format!("{path}.{name}"), "must be a text"));
            };
            headers.push((name, value));
        }
    }
    let timeout_ms = fields.number("timeout_ms", 1, MS_MAX)?.unwrap_or(WEBHOOK_TIMEOUT_MS);
    let secret = fields.text("secret")?.map(Into::into);
    Ok(Webhook { url, secret, headers, timeout_ms })
}

fn action_json(action: &TriggerAction, reader: Reader) -> Json {
    match action {
        TriggerAction::Publish { exchange, routing_key, process, data } => json!({
            "type": "event",
            "exchange": &**exchange,
            "routing_key": &**routing_key,
            "process": process.as_deref(),
            "data": data,
        }),
        TriggerAction::Run(action) => match &**action {
            Action::Program { name, data } => {
                json!({"type": "program", "name": &**name, "data": data})
            }
            Action::Webhook(Webhook { url, secret, headers, timeout_ms }) => {
                let headers: Map<String, Json> =
                    headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
                let mut all = json!({
                    "type": "webhook",
                    "url": url,
                    "headers": headers,
                    "timeout_ms": timeout_ms,
                });
                if let (Reader::Store, Some(secret)) = (reader, secret) {
                    all["secret"] = String::from_utf8_lossy(secret.expose()).into();
                }
                all
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Json {
        json!({
            "queue": "mail",
            "condition": {"type": "any_of", "max_wait_ms": 5, "of": [
                {"type": "depth", "count": 10, "min_priority": 5, "max_wait_ms": 30_000},
                {"type": "first", "filter": {"kind": "reset", "urgent": true, "n": 3, "any": null}},
                {"type": "all_of", "of": [
                    {"type": "rate", "count": 3, "window_ms": 1000},
                    {"type": "no_consumers", "for_ms": 60_000},
                    {"type": "age", "age_ms": 1},
                ]},
                {"type": "schedule", "daily_at": "03:30"},
                {"type": "schedule", "every_ms": 60_000},
            ]},
            "mode": "deliver",
            "action": {
                "type": "webhook",
                "url": "https://example.org/hook",
                "secret": "whsec_hidden",
                "headers": {"x-a": "b"},
                "timeout_ms": 5000,
            },
            "batch_max": 100, "concurrency": 4, "attempts_max": 5, "retry_delay_ms": 10,
            "cooldown_ms": 20, "starts_max": 30, "starts_interval_ms": 40, "one_shot": true,
            "only_without_consumers": true, "enabled": false,
        })
    }

    fn with(path: &str, value: Json) -> Json {
        let mut all = full();
        *all.pointer_mut(path).unwrap() = value;
        all
    }

    #[test]
    fn a_definition_reads_back_as_it_was_written_and_hides_its_secret() {
        let spec = TriggerSpec::from_json(&full()).unwrap();
        assert_eq!(TriggerSpec::from_json(&spec.to_json(Reader::Store)), Ok(spec.clone()));
        assert_eq!(spec.to_json(Reader::Store), full());
        let shown = spec.to_json(Reader::Anyone).to_string();
        assert!(!shown.contains("hidden") && shown.contains("example.org"), "{shown}");
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_the_name_of_its_field() {
        let refused = |json: &Json| TriggerSpec::from_json(json).unwrap_err().to_string();
        let count = "must be a whole number from 1 to";
        for (path, value, expected) in [
            ("/queue", json!(""), "queue: is missing".to_owned()),
            ("/mode", json!("push"), "mode: must be notify, deliver or event".to_owned()),
            ("/mode", json!("event"), "mode: event needs an action of type event".to_owned()),
            ("/mode", json!("notify"), "batch_max: has no meaning in mode notify".to_owned()),
            ("/concurrency", json!(0), format!("concurrency: {count} 1000")),
            ("/one_shot", json!("yes"), "one_shot: must be true or false".to_owned()),
            (
                "/condition/of/0/count",
                json!(-1),
                format!("condition.of[0].count: {count} {}", u64::MAX),
            ),
            (
                "/condition/of/1",
                json!({"type": "first", "max_wait_ms": 1}),
                "condition.of[1].max_wait_ms: has no meaning for a condition of type first".into(),
            ),
            (
                "/condition/of/3/daily_at",
                json!("24:00"),
                "condition.of[3].daily_at: must be a time of day, such as 03:30 (UTC)".into(),
            ),
            (
                "/condition/of/2/of",
                json!([]),
                "condition.of[2].of: must hold from 1 to 16 conditions".into(),
            ),
            (
                "/action",
                json!({"type": "program", "name": "p", "command": "/bin/sh"}),
                "action.command: is not known here".into(),
            ),
            (
                "/action/url",
                json!("file:///etc/passwd"),
                "action.url: must begin with https:// or http://".into(),
            ),
        ] {
            assert_eq!(refused(&with(path, value)), expected);
        }
        assert_eq!(refused(&json!([])), ": must be an object");
        let deep = (0..5)
            .fold(json!({"type": "first"}), |inner, _| json!({"type": "all_of", "of": [inner]}));
        assert!(refused(&with("/condition", deep)).contains("must not lie deeper than 4"));
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let short = |condition: &str, action: Json| {
            let short = json!({"queue": "q", "condition": {"type": condition}, "action": action});
            TriggerSpec::from_json(&short).unwrap()
        };
        let program = short("first", json!({"type": "program", "name": "p"}));
        assert_eq!((program.mode, program.only_without_consumers), (Mode::Deliver, false));
        assert_eq!((program.batch_max, program.concurrency, program.attempts_max), (1, 1, 3));
        assert_eq!((program.starts_max, program.starts_interval_ms), (200, 2_000));
        assert!(program.enabled);
        let event = json!({"type": "event", "exchange": "init"});
        let first = short("first", event.clone());
        assert_eq!((first.mode, first.only_without_consumers), (Mode::Event, true));
        assert!(!short("every", event).only_without_consumers);
    }
}
