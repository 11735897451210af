//! gateway.yaml: from the text to the settings that each stage declares.
//!
//! Owns the keys of the configuration file. The stages know neither YAML nor this module.
//!
//! [`ssegate_strict_yaml`] parses the text, replaces `${VAR}`, and fills the structs of [`file`](mod@file).
//! [`resolve`] turns them into settings. Each step records the mistakes it finds and continues, so that one
//! run reports all of them.
//!
//! To add a key, add a line to its mapping in [`file`](mod@file), the field and its default to the settings
//! of the stage that uses it, and a line to gateway.yaml.

mod defaults;
mod dev;
mod file;
mod global;
mod own_thread;
mod printed;
mod purpose;
mod resolve;
mod settings;
mod stream_options;
#[cfg(test)]
mod tests;
mod text;

pub use ssegate_strict_yaml::{ConfigErrors, Mistake};

pub use own_thread::on_own_thread;
pub use purpose::ConfigPurpose;
pub(crate) use resolve::reaches;
pub use resolve::{control_channel, control_key, location as source, upstream};
pub use settings::Settings;
pub use text::{Text, load, parse};

/// The JSON Schema (draft-07) of gateway.yaml, as indented JSON.
pub fn schema() -> String {
    ssegate_strict_yaml::schema::<file::File>()
}
