//! Which requests were carried out, so that none is carried out twice.

use std::collections::BTreeMap;

use crate::process::Process;
use crate::record::{Completion, Record, RequestId};

/// The requests of each gateway that were carried out and may come again, with their results. It goes with the data: it is rolled forward,
/// copied and lost together with what the requests wrote.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Requests {
    gateways: BTreeMap<Process, OfGateway>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct OfGateway {
    /// Everything below was answered: it is not remembered, and never carried out again.
    unanswered_from: u64,
    done: BTreeMap<u64, Completion>,
}

/// What is known of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It was not carried out.
    New,
    /// It was carried out, and is answered by this.
    Done(Completion),
    /// Its gateway has its answer: this is a late duplicate.
    Answered,
}

impl Requests {
    /// What is known of `request`.
    pub fn known(&self, request: RequestId) -> Known {
        match self.gateways.get(&request.gateway) {
            Some(gateway) if request.number < gateway.unanswered_from => Known::Answered,
            Some(gateway) => gateway.done.get(&request.number).copied().map_or(Known::New, Known::Done),
            None => Known::New,
        }
    }

    /// Requests that are remembered.
    pub fn len(&self) -> usize {
        self.gateways.values().map(|gateway| gateway.done.len()).sum()
    }

    /// Whether no request is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes in a request that is carried out, and what it says of earlier ones.
    pub fn add(&mut self, record: &Record) {
        let Some(request) = record.request else { return };
        self.trim(request.gateway, record.unanswered_from);
        self.put(request, record.completion);
    }

    /// Takes in what a request came to, unless its gateway has the answer.
    pub fn put(&mut self, request: RequestId, completion: Completion) {
        let gateway = self.gateways.entry(request.gateway).or_default();
        if request.number >= gateway.unanswered_from {
            gateway.done.insert(request.number, completion);
        }
    }

    /// Each gateway with the number below which it has all answers, and how many of its requests are remembered.
    pub fn gateways(&self) -> impl Iterator<Item = (Process, u64, usize)> {
        self.gateways.iter().map(|(process, of)| (*process, of.unanswered_from, of.done.len()))
    }

    /// The requests of a gateway that are remembered, and what they came to, in order.
    pub fn of(&self, gateway: Process) -> impl Iterator<Item = (u64, Completion)> {
        let done = self.gateways.get(&gateway).into_iter().flat_map(|of| &of.done);
        done.map(|(number, completion)| (*number, *completion))
    }

    /// The gateway has the answers to all requests below `unanswered_from`.
    pub fn trim(&mut self, gateway: Process, unanswered_from: u64) {
        let gateway = self.gateways.entry(gateway).or_default();
        if gateway.unanswered_from < unanswered_from {
            gateway.unanswered_from = unanswered_from;
            gateway.done = gateway.done.split_off(&unanswered_from);
        }
    }

    /// Adds what another replica knows.
    pub fn merge(&mut self, other: &Self) {
        for (gateway, theirs) in &other.gateways {
            self.trim(*gateway, theirs.unanswered_from);
            let ours = self.gateways.entry(*gateway).or_default();
            let from = ours.unanswered_from;
            ours.done.extend(theirs.done.range(from..).map(|(number, completion)| (*number, *completion)));
        }
    }

    /// Forgets gateway processes that have ended, as `living` says of their nodes.
    pub fn end(&mut self, living: &[Process]) {
        self.gateways.retain(|gateway, _| !has_ended(*gateway, living));
    }

    /// Forgets that anything was carried out, without knowing that it was answered.
    pub(crate) fn forget(&mut self) {
        self.gateways.values_mut().for_each(|gateway| gateway.done.clear());
    }
}

/// Whether a newer process of the gateway's node is among `living`.
pub(crate) fn has_ended(gateway: Process, living: &[Process]) -> bool {
    living.iter().any(|process| process.node == gateway.node && process.incarnation > gateway.incarnation)
}
