//! What must hold of the decoder for any bytes; run by the fuzzer and over its corpus by a test.

use bytes::{BufMut, BytesMut};

use super::{DecodeError, Decoder, Limits, Piece, Version};

const LIMITS: Limits = Limits { head_bytes: 4096, headers: 32, body_bytes: 4096 };

/// The decoder never panics, keeps its bounds, and finds the same in any split of the bytes.
///
/// The first byte picks the version and the splits; the rest is what the peer sends.
///
/// # Panics
/// Where one of the promises is broken.
pub fn fuzz_stomp(data: &[u8]) {
    let Some((&first, bytes)) = data.split_first() else { return };
    let whole = decode(first, bytes, |_| bytes.len());
    let by_one = decode(first, bytes, |_| 1);
    assert_eq!(whole, by_one);
    let mut seed = u32::from(first) | 1;
    let random = decode(first, bytes, |left| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        1 + (seed >> 16) as usize % left.min(700)
    });
    assert_eq!(whole, random);
}

/// What was found, with bodies in one piece and heart-beats in a row as one.
type Found = (Vec<Piece>, Option<DecodeError>);

fn decode(pick: u8, mut bytes: &[u8], mut size: impl FnMut(usize) -> usize) -> Found {
    let mut decoder = Decoder::new(LIMITS);
    match pick % 4 {
        0 => {}
        1 => decoder.set_version(Version::V1_0),
        2 => decoder.set_version(Version::V1_1),
        _ => decoder.set_version(Version::V1_2),
    }
    let mut found: Vec<Piece> = Vec::new();
    let mut body = BytesMut::new();
    let mut input = BytesMut::new();
    while !bytes.is_empty() {
        let (now, later) = bytes.split_at(size(bytes.len()).min(bytes.len()));
        bytes = later;
        input.put_slice(now);
        loop {
            match decoder.poll(&mut input) {
                Ok(None) => break,
                Ok(Some(Piece::Body(piece))) => {
                    assert!(!piece.is_empty());
                    body.put_slice(&piece);
                    assert!(body.len() as u64 <= LIMITS.body_bytes);
                }
                Ok(Some(Piece::HeartBeat)) if found.last() == Some(&Piece::HeartBeat) => {}
                Ok(Some(piece)) => {
                    close_body(&mut body, &mut found);
                    found.push(piece);
                }
                Err(error) => {
                    assert_eq!(decoder.poll(&mut input), Err(error.clone()));
                    close_body(&mut body, &mut found);
                    return (found, Some(error));
                }
            }
        }
        assert!(input.len() < LIMITS.head_bytes, "more is kept than a head may have");
    }
    close_body(&mut body, &mut found);
    (found, None)
}

fn close_body(body: &mut BytesMut, found: &mut Vec<Piece>) {
    if !body.is_empty() {
        found.push(Piece::Body(body.split().freeze()));
    }
}
