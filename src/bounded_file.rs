//! Reads a file that the configuration names: whole, within a bound, and without waiting.
//!
//! A pipe, a device or a huge file in its place is an error: opening a pipe waits for a writer, reading a device may
//! never end, and the thread that would wait may be the one that runs the source.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// The largest file that is read, in bytes: thousands of routes, or all public certificate authorities, take
/// less than 1 MiB.
pub const MAX_FILE_BYTES: u64 = 16 << 20;

/// Opens a file for reading, without waiting.
///
/// # Errors
/// Those of the system. If it is not a regular file: [`ErrorKind::IsADirectory`], or an error whose text says what it
/// is.
pub fn open(path: &Path) -> io::Result<File> {
    // Without NONBLOCK, opening a pipe waits for a writer; a regular file ignores the flag. Without NOCTTY a terminal
    // could become the controlling terminal of this process.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    if kind.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    let kind = if kind.is_fifo() { "a pipe" } else { "a device" };
    Err(io::Error::other(format!("{kind}, not a regular file")))
}

/// Reads a regular file.
///
/// # Errors
/// Those of [`open`], or it is larger than [`MAX_FILE_BYTES`].
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_to_end(open(path)?)
}

/// Reads the text of an open file. Waits for the writer of a pipe.
///
/// # Errors
/// Those of the system; there is more than [`MAX_FILE_BYTES`] of it, or it is not UTF-8
/// ([`ErrorKind::InvalidData`]).
pub fn read_text(file: impl Read) -> io::Result<String> {
    String::from_utf8(read_to_end(file)?)
        .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

fn read_to_end(file: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let error = format!("larger than {} MiB", MAX_FILE_BYTES >> 20);
        return Err(io::Error::new(ErrorKind::FileTooLarge, error));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::path::Path;

    use super::{MAX_FILE_BYTES, read, read_text};

    #[test]
    fn the_bound_is_the_last_size_that_is_read() {
        let zeros = |length| std::io::repeat(0).take(length);
        let most = read_text(zeros(MAX_FILE_BYTES)).expect("the bound itself");
        assert_eq!(most.len() as u64, MAX_FILE_BYTES);
        let error = read_text(zeros(MAX_FILE_BYTES + 1)).expect_err("above the bound");
        assert_eq!(error.to_string(), "larger than 16 MiB");
    }

    #[test]
    fn what_is_no_regular_file_is_named() {
        for (path, expected) in [
            ("/dev/zero", "a device, not a regular file"),
            ("/", "is a directory"),
            ("/nowhere", "No such file or directory (os error 2)"),
        ] {
            assert_eq!(read(Path::new(path)).expect_err(path).to_string(), expected);
        }
        let (reader, _writer) = std::io::pipe().expect("a pipe");
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        let error = read(Path::new(&path)).expect_err("a pipe");
        assert_eq!(error.to_string(), "a pipe, not a regular file");
    }
}
