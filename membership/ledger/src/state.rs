//! What the records so far add up to: the cluster, its members, who keeps and serves which partition, and the VDIs.

mod epoch;
mod error;
mod vdis;

use std::collections::BTreeMap;
use std::sync::Arc;

use huntaway_wire::{Epoch, NodeId, Partition, Pepoch, Vid};
use sha2::{Digest, Sha256};

pub(crate) use self::epoch::{ALL_PARTITIONS, check_members};
pub use self::error::ApplyError;
use crate::{
    Cluster, Disks, EpochRecord, GatewayState, InSyncSets, Member, Name, Operation, Record, RecordHash,
    RecoveryPolicy, Vdi,
};

/// Most VDIs a cluster has at one time.
pub const MAX_VDIS: usize = 65_536;

/// The agreed state of the cluster after some record. Pure: the same records give the same state everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub(crate) number: u64,
    pub(crate) epoch: Option<EpochRecord>,
    /// Most records do not concern it, and it is large.
    pub(crate) sets: Arc<InSyncSets>,
    pub(crate) disks: Disks,
    pub(crate) vdis: BTreeMap<Vid, Vdi>,
    pub(crate) vids: BTreeMap<Name, Vid>,
    pub(crate) gateways: BTreeMap<Name, GatewayState>,
    pub(crate) recovery: RecoveryPolicy,
    /// How many there are.
    pub(crate) partitions: u16,
    /// Who is to keep what, if that is not to be what the members say.
    #[cfg(feature = "planted-bugs")]
    pub(crate) table: Option<Vec<(Partition, Vec<NodeId>)>>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            number: 0,
            epoch: None,
            sets: Arc::default(),
            disks: Disks::default(),
            vdis: BTreeMap::new(),
            vids: BTreeMap::new(),
            gateways: BTreeMap::new(),
            recovery: RecoveryPolicy::default(),
            partitions: ALL_PARTITIONS,
            #[cfg(feature = "planted-bugs")]
            table: None,
        }
    }
}

