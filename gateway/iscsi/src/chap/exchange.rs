//! One CHAP exchange: algorithm, challenge, response, and the target's own response if the initiator asks for it.
//!
//! Every failure looks the same from outside (login status 0201, and an unknown user costs the same work as a wrong
//! secret); [`ChapError`] tells them apart for the log.

use std::mem;

use subtle::ConstantTimeEq;
use thiserror::Error;

use super::account::{Chap, ChapAccount};
use super::algorithm::ChapAlgorithm;
use super::binary;
use crate::entropy::Entropy;
use crate::text::{TextWriter, decode_number};

/// The longest challenge or response, in bytes (RFC 7143 §12.1.3).
const MAX_CHALLENGE_BYTES: usize = 1024;

/// The longest CHAP name, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// The CHAP keys of one request.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct ChapKeys<'a> {
    /// CHAP_A: algorithms offered.
    pub(crate) algorithms: Option<&'a str>,
    /// CHAP_N: the user.
    pub(crate) name: Option<&'a str>,
    /// CHAP_R: the response to our challenge.
    pub(crate) response: Option<&'a str>,
    /// CHAP_I: the identifier of the initiator's challenge.
    pub(crate) identifier: Option<&'a str>,
    /// CHAP_C: the initiator's challenge.
    pub(crate) challenge: Option<&'a str>,
}

impl ChapKeys<'_> {
    /// No key at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.algorithms.is_none()
            && self.name.is_none()
            && self.response.is_none()
            && self.identifier.is_none()
            && self.challenge.is_none()
    }
}

/// Why the exchange failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum ChapError {
    /// No algorithm that both sides know.
    #[error("no CHAP algorithm in common")]
    NoCommonAlgorithm,
    /// A key that belongs to another step, or one missing.
    #[error("a CHAP key is missing or out of order")]
    OutOfOrder,
    /// A value that is malformed or too long.
    #[error("a CHAP value is malformed")]
    Malformed,
    /// No account has this name.
    #[error("unknown CHAP user")]
    UnknownUser,
    /// The response does not fit the account's secret.
    #[error("wrong CHAP secret")]
    WrongSecret,
    /// The initiator asks us for a proof and we have no account.
    #[error("mutual CHAP is not configured")]
    NoMutualAccount,
    /// The initiator turned our challenge around, or both directions share a secret.
    #[error("a CHAP challenge or secret is used in both directions")]
    Reflected,
}

/// A CHAP exchange from CHAP_A to the last response.
#[derive(Debug)]
pub(crate) struct ChapExchange {
    chap: Chap,
    entropy: Entropy,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// Waiting for CHAP_A.
    Algorithm,
    /// Waiting for the answer to this challenge.
    Response(Challenge),
    /// Over, well or badly.
    Finished,
}

#[derive(Debug)]
struct Challenge {
    algorithm: ChapAlgorithm,
    identifier: u8,
    bytes: Vec<u8>,
}

impl ChapExchange {
    pub(crate) fn new(chap: Chap, entropy: Entropy) -> Self {
        Self { chap, entropy, step: Step::Algorithm }
    }

    /// Handles one request's keys and writes the answer. `Ok(Some(user))` when the initiator has proved itself.
    pub(crate) fn step(
        &mut self,
        keys: &ChapKeys<'_>,
        answer: &mut TextWriter,
    ) -> Result<Option<String>, ChapError> {
        if keys.is_empty() {
            return Ok(None);
        }
        match mem::replace(&mut self.step, Step::Finished) {
            Step::Algorithm => {
                self.step = Step::Response(self.challenge(keys, answer)?);
                Ok(None)
            }
            Step::Response(challenge) => self.judge(&challenge, keys, answer).map(Some),
            Step::Finished => Err(ChapError::OutOfOrder),
        }
    }

    /// The challenge was sent, and not answered yet.
    pub(crate) fn awaits_response(&self) -> bool {
        matches!(self.step, Step::Response(_))
    }

    fn challenge(&self, keys: &ChapKeys<'_>, answer: &mut TextWriter) -> Result<Challenge, ChapError> {
        let only_algorithms = ChapKeys { algorithms: None, ..*keys }.is_empty();
        let offered = keys.algorithms.filter(|_| only_algorithms).ok_or(ChapError::OutOfOrder)?;
        let algorithm = offered
            .split(',')
            .filter_map(decode_number)
            .find_map(|number| self.chap.algorithms.iter().find(|known| u64::from(known.number()) == number))
            .copied()
            .ok_or(ChapError::NoCommonAlgorithm)?;
        let mut identifier = [0];
        (self.entropy)(&mut identifier);
        let mut bytes = vec![0; algorithm.response_bytes()];
        (self.entropy)(&mut bytes);
        answer.push("CHAP_A", &algorithm.number().to_string());
        answer.push("CHAP_I", &identifier[0].to_string());
        answer.push("CHAP_C", &binary::encode(&bytes));
        Ok(Challenge { algorithm, identifier: identifier[0], bytes })
    }

