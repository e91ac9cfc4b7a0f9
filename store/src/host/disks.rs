//! The disks of the node, and what they remember of its processes.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use huntaway_ledger::{Memory, StartId, Starts};
use huntaway_membership::Driver as _;
use huntaway_membership::local::shared::{NodeStart, RemoteDriver};
use huntaway_wire::Partition;
use prometheus::Registry;

use super::starts::{Remembered, worse};
use crate::disk::FileDisk;
use crate::locking::lock;
use crate::service::boot_id;
use crate::store::Store;
use crate::{
    BootId, ClusterId, DiskDirectory, DiskStatus, DisksStopped, NodeStore, NotAdded, NotRemoved, OpenError,
    StoreOptions,
};

/// All of them.
pub(super) struct Disks {
    store: NodeStore,
    boot: BootId,
    /// What all disks that serve remember, once the process has begun.
    remembered: Mutex<Option<Remembered>>,
}

impl Disks {
    pub(super) fn open(
        state: &Path,
        disks: &[DiskDirectory],
        options: StoreOptions,
        ledger: &RemoteDriver,
        registry: &Registry,
    ) -> Result<Arc<Self>, OpenError> {
        let boot = if options.boot == BootId([0; 16]) { boot_id() } else { Some(options.boot) };
        let options = StoreOptions {
            cluster: ClusterId(ledger.cluster()),
            node: ledger.node(),
            epoch: ledger.state().epoch(),
            opens_damaged_log: true,
            boot: boot.unwrap_or(options.boot),
            ..options
        };
        let boot = options.boot;
        Ok(Self::over(NodeStore::open(state, disks, options, registry)?, boot))
    }

    fn over(store: NodeStore, boot: BootId) -> Arc<Self> {
        let disks = Arc::new(Self { store, boot, remembered: Mutex::new(None) });
        disks.store.opened().for_each(|store| disks.minds_failure_of(store));
        disks
    }

    fn minds_failure_of(self: &Arc<Self>, store: &Store<FileDisk>) {
        let disks = Arc::downgrade(self);
        store.on_failure(move || disks.upgrade().iter().for_each(|disks| disks.has_failed()));
    }

    /// A disk failed: what it was given since it was synced last may be lost, which the next process has to know, also in this boot.
    fn has_failed(&self) {
        let mut remembered = lock(&self.remembered);
        // Whoever begins later looks whether a disk has failed.
        let Some(remembered) = &mut *remembered else { return };
        remembered.memory = worse(remembered.memory, Memory::Stable);
        // What failed is asked for nothing: it may take a minute to say no.
        let disks = [self.store.state()].into_iter().chain(self.all().map(Store::disk));
        let noted = disks.filter(|disk| remembered.store(*disk).is_ok()).count();
        if noted == 0 {
            tracing::error!(
                "that a disk has failed is noted nowhere: restart the machine before this node starts again"
            );
        }
    }

    /// What the ledger is to be told of the process that starts: it is on the disks already. `last` is the newest start that the ledger
    /// is known to have; of the partitions that `counts_on` names it takes this node to have everything.
    ///
    /// # Errors
    /// They cannot be read or written, or there is no randomness.
    pub(super) fn begin(
        &self,
        last: Option<StartId>,
        counts_on: impl Fn(Partition) -> bool,
    ) -> Result<NodeStart, OpenError> {
        let mut remembered = lock(&self.remembered);
        let state = self.store.state();
        let name = state.directory().display().to_string();
        let noted = Remembered::load(state).map_err(OpenError::io("read the starts of", &name))?;
        let mut begun = self.all_remember(noted.as_ref(), last, counts_on)?;
        // Where a disk that failed is told of, though it may not have taken that itself.
        if let Some(noted) = noted.filter(|noted| noted.boot == self.boot) {
            begun.memory = worse(begun.memory, noted.memory);
        }
        if self.store.opened().any(Store::has_failed) {
            begun.memory = worse(begun.memory, Memory::Stable);
        }
        let mut id = [0; 8];
        let random = getrandom::fill(&mut id).map_err(|error| io::Error::other(error.to_string()));
        random.map_err(OpenError::io("draw", "random numbers"))?;
        let start = StartId(u64::from_le_bytes(id));
        let after = begun.starts.begin(start);
        begun.starts.proposed();
        let begun = remembered.insert(begun);
        self.write(begun)?;
        Ok(NodeStart { memory: begun.memory, start, after })
    }

