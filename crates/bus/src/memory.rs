//! Counts the memory of all connections to the bus: incomplete commands, queued replies and
//! messages, names. The broker enforces the limit.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// The total, in bytes; a cheap handle. Atomic, because messages may be dropped on another thread.
#[derive(Clone, Debug, Default)]
pub(super) struct BusMemory(Arc<AtomicUsize>);

/// A part of the total, released on drop.
#[derive(Debug)]
pub(super) struct MemoryPart {
    bytes: Cell<usize>,
    memory: BusMemory,
}

/// A message shared by several connections: counted once, until the last of them drops it.
struct CountedBytes {
    bytes: Bytes,
    memory: BusMemory,
}

impl BusMemory {
    pub(super) fn used(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Creates an empty part.
    pub(super) fn part(&self) -> MemoryPart {
        MemoryPart { bytes: Cell::new(0), memory: self.clone() }
    }

    /// Returns the same bytes, counted until they are dropped.
    pub(super) fn count(&self, bytes: Bytes) -> Bytes {
        self.add(bytes.len());
        Bytes::from_owner(CountedBytes { bytes, memory: self.clone() })
    }

    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn sub(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl MemoryPart {
    pub(super) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Sets the size of this part.
    pub(super) fn set(&self, bytes: usize) {
        let before = self.bytes.replace(bytes);
        if bytes >= before {
            self.memory.add(bytes - before);
        } else {
            self.memory.sub(before - bytes);
        }
    }
}

impl Drop for MemoryPart {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl AsRef<[u8]> for CountedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for CountedBytes {
    fn drop(&mut self) {
        self.memory.sub(self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::BusMemory;

    #[test]
    fn shared_bytes_are_counted_once_and_released_on_drop() {
        let memory = BusMemory::default();
        let (one, other) = (memory.part(), memory.part());
        one.set(100);
        other.set(10);
        one.set(50);
        assert_eq!((memory.used(), one.bytes()), (60, 50));
        let message = memory.count(Bytes::from(vec![0; 1000]));
        let again = message.clone();
        assert_eq!(memory.used(), 1060);
        drop(message);
        assert_eq!(memory.used(), 1060);
        drop((again, one));
        assert_eq!(memory.used(), 10);
    }
}
