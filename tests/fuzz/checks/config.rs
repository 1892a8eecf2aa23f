//! The configuration: a file, what the command line sets, and values that are encrypted.

use leveret::config::encrypted::{Algorithm, Cipher, Hash, PREFIX, RANDOM_BYTES, Vault};
use leveret::config::{Loader, Origin};
use leveret::secret::Secret;

use super::input::{Input, text};

/// Every line is taken or refused, by its number, the same again when read again.
pub fn config(bytes: &[u8]) {
    // What is set stands behind a zero byte, each by itself.
    let mut parts = bytes.split(|byte| *byte == 0).map(text);
    let file = parts.next().unwrap_or_default();
    // A passphrase's file is read: not one of this machine's.
    if bytes.windows(10).any(|window| window.eq_ignore_ascii_case(b"passphrase")) {
        return;
    }
    let load = |file: &str, sets: &[String]| {
        let loader = Loader::new().file("some.conf", file);
        let variables = [("NAME".to_owned(), "value".to_owned())];
        let loader = loader.environment(variables);
        sets.iter().fold(loader, |loader, set| loader.set(set.as_str())).load()
    };
    let sets: Vec<String> = parts.take(16).collect();
    let loaded = load(&file, &sets);
    assert_eq!(loaded, load(&file, &sets));
    let lines = 1 + file.lines().count();
    let is_there = |origin: &Origin| match origin {
        Origin::File { line, .. } => (1..=lines).contains(&(*line as usize)),
        Origin::Set(n) => (1..=sets.len()).contains(n),
        Origin::Environment(_) => false,
    };
    match loaded {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                assert!(is_there(&warning.origin), "{warning}");
            }
            // A comment and an empty line change nothing.
            let longer = format!("# more\n\n{}", file.strip_prefix('\u{feff}').unwrap_or(&file));
            let again = load(&longer, &sets).expect("taken with a comment before it");
            assert_eq!(again.settings, loaded.settings);
        }
        Err(error) => {
            assert!(!error.problems.is_empty());
            for problem in &error.problems {
                assert!(is_there(&problem.origin), "{problem}");
                assert!(!problem.reason.is_empty());
            }
        }
    }
}

/// A value that is encrypted here is read here, and nothing else by another passphrase.
pub fn encrypted(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let algorithm = Algorithm {
        cipher: input.pick(&[Cipher::Aes128, Cipher::Aes256]),
        hash: input.pick(&[Hash::Sha256, Hash::Sha512]),
        iterations: 1 + u32::from(input.byte() % 3),
    };
    let vault = Vault::new(input.short().into(), algorithm);
    let rest = input.rest();
    drop(vault.decrypt(&text(rest)));
    let value = Secret::from(rest);
    let written = vault.encrypt(&value, [7; RANDOM_BYTES]);
    let encoded = written.strip_prefix(PREFIX).expect("it says what it is");
    assert_eq!(vault.decrypt(encoded), Ok(value));
    // Damage is seen, or shows in the value alone.
    let mut damaged = encoded.to_owned();
    damaged.truncate(encoded.len() / 2 / 4 * 4);
    drop(vault.decrypt(&damaged));
}