    fn judge(
        &self,
        challenge: &Challenge,
        keys: &ChapKeys<'_>,
        answer: &mut TextWriter,
    ) -> Result<String, ChapError> {
        let (None, Some(name), Some(response)) = (keys.algorithms, keys.name, keys.response) else {
            return Err(ChapError::OutOfOrder);
        };
        if name.len() > MAX_NAME_BYTES {
            return Err(ChapError::Malformed);
        }
        let response = decode_binary(response)?;
        let user = self.verify(challenge, name, &response)?;
        if self.both_directions_share_a_secret(challenge, &response) {
            return Err(ChapError::Reflected);
        }
        match (keys.identifier, keys.challenge) {
            (None, None) => {}
            (Some(identifier), Some(bytes)) => self.prove(challenge, identifier, bytes, answer)?,
            _ => return Err(ChapError::OutOfOrder),
        }
        Ok(user)
    }

    /// The account whose response this is. An unknown user's response is computed and compared like any other, with
    /// an empty secret, and refused even if it fits.
    fn verify(&self, challenge: &Challenge, name: &str, response: &[u8]) -> Result<String, ChapError> {
        let account = self.chap.accounts.iter().find(|account| account.user == name);
        let secret = account.map_or(&[][..], |account| account.secret.expose());
        let expected = challenge.algorithm.response(challenge.identifier, secret, &challenge.bytes);
        let proved = bool::from(expected.ct_eq(response));
        let account = account.ok_or(ChapError::UnknownUser)?;
        if proved { Ok(account.user.clone()) } else { Err(ChapError::WrongSecret) }
    }

    /// RFC 7143 §9.2.1: a response equal to the one we would give ourselves is a failure, since it means that one
    /// secret serves both directions.
    fn both_directions_share_a_secret(&self, challenge: &Challenge, response: &[u8]) -> bool {
        self.chap.mutual.as_ref().is_some_and(|own| bool::from(respond(challenge, own).ct_eq(response)))
    }

    /// Answers the initiator's challenge, unless it is ours sent back.
    fn prove(
        &self,
        ours: &Challenge,
        identifier: &str,
        bytes: &str,
        answer: &mut TextWriter,
    ) -> Result<(), ChapError> {
        let own = self.chap.mutual.as_ref().ok_or(ChapError::NoMutualAccount)?;
        let identifier = decode_number(identifier).and_then(|number| u8::try_from(number).ok());
        let identifier = identifier.ok_or(ChapError::Malformed)?;
        let bytes = decode_binary(bytes)?;
        if bytes == ours.bytes {
            return Err(ChapError::Reflected);
        }
        let theirs = Challenge { algorithm: ours.algorithm, identifier, bytes };
        answer.push("CHAP_N", &own.user);
        answer.push("CHAP_R", &binary::encode(&respond(&theirs, own)));
        Ok(())
    }
}

fn respond(challenge: &Challenge, account: &ChapAccount) -> super::algorithm::Response {
    challenge.algorithm.response(challenge.identifier, account.secret.expose(), &challenge.bytes)
}

fn decode_binary(value: &str) -> Result<Vec<u8>, ChapError> {
    binary::decode(value, MAX_CHALLENGE_BYTES).map_err(|_| ChapError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chap::Secret;
    use crate::chap::algorithm::COMPUTED;

    /// What comes of a wrong proof of this user, and how many responses were computed for it.
    fn judged(user: &str) -> (ChapError, u32, Vec<u8>) {
        let account = ChapAccount { user: "alice".into(), secret: Secret::new(b"correct horse") };
        let own = ChapAccount { user: "disk".into(), secret: Secret::new(b"battery staple") };
        let chap = Chap { mutual: Some(own), ..Chap::new(vec![account]) };
        let mut exchange = ChapExchange::new(chap, |bytes| bytes.fill(7));
        let offer = ChapKeys { algorithms: Some("5"), ..ChapKeys::default() };
        exchange.step(&offer, &mut TextWriter::default()).unwrap();
        let mut answer = TextWriter::default();
        let keys = ChapKeys {
            name: Some(user),
            response: Some("0x00112233445566778899aabbccddeeff"),
            identifier: Some("1"),
            challenge: Some("0x0123456789"),
            ..ChapKeys::default()
        };
        let before = COMPUTED.get();
        let error = exchange.step(&keys, &mut answer).unwrap_err();
        (error, COMPUTED.get() - before, answer.into_bytes())
    }

    #[test]
    fn an_unknown_user_costs_and_is_told_the_same_as_a_wrong_secret() {
        assert_eq!(judged("alice"), (ChapError::WrongSecret, 1, Vec::new()));
        assert_eq!(judged("mallory"), (ChapError::UnknownUser, 1, Vec::new()));
    }
}
