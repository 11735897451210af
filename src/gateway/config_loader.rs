//! Loads the configuration of a running gateway again.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{ConfigErrors, Settings};

/// Loads the configuration again. A cheap handle.
#[derive(Clone)]
pub struct ConfigLoader {
    file: Option<PathBuf>,
    load: Arc<dyn Fn() -> Result<Settings, ConfigErrors> + Send + Sync>,
}

impl ConfigLoader {
    /// `load` loads the configuration from `file`; `None`: from what was read on standard input.
    pub fn new(
        file: Option<PathBuf>,
        load: impl Fn() -> Result<Settings, ConfigErrors> + Send + Sync + 'static,
    ) -> Self {
        Self { file, load: Arc::new(load) }
    }

    /// Loads it. Blocks.
    ///
    /// # Errors
    /// The configuration cannot be read, or has mistakes.
    pub(super) fn load(&self) -> Result<Settings, ConfigErrors> {
        (self.load)()
    }

    /// The path of the file, with symbolic links resolved if it exists; `None`: standard input.
    pub(super) async fn file(&self) -> Option<PathBuf> {
        let file = self.file.clone()?;
        // On another thread, because the disk may not respond.
        Some(tokio::fs::canonicalize(&file).await.unwrap_or(file))
    }
}

impl fmt::Debug for ConfigLoader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigLoader").field("file", &self.file).finish_non_exhaustive()
    }
}
