//! Simulated clusters: one seed is one run, in one thread. What is simulated is the world around our code, with every fault we
//! know of; the code is what the binary has. Checkers look for broken promises, and planted bugs show that they find them.

pub mod fencing;
pub mod random;
