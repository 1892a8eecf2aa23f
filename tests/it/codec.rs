//! The codec against independent witnesses: an interpreter that builds random methods and
//! properties from `spec/amqp-0-9-1.toml` at run time, and the amq-protocol crate.
//!
//! The interpreter shares no code with the generated readers and writers; it also says how a
//! decoded method must print, which ties every value to its field's name.

use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame, parse_frame};
use leveret::protocol::{FrameKind, Method, MethodError, Properties, RawTable, frame};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseResult, TestRunner};

use crate::checks::codec as checks;
use crate::codegen::{camel, snake};
use crate::spec::{self, Class, From, Kind, Protocol};

// ---- methods ---------------------------------------------------------------------------------

#[test]
fn every_method_reads_and_writes_as_the_specification_says() {
    let protocol = Protocol::read();
    for_every_method(&protocol, Text::Bytes, |sample| {
        let payload = sample.payload();
        let method = Method::decode(&payload).unwrap();
        prop_assert_eq!(format!("{method:?}"), sample.debug());
        prop_assert_eq!(method.id(), (sample.class.id, sample.method.id));
        let name = format!("{}.{}", sample.class.name, sample.method.name);
        prop_assert_eq!(method.name(), name);
        prop_assert_eq!(method.has_content(), sample.method.content);
        prop_assert_eq!(method.is_synchronous(), sample.method.synchronous);
        prop_assert_eq!(method.is_from_client(), sample.method.from != From::Server);
        prop_assert_eq!(method.is_from_server(), sample.method.from != From::Client);
        let mut written = Vec::new();
        method.encode(&mut written);
        prop_assert_eq!(written, payload);
        Ok(())
    });
}

#[test]
fn reserved_fields_are_ignored() {
    let protocol = Protocol::read();
    for_every_method(&protocol, Text::Bytes, |sample| {
        let mut other = sample.clone();
        for (field, argument) in other.method.fields.iter().zip(&mut other.arguments) {
            if field.reserved {
                *argument = argument.another();
            }
        }
        let (payload, other) = (sample.payload(), other.payload());
        prop_assert_eq!(Method::decode(&other), Method::decode(&payload));
        Ok(())
    });
}

#[test]
fn a_method_with_missing_or_surplus_bytes_is_malformed() {
    let protocol = Protocol::read();
    for_every_method(&protocol, Text::Bytes, |sample| {
        let payload = sample.payload();
        for cut in 0..payload.len() {
            let error = Method::decode(&payload[..cut]).unwrap_err();
            if cut < 4 {
                prop_assert_eq!(error, MethodError::NoMethod);
            } else {
                prop_assert!(matches!(error, MethodError::Malformed { .. }), "{error:?} at {cut}");
            }
        }
        let error = Method::decode(&[&payload[..], &[0]].concat()).unwrap_err();
        prop_assert!(matches!(error, MethodError::Malformed { .. }), "{:?}", error);
        Ok(())
    });
}

#[test]
fn short_strings_must_be_utf8_unless_content_follows() {
    let protocol = Protocol::read();
    for_every_method(&protocol, Text::Bytes, |sample| {
        for at in 0..sample.arguments.len() {
            let mut sample = sample.clone();
            if let Argument::ShortStr(bytes) = &mut sample.arguments[at] {
                *bytes = vec![b'o', b'k', 0xC3];
                let payload = sample.payload();
                let decoded = Method::decode(&payload);
                if sample.method.content {
                    prop_assert!(decoded.is_ok());
                } else {
                    let malformed = matches!(decoded, Err(MethodError::MalformedUtf8 { .. }));
                    prop_assert!(malformed, "{:?}", decoded);
                }
            }
        }
        Ok(())
    });
}

#[test]
fn a_malformed_table_is_told_from_malformed_arguments() {
    let protocol = Protocol::read();
    for_every_method(&protocol, Text::Bytes, |sample| {
        for at in 0..sample.arguments.len() {
            let mut sample = sample.clone();
            if let Argument::Table(body) = &mut sample.arguments[at] {
                body.extend(b"\x01kZ");
                let payload = sample.payload();
                let error = Method::decode(&payload).unwrap_err();
                prop_assert!(matches!(error, MethodError::Table { .. }), "{:?}", error);
            }
        }
        Ok(())
    });
}