    /// What all disks that serve remember. One that was not there when processes started lacks them, and is no other disk for that, if
    /// it has what it was given last: nobody has acknowledged anything for its partitions since. That is noted in the state directory,
    /// which must have been there, for an old copy of it says what was so: also of where partitions were, so such a node has nothing.
    fn all_remember(
        &self,
        noted: Option<&Remembered>,
        last: Option<StartId>,
        counts_on: impl Fn(Partition) -> bool,
    ) -> Result<Remembered, OpenError> {
        let boot = self.boot;
        let is_of_last = |of: &Remembered| last.is_some_and(|last| of.starts.ids().contains(&last));
        let noted = noted.filter(|noted| is_of_last(noted));
        let (is_several, mut is_old_copy) = (self.count() > 1, false);
        let mut all: Option<Remembered> = None;
        let (mut others, mut absent): (Option<Memory>, Memory) = (None, Memory::Kept);
        for disk in 0..self.count() {
            let is_counted_on = || Partition::all().any(|at| self.number(at) == disk && counts_on(at));
            let Some(store) = self.by_number(disk) else {
                // Nobody is to leave a set for this node before its replicas have told that they cannot serve.
                absent = if is_counted_on() { Memory::Stable } else { absent };
                continue;
            };
            let mut found = self.found(store)?;
            let is_known = noted.is_some() && self.has_what_it_was_given(store, &found);
            // One that was there at the newest start may have acknowledged something that the ledger is about to count on.
            let counts = !is_known || is_of_last(&found) || is_counted_on();
            // The state directory is given each start before the ledger is.
            is_old_copy |= is_several && noted.is_none() && is_of_last(&found);
            if (found.boot != boot || boot == BootId([0; 16])) && counts {
                // Another boot of the kernel, or it is not known which: what was not flushed may be lost.
                found.memory = worse(found.memory, Memory::Stable);
            }
            let is_counted_unreadable =
                |at| self.number(at) == disk && counts_on(at) && store.is_unreadable_now(at);
            if Partition::all().any(is_counted_unreadable) {
                // Like an absent disk: its replica serves nothing, though it may do so another time.
                found.memory = worse(found.memory, Memory::Stable);
            }
            if Partition::all().any(|partition| store.is_log_damaged(partition)) {
                found.memory = Memory::Damaged;
            }
            if is_known {
                others = Some(worse(others.unwrap_or(Memory::Kept), found.memory));
                continue;
            }
            all = Some(match all {
                None => found,
                // What one of them does not know of, it lacks: it is another disk, or an old copy.
                Some(known) => Remembered {
                    boot,
                    memory: worse(known.memory, found.memory),
                    starts: known.starts.known_to(&found.starts),
                },
            });
        }
        let nothing = Remembered::nothing(boot);
        let known = noted.filter(|_| others.is_some()).map_or(&nothing, |noted| noted);
        let all = match all {
            Some(all) if others.is_some() => Remembered { starts: all.starts.known_to(&known.starts), ..all },
            Some(all) => all,
            None => Remembered { memory: Memory::Kept, ..known.clone() },
        };
        let memory = worse(all.memory, worse(others.unwrap_or(Memory::Kept), absent));
        if is_old_copy {
            tracing::error!(
                state = %self.store.state().directory().display(),
                "the state directory is an old copy: on which disks partitions are by now is not known, so all that others have is \
                 copied to this node anew"
            );
            return Ok(Remembered { boot, memory, starts: Starts::default() });
        }
        Ok(Remembered { boot, memory, ..all })
    }

