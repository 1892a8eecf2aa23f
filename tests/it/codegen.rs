//! The generator of the codec's tables: `spec/*.toml` in, checked-in Rust out.
//!
//! Generated files are part of the source, so that building the broker needs no generator and a
//! change shows in review. The test here generates them again and compares;
//! `UPDATE_SPEC=1 cargo test codegen` rewrites them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::spec::{Class, Errors, Field, From, Kind, Method, Piece, Protocol, root};

#[test]
fn generated_files_are_up_to_date() {
    let protocol = Protocol::read();
    let mut files = vec![
        ("method/any.rs".to_owned(), any_method(&protocol)),
        ("properties/basic.rs".to_owned(), properties(&protocol)),
        ("reply_code.rs".to_owned(), reply_codes(&protocol)),
        ("refusal/texts.rs".to_owned(), refusals(&Errors::read())),
    ];
    for class in &protocol.classes {
        files.push((format!("method/{}.rs", class.name), class_module(&protocol, class)));
    }
    let mut stale = Vec::new();
    for (name, text) in files {
        let path = root().join("src/protocol").join(&name);
        let text = formatted(&text);
        if std::fs::read_to_string(&path).is_ok_and(|current| current == text) {
            continue;
        }
        if std::env::var_os("UPDATE_SPEC").is_some() {
            std::fs::write(&path, text).unwrap();
        } else {
            stale.push(name);
        }
    }
    assert!(stale.is_empty(), "run `UPDATE_SPEC=1 cargo test codegen`: {stale:?} differ");
}

