//! What must hold whatever bytes come from a network, a disk or a file.
//!
//! Each module is one fuzz target: `run` takes any bytes and panics if something does not hold that should. The fuzzer
//! calls it by way of `targets/`; `cargo test` replays with it what is kept in `corpus/`, without a fuzzer.

pub mod cdb;
pub mod chap;
pub mod layouts;
pub mod ledger;
pub mod login;
pub mod pdu;
pub mod session;
pub mod wal;
pub mod wire;
pub mod yaml;

/// What takes any bytes.
pub type Target = fn(&[u8]);

/// All targets by their names.
pub const TARGETS: [(&str, Target); 10] = [
    ("cdb", cdb::run),
    ("chap", chap::run),
    ("layouts", layouts::run),
    ("ledger", ledger::run),
    ("login", login::run),
    ("pdu", pdu::run),
    ("session", session::run),
    ("wal", wal::run),
    ("wire", wire::run),
    ("yaml", yaml::run),
];
