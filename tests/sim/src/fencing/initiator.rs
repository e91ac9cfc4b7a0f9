//! Initiators: one session with each gateway, commands on any path that is up. After an error status a command is sent again
//! at once, on another path if there is one; after the loss of its connection when the path is back, or elsewhere when the
//! replacement timeout has passed.

use std::time::Duration;

use super::checker::BLOCKS;
use super::connection::Connection;
use super::event::{Event, Numbered, Status, ToGateway, ToInitiator};
use super::world::World;
use crate::clock::{Clock, Ms};

/// Silence after which a path counts as failed, logged in or not yet.
const SILENCE: [Duration; 2] = [Duration::from_secs(8), Duration::from_secs(4)];

/// Reads in a thousand commands, if there is something to be read.
const READS: u64 = 400;

/// One initiator.
#[derive(Debug)]
pub(super) struct Initiator {
    pub(super) clock: Clock,
    /// It takes the number that an R2T shows for that of a status it has, as libiscsi does.
    takes_shown: bool,
    /// One for each gateway.
    pub(super) paths: Vec<Path>,
    /// The connection on which it asked for a registration.
    registering: Option<usize>,
    /// Commands that it has under way at a time.
    pub(super) slots: Vec<Slot>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Down,
    LoggingIn,
    Up,
    LoggingOut,
}

/// The way to one gateway.
#[derive(Debug)]
pub(super) struct Path {
    pub(super) state: State,
    connection: Option<usize>,
    downs: u32,
    pub(super) failures: u32,
    last_heard: Duration,
    /// A reset was sent when there had been so many attempts, and is not answered.
    resetting: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Idle,
    Sent {
        connection: usize,
        since: Duration,
    },
    Aborting {
        connection: usize,
        since: Duration,
    },
    /// The path to this gateway failed under it.
    Failed {
        gateway: usize,
    },
    NoPath,
}

/// Room for one command.
#[derive(Debug)]
pub(super) struct Slot {
    command: Command,
    operation: usize,
    attempt: usize,
}

impl Initiator {
    pub(super) fn new(clock: Clock, takes_shown: bool, gateways: usize, slots: usize) -> Self {
        let path = || Path {
            state: State::Down,
            connection: None,
            downs: 0,
            failures: 0,
            last_heard: Duration::ZERO,
            resetting: None,
        };
        let slot = || Slot { command: Command::Idle, operation: 0, attempt: 0 };
        Self {
            clock,
            takes_shown,
            registering: None,
            paths: (0..gateways).map(|_| path()).collect(),
            slots: (0..slots).map(|_| slot()).collect(),
        }
    }
}

impl World {
    pub(super) fn next_operation(&mut self, initiator: usize, slot: usize) {
        let block = self.random.index(BLOCKS);
        let is_read = self.cluster.is_some() && self.random.permille(READS);
        self.initiators[initiator].slots[slot].operation = self.checker.begin(block, is_read);
        self.issue(initiator, slot, None, None);
    }

    /// Sends a slot's operation: on the path to `on`, or on any that is up, not that to `besides` if there is another.
    fn issue(&mut self, initiator: usize, slot: usize, on: Option<usize>, besides: Option<usize>) {
        let Initiator { clock, paths, slots, .. } = &self.initiators[initiator];
        let is_up = |gateway: &usize| paths[*gateway].state == State::Up;
        let up: Vec<usize> =
            (0..paths.len()).filter(is_up).filter(|gateway| on.is_none_or(|on| on == *gateway)).collect();
        let others: Vec<usize> = up.iter().copied().filter(|gateway| Some(*gateway) != besides).collect();
        let choice = if others.is_empty() { up } else { others };
        let gateway = if choice.is_empty() { None } else { Some(self.random.pick(&choice)) };
        let Some((gateway, connection)) = gateway.and_then(|g| paths[g].connection.map(|c| (g, c))) else {
            self.initiators[initiator].slots[slot].command = Command::NoPath;
            return;
        };
        let (since, operation) = (clock.read(self.now), slots[slot].operation);
        let attempt = self.checker.attempt(operation, (initiator, connection), self.now);
        self.initiators[initiator].slots[slot] =
            Slot { command: Command::Sent { connection, since }, operation, attempt };
        self.note(|| format!("initiator {initiator} sends attempt {attempt} on connection {connection} to gateway {gateway}"));
        let solicited = self.random.permille(self.habits.solicited);
        self.send_to_gateway(connection, ToGateway::Write { attempt, solicited });
        if self.random.permille(self.habits.spite) {
            let (other, path) =
                (self.random.index(self.initiators.len()), self.random.index(self.gateways.len()));
            if self.random.permille(500) {
                self.reset_unit(other, path);
            } else {
                self.preempt(other, path);
            }
        }
        self.lose_nerve(initiator, gateway);
    }

