//! Message properties: built for publishing, and read from what was delivered.

use leveret::protocol::properties::Properties;
use leveret::protocol::table::{RawTable, Table, Value};

/// Properties to publish with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Props {
    content_type: Option<String>,
    headers: Option<Table>,
    delivery_mode: Option<u8>,
    priority: Option<u8>,
    correlation_id: Option<String>,
    reply_to: Option<String>,
    expiration: Option<String>,
    message_id: Option<String>,
    timestamp: Option<u64>,
    user_id: Option<String>,
}

/// No properties.
pub(crate) fn props() -> Props {
    Props::default()
}

macro_rules! setters {
    ($($name:ident: $type:ty),* $(,)?) => {
        $(pub(crate) fn $name(mut self, value: impl Into<$type>) -> Self {
            self.$name = Some(value.into());
            self
        })*
    };
}

impl Props {
    setters! {
        content_type: String,
        correlation_id: String,
        delivery_mode: u8,
        expiration: String,
        message_id: String,
        priority: u8,
        reply_to: String,
        timestamp: u64,
        user_id: String,
    }

    /// Asks to survive a restart.
    pub(crate) fn persistent(self) -> Self {
        self.delivery_mode(2)
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.headers.get_or_insert_default().insert(name, value);
        self
    }

    /// The bytes of a content header's properties.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut headers = Vec::new();
        self.headers.iter().for_each(|table| table.encode_body(&mut headers));
        let properties = Properties {
            content_type: bytes(&self.content_type),
            headers: self.headers.is_some().then(|| RawTable::parse(&headers).unwrap()),
            delivery_mode: self.delivery_mode,
            priority: self.priority,
            correlation_id: bytes(&self.correlation_id),
            reply_to: bytes(&self.reply_to),
            expiration: bytes(&self.expiration),
            message_id: bytes(&self.message_id),
            timestamp: self.timestamp,
            user_id: bytes(&self.user_id),
            ..Properties::default()
        };
        let mut out = Vec::new();
        properties.encode(&mut out);
        out
    }
}

fn bytes(text: &Option<String>) -> Option<&[u8]> {
    text.as_ref().map(String::as_bytes)
}

/// Strings as an array of long strings.
pub(crate) fn array<const N: usize>(texts: [&str; N]) -> Value {
    Value::Array(texts.into_iter().map(Value::from).collect())
}
