//! Headers exchanges: a binding's arguments are conditions on the message's headers, of which all
//! or any must be met (`x-match`). A void argument asks only that the header is there.
//!
//! Owns an index from conditions to bindings. Each different condition (a name with a value, or a
//! name alone) is kept once. A message's headers are looked up one by one, which gives the met
//! conditions; each knows the bindings that need no other, and those of the all-kind that are
//! *filed* under it, whose other conditions are then checked. A binding is filed under whichever of
//! its conditions has the fewest filed so far, so that `type = report` shared by a thousand
//! bindings costs nothing when each also asks for an `id` of its own.
//!
//! Invariants: a condition is kept exactly as long as a binding has it; a binding's conditions are
//! ascending and distinct, so that they can be looked for among the met ones.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use slab::Slab;

use super::arguments::{Label, Mode, label, push_argument, push_header};
use super::targets::settle;
use super::{BindError, Destination};
use crate::protocol::table::{RawTable, Table, Value, ValueRef};

/// The bindings of a headers exchange.
#[derive(Debug, Default)]
pub struct HeadersMatcher {
    bindings: Slab<Binding>,
    identities: HashMap<(Destination, Label), BindingId>,
    conditions: Slab<Condition>,
    // Hashed with std's keyed hash, as are the values: clients choose both.
    names: HashMap<Box<[u8]>, Name>,
    /// Bindings of the all-kind without any condition: they match every message.
    unconditional: BTreeSet<BindingId>,
}

type BindingId = usize;
type ConditionId = usize;

#[derive(Debug)]
struct Binding {
    destination: Destination,
    conditions: Box<[ConditionId]>,
}

#[derive(Debug, Default)]
struct Condition {
    /// How many bindings have it.
    bindings: usize,
    /// The bindings that it alone satisfies.
    sufficient_for: BTreeSet<BindingId>,
    /// The bindings that are checked when it is met.
    filed: BTreeSet<BindingId>,
}

/// The conditions on one header.
#[derive(Debug, Default)]
struct Name {
    present: Option<ConditionId>,
    equals: HashMap<Box<[u8]>, ConditionId>,
}

impl HeadersMatcher {
    /// See [`Matcher::bind`](super::Matcher::bind); the key does not matter for matching.
    ///
    /// # Errors
    /// [`BindError::InvalidXMatch`] or [`BindError::InvalidXMatchType`].
    pub fn bind(
        &mut self,
        key: &[u8],
        arguments: &Table,
        destination: Destination,
    ) -> Result<(), BindError> {
        let mode = Mode::of(arguments)?;
        let Entry::Vacant(identity) = self.identities.entry((destination, label(key, arguments)))
        else {
            return Ok(());
        };
        identity.insert(self.bindings.vacant_key());
        let conditions = self.conditions_of(arguments, mode);
        for id in &conditions {
            self.conditions[*id].bindings += 1;
        }
        let id = self.bindings.vacant_key();
        let rarest = conditions.iter().copied().min_by_key(|id| self.conditions[*id].filed.len());
        match rarest {
            _ if mode.any || conditions.len() == 1 => {
                for condition in &conditions {
                    self.conditions[*condition].sufficient_for.insert(id);
                }
            }
            Some(rarest) => {
                self.conditions[rarest].filed.insert(id);
            }
            None => {
                self.unconditional.insert(id);
            }
        }
        self.bindings.insert(Binding { destination, conditions: conditions.into() });
        Ok(())
    }

    /// See [`Matcher::check`](super::Matcher::check).
    ///
    /// # Errors
    /// [`BindError::InvalidXMatch`] or [`BindError::InvalidXMatchType`].
    pub fn check(arguments: &Table) -> Result<(), BindError> {
        Mode::of(arguments).map(drop)
    }

    /// See [`Matcher::unbind`](super::Matcher::unbind). Costs as much as there are arguments.
    pub fn unbind(&mut self, key: &[u8], arguments: &Table, destination: Destination) {
        let Some(id) = self.identities.remove(&(destination, label(key, arguments))) else {
            return;
        };
        let binding = self.bindings.remove(id);
        for condition in &binding.conditions {
            let condition = &mut self.conditions[*condition];
            condition.bindings -= 1;
            condition.sufficient_for.remove(&id);
            condition.filed.remove(&id);
        }
        self.unconditional.remove(&id);
        self.drop_unused_conditions(arguments);
        if self.is_empty() {
            // Gives back what the tables have grown to.
            *self = Self::default();
        }
    }