#[test]
fn unknown_methods_are_named_by_their_ids() {
    let protocol = Protocol::read();
    let known = |id: (u16, u16)| {
        let methods = |class: &Class| class.methods.iter().any(|method| method.id == id.1);
        protocol.classes.iter().any(|class| class.id == id.0 && methods(class))
    };
    for class in 0..=100_u16 {
        for method in 0..=130_u16 {
            let payload = [class.to_be_bytes(), method.to_be_bytes()].concat();
            let decoded = Method::decode(&payload);
            let unknown = Err(MethodError::UnknownMethod { class, method });
            assert_eq!(decoded == unknown, !known((class, method)), "{class}.{method}");
        }
    }
}

#[test]
fn amq_protocol_reads_and_writes_every_method_alike() {
    let protocol = Protocol::read();
    for_every_method(&protocol, Text::Plain, |sample| {
        let mut sample = sample.clone();
        let hides = |field: &spec::Field| {
            let name = (sample.class.name.as_str(), sample.method.name.as_str(), &*field.name);
            field.reserved || ORACLE_HIDES.contains(&name)
        };
        for (field, argument) in sample.method.fields.iter().zip(&mut sample.arguments) {
            if hides(field) {
                *argument = default_of(field, protocol.kind(field));
            }
        }
        let payload = sample.payload();
        let mut ours = Vec::new();
        frame::method(&mut ours, 7, &Method::decode(&payload).unwrap());
        let (rest, theirs) = parse_frame(&ours[..]).expect("the oracle reads our frame");
        prop_assert!(rest.is_empty());
        // All but tables stands under the same names in both.
        let printed = format!("{theirs:?}");
        for (field, argument) in sample.method.fields.iter().zip(&sample.arguments) {
            if let (false, Some(value)) = (hides(field), argument.as_oracle_prints()) {
                let expected = format!(" {}: {value}", oracle_name(&field.name));
                prop_assert!(shows(&printed, &expected), "{expected} in {printed}");
            }
        }
        let written = write_with_oracle(&theirs);
        let (found, used) = frame::parse(&written, 0).unwrap().unwrap();
        prop_assert_eq!((found.kind, found.channel, used), (FrameKind::Method, 7, written.len()));
        prop_assert_eq!(Method::decode(found.payload), Method::decode(&payload));
        Ok(())
    });
}

/// The oracle's name of a field; it has a word of its own for one that Rust keeps to itself.
fn oracle_name(name: &str) -> String {
    if name == "type" { "kind".to_owned() } else { snake(name) }
}

/// Whether a field with its whole value stands in a printed structure.
fn shows(printed: &str, field: &str) -> bool {
    [",", " }", "}"].iter().any(|end| printed.contains(&format!("{field}{end}")))
}

/// Fields that amq-protocol does not show and always writes as their defaults.
const ORACLE_HIDES: [(&str, &str, &str); 2] =
    [("access", "request-ok", "ticket"), ("basic", "qos", "prefetch-size")];

fn write_with_oracle(frame: &AMQPFrame) -> Vec<u8> {
    let mut buffer = vec![0; 256 * 1024];
    let context = WriteContext::from(&mut buffer[..]);
    let end = gen_frame(frame)(context).expect("the oracle writes what it read").position;
    buffer.truncate(usize::try_from(end).unwrap());
    buffer
}

// ---- properties ------------------------------------------------------------------------------

#[test]
fn every_set_of_properties_reads_and_writes_as_the_specification_says() {
    let protocol = Protocol::read();
    let strategies: Vec<_> = protocol
        .properties
        .iter()
        .map(|property| prop::option::of(argument(property.kind, Text::Plain)))
        .collect();
    run(512, &strategies, |values| {
        let (mut flags, mut encoded, mut debug) = (0_u16, Vec::new(), Vec::new());
        for (property, value) in protocol.properties.iter().zip(&values) {
            let printed = match value {
                Some(value) => {
                    flags |= 1 << property.bit;
                    value.write(&mut encoded);
                    format!("Some({})", value.debug(true))
                }
                None => "None".to_owned(),
            };
            debug.push(format!("{}: {printed}", snake(&property.name)));
        }
        let bytes = [&flags.to_be_bytes()[..], &encoded].concat();
        let properties = Properties::parse(&bytes).unwrap();
        let expected = format!("Properties {{ {} }}", debug.join(", "));
        prop_assert_eq!(format!("{properties:?}"), expected);
        checks::properties(&bytes);

        let mut ours = Vec::new();
        frame::content_header(&mut ours, 9, 60, 1 << 40, &bytes);
        let (rest, theirs) = parse_frame(&ours[..]).expect("the oracle reads our header");
        prop_assert!(rest.is_empty());
        let printed = format!("{theirs:?}");
        for (property, value) in protocol.properties.iter().zip(&values) {
            if let Some(value) = value.as_ref().and_then(Argument::as_oracle_prints) {
                let expected = format!(" {}: Some({value})", oracle_name(&property.name));
                prop_assert!(shows(&printed, &expected), "{expected} in {printed}");
            }
        }
        prop_assert_eq!(write_with_oracle(&theirs), ours);
        Ok(())
    });
}

