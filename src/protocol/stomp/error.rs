//! What can be wrong with the bytes of a frame, in words for the peer.

use super::Command;

/// Why bytes are not a frame. The connection cannot go on: where the next frame begins is
/// unknown. The text is fit for the `message` header of an ERROR frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The first bytes are those of a TLS handshake.
    #[error("the peer speaks TLS, but this port speaks plain STOMP")]
    Tls,
    /// The first bytes are those of an HTTP request.
    #[error("the peer speaks HTTP, but this port speaks STOMP")]
    Http,
    /// Something else than a command stands where a frame begins.
    #[error("a frame begins with a command in capital letters, not with the byte {byte:#04x}")]
    NotAFrame {
        /// The byte found.
        byte: u8,
    },
    /// The first line is no command.
    #[error("unknown command {found:?}")]
    UnknownCommand {
        /// The beginning of the line, up to the first character that settled it.
        found: String,
    },
    /// Command and headers are longer than the limit.
    #[error("the frame's headers are longer than the limit of {limit} bytes")]
    HeadTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// More headers than the limit.
    #[error("the frame has more than {limit} headers, which is the limit")]
    TooManyHeaders {
        /// The limit.
        limit: usize,
    },
    /// A NUL before the blank line that ends the headers.
    #[error("a NUL stands in the frame's headers: the blank line after them is missing")]
    NulInHead,
    /// The head is not UTF-8.
    #[error("the frame's headers are not valid UTF-8")]
    NotUtf8,
    /// A header line without a colon.
    #[error("the header line {line:?} has no colon")]
    NoColon {
        /// The beginning of the line.
        line: String,
    },
    /// A header line that begins with its colon.
    #[error("a header has an empty name")]
    EmptyName,
    /// A backslash that begins no escape of the version spoken.
    #[error("the header \"{header}\" has an undefined escape after a backslash")]
    BadEscape {
        /// The beginning of the line.
        header: String,
    },
    /// A carriage return that does not belong to a line end, in STOMP 1.2.
    #[error("the header line {line:?} has a carriage return inside; write it as \\r")]
    StrayCarriageReturn {
        /// The beginning of the line.
        line: String,
    },
    /// `content-length` is not a plain decimal number.
    #[error("the header content-length is {value:?}, which is not a number of bytes")]
    BadContentLength {
        /// The beginning of its value.
        value: String,
    },
    /// The body is longer than the limit.
    #[error("the frame's body is longer than the limit of {limit} bytes")]
    BodyTooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// A body on a frame that has none.
    #[error("{command} frames have no body, but one was sent")]
    BodyNotAllowed {
        /// The frame.
        command: Command,
    },
    /// After the bytes that `content-length` promised comes no NUL.
    #[error("the body does not end with a NUL after the bytes that content-length says")]
    NoNulAfterBody,
}

/// The beginning of a peer's text, short enough to be said back.
pub(super) fn excerpt(text: &str) -> String {
    text.chars().take(80).collect()
}