/// What rustfmt makes of a text, with the repository's settings.
fn formatted(text: &str) -> String {
    let mut rustfmt = Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path"])
        .arg(root().join("rustfmt.toml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("rustfmt comes with the toolchain");
    rustfmt.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = rustfmt.wait_with_output().unwrap();
    assert!(output.status.success(), "rustfmt refuses:\n{text}");
    String::from_utf8(output.stdout).unwrap()
}

/// The opening comment of a generated file.
fn header(about: &str, source: &str) -> String {
    format!(
        "//! {about}\n//!\n\
         //! Generated from `spec/{source}` by `tests/it/codegen.rs`; do not edit.\n\
         //! `UPDATE_SPEC=1 cargo test codegen` writes it anew.\n\n"
    )
}

// ---- methods ---------------------------------------------------------------------------------

/// `method/<class>.rs`: a struct per method with its reader and writer.
fn class_module(protocol: &Protocol, class: &Class) -> String {
    let mut body = String::new();
    for method in &class.methods {
        method_struct(&mut body, protocol, class, method);
    }
    let mut out = header(&format!("Class {}. {}", class.name, class.about), SOURCE);
    let words: BTreeSet<&str> = body.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let used = |names: &[&'static str]| {
        names.iter().copied().filter(|name| words.contains(name)).collect::<Vec<_>>().join(", ")
    };
    let readers = used(&["be_u8", "be_u16", "be_u32", "be_u64"]);
    if !readers.is_empty() {
        let _ = writeln!(out, "use nom::number::complete::{{{readers}}};\n");
    }
    if words.contains("RawTable") {
        out.push_str("use crate::protocol::table::RawTable;\n");
    }
    let helpers = used(&[
        "Fault",
        "long_bytes",
        "nothing",
        "put_long_bytes",
        "put_short_bytes",
        "short_bytes",
        "text",
        "whole",
    ]);
    let _ = writeln!(out, "use crate::protocol::wire::{{{helpers}}};\n");
    out + &body
}

const SOURCE: &str = "amqp-0-9-1.toml";

fn method_struct(out: &mut String, protocol: &Protocol, class: &Class, method: &Method) {
    let name = camel(&method.name);
    let shown: Vec<&Field> = method.fields.iter().filter(|field| !field.reserved).collect();
    let lifetime = if borrows(protocol, method) { "<'a>" } else { "" };
    let elided = if lifetime.is_empty() { "" } else { "<'_>" };
    let defaults = defaults(protocol, method);

    let _ = writeln!(out, "/// `{}.{}`: {}", class.name, method.name, lower_first(&method.about));
    out.push_str("///\n/// ");
    out.push_str(match method.from {
        From::Client => "Sent by the client",
        From::Server => "Sent by the server",
        From::Both => "Sent by either side",
    });
    if method.content {
        out.push_str(", followed by content");
    }
    if !method.replies.is_empty() {
        let replies: Vec<String> =
            method.replies.iter().map(|reply| format!("[`{}`]", camel(reply))).collect();
        let _ = write!(out, "; answered with {}", replies.join(" or "));
    }
    out.push_str(if method.extension { ". An extension of RabbitMQ's.\n" } else { ".\n" });
    let default = if defaults.is_some() { "" } else { ", Default" };
    let _ = writeln!(out, "#[derive(Debug, Clone, Copy, PartialEq, Eq{default})]");
    if shown.is_empty() {
        let _ = writeln!(out, "pub struct {name};\n");
    } else {
        let _ = writeln!(out, "pub struct {name}{lifetime} {{");
        for field in &shown {
            let kind = rust_type(protocol.kind(field), method.content);
            let _ = writeln!(out, "/// {}", protocol.about(field));
            let _ = writeln!(out, "pub {}: {kind},", snake(&field.name));
        }
        out.push_str("}\n\n");
    }
    if let Some(defaults) = defaults {
        let _ = writeln!(out, "impl Default for {name}{elided} {{ fn default() -> Self {{");
        let _ = writeln!(out, "Self {{ {defaults} }} }} }}\n");
    }
    let _ = writeln!(out, "impl{lifetime} {name}{lifetime} {{");
    reader(out, protocol, method, lifetime);
    writer(out, protocol, class, method);
    out.push_str("}\n\n");
}

/// The non-zero defaults of a struct as field initialisers; `None` when all are zero.
fn defaults(protocol: &Protocol, method: &Method) -> Option<String> {
    let mut all_zero = true;
    let mut out = String::new();
    for field in method.fields.iter().filter(|field| !field.reserved) {
        let kind = protocol.kind(field);
        let value = literal(field, kind, method.content);
        all_zero &= value == zero(kind, method.content);
        let _ = write!(out, "{}: {value}, ", snake(&field.name));
    }
    (!all_zero).then_some(out)
}

/// The reader: the structure of all fields first, then their contents, as RabbitMQ does.
fn reader(out: &mut String, protocol: &Protocol, method: &Method, lifetime: &str) {
    let input = if lifetime.is_empty() { "&[u8]" } else { "&'a [u8]" };
    let _ = writeln!(out, "#[inline]");
    let _ = writeln!(out, "pub(super) fn decode(fields: {input}) -> Result<Self, Fault> {{");
    let (mut names, mut parsers, mut checks, mut values) = (vec![], vec![], vec![], vec![]);
    for group in groups(protocol, method) {
        let name = group.name();
        let parser = match group.kind {
            Kind::Bit | Kind::Octet => "be_u8",
            Kind::Short => "be_u16",
            Kind::Long => "be_u32",
            Kind::LongLong | Kind::Timestamp => "be_u64",
            Kind::ShortStr => "short_bytes",
            Kind::LongStr | Kind::Table => "long_bytes",
        };
        parsers.push(parser);
        let checked = group.kind == Kind::ShortStr && !method.content;
        let reserved = group.fields.iter().all(|field| field.reserved);
        names.push(if reserved && !checked { format!("_{name}") } else { name.clone() });
        if reserved {
            if checked {
                checks.push(format!("text({name})?;"));
            }
            continue;
        }
        match group.kind {
            Kind::Bit => {
                for (bit, field) in group.fields.iter().enumerate() {
                    if !field.reserved {
                        let mask = 1 << bit;
                        values.push(format!("{}: {name} & {mask} != 0", snake(&field.name)));
                    }
                }
            }
            Kind::ShortStr if checked => values.push(format!("{name}: text({name})?")),
            Kind::Table => values.push(format!("{name}: RawTable::parse({name})?")),
            _ => values.push(name),
        }
    }
    let unit = values.is_empty();
    match names.len() {
        0 => out.push_str("whole(nothing, fields)?;\n"),
        1 => {
            let _ = writeln!(out, "let {} = whole({}, fields)?;", names[0], parsers[0]);
        }
        _ => {
            let (names, parsers) = (names.join(", "), parsers.join(", "));
            let _ = writeln!(out, "let ({names}) = whole(({parsers}), fields)?;");
        }
    }
    out.push_str(&checks.concat());
    let value = if unit { String::new() } else { format!("{{ {} }}", values.join(", ")) };
    let _ = writeln!(out, "Ok(Self {value}) }}\n");
}

/// The writer: class id, method id, fields.
fn writer(out: &mut String, protocol: &Protocol, class: &Class, method: &Method) {
    let (class_id, method_id) = (class.id.to_be_bytes(), method.id.to_be_bytes());
    let id = [class_id, method_id].concat();
    out.push_str("#[inline]\npub(super) fn encode(&self, out: &mut Vec<u8>) {\n");
    let _ = writeln!(out, "out.extend_from_slice(&{id:?});");
    for group in groups(protocol, method) {
        let field = group.fields[0];
        let value = |field: &Field| match field.reserved {
            true => literal(field, group.kind, method.content),
            false => format!("self.{}", snake(&field.name)),
        };
        let statement = match group.kind {
            Kind::Bit => {
                let bits = group.fields.iter().enumerate().filter(|(_, field)| !field.reserved);
                let bits: Vec<String> = bits
                    .map(|(bit, field)| match bit {
                        0 => format!("u8::from({})", value(field)),
                        _ => format!("u8::from({}) << {bit}", value(field)),
                    })
                    .collect();
                let bits = if bits.is_empty() { "0".to_owned() } else { bits.join(" | ") };
                format!("out.push({bits});")
            }
            Kind::Octet => format!("out.push({});", value(field)),
            Kind::ShortStr => {
                let bytes = if method.content || field.reserved { "" } else { ".as_bytes()" };
                match (field.reserved, value(field)) {
                    (true, literal) => format!("put_short_bytes(out, b{literal});"),
                    (false, value) => format!("put_short_bytes(out, {value}{bytes});"),
                }
            }
            Kind::LongStr => format!("put_long_bytes(out, {});", value(field)),
            Kind::Table => format!("put_long_bytes(out, {}.as_bytes());", value(field)),
            _ if field.reserved => {
                let bytes = match group.kind {
                    Kind::Short => 2,
                    Kind::Long => 4,
                    _ => 8,
                };
                assert_eq!(value(field), "0", "only zeroes are reserved");
                format!("out.extend_from_slice(&[0; {bytes}]);")
            }
            _ => format!("out.extend_from_slice(&{}.to_be_bytes());", value(field)),
        };
        out.push_str(&statement);
    }
    out.push_str("}\n");
}

/// What is read or written in one go: a field, or up to eight bits that share an octet.
struct Group<'a> {
    kind: Kind,
    fields: Vec<&'a Field>,
}

impl Group<'_> {
    fn name(&self) -> String {
        if self.kind == Kind::Bit { "bits".to_owned() } else { snake(&self.fields[0].name) }
    }
}

