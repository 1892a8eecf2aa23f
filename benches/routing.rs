//! How long exchanges take to find destinations, and what bindings cost in memory.
//!
//! `cargo bench --bench routing` prints wall-clock figures of every case, or of those whose names
//! contain the argument; each runs in a process of its own, so that its memory is its own too.
//! With `-- --count NAME MESSAGES` one case is filled and routes so many messages without reading
//! a clock. Two runs under an instruction counter (`valgrind --tool=callgrind`, `perf stat`), one
//! of them with 0 messages, differ by the work of routing. All inputs come from a fixed seed; only
//! the keys of the hash tables change from run to run.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::print_stdout, reason = "it prints its figures")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use leveret::broker::exchange::{Destination, End, Kind, Matcher, Traits};
use leveret::protocol::properties::Properties;
use leveret::protocol::table::{RawTable, Table};

/// Messages routed for the percentiles.
const ROUTED: usize = 100_000;

/// A case: how to fill an exchange, and what to route through it.
struct Case {
    name: &'static str,
    kind: Kind,
    bindings: usize,
    /// The n-th binding.
    binding: fn(u64, &mut Random) -> (String, Table),
    /// Some message: a routing key and headers.
    message: fn(&mut Random) -> (String, Table),
    /// How many different messages are routed; later ones repeat them.
    messages: usize,
}

const CASES: &[Case] = &[
    Case {
        name: "direct-1m",
        kind: Kind::Direct,
        bindings: 1_000_000,
        binding: |n, _| (format!("orders.{n}"), Table::new()),
        message: |random| (format!("orders.{}", random.below(1_000_000)), Table::new()),
        messages: ROUTED,
    },
    Case {
        name: "fanout-1k",
        kind: Kind::Fanout,
        bindings: 1_000,
        binding: |_, _| (String::new(), Table::new()),
        message: |_| (String::new(), Table::new()),
        messages: 1,
    },
    Case {
        name: "topic-mixed-10k",
        kind: Kind::Topic,
        bindings: 10_000,
        binding: |_, random| (mixed_pattern(random), Table::new()),
        message: |random| (mixed_key(random), Table::new()),
        messages: ROUTED,
    },
    Case {
        name: "topic-mixed-100k",
        kind: Kind::Topic,
        bindings: 100_000,
        binding: |_, random| (mixed_pattern(random), Table::new()),
        message: |random| (mixed_key(random), Table::new()),
        messages: ROUTED,
    },
    Case {
        name: "topic-mixed-1m",
        kind: Kind::Topic,
        bindings: 1_000_000,
        binding: |_, random| (mixed_pattern(random), Table::new()),
        message: |random| (mixed_key(random), Table::new()),
        messages: ROUTED,
    },
    Case {
        name: "topic-devices-1m",
        kind: Kind::Topic,
        bindings: 1_000_000,
        binding: |n, _| (format!("devices.{n:08x}.events.#"), Table::new()),
        message: |random| {
            let device = random.below(1_000_000);
            (format!("devices.{device:08x}.events.battery.low"), Table::new())
        },
        messages: ROUTED,
    },
    // Two long words of its own per binding.
    Case {
        name: "topic-uuids-1m",
        kind: Kind::Topic,
        bindings: 1_000_000,
        binding: |n, _| {
            let (user, session) = (uuid(n), uuid(n + 1_000_000));
            (format!("users.{user}.sessions.{session}.*"), Table::new())
        },
        message: |random| {
            let n = random.below(1_000_000);
            let (user, session) = (uuid(n), uuid(n + 1_000_000));
            (format!("users.{user}.sessions.{session}.typing"), Table::new())
        },
        messages: ROUTED,
    },
    Case {
        name: "topic-one-key-1m",
        kind: Kind::Topic,
        bindings: 1_000_000,
        binding: |_, _| ("news.#".to_owned(), Table::new()),
        message: |_| ("news.sport".to_owned(), Table::new()),
        messages: 1,
    },
    Case {
        name: "topic-hashes-10k",
        kind: Kind::Topic,
        bindings: 10_000,
        binding: |n, _| (format!("#.w{}.#.v{n}", n % 127), Table::new()),
        message: |_| (long_key(|at| format!("w{at}")), Table::new()),
        messages: 1,
    },
    // The worst that 8192 bindings were found to do: every state of every word is visited.
    Case {
        name: "topic-hostile-8k",
        kind: Kind::Topic,
        bindings: 8_192,
        binding: |n, _| {
            let word = |bit: u32| if (n >> bit).is_multiple_of(2) { ".a" } else { ".*" };
            (format!("#{}.b", (0..13).map(word).collect::<String>()), Table::new())
        },
        message: |_| (long_key(|_| "a".to_owned()), Table::new()),
        messages: 1,
    },
    Case {
        name: "headers-1k",
        kind: Kind::Headers,
        bindings: 1_000,
        binding: |n, random| (String::new(), header_arguments(n, random)),
        message: |random| (String::new(), headers(random)),
        messages: 10_000,
    },
    Case {
        name: "headers-100k",
        kind: Kind::Headers,
        bindings: 100_000,
        binding: |n, random| (String::new(), header_arguments(n, random)),
        message: |random| (String::new(), headers(random)),
        messages: 10_000,
    },
];

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["--count", name, messages] => {
            let messages = messages.parse().expect("--count takes a case and a number");
            let case = CASES.iter().find(|case| case.name == name).expect("a case of this name");
            case.count(messages);
        }
        ["--measure", name] => {
            CASES.iter().filter(|case| case.name == name).for_each(Case::measure);
        }
        [] => measure_all(""),
        [filter, ..] => measure_all(filter),
    }
}

