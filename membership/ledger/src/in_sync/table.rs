//! The sets of all partitions. States share what a record between them does not change: a copy costs as much as a page.

use std::collections::BTreeMap;
use std::sync::Arc;

use huntaway_wire::Partition;

use super::InSyncSet;

/// Partitions of a page.
const PAGE: u16 = 64;

type Page = BTreeMap<Partition, Arc<InSyncSet>>;

/// One set for each partition. Cheap to clone; no page is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SetTable {
    pages: BTreeMap<u16, Arc<Page>>,
}

impl SetTable {
    pub(crate) fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    pub(crate) fn get(&self, partition: Partition) -> Option<&InSyncSet> {
        self.pages.get(&page_of(partition))?.get(&partition).map(|set| &**set)
    }

    pub(crate) fn get_mut(&mut self, partition: Partition) -> Option<&mut InSyncSet> {
        let page = self.pages.get_mut(&page_of(partition)).filter(|page| page.contains_key(&partition))?;
        Arc::make_mut(page).get_mut(&partition).map(Arc::make_mut)
    }

    pub(crate) fn insert(&mut self, partition: Partition, set: InSyncSet) {
        let page = self.pages.entry(page_of(partition)).or_default();
        Arc::make_mut(page).insert(partition, Arc::new(set));
    }

    /// In order of their partitions.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Partition, &InSyncSet)> {
        self.pages.values().flat_map(|page| page.iter()).map(|(partition, set)| (*partition, &**set))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &InSyncSet> {
        self.iter().map(|(_, set)| set)
    }

    /// Those for which that holds, to be changed; the others stay shared.
    pub(crate) fn filter_mut<'a>(
        &'a mut self,
        is_wanted: impl Fn(Partition, &InSyncSet) -> bool + Copy + 'a,
    ) -> impl Iterator<Item = (Partition, &'a mut InSyncSet)> {
        let has_wanted = move |page: &Page| page.iter().any(|(partition, set)| is_wanted(*partition, set));
        let pages = self.pages.values_mut().filter(move |page| has_wanted(page));
        let sets = pages.flat_map(|page| Arc::make_mut(page).iter_mut());
        sets.filter(move |(partition, set)| is_wanted(**partition, set))
            .map(|(partition, set)| (*partition, Arc::make_mut(set)))
    }

    /// The partitions whose sets are not what they are in the other table. What both share is not looked at.
    pub(crate) fn changed_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = Partition> + 'a {
        let pages = self.pages.iter().map(|(number, page)| (page, before.pages.get(number)));
        let changed = pages.filter(|(page, before)| before.is_none_or(|before| !Arc::ptr_eq(page, before)));
        changed.flat_map(|(page, before)| {
            let of_before = move |partition: &Partition| before.and_then(|before| before.get(partition));
            page.iter().filter(move |(at, set)| of_before(at) != Some(set)).map(|(partition, _)| *partition)
        })
    }

    #[cfg(test)]
    pub(crate) fn remove(&mut self, partition: Partition) {
        let kept: Vec<_> = self.iter().filter(|(other, _)| *other != partition).collect();
        *self = kept.into_iter().map(|(partition, set)| (partition, set.clone())).collect();
    }
}

impl FromIterator<(Partition, InSyncSet)> for SetTable {
    fn from_iter<I: IntoIterator<Item = (Partition, InSyncSet)>>(sets: I) -> Self {
        let mut table = Self::default();
        sets.into_iter().for_each(|(partition, set)| table.insert(partition, set));
        table
    }
}

fn page_of(partition: Partition) -> u16 {
    partition.value() / PAGE
}

#[cfg(test)]
mod tests {
    use huntaway_wire::{NodeId, Pepoch};

    use super::*;

    fn table() -> SetTable {
        let set = |partition| (partition, InSyncSet::first(vec![NodeId([1; 16])]));
        Partition::all().map(set).collect()
    }

    fn at(number: u16) -> Partition {
        Partition::new(number).unwrap()
    }

    #[test]
    fn what_is_not_changed_is_shared_and_not_told() {
        let before = table();
        let mut after = before.clone();
        after.get_mut(at(70)).unwrap().pepoch = Pepoch(2);
        // Looked at, and left as it was.
        assert_eq!(after.get_mut(at(200)).unwrap().pepoch, Pepoch(1));
        for (_, set) in after.filter_mut(|partition, _| partition == at(4095)) {
            set.pepoch = Pepoch(3);
        }
        assert_eq!(after.changed_since(&before).collect::<Vec<_>>(), [at(70), at(4095)]);
        assert_eq!(before, table());
        let is_shared = |page: &u16| Arc::ptr_eq(&before.pages[page], &after.pages[page]);
        let own: Vec<u16> = after.pages.keys().copied().filter(|page| !is_shared(page)).collect();
        assert_eq!(own, [1, 3, 63]);
        assert_eq!(after.changed_since(&SetTable::default()).count(), 4096);
    }
}
