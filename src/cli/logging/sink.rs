//! Writes log lines: a bounded buffer, and a thread that writes it to stderr, or to stdout.
//!
//! Logging never blocks. If the reader is gone, the pipe is full or the disk is full, lines are
//! dropped and counted; a line with their number follows when writes succeed again. At exit the
//! process waits a few seconds for the buffer to be written.

use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use ssegate::metrics::Metrics;
use tokio::time::Instant;
use tracing_subscriber::fmt::MakeWriter;

/// The size of the buffer in bytes; further lines are dropped. The writer thread holds a batch of
/// up to the same size.
const MAX_BUFFER: usize = 1 << 20;
/// Writes to a pipe up to this size are atomic (`PIPE_BUF`, pipe(7)): lines of other processes that
/// write to it do not mix with ours.
const MAX_ATOMIC_WRITE: usize = 4 << 10;
/// The retry interval if stderr is non-blocking, which another process with the same terminal or
/// pipe can cause.
const WRITE_RETRY: Duration = Duration::from_millis(10);
/// How long lines of the access log are gathered: one write for many of them costs a core less.
const GATHER: Duration = Duration::from_millis(5);
/// At exit, a flush gives up when nothing was written for this long.
const STALLED_AFTER: Duration = Duration::from_secs(1);
/// At exit, a flush takes no longer than this in all.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// A function with the contract of `write(2)`.
type WriteFn = Box<dyn FnMut(&[u8]) -> io::Result<usize> + Send>;

/// A cheap handle to the buffer.
#[derive(Clone)]
pub(in crate::cli) struct Sink(Arc<SinkShared>);

#[derive(Default)]
struct SinkShared {
    state: Mutex<SinkState>,
    changed: Condvar,
    settings: SinkSettings,
}

/// What the two sinks of a process differ in.
#[derive(Clone, Copy, Debug, Default)]
struct SinkSettings {
    // What is said of lines that were dropped.
    dropped: &'static str,
    // How long lines are gathered before they are written together.
    gather: Duration,
}

#[derive(Default)]
struct SinkState {
    buffer: Vec<u8>,
    is_writing: bool,
    // Total bytes written, by which a flush sees progress.
    written: u64,
    // The value of `written` when `flush_last_line` last timed out.
    timed_out_at: Option<u64>,
    // Dropped lines that have not been logged.
    unreported: u64,
    dropped: u64,
    metrics: Option<Metrics>,
}

impl Sink {
    /// A sink that writes to stderr.
    ///
    /// # Errors
    /// The writer thread cannot be spawned.
    pub(super) fn to_stderr() -> io::Result<Self> {
        // Without the lock of `std::io::stderr`: the write may block forever, and other threads
        // must not block on the lock.
        let stderr = io::stderr();
        let write = Box::new(move |bytes: &[u8]| Ok(rustix::io::write(stderr.as_fd(), bytes)?));
        let dropped = "log lines were dropped: stderr was blocked, or a write to it failed";
        Self::new(write, SinkSettings { dropped, gather: Duration::ZERO })
    }

    /// A sink that writes to stdout, for lines that come by the thousand.
    ///
    /// # Errors
    /// The writer thread cannot be spawned.
    pub(super) fn to_stdout() -> io::Result<Self> {
        let stdout = io::stdout();
        let write = Box::new(move |bytes: &[u8]| Ok(rustix::io::write(stdout.as_fd(), bytes)?));
        let dropped =
            "lines of the access log were dropped: stdout was blocked, or a write to it failed";
        Self::new(write, SinkSettings { dropped, gather: GATHER })
    }

    fn new(write: WriteFn, settings: SinkSettings) -> io::Result<Self> {
        let sink = Self(Arc::new(SinkShared { settings, ..SinkShared::default() }));
        let shared = Arc::clone(&sink.0);
        // Detached: it ends with the process.
        drop(thread::Builder::new().name("log".into()).spawn(move || shared.run_writer(write))?);
        Ok(sink)
    }

    /// Appends whole lines to the buffer, or drops them if it is full.
    pub(in crate::cli) fn put(&self, lines: &[u8]) {
        let mut state = self.0.lock();
        if state.buffer.len() + lines.len() > MAX_BUFFER {
            state.drop_lines(count(lines));
        } else {
            let was_empty = state.buffer.is_empty();
            state.buffer.extend_from_slice(lines);
            drop(state);
            // Otherwise the thread was woken for the lines before.
            if was_empty {
                self.0.changed.notify_all();
            }
        }
    }

