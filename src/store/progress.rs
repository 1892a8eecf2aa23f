//! How safe a message must be before its publisher is told, and what such an answer waits for.

use super::Lsn;

/// How safe a queue's persistent messages are once their publishers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Durability {
    /// With the operating system, which writes them within 200 ms: they survive the end of the
    /// process, as in RabbitMQ's classic queues.
    Os,
    /// On disk: they survive a power cut.
    #[default]
    Fsync,
}

impl Durability {
    /// As `x-durability` names it.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        match name {
            b"fsync" => Some(Self::Fsync),
            b"os" => Some(Self::Os),
            _ => None,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fsync => "fsync",
            Self::Os => "os",
        }
    }
}

/// How far the store must have come, or has come: each watermark for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Written: with the operating system.
    pub written: Lsn,
    /// Synced: on disk.
    pub synced: Lsn,
}

impl Progress {
    /// Nothing: reached from the start.
    pub const NOW: Self = Self { written: Lsn::ZERO, synced: Lsn::ZERO };

    /// A place, as safe as that.
    #[must_use]
    pub fn at(lsn: Lsn, durability: Durability) -> Self {
        match durability {
            Durability::Fsync => Self { written: Lsn::ZERO, synced: lsn },
            Durability::Os => Self { written: lsn, synced: Lsn::ZERO },
        }
    }

    /// Both this and the other.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let written = self.written.max(other.written);
        Self { written, synced: self.synced.max(other.synced) }
    }

    /// Whether a store that has come so far has reached what is due. What is synced is written.
    #[must_use]
    pub fn is_reached(self, reached: Self) -> bool {
        self.synced <= reached.synced && self.written <= reached.written.max(reached.synced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_is_reached_by_each_watermark_for_itself() {
        let reached = Progress { written: Lsn(7), synced: Lsn(5) };
        assert!(Progress::NOW.is_reached(Progress::NOW));
        assert!(Progress::at(Lsn(5), Durability::Fsync).is_reached(reached));
        assert!(!Progress::at(Lsn(6), Durability::Fsync).is_reached(reached));
        assert!(Progress::at(Lsn(7), Durability::Os).is_reached(reached));
        assert!(!Progress::at(Lsn(8), Durability::Os).is_reached(reached));
        let both =
            Progress::at(Lsn(7), Durability::Os).and(Progress::at(Lsn(6), Durability::Fsync));
        assert!(!both.is_reached(reached));
        assert!(
            both.is_reached(Progress { written: Lsn::ZERO, synced: Lsn(7) }),
            "synced is written"
        );
    }
}