    fn found(&self, store: &Store<FileDisk>) -> Result<Remembered, OpenError> {
        let found = Remembered::load(store.disk());
        let found = found.map_err(OpenError::io("read the starts of", store.name()))?;
        Ok(found.unwrap_or_else(|| Remembered::nothing(self.boot)))
    }

    fn has_what_it_was_given(&self, store: &Store<FileDisk>, found: &Remembered) -> bool {
        let given = Remembered::of_disk(self.store.state(), store.superblock().disk);
        let last = given.and_then(|given| given.starts.ids().last().copied());
        last.is_some_and(|last| found.starts.ids().contains(&last))
    }

    /// The ledger has the start.
    ///
    /// # Errors
    /// The disks cannot be written.
    pub(super) fn recorded(&self) -> Result<(), OpenError> {
        let mut guard = lock(&self.remembered);
        let Some(remembered) = &mut *guard else { return Ok(()) };
        remembered.starts.recorded();
        let told = remembered.memory;
        let has_failed = self.store.opened().any(Store::has_failed);
        remembered.memory = if has_failed { Memory::Stable } else { Memory::Kept };
        self.write(remembered)?;
        // A disk that fails from here on is noted.
        drop(guard);
        match told {
            Memory::Damaged => self.all().for_each(Store::log_damage_is_known),
            Memory::Kept | Memory::Stable => self.all().for_each(Store::no_log_damage_was_told),
        }
        Ok(())
    }

    fn write(&self, remembered: &Remembered) -> Result<(), OpenError> {
        for store in self.all() {
            remembered.store(store.disk()).map_err(OpenError::io("write the starts of", store.name()))?;
        }
        let state = self.store.state();
        let name = state.directory().display().to_string();
        for store in self.all() {
            let noted = remembered.note(state, store.superblock().disk);
            noted.map_err(OpenError::io("note the starts in", &name))?;
        }
        remembered.store(state).map_err(OpenError::io("write the starts of", &name))
    }

    /// How many disks the node has.
    pub(super) fn count(&self) -> usize {
        self.store.count()
    }

    /// Whether partitions may be on other disks than at first.
    pub(super) fn are_routed(&self) -> bool {
        self.store.are_routed()
    }

    /// How many partitions are on the disk.
    pub(super) fn partitions(&self, disk: usize) -> u16 {
        self.store.partitions_of(disk)
    }

    /// Whether the disk failed while it was served.
    pub(super) fn has_failed_since(&self, disk: usize) -> bool {
        self.store.has_failed(disk)
    }

    /// One more disk, which remembers what the others do: nobody has acknowledged anything that it lacks. Returns its number.
    ///
    /// # Errors
    /// [`NotAdded`]: the disks are as before.
    pub(super) fn add(
        self: &Arc<Self>,
        given: &DiskDirectory,
        copies: (usize, usize),
    ) -> Result<usize, NotAdded> {
        let state = self.store.state();
        self.store.add(given, copies, |store| {
            if let Some(remembered) = &*lock(&self.remembered) {
                let name = store.name();
                remembered.store(store.disk()).map_err(OpenError::io("write the starts of", name))?;
                let noted = remembered.note(state, store.superblock().disk);
                noted.map_err(OpenError::io("note the starts of", name))?;
            }
            self.minds_failure_of(store);
            Ok(())
        })
    }

    /// The disk that fills on which the partition is to be, if it is on another one.
    pub(super) fn fills(&self, partition: Partition) -> Option<usize> {
        self.store.fills(partition)
    }

    /// Whether a disk fills that is at work.
    pub(super) fn is_filling(&self) -> bool {
        self.store.is_filling()
    }