fn groups<'a>(protocol: &Protocol, method: &'a Method) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for field in &method.fields {
        let kind = protocol.kind(field);
        match groups.last_mut() {
            Some(last) if kind == Kind::Bit && last.kind == kind && last.fields.len() < 8 => {
                last.fields.push(field);
            }
            _ => groups.push(Group { kind, fields: vec![field] }),
        }
    }
    groups
}

/// `method/any.rs`: the enum over all methods.
fn any_method(protocol: &Protocol) -> String {
    let mut out = header("[`Method`]: any method of any class.", SOURCE);
    let modules: Vec<&str> = protocol.classes.iter().map(|class| class.name.as_str()).collect();
    let _ = writeln!(out, "use super::{{MethodError, {}}};\n", modules.join(", "));
    out.push_str(
        "/// A method with its arguments, borrowed from the payload it was read from.\n\
         #[derive(Debug, Clone, Copy, PartialEq, Eq)]\npub enum Method<'a> {\n",
    );
    for_each(protocol, |class, method| {
        let path = format!("{}::{}", class.name, camel(&method.name));
        let lifetime = if borrows(protocol, method) { "<'a>" } else { "" };
        let _ = writeln!(out, "/// {}.{}", class.name, method.name);
        let _ = writeln!(out, "{}({path}{lifetime}),", variant(class, method));
    });
    out.push_str("}\n\nimpl<'a> Method<'a> {\n");
    decode_any(&mut out, protocol);
    encode_any(&mut out, protocol);
    facts(&mut out, protocol);
    out.push_str("}\n\n/// The name of a method by its ids; empty if there is none.\n");
    out.push_str("const fn name_of(id: (u16, u16)) -> &'static str { match id {\n");
    for_each(protocol, |class, method| {
        let (class_id, method_id) = (class.id, method.id);
        let _ = writeln!(out, "({class_id}, {method_id}) => \"{}.{}\",", class.name, method.name);
    });
    out.push_str("_ => \"\",\n} }\n");
    out
}

