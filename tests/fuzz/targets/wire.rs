//! The fuzzer around `huntaway_fuzz::wire`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| huntaway_fuzz::wire::run(bytes));
