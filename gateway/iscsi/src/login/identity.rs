//! Who logs in to what: the keys every first Login request declares (RFC 7143 §6.3).

use super::status::LoginStatus;
use crate::negotiation::{INITIATOR_NAME, SESSION_TYPE, TARGET_NAME};
use crate::parameters::SessionKind;
use crate::text::Pair;

/// The longest iSCSI name, in bytes (RFC 7143 §4.2.7.1).
const MAX_NAME_BYTES: usize = 223;

/// What the first request declares.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) initiator_name: String,
    pub(super) kind: SessionKind,
    /// Always there in a normal session; a discovery session may name one too.
    pub(super) target_name: Option<String>,
}

impl Identity {
    /// Finds the identity among the first message's pairs.
    ///
    /// # Errors
    /// The status the login is refused with.
    pub(super) fn read(pairs: &[Pair<'_>]) -> Result<Self, LoginStatus> {
        let value = |key: &str| pairs.iter().find(|pair| pair.key == key).map(|pair| pair.value);
        let kind = match value(SESSION_TYPE) {
            None | Some("Normal") => SessionKind::Normal,
            Some("Discovery") => SessionKind::Discovery,
            Some(_) => return Err(LoginStatus::SessionTypeNotSupported),
        };
        let initiator_name = value(INITIATOR_NAME).ok_or(LoginStatus::MissingParameter)?;
        let target_name = value(TARGET_NAME);
        if kind == SessionKind::Normal && target_name.is_none() {
            return Err(LoginStatus::MissingParameter);
        }
        if !is_name(initiator_name) {
            return Err(LoginStatus::InitiatorError);
        }
        if target_name.is_some_and(|name| !is_name(name)) {
            return Err(LoginStatus::NotFound);
        }
        let target_name = target_name.map(str::to_owned);
        Ok(Self { initiator_name: initiator_name.to_owned(), kind, target_name })
    }
}

/// Not every name an initiator uses is one the RFC would allow; what matters is that it can be shown and stored.
fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && !name.contains(|c: char| c.is_control() || c.is_whitespace())
}
