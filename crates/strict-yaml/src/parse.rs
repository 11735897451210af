//! The whole way, from a text to settings.

use serde::de::DeserializeOwned;

use crate::error::ConfigErrors;
use crate::mistakes::Mistakes;
use crate::read::read;
use crate::variables::{Env, StandIn, Variables};
use crate::{fill, variables};

/// Reads `text` into a `File`, a struct whose keys are [`Field`](crate::Field)s, and has `resolve` make
/// settings of it. `file` is the name of the text in messages; `env` looks up variables, and `stand_in` says what
/// stands for those that need not be set.
///
/// `resolve` notes what it finds wrong, uses a default instead, and goes on. It returns `None` only after a
/// mistake that leaves no usable settings.
///
/// # Errors
/// Every mistake in the text. A YAML syntax error ends the reading, so it is the only one.
pub fn parse<File: DeserializeOwned, Settings>(
    text: &str,
    file: &str,
    (env, stand_in): (Env<'_>, StandIn<'_>),
    resolve: impl FnOnce(File, &Mistakes) -> Option<Settings>,
) -> Result<Settings, ConfigErrors> {
    let mistakes = Mistakes::default();
    let mut tree = read(text, file, &mistakes)?;
    variables::replace(&mut tree, Variables { env, stand_in }, &mistakes);
    let settings = fill::fill(&tree, &mistakes).and_then(|written| resolve(written, &mistakes));
    let mistakes = mistakes.into_vec();
    debug_assert!(
        settings.is_some() || !mistakes.is_empty(),
        "without settings there is a mistake"
    );
    match settings {
        Some(settings) if mistakes.is_empty() => Ok(settings),
        _ => Err(ConfigErrors::new(file, mistakes)),
    }
}
