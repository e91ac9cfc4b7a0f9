//! Which of a node's disks holds a partition: weighted rendezvous hashing (`store/FORMAT.md`, "Placement").
//!
//! Every disk draws a number for the partition; the highest wins. A disk that comes or goes moves only the partitions
//! that it wins or held. All arithmetic is on integers, so that every machine places alike.

use huntaway_wire::Partition;

use crate::superblock::DiskId;

/// A disk and its share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightedDisk {
    /// The disk.
    pub disk: DiskId,
    /// Its share relative to the others', usually its size in GiB. A disk of weight 0 gets nothing.
    pub weight: u32,
}

/// The place in `disks` of the disk that holds `partition`; `None` when all weights are 0. Among equals the lower id
/// wins, so that the order of `disks` does not matter.
pub fn place(partition: Partition, disks: &[WeightedDisk]) -> Option<usize> {
    let candidates = disks.iter().enumerate().filter(|(_, disk)| disk.weight > 0);
    candidates.min_by_key(|(_, disk)| (distance(partition, disk), disk.disk)).map(|(position, _)| position)
}

/// `-log2(draw) / weight` in fixed point, where `draw` is uniform in (0, 1]: the least wins, each disk with a chance
/// in proportion to its weight.
fn distance(partition: Partition, disk: &WeightedDisk) -> u128 {
    let (high, low) = disk.disk.0.split_at(8);
    let word = |bytes: &[u8]| bytes.iter().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
    let hash = mix64(mix64(word(high)) ^ word(low)).wrapping_add(u64::from(partition.value()));
    let draw = mix64(hash) >> DRAW_SHIFT;
    let nepers = u128::from(FULL_LOG - log2(draw + 1));
    (nepers << 64) / u128::from(disk.weight)
}

/// A draw has 32 bits.
const DRAW_SHIFT: u32 = 32;

/// Bits after the point of a logarithm.
const LOG_BITS: u32 = 32;

/// `log2(2^32)` in fixed point.
const FULL_LOG: u64 = 32 << LOG_BITS;

/// The binary logarithm of `value` (1 to 2^32) in fixed point, rounded down: the integer part is the place of the top
/// bit; squaring the rest gives the bits after the point, one by one.
fn log2(value: u64) -> u64 {
    let integer = value.ilog2();
    let mut logarithm = u64::from(integer) << LOG_BITS;
    // In [1, 2), with 62 bits after the point.
    let mut rest = u128::from(value) << (62 - integer);
    for bit in (0..LOG_BITS).rev() {
        rest = (rest * rest) >> 62;
        if rest >> 63 != 0 {
            rest >>= 1;
            logarithm |= 1 << bit;
        }
    }
    logarithm
}

/// Spreads the bits of `key` over 64 bits (the finalizer of SplitMix64). Placement depends on it: it never changes.
fn mix64(key: u64) -> u64 {
    let mut x = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(id: u8, weight: u32) -> WeightedDisk {
        WeightedDisk { disk: DiskId([id; 16]), weight }
    }

    fn placed(disks: &[WeightedDisk]) -> Vec<DiskId> {
        Partition::all().map(|partition| disks[place(partition, disks).unwrap()].disk).collect()
    }

    #[test]
    fn placement_never_changes() {
        let disks = [disk(1, 100), disk(2, 200), disk(0xab, 400)];
        let first: Vec<_> = placed(&disks)[..32].iter().map(|disk| disk.0[0]).collect();
        assert_eq!(first, GOLDEN);
        let mut turned = disks;
        turned.reverse();
        assert_eq!(placed(&turned), placed(&disks));
    }

    /// Computed by another program, with floating point.
    const GOLDEN: [u8; 32] = [
        171, 171, 2, 1, 2, 2, 171, 2, 2, 2, 171, 2, 171, 171, 171, 171, 171, 1, 171, 171, 2, 171, 171, 171,
        171, 171, 171, 2, 171, 171, 1, 171,
    ];

    #[test]
    fn each_disk_gets_its_share() {
        let disks = [disk(1, 100), disk(2, 200), disk(3, 100), disk(4, 0)];
        let placed = placed(&disks);
        let share = |id| placed.iter().filter(|disk| disk.0[0] == id).count();
        for (id, expected) in [(1, 1024), (2, 2048), (3, 1024)] {
            let found = share(id);
            assert!(found.abs_diff(expected) < expected / 10, "disk {id} has {found}, not about {expected}");
        }
        assert_eq!(share(4), 0);
        assert_eq!(place(Partition::new(0).unwrap(), &[disk(4, 0)]), None);
    }

    #[test]
    fn a_disk_that_comes_moves_only_what_it_gets() {
        let before = placed(&[disk(1, 100), disk(2, 100)]);
        let after = placed(&[disk(1, 100), disk(2, 100), disk(3, 100)]);
        assert!(before.iter().zip(&after).all(|(before, after)| before == after || after.0[0] == 3));
    }

    #[test]
    fn logarithms_are_right() {
        assert_eq!([1, 2, 1 << 32].map(log2), [0, 1 << LOG_BITS, FULL_LOG]);
        let close = |value: u64| {
            (log2(value) as f64 / (1u64 << LOG_BITS) as f64 - (value as f64).log2()).abs() < 1e-9
        };
        assert!([3, 5, 1000, 0xffff_ffff].into_iter().all(close));
    }
}
