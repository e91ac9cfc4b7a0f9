//! From the lock on its blocks to its record: how a request is carried out. The primary alone resolves it, from what the blocks
//! hold here; what it forwards are results.

use std::sync::Arc;

use huntaway_wire::Version;

use super::change::{SET_ASIDE, durability, extent, map, outcome};
use super::operation::State;
use super::{Primary, has_fresh_stamp};
use crate::event::{Answer, Command, Outcome, Refused};
use crate::message::Body;
use crate::order::{Input, OpId};
use crate::planted::PlantedBug;
use crate::process::Process;
use crate::record::{Change, Record, Stored};
use crate::replica::is_change;
use crate::resend::Resend;
use crate::site::{Pending, Site};
use crate::teaching::Teaching;

impl Primary {
    /// The operation has its blocks to itself, or among readers, and its version if it is to change them.
    pub(super) fn start(
        &mut self,
        site: &mut Site,
        op: OpId,
        version: Option<Version>,
    ) -> Result<(), Refused> {
        self.last_seq = version.map_or(self.last_seq, |version| version.seq);
        if let Some(version) = version {
            // From here on, what is settled is below it.
            self.unfinished.insert(version.seq, op);
        }
        let Some(operation) = self.operations.get_mut(&op) else {
            self.locked.push(op);
            return Ok(());
        };
        operation.version = version.unwrap_or(operation.version);
        self.look_up(site, op)
    }

    /// Asks the store for what the operation has to know and does not know yet; then carries it out.
    pub(super) fn look_up(&mut self, site: &mut Site, op: OpId) -> Result<(), Refused> {
        let Some(operation) = self.operations.get_mut(&op) else { return Ok(()) };
        let Some((oid, blocks)) = operation.lookup.next() else {
            return self.carry_out(site, op);
        };
        operation.state = State::Reading;
        site.read(oid, blocks, Pending::Operation(op));
        Ok(())
    }

    /// Some of what the operation has to know was read.
    pub(super) fn has_read(&mut self, site: &mut Site, op: OpId, outcome: Outcome) {
        let Some(operation) = self.operations.get_mut(&op) else { return };
        let is_zero = site.has(PlantedBug::DamagedReadAsZero)
            || site.has(PlantedBug::MergedOverDamaged) && operation.is_change();
        match outcome {
            Outcome::Blocks(stored) => self.has_found(site, op, Some(stored)),
            Outcome::Damaged(stored) if is_zero => {
                let stored = stored.into_iter().map(Option::unwrap_or_default).collect();
                self.has_found(site, op, Some(stored));
            }
            Outcome::Damaged(stored) => self.look_elsewhere(site, op, stored, false),
            Outcome::Missing(_) => self.look_elsewhere(site, op, Vec::new(), true),
            _ => self.look_elsewhere(site, op, Vec::new(), false),
        }
    }

    /// Some of what the operation has to know was found, here or elsewhere; `None` if no replica has it whole.
    pub(super) fn has_found(&mut self, site: &mut Site, op: OpId, stored: Option<Vec<Stored>>) {
        let Some(operation) = self.operations.get_mut(&op) else { return };
        let is_found = stored.is_some_and(|stored| operation.lookup.take(stored).is_ok());
        if !is_found && self.look_at_less(site, op).is_none() {
            let is_known = self.has_leases(site);
            let answer = if is_known { Answer::Damaged } else { Answer::Refused(Refused::NotServing) };
            return self.fail(site, op, answer);
        }
        let Some(operation) = self.operations.get_mut(&op) else { return };
        if operation.is_early && operation.lookup.next().is_none() {
            operation.is_early = false;
            operation.state = State::Waiting;
            return self.begin_operation(site, op);
        }
        if let Err(refused) = self.look_up(site, op) {
            self.fail(site, op, Answer::Refused(refused));
        }
    }

    /// No replica has all of what the operation has to know. `is_missing`: each says that it has no such object any more.
    pub(super) fn has_not_found(&mut self, site: &mut Site, op: OpId, is_missing: bool) {
        let Some(operation) = self.operations.get(&op) else { return };
        match operation.lookup.next() {
            // Nobody knows it of an object that is missing.
            Some((_, SET_ASIDE)) if is_missing => self.has_found(site, op, Some(vec![Stored::default()])),
            // It cannot be read just now.
            Some((_, SET_ASIDE)) => self.fail(site, op, Answer::Refused(Refused::NotServing)),
            _ => self.has_found(site, op, None),
        }
    }

