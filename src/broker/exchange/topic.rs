//! Topic exchanges: binding keys are patterns of words between dots, `*` standing for exactly one
//! word (which may be empty) and `#` for any number of words, none included. The empty key has no
//! words at all.
//!
//! Owns a trie over words. Each word that occurs in a pattern has a number; a node leads on by
//! words (one inline, as chains are the rule; several through one table shared by all nodes), by
//! `*` and by `#`. Nodes and sets of targets live in arenas and are named by 32-bit ids, which
//! makes a million bindings fit in a few hundred megabytes.
//!
//! Invariants: every node but the root leads, by some path, to a binding; a word's count equals the
//! number of edges that carry it; a pattern holds at most [`WILDCARDS_MAX`] `#`.
//!
//! Matching walks the key once, word by word, with the set of nodes reached so far. A `#` node
//! stays reached, so it is entered once per message: a walk visits at most nodes times words
//! states, whatever the patterns.

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::num::NonZeroU32;

use super::arguments::label;
use super::targets::{Target, Targets, settle};
use super::{BindError, Destination};
use crate::protocol::table::Table;

/// The most `#` words a binding key may have (as in RabbitMQ 4.3.5; each one multiplies the work
/// that a long routing key can cause).
pub const WILDCARDS_MAX: usize = 2;

/// The bindings of a topic exchange.
#[derive(Debug)]
pub struct TopicMatcher {
    nodes: Arena<Node>,
    targets: Arena<Targets>,
    // All edges by word, of nodes that have or had more than one. These two are hashed with std's
    // keyed hash: clients choose the words.
    edges: HashMap<Edge, Id>,
    words: HashMap<Box<[u8]>, Word>,
    free_symbols: Vec<Symbol>,
    bindings: usize,
}

impl Default for TopicMatcher {
    fn default() -> Self {
        let mut nodes = Arena::default();
        let root = nodes.add(Node::default());
        debug_assert_eq!(root, ROOT);
        Self {
            nodes,
            targets: Arena::default(),
            edges: HashMap::new(),
            words: HashMap::new(),
            free_symbols: Vec::new(),
            bindings: 0,
        }
    }
}

impl TopicMatcher {
    /// See [`Matcher::bind`](super::Matcher::bind); the arguments do not matter for matching.
    ///
    /// # Errors
    /// [`BindError::TooManyWildcards`].
    pub fn bind(
        &mut self,
        key: &[u8],
        arguments: &Table,
        destination: Destination,
    ) -> Result<(), BindError> {
        Self::check(key)?;
        let end = words(key).fold(ROOT, |node, word| self.descend(node, word));
        let target = Target { destination, label: label(&[], arguments) };
        let fresh = match self.nodes.get(end).targets {
            Some(targets) => self.targets.get_mut(targets).insert(target),
            None => {
                let targets = self.targets.add(Targets::One(target));
                self.nodes.get_mut(end).targets = Some(targets);
                true
            }
        };
        self.bindings += usize::from(fresh);
        Ok(())
    }

    /// See [`Matcher::check`](super::Matcher::check).
    ///
    /// # Errors
    /// [`BindError::TooManyWildcards`].
    pub fn check(key: &[u8]) -> Result<(), BindError> {
        let count = words(key).filter(|word| *word == b"#").count();
        if count > WILDCARDS_MAX {
            let key = String::from_utf8_lossy(key).into_owned();
            return Err(BindError::TooManyWildcards { key, count });
        }
        Ok(())
    }

    /// See [`Matcher::unbind`](super::Matcher::unbind). Costs as much as the key has words.
    pub fn unbind(&mut self, key: &[u8], arguments: &Table, destination: Destination) {
        let mut path = Vec::new();
        let mut end = ROOT;
        for word in words(key) {
            let Some(next) = self.follow(end, word) else { return };
            path.push((end, word));
            end = next;
        }
        let Some(targets) = self.nodes.get(end).targets else { return };
        let target = Target { destination, label: label(&[], arguments) };
        if !self.targets.get_mut(targets).remove(&target) {
            return;
        }
        self.bindings -= 1;
        if self.bindings == 0 {
            // Gives back what the arenas and tables have grown to.
            *self = Self::default();
            return;
        }
        if self.targets.get(targets).is_empty() {
            self.targets.remove(targets);
            self.nodes.get_mut(end).targets = None;
            self.prune(path, end);
        }
    }

