//! `cargo fuzz run response`, or `cargo xtask ci fuzz`: see `bellwether_fuzz::response`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bellwether_fuzz::response(data));