fn measure_all(filter: &str) {
    println!(
        "{:<18}{:>9}{:>9}{:>11}{:>11}{:>10}{:>10}{:>10}{:>10}",
        "case", "B/bind", "bind ns", "unbind ns", "found", "mean us", "p50 us", "p99 us", "max us"
    );
    let program = std::env::current_exe().expect("a running program has a path");
    for case in CASES.iter().filter(|case| case.name.contains(filter)) {
        let run = std::process::Command::new(&program).args(["--measure", case.name]).status();
        assert!(run.is_ok_and(|status| status.success()), "{} failed", case.name);
    }
}

impl Case {
    fn count(&self, routed: usize) {
        let (matcher, messages) = (self.filled(&self.bindings()), self.messages());
        let mut out = Vec::new();
        for message in messages.iter().cycle().take(routed) {
            out.clear();
            message.route(&matcher, &mut out);
            black_box(&out);
        }
        println!("{}: {routed} messages routed", self.name);
    }

    fn measure(&self) {
        let bindings = self.bindings();
        let (resident, begun) = (resident_bytes(), Instant::now());
        let mut matcher = self.filled(&bindings);
        let bound = begun.elapsed();
        let bytes = resident_bytes().saturating_sub(resident);
        let (mut taken, found) = self.routed(&matcher);
        let begun = Instant::now();
        for (n, (key, arguments)) in (0..).zip(&bindings) {
            matcher.unbind(key.as_bytes(), arguments, Destination::Queue(n));
        }
        let unbound = begun.elapsed();
        assert!(matcher.is_empty(), "every binding is found again");

        taken.sort_unstable();
        let us = |duration: Duration| duration.as_secs_f64() * 1e6;
        let share = |part: usize| us(taken[(taken.len() - 1) * part / 100]);
        let each = |total: Duration| total.as_secs_f64() * 1e9 / bindings.len() as f64;
        println!(
            "{:<18}{:>9.0}{:>9.0}{:>11.0}{:>11.1}{:>10.2}{:>10.2}{:>10.2}{:>10.2}",
            self.name,
            bytes as f64 / bindings.len() as f64,
            each(bound),
            each(unbound),
            found as f64 / taken.len() as f64,
            us(taken.iter().sum()) / taken.len() as f64,
            share(50),
            share(99),
            share(100),
        );
    }

    fn bindings(&self) -> Vec<(String, Table)> {
        let mut random = Random(1);
        (0..self.bindings as u64).map(|n| (self.binding)(n, &mut random)).collect()
    }

    /// Each binding leads to a queue of its own.
    fn filled(&self, bindings: &[(String, Table)]) -> Matcher {
        let mut matcher =
            Matcher::new(self.kind, &Table::new(), 0).expect("invariant: no type needs arguments");
        for (n, (key, arguments)) in (0..).zip(bindings) {
            matcher
                .bind(
                    key.as_bytes(),
                    arguments,
                    End { destination: Destination::Queue(n), name: "" },
                )
                .expect("invariant: the cases hold valid bindings");
        }
        matcher
    }

    fn messages(&self) -> Vec<Message> {
        let mut random = Random(2);
        let message = |_| {
            let (key, headers) = (self.message)(&mut random);
            let mut bytes = Vec::new();
            headers.encode_body(&mut bytes);
            Message { key, headers: bytes }
        };
        (0..self.messages).map(message).collect()
    }