// ---- frames ----------------------------------------------------------------------------------

#[test]
fn frames_are_found_however_the_stream_is_cut() {
    let kind = prop::sample::select(vec![
        FrameKind::Method,
        FrameKind::Header,
        FrameKind::Body,
        FrameKind::Heartbeat,
    ]);
    let payload = prop::collection::vec(any::<u8>(), 0..200);
    let frames = prop::collection::vec((kind, any::<u16>(), payload), 0..20);
    let cuts = prop::collection::vec(1..300_usize, 1..50);
    run(256, &(frames, cuts), |(frames, cuts)| {
        let mut stream = Vec::new();
        for (kind, channel, payload) in &frames {
            stream.push(*kind as u8);
            stream.extend(channel.to_be_bytes());
            stream.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
            stream.extend(payload);
            stream.push(frame::FRAME_END);
        }
        let (mut buffer, mut found, mut rest) = (Vec::new(), Vec::new(), &stream[..]);
        for size in cuts.iter().cycle() {
            let (piece, after) = rest.split_at((*size).min(rest.len()));
            buffer.extend(piece);
            rest = after;
            while let Some((frame, used)) = frame::parse(&buffer, 4096).unwrap() {
                found.push((frame.kind, frame.channel, frame.payload.to_vec()));
                buffer.drain(..used);
            }
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(found, frames);
        Ok(())
    });
}

// ---- any bytes -------------------------------------------------------------------------------

#[test]
fn no_bytes_make_the_codec_panic() {
    let protocol = Protocol::read();
    let ids: Vec<[u8; 4]> = protocol
        .classes
        .iter()
        .flat_map(|class| class.methods.iter().map(|method| (class.id, method.id)))
        .map(|(class, method)| {
            let ([c0, c1], [m0, m1]) = (class.to_be_bytes(), method.to_be_bytes());
            [c0, c1, m0, m1]
        })
        .collect();
    let strategy = (prop::sample::select(ids), prop::collection::vec(any::<u8>(), 0..300));
    run(8192, &strategy, |(id, bytes)| {
        checks::method(&[&id[..], &bytes].concat());
        checks::method(&bytes);
        checks::frame(&bytes);
        checks::table(&bytes);
        checks::properties(&bytes);
        Ok(())
    });
}

#[test]
fn a_valid_table_with_one_octet_changed_does_not_make_the_codec_panic() {
    let strategy = (table(), any::<prop::sample::Index>(), any::<u8>());
    run(4096, &strategy, |(mut body, at, octet)| {
        if !body.is_empty() {
            let at = at.index(body.len());
            body[at] = octet;
        }
        checks::table(&body);
        Ok(())
    });
}

// ---- the interpreter -------------------------------------------------------------------------

/// A method of the specification with arguments.
#[derive(Debug, Clone)]
struct Sample<'p> {
    class: &'p Class,
    method: &'p spec::Method,
    arguments: Vec<Argument>,
}

impl Sample<'_> {
    /// The payload of its frame.
    fn payload(&self) -> Vec<u8> {
        let mut out = [self.class.id.to_be_bytes(), self.method.id.to_be_bytes()].concat();
        let mut bits = 0;
        for argument in &self.arguments {
            let Argument::Bit(bit) = argument else {
                argument.write(&mut out);
                bits = 0;
                continue;
            };
            if bits % 8 == 0 {
                out.push(0);
            }
            *out.last_mut().unwrap() |= u8::from(*bit) << (bits % 8);
            bits += 1;
        }
        out
    }

    /// How the decoded method must print.
    fn debug(&self) -> String {
        let fields: Vec<String> = self
            .method
            .fields
            .iter()
            .zip(&self.arguments)
            .filter(|(field, _)| !field.reserved)
            .map(|(field, argument)| {
                format!("{}: {}", snake(&field.name), argument.debug(self.method.content))
            })
            .collect();
        let name = camel(&self.method.name);
        let fields = match fields.len() {
            0 => String::new(),
            _ => format!(" {{ {} }}", fields.join(", ")),
        };
        format!("{}{name}({name}{fields})", camel(&self.class.name))
    }
}

