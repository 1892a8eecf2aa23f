//! What a program said becomes of its messages.
//!
//! Its exit code speaks for all of them, unless its file says that it tells of each. What cannot be
//! understood is never taken for success.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value as Json;

use super::file::Results;
use crate::broker::trigger::run::{Exit, Handed, Verdict, Verdicts};
use crate::runners::shown;

/// Exit codes, as `sysexits.h` has them: something temporary (EX_TEMPFAIL), input that is wrong
/// (EX_DATAERR).
const EXIT_RETRY: i32 = 75;
const EXIT_REJECT: i32 = 65;

/// What a program wrote, as far as it was kept.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) bytes: Vec<u8>,
    /// It wrote more than may be kept.
    pub(super) is_cut: bool,
}

/// What becomes of the messages, and what was wrong with the answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) verdicts: Verdicts,
    pub(super) fault: Option<String>,
}

/// The verdict of an exit alone.
pub(super) fn of_exit(exit: &Exit) -> Verdict {
    match exit {
        Exit::Code(0) => Verdict::Ack,
        Exit::Code(EXIT_RETRY) => Verdict::Retry { delay_ms: None },
        Exit::Code(EXIT_REJECT) => Verdict::Reject,
        _ => Verdict::Failed,
    }
}

/// The verdicts of a program that ended by itself or at its timeout; `other` is what becomes of
/// messages of which it told nothing.
pub(super) fn read(
    results: Results,
    other: Verdict,
    messages: &[Handed],
    written: &Written,
) -> Answer {
    let told = match results {
        _ if messages.is_empty() => return of_all(other),
        Results::ExitCode => return of_all(other),
        // Whoever says that some have failed says that he has been through all of them.
        Results::BatchItemFailures if other != Verdict::Ack => return of_all(other),
        Results::BatchItemFailures => failures(messages, written),
        Results::Lines => lines(messages, written),
    };
    let (mut told, fault) = match told {
        Ok(told) => (told, None),
        Err((told, fault)) => (told, Some(fault)),
    };
    let other = if fault.is_some() { Verdict::Failed } else { other };
    told.resize(messages.len(), None);
    let verdicts = told.into_iter().map(|verdict| verdict.unwrap_or(other)).collect();
    Answer { verdicts: Verdicts::Each(verdicts), fault }
}

fn of_all(verdict: Verdict) -> Answer {
    Answer { verdicts: Verdicts::All(verdict), fault: None }
}

/// For each message what was told of it; with what was wrong.
type Told = Result<Vec<Option<Verdict>>, (Vec<Option<Verdict>>, String)>;

#[derive(Deserialize)]
struct Line {
    id: Option<Json>,
    message_id: Option<Json>,
    result: Word,
    delay_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Ack,
    Fail,
    Reject,
    Retry,
}

/// Lines as `{"id": 0, "result": "ack"}`. Of several for one message the last counts.
fn lines(messages: &[Handed], written: &Written) -> Told {
    let mut told = vec![None; messages.len()];
    if written.is_cut {
        let fault = "more results than output_bytes_max on descriptor 3";
        return Err((told, fault.to_owned()));
    }
    let names = Names::of(messages);
    for (at, line) in written.bytes.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let fault = |reason: &str| format!("line {} on descriptor 3: {reason}", at + 1);
        let line: Line = match serde_json::from_slice(line) {
            Ok(line) => line,
            Err(error) => return Err((told, fault(&error.to_string()))),
        };
        let Some(places) = line.id.or(line.message_id).and_then(|id| names.places(&id)) else {
            return Err((told, fault("no message has this id")));
        };
        let verdict = match line.result {
            Word::Ack => Verdict::Ack,
            Word::Fail => Verdict::Failed,
            Word::Reject => Verdict::Reject,
            Word::Retry => Verdict::Retry { delay_ms: line.delay_ms },
        };
        for place in places {
            told[place] = Some(verdict);
        }
    }
    Ok(told)
}

#[derive(Deserialize)]
struct Failures {
    #[serde(rename = "batchItemFailures")]
    items: Option<Vec<Failure>>,
}

#[derive(Deserialize)]
struct Failure {
    #[serde(rename = "itemIdentifier")]
    item: Json,
}

/// Lambda's `{"batchItemFailures": [{"itemIdentifier": "0"}]}`. As there, no answer and an empty
/// one mean success, and one that is invalid or names what is not there that all have failed.
fn failures(messages: &[Handed], written: &Written) -> Told {
    let failed = |reason: String| (Vec::new(), format!("standard output: {reason}"));
    if written.is_cut {
        return Err(failed("longer than output_bytes_max".to_owned()));
    }
    if written.bytes.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    let answer: Option<Failures> =
        serde_json::from_slice(&written.bytes).map_err(|error| failed(error.to_string()))?;
    let items = answer.and_then(|answer| answer.items).unwrap_or_default();
    let names = Names::of(messages);
    let mut told = vec![None; messages.len()];
    for Failure { item } in items {
        let unknown = || failed(format!("no message has the id {item}"));
        for place in names.places(&item).ok_or_else(unknown)? {
            told[place] = Some(Verdict::Failed);
        }
    }
    Ok(told)
}

/// The names of a batch's messages: their places in it, and what their publishers call them.
struct Names {
    count: usize,
    ids: HashMap<Vec<u8>, Vec<usize>>,
}

