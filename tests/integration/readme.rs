//! The commands that the README shows, run as they are written there.
