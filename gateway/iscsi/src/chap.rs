//! CHAP in the login phase (RFC 7143 §12.1.3, RFC 1994), in one direction or both.

mod account;
mod algorithm;
mod binary;
mod exchange;

pub use account::{Chap, ChapAccount, Secret};
pub use algorithm::ChapAlgorithm;
pub(crate) use exchange::{ChapError, ChapExchange, ChapKeys};
