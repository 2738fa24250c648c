//! `cargo fuzz run compression`, or `cargo xtask ci fuzz`: see `bellwether_fuzz::compression`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bellwether_fuzz::compression(data));