    /// See [`Matcher::matches`](super::Matcher::matches).
    pub fn matches(&self, key: &[u8], out: &mut Vec<Destination>) {
        let start = out.len();
        self.walk(key, out);
        settle(out, start);
    }

    /// Appends what matches, unsorted; returns how many states the walk has visited.
    fn walk(&self, key: &[u8], out: &mut Vec<Destination>) -> usize {
        let mut walk = Walk::new(self);
        walk.enter(State { node: ROOT, below_hash: false }, out);
        let mut before = Vec::new();
        for word in words(key) {
            std::mem::swap(&mut walk.reached, &mut before);
            walk.reached.clear();
            if before.is_empty() && walk.anywhere.is_empty() {
                return walk.states;
            }
            walk.step(&before, word, out);
        }
        for state in &walk.reached {
            self.collect(state.node, out);
        }
        walk.states
    }

    /// How many bindings there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bindings
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bindings == 0
    }

    fn collect(&self, node: Id, out: &mut Vec<Destination>) {
        if let Some(targets) = self.nodes.get(node).targets {
            self.targets.get(targets).collect(out);
        }
    }

    /// The node that a word of a pattern leads to.
    fn follow(&self, node: Id, word: &[u8]) -> Option<Id> {
        match word {
            b"*" => self.nodes.get(node).star,
            b"#" => self.nodes.get(node).hash,
            _ => self.literal(self.nodes.get(node), node, self.words.get(word)?.symbol),
        }
    }

    fn literal(&self, node: &Node, id: Id, symbol: Symbol) -> Option<Id> {
        match node.literals {
            Literals::One(word, next) => (word == symbol).then_some(next),
            Literals::Many(0) => None,
            Literals::Many(_) => self.edges.get(&Edge { from: id, symbol }).copied(),
        }
    }

    /// The node that a word of a pattern leads to, made if need be.
    fn descend(&mut self, node: Id, word: &[u8]) -> Id {
        if let Some(next) = self.follow(node, word) {
            return next;
        }
        let next = self.nodes.add(Node::default());
        match word {
            b"*" => self.nodes.get_mut(node).star = Some(next),
            b"#" => self.nodes.get_mut(node).hash = Some(next),
            _ => self.link(node, word, next),
        }
        next
    }

    fn link(&mut self, from: Id, word: &[u8], to: Id) {
        let symbol = self.intern(word);
        let node = self.nodes.get_mut(from);
        match node.literals {
            Literals::Many(0) => node.literals = Literals::One(symbol, to),
            Literals::Many(count) => {
                node.literals = Literals::Many(count + 1);
                self.edges.insert(Edge { from, symbol }, to);
            }
            Literals::One(first, next) => {
                node.literals = Literals::Many(2);
                self.edges.insert(Edge { from, symbol: first }, next);
                self.edges.insert(Edge { from, symbol }, to);
            }
        }
    }

    fn unlink(&mut self, from: Id, word: &[u8]) {
        let Some(symbol) = self.release(word) else { return };
        let node = self.nodes.get_mut(from);
        node.literals = match node.literals {
            Literals::One(..) | Literals::Many(0) => Literals::Many(0),
            Literals::Many(count) => {
                self.edges.remove(&Edge { from, symbol });
                Literals::Many(count - 1)
            }
        };
    }

    /// Removes the end of a path as far as it leads nowhere.
    fn prune(&mut self, mut path: Vec<(Id, &[u8])>, mut end: Id) {
        while self.nodes.get(end).is_barren() {
            let Some((parent, word)) = path.pop() else { return };
            match word {
                b"*" => self.nodes.get_mut(parent).star = None,
                b"#" => self.nodes.get_mut(parent).hash = None,
                _ => self.unlink(parent, word),
            }
            self.nodes.remove(end);
            end = parent;
        }
    }

    /// The number of a word, for one more edge.
    fn intern(&mut self, word: &[u8]) -> Symbol {
        if let Some(known) = self.words.get_mut(word) {
            known.edges += 1;
            return known.symbol;
        }
        // Numbers in use and free ones together are 1..=n, so n + 1 is new.
        let symbol = self.free_symbols.pop().unwrap_or_else(|| Symbol(id_after(self.words.len())));
        self.words.insert(word.into(), Word { symbol, edges: 1 });
        symbol
    }

    /// Takes back what `intern` gave; the last edge takes the word with it.
    fn release(&mut self, word: &[u8]) -> Option<Symbol> {
        let known = self.words.get_mut(word)?;
        let symbol = known.symbol;
        known.edges -= 1;
        if known.edges == 0 {
            self.words.remove(word);
            self.free_symbols.push(symbol);
        }
        Some(symbol)
    }
}

