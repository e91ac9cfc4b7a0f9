//! SCSI commands of one session: from CDB to response.
//!
//! A READ or WRITE whose data is at hand and whose turn it is runs from arrival to response in one call, and is never
//! entered anywhere. Everything else is kept in [`Tasks`](crate::tasks::Tasks) until it has its data, its turn, and its
//! stores' answers.

use std::mem;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use huntaway_scsi::{
    Action, BlockOperation, Extent, Plan, Sense, SenseFormat, Step, command_name, plan_without_logical_unit,
    report_luns, request_sense, tells_of_the_target_only,
};
use huntaway_wire::Segments;
use iscsi_target::{Command, DataFailure, Payload, RunningCrc, ScsiResponse, TaskAttribute, TaskTag};
use tokio::sync::oneshot;

use crate::driver::Driver;
use crate::fencing::GivenUp;
use crate::metrics::OperationKind;
use crate::operation::{self, Outcome};
use crate::order::Footprint;
use crate::tasks::{Task, Work};
use crate::unit::Unit;
use crate::volume::Progress;

/// How far a block operation came at once.
enum Started {
    /// Answered.
    Answered,
    /// Ended but not answered.
    Ended(Outcome),
    /// [`Driver::conclude`] follows.
    Running,
    /// [`Driver::conclude_watching`] follows.
    Watching,
}

impl Driver {
    /// A SCSI command has arrived, perhaps with all its write data.
    pub(crate) fn on_command(&mut self, command: Command, arrived: Instant) {
        let nexus = self.session.as_ref().map(|session| &session.registration.nexus);
        let unit = nexus.and_then(|nexus| nexus.unit(command.lun.flat()?));
        let (Some(nexus), Some(unit)) = (nexus, unit) else { return self.on_absent_unit(&command) };
        tracing::trace!(lun = unit.lun, cmd_sn = command.cmd_sn, command = command_name(&command.cdb));
        let planned = match nexus.intercept(unit.lun, &command.cdb) {
            Some(attention) => Err(attention),
            None if self.shared.has_lost_cluster() && !tells_of_the_target_only(&command.cdb) => {
                Err(Sense::port_unavailable())
            }
            None => match unit.disk.sanitization().refusal(&command.cdb) {
                Some(sense) => Err(sense),
                None => unit.scsi.plan(&unit.modes(), &command.cdb),
            },
        };
        match planned {
            Ok(plan) => self.begin(command, unit, plan, arrived),
            Err(sense) => self.fail(command.task, &unit, &sense, 0),
        }
    }

    /// Starts a command, or notes what it waits for.
    fn begin(&mut self, command: Command, unit: Arc<Unit>, mut plan: Plan, arrived: Instant) {
        let task = command.task;
        let offered = if command.write { command.expected_length } else { 0 };
        if let Err(sense) = unit.scsi.fit_data(&mut plan, offered) {
            return self.fail(task, &unit, &sense, plan.data_out);
        }
        let wanted = plan.data_out.min(offered);
        let data = match command.data {
            _ if wanted == 0 => Some(Payload::new()),
            Some(data) => Some(data.truncated(wanted as usize)),
            None => None,
        };
        let ordered = command.attribute == TaskAttribute::Ordered;
        let asker = self.path.as_ref().map(|path| path.asker(unit.volume.vid()));
        let live = Task {
            unit,
            work: Work::Started,
            arrived,
            ordered,
            data_out: plan.data_out,
            ends: Vec::new(),
            given_up: false,
            asker,
        };
        let Some(data) = data else {
            let footprint = footprint_before_data(&plan.step, &live);
            self.tasks.enter(task, footprint, Task { work: Work::Gathering(plan.step), ..live });
            return self.connection.request_data(task, wanted);
        };
        let action = match action(plan.step, &live.unit, &data) {
            Ok(action) => action,
            Err(sense) => return self.fail(task, &live.unit, &sense, live.data_out),
        };
        let footprint = footprint(&action, &live);
        if self.tasks.order.is_free(&footprint) {
            return self.start(task, live, action, data, Some(footprint));
        }
        self.tasks.enter(task, footprint, Task { work: Work::Ready(action, data), ..live });
        self.tasks.order.ready(task);
    }