    /// Some give a path up right after they sent something.
    fn lose_nerve(&mut self, initiator: usize, gateway: usize) {
        if self.random.permille(self.habits.nervous) {
            self.path_fails(initiator, gateway, "reset after a command");
        }
    }

    pub(super) fn reset(&mut self, initiator: usize, gateway: usize, failures: u32) {
        if self.initiators[initiator].paths[gateway].failures == failures {
            self.path_fails(initiator, gateway, "reset");
        }
    }

    /// A PDU reaches an initiator, which looks at it at once.
    pub(super) fn on_response(&mut self, connection: usize, (stat_sn, pdu): Numbered) {
        let Connection { initiator, gateway, is_held, .. } = self.connections[connection];
        if !is_held {
            return;
        }
        let Initiator { clock, takes_shown, paths, .. } = &mut self.initiators[initiator];
        paths[gateway].last_heard = clock.read(self.now);
        let takes_shown = *takes_shown && matches!(pdu, ToInitiator::ReadyToTransfer { .. });
        if pdu.is_status() || takes_shown {
            self.connections[connection].note_status(stat_sn);
        }
        match pdu {
            ToInitiator::NopIn { target_transfer_tag } => {
                self.send_to_gateway(connection, ToGateway::NopOut { target_transfer_tag });
            }
            ToInitiator::Fin => self.path_fails(initiator, gateway, "closed by the gateway"),
            ToInitiator::LoginResponse => self.path_is_up(initiator, gateway),
            ToInitiator::LogoutResponse => self.logged_out(initiator, gateway),
            ToInitiator::ReadyToTransfer { attempt } => {
                if self.slot_of(initiator, attempt).is_some() {
                    if takes_shown && self.random.permille(self.habits.malice / 10) {
                        self.path_dies_under_data(connection);
                    }
                    self.send_to_gateway(connection, ToGateway::DataOut { attempt });
                    self.lose_nerve(initiator, gateway);
                }
            }
            ToInitiator::Status { attempt, status } => self.on_status(connection, attempt, status),
            ToInitiator::ResetDone => self.reset_done(connection),
            ToInitiator::Preempted => self.outcome.records += 1,
            ToInitiator::Registered => {
                self.outcome.records += 1;
                self.initiators[initiator].registering = None;
            }
            ToInitiator::Aborted { attempt } => {
                let Some(slot) = self.slot_of(initiator, attempt) else { return };
                if let Command::Aborting { .. } = self.initiators[initiator].slots[slot].command {
                    self.note(|| format!("attempt {attempt} is aborted"));
                    self.issue(initiator, slot, None, None);
                }
            }
        }
    }

    /// The slot that waits for the answer to an attempt.
    fn slot_of(&self, initiator: usize, attempt: usize) -> Option<usize> {
        let waits = |slot: &Slot| {
            slot.attempt == attempt && matches!(slot.command, Command::Sent { .. } | Command::Aborting { .. })
        };
        self.initiators[initiator].slots.iter().position(waits)
    }

    fn on_status(&mut self, connection: usize, attempt: usize, status: Status) {
        let Connection { initiator, gateway, .. } = self.connections[connection];
        let Some(slot) = self.slot_of(initiator, attempt) else { return };
        match status {
            Status::Good => {}
            Status::Failed => {
                self.note(|| format!("attempt {attempt} gets an error status"));
                return self.issue(initiator, slot, None, Some(gateway));
            }
            Status::Refused => {
                self.note(|| format!("attempt {attempt} is refused"));
                return self.is_refused(connection, slot);
            }
        }
        self.note(|| format!("attempt {attempt} is acknowledged"));
        self.initiators[initiator].slots[slot].command = Command::Idle;
        self.checker.acknowledge(attempt, self.now);
        let idle = self.random.below(self.habits.idle_ms);
        self.after(idle, Event::NextOperation { initiator, slot });
    }

