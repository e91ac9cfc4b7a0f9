//! The fuzzer around `huntaway_fuzz::wal`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| huntaway_fuzz::wal::run(bytes));
