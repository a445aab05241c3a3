//! A store whose last segments are made of foreign bytes, to recovery and to the survey.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| escrowmq::wal::fuzz::fuzz_recovery(data));
