//! The security stage (RFC 7143 §6.3.2, §12.1): which method, and its exchange.

use super::refusal::RefusalReason;
use crate::chap::{ChapExchange, ChapKeys};
use crate::directory::Authentication;
use crate::entropy::Entropy;
use crate::negotiation::choose;
use crate::text::{Pair, TextWriter};

const AUTH_METHOD: &str = "AuthMethod";

/// How far authentication has come.
pub(super) enum Security {
    /// None is needed.
    NotRequired,
    /// CHAP is needed and the initiator has not agreed to it yet.
    Required(Box<ChapExchange>),
    /// CHAP was agreed on.
    Chap(Box<ChapExchange>),
    /// The initiator proved to be this user.
    Proved(String),
}

impl Security {
    pub(super) fn new(authentication: Authentication, entropy: Entropy) -> Self {
        match authentication {
            Authentication::None => Self::NotRequired,
            Authentication::Chap(chap) => Self::Required(Box::new(ChapExchange::new(chap, entropy))),
        }
    }

    /// Answers the security keys of one request.
    ///
    /// # Errors
    /// Why the login is refused.
    pub(super) fn step(&mut self, pairs: &[Pair<'_>], answers: &mut TextWriter) -> Result<(), RefusalReason> {
        if let Some(offered) = value(pairs, AUTH_METHOD) {
            self.agree(offered, answers)?;
        }
        let keys = ChapKeys {
            algorithms: value(pairs, "CHAP_A"),
            name: value(pairs, "CHAP_N"),
            response: value(pairs, "CHAP_R"),
            identifier: value(pairs, "CHAP_I"),
            challenge: value(pairs, "CHAP_C"),
        };
        match self {
            Self::Chap(exchange) => {
                if let Some(user) = exchange.step(&keys, answers)? {
                    *self = Self::Proved(user);
                }
                Ok(())
            }
            _ if keys.is_empty() => Ok(()),
            Self::Required(_) => Err(RefusalReason::ChapNotOffered),
            Self::NotRequired | Self::Proved(_) => Err(RefusalReason::ChapMalformed),
        }
    }

    /// Answers AuthMethod. Nothing in common ends the login.
    fn agree(&mut self, offered: &str, answers: &mut TextWriter) -> Result<(), RefusalReason> {
        let (acceptable, otherwise): (&[&'static str], _) = match self {
            Self::NotRequired => (&["None"], RefusalReason::AuthenticationNotConfigured),
            Self::Required(_) => (&["CHAP"], RefusalReason::ChapNotOffered),
            Self::Chap(_) | Self::Proved(_) => (&[], RefusalReason::ChapMalformed),
        };
        let method = choose(offered, acceptable).ok_or(otherwise)?;
        answers.push(AUTH_METHOD, method);
        *self = match std::mem::replace(self, Self::NotRequired) {
            Self::Required(exchange) => Self::Chap(exchange),
            other => other,
        };
        Ok(())
    }

    /// Authentication is required and was not begun.
    pub(super) fn is_untouched(&self) -> bool {
        matches!(self, Self::Required(_))
    }

    /// A challenge was sent.
    pub(super) fn awaits_proof(&self) -> bool {
        matches!(self, Self::Chap(exchange) if exchange.awaits_response())
    }

    /// Nothing stands in the way of the next stage.
    pub(super) fn is_done(&self) -> bool {
        matches!(self, Self::NotRequired | Self::Proved(_))
    }

    /// The user the initiator proved to be.
    pub(super) fn into_user(self) -> Option<String> {
        match self {
            Self::Proved(user) => Some(user),
            _ => None,
        }
    }
}

fn value<'a>(pairs: &[Pair<'a>], key: &str) -> Option<&'a str> {
    pairs.iter().find(|pair| pair.key == key).map(|pair| pair.value)
}
