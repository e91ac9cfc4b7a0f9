//! The fuzzer around `huntaway_fuzz::session`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| huntaway_fuzz::session::run(bytes));
