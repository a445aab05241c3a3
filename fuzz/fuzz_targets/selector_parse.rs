//! The text of a selector.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    escrowmq::selector::fuzz::fuzz_selector(data);
});
