//! What runs under faults have in common, simulated or real: random numbers that a seed repeats, and the judge of what
//! clients saw of each block.

mod history;
mod random;

pub use history::{Attempt, Effect, History, Loss, Violation};
pub use random::Random;