/// The words of a routing or binding key.
fn words(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    // `split` makes one empty word of the empty key, which has none.
    let words_max = if key.is_empty() { 0 } else { usize::MAX };
    key.split(|byte| *byte == b'.').take(words_max)
}

/// One message's way through the trie.
struct Walk<'a> {
    trie: &'a TopicMatcher,
    /// The nodes reached by exactly the words so far.
    reached: Vec<State>,
    /// The `#` nodes reached by any of the words so far: reached by every later one as well.
    anywhere: Vec<Id>,
    /// Those of them that lie below another `#`, and so can be come upon again.
    seen: Option<HashSet<Id>>,
    states: usize,
}

#[derive(Debug, Clone, Copy)]
struct State {
    node: Id,
    below_hash: bool,
}

impl<'a> Walk<'a> {
    fn new(trie: &'a TopicMatcher) -> Self {
        Self { trie, reached: Vec::new(), anywhere: Vec::new(), seen: None, states: 0 }
    }

    /// Goes on by one word of the key from every node reached before it.
    fn step(&mut self, before: &[State], word: &[u8], out: &mut Vec<Destination>) {
        let mut word = KeyWord { word, symbol: None };
        // `#` nodes entered during this step take part from the next word on.
        let standing = self.anywhere.len();
        for state in before {
            self.advance(*state, &mut word, out);
        }
        for at in 0..standing {
            self.advance(State { node: self.anywhere[at], below_hash: true }, &mut word, out);
        }
    }

    fn advance(&mut self, from: State, word: &mut KeyWord<'_>, out: &mut Vec<Destination>) {
        self.states += 1;
        let trie = self.trie;
        let node = trie.nodes.get(from.node);
        if let Some(star) = node.star {
            self.enter(State { node: star, ..from }, out);
        }
        if matches!(node.literals, Literals::Many(0)) {
            return;
        }
        let Some(symbol) = word.symbol(trie) else { return };
        if let Some(next) = trie.literal(node, from.node, symbol) {
            self.enter(State { node: next, ..from }, out);
        }
    }

    /// Notes a node as reached, with the `#` nodes that follow it by no word at all.
    fn enter(&mut self, state: State, out: &mut Vec<Destination>) {
        let trie = self.trie;
        let mut node = trie.nodes.get(state.node);
        let mut below_hash = state.below_hash;
        if node.targets.is_some() || node.leads_by_a_word() {
            self.reached.push(state);
        }
        while let Some(hash) = node.hash {
            if below_hash && !self.seen.get_or_insert_default().insert(hash) {
                return;
            }
            trie.collect(hash, out);
            node = trie.nodes.get(hash);
            if node.leads_by_a_word() {
                self.anywhere.push(hash);
            }
            below_hash = true;
        }
    }
}

/// A word of the routing key, looked up when the first node asks for it.
struct KeyWord<'a> {
    word: &'a [u8],
    symbol: Option<Option<Symbol>>,
}

impl KeyWord<'_> {
    /// Its number; none when no pattern holds the word.
    fn symbol(&mut self, trie: &TopicMatcher) -> Option<Symbol> {
        *self.symbol.get_or_insert_with(|| trie.words.get(self.word).map(|known| known.symbol))
    }
}

/// A place in the trie: 20 bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Node {
    star: Option<Id>,
    hash: Option<Id>,
    targets: Option<Id>,
    literals: Literals,
}

impl Node {
    fn leads_by_a_word(&self) -> bool {
        self.star.is_some() || !matches!(self.literals, Literals::Many(0))
    }

    fn is_barren(&self) -> bool {
        self.targets.is_none() && self.hash.is_none() && !self.leads_by_a_word()
    }
}

/// The children by word.
#[derive(Debug, Clone, Copy)]
enum Literals {
    /// The only one.
    One(Symbol, Id),
    /// So many, in the table of edges.
    Many(u32),
}

impl Default for Literals {
    fn default() -> Self {
        Self::Many(0)
    }
}

/// The number of a word that occurs in a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Symbol(NonZeroU32);