    /// Counts dropped lines in `metrics`, including those dropped before this call.
    pub(in crate::cli) fn record_in(&self, metrics: &Metrics) {
        let mut state = self.0.lock();
        metrics.log_lines_dropped(state.dropped);
        state.metrics = Some(metrics.clone());
    }

    /// Waits until the buffer is written, while there is progress.
    pub(in crate::cli) fn flush(&self) {
        self.flush_within(STALLED_AFTER, FLUSH_TIMEOUT);
    }

    /// Waits until the buffer is written, `timeout` at most. After a timeout it returns at once
    /// until there is progress again, so that repeated panics do not each block their thread.
    /// Returns whether everything is written.
    pub(super) fn flush_last_line(&self, timeout: Duration) -> bool {
        let state = self.0.lock();
        if state.timed_out_at == Some(state.written) {
            return false;
        }
        drop(state);
        let is_written = self.flush_within(timeout, timeout);
        if !is_written {
            let mut state = self.0.lock();
            state.timed_out_at = Some(state.written);
        }
        is_written
    }

    fn flush_within(&self, stalled_after: Duration, timeout: Duration) -> bool {
        let end = Instant::now() + timeout;
        let mut state = self.0.lock();
        let (mut written, mut moved) = (state.written, Instant::now());
        while !state.buffer.is_empty() || state.is_writing {
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

impl SinkShared {
    fn lock(&self) -> MutexGuard<'_, SinkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run_writer(&self, mut write: WriteFn) {
        // Whether the last line was cut by an error: then a newline has to come first.
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
        let state = self.changed.wait_while(self.lock(), |state| state.buffer.is_empty());
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        if !self.settings.gather.is_zero() {
            drop(state);
            thread::park_timeout(self.settings.gather);
            state = self.lock();
        }
        state.is_writing = true;
        std::mem::take(&mut state.buffer)
    }

    /// Ends a batch, of which `lost` lines could not be written.
    fn batch_done(&self, lost: u64) {
        let mut state = self.lock();
        state.is_writing = false;
        state.drop_lines(lost);
        // Only after a complete batch: while writes fail, this line would be dropped and cause the
        // next.
        let unreported = if lost == 0 { std::mem::take(&mut state.unreported) } else { 0 };
        drop(state);
        self.changed.notify_all();
        if unreported > 0 {
            tracing::warn!(lines = unreported, "{}", self.settings.dropped);
        }
    }

    /// Writes all bytes.
    ///
    /// # Errors
    /// The number of bytes written before the error.
    fn write_all(&self, bytes: &[u8], write: &mut WriteFn) -> Result<(), usize> {
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
                    thread::park_timeout(WRITE_RETRY)
                }
                Err(_) => return Err(written),
            }
        }
        Ok(())
    }
}

impl SinkState {
    fn drop_lines(&mut self, lines: u64) {
        self.unreported += lines;
        self.dropped += lines;
        if let Some(metrics) = &self.metrics {
            metrics.log_lines_dropped(lines);
        }
    }
}

/// The end of the first piece: after as many whole lines as fit into [`MAX_ATOMIC_WRITE`], at least
/// one.
fn piece_end(lines: &[u8]) -> usize {
    let fits = &lines[..lines.len().min(MAX_ATOMIC_WRITE)];
    let end = memchr::memrchr(b'\n', fits).or_else(|| memchr::memchr(b'\n', lines));
    end.map_or(lines.len(), |end| end + 1)
}

fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

/// Writes one log line to the buffer, for `tracing_subscriber`.
pub(in crate::cli) struct SinkWriter(Sink);

