//! A body in pieces, as the message that owns it knows it.

use std::fmt;
use std::num::NonZeroU64;

use super::UploadId;

/// Which upload holds a body, and how large that is in KiB: one word, because the entry of every
/// message has room for it, and few need it. The number of the upload is in the lower 40 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Body(NonZeroU64);

/// A million million: at ten thousand a second that lasts for years.
const UPLOAD_BITS: u32 = 40;
const UPLOAD_MASK: u64 = (1 << UPLOAD_BITS) - 1;

impl Body {
    /// The body that an upload of `bytes` holds; what is left of a KiB counts as one. From 16 GiB
    /// on it says that.
    ///
    /// # Panics
    /// There are not 2^40 uploads in the life of a store.
    #[must_use]
    pub fn new(upload: UploadId, bytes: u64) -> Self {
        assert!(upload.get() <= UPLOAD_MASK, "a store does not live for so many uploads");
        let kib = bytes.div_ceil(1024).min(u64::MAX >> UPLOAD_BITS);
        Self(upload.0 | (kib << UPLOAD_BITS))
    }

    /// Where it lies.
    #[must_use]
    pub fn upload(self) -> UploadId {
        UploadId::new(self.0.get() & UPLOAD_MASK).expect("checked where it came from")
    }

    /// Its size, in whole KiB.
    #[must_use]
    pub fn bytes(self) -> u64 {
        (self.0.get() >> UPLOAD_BITS) * 1024
    }

    /// The word that stands for it in records and in the index; zero stands for none.
    #[must_use]
    pub fn word_of(body: Option<Self>) -> u64 {
        body.map_or(0, |body| body.0.get())
    }

    /// What a word stands for; `None` where it names no upload and has a size all the same.
    #[must_use]
    pub fn from_word(word: u64) -> Option<Option<Self>> {
        match NonZeroU64::new(word) {
            None => Some(None),
            Some(_) if word & UPLOAD_MASK == 0 => None,
            Some(word) => Some(Some(Self(word))),
        }
    }
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.upload().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_knows_its_upload_and_its_size_in_whole_kib() {
        let upload = UploadId::new(77).unwrap();
        for (bytes, says) in [(0, 0), (1, 1024), (1024, 1024), (1025, 2048), (1 << 30, 1 << 30)] {
            let body = Body::new(upload, bytes);
            assert_eq!((body.upload(), body.bytes()), (upload, says));
            assert_eq!(Body::from_word(Body::word_of(Some(body))), Some(Some(body)));
        }
        assert_eq!(Body::new(upload, u64::MAX).upload(), upload);
        assert_eq!(Body::from_word(0), Some(None));
        assert_eq!(Body::from_word(1 << UPLOAD_BITS), None);
    }
}
