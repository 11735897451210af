//! The read buffer that all HTTP/2 connections of a thread share, those of clients and those to
//! backends.
//!
//! A connection takes it, reads, and gives it back before it returns from its poll. So an idle
//! connection holds no buffer.

use std::cell::Cell;

/// Its size, in octets: one frame of the largest size, and most of another.
const SIZE: usize = 32 << 10;

thread_local! {
    static SHARED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Takes the buffer, which the caller must [give back](give_back).
pub fn take() -> Vec<u8> {
    let mut buffer = SHARED.take();
    buffer.resize(SIZE, 0);
    buffer
}

/// Gives the buffer back for the next connection.
pub fn give_back(buffer: Vec<u8>) {
    SHARED.set(buffer);
}
