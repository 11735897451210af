//! Where log lines go: into a bounded buffer, and from there to standard error, by a thread of its own.
//!
//! A line is best effort. Nobody waits for it to be written: a reader that has gone, a pipe that nobody
//! empties and a full disk cost lines, which are counted, and nothing else. What was dropped is logged
//! as soon as lines can be written again. At its end the process waits a moment for the buffer to be
//! written.

use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use ssegate::metrics::Metrics;
use tokio::time::Instant;
use tracing_subscriber::fmt::MakeWriter;

/// Log lines that wait to be written, in bytes; one more is dropped. As much again is being written.
const MAX_BUFFER: usize = 1 << 20;
/// Lines up to this go to a pipe undivided, also where other processes write to it (`PIPE_BUF`).
const PIECE: usize = 4 << 10;
/// The descriptor does not block, because another process has made it so: the next try is after this.
const NOT_NOW: Duration = Duration::from_millis(10);
/// At the end of the process its last lines have so long: as long as nothing is written, and in all.
const STALLED_AFTER: Duration = Duration::from_secs(1);
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Writes bytes somewhere, as `write(2)` does.
type Write2 = Box<dyn FnMut(&[u8]) -> io::Result<usize> + Send>;

/// The buffer, and the thread behind it: a cheap handle.
#[derive(Clone)]
pub(in crate::cli) struct Sink(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    is_writing: bool,
    /// Bytes that were written, to see that it gets on.
    written: u64,
    /// How much of that there was when a last line was waited for in vain.
    stuck_at: Option<u64>,
    /// Lines that were dropped, and that nobody has been told of.
    untold: u64,
    dropped: u64,
    metrics: Option<Metrics>,
}

