//! The fuzzer around `huntaway_fuzz::ledger`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| huntaway_fuzz::ledger::run(bytes));
