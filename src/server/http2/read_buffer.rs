//! The buffer into which all HTTP/2 connections of a thread read, one after the other: those of clients and
//! those to backends.

use std::cell::Cell;

/// Its size, in octets: a whole frame, and most of another.
const SIZE: usize = 32 << 10;

thread_local! {
    static SHARED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Takes the buffer, until it is [given back](give_back).
pub(crate) fn take() -> Vec<u8> {
    let mut buffer = SHARED.take();
    buffer.resize(SIZE, 0);
    buffer
}

/// Gives the buffer back.
pub(crate) fn give_back(buffer: Vec<u8>) {
    SHARED.set(buffer);
}
