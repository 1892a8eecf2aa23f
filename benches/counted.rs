//! What benchmarks of single parts have in common: cases with names, of which one can be run by
//! itself, without reading a clock, for `benches/instructions` to count.

/// Something that is done to so many messages.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: fn(usize),
}

/// Runs the case that `-- --count NAME MESSAGES` asks for; false when none is asked for.
/// A name that no case has is a mistake and not nothing to do.
pub(crate) fn counted(cases: &[Case]) -> bool {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ["--count", name, messages] = words[..] else { return false };
    let messages = messages.parse().expect("--count takes a case and a number");
    let case = cases.iter().find(|case| case.name == name).expect("a case of this name");
    (case.run)(messages);
    true
}
