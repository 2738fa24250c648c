//! `cargo fuzz run batch`, or `cargo xtask ci fuzz`: see `bellwether_fuzz::batch`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bellwether_fuzz::batch(data));
