//! The journals of a crash test: what each client tried, was told and saw, in the order it did.
//!
//! One directory is one run. It holds `run` (the settings that the check needs), one
//! `publisher-N` and one `consumer-N` per client, and `ends` where the broker was ended by us, with
//! the times; each is a text file with one event a line. A line
//! is written before the thing it announces is done (attempts, settlements) or after it is seen
//! (confirms, deliveries), so that what the journal omits has certainly not happened. It is handed
//! to the system before the bytes that it speaks of are; it must not lie on the disk that is made
//! to fail.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

/// What the check must know of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunPlan {
    /// The run's number, which each message carries.
    pub(crate) run: u32,
    /// Publishers, numbered from 0.
    pub(crate) publishers: usize,
    /// Consumers, numbered from 0; see [`RunPlan::queue_of`].
    pub(crate) consumers: usize,
    /// Queues, numbered from 0.
    pub(crate) queues: usize,
    /// Every queue gets every message; otherwise message `seq` is in queue `seq` modulo the queues.
    pub(crate) fanout: bool,
    /// Each queue has one for its dead letters, with the number that is higher by `queues`. What
    /// sends messages there, beside each queue's [`Leaving`], does not exist.
    pub(crate) dead_letters: bool,
    /// So many queues, the first ones, are content with the operating system's word.
    pub(crate) os_queues: usize,
}

/// How the messages of a queue with dead letters come to be dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// Its consumer rejects some and acknowledges the others.
    Rejected,
    /// It has no consumer: after a while they expire.
    Expired,
    /// It has no consumer and is short: the oldest go first. What stays expires in the end.
    Dropped,
}

impl RunPlan {
    /// All queues, those for dead letters included.
    pub(crate) fn queues_all(&self) -> usize {
        if self.dead_letters { 2 * self.queues } else { self.queues }
    }

    /// How messages leave a queue for that of its dead letters, if they do.
    pub(crate) fn leaving(&self, queue: usize) -> Option<Leaving> {
        let ways = [Leaving::Rejected, Leaving::Expired, Leaving::Dropped];
        (self.dead_letters && queue < self.queues).then(|| ways[queue % ways.len()])
    }

    /// Whether a message in a queue is on disk, synced, before it is confirmed.
    pub(crate) fn is_synced(&self, queue: usize) -> bool {
        queue >= self.os_queues
    }

    /// The queues that someone consumes from.
    pub(crate) fn consumed(&self) -> Vec<usize> {
        let is_consumed =
            |queue: &usize| matches!(self.leaving(*queue), None | Some(Leaving::Rejected));
        (0..self.queues_all()).filter(is_consumed).collect()
    }

    /// Where a consumer consumes from: they take turns.
    pub(crate) fn queue_of(&self, consumer: usize) -> usize {
        let consumed = self.consumed();
        consumed[consumer % consumed.len()]
    }
}

/// An event of a publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Published {
    /// A new channel; its first message will have this seq.
    Channel(u64),
    /// These are about to be sent.
    Attempted(u64, u64),
    /// The broker has taken responsibility for these.
    Confirmed(u64, u64),
    /// The broker has refused these.
    Refused(u64, u64),
    /// These are about to be committed as one transaction.
    Transaction(u64, u64),
    /// The time in milliseconds: what stands below has not been sent before, and what is confirmed
    /// there had been when it was noted. Right below a channel: when its connection was asked for.
    Time(u64),
}

/// An end of the broker that was brought about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// Before it was told or killed, in milliseconds.
    pub(crate) from_ms: u64,
    /// When it was gone.
    pub(crate) to_ms: u64,
    /// The power went first: what the system had not synced is gone, too.
    pub(crate) power: bool,
}

