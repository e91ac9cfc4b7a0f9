//! Levelling: a ring alone leaves nodes a fifth and more off their due, so some partitions go to another node.
//!
//! With 256 points a node's arcs add up to its share within 7 % (one standard deviation), and unequal weights are off
//! by rule: a node that has one copy cannot have the others. As few copies as possible move, to nodes as near as
//! possible, for each that moves may go another way in the next epoch.

use super::Keeper;
use super::zones::copies_in;

/// Moves copies in `kept`, until each keeper has what it is due, give or take a tenth, or no move helps that zones
/// allow. `nearest` has all keepers in the order of each partition's ring.
pub(super) fn level(keepers: &[Keeper], nearest: &[Vec<usize>], kept: &mut [Vec<usize>], dues: &[u64]) {
    let mut balance = Balance::new(dues, kept);
    // Between keepers that both come nearer to their dues; only where zones leave no such move, by way of others.
    // Comes to an end: each move takes one copy from what is out of bounds, and none brings anything out of them.
    while !balance.is_level()
        && (pass(keepers, nearest, kept, &mut balance, Balance::suits_both)
            || pass(keepers, nearest, kept, &mut balance, Balance::suits_one))
    {}
}

/// Makes each move that `helps`, to the nearest takers first; whether there was one.
fn pass<'a>(
    keepers: &[Keeper],
    nearest: &[Vec<usize>],
    kept: &mut [Vec<usize>],
    balance: &mut Balance<'a>,
    helps: fn(&Balance<'a>, usize, usize) -> bool,
) -> bool {
    let mut moved = false;
    for distance in 0..keepers.len() {
        for (order, kept) in nearest.iter().zip(kept.iter_mut()) {
            let taker = order[distance];
            let may_give = |&place: &usize| {
                helps(balance, kept[place], taker) && zones_allow(keepers, kept, kept[place], taker)
            };
            // the last that may: copies near on the ring stay
            let giving = (0..kept.len()).rev().find(may_give);
            if let Some(place) = giving.filter(|_| !kept.contains(&taker)) {
                balance.held[kept[place]] -= 1;
                balance.held[taker] += 1;
                kept[place] = taker;
                moved = true;
            }
        }
    }
    moved
}

/// How many partitions each keeper has, and how many it is due.
struct Balance<'a> {
    held: Vec<u64>,
    dues: &'a [u64],
}

impl<'a> Balance<'a> {
    fn new(dues: &'a [u64], kept: &[Vec<usize>]) -> Self {
        let mut held = vec![0; dues.len()];
        for &keeper in kept.iter().flatten() {
            held[keeper] += 1;
        }
        Self { held, dues }
    }

    fn is_level(&self) -> bool {
        !self.held.iter().zip(self.dues).any(|(&held, &due)| is_over(held, due) || is_under(held, due))
    }

    /// Whether a copy that goes from `giver` to `taker` helps one that is out of bounds, and brings both nearer to
    /// their dues.
    fn suits_both(&self, giver: usize, taker: usize) -> bool {
        let (given, taken) = (self.held[giver], self.held[taker]);
        let (giver_due, taker_due) = (self.dues[giver], self.dues[taker]);
        given > giver_due && taken < taker_due && (is_over(given, giver_due) || is_under(taken, taker_due))
    }

    /// Whether a copy that goes from `giver` to `taker` helps one that is out of bounds, and leaves the other within.
    fn suits_one(&self, giver: usize, taker: usize) -> bool {
        let (given, taken) = (self.held[giver], self.held[taker]);
        let (giver_due, taker_due) = (self.dues[giver], self.dues[taker]);
        is_over(given, giver_due) && !is_over(taken + 1, taker_due)
            || is_under(taken, taker_due) && given > 0 && !is_under(given - 1, giver_due)
    }
}

// Bounds lie a partition within the tenth, for dues are rounded; what is due is never out of them.

fn is_over(held: u64, due: u64) -> bool {
    held > due && (held + 1) * 10 > due * 11
}

fn is_under(held: u64, due: u64) -> bool {
    held < due && held * 10 < due * 9 + 10
}

/// Whether the zones have the copies no less evenly when `taker` keeps what `giver` kept.
fn zones_allow(keepers: &[Keeper], kept: &[usize], giver: usize, taker: usize) -> bool {
    let (from, to) = (keepers[giver].zone, keepers[taker].zone);
    from == to || copies_in(keepers, kept, to) < copies_in(keepers, kept, from)
}
