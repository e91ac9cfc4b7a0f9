//! Zones: what may fail together must not hold all copies.

use super::Keeper;

/// The `copies` keepers of a partition whose keepers in ring order are `nearest`. Round by round, each zone gives at
/// most one more: a zone has a second copy only when no other zone is left that has none, and so on.
pub(super) fn choose(keepers: &[Keeper], nearest: &[usize], copies: usize) -> Vec<usize> {
    let mut kept = Vec::with_capacity(copies);
    for round in 0..copies {
        for &keeper in nearest {
            let zone = keepers[keeper].zone;
            if kept.len() < copies && !kept.contains(&keeper) && copies_in(keepers, &kept, zone) <= round {
                kept.push(keeper);
            }
        }
    }
    kept
}

/// How many of the keepers in `kept` are in `zone`.
pub(super) fn copies_in(keepers: &[Keeper], kept: &[usize], zone: usize) -> usize {
    kept.iter().filter(|&&keeper| keepers[keeper].zone == zone).count()
}
