//! The fuzzer around `huntaway_fuzz::chap`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| huntaway_fuzz::chap::run(bytes));
