//! Bugs that can be planted in a store, to see that the simulation finds them.
//!
//! Only builds with the feature `planted-bugs`, which only our own tests ask for, can plant one. In all others
//! [`Planted`] holds nothing and every question to it is answered at compile time.

/// A way to lose acknowledged writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlantedBug {
    /// A write is acknowledged before its record is written to the log.
    AcknowledgeBeforeLogging,
    /// Writes are applied to the object files before their records are on stable storage.
    ApplyBeforeDurable,
    /// A write that was to be on stable storage is acknowledged as soon as it is in the log.
    StableWithoutSync,
}

/// The bug that is planted, if any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Planted {
    #[cfg(feature = "planted-bugs")]
    bug: Option<PlantedBug>,
}

#[cfg(feature = "planted-bugs")]
impl From<PlantedBug> for Planted {
    fn from(bug: PlantedBug) -> Self {
        Self { bug: Some(bug) }
    }
}

impl Planted {
    #[cfg(feature = "planted-bugs")]
    pub(crate) fn is(self, bug: PlantedBug) -> bool {
        self.bug == Some(bug)
    }

    #[cfg(not(feature = "planted-bugs"))]
    pub(crate) fn is(self, _bug: PlantedBug) -> bool {
        false
    }
}
