//! JSON Web Key Sets from a URL (RFC 7517, section 5): fetched in the background, shared by all shards.
//!
//! [`RemoteKeys`] is one set as the gateway has it. [`refresh`] keeps it fresh with what [`fetch`] returns, and
//! [`RemoteKeySets`] has the sets of all URLs in the configuration. Keys that were fetched once stay until others
//! replace them. Knows neither requests nor tokens.

mod fetch;
mod location;
mod refresh;
mod registry;
mod remote_keys;

pub use self::fetch::{JwksErrorKind, fetch_keys};
pub use self::location::JwksLocation;
pub use self::registry::{KeySetRunner, RemoteKeySets, UsedKeys};
pub use self::remote_keys::{KeysSnapshot, NewerKeys, RemoteKeys};