fn decode_any(out: &mut String, protocol: &Protocol) {
    out.push_str(
        "/// Reads the payload of a method frame.\n///\n/// # Errors\n/// When the ids are missing \
         or unknown, or the arguments are malformed.\n\
         pub fn decode(payload: &'a [u8]) -> Result<Self, MethodError> {\n\
         let Some((ids, fields)) = payload.split_first_chunk::<4>() else {\n\
         return Err(MethodError::NoMethod);\n};\n\
         let [c0, c1, m0, m1] = *ids;\n\
         let id = (u16::from_be_bytes([c0, c1]), u16::from_be_bytes([m0, m1]));\n\
         match id {\n",
    );
    for_each(protocol, |class, method| {
        let (name, variant) = (camel(&method.name), variant(class, method));
        let _ = writeln!(
            out,
            "({}, {}) => {}::{name}::decode(fields).map(Self::{variant}),",
            class.id, method.id, class.name
        );
    });
    out.push_str(
        "(class, method) => return Err(MethodError::UnknownMethod { class, method }),\n}\n\
         .map_err(|fault| MethodError::new(id, name_of(id), fault))\n}\n\n",
    );
}

fn encode_any(out: &mut String, protocol: &Protocol) {
    out.push_str(
        "/// Appends the payload of a method frame.\n\
         pub fn encode(&self, out: &mut Vec<u8>) {\n\
         match self {\n",
    );
    for_each(protocol, |class, method| {
        let _ = writeln!(out, "Self::{}(method) => method.encode(out),", variant(class, method));
    });
    out.push_str("}\n}\n\n");
}

fn facts(out: &mut String, protocol: &Protocol) {
    out.push_str("/// The class id and the method id.\n#[must_use]\n");
    out.push_str("pub const fn id(&self) -> (u16, u16) { match self {\n");
    for_each(protocol, |class, method| {
        let variant = variant(class, method);
        let _ = writeln!(out, "Self::{variant}(_) => ({}, {}),", class.id, method.id);
    });
    out.push_str("} }\n\n/// The name, such as \"basic.publish\".\n#[must_use]\n");
    out.push_str("pub const fn name(&self) -> &'static str { name_of(self.id()) }\n\n");
    predicate(out, protocol, "has_content", "Whether a content header and body follow.", |m| {
        m.content
    });
    predicate(out, protocol, "is_synchronous", "Whether the sender waits for a reply.", |m| {
        m.synchronous
    });
    predicate(out, protocol, "is_from_client", "Whether a client may send it.", |m| {
        m.from != From::Server
    });
    predicate(out, protocol, "is_from_server", "Whether a server may send it.", |m| {
        m.from != From::Client
    });
}

