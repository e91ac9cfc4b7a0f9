//! What a gateway is told to serve: targets, who may log in to them, and their disks.

use std::sync::Arc;

use huntaway_scsi::{ConfigError, Sanitization};
use iscsi_target::{Authentication, DigestPolicy};

use crate::portals::MAX_PORTALS;
use crate::volume::Volume;

/// LUNs of one target: 0 to 255.
pub const MAX_LUNS: u16 = 256;

/// Everything a gateway serves, whole: what is not in it is no longer served.
pub struct Served {
    /// The targets.
    pub targets: Vec<TargetConfig>,
    /// What an initiator must prove before it is told which targets there are.
    pub discovery: Authentication,
}

/// A target to be served.
pub struct TargetConfig {
    /// Its iSCSI name. Names compare in lower case.
    pub name: String,
    /// The names of the portals it is served through; `None`: all.
    pub portals: Option<Vec<String>>,
    /// Who may log in. The first entry that matches decides; an initiator that matches none sees no target.
    pub initiators: Vec<InitiatorConfig>,
    /// Whether sessions have digests.
    pub digests: DigestPolicy,
    /// Its disks.
    pub units: Vec<UnitConfig>,
}

/// An entry of a target's access control list.
pub struct InitiatorConfig {
    /// The initiator's iSCSI name in lower case; `*` stands for any characters, `?` for one.
    pub pattern: String,
    /// The LUNs it sees; `None`: all.
    pub luns: Option<Vec<u16>>,
    /// What it must prove at login.
    pub authentication: Authentication,
}

/// A disk to be served under a LUN.
pub struct UnitConfig {
    /// The LUN, 0 to 255.
    pub lun: u16,
    /// The disk's uuid: its identity through every gateway.
    pub uuid: [u8; 16],
    /// Bytes of a logical block: 512 or 4096.
    pub block_size: u32,
    /// Bytes of a physical block: no smaller than a logical one.
    pub physical_block_size: u32,
    /// UNMAP gives space back.
    pub thin: bool,
    /// Initiators may only read.
    pub read_only: bool,
    /// Writes are acknowledged once logged; otherwise once on stable storage.
    pub write_cache: bool,
    /// Initiators cannot change how it works by MODE SELECT: other gateways serve it, and would not know.
    pub modes_are_fixed: bool,
    /// Of a thin one: initiators are told when no more than so many bytes can be allocated.
    pub soft_threshold_bytes: u64,
    /// How the disk stood with regard to SANITIZE when it was last served, by the records: counts if it is not served yet.
    pub sanitization: Sanitization,
    /// The data.
    pub volume: Arc<Volume>,
}

/// A configuration that cannot be served. What was served before still is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Two targets have one name.
    #[error("the target {0} is there twice: give each its own name")]
    TargetTwice(String),
    /// See [`MAX_LUNS`].
    #[error("LUN {0} is out of range: write 0 to 255")]
    LunOutOfRange(u16),
    /// Two disks have one number.
    #[error("LUN {0} is given to two disks")]
    LunTwice(u16),
    /// SCSI cannot describe this disk.
    #[error("LUN {lun}: {source}")]
    Unit {
        /// Its number.
        lun: u16,
        /// Why.
        source: ConfigError,
    },
    /// Two portals have one name.
    #[error("the portal {0} is there twice: give each its own name")]
    PortalTwice(String),
    /// See [`MAX_PORTALS`].
    #[error("more than {MAX_PORTALS} portals: remove some")]
    TooManyPortals,
    /// The operating system does not tell where a portal listens.
    #[error("the portal {0} has no address: listen again")]
    PortalWithoutAddress(String),
    /// The operating system refuses what connections are served by.
    #[error(
        "cannot start the threads that serve connections (are there too many threads, or open files?): {0}"
    )]
    NoThreads(String),
}