/// An event of a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consumed {
    /// A new channel: what an earlier one had not settled comes again.
    Channel,
    /// A delivery: publisher, seq, the redelivered flag.
    Delivered(u32, u64, bool),
    /// A delivery that is about to be given back.
    Requeued(u32, u64, bool),
    /// A delivery that is about to be rejected, and so to become a dead letter.
    Rejected(u32, u64, bool),
    /// All deliveries of this channel are about to be acknowledged.
    Settled,
    /// The time in milliseconds. What stands above has happened, acknowledgements were handed to
    /// the system; what stands below has not. Right below a channel: when its connection was asked
    /// for.
    Time(u64),
    /// A delivery of another run.
    Foreign,
    /// A delivery whose checksum is wrong.
    Corrupt,
}

/// One client's journal, being written.
pub(crate) struct Journal(BufWriter<File>);

impl Journal {
    /// Starts a publisher's.
    pub(crate) fn publisher(directory: &Path, publisher: usize) -> io::Result<Self> {
        Self::create(&publisher_path(directory, publisher))
    }

    /// Starts a consumer's.
    pub(crate) fn consumer(directory: &Path, consumer: usize) -> io::Result<Self> {
        Self::create(&consumer_path(directory, consumer))
    }

    fn create(path: &Path) -> io::Result<Self> {
        Ok(Self(BufWriter::with_capacity(64 * 1024, File::create(path)?)))
    }

    /// Notes a publisher's event.
    pub(crate) fn published(&mut self, event: Published) -> io::Result<()> {
        match event {
            Published::Channel(first) => writeln!(self.0, "E {first}"),
            Published::Attempted(first, last) => writeln!(self.0, "A {first} {last}"),
            Published::Confirmed(first, last) => writeln!(self.0, "C {first} {last}"),
            Published::Refused(first, last) => writeln!(self.0, "N {first} {last}"),
            Published::Transaction(first, last) => writeln!(self.0, "T {first} {last}"),
            Published::Time(ms) => writeln!(self.0, "W {ms}"),
        }
    }

    /// Notes a consumer's event.
    pub(crate) fn consumed(&mut self, event: Consumed) -> io::Result<()> {
        match event {
            Consumed::Channel => writeln!(self.0, "E"),
            Consumed::Delivered(publisher, seq, again) => {
                writeln!(self.0, "D {publisher} {seq} {}", u8::from(again))
            }
            Consumed::Requeued(publisher, seq, again) => {
                writeln!(self.0, "R {publisher} {seq} {}", u8::from(again))
            }
            Consumed::Rejected(publisher, seq, again) => {
                writeln!(self.0, "J {publisher} {seq} {}", u8::from(again))
            }
            Consumed::Settled => writeln!(self.0, "S"),
            Consumed::Time(ms) => writeln!(self.0, "W {ms}"),
            Consumed::Foreign => writeln!(self.0, "F"),
            Consumed::Corrupt => writeln!(self.0, "X"),
        }
    }

    /// Hands everything to the file.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Makes the directory and writes the run's settings.
pub(crate) fn write_plan(directory: &Path, plan: RunPlan) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let RunPlan { run, publishers, consumers, queues, fanout, dead_letters, os_queues } = plan;
    let (fanout, dead_letters) = (u8::from(fanout), u8::from(dead_letters));
    let shape = format!("{queues} {fanout} {dead_letters} {os_queues}");
    fs::write(directory.join("run"), format!("{run} {publishers} {consumers} {shape}\n"))
}

/// Reads the run's settings.
pub(crate) fn read_plan(directory: &Path) -> io::Result<RunPlan> {
    let text = fs::read_to_string(directory.join("run"))?;
    let [run, publishers, consumers, queues, fanout, dead_letters, os_queues] =
        numbers(text.trim())?;
    let count = |number: u64| usize::try_from(number).map_err(io::Error::other);
    Ok(RunPlan {
        run: u32::try_from(run).map_err(io::Error::other)?,
        publishers: count(publishers)?,
        consumers: count(consumers)?,
        queues: count(queues)?.max(1),
        fanout: fanout == 1,
        dead_letters: dead_letters == 1,
        os_queues: count(os_queues)?,
    })
}

