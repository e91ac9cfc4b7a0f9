//! The ledger: agreed, totally ordered records and the state they add up to, without I/O.
