//! What the process's exit codes mean: those of `sysexits.h`. `docs/durability.md` lists them.

use leveret::store::StoreError;

/// Something is damaged: nothing was changed, nothing was skipped (`EX_DATAERR`).
pub(crate) const DAMAGED: u8 = 65;
/// Nobody listens, or a port cannot be listened on (`EX_UNAVAILABLE`).
pub(crate) const UNAVAILABLE: u8 = 69;
/// What was to be written is there already (`EX_CANTCREAT`).
pub(crate) const EXISTS: u8 = 73;
/// The operating system failed to read or to write (`EX_IOERR`).
pub(crate) const IO: u8 = 74;
/// Another process uses the directory: later it may not (`EX_TEMPFAIL`).
pub(crate) const IN_USE: u8 = 75;
/// Data of another version (`EX_PROTOCOL`).
pub(crate) const VERSION: u8 = 76;
/// This user may not (`EX_NOPERM`).
pub(crate) const DENIED: u8 = 77;
/// The configuration is refused (`EX_CONFIG`).
pub(crate) const CONFIG: u8 = 78;

/// As `--help` tells them.
pub(crate) const HELP: &str = "\
Exit codes:
   0  stopped as told
  65  the data are damaged; leveret salvage says what can be saved
  69  a port cannot be listened on
  74  the store could not be written, synced or read: nothing was confirmed after that
  75  another process uses the data directory
  76  the data are of another version
  77  the data directory is somebody else's, or read-only
  78  the configuration is refused";

/// The exit code for what a store has failed of.
pub(crate) fn of_store(error: &StoreError) -> u8 {
    match error {
        StoreError::Damaged { .. } => DAMAGED,
        StoreError::Io { .. } => IO,
        StoreError::Locked { .. } => IN_USE,
        StoreError::Version { .. } => VERSION,
        StoreError::Denied { .. } => DENIED,
        StoreError::Exists { .. } => EXISTS,
    }
}
