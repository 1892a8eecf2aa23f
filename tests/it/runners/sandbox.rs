//! What programs are not given, and what is not started.

use std::fs;

use leveret::broker::trigger::run::{Exit, Verdict, Verdicts};

use super::bench::{Bench, NOBODY, is_root, message, run_of};

/// The lines of a program that writes what a command says to `@/said`.
fn saying(command: &str) -> String {
    format!(
        "command = ['/bin/sh', '-c', '''PATH=/usr/bin:/bin; ({command}) >@/saying 2>&1; \
         mv @/saying @/said''']"
    )
}

fn said(lines: &str) -> String {
    let bench = Bench::new(&[("say", lines)]);
    let ended = bench.run("say", vec![message("a")]);
    assert_eq!(ended.exit, Exit::Code(0), "{}", ended.stderr_tail);
    bench.await_file("said")
}

#[test]
fn of_the_brokers_environment_only_what_is_named_is_passed() {
    let lines = format!(
        "{}\nenvironment = {{ OWN = 'mine' }}\npass_environment = ['CARGO_PKG_NAME']",
        saying("env | cut -d= -f1 | sort"),
    );
    assert!(std::env::var_os("HOME").is_some() || std::env::var_os("PATH").is_some());
    let names = said(&lines);
    let names: Vec<&str> = names.split_whitespace().collect();
    let mut expected = vec![
        "LEVERET_ATTEMPT",
        "LEVERET_CAUSE",
        "LEVERET_COUNT",
        "LEVERET_DATA",
        "LEVERET_EXCHANGE",
        "LEVERET_QUEUE",
        "LEVERET_REDELIVERED",
        "LEVERET_ROUTING_KEY",
        "LEVERET_RUN",
        "LEVERET_TRIGGER",
        "LEVERET_VHOST",
        "OWN",
    ];
    if std::env::var_os("CARGO_PKG_NAME").is_some() {
        expected.insert(0, "CARGO_PKG_NAME");
    }
    // The shell makes one of its own.
    let own: Vec<&str> =
        names.into_iter().filter(|name| !["PWD", "SHLVL", "_"].contains(name)).collect();
    assert_eq!(own, expected);
}

#[test]
fn a_program_is_another_user_without_groups_or_ways_back() {
    let text = said(&saying("grep -E '^(Uid|Gid|Groups|NoNewPrivs)' /proc/self/status"));
    let line = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        line.unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(line("NoNewPrivs"), ["1"]);
    if is_root() {
        let nobody = NOBODY.to_string();
        assert_eq!(line("Uid"), vec![nobody.clone(); 4]);
        assert_eq!(line("Gid"), vec![nobody; 4]);
        assert_eq!(line("Groups"), [] as [&str; 0]);
    }
}

#[test]
fn a_program_has_three_descriptors_and_a_fourth_for_results() {
    let list = "ls -l /proc/self/fd | sed -n 's/.* \\([0-9]*\\) -> .*/\\1/p' | tr '\\n' ' '";
    // Descriptors that the broker has and would pass on, were they not closed.
    let leaked: Vec<_> = (0..3)
        .map(|_| {
            let file = fs::File::open("/dev/null").unwrap();
            rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
            file
        })
        .collect();
    // `ls` has the directory open.
    assert_eq!(said(&saying(list)), "0 1 2 3 ");
    let lines = format!("{}\nresults = 'lines'", saying(list));
    assert_eq!(said(&lines), "0 1 2 3 4 ");
    drop(leaked);
}

#[test]
fn a_program_has_a_session_of_its_own_and_private_files() {
    let text = said(&saying(
        "umask; ps -o sid= -p $$ 2>/dev/null || cut -d' ' -f6 /proc/self/stat; echo $$",
    ));
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words[0], "0077");
    assert_eq!(words[1], words[2], "{text}");
}

