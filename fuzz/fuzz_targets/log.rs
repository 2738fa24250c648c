//! `cargo fuzz run log`, or `cargo xtask ci fuzz`: see `bellwether_fuzz::log`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bellwether_fuzz::log(data));