/// Notes that the broker was ended.
pub(crate) fn note_end(directory: &Path, end: End) -> io::Result<()> {
    let mut ends = File::options().create(true).append(true).open(directory.join("ends"))?;
    writeln!(ends, "{} {} {}", end.from_ms, end.to_ms, u8::from(end.power))
}

/// Reads when the broker was ended, in order; `None` when that is not known.
pub(crate) fn read_ends(directory: &Path) -> io::Result<Option<Vec<End>>> {
    let text = match fs::read_to_string(directory.join("ends")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let end = |line| {
        let [from_ms, to_ms, power] = numbers(line)?;
        Ok(End { from_ms, to_ms, power: power == 1 })
    };
    text.lines().map(end).collect::<io::Result<_>>().map(Some)
}

/// Reads a publisher's journal.
pub(crate) fn read_publisher(
    directory: &Path,
    publisher: usize,
    mut each: impl FnMut(Published),
) -> io::Result<()> {
    lines(&publisher_path(directory, publisher), |kind, rest| {
        each(match kind {
            'E' => numbers(rest).map(|[first]| Published::Channel(first))?,
            'A' => numbers(rest).map(|[first, last]| Published::Attempted(first, last))?,
            'C' => numbers(rest).map(|[first, last]| Published::Confirmed(first, last))?,
            'N' => numbers(rest).map(|[first, last]| Published::Refused(first, last))?,
            'T' => numbers(rest).map(|[first, last]| Published::Transaction(first, last))?,
            'W' => numbers(rest).map(|[ms]| Published::Time(ms))?,
            _ => return Err(io::Error::other(format!("an event {kind}"))),
        });
        Ok(())
    })
}

/// Reads a consumer's journal.
pub(crate) fn read_consumer(
    directory: &Path,
    consumer: usize,
    mut each: impl FnMut(Consumed),
) -> io::Result<()> {
    let delivery = |rest: &str| {
        let [publisher, seq, again] = numbers(rest)?;
        Ok::<_, io::Error>((u32::try_from(publisher).map_err(io::Error::other)?, seq, again == 1))
    };
    lines(&consumer_path(directory, consumer), |kind, rest| {
        each(match kind {
            'E' => Consumed::Channel,
            'D' => delivery(rest).map(|(p, seq, again)| Consumed::Delivered(p, seq, again))?,
            'R' => delivery(rest).map(|(p, seq, again)| Consumed::Requeued(p, seq, again))?,
            'J' => delivery(rest).map(|(p, seq, again)| Consumed::Rejected(p, seq, again))?,
            'S' => Consumed::Settled,
            'W' => numbers(rest).map(|[ms]| Consumed::Time(ms))?,
            'F' => Consumed::Foreign,
            'X' => Consumed::Corrupt,
            _ => return Err(io::Error::other(format!("an event {kind}"))),
        });
        Ok(())
    })
}

fn publisher_path(directory: &Path, publisher: usize) -> PathBuf {
    directory.join(format!("publisher-{publisher}"))
}

fn consumer_path(directory: &Path, consumer: usize) -> PathBuf {
    directory.join(format!("consumer-{consumer}"))
}

fn lines(path: &Path, mut each: impl FnMut(char, &str) -> io::Result<()>) -> io::Result<()> {
    let named = |error| io::Error::other(format!("{}: {error}", path.display()));
    for line in BufReader::new(File::open(path).map_err(named)?).lines() {
        let line = line.map_err(named)?;
        let mut chars = line.chars();
        let kind = chars.next().unwrap_or(' ');
        each(kind, chars.as_str().trim_start()).map_err(named)?;
    }
    Ok(())
}

fn numbers<const N: usize>(text: &str) -> io::Result<[u64; N]> {
    let mut numbers = [0; N];
    let mut words = text.split(' ');
    for number in &mut numbers {
        let word = words.next().unwrap_or_default();
        *number = word.parse().map_err(|_| io::Error::other(format!("no number: {word:?}")))?;
    }
    Ok(numbers)
}