    /// All write data of a command is here.
    pub(crate) fn on_data(&mut self, task: TaskTag, data: Payload) {
        let Some(live) = self.tasks.live.get_mut(&task) else { return };
        let Work::Gathering(step) = mem::replace(&mut live.work, Work::Started) else { return };
        match action(step, &live.unit, &data) {
            Ok(action) => {
                let footprint = footprint(&action, live);
                live.work = Work::Ready(action, data);
                self.tasks.order.narrow(task, footprint);
                self.tasks.order.ready(task);
            }
            Err(sense) => self.fail_live(task, &sense),
        }
        self.resume_waiting();
    }

    /// The write data of a command was damaged or lost on its way.
    pub(crate) fn on_data_failed(&mut self, task: TaskTag, failure: DataFailure) {
        let sense = match failure {
            DataFailure::ProtocolServiceCrc => Sense::protocol_crc_error(),
            DataFailure::UnexpectedUnsolicitedData => Sense::unexpected_unsolicited_data(),
            DataFailure::IncorrectAmount => Sense::incorrect_amount_of_data(),
        };
        self.fail_live(task, &sense);
        self.resume_waiting();
    }

    fn fail_live(&mut self, task: TaskTag, sense: &Sense) {
        if let Some(live) = self.tasks.remove(task) {
            self.fail(task, &live.unit, sense, live.data_out);
        }
    }

    /// Starts the commands whose turn has come, as far as there is room for their answers.
    pub(crate) fn resume_waiting(&mut self) {
        while self.has_room()
            && let Some(task) = self.tasks.order.next_turn()
            && let Some(mut live) = self.tasks.live.remove(&task)
        {
            if let Work::Ready(action, data) = mem::replace(&mut live.work, Work::Started) {
                self.start(task, live, action, data, None);
            }
        }
    }

    /// Carries out a command that has its data and its turn. `enter` is its footprint if it is not in the order yet.
    fn start(&mut self, task: TaskTag, live: Task, action: Action, data: Payload, enter: Option<Footprint>) {
        let kind = kind(&action);
        let started = match action {
            Action::Block(_) | Action::SetModePages(_)
                if let Some(sense) = live.unit.disk.sanitization().sense() =>
            {
                Started::Ended(Outcome::Failed(sense))
            }
            // Set after it was planned, while it waited for its data or its turn.
            ref action if changes_data(action) && live.unit.modes().software_write_protect => {
                Started::Ended(Outcome::Failed(Sense::software_write_protected()))
            }
            Action::Block(operation) => self.start_block(task, &live, operation, data),
            Action::SetModePages(modes) => {
                self.set_modes(task, &live.unit, modes).map_or(Started::Running, Started::Ended)
            }
            Action::ProvisioningLog { first_parameter, allocation_length } => {
                self.log_provisioning(task, &live.unit, first_parameter, allocation_length);
                Started::Running
            }
            Action::Sanitize(request) => match self.sanitize(task, &live.unit, request) {
                Ok(()) => Started::Watching,
                Err(sense) => Started::Ended(Outcome::Failed(sense)),
            },
            Action::ExitSanitizeFailure => {
                self.exit_sanitize_failure(task, &live.unit);
                Started::Watching
            }
            action => Started::Ended(self.answer(&live.unit, action)),
        };
        match started {
            Started::Running => return self.tasks.run(task, live, kind, enter),
            Started::Watching => return self.tasks.watch(task, live),
            Started::Answered => {}
            Started::Ended(outcome) => self.respond(task, &live, kind, outcome),
        }
        live.unit.metrics.observe(kind, live.arrived.elapsed());
        self.tasks.order.leave(task);
    }

