//! Programs that work as they should, and what their ends mean.

use std::fs;

use leveret::broker::trigger::run::{Exit, Outcome, Verdict, Verdicts};

use super::bench::{Bench, await_that, message, run_of, verdicts};

/// The lines of a program that is a shell script. The shell is the operator's wish here.
fn script(text: &str) -> String {
    format!("command = ['/bin/sh', '-c', '''{text}''']\npass_environment = ['PATH']")
}

#[test]
fn a_program_reads_the_body_and_its_exit_code_is_the_verdict() {
    let bench = Bench::new(&[("exit", &script("exit $(cat)"))]);
    for (code, verdict) in [
        (0, Verdict::Ack),
        (75, Verdict::Retry { delay_ms: None }),
        (65, Verdict::Reject),
        (1, Verdict::Failed),
        (127, Verdict::Failed),
    ] {
        let ended = bench.run("exit", vec![message(&code.to_string())]);
        assert_eq!((ended.exit, ended.verdicts), (Exit::Code(code), Verdicts::All(verdict)));
    }
}

#[test]
fn a_body_of_any_size_arrives_whole() {
    let bench = Bench::new(&[("count", &script("wc -c >@/count; mv @/count @/counted"))]);
    let ended = bench.run("count", vec![message(&"x".repeat(3_000_000))]);
    assert_eq!(ended.verdicts, Verdicts::All(Verdict::Ack));
    assert_eq!(bench.await_file("counted").trim(), "3000000");
}

#[test]
fn a_program_need_not_read_its_input() {
    let bench = Bench::new(&[("deaf", &script("exec true"))]);
    let ended = bench.run("deaf", vec![message(&"x".repeat(3_000_000))]);
    assert_eq!(ended.exit, Exit::Code(0));
}

#[test]
fn bodies_and_names_are_never_taken_for_commands() {
    let evil = "$(touch @/x) `touch @/x`; touch @/x\n\"'&|\\";
    let bench = Bench::new(&[(
        "echo",
        "command = ['/bin/sh', '-c', 'cat >@/body; printf %s \"$2$LEVERET_QUEUE$LEVERET_DATA\" \
         >@/names', 'sh', '--', '{queue}']\npass_environment = ['PATH']",
    )]);
    let open = bench.open_file("").display().to_string();
    let evil = evil.replace('@', open.trim_end_matches('/'));
    let mut run = run_of("echo", vec![message(&evil)]);
    run.queue = evil.as_str().into();
    let Outcome::Ended(ended) = bench.outcome(bench.want(run)) else { panic!("it did not run") };
    assert_eq!(ended.exit, Exit::Code(0), "{}", ended.stderr_tail);
    assert_eq!(bench.await_file("body"), evil);
    assert_eq!(bench.await_file("names"), format!("{evil}{evil}some data"));
    assert!(!bench.open_file("x").exists());
}

#[test]
fn results_on_descriptor_3_speak_for_each_message() {
    let text = r#"read line; printf '{"id":0,"result":"ack"}\n{"id":1,"result":"reject"}\n' >&3
        exit 75"#;
    let lines = format!("{}\ninput = 'ndjson'\nresults = 'lines'", script(text));
    let bench = Bench::new(&[("lines", &lines)]);
    let ended = bench.run("lines", vec![message("a"), message("b"), message("c")]);
    let retry = Verdict::Retry { delay_ms: None };
    assert_eq!(verdicts(&ended, 3), [Verdict::Ack, Verdict::Reject, retry]);
}

#[test]
fn lambdas_handlers_answer_on_standard_output() {
    let text = r#"cat >/dev/null; printf '{"batchItemFailures":[{"itemIdentifier":"1"}]}'"#;
    let rest = "input = 'ndjson'\nresults = 'batch-item-failures'\noutput_bytes_max = 100";
    let flood = "head -c 200 /dev/zero | tr '\\0' ' '";
    let bench = Bench::new(&[
        ("handler", &format!("{}\n{rest}", script(text))),
        ("flood", &format!("{}\n{rest}", script(flood))),
    ]);
    let ended = bench.run("handler", vec![message("a"), message("b")]);
    assert_eq!(verdicts(&ended, 2), [Verdict::Ack, Verdict::Failed]);
    let ended = bench.run("flood", vec![message("a"), message("b")]);
    assert_eq!(verdicts(&ended, 2), [Verdict::Failed, Verdict::Failed]);
    assert!(ended.stderr_tail.contains("longer than output_bytes_max"), "{}", ended.stderr_tail);
}