    /// Disks that fill have all that is to be there.
    ///
    /// # Errors
    /// The table cannot be written: nothing has changed.
    pub(super) fn are_filled(&self) -> io::Result<()> {
        self.store.are_filled()
    }

    /// What the disk in that directory has is to go to the others.
    ///
    /// # Errors
    /// [`NotRemoved`]: nothing has changed.
    pub(super) fn remove(&self, directory: &Path, copies: (usize, usize)) -> Result<usize, NotRemoved> {
        self.store.remove(directory, copies)
    }

    /// What the disk in that directory still has stays there.
    ///
    /// # Errors
    /// [`NotRemoved`]: nothing has changed.
    pub(super) fn keep(&self, directory: &Path) -> Result<usize, NotRemoved> {
        self.store.keep(directory)
    }

    /// Whether what the disk has is to go to the others.
    pub(super) fn leaves(&self, disk: usize) -> bool {
        self.store.leaves(disk)
    }

    /// Which disk takes the partition instead of the one that it is on: see [`NodeStore::instead`].
    pub(super) fn instead(
        &self,
        partition: Partition,
        has_room: impl Fn(&Store<FileDisk>) -> bool,
    ) -> Option<usize> {
        self.store.instead(partition, has_room)
    }

    /// The partitions are on that disk from now on. The caller has seen to it that nobody counts on what they have.
    ///
    /// # Errors
    /// The table cannot be written: on which disk they are at the next start is not known before another try succeeds. Nothing else
    /// has changed.
    pub(super) fn reroute(&self, partitions: &[Partition], disk: usize) -> io::Result<()> {
        self.store.reroute(partitions, disk)?;
        self.forget_failures();
        Ok(())
    }

    /// What disks lost that failed is nothing to the next process, if no partition is on them any more.
    fn forget_failures(&self) {
        let mut remembered = lock(&self.remembered);
        let Some(remembered) = remembered.as_mut().filter(|remembered| remembered.memory != Memory::Kept)
        else {
            return;
        };
        if (0..self.count()).any(|disk| self.has_failed_since(disk) && self.partitions(disk) > 0) {
            return;
        }
        remembered.memory = Memory::Kept;
        if let Err(error) = self.write(remembered) {
            // The next process learns more than it has to.
            tracing::warn!(%error, "that nothing is on the disk any more that failed is not noted everywhere");
        }
    }

    /// Which disk the partition is on.
    pub(super) fn number(&self, partition: Partition) -> usize {
        self.store.number_of(partition)
    }

    /// The store of the disk that the partition is on; `None` if it failed or is absent.
    pub(super) fn store(&self, partition: Partition) -> Option<&Store<FileDisk>> {
        self.by_number(self.number(partition))
    }

    pub(super) fn by_number(&self, disk: usize) -> Option<&Store<FileDisk>> {
        self.store.store_of(disk)
    }

    /// Those that serve.
    pub(super) fn all(&self) -> impl Iterator<Item = &Store<FileDisk>> {
        (0..self.count()).filter_map(|disk| self.by_number(disk))
    }

    pub(super) fn status(&self) -> Vec<DiskStatus> {
        self.store.disks()
    }

    pub(super) fn close(&self) -> Result<(), DisksStopped> {
        self.store.close()
    }
}

#[cfg(test)]
mod tests {
    use huntaway_wire::Broken;
    use tempfile::TempDir;

    use super::*;

    const BOOT: BootId = BootId([3; 16]);

    /// A process that starts now, with those of the disks that are there, when the ledger has the start `last`.
    fn start(dir: &TempDir, disks: &[&str], last: Option<StartId>) -> (Arc<Disks>, NodeStart) {
        start_in(BOOT, dir, disks, last, true)
    }