impl Sink {
    /// Writes to standard error.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn to_stderr() -> io::Result<Self> {
        // Without the lock of `std::io::stderr`: this may hang in a write for ever, and nobody else
        // shall wait for it.
        let stderr = io::stderr();
        Self::new(Box::new(move |bytes| Ok(rustix::io::write(stderr.as_fd(), bytes)?)))
    }

    fn new(write: Write2) -> io::Result<Self> {
        let sink = Self(Arc::default());
        let shared = Arc::clone(&sink.0);
        // Ends with the process: nobody waits for it.
        drop(
            thread::Builder::new()
                .name("log".into())
                .spawn(move || shared.write_for_ever(write))?,
        );
        Ok(sink)
    }

    /// Puts whole lines into the buffer, or drops them.
    pub(in crate::cli) fn put(&self, lines: &[u8]) {
        let mut state = self.0.lock();
        if state.waiting.len() + lines.len() > MAX_BUFFER {
            state.drop_lines(count(lines));
        } else {
            state.waiting.extend_from_slice(lines);
            drop(state);
            self.0.changed.notify_all();
        }
    }

    /// Shows in `metrics` how many lines were dropped, from the start of the process on.
    pub(in crate::cli) fn count_in(&self, metrics: &Metrics) {
        let mut state = self.0.lock();
        metrics.log_lines_dropped(state.dropped);
        state.metrics = Some(metrics.clone());
    }

    /// Waits until everything is written, for as long as it gets on.
    pub(in crate::cli) fn flush(&self) {
        self.flush_within(STALLED_AFTER, FLUSH_TIMEOUT);
    }

    /// Waits for a line that may be the last one of the process, or not: for `timeout` at most, and not
    /// again before anything more is written. Returns whether everything is.
    pub(super) fn flush_last_line(&self, timeout: Duration) -> bool {
        let state = self.0.lock();
        if state.stuck_at == Some(state.written) {
            return false;
        }
        drop(state);
        let is_written = self.flush_within(timeout, timeout);
        if !is_written {
            let mut state = self.0.lock();
            state.stuck_at = Some(state.written);
        }
        is_written
    }

    fn flush_within(&self, stalled_after: Duration, timeout: Duration) -> bool {
        let end = Instant::now() + timeout;
        let mut state = self.0.lock();
        let (mut written, mut moved) = (state.written, Instant::now());
        while !state.waiting.is_empty() || state.is_writing {
            if state.written != written {
                (written, moved) = (state.written, Instant::now());
            }
            let until = end.min(moved + stalled_after);
            let Some(left) = until.checked_duration_since(Instant::now()) else { return false };
            let waited = self.0.changed.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        true
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_for_ever(&self, mut write: Write2) {
        // Whether a line was broken off: what follows shall not look like its end.
        let mut is_broken = false;
        loop {
            let batch = self.next_batch();
            let mut rest = &batch[..];
            while !rest.is_empty() {
                if is_broken && self.write_all(b"\n", &mut write).is_err() {
                    break;
                }
                let (piece, behind) = rest.split_at(piece_end(rest));
                let written = self.write_all(piece, &mut write);
                is_broken = written.is_err_and(|written| written > 0);
                if written.is_err() {
                    break;
                }
                rest = behind;
            }
            self.batch_done(count(rest));
        }
    }

    fn next_batch(&self) -> Vec<u8> {
        let state = self.changed.wait_while(self.lock(), |state| state.waiting.is_empty());
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        state.is_writing = true;
        std::mem::take(&mut state.waiting)
    }

    /// The batch is written, but for so many lines.
    fn batch_done(&self, lost: u64) {
        let mut state = self.lock();
        state.is_writing = false;
        state.drop_lines(lost);
        // Only where this line has a chance: one that is lost again must not bring the next.
        let untold = if lost == 0 { std::mem::take(&mut state.untold) } else { 0 };
        drop(state);
        self.changed.notify_all();
        if untold > 0 {
            tracing::warn!(lines = untold, "log lines were dropped: they were not read in time");
        }
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// How much was written until it failed.
    fn write_all(&self, bytes: &[u8], write: &mut Write2) -> Result<(), usize> {
        let mut written = 0;
        while written < bytes.len() {
            match write(&bytes[written..]) {
                Ok(0) => return Err(written),
                Ok(more) => {
                    written += more;
                    self.lock().written += more as u64;
                    self.changed.notify_all();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    thread::park_timeout(NOT_NOW)
                }
                Err(_) => return Err(written),
            }
        }
        Ok(())
    }
}

impl State {
    fn drop_lines(&mut self, lines: u64) {
        self.untold += lines;
        self.dropped += lines;
        if let Some(metrics) = &self.metrics {
            metrics.log_lines_dropped(lines);
        }
    }
}

/// Where the first piece ends: behind as many lines as fit, or behind one that is longer.
fn piece_end(lines: &[u8]) -> usize {
    let fits = &lines[..lines.len().min(PIECE)];
    let end = memchr::memrchr(b'\n', fits).or_else(|| memchr::memchr(b'\n', lines));
    end.map_or(lines.len(), |end| end + 1)
}

fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

/// One line on its way into the buffer.
pub(in crate::cli) struct Line(Sink);

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc::{self, Receiver, Sender};
    use std::time::Duration;

    use ssegate::metrics::Metrics;
    use tokio::time::Instant;

    use super::{MAX_BUFFER, PIECE, STALLED_AFTER, Sink, piece_end};

    const SOON: Duration = Duration::from_secs(10);

    /// A sink whose writes each wait for what comes of them: so many bytes at most, or a failure.
    fn sink() -> (Sink, Sender<io::Result<usize>>, Receiver<Vec<u8>>) {
        let (allow, allowed) = mpsc::channel::<io::Result<usize>>();
        let (wrote, written) = mpsc::channel();
        let write = move |bytes: &[u8]| {
            let most = allowed.recv().map_err(io::Error::other)??;
            let bytes = &bytes[..bytes.len().min(most)];
            wrote.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        };
        (Sink::new(Box::new(write)).expect("a thread"), allow, written)
    }

    fn dropped(metrics: &Metrics) -> u64 {
        let text = metrics.render().expect("text");
        let line = text.lines().find_map(|l| l.strip_prefix("ssegate_log_lines_dropped_total "));
        line.expect("it is there").parse().expect("a number")
    }

    #[test]
    fn a_piece_ends_with_a_line() {
        let long = [b"x".repeat(PIECE), b"\ny\n".to_vec()].concat();
        for (lines, end) in [(&b"a\nb\n"[..], 4), (b"a\nb", 2), (b"ab", 2), (&long, PIECE + 1)] {
            assert_eq!(piece_end(lines), end);
        }
        let many = b"0123456\n".repeat(1000);
        assert_eq!(piece_end(&many), PIECE);
    }

    #[test]
    fn who_logs_waits_for_nobody_and_the_buffer_is_bounded() {
        let (sink, allow, written) = sink();
        let metrics = Metrics::new().expect("metrics");
        sink.count_in(&metrics);
        let line = [b"x".repeat(999), b"\n".to_vec()].concat();
        // Nothing is written yet; one batch is held by the thread, at most.
        for _ in 0..3 * MAX_BUFFER / line.len() {
            sink.put(&line);
        }
        assert!(dropped(&metrics) >= (MAX_BUFFER / line.len()) as u64);
        assert!(sink.0.lock().waiting.len() <= MAX_BUFFER);

        let start = Instant::now();
        sink.flush();
        assert!((STALLED_AFTER..SOON).contains(&start.elapsed()), "it ends all the same");
        allow.send(Ok(usize::MAX)).expect("it waits");
        assert!(written.recv_timeout(SOON).expect("a write").ends_with(b"x\n"));
    }

    #[test]
    fn a_panic_waits_for_a_stuck_log_once() {
        let (sink, allow, written) = sink();
        sink.put(b"a bug\n");
        assert!(!sink.flush_last_line(Duration::from_millis(1)));
        let start = Instant::now();
        for _ in 0..100 {
            assert!(!sink.flush_last_line(SOON));
        }
        assert!(start.elapsed() < SOON, "nobody waits where nothing gets on");

        allow.send(Ok(usize::MAX)).expect("it waits");
        assert_eq!(written.recv_timeout(SOON).expect("a write"), b"a bug\n");
        sink.flush();
        allow.send(Ok(usize::MAX)).expect("it waits");
        sink.put(b"another one\n");
        assert!(sink.flush_last_line(SOON), "lines can be written again");
        assert_eq!(written.recv_timeout(SOON).expect("a write"), b"another one\n");
    }

    #[test]
    fn all_is_written_before_a_flush_returns() {
        let (sink, allow, written) = sink();
        for _ in 0..10 {
            allow.send(Ok(7)).expect("it waits");
        }
        sink.put(b"one line, and\nanother one\n");
        sink.flush();
        assert_eq!(
            written.try_iter().flatten().collect::<Vec<_>>(),
            b"one line, and\nanother one\n"
        );
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_others_follow() {
        let (sink, allow, written) = sink();
        let metrics = Metrics::new().expect("metrics");
        sink.put(b"lost\nlost too\n");
        allow.send(Err(io::ErrorKind::StorageFull.into())).expect("it waits");
        sink.flush();
        sink.count_in(&metrics);
        assert_eq!(dropped(&metrics), 2, "also those before anybody counted");

        // The disk is full in the middle of a line.
        sink.put(b"half of it\n");
        allow.send(Ok(4)).expect("it waits");
        allow.send(Err(io::ErrorKind::StorageFull.into())).expect("it waits");
        sink.flush();
        assert_eq!(dropped(&metrics), 3);
        for _ in 0..2 {
            allow.send(Ok(usize::MAX)).expect("it waits");
        }
        sink.put(b"whole\n");
        sink.flush();
        let written: Vec<_> = written.try_iter().collect();
        assert_eq!(written, [&b"half"[..], b"\n", b"whole\n"]);
        assert_eq!(dropped(&metrics), 3);
    }

    #[test]
    fn a_descriptor_that_does_not_block_is_tried_again() {
        let (sink, allow, written) = sink();
        for kind in [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted] {
            allow.send(Err(kind.into())).expect("it waits");
        }
        allow.send(Ok(usize::MAX)).expect("it waits");
        sink.put(b"a line\n");
        sink.flush();
        assert_eq!(written.try_iter().collect::<Vec<_>>(), [b"a line\n"]);
    }
}
