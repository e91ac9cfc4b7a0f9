//! What goes wrong: pauses, cuts, restarts, and what is slow for a while.

use huntaway_wire::Incarnation;

use super::connection::{Connection, Direction};
use super::event::{Event, Work};
use super::ledger::Record;
use super::world::World;
use crate::clock::Ms;

impl World {
    /// Something goes wrong, and something else soon after.
    pub(super) fn fault(&mut self) {
        let initiator = self.random.index(self.initiators.len());
        let gateway = self.random.index(self.gateways.len());
        let store = self.random.index(self.stores.all.len());
        let has_stores = self.cluster.is_none();
        let longest = self.random.pick(&[500, 3_000, 15_000, 15_000, 60_000]);
        let long = self.random.below(longest);
        let until = self.now + long;
        if self.random.permille(self.habits.records) {
            self.regulate(initiator, gateway);
            let next = self.random.below(self.habits.longest_calm_ms);
            return self.after(next, Event::Fault);
        }
        match self.random.below(14) {
            0 | 1 => {
                self.gateways[gateway].paused_until = until;
                self.note(|| format!("FAULT gateway {gateway} is paused for {long} ms"));
            }
            2 | 3 => {
                let direction = self.random.pick(&[Direction::ToGateway, Direction::ToInitiator]);
                self.cut(initiator, gateway, &[direction], long);
            }
            4 => self.cut(initiator, gateway, &[Direction::ToGateway, Direction::ToInitiator], long),
            5 | 6 => self.path_fails(initiator, gateway, "reset"),
            7 if self.gateways[gateway].is_listening => {
                self.note(|| format!("FAULT gateway {gateway} restarts"));
                self.restart_gateway(gateway);
            }
            7 => {}
            8 => {
                self.slow_stores_until = self.now + long.min(10_000);
                self.note(|| "FAULT stores are slow".to_owned());
            }
            9 => {
                self.slow_network_until = until;
                self.note(|| "FAULT the network is slow".to_owned());
            }
            10 if has_stores => {
                self.stores.all[store].paused_until = self.now + long.min(8_000);
                self.note(|| format!("FAULT store {store} is paused"));
            }
            11 => {
                self.note(|| format!("FAULT initiator {initiator} logs out of gateway {gateway}"));
                self.log_out(initiator, gateway);
            }
            12 => self.path_dies(initiator, gateway, long),
            _ if has_stores => self.hand_over(store),
            _ => self.plot(),
        }
        let next = self.random.below(self.habits.longest_calm_ms);
        self.after(next, Event::Fault);
    }

    /// Somebody resets the disk or preempts an initiator, or the LUN of one is taken away, or there is a snapshot.
    fn regulate(&mut self, initiator: usize, gateway: usize) {
        match self.random.below(8) {
            0..2 => self.reset_unit(initiator, gateway),
            2..5 => self.preempt(initiator, gateway),
            5 => self.unmap(initiator),
            _ => self.after(0, Event::Record(Record::Snapshot, None)),
        }
    }

    fn cut(&mut self, initiator: usize, gateway: usize, directions: &[Direction], long: Ms) {
        for direction in directions {
            self.cuts.insert((initiator, gateway, *direction), self.now + long);
        }
        self.note(|| {
            format!(
                "FAULT initiator {initiator} and gateway {gateway} are cut off for {long} ms: {directions:?}"
            )
        });
    }

    /// Nothing passes between the two for so long, and soon the initiator gives up its connection: nobody tells the gateway.
    pub(super) fn path_dies(&mut self, initiator: usize, gateway: usize, long: Ms) {
        self.cut(initiator, gateway, &[Direction::ToGateway, Direction::ToInitiator], long);
        let failures = self.initiators[initiator].paths[gateway].failures;
        let soon = self.random.below(500);
        self.after(soon, Event::Reset { initiator, gateway, failures });
    }

    /// The path dies as an initiator sends data, and the gateway's writer stalls almost until that arrives: what is numbered
    /// then was not on its way when the data was sent.
    pub(super) fn path_dies_under_data(&mut self, connection: usize) {
        let Connection { initiator, gateway, target, .. } = &mut self.connections[connection];
        let (initiator, gateway) = (*initiator, *gateway);
        if std::mem::replace(&mut target.is_writing, true) {
            return;
        }
        let long = 4_000 + self.random.below(5_000);
        self.path_dies(initiator, gateway, long);
        let stall = long - self.random.below(2_000);
        self.work_after(stall, gateway, Work::Number(connection));
    }

    /// There is no primary for a while, then this one; it may be a new process.
    pub(super) fn hand_over(&mut self, store: usize) {
        if self.stores.primary.take().is_none() {
            return;
        }
        if self.random.permille(300) {
            let restarted = &mut self.stores.all[store];
            restarted.incarnation = Incarnation(restarted.incarnation.0 + 1);
            restarted.clock.restart(&mut self.random);
            self.note(|| format!("FAULT store {store} restarts"));
        }
        let longest = if self.random.permille(500) { 50 } else { 3_000 };
        let delay = self.random.below(longest);
        self.after(delay, Event::NewPrimary(store));
    }
}
