//! A child process: its log is kept, its life ends with its owner's.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

/// A program to be started, or run to its end.
pub(crate) struct Program(Command);

impl Program {
    /// `path` with the arguments still to come. It dies with the thread that starts it, also when
    /// the tests are killed: `setpriv` of util-linux asks the kernel for that.
    pub(crate) fn new(path: impl AsRef<Path>) -> Self {
        let setpriv = Path::new("/usr/bin/setpriv");
        let mut command = Command::new(if setpriv.exists() { setpriv } else { path.as_ref() });
        if setpriv.exists() {
            command.args(["--pdeathsig", "KILL", "--"]).arg(path.as_ref());
        }
        command.stdin(Stdio::null()).env("NO_COLOR", "1");
        Self(command)
    }

    /// One argument more.
    pub(crate) fn arg(mut self, argument: impl AsRef<std::ffi::OsStr>) -> Self {
        self.0.arg(argument);
        self
    }

    /// Several arguments more.
    pub(crate) fn args<'a>(mut self, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        self.0.args(arguments);
        self
    }

    /// A variable of its environment.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    /// Takes a variable away.
    pub(crate) fn env_remove(mut self, name: &str) -> Self {
        self.0.env_remove(name);
        self
    }

    /// Where it runs.
    pub(crate) fn dir(mut self, path: &Path) -> Self {
        self.0.current_dir(path);
        self
    }

    /// Starts it.
    pub(crate) fn start(mut self) -> Process {
        self.0.stdout(Stdio::piped()).stderr(Stdio::piped());
        let name = format!("{:?}", self.0);
        let mut child = self.0.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Process { name, child, stdout: Lines::follow(stdout), stderr: Lines::follow(stderr) }
    }

    /// Runs it to its end, which must come within `limit`.
    pub(crate) async fn output(self, limit: Duration) -> Output {
        let mut process = self.start();
        let status = process.exit_within(limit).await;
        Output { status, stdout: process.stdout().join("\n"), stderr: process.stderr().join("\n") }
    }
}

/// Runs `ssegate` with `arguments` to its end.
pub(crate) async fn run<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Output {
    Program::new(env!("CARGO_BIN_EXE_ssegate")).args(arguments).output(super::SOON).await
}

/// What a program that has ended leaves.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// The exit code; fails if a signal ended it.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by a signal: {self:?}"))
    }

    /// Standard output, of a program that must have succeeded.
    pub(crate) fn success(self) -> String {
        assert!(self.status.success(), "{self:?}");
        self.stdout
    }
}

/// A process that runs.
pub(crate) struct Process {
    name: String,
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

impl Process {
    /// The lines written to standard error so far.
    pub(crate) fn stderr(&self) -> Vec<String> {
        self.stderr.so_far()
    }

    /// The lines written to standard output so far.
    pub(crate) fn stdout(&self) -> Vec<String> {
        self.stdout.so_far()
    }

    /// How many lines were written to standard output so far.
    pub(crate) fn stdout_lines(&self) -> usize {
        self.stdout.count()
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself, and how.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// Waits for its end, and until what it wrote has been read.
    pub(crate) async fn exit_within(&mut self, limit: Duration) -> ExitStatus {
        let end = Instant::now() + limit;
        let mut status = None;
        loop {
            status = status.or_else(|| self.ended());
            if let Some(status) = status
                && self.stdout.is_complete()
                && self.stderr.is_complete()
            {
                return status;
            }
            assert!(Instant::now() < end, "{} runs after {limit:?}:\n{}", self.name, self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// SIGTERM, and waits for the end: for a program with children, which end with it.
    pub(crate) fn terminate(&mut self) {
        if self.ended().is_none() {
            self.signal(Signal::TERM);
            drop(self.child.wait());
        }
    }

    /// `kill -9`, and waits for the end.
    pub(crate) fn kill(&mut self) {
        // It may have ended already, which is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Everything it wrote, for a message of failure.
    pub(crate) fn log(&self) -> String {
        let mut lines = self.stdout.so_far();
        lines.extend(self.stderr.so_far());
        lines.join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let tail = log.char_indices().rev().nth(6000).map_or(0, |(at, _)| at);
            #[expect(clippy::print_stderr, reason = "shown with the failed test")]
            {
                eprintln!("--- {}\n{}", self.name, &log[tail..]);
            }
        }
    }
}

/// The lines of a pipe, read by a thread of their own until the writer is gone.
struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    reader: std::thread::JoinHandle<()>,
}

impl Lines {
    fn follow(pipe: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
                into.lock().unwrap_or_else(PoisonError::into_inner).push(text);
                line.clear();
            }
        });
        Self { lines, reader }
    }

    fn so_far(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self) -> usize {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether the writer is gone, and all of it is here.
    fn is_complete(&self) -> bool {
        self.reader.is_finished()
    }
}

/// A port that nobody listens on, below those that the system hands out by itself.
pub(crate) fn free_port() -> u16 {
    std::iter::repeat_with(|| fastrand::u16(20_000..32_000))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("some port is free")
}
