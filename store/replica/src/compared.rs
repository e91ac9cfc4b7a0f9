//! Comparing the objects of two replicas, page by page.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use huntaway_wire::Oid;

use crate::event::Page;

/// The objects of both pages that are not the same, or not known, and after which object the next pages begin; `None` after the last ones.
/// A page says nothing of what comes after its last object, unless it is the last page.
pub(crate) fn differing(own: &Page, theirs: &Page) -> (VecDeque<Oid>, Option<Oid>) {
    let end = |page: &Page| if page.is_last { None } else { page.objects.last().map(|(oid, _)| *oid) };
    let covered = match (end(own), end(theirs)) {
        (Some(own), Some(theirs)) => Some(own.min(theirs)),
        (own, theirs) => own.or(theirs),
    };
    let is_covered = |oid: &Oid| covered.is_none_or(|covered| *oid <= covered);
    let (own, theirs): (BTreeMap<_, _>, BTreeMap<_, _>) =
        (own.objects.iter().copied().collect(), theirs.objects.iter().copied().collect());
    let all: BTreeSet<Oid> = own.keys().chain(theirs.keys()).copied().filter(is_covered).collect();
    let differs = |oid: &Oid| own.get(oid) != theirs.get(oid) || own.get(oid) == Some(&None);
    (all.into_iter().filter(differs).collect(), covered)
}

#[cfg(test)]
mod tests {
    use huntaway_wire::{ObjectKind, Vid};

    use super::*;

    fn oid(index: u32) -> Oid {
        Oid::new(ObjectKind::Data, Vid::new(1).unwrap(), index)
    }

    fn page(objects: &[(u32, u64)], is_last: bool) -> Page {
        Page { objects: objects.iter().map(|(index, sum)| (oid(*index), Some(*sum))).collect(), is_last }
    }

    #[test]
    fn what_only_one_side_has_differs() {
        let (differ, next) = differing(&page(&[(1, 7), (2, 7)], true), &page(&[(2, 8), (3, 7)], true));
        assert_eq!((Vec::from(differ), next), (vec![oid(1), oid(2), oid(3)], None));
    }

    #[test]
    fn what_is_not_known_is_not_the_same() {
        let unknown = Page { objects: vec![(oid(1), None)], is_last: true };
        assert_eq!(Vec::from(differing(&unknown, &unknown).0), vec![oid(1)]);
    }

    #[test]
    fn objects_beyond_the_shorter_page_are_left_for_the_next() {
        let (differ, next) = differing(&page(&[(1, 7), (2, 7)], false), &page(&[(5, 7)], true));
        assert_eq!((Vec::from(differ), next), (vec![oid(1), oid(2)], Some(oid(2))));
        let (differ, next) = differing(&page(&[(1, 7), (9, 7)], false), &page(&[(1, 7), (2, 7)], false));
        assert_eq!((Vec::from(differ), next), (vec![oid(2)], Some(oid(2))));
    }
}