impl Write for SinkWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = SinkWriter;

    fn make_writer(&'a self) -> SinkWriter {
        SinkWriter(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc::{self, Receiver, Sender};
    use std::time::Duration;

    use ssegate::metrics::Metrics;
    use tokio::time::Instant;

    use super::{MAX_ATOMIC_WRITE, MAX_BUFFER, STALLED_AFTER, Sink, SinkSettings, piece_end};

    const SOON: Duration = Duration::from_secs(10);

    /// A sink, each write of which waits for its result: a maximum of bytes, or an error.
    fn sink() -> (Sink, Sender<io::Result<usize>>, Receiver<Vec<u8>>) {
        let (allow, allowed) = mpsc::channel::<io::Result<usize>>();
        let (wrote, written) = mpsc::channel();
        let write = move |bytes: &[u8]| {
            let most = allowed.recv().map_err(io::Error::other)??;
            let bytes = &bytes[..bytes.len().min(most)];
            wrote.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        };
        (Sink::new(Box::new(write), SinkSettings::default()).expect("a thread"), allow, written)
    }

    fn dropped(metrics: &Metrics) -> u64 {
        let text = metrics.render().expect("text");
        let line = text.lines().find_map(|l| l.strip_prefix("ssegate_log_lines_dropped_total "));
        line.expect("the metric exists").parse().expect("a number")
    }

    #[test]
    fn lines_are_not_split_over_writes() {
        let long = [b"x".repeat(MAX_ATOMIC_WRITE), b"\ny\n".to_vec()].concat();
        for (lines, end) in
            [(&b"a\nb\n"[..], 4), (b"a\nb", 2), (b"ab", 2), (&long, MAX_ATOMIC_WRITE + 1)]
        {
            assert_eq!(piece_end(lines), end);
        }
        let many = b"0123456\n".repeat(1000);
        assert_eq!(piece_end(&many), MAX_ATOMIC_WRITE);
    }

    #[test]
    fn logging_does_not_block_and_the_buffer_is_bounded() {
        let (sink, allow, written) = sink();
        let metrics = Metrics::new().expect("metrics");
        sink.record_in(&metrics);
        let line = [b"x".repeat(999), b"\n".to_vec()].concat();
        // Nothing is written yet; the thread holds one batch at most.
        for _ in 0..3 * MAX_BUFFER / line.len() {
            sink.put(&line);
        }
        assert!(dropped(&metrics) >= (MAX_BUFFER / line.len()) as u64);
        assert!(sink.0.lock().buffer.len() <= MAX_BUFFER);

        let start = Instant::now();
        sink.flush();
        assert!((STALLED_AFTER..SOON).contains(&start.elapsed()), "a stalled flush times out");
        allow.send(Ok(usize::MAX)).expect("the thread waits");
        assert!(written.recv_timeout(SOON).expect("a write").ends_with(b"x\n"));
    }

    #[test]
    fn only_the_first_panic_waits_for_a_blocked_log() {
        let (sink, allow, written) = sink();
        sink.put(b"a bug\n");
        assert!(!sink.flush_last_line(Duration::from_millis(1)));
        let start = Instant::now();
        for _ in 0..100 {
            assert!(!sink.flush_last_line(SOON));
        }
        assert!(start.elapsed() < SOON, "no wait without progress");

        allow.send(Ok(usize::MAX)).expect("the thread waits");
        assert_eq!(written.recv_timeout(SOON).expect("a write"), b"a bug\n");
        sink.flush();
        allow.send(Ok(usize::MAX)).expect("the thread waits");
        sink.put(b"another one\n");
        assert!(sink.flush_last_line(SOON), "lines can be written again");
        assert_eq!(written.recv_timeout(SOON).expect("a write"), b"another one\n");
    }

    #[test]
    fn a_flush_returns_when_all_lines_are_written() {
        let (sink, allow, written) = sink();
        for _ in 0..10 {
            allow.send(Ok(7)).expect("the thread waits");
        }
        sink.put(b"one line, and\nanother one\n");
        sink.flush();
        assert_eq!(
            written.try_iter().flatten().collect::<Vec<_>>(),
            b"one line, and\nanother one\n"
        );
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_later_lines_are_intact() {
        let (sink, allow, written) = sink();
        let metrics = Metrics::new().expect("metrics");
        sink.put(b"lost\nlost too\n");
        allow.send(Err(io::ErrorKind::StorageFull.into())).expect("the thread waits");
        sink.flush();
        sink.record_in(&metrics);
        assert_eq!(dropped(&metrics), 2, "including those before record_in");

        // The disk is full in the middle of a line.
        sink.put(b"half of it\n");
        allow.send(Ok(4)).expect("the thread waits");
        allow.send(Err(io::ErrorKind::StorageFull.into())).expect("the thread waits");
        sink.flush();
        assert_eq!(dropped(&metrics), 3);
        for _ in 0..2 {
            allow.send(Ok(usize::MAX)).expect("the thread waits");
        }
        sink.put(b"whole\n");
        sink.flush();
        let written: Vec<_> = written.try_iter().collect();
        assert_eq!(written, [&b"half"[..], b"\n", b"whole\n"]);
        assert_eq!(dropped(&metrics), 3);
    }

    #[test]
    fn a_non_blocking_descriptor_is_retried() {
        let (sink, allow, written) = sink();
        for kind in [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted] {
            allow.send(Err(kind.into())).expect("the thread waits");
        }
        allow.send(Ok(usize::MAX)).expect("the thread waits");
        sink.put(b"a line\n");
        sink.flush();
        assert_eq!(written.try_iter().collect::<Vec<_>>(), [b"a line\n"]);
    }
}