    /// The same in that boot; whether it is counted on for anything.
    fn start_in(
        boot: BootId,
        dir: &TempDir,
        disks: &[&str],
        last: Option<StartId>,
        is_counted_on: bool,
    ) -> (Arc<Disks>, NodeStart) {
        let disk = |name: &&str| DiskDirectory { path: dir.path().join(name), weight: Some(1) };
        let disks: Vec<_> = disks.iter().map(disk).collect();
        let options = StoreOptions { make: true, boot, ..StoreOptions::default() };
        let store = NodeStore::open(&dir.path().join("state"), &disks, options, &Registry::new()).unwrap();
        let disks = Disks::over(store, boot);
        let start = disks.begin(last, |_| is_counted_on).unwrap();
        (disks, start)
    }

    /// The same, and the ledger has it. Returns its start.
    fn run(dir: &TempDir, last: Option<StartId>) -> NodeStart {
        let (disks, start) = start(dir, &["one", "other"], last);
        disks.recorded().unwrap();
        start
    }

    fn take(dir: &TempDir, from: &str, to: &str) {
        std::fs::rename(dir.path().join(from), dir.path().join(to)).unwrap();
    }

    fn copy(dir: &TempDir, from: &str, to: &str) {
        let (from, to) = (dir.path().join(from), dir.path().join(to));
        let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
        assert!(copied.unwrap().success());
    }

    /// The other disk is not there at one start or more, and then the very same is back.
    #[test]
    fn a_disk_that_was_absent_at_a_start_is_no_other_disk() {
        let dir = TempDir::new().unwrap();
        let mut last = run(&dir, None).start;
        for absent_at in 1..3 {
            take(&dir, "other", "taken");
            for _ in 0..absent_at {
                let NodeStart { memory, start, after } = run(&dir, Some(last));
                assert!(after.contains(&last) && memory == Memory::Stable, "it is counted on");
                last = start;
            }
            take(&dir, "taken", "other");
            let NodeStart { memory, start, after } = run(&dir, Some(last));
            assert!(after.contains(&last) && memory == Memory::Kept, "{after:?} {last:?}");
            last = start;
        }
        // The first one is away when the other is back.
        take(&dir, "other", "taken");
        last = run(&dir, Some(last)).start;
        take(&dir, "taken", "other");
        take(&dir, "one", "taken");
        assert!(run(&dir, Some(last)).after.contains(&last));
    }

    /// Nobody has acknowledged anything that it lacks.
    #[test]
    fn a_disk_that_is_added_is_no_reason_to_count_on_less() {
        let dir = TempDir::new().unwrap();
        let (disks, NodeStart { start: last, .. }) = start(&dir, &["one", "other"], None);
        disks.recorded().unwrap();
        let given = DiskDirectory { path: dir.path().join("third"), weight: Some(1) };
        assert_eq!(disks.add(&given, (3, 2)).unwrap(), 2);
        drop(disks);
        let (disks, NodeStart { memory, after, .. }) = start(&dir, &["one", "other", "third"], Some(last));
        assert!(after.contains(&last) && memory == Memory::Kept, "{after:?} {last:?}");
        disks.recorded().unwrap();
        assert!(disks.store.is_filling());
    }

    /// It learned, perhaps, and the ledger was asked to count on it before the power went.
    #[test]
    fn a_disk_of_the_newest_start_may_have_lost_something_in_another_boot_though_nobody_counts_on_it() {
        let dir = TempDir::new().unwrap();
        let last = run(&dir, None).start;
        let memory = |other| {
            let (disks, start) = start_in(other, &dir, &["one", "other"], Some(last), false);
            drop(disks);
            start.memory
        };
        assert_eq!(memory(BootId([4; 16])), Memory::Stable);
    }

    #[test]
    fn a_node_that_cannot_read_what_it_is_counted_on_for_may_have_lost_it() {
        let dir = TempDir::new().unwrap();
        let last = run(&dir, None).start;
        for disk in ["one", "other"] {
            std::fs::create_dir_all(dir.path().join(disk).join("objects/007.1/index")).unwrap();
        }
        let memory = |is_counted_on| {
            let (disks, start) = start_in(BOOT, &dir, &["one", "other"], Some(last), is_counted_on);
            drop(disks);
            start.memory
        };
        assert_eq!((memory(false), memory(true)), (Memory::Kept, Memory::Stable));
    }

