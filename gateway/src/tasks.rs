//! SCSI commands of one session: from CDB to response.
//!
//! A READ or WRITE whose data is at hand and whose turn it is runs from arrival to response in one call, and is never
//! entered anywhere. Everything else is kept in [`Tasks`] until it has its data, its turn, and its stores' answers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use huntaway_scsi::{
    Action, BlockOperation, Extent, Plan, Sense, SenseFormat, Step, plan_without_logical_unit, report_luns,
    request_sense,
};
use huntaway_wire::Segments;
pub(crate) use iscsi_target::TaskTag;
use iscsi_target::{Command, DataFailure, Payload, ScsiResponse, TaskAttribute};
use tokio::sync::oneshot;

use crate::driver::{Driver, Ended};
use crate::metrics::OperationKind;
use crate::operation::{self, Outcome};
use crate::order::{Footprint, Order};
use crate::sessions::Call;
use crate::unit::Unit;
use crate::volume::Progress;

/// The commands that are neither answered nor given up. Bounded by the command window.
pub(crate) struct Tasks {
    live: HashMap<TaskTag, Task>,
    order: Order<TaskTag>,
    aborts: Vec<Abort>,
}

/// One command on its way.
struct Task {
    unit: Arc<Unit>,
    step: Step,
    kind: OperationKind,
    arrived: Instant,
    /// Bytes of write data the command asks for, which may be more than the initiator offers.
    data_out: u32,
    /// The write data, once it is complete.
    data: Segments,
    /// Stores have it: it can no longer be given up, only waited for.
    running: bool,
    aborted: bool,
}

/// Somebody waits until these tasks can take no effect any more.
struct Abort {
    tasks: Vec<TaskTag>,
    /// Dropped when they are settled.
    _done: oneshot::Sender<()>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self { live: HashMap::new(), order: Order::new(), aborts: Vec::new() }
    }
}

impl Tasks {
    pub(crate) fn is_empty(&self) -> bool {
        self.live.is_empty()
    }
}

