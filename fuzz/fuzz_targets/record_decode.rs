//! Bytes of the log with a good checksum, to the record decoder.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| escrowmq::record::fuzz_record(data));