    /// An operation comes to nothing, since the initiator may not use the disk: it registers again.
    fn is_refused(&mut self, connection: usize, slot: usize) {
        let initiator = self.connections[connection].initiator;
        self.initiators[initiator].slots[slot].command = Command::Idle;
        let wait = 50 + self.random.below(1_000);
        self.after(wait, Event::NextOperation { initiator, slot });
        let registering = self.initiators[initiator].registering;
        if registering.is_none_or(|on| !self.connections[on].is_held) {
            self.initiators[initiator].registering = Some(connection);
            self.send_to_gateway(connection, ToGateway::Register);
        }
    }

    /// The connection of a path that is up.
    fn connection_to(&self, initiator: usize, gateway: usize) -> Option<usize> {
        let path = &self.initiators[initiator].paths[gateway];
        path.connection.filter(|_| path.state == State::Up)
    }

    /// An initiator resets the disk, unless it does so already.
    pub(super) fn reset_unit(&mut self, initiator: usize, gateway: usize) {
        let Some(connection) = self.connection_to(initiator, gateway) else { return };
        let attempts = self.checker.attempts();
        let path = &mut self.initiators[initiator].paths[gateway];
        if path.resetting.is_none() {
            path.resetting = Some(attempts);
            self.note(|| format!("initiator {initiator} resets the disk through gateway {gateway}"));
            self.send_to_gateway(connection, ToGateway::Reset);
        }
    }

    /// A reset is answered: what was sent on that path before is sent again.
    fn reset_done(&mut self, connection: usize) {
        let Connection { initiator, gateway, .. } = self.connections[connection];
        let Some(before) = self.initiators[initiator].paths[gateway].resetting.take() else { return };
        self.outcome.records += 1;
        self.note(|| format!("the reset of initiator {initiator} through gateway {gateway} is answered"));
        for slot in 0..self.initiators[initiator].slots.len() {
            let Slot { command, attempt, .. } = self.initiators[initiator].slots[slot];
            match command {
                Command::Sent { connection: on, .. } | Command::Aborting { connection: on, .. }
                    if on == connection && attempt < before =>
                {
                    self.issue(initiator, slot, None, None);
                }
                _ => {}
            }
        }
    }

    /// An initiator takes the registration of another.
    pub(super) fn preempt(&mut self, initiator: usize, gateway: usize) {
        let of = self.random.index(self.initiators.len());
        let aborts = self.random.permille(500);
        let Some(connection) = self.connection_to(initiator, gateway).filter(|_| of != initiator) else {
            return;
        };
        self.note(|| {
            format!("initiator {initiator} preempts {of} through gateway {gateway}, aborts: {aborts}")
        });
        self.send_to_gateway(connection, ToGateway::Preempt { of, aborts });
    }

    fn path_is_up(&mut self, initiator: usize, gateway: usize) {
        self.initiators[initiator].paths[gateway].state = State::Up;
        self.note(|| format!("initiator {initiator} is logged in to gateway {gateway}"));
        for slot in 0..self.initiators[initiator].slots.len() {
            // The SCSI layer sends it here again; after an error handler's reset the choice is that of multipath.
            let on = self.random.permille(500).then_some(gateway);
            match self.initiators[initiator].slots[slot].command {
                Command::Failed { gateway: failed } if failed == gateway => {
                    self.issue(initiator, slot, on, None);
                }
                Command::NoPath => self.issue(initiator, slot, None, None),
                _ => {}
            }
        }
    }

    /// The administrator takes a path away.
    pub(super) fn log_out(&mut self, initiator: usize, gateway: usize) {
        let path = &mut self.initiators[initiator].paths[gateway];
        let Some(connection) = path.connection.filter(|_| path.state == State::Up) else { return };
        path.state = State::LoggingOut;
        self.send_to_gateway(connection, ToGateway::Logout);
    }

    /// A Logout is answered: what it ended is sent elsewhere at once.
    fn logged_out(&mut self, initiator: usize, gateway: usize) {
        self.path_fails(initiator, gateway, "logged out");
        for slot in 0..self.initiators[initiator].slots.len() {
            if self.initiators[initiator].slots[slot].command == (Command::Failed { gateway }) {
                self.issue(initiator, slot, None, Some(gateway));
            }
        }
    }