    /// See [`Matcher::matches`](super::Matcher::matches).
    pub fn matches(&self, headers: Option<RawTable<'_>>, out: &mut Vec<Destination>) {
        let start = out.len();
        let met = headers.map(|headers| self.met(headers)).unwrap_or_default();
        let destination = |id: &BindingId| self.bindings[*id].destination;
        for condition in met.iter().map(|id| &self.conditions[*id]) {
            out.extend(condition.sufficient_for.iter().map(destination));
            for binding in condition.filed.iter().map(|id| &self.bindings[*id]) {
                if binding.conditions.iter().all(|id| met.binary_search(id).is_ok()) {
                    out.push(binding.destination);
                }
            }
        }
        out.extend(self.unconditional.iter().map(destination));
        settle(out, start);
    }

    /// How many bindings there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bindings.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bindings.is_empty()
    }

    /// The conditions that a message's headers meet, ascending.
    fn met(&self, headers: RawTable<'_>) -> Vec<ConditionId> {
        let mut known: Vec<(&Name, &[u8], ValueRef<'_>)> = headers
            .iter()
            .filter_map(|(name, value)| Some((self.names.get(name)?, name, value)))
            .collect();
        // RabbitMQ puts the headers into a map: of several with one name the last one counts.
        known.reverse();
        known.sort_by_key(|(_, name, _)| *name);
        known.dedup_by_key(|(_, name, _)| *name);
        let mut met = Vec::with_capacity(2 * known.len());
        let mut bytes = Vec::new();
        for (name, _, value) in known {
            met.extend(name.present);
            if !name.equals.is_empty() {
                bytes.clear();
                push_header(value, &mut bytes);
                met.extend(name.equals.get(bytes.as_slice()));
            }
        }
        met.sort_unstable();
        met
    }

    /// The conditions that arguments stand for, ascending, made if need be.
    fn conditions_of(&mut self, arguments: &Table, mode: Mode) -> Vec<ConditionId> {
        let mut ids = Vec::new();
        for (name, value) in arguments.iter() {
            let name = name.as_bytes();
            if !mode.considers(name) {
                continue;
            }
            let known = self.names.entry(name.into()).or_default();
            let conditions = &mut self.conditions;
            let mut fresh = || conditions.insert(Condition::default());
            ids.push(match value {
                Value::Void => *known.present.get_or_insert_with(fresh),
                value => *known.equals.entry(comparable(value)).or_insert_with(&mut fresh),
            });
        }
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Forgets those of the conditions named by these arguments that no binding has any more.
    fn drop_unused_conditions(&mut self, arguments: &Table) {
        for (name, value) in arguments.iter() {
            let Entry::Occupied(mut entry) = self.names.entry(name.as_bytes().into()) else {
                continue;
            };
            let known = entry.get_mut();
            let unused = |id: &ConditionId| self.conditions[*id].bindings == 0;
            let dropped = match value {
                Value::Void => known.present.take_if(|id| unused(id)),
                value => match known.equals.entry(comparable(value)) {
                    Entry::Occupied(condition) if unused(condition.get()) => {
                        Some(condition.remove())
                    }
                    _ => None,
                },
            };
            if let Some(id) = dropped {
                self.conditions.remove(id);
            }
            if known.present.is_none() && known.equals.is_empty() {
                entry.remove();
            }
        }
    }
}

/// What an argument's value is looked up by.
fn comparable(value: &Value) -> Box<[u8]> {
    let mut bytes = Vec::new();
    push_argument(value, &mut bytes);
    bytes.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::table::ShortString;

    fn queue(id: u64) -> Destination {
        Destination::Queue(id)
    }

    fn routed(matcher: &HeadersMatcher, headers: &Table) -> Vec<Destination> {
        let mut bytes = Vec::new();
        headers.encode_body(&mut bytes);
        let mut out = Vec::new();
        matcher.matches(Some(RawTable::parse(&bytes).unwrap()), &mut out);
        out
    }

    /// Whether a binding with these arguments takes a message with these headers.
    fn takes(arguments: &Table, headers: &Table) -> bool {
        let mut matcher = HeadersMatcher::default();
        matcher.bind(b"", arguments, queue(1)).unwrap();
        routed(&matcher, headers) == [queue(1)]
    }

    fn table(entries: &[(&str, Value)]) -> Table {
        entries.iter().map(|(name, value)| (ShortString::from(*name), value.clone())).collect()
    }

    fn text(text: &str) -> Value {
        Value::from(text)
    }

    #[test]
    fn the_mode_decides_how_many_arguments_and_which() {
        let with = |mode: &str| {
            let mut arguments = table(&[("a", 1i32.into()), ("b", Value::Void)]);
            arguments.insert("x-c", true);
            if !mode.is_empty() {
                arguments.insert("x-match", mode);
            }
            arguments
        };
        let both = [("a", 1i32.into()), ("b", text("any"))];
        let all = [both.clone().as_slice(), &[("x-c", true.into())]].concat();
        let [only_a, only_b] = [&both[..1], &both[1..]];
        let only_x = [("x-c", Value::from(true))];
        #[rustfmt::skip]
        let rows: &[(&str, [bool; 6])] = &[
            //             all   both   a only b only x only none
            ("",           [true, true,  false, false, false, false]),
            ("all",        [true, true,  false, false, false, false]),
            ("any",        [true, true,  true,  true,  false, false]),
            ("all-with-x", [true, false, false, false, false, false]),
            ("any-with-x", [true, true,  true,  true,  true,  false]),
        ];
        for (mode, expected) in rows {
            let messages = [&all[..], &both[..], only_a, only_b, &only_x[..], &[]];
            let found = messages.map(|headers| takes(&with(mode), &table(headers)));
            assert_eq!(found, *expected, "x-match {mode:?}");
        }
    }

    #[test]
    fn without_conditions_all_matches_everything_and_any_nothing() {
        let skipped = ("x-skipped", Value::from(1i32));
        for (mode, expected) in [("all", true), ("any", false)] {
            let arguments = table(&[("x-match", text(mode)), skipped.clone()]);
            assert_eq!(takes(&arguments, &Table::new()), expected);
            assert_eq!(takes(&arguments, &table(&[("a", text("b"))])), expected);
        }
        for (mode, expected) in [("all-with-x", true), ("any-with-x", false)] {
            assert_eq!(takes(&table(&[("x-match", text(mode))]), &Table::new()), expected);
        }
        assert!(takes(&Table::new(), &Table::new()));
    }

    #[test]
    fn a_message_without_headers_meets_no_condition() {
        let mut matcher = HeadersMatcher::default();
        matcher.bind(b"", &Table::new(), queue(1)).unwrap();
        matcher.bind(b"", &Table::new().with("a", Value::Void), queue(2)).unwrap();
        let mut out = vec![queue(7)];
        matcher.matches(None, &mut out);
        assert_eq!(out, [7, 1].map(queue));
    }

    #[test]
    fn values_are_compared_without_their_type() {
        let list = |items: &[Value]| Value::Array(items.to_vec());
        let inner = |value: Value| Value::Table(Table::new().with("k", value));
        #[rustfmt::skip]
        let rows = [
            // argument                 header                         equal
            (Value::I8(5),              Value::I64(5),                 true),
            (Value::U16(5),             Value::I32(5),                 true),
            (Value::I8(-1),             Value::U8(255),                false),
            (Value::I32(1),             Value::F64(1.0),               false),
            (Value::F32(0.5),           Value::F64(0.5),               true),
            (Value::F32(0.1),           Value::F64(0.1),               false),
            (text("a"),                 Value::Bytes(b"a".to_vec()),   true),
            (text("a"),                 text("A"),                     false),
            (text(""),                  text(""),                      true),
            (text("1"),                 Value::I32(1),                 false),
            (text("true"),              Value::Bool(true),             false),
            (Value::Bool(true),         Value::Bool(true),             true),
            (Value::Bool(true),         Value::I8(1),                  false),
            (Value::Decimal { scale: 1, value: 10 }, Value::Decimal { scale: 1, value: 10 }, true),
            (Value::Decimal { scale: 1, value: 10 }, Value::Decimal { scale: 0, value: 1 }, false),
            // A void argument asks for presence only; a void header is present and equals nothing.
            (Value::Void,               text("anything"),              true),
            (Value::Void,               Value::Void,                   true),
            (text("undefined"),         Value::Void,                   false),
            (Value::I32(0),             Value::Void,                   false),
            // RabbitMQ compares an argument's seconds with a header's milliseconds.
            (Value::Timestamp(1_700),   Value::Timestamp(1_700),       false),
            (Value::Timestamp(0),       Value::Timestamp(0),           true),
            (Value::I64(1_700_000),     Value::Timestamp(1_700),       true),
            (Value::Timestamp(1_700),   Value::I64(1_700),             true),
            // Within lists each value has its type, and order counts.
            (list(&[Value::I8(1)]),     list(&[Value::I8(1)]),         true),
            (list(&[Value::I8(1)]),     list(&[Value::I16(1)]),        false),
            (list(&[1i32.into(), 2i32.into()]), list(&[2i32.into(), 1i32.into()]), false),
            (list(&[Value::Timestamp(9)]), list(&[Value::Timestamp(9)]), true),
            (inner(text("v")),          inner(text("v")),              true),
            (inner(text("v")),          inner(Value::Bytes(b"v".to_vec())), false),
            (list(&[]),                 Value::Table(Table::new()),    true),
            (list(&[inner(text("v"))]), inner(text("v")),              false),
        ];
        for (argument, header, expected) in rows {
            let found = takes(&table(&[("h", argument.clone())]), &table(&[("h", header.clone())]));
            assert_eq!(found, expected, "{argument:?} takes {header:?}");
            assert_eq!(naively_equal(&argument, &header), expected, "{argument:?} = {header:?}");
        }
    }

    #[test]
    fn of_several_headers_with_one_name_the_last_counts() {
        let twice = table(&[("a", text("first")), ("a", text("last"))]);
        assert!(takes(&table(&[("a", text("last"))]), &twice));
        assert!(!takes(&table(&[("a", text("first"))]), &twice));
    }

    #[test]
    fn of_several_arguments_with_one_name_each_counts() {
        let arguments = [("a", text("first")), ("a", text("last"))];
        let any = [&[("x-match", text("any"))], &arguments[..]].concat();
        for value in ["first", "last"] {
            let headers = table(&[("a", text(value))]);
            assert!(!takes(&table(&arguments), &headers));
            assert!(takes(&table(&any), &headers));
        }
    }

    #[test]
    fn another_x_match_is_refused_and_leaves_nothing() {
        crate::covers!("binding.invalid-x-match", "binding.invalid-x-match-type");
        let wrong = |value: &str| BindError::InvalidXMatch { value: value.to_owned() };
        let not_text = |type_name, value: &str| BindError::InvalidXMatchType {
            type_name,
            value: value.to_owned(),
        };
        let rows = [
            (text("most"), wrong("<<\"most\">>")),
            (text("ALL"), wrong("<<\"ALL\">>")),
            (text(""), wrong("<<>>")),
            (Value::I32(1), not_text("signedint", "1")),
            (Value::Bytes(b"all".to_vec()), not_text("binary", "<<\"all\">>")),
            (Value::Void, not_text("void", "undefined")),
        ];
        for (value, expected) in rows {
            let mut matcher = HeadersMatcher::default();
            let arguments = table(&[("a", 1i32.into()), ("x-match", value)]);
            assert_eq!(matcher.bind(b"", &arguments, queue(1)), Err(expected));
            matcher.unbind(b"", &arguments, queue(1));
            assert_eq!((matcher.len(), matcher.names.len()), (0, 0));
        }
    }

    #[test]
    fn key_and_argument_types_tell_bindings_apart() {
        let [narrow, wide] = [table(&[("a", 1i32.into())]), table(&[("a", 1i64.into())])];
        let mut matcher = HeadersMatcher::default();
        for (key, arguments) in [(b"", &narrow), (b"", &narrow), (b"", &wide)] {
            matcher.bind(key, arguments, queue(1)).unwrap();
        }
        matcher.bind(b"key", &narrow, queue(1)).unwrap();
        assert_eq!(matcher.len(), 3);
        matcher.unbind(b"", &wide, queue(1));
        matcher.unbind(b"", &narrow, queue(1));
        matcher.unbind(b"", &narrow, queue(1));
        assert_eq!((matcher.len(), routed(&matcher, &wide)), (1, vec![queue(1)]));
    }

    /// RabbitMQ's comparison, case by case.
    fn naively_equal(argument: &Value, header: &Value) -> bool {
        let number = |value: &Value| value.as_integer().map(i128::from);
        let argument_number = match argument {
            Value::Timestamp(seconds) => Some(i128::from(*seconds)),
            other => number(other),
        };
        let header_number = match header {
            Value::Timestamp(seconds) => Some(i128::from(*seconds) * 1000),
            other => number(other),
        };
        let float = |value: &Value| match value {
            Value::F32(number) => Some(f64::from(*number)),
            Value::F64(number) => Some(*number),
            _ => None,
        };
        let string = |value: &Value| match value {
            Value::Bytes(string) | Value::LongStr(string) => Some(string.clone()),
            _ => None,
        };
        let empty = |value: &Value| match value {
            Value::Array(array) => array.is_empty(),
            Value::Table(table) => table.is_empty(),
            _ => false,
        };
        let same = |a: Option<_>, b: Option<_>| a.is_some() && a == b;
        *argument == Value::Void
            || same(argument_number, header_number)
            || (float(argument).is_some() && float(argument) == float(header))
            || (string(argument).is_some() && string(argument) == string(header))
            || (empty(argument) && empty(header))
            || match argument {
                Value::Array(_) | Value::Bool(_) | Value::Decimal { .. } | Value::Table(_) => {
                    argument == header
                }
                _ => false,
            }
    }

    fn naively_takes(arguments: &Table, headers: &Table) -> bool {
        let mode = arguments.get("x-match").and_then(Value::as_str).unwrap_or("all");
        let met = arguments
            .iter()
            .filter(|(name, _)| match name.as_str() {
                Some("x-match") => false,
                Some(name) if name.starts_with("x-") => mode.ends_with("-with-x"),
                _ => true,
            })
            .map(|(name, argument)| {
                let header = headers.iter().filter(|(other, _)| *other == name).last();
                header.is_some_and(|(_, header)| naively_equal(argument, header))
            })
            .collect::<Vec<_>>();
        if mode.starts_with("any") { met.contains(&true) } else { !met.contains(&false) }
    }

    fn value() -> impl Strategy<Value = Value> {
        prop::sample::select(vec![
            Value::Void,
            Value::Bool(true),
            Value::I8(1),
            Value::I64(1),
            Value::U32(2000),
            Value::Timestamp(2),
            Value::F32(1.0),
            Value::F64(1.0),
            text("1"),
            Value::Bytes(b"1".to_vec()),
            Value::Array(vec![]),
            Value::Array(vec![Value::I8(1)]),
            Value::Table(Table::new().with("k", Value::Array(vec![]))),
        ])
    }

    fn entries(names: &'static [&'static str]) -> impl Strategy<Value = Table> {
        let entry = (prop::sample::select(names), value());
        prop::collection::vec(entry, 0..4).prop_map(|entries| table(&entries))
    }

    fn arguments() -> impl Strategy<Value = Table> {
        let modes = ["all", "any", "all-with-x", "any-with-x"];
        let mode = prop::option::of(prop::sample::select(modes.to_vec()));
        (mode, entries(&["a", "b", "c", "x-d"])).prop_map(|(mode, mut arguments)| {
            mode.map(|mode| arguments.insert("x-match", mode).len());
            arguments
        })
    }

    proptest! {
        #[test]
        fn any_sequence_of_binds_and_unbinds_matches_as_the_definition_says(
            added in prop::collection::vec((arguments(), 0..4u64), 1..30),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..25),
            messages in prop::collection::vec(entries(&["a", "b", "c", "x-d", "x-match"]), 1..8),
        ) {
            let mut matcher = HeadersMatcher::default();
            let mut bound: Vec<(Table, u64)> = Vec::new();
            for (arguments, id) in added {
                matcher.bind(b"", &arguments, queue(id)).unwrap();
                let same = |(other, other_id): &(Table, u64)| {
                    label(b"", other) == label(b"", &arguments) && *other_id == id
                };
                if !bound.iter().any(same) {
                    bound.push((arguments, id));
                }
            }
            for index in removed {
                if !bound.is_empty() {
                    let (arguments, id) = bound.swap_remove(index.index(bound.len()));
                    matcher.unbind(b"", &arguments, queue(id));
                }
                prop_assert_eq!(matcher.len(), bound.len());
            }
            for headers in messages {
                let expected: BTreeSet<_> = bound
                    .iter()
                    .filter(|(arguments, _)| naively_takes(arguments, &headers))
                    .map(|(_, id)| queue(*id))
                    .collect();
                prop_assert_eq!(routed(&matcher, &headers), Vec::from_iter(expected));
            }
            for (arguments, id) in bound {
                matcher.unbind(b"", &arguments, queue(id));
            }
            let left = (matcher.names.len(), matcher.conditions.len(), matcher.identities.len());
            prop_assert_eq!(left, (0, 0, 0));
            prop_assert!(matcher.unconditional.is_empty());
        }
    }
}
