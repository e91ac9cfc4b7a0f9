//! What can happen, and what is done about it.

use huntaway_ledger::{DiskRecord, SetRecord};
use huntaway_replica::{Answer, Hold, Message, Moment, Outcome, Process, Request, RequestId, Ticket};
use huntaway_wire::{Incarnation, Partition, Pepoch, Stamp};

use super::client::Told;
use super::plot::Sprung;
use super::shunned::Shunned;
use super::syncing::RoundId;
use super::{Cluster, Endpoint, MS};
use crate::clock::Time;

/// What happens to one process of a node or gateway: nothing, if it is not that process any more.
pub(crate) enum Event {
    /// Something reaches a node's process.
    Node { node: usize, incarnation: Incarnation, what: AtNode },
    /// Something reaches a gateway's process.
    Gateway { gateway: usize, incarnation: Incarnation, what: AtGateway },
    /// A client's turn.
    ClientNext { client: usize, turn: u64 },
    /// A client has waited long enough for its operation.
    ClientTimeout { client: usize, operation: u64 },
    /// A client hears of its operation.
    ClientTold { client: usize, operation: u64, told: Told },
    /// A record reaches the ledger.
    Record { from: Endpoint, record: SetRecord },
    /// The ledger's record that the nodes are down can be acted on.
    DownActive { nodes: Vec<usize> },
    /// The ledger looks who lives.
    Detect,
    /// Partitions are to be kept by other nodes.
    Place,
    /// Something goes wrong.
    Fault,
    /// Something goes wrong with a disk.
    DiskFault,
    /// A node gets another disk.
    OtherDisk { node: usize },
    /// A disk that was taken out is found again.
    PutDiskBack { node: usize },
    /// A disk fails.
    FailDisk { node: usize },
    /// A disk that failed is to work again.
    ReplaceDisk { node: usize },
    /// A disk failed long ago, and the other nodes of a set that needs all of its members die.
    KillOthers { partition: u16, node: usize },
    /// Others fill disks.
    FillDisks,
    /// They have enough of it.
    EmptyDisk { node: usize },
    /// Somebody wants a snapshot.
    Snapshot,
    /// Writes are held for it.
    Hold,
    /// Somebody has waited for it long enough.
    AbortSnapshot { hold: Hold },
    /// Somebody deletes something.
    Delete { record: DiskRecord },
    /// A node goes for a long time, and a gateway is killed.
    Leave { node: usize, gateway: usize },
    /// A primary tells the ledger that its partition holds.
    Held { partition: Partition, pepoch: Pepoch, hold: Hold },
    /// Somebody resets a disk.
    Reset,
    /// Whether that is done.
    ResetDone { reset: usize },
    /// The replicas of a partition ask the ledger for the removal of their primary.
    Overthrow { partition: usize, primary: Endpoint },
    /// Whoever is primary of a partition is removed, unless it is an heir; so many times.
    Dethrone { partition: usize, heirs: Vec<Endpoint>, times: u32 },
    /// All replicas of a partition lose power, and one's log is damaged.
    LosePowerOfSet { partition: usize, damaged: Endpoint },
    /// Clients hurry.
    Rush { partition: u16, stale_gateway: usize },
    /// What follows when a trap springs.
    Sprung(Sprung),
    /// A primary was cut off from the other replicas long ago.
    Shunned(Shunned),
    /// A whole in-sync set starts again, with logs that begin anew.
    StartAnew { partition: Partition },
    /// The next record is heard of late.
    Deafen,
    /// Cuts in the network end.
    Reconnect,
    /// A machine is there again.
    StartNode { node: usize },
    /// A process that left in order is gone.
    HasLeft { node: usize, incarnation: Incarnation },
    /// A gateway is there again.
    StartGateway { gateway: usize },
    /// A slow disk or network is as before.
    Quicken { endpoint: Endpoint },
}