fn predicate(
    out: &mut String,
    protocol: &Protocol,
    name: &str,
    about: &str,
    holds: impl Fn(&Method) -> bool,
) {
    let mut variants = Vec::new();
    for_each(protocol, |class, method| {
        if holds(method) {
            variants.push(format!("Self::{}(_)", variant(class, method)));
        }
    });
    let _ = writeln!(out, "/// {about}\n#[must_use]\npub const fn {name}(&self) -> bool {{");
    let _ = writeln!(out, "matches!(self, {}) }}\n", variants.join(" | "));
}

fn for_each(protocol: &Protocol, mut f: impl FnMut(&Class, &Method)) {
    for class in &protocol.classes {
        for method in &class.methods {
            f(class, method);
        }
    }
}

// ---- properties ------------------------------------------------------------------------------

/// `properties/basic.rs`.
fn properties(protocol: &Protocol) -> String {
    let mut out = header("The properties of class basic.", SOURCE);
    out.push_str(
        "use nom::combinator::cond;\nuse nom::number::complete::{be_u8, be_u64};\n\n\
         use super::{CONTINUATION, Layout, PropertiesError};\n\
         use crate::protocol::table::RawTable;\n\
         use crate::protocol::wire::{long_bytes, put_long_bytes, put_short_bytes, short_bytes, \
         whole};\n\n",
    );
    out.push_str("/// The properties of a message, borrowed from the bytes they were read from.\n");
    out.push_str("#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]\n");
    out.push_str("pub struct Properties<'a> {\n");
    for property in &protocol.properties {
        let kind = rust_type(property.kind, true);
        let _ = writeln!(out, "/// {}", property.about);
        let _ = writeln!(out, "pub {}: Option<{kind}>,", snake(&property.name));
    }
    out.push_str("}\n\n");
    properties_impl(&mut out, protocol);
    for property in &protocol.properties {
        let _ = writeln!(
            out,
            "pub(super) const {}: u16 = 1 << {};",
            flag(&property.name),
            property.bit
        );
    }
    let count = protocol.properties.len();
    out.push_str("\n/// Every property in the order of its value, with its layout.\n");
    let _ = writeln!(out, "pub(super) const LAYOUT: [(u16, Layout); {count}] = [");
    for property in &protocol.properties {
        let layout = match property.kind {
            Kind::Octet => "Octet",
            Kind::ShortStr => "ShortStr",
            Kind::Table => "Table",
            Kind::Timestamp => "Timestamp",
            other => panic!("no property is a {other:?}"),
        };
        let _ = writeln!(out, "({}, Layout::{layout}),", flag(&property.name));
    }
    out.push_str("];\n");
    out
}