/// The value of a field.
#[derive(Debug, Clone, PartialEq)]
enum Argument {
    Bit(bool),
    Octet(u8),
    Short(u16),
    Long(u32),
    LongLong(u64),
    ShortStr(Vec<u8>),
    LongStr(Vec<u8>),
    Table(Vec<u8>),
}

impl Argument {
    /// Appends the value; bits are packed by the caller.
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Bit(_) => unreachable!("bits are packed"),
            Self::Octet(n) => out.push(*n),
            Self::Short(n) => out.extend(n.to_be_bytes()),
            Self::Long(n) => out.extend(n.to_be_bytes()),
            Self::LongLong(n) => out.extend(n.to_be_bytes()),
            Self::ShortStr(bytes) => {
                out.push(u8::try_from(bytes.len()).unwrap());
                out.extend(bytes);
            }
            Self::LongStr(bytes) | Self::Table(bytes) => {
                out.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
                out.extend(bytes);
            }
        }
    }

    /// How it prints; short strings are text unless content follows.
    fn debug(&self, content: bool) -> String {
        match self {
            Self::ShortStr(bytes) if !content => {
                format!("{:?}", std::str::from_utf8(bytes).unwrap())
            }
            Self::ShortStr(bytes) | Self::LongStr(bytes) => format!("{bytes:?}"),
            Self::Table(bytes) => format!("{:?}", RawTable::parse(bytes).unwrap()),
            plain => plain.plain().unwrap(),
        }
    }

    /// A flag or a number as text.
    fn plain(&self) -> Option<String> {
        match self {
            Self::Bit(bit) => Some(bit.to_string()),
            Self::Octet(n) => Some(n.to_string()),
            Self::Short(n) => Some(n.to_string()),
            Self::Long(n) => Some(n.to_string()),
            Self::LongLong(n) => Some(n.to_string()),
            Self::ShortStr(_) | Self::LongStr(_) | Self::Table(_) => None,
        }
    }

    /// How amq-protocol prints it, unless it is a table.
    fn as_oracle_prints(&self) -> Option<String> {
        match self {
            Self::ShortStr(bytes) => {
                Some(format!("ShortString({:?})", std::str::from_utf8(bytes).unwrap()))
            }
            Self::LongStr(bytes) => Some(format!("LongString({bytes:?})")),
            Self::Table(_) => None,
            plain => plain.plain(),
        }
    }

    /// Some other value of the same type.
    fn another(&self) -> Self {
        match self {
            Self::Bit(bit) => Self::Bit(!bit),
            Self::Octet(n) => Self::Octet(!n),
            Self::Short(n) => Self::Short(!n),
            Self::Long(n) => Self::Long(!n),
            Self::LongLong(n) => Self::LongLong(!n),
            Self::ShortStr(_) => Self::ShortStr("grüße".into()),
            Self::LongStr(_) => Self::LongStr(vec![0xFF; 300]),
            Self::Table(_) => Self::Table(vec![]),
        }
    }
}

/// What a short string may hold.
#[derive(Clone, Copy)]
enum Text {
    /// Any bytes.
    Bytes,
    /// UTF-8.
    Plain,
}

/// Runs a check over random arguments for every method; reserved fields have their defaults.
/// `text` is what the short strings of methods with content hold.
fn for_every_method<'p>(
    protocol: &'p Protocol,
    text: Text,
    check: impl Fn(&Sample<'p>) -> TestCaseResult,
) {
    let mut methods = 0;
    for class in &protocol.classes {
        for method in &class.methods {
            let strategies: Vec<BoxedStrategy<Argument>> = method
                .fields
                .iter()
                .map(|field| match (field.reserved, protocol.kind(field)) {
                    (true, kind) => Just(default_of(field, kind)).boxed(),
                    (false, kind) if method.content => argument(kind, text),
                    (false, kind) => argument(kind, Text::Plain),
                })
                .collect();
            run(48, &strategies, |arguments| check(&Sample { class, method, arguments }));
            methods += 1;
        }
    }
    assert_eq!(methods, 66);
}