/// What reaches a node's process.
pub(crate) enum AtNode {
    /// A message of another node's process.
    Message { from: Endpoint, incarnation: Incarnation, partition: Partition, message: Message },
    /// A request of a gateway. Its stamp is checked when it gets its version, unless that was done on arrival, wrongly.
    Request { from: Endpoint, partition: Partition, request: Request, is_checked: bool },
    /// Its store did something.
    Stored { partition: Partition, ticket: Ticket, outcome: Outcome, number: u64, synced: bool },
    /// A gateway wants all that is in its logs on stable storage.
    SyncAll { round: RoundId },
    /// All up to these entries, by partition, is on stable storage.
    SyncedAll { round: RoundId, numbers: Vec<u64> },
    /// What is in its logs is to be applied.
    Apply,
    /// Its disk failed.
    DiskFailed,
    /// Time went by.
    Tick,
    /// Time to ask for the ledger's lease.
    AskForLease,
    /// The ledger's lease.
    LedgerLease { until: Moment },
    /// The ledger has something new.
    News,
    /// It tells the ledger that it started, until that is known.
    Announce,
}

/// What reaches a gateway's process.
pub(crate) enum AtGateway {
    /// A store's answer.
    Answer { from: Endpoint, id: RequestId, resend: u32, answer: Answer, stamp: Stamp },
    /// A node has synced all, and knew so much of the ledger then; or it cannot say that.
    SyncedAll { from: Process, round: RoundId, known: Option<u64> },
    /// A client's command.
    Command { client: usize, operation: u64, sent: Time },
    /// Time to look after what is under way.
    Tick,
    /// The ledger has something new.
    News,
}

impl Cluster {
    pub(crate) fn happen(&mut self, event: Event) {
        match event {
            Event::Node { node, incarnation, what } => {
                let state = &self.nodes[node];
                if !state.is_alive() || state.incarnation != incarnation {
                    return;
                }
                match state.waits(self.time, &what) {
                    0 => self.at_node(node, what),
                    rest => self.waits_at_node(node, what, rest),
                }
            }
            Event::Gateway { gateway, incarnation, what } => {
                let state = &self.gateways[gateway];
                if !state.is_alive() || state.incarnation != incarnation {
                    return;
                }
                match state.paused_until.checked_sub(self.time) {
                    Some(rest) if rest > 0 => self.at(rest, Event::Gateway { gateway, incarnation, what }),
                    _ => self.at_gateway(gateway, what),
                }
            }
            Event::ClientNext { client, turn } => self.client_turn(client, turn),
            Event::ClientTimeout { client, operation } => self.client_timeout(client, operation),
            Event::ClientTold { client, operation, told } => self.client_told(client, operation, told),
            Event::Record { from, record } => self.record_arrives(from, &record),
            Event::DownActive { nodes } => self.down_active(&nodes),
            Event::Detect => self.detect(),
            Event::Place => self.place(),
            Event::Fault => self.fault(),
            Event::DiskFault => self.disk_fault(),
            Event::OtherDisk { node } => self.other_disk(node),
            Event::PutDiskBack { node } => self.put_disk_back(node),
            Event::FailDisk { node } => self.fail_disk(node),
            Event::ReplaceDisk { node } => self.replace_disk(node),
            Event::KillOthers { partition, node } => self.kill_others(partition, node),
            Event::FillDisks => self.fill_disks(),
            Event::EmptyDisk { node } => self.empty_disk(node),
            Event::Snapshot => self.snapshot(),
            Event::Hold => self.hold(),
            Event::AbortSnapshot { hold } => self.abort_snapshot(hold),
            Event::Delete { record } => self.delete(&record),
            Event::Leave { node, gateway } => self.leave_with_gateway(node, gateway),
            Event::Held { partition, pepoch, hold } => self.held(partition, pepoch, hold),
            Event::Reset => self.reset(),
            Event::ResetDone { reset } => self.reset_done(reset),
            Event::Overthrow { partition, primary } => self.overthrow_now(partition, primary),
            Event::Dethrone { partition, heirs, times } => self.dethrone(partition, heirs, times),
            Event::LosePowerOfSet { partition, damaged } => self.lose_power_of_set(partition, damaged),
            Event::Rush { partition, stale_gateway } => self.rush(partition, stale_gateway, 1200 * MS),
            Event::Sprung(sprung) => self.sprung(&sprung),
            Event::Shunned(shunned) => self.mind_shunned(&shunned),
            Event::StartAnew { partition } => self.start_anew(partition),
            Event::Deafen => self.deafen(),
            Event::Reconnect => self.reconnect(),
            Event::StartNode { node } => self.start_process(node),
            Event::HasLeft { node, incarnation } => self.has_left(node, incarnation),
            Event::StartGateway { gateway } => self.start_gateway(gateway),
            Event::Quicken { endpoint } => self.quicken(endpoint),
        }
    }
}
