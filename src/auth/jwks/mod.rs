//! JSON Web Key Sets from a URL (RFC 7517, section 5): fetched in the background, shared by all shards.
//!
//! [`RemoteKeys`] is what the gateway knows of one set, [`refresh`] keeps it fresh with what [`fetch`] returns,
//! and the [`RemoteKeySets`] are those of all URLs that the configuration names. Keys that were fetched once
//! stay until others replace them. Knows neither requests nor tokens.

mod fetch;
mod location;
mod refresh;
mod registry;
mod remote_keys;

pub use self::fetch::{JwksErrorKind, fetch_keys};
pub use self::location::JwksLocation;
pub use self::registry::{KeySetRunner, RemoteKeySets, UsedKeys};
pub use self::remote_keys::{KeysSnapshot, NewerKeys, RemoteKeys};
