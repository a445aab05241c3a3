//! What must outlive the log's tail: the index.

mod backend;
pub mod index;
pub mod reserve;
