//! Resolves `recorded`.

use ssegate_strict_yaml::{At, Field, Sets as _};

use super::resolver::Resolver;
use crate::config::file::RecordedFile;
use crate::source::recorded::RecordedSettings;

impl Resolver<'_> {
    /// Returns the settings of recorded channels.
    pub(super) fn recorded(&self, field: Field<RecordedFile>) -> RecordedSettings {
        let mut settings = RecordedSettings::default();
        let Some(At { location, value }) = field.written() else { return settings };
        value.set(&mut settings, &location, self.mistakes);
        if settings.prefix.contains(['{', '}']) {
            let what =
                "has braces, which the gateway puts around the name of the channel; remove them";
            self.note(&location.child("prefix"), what);
        }
        settings
    }
}
