//! What a gateway leaves for the process that is started after it: its histories, in a file of the state
//! directory that its service manager has given it (`StateDirectory=` of systemd, or a volume of a container).
//!
//! The file is for one start, and for a minute: it is removed when it is read. Its first line says of which
//! server the histories are: `redis.url` may have changed.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use ssegate_hub::{Hub, Snapshot};
use tokio::time::Instant;

use crate::bounded_file;
use crate::config::Settings;
use crate::server::state_dir;
use crate::source::SourceLocation;

/// An older file is not read: its events are old, and many may have been missed since.
const FRESH: Duration = Duration::from_secs(60);
/// The largest file: this many bytes for each byte of histories, and this many more, for names, numbers and marks.
const OVERHEAD: (u64, u64) = (4, 16 << 20);

/// What the log says of histories that are over `history_handover`.
pub(super) const NO_ROOM: &str =
    "some histories are not handed over: history_handover has no room for them";

/// The file for what this gateway leaves, and for what was left for it.
#[derive(Debug)]
pub(super) struct StateFile {
    path: PathBuf,
    first_line: String,
}

impl StateFile {
    /// One for each server; empty without a state directory. A file is named after the configured address of the
    /// first listener, so that gateways with different configurations do not share it. The name of a further server
    /// follows.
    pub(super) fn all(settings: &Settings) -> Vec<Self> {
        let first = settings.listeners.first().map(|listener| listener.address);
        let (Some(first), Some(directory)) = (first, state_dir::of_service()) else {
            return Vec::new();
        };
        let source = &settings.source;
        let further = source.further.iter().zip(source.servers.names().iter().skip(1));
        let further = further.map(|(server, name)| {
            let name = format!("{first}-{name}");
            Self::at(directory.clone(), &name, &SourceLocation::Redis(server.location.clone()))
        });
        [Self::at(directory.clone(), &first.to_string(), &source.location)]
            .into_iter()
            .chain(further)
            .collect()
    }

    fn at(directory: PathBuf, of: &str, location: &SourceLocation) -> Self {
        // Without user and password. Databases make no difference to pub/sub.
        let first_line = format!("ssegate histories of {location:?}\n");
        Self { path: directory.join(format!("histories-{of}")), first_line }
    }

    /// Restores the histories of the last run into the hub, if they are recent.
    pub(super) fn go_on(&self, hub: &Hub) {
        if let Some(snapshot) = self.take(hub.handover_bytes()) {
            let channels = hub.restore(&snapshot);
            tracing::info!(channels, "restored the histories of the last run");
        }
    }

    /// Reads the file and removes it. An error is logged: clients that missed events are then sent a gap.
    fn take(&self, max_bytes: usize) -> Option<Snapshot> {
        let path = self.path.display();
        match self.read(max_bytes) {
            Ok(snapshot) => Some(snapshot),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(%error, %path, "the histories of the last run are not used: clients that come back are sent a gap");
                None
            }
        }
    }

    fn read(&self, max_bytes: usize) -> io::Result<Snapshot> {
        let file = bounded_file::open(&self.path)?;
        let metadata = file.metadata()?;
        if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o077 != 0 {
            return Err(io::Error::other(
                "others may have written it: its owner is not this user, or its mode is not 0600",
            ));
        }
        // Removed even if it cannot be used: it is for one start only.
        fs::remove_file(&self.path)?;
        if max_bytes == 0 {
            return Err(io::ErrorKind::NotFound.into());
        }
        let age = age(&metadata)?;
        let most = max_snapshot(max_bytes);
        let mut bytes = Vec::new();
        file.take(most + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > most {
            return Err(io::Error::other(format!("it is larger than {} MiB", most >> 20)));
        }
        let rest = bytes.strip_prefix(self.first_line.as_bytes());
        let rest = rest.ok_or_else(|| {
            io::Error::other("it belongs to another redis.url, or is not a state file")
        })?;
        let now = Instant::now();
        Snapshot::read(rest, now.checked_sub(age).unwrap_or(now)).map_err(io::Error::other)
    }

    /// Writes the histories for the next process. An error is logged.
    pub(super) fn leave(&self, snapshot: &Snapshot) {
        let (path, channels) = (self.path.display(), snapshot.channels());
        let left_out = snapshot.left_out();
        if left_out > 0 {
            tracing::warn!(channels, left_out, "{NO_ROOM}");
        }
        match self.write(snapshot) {
            Ok(()) => tracing::info!(%path, channels, "left the histories for the next run"),
            Err(error) => {
                tracing::warn!(%error, %path, "cannot leave the histories for the next run");
            }
        }
    }

    fn write(&self, snapshot: &Snapshot) -> io::Result<()> {
        if let Some(directory) = self.path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        // Renamed into place, so that a process that is killed while it writes leaves no truncated file.
        let mut new = self.path.clone().into_os_string();
        new.push(format!(".{}.new", std::process::id()));
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
        let mut out = io::BufWriter::new(file);
        out.write_all(self.first_line.as_bytes())?;
        snapshot.write(Instant::now(), &mut out)?;
        out.flush()?;
        fs::rename(&new, &self.path)
    }
}

/// How long ago a file was written.
fn age(metadata: &Metadata) -> io::Result<Duration> {
    let age = SystemTime::now().duration_since(metadata.modified()?);
    let fresh = age.ok().filter(|age| *age <= FRESH);
    fresh.ok_or_else(|| io::Error::other("it is not of the last minute"))
}

/// The largest snapshot that is read, in bytes, if it has up to `max_bytes` of histories.
pub(super) fn max_snapshot(max_bytes: usize) -> u64 {
    let (for_each, for_none) = OVERHEAD;
    (max_bytes as u64).saturating_mul(for_each).saturating_add(for_none)
}
