//! Bytes of an OpenWire peer, to the codec.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    escrowmq::protocol::openwire::fuzz::fuzz_openwire(data);
});
