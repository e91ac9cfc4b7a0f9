//! The fuzzer around `huntaway_fuzz::yaml`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| huntaway_fuzz::yaml::run(bytes));