#[test]
fn the_end_of_what_a_program_complains_of_is_kept_however_much_it_is() {
    let bench =
        Bench::new(&[("loud", &script("yes | head -c 2000000 >&2; echo the end >&2; exit 3"))]);
    let ended = bench.run("loud", vec![message("a")]);
    assert_eq!(ended.exit, Exit::Code(3));
    assert!(ended.stderr_tail.ends_with("y\nthe end"), "{}", ended.stderr_tail);
    assert!(ended.stderr_tail.len() <= 4_096);
}

#[test]
fn there_are_never_more_programs_at_once_than_may_be() {
    let text = "mkdir @/$LEVERET_RUN; ls -d @/[0-9]* | wc -l >>@/seen; sleep 0.05; \
                rmdir @/$LEVERET_RUN";
    let bench = Bench::with_room_for(2, &[("slow", &script(text))]);
    let runs: Vec<u64> = (0..12).map(|_| bench.start("slow", vec![message("a")])).collect();
    for run in runs {
        assert!(matches!(bench.outcome(run), Outcome::Ended(_)));
    }
    let seen = fs::read_to_string(bench.open_file("seen")).unwrap();
    let seen: Vec<u32> = seen.lines().map(|line| line.trim().parse().unwrap()).collect();
    assert_eq!((seen.len(), seen.iter().max()), (12, Some(&2)));
}

#[test]
fn a_node_that_stops_ends_its_programs_and_their_messages_go_back() {
    let text = "trap 'echo told >@/told; exit 0' TERM; echo >@/begun; while :; do sleep 0.02; done";
    let bench = Bench::new(&[("patient", &script(text))]);
    let run = bench.start("patient", vec![message("a")]);
    bench.await_file("begun");
    bench.stop();
    assert!(matches!(bench.outcome(run), Outcome::Stopped));
    assert_eq!(bench.await_file("told"), "told\n");
}

#[test]
fn what_a_program_has_told_before_the_node_stops_holds() {
    let text = r#"printf '{"id":1,"result":"ack"}\n' >&3; echo >@/begun; sleep 60"#;
    let lines = format!("{}\ninput = 'ndjson'\nresults = 'lines'", script(text));
    let bench = Bench::new(&[("half", &lines)]);
    let run = bench.start("half", vec![message("a"), message("b")]);
    bench.await_file("begun");
    bench.stop();
    let Outcome::Ended(ended) = bench.outcome(run) else { panic!("nothing was told") };
    let at_once = Verdict::Retry { delay_ms: Some(0) };
    assert_eq!(verdicts(&ended, 2), [at_once, Verdict::Ack]);
}

#[test]
fn a_program_does_not_outlive_its_timeout_nor_do_its_children() {
    let text = "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ >@/child; sleep 60' & \
                echo $$ >@/parent; wait";
    let lines = format!("{}\ntimeout_ms = 300\ngrace_ms = 50", script(text));
    let bench = Bench::new(&[("stubborn", &lines)]);
    let ended = bench.run("stubborn", vec![message("a")]);
    assert_eq!((ended.exit, ended.verdicts), (Exit::TimedOut, Verdicts::All(Verdict::Failed)));
    for name in ["parent", "child"] {
        is_gone(&bench.await_file(name));
    }
}

#[test]
fn children_that_have_left_the_process_group_end_at_the_timeout_too() {
    let text = "setsid sh -c 'trap \"\" TERM; echo $$ >@/child; sleep 60' & wait";
    let lines = format!("{}\ntimeout_ms = 300\ngrace_ms = 50", script(text));
    let bench = Bench::new(&[("leaver", &lines)]);
    assert_eq!(bench.run("leaver", vec![message("a")]).exit, Exit::TimedOut);
    is_gone(&bench.await_file("child"));
}

#[test]
fn a_program_that_is_told_to_end_may_tidy_up() {
    let text = "trap 'echo tidy >@/tidy; exit 0' TERM; while :; do sleep 0.02; done";
    let lines = format!("{}\ntimeout_ms = 200\ngrace_ms = 10000", script(text));
    let bench = Bench::new(&[("tidy", &lines)]);
    let ended = bench.run("tidy", vec![message("a")]);
    assert_eq!((ended.exit, ended.verdicts), (Exit::TimedOut, Verdicts::All(Verdict::Failed)));
    assert!(bench.open_file("tidy").exists());
}

#[test]
fn what_a_program_leaves_behind_ends_with_it() {
    let bench = Bench::new(&[("leaver", &script("sleep 60 & echo $! >@/child; exit 0"))]);
    let ended = bench.run("leaver", vec![message("a")]);
    assert_eq!(ended.exit, Exit::Code(0));
    is_gone(&bench.await_file("child"));
}

fn is_gone(pid: &str) {
    let stat = format!("/proc/{}/stat", pid.trim());
    // Nobody may have waited for it yet.
    let is_dead = || fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
    await_that(&format!("process {pid} is gone"), is_dead);
}
