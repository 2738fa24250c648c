//! `cargo fuzz run request`, or `cargo xtask ci fuzz`: see `bellwether_fuzz::request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bellwether_fuzz::request(data));
