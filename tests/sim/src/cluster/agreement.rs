//! The agreed state itself: what a node would hold, fed by what a node would read.

use huntaway_ledger::{
    Cluster, DiskRecord, EpochRecord, FollowError, InSyncSets, Incarnation, Ledger as Records, MAX_WEIGHT,
    Member, MemberState, Name, Record, State, VdiOptions,
};
use huntaway_wire::{Epoch, NodeId, Partition, Vid};

use super::branch::Named;
use super::ledger::Ledger;
use super::{Bug, Cluster as Run, MAX_DISKS, Shape, id_of, partition};

/// What all disks of a run are.
const OPTIONS: VdiOptions =
    VdiOptions { size_bytes: 1 << 30, block_size: 4096, physical_block_size: 4096, thin: true };

/// Who is to keep each partition.
pub(crate) type Table = Vec<(Partition, Vec<NodeId>)>;

/// The ledger of a cluster that was just made: each partition is kept by the first of its ring.
pub(crate) fn first(shape: &Shape, rings: &[Vec<NodeId>], bug: Option<Bug>) -> Records {
    let mut records = Records::default();
    let keepers = |ring: &Vec<NodeId>| ring.iter().take(shape.copies).copied().collect();
    let table = (0..).map(partition).zip(rings.iter().map(keepers)).collect();
    records.plant(|state| {
        *state = State::with_partitions(shape.partitions);
        state.plant_table(Some(table).filter(|_| !shape.has_epochs));
    });
    // One may be added later.
    let nodes = if shape.has_epochs { shape.nodes.max(shape.copies + 1) - 1 } else { shape.nodes };
    let incarnation = |node: usize| Incarnation(u64::from(node == 0 || !shape.has_witness_first));
    let members: Vec<Member> =
        (0..nodes).map(|node| Member { incarnation: incarnation(node), ..member(id_of(node)) }).collect();
    let copies = Record::Copies { copies: shape.copies, min_copies: shape.min_copies };
    follow(&mut records, &copies).expect("there are a few copies");
    plant(&mut records, bug);
    if shape.has_witness_first {
        begin(&mut records, 1, vec![Member { weight: 0, ..members[0].clone() }]);
    }
    let next = records.state().epoch().0 + 1;
    begin(&mut records, next, members);
    records
}

/// The cluster has these members from now on.
fn begin(records: &mut Records, number: u64, members: Vec<Member>) {
    let voters = members.iter().map(|member| member.node).collect();
    let cluster = Cluster { uuid: [1; 16], name: name("cluster") };
    let epoch = EpochRecord { number: Epoch(number), cluster, members, voters };
    follow(records, &Record::Epoch(epoch)).expect("a cluster of a few nodes can be made");
}

/// A node that is new to the cluster.
pub(crate) fn member(node: NodeId) -> Member {
    Member {
        node,
        name: name("node"),
        incarnation: Incarnation(0),
        addresses: Vec::new(),
        zone: name(&format!("zone-{}", node.0[0] % 3)),
        weight: 1 + u32::from(node.0[0]) % MAX_WEIGHT.min(2),
        state: MemberState::Up,
    }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("the texts here are names")
}

fn plant(records: &mut Records, bug: Option<Bug>) {
    let plant = match bug {
        Some(Bug::SamePepochAfterRestart) => InSyncSets::plant_same_pepoch_after_restart,
        Some(Bug::AnyDiskWillDo) => InSyncSets::plant_any_disk_will_do,
        Some(Bug::PlacedAtOnce) => InSyncSets::plant_placed_at_once,
        Some(Bug::DamagedOpens) => InSyncSets::plant_opens_damaged,
        Some(Bug::FirstDiskIsAnother) => InSyncSets::plant_first_disk_is_another,
        Some(Bug::OldCopyLeftOut) => InSyncSets::plant_old_copies_left_out,
        Some(Bug::RemovedTooEarly) => InSyncSets::plant_removed_early,
        _ => return,
    };
    records.plant(|state| state.plant(plant));
}

/// The next record, as whoever learns of it reads it.
fn follow(records: &mut Records, record: &Record) -> Result<(), FollowError> {
    let bytes = records.follow(record)?.bytes;
    let (read, _) = records.read(&bytes).expect("what can follow is read");
    assert_eq!(read, *record, "what is read is what was written");
    Ok(())
}

impl Ledger {
    /// # Errors
    /// [`FollowError`]: the record changes nothing.
    pub(crate) fn agree(&mut self, record: &Record) -> Result<(), FollowError> {
        follow(&mut self.agreed, record)
    }

    pub(crate) fn agree_on_disks(&mut self, record: DiskRecord) -> Result<(), FollowError> {
        self.agree(&Record::Disks(record))
    }

    pub(crate) fn create_disks(&mut self, disks: usize) {
        for base in 0..disks {
            let vid = self.disks().next().expect("there are ids for a few disks");
            let (name, uuid) = (name(&format!("disk-{vid}")), [base as u8; 16]);
            let created = self.agree(&Record::CreateVdi { vid, name, uuid, options: OPTIONS });
            created.expect("a few disks can be made");
            self.named.push(Some(Named { first: vid, base }));
        }
        self.named.resize(MAX_DISKS as usize, None);
    }

    /// Makes a disk of a snapshot, if it can be done.
    pub(crate) fn clone_of(&mut self, of: Vid) -> bool {
        let Some(vid) = self.disks().next() else { return false };
        let record = Record::CloneVdi { of, vid, name: name(&format!("disk-{vid}")), uuid: [0; 16] };
        self.agree(&record).is_ok()
    }

    /// Has partitions kept by other nodes: an epoch whose table is not computed.
    pub(crate) fn place(&mut self, table: Table) -> Result<(), FollowError> {
        self.agreed.plant(|state| state.plant_table(Some(table)));
        self.epoch(self.members().to_vec())
    }

    /// Has the cluster consist of others.
    pub(crate) fn epoch(&mut self, members: Vec<Member>) -> Result<(), FollowError> {
        let state = self.agreed.state();
        let Some(cluster) = state.cluster().cloned() else { return Ok(()) };
        let voters = members.iter().map(|member| member.node).collect();
        let number = Epoch(state.epoch().0 + 1);
        self.agree(&Record::Epoch(EpochRecord { number, cluster, members, voters }))
    }

    pub(crate) fn members(&self) -> &[Member] {
        self.agreed.state().members()
    }

    pub(crate) fn plant(&mut self, plant: impl FnOnce(&mut InSyncSets)) {
        self.agreed.plant(|state| state.plant(plant));
    }
}

impl Run {
    /// Somebody joins now and then, and it is as good to ask that one: what it has is a snapshot of the state.
    pub(crate) fn perhaps_join(&mut self) {
        if !self.random.percent(5) {
            return;
        }
        let before = &self.ledger.agreed;
        let bytes = before.snapshot().expect("there is memory");
        let mut joined = Records::of_snapshot(&bytes).expect("what was written is read");
        let digests = (before.state().digest(), joined.state().digest());
        assert_eq!(digests.0, digests.1, "equal states have equal digests");
        plant(&mut joined, self.bug);
        joined.plant(|state| state.plant_table(before.state().planted_table()));
        assert!(before.state() == joined.state(), "what is in a snapshot is all there is");
        if self.bug == Some(Bug::DoubtNotInSnapshot) {
            joined.plant(|state| state.plant(InSyncSets::plant_doubt_forgotten));
        }
        self.ledger.agreed = joined;
    }
}