fn default_of(field: &spec::Field, kind: Kind) -> Argument {
    match (kind, field.default.as_ref().expect("a reserved field has a default")) {
        (Kind::Bit, toml::Value::Boolean(bit)) => Argument::Bit(*bit),
        (Kind::Long, toml::Value::Integer(n)) => Argument::Long(u32::try_from(*n).unwrap()),
        (Kind::Short, toml::Value::Integer(n)) => Argument::Short(u16::try_from(*n).unwrap()),
        (Kind::ShortStr, toml::Value::String(text)) => Argument::ShortStr(text.clone().into()),
        (Kind::LongStr, toml::Value::String(text)) => Argument::LongStr(text.clone().into()),
        (kind, default) => panic!("{}: {default} is no {kind:?}", field.name),
    }
}

fn argument(kind: Kind, text: Text) -> BoxedStrategy<Argument> {
    let chars = prop::collection::vec(any::<char>(), 0..60);
    match (kind, text) {
        (Kind::Bit, _) => any::<bool>().prop_map(Argument::Bit).boxed(),
        (Kind::Octet, _) => any::<u8>().prop_map(Argument::Octet).boxed(),
        (Kind::Short, _) => any::<u16>().prop_map(Argument::Short).boxed(),
        (Kind::Long, _) => any::<u32>().prop_map(Argument::Long).boxed(),
        (Kind::LongLong | Kind::Timestamp, _) => any::<u64>().prop_map(Argument::LongLong).boxed(),
        (Kind::ShortStr, Text::Plain) => chars
            .prop_map(|chars| Argument::ShortStr(chars.into_iter().collect::<String>().into()))
            .boxed(),
        (Kind::ShortStr, Text::Bytes) => {
            prop::collection::vec(any::<u8>(), 0..=255).prop_map(Argument::ShortStr).boxed()
        }
        (Kind::LongStr, _) => {
            prop::collection::vec(any::<u8>(), 0..600).prop_map(Argument::LongStr).boxed()
        }
        (Kind::Table, _) => table().prop_map(Argument::Table).boxed(),
    }
}

/// The body of a table with values of every type, written out by hand. Keys are distinct and in
/// order, as the oracle keeps them sorted.
fn table() -> BoxedStrategy<Vec<u8>> {
    let tagged = |tag: u8, bytes: Vec<u8>| [&[tag][..], &bytes].concat();
    let fixed = move |tag: u8, size: usize| {
        prop::collection::vec(any::<u8>(), size).prop_map(move |bytes| tagged(tag, bytes))
    };
    let sized = |tag: u8, bytes: &[u8]| {
        [&[tag][..], &u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
    };
    let blob = || prop::collection::vec(any::<u8>(), 0..40);
    let leaf = prop_oneof![
        any::<bool>().prop_map(move |bit| tagged(b't', vec![bit.into()])),
        fixed(b'b', 1),
        fixed(b'B', 1),
        fixed(b's', 2),
        fixed(b'u', 2),
        fixed(b'I', 4),
        fixed(b'i', 4),
        fixed(b'l', 8),
        fixed(b'D', 5),
        fixed(b'T', 8),
        any::<f32>().prop_map(move |n| tagged(b'f', n.to_be_bytes().to_vec())),
        any::<f64>().prop_map(move |n| tagged(b'd', n.to_be_bytes().to_vec())),
        blob().prop_map(move |bytes| sized(b'S', &bytes)),
        blob().prop_map(move |bytes| sized(b'x', &bytes)),
        Just(vec![b'V']),
    ];
    let value = leaf.prop_recursive(4, 32, 6, move |inner| {
        let values = prop::collection::vec(inner, 0..6);
        prop_oneof![
            values.clone().prop_map(move |values| sized(b'A', &values.concat())),
            values.prop_map(move |values| sized(b'F', &entries(&values))),
        ]
    });
    prop::collection::vec(value, 0..8).prop_map(|values| entries(&values)).boxed()
}

fn entries(values: &[Vec<u8>]) -> Vec<u8> {
    let entry = |(at, value): (usize, &Vec<u8>)| {
        let key = format!("key-{at:02}");
        [&[u8::try_from(key.len()).unwrap()][..], key.as_bytes(), value].concat()
    };
    values.iter().enumerate().flat_map(entry).collect()
}

fn run<S: Strategy>(cases: u32, strategy: &S, check: impl Fn(S::Value) -> TestCaseResult) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new(config).run(strategy, check).unwrap_or_else(|failure| panic!("{failure}"));
}