impl Names {
    fn of(messages: &[Handed]) -> Self {
        let mut ids: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
        for (place, handed) in messages.iter().enumerate() {
            if let Some(id) = shown::read_properties(&handed.message).message_id {
                ids.entry(id.to_vec()).or_default().push(place);
            }
        }
        Self { count: messages.len(), ids }
    }

    /// A place is a number, as text too unless a message is called that.
    fn places(&self, name: &Json) -> Option<Vec<usize>> {
        let number = match name {
            Json::Number(number) => number.as_u64(),
            Json::String(text) => match self.ids.get(text.as_bytes()) {
                Some(places) => return Some(places.clone()),
                None => text.parse().ok(),
            },
            _ => None,
        };
        let place = usize::try_from(number?).ok().filter(|place| *place < self.count)?;
        Some(vec![place])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runners::tests::{handed, handed_as};

    const RETRY: Verdict = Verdict::Retry { delay_ms: None };

    fn answer(results: Results, exit: i32, text: &str) -> (Vec<Verdict>, Option<String>) {
        let messages = [handed(b"0"), handed(b"1"), handed_as("order-2")];
        let written = Written { bytes: text.into(), is_cut: false };
        let Answer { verdicts, fault } =
            read(results, of_exit(&Exit::Code(exit)), &messages, &written);
        ((0..3).map(|place| verdicts.at(place)).collect(), fault)
    }

    #[test]
    fn an_exit_code_speaks_for_all_messages() {
        let verdicts = [
            (Exit::Code(0), Verdict::Ack),
            (Exit::Code(75), RETRY),
            (Exit::Code(65), Verdict::Reject),
            (Exit::Code(1), Verdict::Failed),
            (Exit::Code(127), Verdict::Failed),
            (Exit::Signal(9), Verdict::Failed),
            (Exit::TimedOut, Verdict::Failed),
        ];
        for (exit, verdict) in verdicts {
            assert_eq!(of_exit(&exit), verdict, "{exit}");
        }
        let (verdicts, fault) = answer(Results::ExitCode, 0, "anything");
        assert_eq!((verdicts, fault), (vec![Verdict::Ack; 3], None));
    }

    #[test]
    fn lines_speak_for_their_messages_and_the_exit_code_for_the_others() {
        let text = "{\"id\":0,\"result\":\"ack\"}\n\n{\"message_id\":\"order-2\",\"result\":\
                    \"retry\",\"delay_ms\":5}\n{\"id\":0,\"result\":\"reject\"}";
        let (verdicts, fault) = answer(Results::Lines, 1, text);
        let later = Verdict::Retry { delay_ms: Some(5) };
        assert_eq!((verdicts, fault), (vec![Verdict::Reject, Verdict::Failed, later], None));
        let (verdicts, _) = answer(Results::Lines, 0, "{\"id\":\"1\",\"result\":\"fail\"}\n");
        assert_eq!(verdicts, [Verdict::Ack, Verdict::Failed, Verdict::Ack]);
    }

    #[test]
    fn after_a_line_that_makes_no_sense_the_rest_has_failed() {
        for bad in ["nonsense", "{\"id\":3,\"result\":\"ack\"}", "{\"id\":1,\"result\":\"done\"}"] {
            let text = format!("{{\"id\":0,\"result\":\"ack\"}}\n{bad}\n");
            let (verdicts, fault) = answer(Results::Lines, 0, &text);
            assert_eq!(verdicts, [Verdict::Ack, Verdict::Failed, Verdict::Failed], "{bad}");
            let fault = fault.unwrap();
            assert!(fault.starts_with("line 2 on descriptor 3: "), "{fault}");
        }
    }

    #[test]
    fn batch_item_failures_are_read_as_lambda_reads_them() {
        let (all, failed) = (vec![Verdict::Ack; 3], vec![Verdict::Failed; 3]);
        let good = ["", " \n", "null", "{}", "{\"batchItemFailures\":null}", "{\"other\":1}"];
        for text in good {
            assert_eq!(answer(Results::BatchItemFailures, 0, text), (all.clone(), None), "{text}");
        }
        let some = "{\"batchItemFailures\":[{\"itemIdentifier\":\"1\"},{\"itemIdentifier\":\
                    \"order-2\"}]}";
        let (verdicts, _) = answer(Results::BatchItemFailures, 0, some);
        assert_eq!(verdicts, [Verdict::Ack, Verdict::Failed, Verdict::Failed]);
        let bad = [
            "done",
            "[1]",
            "{\"batchItemFailures\":{}}",
            "{\"batchItemFailures\":[{}]}",
            "{\"batchItemFailures\":[{\"itemIdentifier\":\"\"}]}",
            "{\"batchItemFailures\":[{\"itemIdentifier\":\"9\"}]}",
        ];
        for text in bad {
            let (verdicts, fault) = answer(Results::BatchItemFailures, 0, text);
            assert_eq!(verdicts, failed, "{text}");
            assert!(fault.unwrap().starts_with("standard output: "), "{text}");
        }
        assert_eq!(answer(Results::BatchItemFailures, 1, some), (failed, None));
    }

    #[test]
    fn an_answer_that_was_cut_is_none() {
        let written = Written { bytes: b"{}".to_vec(), is_cut: true };
        for results in [Results::Lines, Results::BatchItemFailures] {
            let answer = read(results, Verdict::Ack, &[handed(b"0")], &written);
            assert_eq!(answer.verdicts.at(0), Verdict::Failed);
            assert!(answer.fault.is_some());
        }
        let none = read(Results::Lines, Verdict::Ack, &[], &written);
        assert_eq!(none, of_all(Verdict::Ack));
    }
}