impl Driver {
    /// A SCSI command has arrived, perhaps with all its write data.
    pub(crate) fn on_command(&mut self, command: Command, arrived: Instant) {
        let number = command.lun.flat();
        let target = self.session.as_ref().and_then(|session| session.target.as_ref());
        let unit = number.and_then(|number| target?.units.get(&number).cloned());
        let Some(unit) = unit else { return self.on_absent_unit(&command) };
        let attention = self.session.as_mut().and_then(|session| session.intercept(unit.lun, &command.cdb));
        match attention.map_or_else(|| unit.scsi.plan(&unit.modes(), &command.cdb), Err) {
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
        let footprint = footprint(&plan.step, &unit, command.attribute);
        let data = match command.data {
            _ if wanted == 0 => Some(Segments::new()),
            Some(payload) => Some(payload.slice(0..wanted as usize).into_segments()),
            None => None,
        };
        let kind = kind(&plan.step);
        unit.metrics.count_written(if kind == OperationKind::Write { wanted.into() } else { 0 });
        let at_once = self.tasks.order.is_free(&footprint);
        let has_data = data.is_some();
        let live = Task {
            unit,
            step: plan.step,
            kind,
            arrived,
            data_out: plan.data_out,
            data: data.unwrap_or_default(),
            running: false,
            aborted: false,
        };
        if has_data && at_once {
            return self.start(task, live, Some(footprint));
        }
        self.tasks.order.enter(task, footprint);
        self.tasks.live.insert(task, live);
        if has_data {
            self.tasks.order.ready(task);
        } else {
            self.connection.request_data(task, wanted);
        }
    }

    /// All write data of a command is here.
    pub(crate) fn on_data(&mut self, task: TaskTag, data: Payload) {
        let Some(live) = self.tasks.live.get_mut(&task) else { return };
        live.data = data.into_segments();
        if self.tasks.order.ready(task) {
            self.resume(task);
        }
    }

    /// The write data of a command was damaged or lost on its way.
    pub(crate) fn on_data_failed(&mut self, task: TaskTag, failure: DataFailure) {
        if let Some(live) = self.tasks.live.remove(&task) {
            self.tasks.order.leave(task);
            let sense = match failure {
                DataFailure::ProtocolServiceCrc => Sense::protocol_crc_error(),
                DataFailure::UnexpectedUnsolicitedData => Sense::unexpected_unsolicited_data(),
                DataFailure::IncorrectAmount => Sense::incorrect_amount_of_data(),
            };
            self.fail(task, &live.unit, &sense, live.data_out);
            self.resume_waiting();
        }
    }

    /// Starts a command that was entered in the order and whose turn has come.
    fn resume(&mut self, task: TaskTag) {
        let Some(live) = self.tasks.live.remove(&task) else { return };
        self.start(task, live, None);
        self.resume_waiting();
    }

    fn resume_waiting(&mut self) {
        while let Some(task) = self.tasks.order.next() {
            if let Some(live) = self.tasks.live.remove(&task) {
                self.start(task, live, None);
            }
        }
    }

    /// Carries out a command that has its data and its turn. `enter` is its footprint if it is not in the order yet.
    fn start(&mut self, task: TaskTag, mut live: Task, enter: Option<Footprint>) {
        let step = std::mem::replace(&mut live.step, Step::Now(Action::Good));
        let action = match step {
            Step::Now(action) => Ok(action),
            Step::AfterData(list) => {
                live.unit.scsi.parse_parameters(&live.unit.modes(), list, &live.data.concat())
            }
        };
        let outcome = match action {
            Ok(Action::Block(operation)) => match self.start_block(task, &live, operation) {
                Started::Finished => return self.finished(task, &live),
                Started::Outcome(outcome) => outcome,
                Started::Running => {
                    if let Some(footprint) = enter {
                        self.tasks.order.enter(task, footprint);
                    }
                    live.running = true;
                    live.data = Segments::new();
                    self.tasks.live.insert(task, live);
                    return;
                }
            },
            Ok(action) => self.answer(&live.unit, action),
            Err(sense) => Outcome::Failed(sense),
        };
        self.respond(task, &live, outcome);
        self.finished(task, &live);
    }

    /// Starts a block operation: plain reads and writes at once if that is possible.
    fn start_block(&mut self, task: TaskTag, live: &Task, operation: BlockOperation) -> Started {
        match operation {
            BlockOperation::Read { extent, fua: false } => match self.read_now(task, &live.unit, extent) {
                Some(Ok(())) => return Started::Finished,
                Some(Err(sense)) => return Started::Outcome(Outcome::Failed(sense)),
                None => {}
            },
            BlockOperation::Write { extent, fua } => return self.write(task, live, extent, fua),
            _ => {}
        }
        let unit = Arc::clone(&live.unit);
        let running = operation::run(unit, operation, live.data.clone());
        self.running.push(running.map(move |outcome| Ended::Operation(task, outcome)).boxed());
        Started::Running
    }

    /// Reads straight into the output buffer, behind the Data-In headers. `None`: the stores need longer.
    fn read_now(&mut self, task: TaskTag, unit: &Unit, extent: Extent) -> Option<Result<(), Sense>> {
        let (mut offset, length) = unit.bytes(extent);
        let mut data_in = self.connection.data_in(task, length);
        let count = data_in.len() as u64;
        while let Some(segment) = data_in.next_segment() {
            match unit.volume.read_now(offset, segment) {
                Some(Ok(())) => offset += segment.len() as u64,
                Some(Err(error)) => {
                    data_in.abandon();
                    return Some(Err(operation::sense_of(&error, &unit.scsi, extent.lba)));
                }
                None => {
                    data_in.abandon();
                    return None;
                }
            }
        }
        data_in.finish(ScsiResponse::good());
        unit.metrics.count_read(count);
        Some(Ok(()))
    }

    fn write(&mut self, task: TaskTag, live: &Task, extent: Extent, fua: bool) -> Started {
        let unit = &live.unit;
        let (offset, _) = unit.bytes(extent);
        match unit.volume.write(offset, &live.data, Unit::durability(fua)) {
            Progress::Done(Ok(())) => Started::Outcome(Outcome::Good),
            Progress::Done(Err(error)) => {
                let sense = operation::sense_of(&error, &unit.scsi, extent.lba);
                Started::Outcome(Outcome::Failed(sense))
            }
            Progress::Waiting(pending) => {
                let unit = Arc::clone(unit);
                let running = pending.finish().map(move |result| {
                    let result = result.map_err(|error| operation::sense_of(&error, &unit.scsi, extent.lba));
                    Ended::Operation(task, result.into())
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
            Action::Good | Action::Block(_) => return Outcome::Good,
            Action::LunInventory { select_report, allocation_length } => {
                report_luns(self.luns(), select_report, allocation_length)
            }
            Action::SetModePages(modes) => {
                if unit.set_modes(modes) {
                    self.tell_others(unit.lun, Sense::mode_parameters_changed());
                }
                return Outcome::Good;
            }
            Action::RequestSense { format, allocation_length } => {
                let attention = self.session.as_mut().and_then(|session| session.take_attention(unit.lun));
                request_sense(attention, format, allocation_length)
            }
        };
        Outcome::Data(Segments::from_iter([data.into()]))
    }

    fn tell_others(&self, lun: u16, attention: Sense) {
        for other in self.other_sessions() {
            let call = Call::UnitAttention { lun: Some(lun), attention };
            if let Err(error) = other.try_send(call) {
                tracing::warn!(%error, "a session could not be told of changed mode parameters");
            }
        }
    }

    /// The stores have answered.
    pub(crate) fn conclude(&mut self, task: TaskTag, outcome: Outcome) {
        let Some(live) = self.tasks.live.remove(&task) else { return };
        if live.aborted {
            self.connection.abort(task);
        } else {
            self.respond(task, &live, outcome);
        }
        self.finished(task, &live);
        self.resume_waiting();
    }

    /// Sends the response.
    fn respond(&mut self, task: TaskTag, live: &Task, outcome: Outcome) {
        match outcome {
            Outcome::Good => {
                let data_out_wanted = (live.data_out > 0).then_some(live.data_out);
                self.connection.respond(task, ScsiResponse { data_out_wanted, ..ScsiResponse::good() });
            }
            Outcome::Failed(sense) => self.fail(task, &live.unit, &sense, live.data_out),
            Outcome::Data(data) => {
                live.unit.metrics.count_read(self.send_data(task, &data) as u64);
            }
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
        unit.metrics.count_failure(sense.key.label());
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
        let target = self.session.as_ref().and_then(|session| session.target.as_ref());
        target.map(|target| target.luns().collect()).unwrap_or_default()
    }

    fn finished(&mut self, task: TaskTag, live: &Task) {
        live.unit.metrics.observe(live.kind, live.arrived.elapsed());
        if !self.tasks.live.is_empty() || !self.tasks.aborts.is_empty() {
            self.forget(task);
        } else {
            self.tasks.order.leave(task);
        }
    }

    /// Takes a task out of everything that waits for it.
    fn forget(&mut self, task: TaskTag) {
        self.tasks.order.leave(task);
        for abort in &mut self.tasks.aborts {
            abort.tasks.retain(|waited| *waited != task);
        }
        self.tasks.aborts.retain(|abort| !abort.tasks.is_empty());
    }

    /// Gives up one task; `done` is dropped when it can take no effect any more.
    pub(crate) fn abort_one(&mut self, task: TaskTag, done: oneshot::Sender<()>) {
        self.abort_chosen(vec![task], done);
    }

    /// Gives up all tasks of one LUN, or of all.
    pub(crate) fn abort_tasks(&mut self, lun: Option<u16>, done: oneshot::Sender<()>) {
        let chosen = self.tasks.live.iter().filter(|(_, live)| lun.is_none_or(|lun| lun == live.unit.lun));
        let chosen = chosen.map(|(task, _)| *task).collect();
        self.abort_chosen(chosen, done);
    }

    fn abort_chosen(&mut self, tasks: Vec<TaskTag>, done: oneshot::Sender<()>) {
        let mut running = Vec::new();
        for task in tasks {
            match self.tasks.live.get_mut(&task) {
                Some(live) if live.running => {
                    live.aborted = true;
                    running.push(task);
                }
                _ => {
                    self.tasks.live.remove(&task);
                    self.connection.abort(task);
                    self.forget(task);
                }
            }
        }
        if !running.is_empty() {
            self.tasks.aborts.push(Abort { tasks: running, _done: done });
        }
        self.resume_waiting();
    }
}

/// How far a block operation came at once.
enum Started {
    /// Answered.
    Finished,
    /// Ended but not answered.
    Outcome(Outcome),
    /// [`Driver::conclude`] follows.
    Running,
}

/// What the command may touch, as far as is known before its data is here.
fn footprint(step: &Step, unit: &Unit, attribute: TaskAttribute) -> Footprint {
    let ordered = attribute == TaskAttribute::Ordered;
    let everything = Footprint { lba: 0, blocks: unit.scsi.blocks(), lun: unit.lun, writes: true, ordered };
    match step {
        Step::Now(Action::Block(operation)) => operation::footprint(operation, unit.lun, ordered),
        Step::Now(_) => Footprint { blocks: 0, writes: false, ..everything },
        // The parameter list names the blocks (UNMAP): any of them.
        Step::AfterData(_) => everything,
    }
}

fn kind(step: &Step) -> OperationKind {
    match step {
        Step::Now(Action::Block(operation)) => operation::kind(operation),
        Step::AfterData(_) => OperationKind::Unmap,
        Step::Now(_) => OperationKind::Other,
    }
}
