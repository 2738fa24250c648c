//! `cargo fuzz run trace`, or `cargo xtask ci fuzz`: see `bellwether_fuzz::trace`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bellwether_fuzz::trace(data));
