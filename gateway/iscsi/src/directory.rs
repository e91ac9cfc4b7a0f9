//! What the login phase and SendTargets look up: which targets exist, and who may log in how. The library only
//! asks; the gateway answers from its configuration.

use crate::chap::Chap;
use crate::login::RefusalReason;

/// Pure look-ups about targets and initiators. They are called while a PDU is handled, so they must not block.
pub trait Directory: Send + Sync {
    /// The targets that this initiator may discover, for SendTargets (RFC 7143 appendix C).
    fn targets(&self, initiator: &str) -> Vec<TargetListing>;

    /// May this initiator try to log in to `target` (`None`: a discovery session), and how must it prove who it
    /// is?
    ///
    /// # Errors
    /// Why the login is refused: [`RefusalReason::NoSuchTarget`], [`RefusalReason::NotThroughPortal`] or
    /// [`RefusalReason::NotAllowed`].
    fn admit(&self, initiator: &str, target: Option<&str>) -> Result<Admission, RefusalReason>;
}

/// On what terms an initiator is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// What it must prove.
    pub authentication: Authentication,
    /// Whether its session has digests.
    pub digests: DigestPolicy,
}

/// Whether a session's PDUs carry CRC32C digests, of header and data alike (RFC 7143 §13.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DigestPolicy {
    /// As the initiator prefers.
    #[default]
    Allowed,
    /// Both digests: an initiator that does not offer CRC32C is refused.
    Required,
    /// None: CRC32C is not agreed to.
    Off,
}

/// One target as SendTargets shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetListing {
    /// The target's iSCSI name.
    pub name: String,
    /// Its portals: address and port as advertised (`10.0.0.1:3260`, `[2001:db8::1]:3260`), and the target portal
    /// group tag.
    pub addresses: Vec<(String, u16)>,
}

/// What an initiator must prove before it reaches the operational stage (RFC 7143 §12.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication {
    /// Nothing: the security stage may be skipped.
    None,
    /// That it knows the secret of one of these accounts.
    Chap(Chap),
}
