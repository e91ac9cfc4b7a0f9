//! The fuzzer around `huntaway_fuzz::layouts`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| huntaway_fuzz::layouts::run(bytes));
