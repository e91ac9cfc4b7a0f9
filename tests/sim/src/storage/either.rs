//! What lies below a replica of the cluster: a model of a store, or a store.

use std::borrow::Cow;
use std::ops::Range;

use huntaway_replica::{Credit, Entry, Outcome, Recovered};
use huntaway_wire::Oid;

use super::{Crash, ModelStorage, Objects, RealStorage, Storage};
use crate::Random;

/// One of the two.
#[derive(Debug, Clone)]
pub(crate) enum ReplicaStorage {
    /// The model.
    Model(Box<ModelStorage>),
    /// The real one.
    Real(Box<RealStorage>),
}

impl From<ModelStorage> for ReplicaStorage {
    fn from(storage: ModelStorage) -> Self {
        Self::Model(Box::new(storage))
    }
}

impl From<RealStorage> for ReplicaStorage {
    fn from(storage: RealStorage) -> Self {
        Self::Real(Box::new(storage))
    }
}

macro_rules! either {
    ($self:expr, $storage:ident => $call:expr) => {
        match $self {
            ReplicaStorage::Model($storage) => $call,
            ReplicaStorage::Real($storage) => $call,
        }
    };
}

impl ReplicaStorage {
    fn model(&self) -> Option<&ModelStorage> {
        match self {
            Self::Model(model) => Some(model),
            Self::Real(_) => None,
        }
    }

    /// See [`ModelStorage::promise`].
    pub(crate) fn promise(&mut self) -> Option<Credit> {
        either!(self, storage => storage.promise())
    }

    /// Whether the entry that was logged last was refused: there was no room to put blocks in place.
    pub(crate) fn has_refused(&self) -> bool {
        matches!(self, Self::Real(real) if real.has_refused())
    }

    /// See [`ModelStorage::refuses`].
    pub(crate) fn refuses(&self, entry: &Entry) -> bool {
        self.model().is_some_and(|model| model.refuses(entry))
    }

    /// See [`ModelStorage::is_overdrawn_by`].
    pub(crate) fn is_overdrawn_by(&self, entry: &Entry) -> bool {
        match self {
            Self::Model(model) => model.is_overdrawn_by(entry),
            Self::Real(real) => real.is_overdrawn(),
        }
    }

    /// See [`ModelStorage::is_applied`].
    pub(crate) fn is_applied(&self) -> bool {
        self.model().is_none_or(ModelStorage::is_applied)
    }

    /// See [`ModelStorage::fill`].
    pub(crate) fn fill(&mut self, left_bytes: u64) {
        either!(self, storage => storage.fill(left_bytes));
    }

    /// See [`ModelStorage::empty`].
    pub(crate) fn empty(&mut self) {
        either!(self, storage => storage.empty());
    }

    /// See [`ModelStorage::enlarge`].
    pub(crate) fn enlarge(&mut self) {
        match self {
            Self::Model(model) => model.enlarge(),
            Self::Real(real) => real.empty(),
        }
    }

    /// What is there now.
    pub(crate) fn objects(&self) -> Cow<'_, Objects> {
        match self {
            Self::Model(model) => Cow::Borrowed(model.objects()),
            Self::Real(real) => Cow::Owned(real.objects()),
        }
    }

    /// Objects that cannot be put in place: see [`huntaway_store::Store::suspects`].
    pub(crate) fn suspects(&self) -> Vec<Oid> {
        either!(self, storage => storage.suspects())
    }

    /// How many entries came after the last one that stands for all that was known before it.
    pub(crate) fn since_checkpoint(&self) -> u64 {
        either!(self, storage => storage.since_checkpoint())
    }

    /// The disk fails: whatever it says from here on, it keeps what it has.
    pub(crate) fn fail(&mut self) {
        either!(self, storage => storage.fail());
    }

    /// Blocks of data that are on stable storage, and what reads find.
    pub(crate) fn places_to_rot(&self) -> Vec<(Oid, u32)> {
        either!(self, storage => storage.places_to_rot())
    }

    /// A bit of the block flips.
    pub(crate) fn rot(&mut self, oid: Oid, block: u32) {
        either!(self, storage => storage.rot(oid, block));
    }

    /// The object's file is lost.
    pub(crate) fn lose(&mut self, oid: Oid) {
        either!(self, storage => storage.lose(oid));
    }

    /// Another one of its node lost entries, so nobody relies on this one either.
    pub(crate) fn is_doubted(&mut self) {
        either!(self, storage => storage.is_damaged = true);
    }

    /// Whether it may have lost entries that were on stable storage, and nobody taught it since.
    pub(crate) fn is_damaged(&self) -> bool {
        either!(self, storage => storage.is_damaged)
    }

    /// Whether it says so after such a crash, or the one before.
    pub(crate) fn tells_damage(&self, crash: Crash) -> bool {
        match self {
            Self::Model(_) => crash == Crash::Damaged,
            Self::Real(real) => real.tells_damage(),
        }
    }

    /// A copy of its disk comes into use.
    pub(crate) fn put_in(&mut self) {
        if let Self::Real(real) = self {
            real.put_in();
        }
    }

    /// The ledger knows.
    pub(crate) fn damage_is_known(&mut self) {
        if let Self::Real(real) = self {
            real.damage_is_known();
        }
    }

    /// It was taught.
    pub(crate) fn is_taught(&mut self) {
        either!(self, storage => storage.is_damaged = false);
    }

    /// Whether it is the real one.
    pub(crate) fn is_real(&self) -> bool {
        matches!(self, Self::Real(_))
    }

    /// Whether there is no store where one should be.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Real(real) if !real.is_open())
    }
}

impl Storage for ReplicaStorage {
    fn log(&mut self, entry: Entry) -> u64 {
        either!(self, storage => storage.log(entry))
    }

    fn written(&mut self, number: u64) {
        either!(self, storage => storage.written(number));
    }

    fn last(&self) -> u64 {
        either!(self, storage => storage.last())
    }

    fn synced(&mut self, number: u64) {
        either!(self, storage => storage.synced(number));
    }

    fn read(&self, oid: Oid, blocks: Range<u32>) -> Outcome {
        either!(self, storage => storage.read(oid, blocks))
    }

    fn digests(&self, after: Option<Oid>, most: usize) -> Outcome {
        either!(self, storage => storage.digests(after, most))
    }

    fn versions(&self, oid: Oid) -> Outcome {
        either!(self, storage => storage.versions(oid))
    }

    fn verify(&self, oid: Oid) -> Outcome {
        either!(self, storage => storage.verify(oid))
    }

    fn crash(&mut self, crash: Crash, random: &mut Random) {
        either!(self, storage => storage.crash(crash, random));
    }

    fn recover(&mut self) -> Recovered {
        either!(self, storage => storage.recover())
    }
}
