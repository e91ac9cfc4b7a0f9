//! One request on its way through the primary.

use std::sync::Arc;

use huntaway_wire::Version;

use super::change::lookup;
use super::elsewhere::Elsewhere;
use super::lookup::Lookup;
use crate::event::{Answer, Request};
use crate::process::Process;
use crate::record::{Completion, Record};
use crate::replica::is_change;
use crate::resend::Resend;
use crate::room::Cost;
use crate::site::Site;

#[derive(Debug)]
pub(crate) struct Operation {
    /// Who asked for it; `None` if the primary does it by itself.
    pub(crate) request: Option<Request>,
    /// What it gets with its blocks, if it is to change them.
    pub(crate) version: Version,
    /// What all replicas keep for it, until it has its record.
    pub(crate) reserved: Cost,
    /// There is no room for it unless it only replaces what is there.
    pub(crate) is_to_replace: bool,
    /// It looks at all of its blocks, to know that.
    pub(crate) looks_at_all: bool,
    /// What it has to know before it can be carried out.
    pub(crate) lookup: Lookup,
    /// It looks before it has its blocks.
    pub(crate) is_early: bool,
    /// It looked for damaged blocks elsewhere, in vain.
    pub(crate) has_looked_elsewhere: bool,
    pub(crate) state: State,
}

#[derive(Debug)]
pub(crate) enum State {
    /// Others have its blocks.
    Waiting,
    /// The store reads.
    Reading,
    /// Others are asked for what is damaged here.
    ReadingElsewhere(Elsewhere),
    /// It is known what it comes to.
    Writing {
        record: Arc<Record>,
        /// Here, and as durable as it has to be.
        logged: bool,
        /// Those that did not say that they have it.
        missing: Vec<Process>,
        resend: Resend,
    },
    /// All is put on stable storage.
    Flushing { logged: bool, missing: Vec<Process>, resend: Resend },
    /// It is done everywhere.
    Whole { completion: Completion },
}

/// What was sent long ago and not answered.
pub(crate) struct Late {
    pub(crate) missing: Vec<Process>,
    /// The write; `None` for a flush.
    pub(crate) record: Option<Arc<Record>>,
    pub(crate) since_us: u64,
}

impl Operation {
    pub(crate) fn new(site: &Site, request: Request, state: State) -> Self {
        let lookup = lookup(site, &request.command);
        Self {
            request: Some(request),
            version: Version::NEVER,
            reserved: Cost::default(),
            is_to_replace: false,
            looks_at_all: false,
            lookup,
            is_early: false,
            has_looked_elsewhere: false,
            state,
        }
    }

    pub(crate) fn is_change(&self) -> bool {
        self.request.as_ref().is_none_or(|request| is_change(&request.command))
    }

    /// What nobody asked for, and is known already.
    pub(crate) fn unasked(version: Version) -> Self {
        let (lookup, state) = (Lookup::default(), State::Waiting);
        let (is_early, has_looked_elsewhere) = (false, false);
        let (reserved, is_to_replace) = (Cost::default(), false);
        Self {
            request: None,
            version,
            reserved,
            is_to_replace,
            looks_at_all: false,
            lookup,
            is_early,
            has_looked_elsewhere,
            state,
        }
    }

    pub(crate) fn answer(&self, site: &mut Site, answer: Answer) {
        if let Some(request) = &self.request {
            site.answer(request, answer);
        }
    }

    /// The gateway sent it again: the answer is for that sending, and so is what it was judged by; a stamp is as new as the last one.
    pub(crate) fn sent_again(&mut self, request: &Request) {
        let Some(known) = &mut self.request else { return };
        if request.resend >= known.resend {
            known.resend = request.resend;
            known.stamp = known.stamp.max(request.stamp);
            known.fence = known.fence.max(request.fence);
        }
    }

    pub(crate) fn logged(&mut self) {
        if let State::Writing { logged, .. } | State::Flushing { logged, .. } = &mut self.state {
            *logged = true;
        }
    }

    pub(crate) fn is_flush(&self) -> bool {
        matches!(&self.state, State::Flushing { .. })
    }

    pub(crate) fn done_by(&mut self, process: Process) {
        if let State::Writing { missing, .. } | State::Flushing { missing, .. } = &mut self.state {
            missing.retain(|waited_for| *waited_for != process);
        }
    }

    /// Whether it is done everywhere but on `tolerated` replicas.
    pub(crate) fn is_whole(&self, tolerated: usize) -> bool {
        match &self.state {
            State::Writing { logged, missing, .. } | State::Flushing { logged, missing, .. } => {
                *logged && missing.len() <= tolerated
            }
            _ => false,
        }
    }

    /// What has to be sent again, which counts as sent now.
    pub(crate) fn late(&mut self, site: &Site) -> Option<Late> {
        let (record, missing, resend) = match &mut self.state {
            State::Writing { record, missing, resend, .. } => (Some(&*record), missing, resend),
            State::Flushing { missing, resend, .. } => (None, missing, resend),
            _ => return None,
        };
        if missing.is_empty() || !resend.is_due(site.now) {
            return None;
        }
        let since_us = resend.waited_us(site);
        Some(Late { missing: missing.clone(), record: record.cloned(), since_us })
    }
}