fn properties_impl(out: &mut String, protocol: &Protocol) {
    out.push_str(
        "impl<'a> Properties<'a> {\n/// Reads and checks property flags and values.\n///\n\
         /// # Errors\n/// When bytes are missing or left over, the headers are malformed or the\n\
         /// continuation flag is set.\n\
         pub fn parse(bytes: &'a [u8]) -> Result<Self, PropertiesError> {\n\
         let Some((flags, values)) = bytes.split_first_chunk::<2>() else {\n\
         return Err(PropertiesError::Malformed);\n};\n\
         let flags = u16::from_be_bytes(*flags);\n\
         if flags & CONTINUATION != 0 {\nreturn Err(PropertiesError::Continuation);\n}\n",
    );
    let names: Vec<String> = protocol.properties.iter().map(|p| snake(&p.name)).collect();
    let parsers: Vec<String> = protocol
        .properties
        .iter()
        .map(|property| {
            let parser = match property.kind {
                Kind::Octet => "be_u8",
                Kind::ShortStr => "short_bytes",
                Kind::Table => "long_bytes",
                _ => "be_u64",
            };
            format!("cond(flags & {} != 0, {parser})", flag(&property.name))
        })
        .collect();
    let values: Vec<String> = protocol
        .properties
        .iter()
        .map(|property| match property.kind {
            Kind::Table => {
                format!("{0}: {0}.map(RawTable::parse).transpose()?", snake(&property.name))
            }
            _ => snake(&property.name),
        })
        .collect();
    let _ = writeln!(
        out,
        "let ({}) = whole(({}), values)?;\nOk(Self {{ {} }})\n}}\n",
        names.join(", "),
        parsers.join(", "),
        values.join(", ")
    );
    out.push_str("/// Appends flags and values.\npub fn encode(&self, out: &mut Vec<u8>) {\n");
    out.push_str("let start = out.len();\nlet mut flags = 0_u16;\n");
    out.push_str("out.extend_from_slice(&[0; 2]);\n");
    for property in &protocol.properties {
        let write = match property.kind {
            Kind::Octet => "out.push(value)",
            Kind::ShortStr => "put_short_bytes(out, value)",
            Kind::Table => "put_long_bytes(out, value.as_bytes())",
            _ => "out.extend_from_slice(&value.to_be_bytes())",
        };
        let (name, flag) = (snake(&property.name), flag(&property.name));
        let _ = writeln!(out, "if let Some(value) = self.{name} {{ flags |= {flag}; {write}; }}");
    }
    out.push_str("out[start..start + 2].copy_from_slice(&flags.to_be_bytes());\n}\n}\n\n");
}

// ---- reply codes and refusals ----------------------------------------------------------------

/// `reply_code.rs`.
fn reply_codes(protocol: &Protocol) -> String {
    let mut out = header("Reply codes: why something was refused, as a number.", SOURCE);
    out.push_str(
        "/// A reply code. Soft codes close the channel, hard ones the connection.\n\
         #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]\n\
         pub struct ReplyCode(pub u16);\n\nimpl ReplyCode {\n",
    );
    for code in &protocol.reply_codes {
        let _ = writeln!(out, "/// {}", code.about);
        let _ = writeln!(out, "pub const {}: Self = Self({});\n", code.name, code.value);
    }
    out.push_str(
        "/// The code's name, such as \"NOT_FOUND\"; \"UNKNOWN\" for numbers without one.\n\
         #[must_use]\npub const fn name(self) -> &'static str { match self {\n",
    );
    for code in &protocol.reply_codes {
        let _ = writeln!(out, "Self::{0} => \"{0}\",", code.name);
    }
    out.push_str("_ => \"UNKNOWN\",\n} }\n\n");
    let hard: Vec<String> = protocol
        .reply_codes
        .iter()
        .filter(|code| code.class.as_deref() == Some("hard"))
        .map(|code| format!("Self::{}", code.name))
        .collect();
    let _ = writeln!(
        out,
        "/// Whether it closes the connection, whatever channel raised it.\n#[must_use]\n\
         pub const fn is_hard(self) -> bool {{ matches!(self, {}) }}\n}}",
        hard.join(" | ")
    );
    out
}