    /// How long each of many messages took, and how many destinations were found in all. Fewer of
    /// those that take long.
    fn routed(&self, matcher: &Matcher) -> (Vec<Duration>, usize) {
        let messages = self.messages();
        let (mut taken, mut found, mut out) = (Vec::new(), 0, Vec::new());
        let begun = Instant::now();
        for at in 0..ROUTED {
            out.clear();
            let start = Instant::now();
            messages[at % messages.len()].route(matcher, &mut out);
            taken.push(start.elapsed());
            found += black_box(&out).len();
            if begun.elapsed() > Duration::from_secs(10) {
                break;
            }
        }
        (taken, found)
    }
}

struct Message {
    key: String,
    headers: Vec<u8>,
}

impl Message {
    /// With the check of the headers, which a broker has to do once per message as well.
    fn route(&self, matcher: &Matcher, out: &mut Vec<Destination>) {
        let headers = matches!(matcher, Matcher::Headers(_))
            .then(|| RawTable::parse(&self.headers).expect("invariant: encoded above"));
        let properties = Properties { headers, ..Properties::default() };
        let keys = [self.key.as_bytes()];
        matcher.matches(Traits { keys: &keys, properties: &properties, message: None }, out);
    }
}

/// Keys such as `eu3.service17.host1234.cpu.warning`: two to six words, some common, some rare.
fn mixed_key(random: &mut Random) -> String {
    let mut words =
        vec![format!("eu{}", random.below(16)), format!("service{}", random.below(200))];
    let rest = [
        format!("host{}", random.below(50_000)),
        format!("metric{}", random.below(40)),
        format!("level{}", random.below(5)),
        format!("v{}", random.below(3)),
    ];
    let more = usize::try_from(random.below(5)).unwrap_or_default();
    words.extend(rest.into_iter().take(more));
    words.join(".")
}

/// Patterns over such keys: a third literal, a third with `*`, the rest with one `#` or two.
fn mixed_pattern(random: &mut Random) -> String {
    let key = mixed_key(random);
    let mut words: Vec<&str> = key.split('.').collect();
    let some = |random: &mut Random, len: usize| {
        usize::try_from(random.below(len as u64)).unwrap_or_default()
    };
    match random.below(12) {
        0..4 => {}
        4..8 => {
            // Common words make way for stars more often than rare ones.
            let at = some(random, 2);
            words[at] = "*";
            if words.len() > 3 && random.below(2) == 0 {
                words[3] = "*";
            }
        }
        8..10 => words.push("#"),
        10 => {
            let at = some(random, words.len());
            words[at] = "#";
        }
        _ if words.len() > 2 => {
            words[0] = "#";
            words.push("#");
        }
        _ => {}
    }
    words.join(".")
}

/// 36 characters that look like a UUID.
fn uuid(n: u64) -> String {
    let mut random = Random(n);
    let (high, low) = (random.below(u64::MAX), random.below(u64::MAX));
    let (middle, tail) = (low >> 48, low & 0xffff_ffff_ffff);
    format!(
        "{:08x}-{:04x}-{:04x}-{middle:04x}-{tail:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xffff
    )
}

fn long_key(word: fn(usize) -> String) -> String {
    (0..127).map(word).collect::<Vec<_>>().join(".")
}

/// All of a kind and a customer, or any of three customers.
fn header_arguments(n: u64, random: &mut Random) -> Table {
    let kind = format!("kind{}", random.below(10));
    let customer = |random: &mut Random| format!("customer{}", random.below(1_000));
    if n.is_multiple_of(4) {
        let names = ["customer", "payer", "reseller"];
        let any = Table::new().with("x-match", "any");
        names.iter().fold(any, |table, name| table.with(*name, customer(random)))
    } else {
        Table::new()
            .with("x-match", "all")
            .with("kind", kind)
            .with("customer", customer(random))
            .with("urgent", random.below(2) == 0)
    }
}

fn headers(random: &mut Random) -> Table {
    Table::new()
        .with("kind", format!("kind{}", random.below(10)))
        .with("customer", format!("customer{}", random.below(1_000)))
        .with("payer", format!("customer{}", random.below(1_000)))
        .with("urgent", random.below(2) == 0)
        .with("trace", random.below(u64::MAX).to_string())
}

/// SplitMix64: small, and the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % bound
    }
}

/// Memory that the process holds; 0 where the system does not say. Includes what the allocator
/// wastes, which is what an operator pays for.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