    /// The operation comes to nothing; the version it may have is never used.
    pub(super) fn fail(&mut self, site: &mut Site, op: OpId, answer: Answer) {
        self.refuse(site, op, answer);
        let outputs = self.order.step(Input::Failed { op });
        self.run(site, outputs);
    }

    /// The operation knows what it has to know.
    fn carry_out(&mut self, site: &mut Site, op: OpId) -> Result<(), Refused> {
        let Some(operation) = self.operations.get_mut(&op) else { return Ok(()) };
        if !operation.is_change() {
            self.answer_read(site, op);
            return Ok(());
        }
        let Some(request) = &operation.request else { return Ok(()) };
        // While it waited, the request may have been given up.
        if let Some(refused) = Self::refused_by_vdi(site, request) {
            return Err(refused);
        }
        if site.configuration.in_sync.len() < site.configuration.min_copies {
            return Err(Refused::NotServing);
        }
        if !has_fresh_stamp(site, request) {
            return Err(Refused::OldStamp);
        }
        let Some((_, oid, _)) = extent(&request.command) else { return Ok(()) };
        let inherits = site.configuration.vdis.vdi(oid.vid()).is_some_and(|vdi| vdi.parent.is_some());
        let (mut change, completion) = outcome(&request.command, operation.lookup.found(), inherits)?;
        if operation.lookup.is_set_aside() && change == Change::Reserve {
            change = Change::Nothing;
        }
        let record = Record {
            version: operation.version,
            oid,
            change,
            completion,
            request: Some(request.id),
            unanswered_from: request.unanswered_from,
            durability: durability(&request.command),
        };
        let operation = self.operations.get(&op);
        if let Some(lack) = operation.and_then(|operation| self.lack_of_space(site, operation, &record)) {
            return Err(self.without_space(site, lack));
        }
        self.write(site, op, record);
        if self.is_refused_late(site, op) {
            return Err(Refused::NoSpace);
        }
        Ok(())
    }

    /// It is known what the operation comes to: to the log, here and on the other replicas.
    pub(super) fn write(&mut self, site: &mut Site, op: OpId, record: Record) {
        let Some(operation) = self.operations.get_mut(&op) else { return };
        let record = Arc::new(record);
        let mut missing: Vec<Process> = self.peers.iter().map(|peer| peer.process).collect();
        missing.extend(self.teaching.as_ref().and_then(Teaching::required));
        let resend = Resend::new(site.now);
        operation.state = State::Writing { record: record.clone(), logged: false, missing, resend };
        self.spending.give_back(std::mem::take(&mut operation.reserved));
        self.spending.spend(site, record.cost());
        site.log_write(&record, Pending::Operation(op));
        let settled = self.settled(site);
        for peer in &self.peers {
            let forward = Body::Forward { record: record.clone(), settled, attempt: 0 };
            site.send(peer.process, forward);
        }
        if let Some(teaching) = &mut self.teaching {
            teaching.forward(site, record, settled);
        }
    }

    fn answer_read(&mut self, site: &mut Site, op: OpId) {
        let Some(operation) = self.take(op) else { return };
        // Only now: while the store read, another may have become primary, and what was deleted may be gone.
        let refused = operation.request.as_ref().and_then(|request| Self::refused_by_deletion(site, request));
        let answer = if let Some(refused) = refused {
            Answer::Refused(refused)
        } else if self.has_leases(site) {
            let found = operation.lookup.found();
            match operation.request.as_ref().map(|request| &request.command) {
                Some(Command::Map { .. }) => Answer::Map(map(found, operation.lookup.is_set_aside())),
                _ => Answer::Data(found.values().cloned().collect()),
            }
        } else {
            Answer::Refused(Refused::NotServing)
        };
        operation.answer(site, answer);
        let outputs = self.order.step(Input::Done { op });
        self.run(site, outputs);
    }
}

/// Whether what a change has to know is read before it has its blocks to itself, which is wrong.
pub(super) fn reads_early(site: &Site, command: &Command) -> bool {
    match command {
        Command::CompareAndWrite { .. } => site.has(PlantedBug::ComparedBeforeLock),
        _ => is_change(command) && site.has(PlantedBug::MergedBeforeLock),
    }
}