/// `refusal/texts.rs`.
fn refusals(errors: &Errors) -> String {
    let mut out = header("A constructor for every refusal.", "errors.toml");
    out.push_str("use std::fmt::Display;\n\nuse super::{Refusal, Scope};\n");
    out.push_str("use crate::protocol::reply_code::ReplyCode;\n\n");
    for error in &errors.errors {
        let scope = match error.scope.as_str() {
            "channel" => "Scope::Channel",
            "connection" => "Scope::Connection",
            other => panic!("{}: unknown scope {other}", error.id),
        };
        let (id, code, name) = (&error.id, &error.code, snake(&error.id));
        let (mut text, mut parameters) = (String::new(), Vec::new());
        for piece in error.pieces() {
            match piece {
                Piece::Literal(literal) => {
                    text.push_str(&literal.replace('{', "{{").replace('}', "}}"));
                }
                Piece::Parameter(name) => {
                    let _ = write!(text, "{{{}}}", snake(&name));
                    let parameter = format!("{}: impl Display", snake(&name));
                    if !parameters.contains(&parameter) {
                        parameters.push(parameter);
                    }
                }
            }
        }
        let _ = writeln!(out, "/// `{id}`: closes the {} with {code}.\n#[must_use]", error.scope);
        if error.bare {
            let _ = writeln!(out, "pub fn {name}() -> Refusal {{");
            let _ = writeln!(out, "Refusal::bare(\"{id}\", {scope}, ReplyCode::{code}) }}\n");
            continue;
        }
        let _ = writeln!(out, "pub fn {name}({}) -> Refusal {{", parameters.join(", "));
        let _ = writeln!(out, "let explanation = format_args!({});", wrapped(&text));
        let _ =
            writeln!(out, "Refusal::new(\"{id}\", {scope}, ReplyCode::{code}, explanation) }}\n");
    }
    out
}

/// A string literal, broken after spaces so that lines stay short.
fn wrapped(text: &str) -> String {
    const COLUMNS: usize = 72;
    let (mut literal, mut column) = (String::from("\""), 0);
    for word in text.split_inclusive(' ') {
        if column + word.len() > COLUMNS && column > 0 {
            literal.push_str("\\\n         ");
            column = 0;
        }
        literal.extend(word.chars().flat_map(escaped));
        column += word.len();
    }
    literal + "\""
}

/// A character within a string literal.
fn escaped(c: char) -> impl Iterator<Item = char> {
    matches!(c, '"' | '\\').then_some('\\').into_iter().chain([c])
}

// ---- names and types -------------------------------------------------------------------------

fn rust_type(kind: Kind, content: bool) -> &'static str {
    match kind {
        Kind::Bit => "bool",
        Kind::Octet => "u8",
        Kind::Short => "u16",
        Kind::Long => "u32",
        Kind::LongLong | Kind::Timestamp => "u64",
        Kind::ShortStr if content => "&'a [u8]",
        Kind::ShortStr => "&'a str",
        Kind::LongStr => "&'a [u8]",
        Kind::Table => "RawTable<'a>",
    }
}

/// A field's default as Rust.
fn literal(field: &Field, kind: Kind, content: bool) -> String {
    match (kind, &field.default) {
        (_, None) => zero(kind, content),
        (Kind::ShortStr, Some(toml::Value::String(text))) if !content => format!("{text:?}"),
        (Kind::ShortStr | Kind::LongStr, Some(toml::Value::String(text))) => {
            if text.is_empty() {
                zero(kind, content)
            } else {
                format!("b{text:?}")
            }
        }
        (_, Some(value)) => value.to_string(),
    }
}

fn zero(kind: Kind, content: bool) -> String {
    match kind {
        Kind::Bit => "false",
        Kind::ShortStr if !content => "\"\"",
        Kind::ShortStr | Kind::LongStr => "&[]",
        Kind::Table => "RawTable::EMPTY",
        _ => "0",
    }
    .to_owned()
}

fn borrows(protocol: &Protocol, method: &Method) -> bool {
    method.fields.iter().any(|field| {
        let kind = protocol.kind(field);
        !field.reserved && matches!(kind, Kind::ShortStr | Kind::LongStr | Kind::Table)
    })
}

fn variant(class: &Class, method: &Method) -> String {
    camel(&class.name) + &camel(&method.name)
}

pub(crate) fn camel(name: &str) -> String {
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    name.split('-').map(capital).collect()
}

/// A Rust identifier; `type`, the one keyword in use, gets an underscore.
pub(crate) fn snake(name: &str) -> String {
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if name == "type" { "type_".to_owned() } else { name }
}

fn flag(property: &str) -> String {
    property.replace('-', "_").to_uppercase()
}

fn lower_first(sentence: &str) -> String {
    sentence[..1].to_lowercase() + &sentence[1..]
}
