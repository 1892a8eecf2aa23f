//! The files of `spec/` as values: read by the generator and by the tests that interpret them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// `spec/amqp-0-9-1.toml`.
#[derive(Debug, Deserialize)]
pub(crate) struct Protocol {
    pub(crate) domains: BTreeMap<String, Domain>,
    #[serde(rename = "reply-code")]
    pub(crate) reply_codes: Vec<ReplyCode>,
    #[serde(rename = "property")]
    pub(crate) properties: Vec<Property>,
    #[serde(rename = "class")]
    pub(crate) classes: Vec<Class>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Domain {
    #[serde(rename = "type")]
    pub(crate) kind: Kind,
    pub(crate) about: String,
}

/// A type as it stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Bit,
    Octet,
    Short,
    Long,
    LongLong,
    ShortStr,
    LongStr,
    Timestamp,
    Table,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ReplyCode {
    pub(crate) name: String,
    pub(crate) value: u16,
    pub(crate) class: Option<String>,
    pub(crate) about: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Property {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: Kind,
    pub(crate) bit: u8,
    pub(crate) about: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Class {
    pub(crate) name: String,
    pub(crate) id: u16,
    pub(crate) about: String,
    #[serde(rename = "method")]
    pub(crate) methods: Vec<Method>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Method {
    pub(crate) name: String,
    pub(crate) id: u16,
    pub(crate) from: From,
    #[serde(default)]
    pub(crate) synchronous: bool,
    #[serde(default)]
    pub(crate) replies: Vec<String>,
    #[serde(default)]
    pub(crate) content: bool,
    #[serde(default)]
    pub(crate) extension: bool,
    pub(crate) about: String,
    #[serde(default)]
    pub(crate) fields: Vec<Field>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum From {
    Client,
    Server,
    Both,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Field {
    pub(crate) name: String,
    domain: String,
    pub(crate) default: Option<toml::Value>,
    #[serde(default)]
    pub(crate) reserved: bool,
    about: Option<String>,
}

impl Protocol {
    /// Reads the file; a mistake in it fails the test with its line.
    pub(crate) fn read() -> Self {
        let protocol: Self = parse("amqp-0-9-1.toml");
        for method in protocol.classes.iter().flat_map(|class| &class.methods) {
            assert_eq!(method.synchronous, !method.replies.is_empty(), "{}", method.name);
        }
        protocol
    }

    /// The type of a field, whether its domain is one or stands for one.
    pub(crate) fn kind(&self, field: &Field) -> Kind {
        if let Some(domain) = self.domains.get(&field.domain) {
            return domain.kind;
        }
        toml::Value::String(field.domain.clone()).try_into().expect("a type or a domain")
    }

    /// What a field means.
    pub(crate) fn about<'a>(&'a self, field: &'a Field) -> &'a str {
        let of_domain = || self.domains.get(&field.domain).map(|domain| domain.about.as_str());
        field.about.as_deref().or_else(of_domain).expect("a field says what it means")
    }
}

/// `spec/errors.toml`.
#[derive(Debug, Deserialize)]
pub(crate) struct Errors {
    #[serde(rename = "error")]
    pub(crate) errors: Vec<Error>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Error {
    pub(crate) id: String,
    pub(crate) scope: String,
    pub(crate) code: String,
    pub(crate) text: String,
    #[serde(default)]
    pub(crate) bare: bool,
}

impl Errors {
    pub(crate) fn read() -> Self {
        parse("errors.toml")
    }
}

/// A part of a text template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Literal(String),
    Parameter(String),
}

impl Error {
    /// The template's parts; `{{` and `}}` stand for braces, as in Rust's format strings.
    pub(crate) fn pieces(&self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = self.text.as_str();
        while let Some(first) = rest.chars().next() {
            if rest.starts_with("{{") || rest.starts_with("}}") {
                literal.push(first);
                rest = &rest[2..];
            } else if let Some(after) = rest.strip_prefix('{') {
                let (name, after) = after.split_once('}').expect("a closed brace");
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                pieces.push(Piece::Parameter(name.to_owned()));
                rest = after;
            } else {
                assert_ne!(first, '}', "{}: a brace that was not opened", self.id);
                literal.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
        pieces.push(Piece::Literal(literal));
        pieces
    }
}

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of `spec/`.
pub(crate) fn path(name: &str) -> PathBuf {
    root().join("spec").join(name)
}

fn parse<T: serde::de::DeserializeOwned>(name: &str) -> T {
    let text = std::fs::read_to_string(path(name)).unwrap();
    toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}