    /// Starts a block operation: plain reads and writes at once if that is possible.
    fn start_block(
        &mut self,
        task: TaskTag,
        live: &Task,
        operation: BlockOperation,
        data: Payload,
    ) -> Started {
        let unit = &live.unit;
        match operation {
            BlockOperation::Read { extent, fua: false } => match self.read_now(task, unit, extent) {
                Some(Ok(())) => return Started::Answered,
                Some(Err(sense)) => return Started::Ended(Outcome::Failed(sense)),
                None => {}
            },
            BlockOperation::Write { extent, fua } | BlockOperation::WriteAtomic { extent, fua } => {
                return self.write(task, live, extent, fua, &data);
            }
            _ => {}
        }
        let queue = if operation::has_data_in(&operation) { &self.reading } else { &self.running };
        let room = Arc::clone(&self.reading_room);
        let volume = live.volume().into_owned();
        let running = operation::run(Arc::clone(unit), volume, operation, data, room);
        queue.push(running.map(move |outcome| (task, outcome)).boxed());
        Started::Running
    }

    /// Reads straight into the output buffer, behind the Data-In headers. `None`: the stores need longer.
    fn read_now(&mut self, task: TaskTag, unit: &Unit, extent: Extent) -> Option<Result<(), Sense>> {
        let (mut offset, length) = unit.bytes(extent);
        let mut data_in = self.connection.data_in(task, length);
        let count = data_in.len() as u64;
        let has_digests = data_in.has_digests();
        while let Some(area) = data_in.next_segment() {
            let mut sum = RunningCrc::default();
            match unit.volume.read_now(offset, area, has_digests.then_some(&mut sum)) {
                Some(Ok(())) => offset += area.len() as u64,
                Some(Err(error)) => {
                    data_in.abandon();
                    return Some(Err(operation::sense_of(&error, &unit.scsi, extent.lba)));
                }
                None => {
                    data_in.abandon();
                    return None;
                }
            }
            if has_digests {
                data_in.set_crc(sum.value());
            }
        }
        data_in.finish(ScsiResponse::good());
        unit.metrics.count_read(count);
        Some(Ok(()))
    }

    fn write(&mut self, task: TaskTag, live: &Task, extent: Extent, fua: bool, data: &Payload) -> Started {
        let unit = &live.unit;
        let (offset, _) = unit.bytes(extent);
        match live.volume().write(offset, data, unit.durability(fua)) {
            Progress::Done(Ok(())) => Started::Ended(Outcome::Good),
            Progress::Done(Err(error)) => {
                Started::Ended(Outcome::Failed(operation::sense_of(&error, &unit.scsi, extent.lba)))
            }
            Progress::Waiting(pending) => {
                let unit = Arc::clone(unit);
                let running = pending.finish().map(move |result| {
                    let result = result.map_err(|error| operation::sense_of(&error, &unit.scsi, extent.lba));
                    (task, result.into())
                });
                self.running.push(running.boxed());
                Started::Running
            }
        }
    }

    /// What the device server answers by itself.
    fn answer(&mut self, unit: &Unit, action: Action) -> Outcome {
        let data = match action {
            Action::Data(data) => data,
            Action::LunInventory { select_report, allocation_length } => {
                report_luns(self.luns(), select_report, allocation_length)
            }
            Action::RequestSense { format, allocation_length } => {
                let session = self.session.as_ref();
                let attention =
                    session.and_then(|session| session.registration.nexus.take_attention(unit.lun));
                let sense = attention.or_else(|| unit.disk.sanitization().sense());
                request_sense(sense, format, allocation_length)
            }
            _ => return Outcome::Good,
        };
        Outcome::Data(Segments::from_iter([data.into()]))
    }

