//! `cargo fuzz run config`, or `cargo xtask ci fuzz`: see `bellwether_fuzz::config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bellwether_fuzz::config(data));
