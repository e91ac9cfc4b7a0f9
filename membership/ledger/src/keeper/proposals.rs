//! What followers propose, and what became of it.

use core::time::Duration;
use std::collections::BTreeMap;

use super::{Follower, Keeper, KeeperBug, MAX_FOLLOWERS, MAX_UNANSWERED, Output, Proposal, ProposalAnswer};
use crate::{DiskRecord, Record, SetRecord};

/// Proposals of one follower.
#[derive(Debug, Clone, Default)]
pub(super) struct Proposals {
    /// Those whose answer it may not know of; `None`: there is no answer yet.
    answers: BTreeMap<u64, Option<ProposalAnswer>>,
    /// It knows the answers to all before this one.
    unanswered_from: u64,
    connections: usize,
    /// When it left, counted in departures.
    left: u64,
}

impl Keeper {
    pub(super) fn connected(&mut self, by: Follower) {
        let remembers = self.followers.contains_key(&by);
        if !remembers && self.followers.len() >= MAX_FOLLOWERS {
            let gone = self.followers.iter().filter(|(_, proposals)| proposals.connections == 0);
            let first = gone.min_by_key(|(_, proposals)| proposals.left).map(|(follower, _)| *follower);
            // If all are there, whatever this one proposes is not taken.
            let Some(first) = first else { return self.outputs.push(Output::Connected { by, remembers }) };
            self.followers.remove(&first);
        }
        self.followers.entry(by).or_default().connections += 1;
        self.outputs.push(Output::Connected { by, remembers });
    }

    pub(super) fn disconnected(&mut self, by: Follower) {
        self.left += 1;
        if let Some(proposals) = self.followers.get_mut(&by) {
            proposals.connections = proposals.connections.saturating_sub(1);
            proposals.left = self.left;
        }
    }

    /// Whether the proposal has an answer, or waits for one: it is not agreed on again.
    pub fn knows(&self, by: Follower, number: u64) -> bool {
        self.followers.get(&by).is_some_and(|known| known.answers.contains_key(&number))
    }

    /// Takes a proposal, once.
    pub(super) fn proposed(
        &mut self,
        now: Duration,
        (by, number): (Follower, u64),
        unanswered_from: u64,
        proposal: Proposal,
    ) {
        let agrees_again = self.has(KeeperBug::AgreedAgain);
        let Some(proposals) = self.followers.get_mut(&by) else {
            let answer = ProposalAnswer::Forgotten;
            return self.outputs.push(Output::Answered { by, number, answer });
        };
        proposals.unanswered_from = proposals.unanswered_from.max(unanswered_from);
        proposals.answers = proposals.answers.split_off(&proposals.unanswered_from);
        if number < proposals.unanswered_from {
            return;
        }
        let known = proposals.answers.get(&number).copied().filter(|_| !agrees_again);
        if known.is_none() && proposals.answers.len() >= MAX_UNANSWERED {
            let answer = ProposalAnswer::TooMany;
            return self.outputs.push(Output::Answered { by, number, answer });
        }
        let answer = match known {
            Some(known) => known,
            None => {
                proposals.answers.insert(number, None);
                match proposal {
                    Proposal::Record(record) => Some(self.decide(record)),
                    Proposal::Hold { disks, then } => self.hold(now, (by, number), disks, then),
                }
            }
        };
        if let Some(answer) = answer {
            self.answer((by, number), answer);
        }
    }

    pub(super) fn answer(&mut self, (by, number): (Follower, u64), answer: ProposalAnswer) {
        if let Some(known) = self.followers.get_mut(&by).and_then(|known| known.answers.get_mut(&number)) {
            *known = Some(answer);
        }
        self.outputs.push(Output::Answered { by, number, answer });
    }

    fn decide(&mut self, record: Record) -> ProposalAnswer {
        // Whoever wants a VDI to grow may not know that it is as large or larger by now, in use, and growing further.
        let grows_no_more = match &record {
            Record::ResizeVdi { vid, size_bytes } => {
                self.ledger.state().vdi_by_vid(*vid).is_some_and(|vdi| *size_bytes <= vdi.size_bytes)
            }
            _ => false,
        };
        if grows_no_more || !is_proposable(&record) {
            return ProposalAnswer::NotProposable;
        }
        let record = match self.ledger.state().disks().next() {
            Some(vid) => record.with_vid(vid),
            None => record,
        };
        match self.agree(&record) {
            Ok(record) => ProposalAnswer::Agreed { record },
            Err(_) => ProposalAnswer::Refused { at: self.ledger.state().number() },
        }
    }
}

/// Whether others may want the record. Who is there is for the keeper to say, and so is what holds come to.
fn is_proposable(record: &Record) -> bool {
    match record {
        Record::Incarnation { .. } => false,
        Record::Sets(record) => matches!(record, SetRecord::Changed { .. } | SetRecord::Forced { .. }),
        Record::Disks(record) => matches!(
            record,
            DiskRecord::DeleteSnapshot { .. } | DiskRecord::DeleteDisk { .. } | DiskRecord::Fence { .. }
        ),
        Record::Epoch(_)
        | Record::GatewayStarted { .. }
        | Record::Recovery(_)
        | Record::Copies { .. }
        | Record::CreateVdi { .. }
        | Record::ProvisionedVdi { .. }
        | Record::ResizeVdi { .. }
        | Record::GrowVdi { .. }
        | Record::SanitizeVdi { .. }
        | Record::DeleteVdi { .. }
        | Record::CloneVdi { .. } => true,
    }
}