    pub(super) fn path_fails(&mut self, initiator: usize, gateway: usize, why: &str) {
        let path = &mut self.initiators[initiator].paths[gateway];
        let Some(connection) = path.connection.take() else { return };
        let was_up = matches!(path.state, State::Up | State::LoggingOut);
        path.state = State::Down;
        path.failures += 1;
        path.resetting = None;
        path.downs += u32::from(was_up);
        let (failures, downs) = (path.failures, path.downs);
        // What its kernel has still is sent on nevertheless.
        self.connections[connection].is_held = false;
        if self.random.permille(self.habits.fin) {
            self.send_to_gateway(connection, ToGateway::Fin);
        }
        let delay = match was_up {
            true => self.random.below(self.habits.reconnect_ms),
            false => 200 + self.random.below(2_000),
        };
        self.after(delay, Event::Reconnect { initiator, gateway, failures });
        if !was_up {
            return;
        }
        self.note(|| format!("initiator {initiator}'s path to gateway {gateway} fails: {why}"));
        for slot in &mut self.initiators[initiator].slots {
            match slot.command {
                Command::Sent { connection: on, .. } | Command::Aborting { connection: on, .. }
                    if on == connection =>
                {
                    slot.command = Command::Failed { gateway };
                    self.checker.path_failed(slot.attempt, self.now);
                }
                _ => {}
            }
        }
        let timeout = self.initiators[initiator].clock.ms_until(self.habits.replacement_timeout);
        self.after(timeout, Event::ReplacementTimeout { initiator, gateway, downs });
    }

    pub(super) fn replace(&mut self, initiator: usize, gateway: usize, downs: u32) {
        let path = &self.initiators[initiator].paths[gateway];
        if path.state == State::Up || path.downs != downs {
            return;
        }
        for slot in 0..self.initiators[initiator].slots.len() {
            if self.initiators[initiator].slots[slot].command == (Command::Failed { gateway }) {
                self.issue(initiator, slot, None, Some(gateway));
            }
        }
    }

    pub(super) fn reconnect(&mut self, initiator: usize, gateway: usize, failures: u32) {
        let Initiator { clock, paths, .. } = &mut self.initiators[initiator];
        let path = &mut paths[gateway];
        if path.failures != failures || path.connection.is_some() {
            return;
        }
        if !self.gateways[gateway].is_listening {
            return self.after(20, Event::Reconnect { initiator, gateway, failures });
        }
        let connection = self.connections.len();
        (path.connection, path.state) = (Some(connection), State::LoggingIn);
        path.last_heard = clock.read(self.now);
        let accepted = self.clock_of(gateway);
        self.connections.push(Connection::new(initiator, gateway, accepted));
        self.send_to_gateway(connection, ToGateway::Login);
    }

    /// Looks at what has taken too long.
    pub(super) fn tick(&mut self, initiator: usize) {
        let now = self.initiators[initiator].clock.read(self.now);
        for gateway in 0..self.initiators[initiator].paths.len() {
            let path = &self.initiators[initiator].paths[gateway];
            let silence = SILENCE[usize::from(path.state != State::Up)];
            if path.connection.is_some() && now > path.last_heard + silence {
                self.path_fails(initiator, gateway, "no answer");
            }
        }
        let timeout = self.habits.command_timeout;
        for slot in 0..self.initiators[initiator].slots.len() {
            let Slot { command, attempt, .. } = self.initiators[initiator].slots[slot];
            match command {
                Command::Sent { connection, since } if now > since + timeout => {
                    self.initiators[initiator].slots[slot].command =
                        Command::Aborting { connection, since: now };
                    self.send_to_gateway(connection, ToGateway::Abort { attempt });
                }
                Command::Aborting { connection, since } if now > since + timeout / 2 => {
                    let gateway = self.connections[connection].gateway;
                    let Path { resetting, .. } = self.initiators[initiator].paths[gateway];
                    if self.habits.resets_first && resetting.is_none() {
                        self.initiators[initiator].slots[slot].command =
                            Command::Aborting { connection, since: now };
                        self.reset_unit(initiator, gateway);
                    } else {
                        self.path_fails(initiator, gateway, "an abort or a reset is not answered");
                    }
                }
                _ => {}
            }
        }
        let next: Ms = 50 + self.random.below(100);
        self.after(next, Event::Tick(initiator));
    }
}
