//! Which request answers which receipt.

use std::collections::BTreeMap;

use crate::ids::Token;
use crate::limits;

/// What a request was for. It travels in the token, so that a refusal of a frame without receipt
/// can name the frame though nothing is remembered of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Send,
    Subscribe,
    Unsubscribe,
    Ack,
    Nack,
    Disconnect,
    /// Deliveries of an `ack:auto` subscription were written.
    Written,
    /// A part of a SEND whose body is large.
    Piece,
    Begin,
    Commit,
    Abort,
}

/// More than there are kinds of requests.
const KINDS_MAX: u64 = 32;

impl Asked {
    const ALL: [Self; 11] = [
        Self::Send,
        Self::Subscribe,
        Self::Unsubscribe,
        Self::Ack,
        Self::Nack,
        Self::Disconnect,
        Self::Written,
        Self::Piece,
        Self::Begin,
        Self::Commit,
        Self::Abort,
    ];

    /// As an ERROR frame says it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Send | Self::Piece => "SEND",
            Self::Subscribe => "SUBSCRIBE",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::Ack => "ACK",
            Self::Nack => "NACK",
            Self::Disconnect => "DISCONNECT",
            Self::Begin => "BEGIN",
            Self::Commit => "COMMIT",
            Self::Abort => "ABORT",
            Self::Written => "settling a message sent",
        }
    }

    /// What the request with that token was for.
    pub(super) fn of(token: Token) -> Self {
        let kind = usize::try_from(token.0 % KINDS_MAX).expect("below a small number");
        Self::ALL.get(kind).copied().expect("a token of this session")
    }
}

/// The receipts the client waits for, by the request that answers each.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    waiting: BTreeMap<Token, String>,
    bytes: usize,
    requests: u64,
}

impl Receipts {
    /// A new token, and the receipt remembered for its answer.
    pub(super) fn token(&mut self, asked: Asked, receipt: Option<String>) -> Token {
        self.requests += 1;
        let token = Token(self.requests * KINDS_MAX + asked as u64);
        if let Some(receipt) = receipt {
            self.bytes += receipt.len();
            self.waiting.insert(token, receipt);
        }
        token
    }

    /// The receipt that this token's answer is for, which is then no longer waited for.
    pub(super) fn take(&mut self, token: Token) -> Option<String> {
        let receipt = self.waiting.remove(&token)?;
        self.bytes -= receipt.len();
        Some(receipt)
    }

    /// No receipt is owed.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// So many are owed that no more should be read.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= limits::SESSION_RECEIPTS_MAX
            || self.bytes >= limits::SESSION_RECEIPT_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_tells_what_was_asked() {
        let mut receipts = Receipts::default();
        for asked in Asked::ALL {
            assert_eq!(Asked::of(receipts.token(asked, None)), asked);
        }
        assert!(receipts.is_empty());
    }
}
