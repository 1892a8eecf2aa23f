//! `leveret encrypt`: a password, from standard input, as the configuration file may hold it.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::process::ExitCode;

use leveret::config::encrypted::{Algorithm, Cipher, Hash, RANDOM_BYTES, Vault};
use leveret::config::load;
use leveret::secret::Secret;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::EncryptArgs;

/// Longer than any password that the configuration takes.
const VALUE_BYTES_MAX: u64 = 4096;

/// Prints the encrypted value, or says on standard error why there is none.
pub(crate) fn encrypt(args: &EncryptArgs) -> ExitCode {
    match encrypted(args) {
        Ok(value) => match writeln!(io::stdout(), "{value}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            eprintln!("leveret: {error}");
            ExitCode::FAILURE
        }
    }
}

fn encrypted(args: &EncryptArgs) -> Result<String, String> {
    let path = &args.passphrase_file;
    let passphrase =
        load::read_passphrase(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let value = read_value().map_err(|error| format!("standard input: {error}"))?;
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random).map_err(|error| format!("no random bytes: {error}"))?;
    let &EncryptArgs { cipher, hash, iterations, .. } = args;
    let algorithm = Algorithm { cipher, hash, iterations };
    Ok(Vault::new(passphrase, algorithm).encrypt(&value, random))
}

/// A cipher by its name.
pub(crate) fn cipher(name: &str) -> Result<Cipher, String> {
    named(name, &Cipher::NAMES)
}

/// A hash by its name.
pub(crate) fn hash(name: &str) -> Result<Hash, String> {
    named(name, &Hash::NAMES)
}

fn named<T: Copy>(name: &str, names: &[(&str, T)]) -> Result<T, String> {
    let found = names.iter().find(|(known, _)| *known == name).map(|(_, it)| *it);
    found.ok_or_else(|| {
        let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        format!("expected {}", names.join(" or "))
    })
}

/// All of standard input, or a line that is typed unseen.
fn read_value() -> io::Result<Secret> {
    let mut text = Vec::new();
    let stdin = io::stdin();
    if stdin.is_terminal() {
        let before = tcgetattr(&stdin)?;
        let mut unseen = before.clone();
        unseen.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &unseen)?;
        eprint!("Password: ");
        let mut line = String::new();
        let read = stdin.read_line(&mut line);
        tcsetattr(&stdin, OptionalActions::Flush, &before)?;
        eprintln!();
        read?;
        text = line.into_bytes();
    } else {
        stdin.lock().take(VALUE_BYTES_MAX + 2).read_to_end(&mut text)?;
    }
    for end in [b'\n', b'\r'] {
        text.pop_if(|last| *last == end);
    }
    if text.is_empty() || text.len() as u64 > VALUE_BYTES_MAX {
        let reason = format!("expected 1 to {VALUE_BYTES_MAX} bytes");
        return Err(io::Error::other(reason));
    }
    Ok(text.into())
}