#[derive(Debug)]
struct Word {
    symbol: Symbol,
    edges: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Edge {
    from: Id,
    symbol: Symbol,
}

impl Hash for Edge {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // One write of eight bytes costs half of two.
        state.write_u64(u64::from(self.from.0.get()) << 32 | u64::from(self.symbol.0.get()));
    }
}

/// A place in an arena, counted from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Id(NonZeroU32);

const ROOT: Id = Id(NonZeroU32::MIN);

fn id_after(used: usize) -> NonZeroU32 {
    let next = u32::try_from(used).ok().and_then(|used| NonZeroU32::MIN.checked_add(used));
    next.expect("invariant: four thousand million nodes do not fit in memory")
}

/// Values named by 32-bit ids, which are used again after removal.
#[derive(Debug)]
struct Arena<T> {
    slots: Vec<T>,
    free: Vec<Id>,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T: Default> Arena<T> {
    fn add(&mut self, value: T) -> Id {
        if let Some(id) = self.free.pop() {
            *self.get_mut(id) = value;
            return id;
        }
        let id = Id(id_after(self.slots.len()));
        self.slots.push(value);
        id
    }

    fn remove(&mut self, id: Id) {
        *self.get_mut(id) = T::default();
        self.free.push(id);
    }

    fn get(&self, id: Id) -> &T {
        &self.slots[id.0.get() as usize - 1]
    }

    fn get_mut(&mut self, id: Id) -> &mut T {
        &mut self.slots[id.0.get() as usize - 1]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn queue(id: u64) -> Destination {
        Destination::Queue(id)
    }

    fn routed(matcher: &TopicMatcher, key: &str) -> Vec<Destination> {
        let mut out = Vec::new();
        matcher.matches(key.as_bytes(), &mut out);
        out
    }

    /// The definition, word by word.
    fn naive(pattern: &[&[u8]], key: &[&[u8]]) -> bool {
        match (pattern.split_first(), key.split_first()) {
            (None, None) => true,
            (Some((&b"#", rest)), _) => (0..=key.len()).any(|skipped| naive(rest, &key[skipped..])),
            (Some((&b"*", rest)), Some((_, others))) => naive(rest, others),
            (Some((word, rest)), Some((other, others))) => word == other && naive(rest, others),
            _ => false,
        }
    }

    fn naive_match(pattern: &[u8], key: &[u8]) -> bool {
        let split = |text| words(text).collect::<Vec<_>>();
        naive(&split(pattern), &split(key))
    }

    #[test]
    fn patterns_match_whole_words() {
        #[rustfmt::skip]
        let table: &[(&str, &[&str], &[&str])] = &[
            // pattern     matches                           does not match
            ("",           &[""],                            &["a", ".", "a.b"]),
            ("a",          &["a"],                           &["", "a.", ".a", "a.a", "A", "ab"]),
            ("a.b",        &["a.b"],                         &["a", "b", "a.b.", "a..b", "a.b.c"]),
            (".",          &["."],                           &["", "..", "a.", "a"]),
            ("*",          &["a", "*", "#", "long word"],    &["", ".", "a.b", "a."]),
            ("*.*",        &[".", "a.", ".a", "a.b"],        &["", "a", "..", "a.b.c"]),
            ("a.*",        &["a.b", "a.", "a.a"],            &["a", "", "b.a", "a.b.c", "a.b."]),
            ("*.b",        &["a.b", ".b"],                   &["b", "a.b.b", "a.c"]),
            ("#",          &["", "a", ".", "a.b.c", "..."],  &[]),
            ("a.#",        &["a", "a.", "a.b", "a.b.c"],     &["", "b", "ab", "b.a", ".a"]),
            ("#.a",        &["a", ".a", "b.a", "b.c.a"],     &["", "a.", "a.b", "ba"]),
            ("a.#.b",      &["a.b", "a..b", "a.b.b", "a.x.y.b"], &["a", "b", "a.b.c", "ab"]),
            ("#.#",        &["", "a", "a.b", "..."],         &[]),
            ("*.#",        &["a", ".", "a.b", "a.b.c"],      &[""]),
            ("#.*",        &["a", ".", "a.b", "a.b.c"],      &[""]),
            ("#.*.#",      &["a", "a.b", "."],               &[""]),
            ("*.#.*",      &["a.b", ".", "a.b.c"],           &["", "a"]),
            ("#.a.#",      &["a", "a.a", "b.a.c", "..a.."],  &["", "b", "ab", "b.c"]),
            ("#.a.#.b",    &["a.b", "x.a.y.b", "a.b.b"],     &["a", "b", "b.a", "a.b.a"]),
            // Wildcards are whole words only.
            ("a*",         &["a*"],                          &["a", "ab", "a.b"]),
            ("##",         &["##"],                          &["", "#", "a"]),
            ("a.b#",       &["a.b#"],                        &["a.b", "a.b.c"]),
        ];
        for (pattern, matching, others) in table {
            let mut matcher = TopicMatcher::default();
            matcher.bind(pattern.as_bytes(), &Table::default(), queue(1)).unwrap();
            for key in *matching {
                assert_eq!(routed(&matcher, key), [queue(1)], "{pattern:?} matches {key:?}");
            }
            for key in *others {
                assert_eq!(routed(&matcher, key), [], "{pattern:?} does not match {key:?}");
            }
        }
    }

    #[test]
    fn words_are_bytes_of_any_kind() {
        let mut matcher = TopicMatcher::default();
        matcher.bind(b"\xff.\0.#", &Table::default(), queue(1)).unwrap();
        let mut out = Vec::new();
        matcher.matches(b"\xff.\0", &mut out);
        assert_eq!(out, [queue(1)]);
    }

    #[test]
    fn a_destination_is_named_once_in_ascending_order_after_what_is_there() {
        let mut matcher = TopicMatcher::default();
        for (pattern, id) in [("#", 3), ("a.*", 1), ("a.b", 3), ("*.b", 2), ("a.#", 1)] {
            matcher.bind(pattern.as_bytes(), &Table::default(), queue(id)).unwrap();
        }
        matcher.bind(b"#.b", &Table::default(), Destination::Exchange(1)).unwrap();
        let mut out = vec![queue(9), queue(3)];
        matcher.matches(b"a.b", &mut out);
        let expected = [9, 3, 1, 2, 3].map(queue);
        assert_eq!(out[..5], expected);
        assert_eq!(out[5..], [Destination::Exchange(1)]);
    }

    #[test]
    fn a_third_hash_is_refused_and_leaves_nothing() {
        crate::covers!("binding.too-many-wildcards");
        let mut matcher = TopicMatcher::default();
        let error = matcher.bind(b"#.a.#.b.#", &Table::default(), queue(1)).unwrap_err();
        assert_eq!(error, BindError::TooManyWildcards { key: "#.a.#.b.#".to_owned(), count: 3 });
        assert!(matcher.is_empty());
        assert_eq!(in_use(&matcher), (1, 0, 0));
        matcher.bind(b"#.a##.#.*.*.*", &Table::default(), queue(1)).unwrap();
    }

    #[test]
    fn bindings_of_one_key_and_destination_differ_by_their_arguments() {
        let mut matcher = TopicMatcher::default();
        let plain = Table::default();
        let other = Table::new().with("a", true);
        for _ in 0..2 {
            matcher.bind(b"k", &plain, queue(1)).unwrap();
            matcher.bind(b"k", &other, queue(1)).unwrap();
        }
        assert_eq!(matcher.len(), 2);
        matcher.unbind(b"k", &plain, queue(1));
        matcher.unbind(b"k", &plain, queue(1));
        assert_eq!((matcher.len(), routed(&matcher, "k")), (1, vec![queue(1)]));
        matcher.unbind(b"k", &other, queue(1));
        assert_eq!((matcher.len(), routed(&matcher, "k")), (0, vec![]));
    }

    #[test]
    fn unbinding_what_is_not_bound_changes_nothing() {
        let mut matcher = TopicMatcher::default();
        matcher.bind(b"a.b.c", &Table::default(), queue(1)).unwrap();
        for key in ["", "a", "a.b", "a.b.c.d", "a.*.c", "#", "x.y"] {
            matcher.unbind(key.as_bytes(), &Table::default(), queue(1));
        }
        matcher.unbind(b"a.b.c", &Table::default(), queue(2));
        assert_eq!(routed(&matcher, "a.b.c"), [queue(1)]);
    }

    /// Without the memory of `#` nodes these would take 127 * 127 / 2 states per binding and more.
    #[test]
    fn long_keys_cost_at_most_nodes_times_words() {
        let words: Vec<String> = (0..127).map(|at| format!("{}", at % 10)).collect();
        let key = words.join(".");
        let forms: [fn(u64) -> String; 6] = [
            |id| format!("#.{}.#.w{id}", id % 10),
            |id| format!("#.w{id}.#"),
            |id| format!("#.{}.#.{}", id % 7, id % 11),
            |id| format!("#.*.#.w{id}"),
            |id| format!("#.#.w{id}"),
            |id| format!("{}.#.{}.*.*.#", id % 3, id % 10),
        ];
        for form in forms {
            let mut matcher = TopicMatcher::default();
            for id in 0..10_000 {
                matcher.bind(form(id).as_bytes(), &Table::default(), queue(id)).unwrap();
            }
            let mut out = Vec::new();
            let states = matcher.walk(key.as_bytes(), &mut out);
            settle(&mut out, 0);
            let expected: Vec<_> = (0..10_000)
                .filter(|id| naive_match(form(*id).as_bytes(), key.as_bytes()))
                .map(queue)
                .collect();
            assert_eq!(out, expected);
            assert!(states <= 127 * 16, "{} took {states} states", form(0));
        }
    }

    /// Nodes, sets of targets and words that are in use.
    fn in_use(matcher: &TopicMatcher) -> (usize, usize, usize) {
        (
            matcher.nodes.slots.len() - matcher.nodes.free.len(),
            matcher.targets.slots.len() - matcher.targets.free.len(),
            matcher.words.len(),
        )
    }

    /// A node per beginning of a key, a set per key, a word per word: no more, no less.
    fn check_use(
        matcher: &TopicMatcher,
        bound: &BTreeSet<(Vec<u8>, u64, usize)>,
    ) -> Result<(), TestCaseError> {
        let mut beginnings = BTreeSet::from([Vec::new()]);
        let mut literals = BTreeSet::new();
        let keys: BTreeSet<_> = bound.iter().map(|(key, ..)| key).collect();
        for key in &keys {
            let all: Vec<_> = words(key).map(<[u8]>::to_vec).collect();
            beginnings.extend((0..=all.len()).map(|end| all[..end].to_vec()));
            literals.extend(all.into_iter().filter(|word| word != b"*" && word != b"#"));
        }
        prop_assert_eq!(in_use(matcher), (beginnings.len(), keys.len(), literals.len()));
        prop_assert_eq!(matcher.len(), bound.len());
        prop_assert!(matcher.edges.len() < beginnings.len());
        Ok(())
    }

    fn key(alphabet: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(alphabet), 0..6)
            .prop_map(|words| words.join(".").into_bytes())
    }

    proptest! {
        #[test]
        fn any_sequence_of_binds_and_unbinds_matches_as_the_definition_says(
            added in prop::collection::vec(
                (key(&["a", "b", "c", "", "*", "#"]), 0..4u64, 0..2usize), 1..40,
            ),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
            again in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
            keys in prop::collection::vec(key(&["a", "b", "c", "d", "", "*"]), 1..8),
        ) {
            let arguments = [Table::new(), Table::new().with("n", 1i32)];
            let mut matcher = TopicMatcher::default();
            let mut bound = BTreeSet::new();
            for (key, id, which) in &added {
                let hashes = words(key).filter(|word| *word == b"#").count();
                let result = matcher.bind(key, &arguments[*which], queue(*id));
                prop_assert_eq!(result.is_ok(), hashes <= WILDCARDS_MAX);
                if result.is_ok() {
                    bound.insert((key.clone(), *id, *which));
                }
                check_use(&matcher, &bound)?;
            }
            for index in removed {
                let (key, id, which) = index.get(&added);
                matcher.unbind(key, &arguments[*which], queue(*id));
                bound.remove(&(key.clone(), *id, *which));
                check_use(&matcher, &bound)?;
            }
            // What was freed is used again.
            for index in again {
                let (key, id, which) = index.get(&added);
                if matcher.bind(key, &arguments[*which], queue(*id)).is_ok() {
                    bound.insert((key.clone(), *id, *which));
                }
                check_use(&matcher, &bound)?;
            }
            for key in keys {
                let expected: BTreeSet<_> = bound
                    .iter()
                    .filter(|(pattern, ..)| naive_match(pattern, &key))
                    .map(|(_, id, _)| queue(*id))
                    .collect();
                let mut out = Vec::new();
                matcher.matches(&key, &mut out);
                prop_assert_eq!(out, Vec::from_iter(expected));
            }
        }
    }
}