    #[test]
    fn an_old_copy_of_a_disk_is_another_one_though_it_comes_back_after_an_absence() {
        let dir = TempDir::new().unwrap();
        let first = run(&dir, None).start;
        copy(&dir, "other", "copy");
        let second = run(&dir, Some(first)).start;
        take(&dir, "other", "taken");
        let third = run(&dir, Some(second)).start;
        take(&dir, "copy", "other");
        assert!(!run(&dir, Some(third)).after.contains(&third));
    }

    #[test]
    fn an_old_copy_of_the_state_directory_vouches_for_no_disk() {
        let dir = TempDir::new().unwrap();
        let first = run(&dir, None).start;
        copy(&dir, "other", "other-copy");
        copy(&dir, "state", "state-copy");
        let second = run(&dir, Some(first)).start;
        for (copy, of) in [("other-copy", "other"), ("state-copy", "state")] {
            std::fs::remove_dir_all(dir.path().join(of)).unwrap();
            take(&dir, copy, of);
        }
        assert!(!run(&dir, Some(second)).after.contains(&second));
    }

    /// By its table partitions may be where they were.
    #[test]
    fn a_node_of_several_disks_with_an_old_copy_of_the_state_directory_has_nothing() {
        let dir = TempDir::new().unwrap();
        let first = run(&dir, None).start;
        copy(&dir, "state", "copy");
        let (disks, second) = start(&dir, &["one", "other"], Some(first));
        disks.recorded().unwrap();
        let at = Partition::new(7).unwrap();
        disks.reroute(&[at], 1 - disks.number(at)).unwrap();
        drop(disks);
        let third = run(&dir, Some(second.start));
        assert!(third.after.contains(&second.start), "{third:?}");
        std::fs::remove_dir_all(dir.path().join("state")).unwrap();
        take(&dir, "copy", "state");
        let fourth = run(&dir, Some(third.start));
        assert_eq!(fourth.after, []);
        let fifth = run(&dir, Some(fourth.start));
        assert_eq!(fifth.after, [fourth.start], "it is its state directory from here on");
    }

    /// What a process that starts now tells the ledger that is left.
    fn begin(dir: &TempDir) -> (Arc<Disks>, Memory) {
        let (disks, start) = start(dir, &["disk"], None);
        (disks, start.memory)
    }

    #[test]
    fn a_disk_that_failed_is_told_of_by_the_next_process_and_by_none_after_it() {
        let dir = TempDir::new().unwrap();
        let (disks, memory) = begin(&dir);
        assert_eq!(memory, Memory::Kept);
        disks.recorded().unwrap();
        drop(disks);
        let (disks, memory) = begin(&dir);
        assert_eq!(memory, Memory::Kept);
        disks.recorded().unwrap();
        disks.by_number(0).unwrap().fail(&Broken::DiskFailed { disk: "disk".into() });
        drop(disks);
        // It may not have been able to take it.
        std::fs::remove_file(dir.path().join("disk").join(super::super::starts::PATH)).unwrap();
        let (disks, memory) = begin(&dir);
        assert_eq!(memory, Memory::Stable);
        disks.recorded().unwrap();
        drop(disks);
        assert_eq!(begin(&dir).1, Memory::Kept);
    }

    #[test]
    fn a_disk_that_fails_while_the_process_starts_is_told_of_by_the_next_one() {
        let dir = TempDir::new().unwrap();
        let (disks, _) = begin(&dir);
        disks.by_number(0).unwrap().fail(&Broken::DiskFailed { disk: "disk".into() });
        disks.recorded().unwrap();
        drop(disks);
        assert_eq!(begin(&dir).1, Memory::Stable);
    }
}