impl State {
    /// The number of the last record applied; 0 = none. Of two states the one with the higher number is newer.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The cluster; `None` before the first epoch.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.epoch.as_ref().map(|epoch| &epoch.cluster)
    }

    /// The epoch in force; 0 before the first.
    pub fn epoch(&self) -> Epoch {
        self.epoch.as_ref().map_or(Epoch(0), |epoch| epoch.number)
    }

    /// The members of the epoch, each with the incarnation last recorded.
    pub fn members(&self) -> &[Member] {
        self.epoch.as_ref().map_or(&[], |epoch| &epoch.members)
    }

    /// The nodes that decide about the next record.
    pub fn voters(&self) -> &[NodeId] {
        self.epoch.as_ref().map_or(&[], |epoch| &epoch.voters)
    }

    /// The member `node`, if it is one.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members().iter().find(|member| member.node == node)
    }

    /// The partition's pepoch: never lowered, raised by every epoch or start of a process that concerns it.
    pub fn pepoch(&self, partition: Partition) -> Pepoch {
        self.sets.set(partition).map_or(Pepoch(0), |set| set.pepoch)
    }

    /// The node that serves the partition; `None` while it is down or there is none.
    pub fn primary(&self, partition: Partition) -> Option<NodeId> {
        let primary = self.sets.set(partition)?.primary()?;
        self.sets.node(primary).filter(|state| state.is_up).map(|_| primary)
    }

    /// The sum of the partitions that `node` serves, and their pepochs: two nodes that have the same one mean the same.
    pub fn leads(&self, node: NodeId) -> RecordHash {
        let mut sum = Sha256::new();
        for (partition, set) in
            self.sets.sets().filter(|(partition, _)| self.primary(*partition) == Some(node))
        {
            add_led(&mut sum, partition, set.pepoch);
        }
        RecordHash(sum.finalize().into())
    }

    /// The same of every node that serves a partition; `None` if there is a partition that none serves.
    pub(crate) fn all_leads(&self) -> Option<BTreeMap<NodeId, RecordHash>> {
        let mut sums = BTreeMap::new();
        for (partition, set) in self.sets.sets() {
            let sum = sums.entry(self.primary(partition)?).or_insert_with(Sha256::new);
            add_led(sum, partition, set.pepoch);
        }
        Some(sums.into_iter().map(|(node, sum)| (node, RecordHash(sum.finalize().into()))).collect())
    }

    /// Who holds what of each partition, and the processes of the nodes.
    pub fn sets(&self) -> &InSyncSets {
        &self.sets
    }

    /// The versions of disks.
    pub fn disks(&self) -> &Disks {
        &self.disks
    }

    /// All VDIs, oldest first.
    pub fn vdis(&self) -> impl Iterator<Item = &Vdi> {
        self.vdis.values()
    }

    /// The VDI named `name`.
    pub fn vdi(&self, name: &str) -> Option<&Vdi> {
        self.vdi_by_vid(*self.vids.get(name)?)
    }

    /// The VDI `vid`.
    pub fn vdi_by_vid(&self, vid: Vid) -> Option<&Vdi> {
        self.vdis.get(&vid)
    }

    /// The record that carries out `operation` in this state. A new VDI gets the next vid, and `uuid`, which the
    /// caller makes at random. The record is not applied; whether it can be is [`State::apply`]'s to say.
    ///
    /// # Errors
    /// [`ApplyError::VidsUsedUp`].
    pub fn record_for(&self, operation: Operation, uuid: [u8; 16]) -> Result<Record, ApplyError> {
        Ok(match operation {
            Operation::CreateVdi { name, options } => {
                let vid = self.disks.next().ok_or(ApplyError::VidsUsedUp)?;
                Record::CreateVdi { vid, name, uuid, options }
            }
            Operation::ProvisionedVdi { vid } => Record::ProvisionedVdi { vid },
            Operation::ResizeVdi { vid, size_bytes } => Record::ResizeVdi { vid, size_bytes },
            Operation::GrowVdi { vid, size_bytes } => Record::GrowVdi { vid, size_bytes },
            Operation::SanitizeVdi { vid, sanitize } => Record::SanitizeVdi { vid, sanitize },
            Operation::DeleteVdi { vid } => Record::DeleteVdi { vid },
        })
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// [`ApplyError`] when it cannot follow; the state is then unchanged. From a ledger that was read back, this
    /// means that the ledger is damaged or was written by other rules.
    pub fn apply(&mut self, record: &Record) -> Result<(), ApplyError> {
        match record {
            Record::Epoch(epoch) => self.apply_epoch(epoch)?,
            Record::Incarnation { node, incarnation } => self.apply_incarnation(*node, *incarnation)?,
            Record::Copies { copies, min_copies } => self.apply_copies(*copies, *min_copies)?,
            _ if self.epoch.is_none() => return Err(ApplyError::NoEpoch),
            Record::CreateVdi { vid, name, uuid, options } => self.create_vdi(*vid, name, *uuid, options)?,
            Record::ProvisionedVdi { vid } => self.provisioned_vdi(*vid)?,
            Record::ResizeVdi { vid, size_bytes } => self.resize_vdi(*vid, *size_bytes)?,
            Record::GrowVdi { vid, size_bytes } => self.grow_vdi(*vid, *size_bytes)?,
            Record::SanitizeVdi { vid, sanitize } => self.sanitize_vdi(*vid, *sanitize)?,
            Record::DeleteVdi { vid } => self.delete_vdi(*vid)?,
            Record::CloneVdi { of, vid, name, uuid } => self.clone_vdi(*of, *vid, name, *uuid)?,
            Record::Recovery(policy) => self.apply_recovery(*policy)?,
            Record::GatewayStarted { name, node, incarnation, start } => {
                let (node, incarnation, start) = (*node, *incarnation, *start);
                self.start_gateway(name, GatewayState { node, incarnation, start })?;
            }
            Record::Sets(record) => self.apply_to_sets(record)?,
            Record::Disks(record) => self.apply_to_disks(record)?,
        }
        self.number += 1;
        Ok(())
    }
}

fn add_led(sum: &mut Sha256, partition: Partition, pepoch: Pepoch) {
    sum.update(partition.value().to_le_bytes());
    sum.update(pepoch.0.to_le_bytes());
}

#[cfg(feature = "planted-bugs")]
impl State {
    /// A cluster that has only so many partitions.
    pub fn with_partitions(partitions: u16) -> Self {
        Self { partitions, ..Self::default() }
    }

    /// Has the next epochs place partitions as this table says, whatever members they have. Without one, it is computed again.
    pub fn plant_table(&mut self, table: Option<Vec<(Partition, Vec<NodeId>)>>) {
        self.table = table;
    }

    /// The table that was planted last.
    pub fn planted_table(&self) -> Option<Vec<(Partition, Vec<NodeId>)>> {
        self.table.clone()
    }

    /// Makes the agreed sets wrong.
    pub fn plant(&mut self, plant: impl FnOnce(&mut InSyncSets)) {
        plant(Arc::make_mut(&mut self.sets));
    }
}