    /// The stores have answered.
    pub(crate) fn conclude(&mut self, task: TaskTag, outcome: Outcome) {
        let Some(live) = self.tasks.remove(task) else { return };
        let Work::Running(kind) = live.work else { return };
        if live.given_up {
            self.connection.abort(task);
        } else {
            self.respond(task, &live, kind, outcome);
        }
        live.unit.metrics.observe(kind, live.arrived.elapsed());
        self.resume_waiting();
    }

    /// What a command watched has ended, or begun as far as it wants to know.
    pub(crate) fn conclude_watching(&mut self, task: TaskTag, result: Result<(), Sense>) {
        let Some(live) = self.tasks.remove(task) else { return };
        self.respond(task, &live, OperationKind::Other, result.into());
        live.unit.metrics.observe(OperationKind::Other, live.arrived.elapsed());
        self.resume_waiting();
    }

    /// Sends the response.
    fn respond(&mut self, task: TaskTag, live: &Task, kind: OperationKind, outcome: Outcome) {
        if kind.may_allocate() {
            self.watch_space(&live.unit);
        }
        let metrics = &live.unit.metrics;
        match outcome {
            Outcome::Good => {
                if kind == OperationKind::Write {
                    metrics.count_written(live.data_out.into());
                }
                let data_out_wanted = Some(live.data_out);
                self.connection.respond(task, ScsiResponse { data_out_wanted, ..ScsiResponse::good() });
            }
            Outcome::Failed(sense) => self.fail(task, &live.unit, &sense, live.data_out),
            Outcome::Data(data) => metrics.count_read(self.send_data(task, &data) as u64),
        }
    }

    /// Sends data that is at hand, and GOOD; returns how many bytes the initiator had room for.
    fn send_data(&mut self, task: TaskTag, data: &Segments) -> usize {
        let length = data.iter().map(|segment| segment.len() as u64).sum();
        let mut data_in = self.connection.data_in(task, length);
        let sent = data_in.len();
        let mut source = data.iter().flat_map(|segment| std::iter::once(&segment[..]));
        let mut rest: &[u8] = &[];
        while let Some(mut area) = data_in.next_segment() {
            while !area.is_empty() {
                if rest.is_empty() {
                    match source.next() {
                        Some(next) => rest = next,
                        None => break,
                    }
                }
                let count = area.len().min(rest.len());
                area[..count].copy_from_slice(&rest[..count]);
                area = &mut area[count..];
                rest = &rest[count..];
            }
        }
        data_in.finish(ScsiResponse::good());
        sent
    }

    /// Answers CHECK CONDITION. `data_out` is how many bytes of write data the command asks for.
    fn fail(&mut self, task: TaskTag, unit: &Unit, sense: &Sense, data_out: u32) {
        unit.metrics.count_failure(sense.key);
        let (lun, key) = (unit.lun, sense.key.label());
        self.span
            .in_scope(|| tracing::debug!(lun, key, asc = sense.asc, ascq = sense.ascq, "check condition"));
        let sense = sense.encode(unit.modes().sense_format());
        let data_out_wanted = (data_out > 0).then_some(data_out);
        let response = ScsiResponse { data_out_wanted, ..ScsiResponse::check_condition(&sense) };
        self.connection.respond(task, response);
    }

    /// A command to a LUN that is not there.
    fn on_absent_unit(&mut self, command: &Command) {
        match plan_without_logical_unit(&command.cdb) {
            Ok(Plan { step: Step::Now(Action::Data(data)), .. }) => {
                self.send_data(command.task, &Segments::from_iter([data.into()]));
            }
            Ok(Plan {
                step: Step::Now(Action::LunInventory { select_report, allocation_length }), ..
            }) => {
                let data = report_luns(self.luns(), select_report, allocation_length);
                self.send_data(command.task, &Segments::from_iter([data.into()]));
            }
            Ok(_) => self.connection.respond(command.task, ScsiResponse::good()),
            Err(sense) => {
                let sense = sense.encode(SenseFormat::Fixed);
                self.connection.respond(command.task, ScsiResponse::check_condition(&sense));
            }
        }
    }

