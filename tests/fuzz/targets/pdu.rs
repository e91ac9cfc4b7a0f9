//! The fuzzer around `huntaway_fuzz::pdu`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| huntaway_fuzz::pdu::run(bytes));
