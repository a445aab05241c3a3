//! Promises of an OpenWire session, without sockets.