    /// The LUNs this initiator may see.
    fn luns(&self) -> Vec<u16> {
        let session = self.session.as_ref();
        session.map(|session| session.registration.nexus.luns()).unwrap_or_default()
    }

    /// Gives up one task; `done` is dropped when it can take no effect any more.
    pub(crate) fn abort_task_tag(&mut self, task: TaskTag, done: oneshot::Sender<()>) {
        self.give_up(vec![task], done);
    }

    /// Gives up all tasks of these LUNs.
    pub(crate) fn abort_tasks(&mut self, luns: &[u16], done: oneshot::Sender<()>) {
        let chosen = self.tasks.live.iter().filter(|(_, live)| luns.contains(&live.unit.lun));
        let chosen = chosen.map(|(task, _)| *task).collect();
        self.give_up(chosen, done);
    }

    /// Fails the commands that wait for write data, or for what goes on without them, and whose unit is no more: their
    /// initiator has had its time.
    pub(crate) fn fail_retired(&mut self) {
        let owes =
            |live: &Task| matches!(live.work, Work::Gathering(_) | Work::Watching) && live.unit.is_retired();
        let chosen: Vec<_> =
            self.tasks.live.iter().filter(|(_, live)| owes(live)).map(|(task, _)| *task).collect();
        for task in chosen {
            self.fail_live(task, &Sense::logical_unit_not_supported());
        }
        self.resume_waiting();
    }

    /// Whether commands whose unit is no more wait for the initiator to take its answers.
    pub(crate) fn is_stalled(&mut self) -> bool {
        !self.has_room() && self.tasks.live.values().any(|live| live.unit.is_retired())
    }

    /// Gives up the tasks that no store has yet.
    pub(crate) fn abort_waiting(&mut self) {
        let waits = |live: &Task| !matches!(live.work, Work::Running(_));
        let chosen: Vec<_> =
            self.tasks.live.iter().filter(|(_, live)| waits(live)).map(|(task, _)| *task).collect();
        for task in chosen {
            self.tasks.remove(task);
            self.connection.abort(task);
        }
    }

    fn give_up(&mut self, tasks: Vec<TaskTag>, done: oneshot::Sender<()>) {
        let done = Arc::new(done);
        for task in tasks {
            match self.tasks.give_up(task, &done) {
                Some(live) => self.path.iter().for_each(|path| path.give_up(live, GivenUp::Aborted)),
                None => self.connection.abort(task),
            }
        }
        self.resume_waiting();
    }
}

/// What the command comes to, now that its data is here.
fn action(step: Step, unit: &Unit, data: &Payload) -> Result<Action, Sense> {
    match step {
        Step::Now(action) => Ok(action),
        Step::AfterData(list) => unit.scsi.parse_parameters(&unit.modes(), list, &data.to_vec()),
    }
}

fn footprint(action: &Action, live: &Task) -> Footprint {
    match action {
        Action::Block(operation) => operation::footprint(operation, live.unit.lun, live.ordered),
        _ => Footprint { lba: 0, blocks: 0, lun: live.unit.lun, writes: false, ordered: live.ordered },
    }
}

/// What a command may touch, as far as is known before its data is here: a parameter list (UNMAP) may name any block.
fn footprint_before_data(step: &Step, live: &Task) -> Footprint {
    match step {
        Step::Now(action) => footprint(action, live),
        Step::AfterData(_) => {
            let blocks = live.unit.scsi.blocks();
            Footprint { lba: 0, blocks, lun: live.unit.lun, writes: true, ordered: live.ordered }
        }
    }
}

/// Whether write protection forbids it.
fn changes_data(action: &Action) -> bool {
    match action {
        Action::Block(operation) => operation::writes(operation),
        Action::Sanitize(_) | Action::ExitSanitizeFailure => true,
        _ => false,
    }
}

fn kind(action: &Action) -> OperationKind {
    match action {
        Action::Block(operation) => operation::kind(operation),
        _ => OperationKind::Other,
    }
}