#[test]
fn limits_hold() {
    let lines = format!(
        "{}\ndirectory = '/tmp'\n[limits]\nmemory_bytes = 268435456\ncpu_seconds = 30\n\
         open_files = 64\nprocesses = 64\nfile_bytes = 1048576",
        saying("pwd; cat /proc/self/limits"),
    );
    let text = said(&lines);
    assert!(text.starts_with("/tmp\n"), "{text}");
    for (name, soft, hard) in [
        ("Max address space", "268435456", "268435456"),
        ("Max cpu time", "30", "31"),
        ("Max open files", "64", "64"),
        ("Max processes", "64", "64"),
        ("Max file size", "1048576", "1048576"),
        ("Max core file size", "0", "0"),
    ] {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[..2], [soft, hard], "{name}");
    }
}

#[test]
fn a_program_that_takes_more_than_it_may_fails_and_nothing_else_does() {
    let bench = Bench::new(&[
        (
            "writer",
            "command = ['/bin/dd', 'if=/dev/zero', 'of=@/big', 'bs=4096', 'count=64']\n\
                    [limits]\nfile_bytes = 8192",
        ),
        ("good", "command = ['/bin/true']"),
    ]);
    let ended = bench.run("writer", vec![message("a")]);
    assert_eq!(ended.verdicts, Verdicts::All(Verdict::Failed), "{:?}", ended.exit);
    assert_eq!(fs::metadata(bench.open_file("big")).unwrap().len(), 8_192);
    assert_eq!(bench.run("good", vec![message("a")]).exit, Exit::Code(0));
}

#[test]
fn what_cannot_be_started_is_said_to_whoever_must_mend_it() {
    let bench = Bench::new(&[
        ("missing", "command = ['/nonexistent/program']"),
        ("no-interpreter", "command = ['@/script']"),
        ("no-program", "command = ['/etc/passwd']"),
        ("nowhere", "command = ['/bin/true']\ndirectory = '/nonexistent'"),
        ("raw", "command = ['/bin/true']"),
    ]);
    fs::write(bench.open_file("script"), "#!/nonexistent/interpreter\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(bench.open_file("script"), mode).unwrap();
    for (program, reason) in [
        ("missing", "cannot run /nonexistent/program: No such file or directory"),
        ("no-interpreter", "script: No such file or directory"),
        ("no-program", "cannot run /etc/passwd: Permission denied"),
        ("nowhere", "cannot start in /nonexistent: No such file or directory"),
        ("unknown", "there was no "),
    ] {
        let refusal = bench.refusal(run_of(program, vec![message("a")]));
        assert!(refusal.contains(reason), "{program}: {refusal}");
    }
    let refusal = bench.refusal(run_of("raw", vec![message("a"), message("b")]));
    assert!(refusal.contains("takes one message"), "{refusal}");
}

#[test]
fn a_program_is_started_for_queues_on_its_list_only() {
    let bench = Bench::new(&[("anywhere", "command = ['/bin/true']")]);
    let file = bench.dir.path().join("programs.d/anywhere.toml");
    let text = fs::read_to_string(&file).unwrap().replace("'*:*'", "'/:mail.*'");
    fs::write(&file, text).unwrap();
    // Nothing is looked at again until somebody says so.
    assert_eq!(bench.run("anywhere", vec![message("a")]).exit, Exit::Code(0));
    bench.read_programs_again();
    let refusal = bench.refusal(run_of("anywhere", vec![message("a")]));
    assert!(refusal.contains("may not be started for queue \"mail\" of vhost \"/\""), "{refusal}");
    let mut run = run_of("anywhere", vec![message("a")]);
    run.queue = "mail.out".into();
    run.vhost = "other".into();
    assert!(bench.refusal(run.clone()).contains("may not be started"));
    run.vhost = "/".into();
    bench.runs_well(run);
}

#[test]
fn a_start_that_failed_is_in_the_audit_log() {
    let bench = Bench::new(&[]);
    let reason = bench.refusal(run_of("unknown", vec![message("a")]));
    let noted = bench.noted("trigger.start.failed");
    let text = |name: &str| noted.get(name).unwrap().as_str().unwrap().to_owned();
    let found = ["vhost", "queue", "trigger", "reason"].map(text);
    assert_eq!(found, ["/", "mail", "send", &*reason]);
}
