//! The fuzzer around `huntaway_fuzz::login`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| huntaway_fuzz::login::run(bytes));
