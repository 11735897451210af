//! Files that the configuration names: they must be there and be readable.

use std::io::ErrorKind;
use std::path::PathBuf;

use ssegate_strict_yaml::At;

use super::resolver::Resolver;
use crate::bounded_file;

impl Resolver<'_> {
    /// Returns the path of a file that exists and can be opened. Does not look at its content.
    pub(super) fn readable_file(&self, At { location, value }: At<PathBuf>) -> Option<PathBuf> {
        let path = self.directory.join(value);
        if !self.purpose.reads_files() {
            return Some(path);
        }
        let name = path.display();
        let message = match bounded_file::open(&path) {
            Ok(_) => return Some(path),
            Err(error) if error.kind() == ErrorKind::NotFound => format!("no such file: {name}"),
            Err(error) if error.kind() == ErrorKind::IsADirectory => format!("not a file: {name}"),
            Err(error) => format!("cannot read {name}: {error}"),
        };
        self.note(&location, message);
        None
    }
}
