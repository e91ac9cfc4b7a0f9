//! The fuzzer around `huntaway_fuzz::cdb`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| huntaway_fuzz::cdb::run(bytes));
