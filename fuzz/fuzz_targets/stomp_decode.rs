//! Bytes of a STOMP peer, to the decoder and to a session.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    escrowmq::protocol::stomp::fuzz::fuzz_stomp(data);
    escrowmq::session::stomp::fuzz::fuzz_stomp_session(data);
});
