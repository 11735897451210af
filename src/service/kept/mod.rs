//! Kept streams: event streams of a backend that survive their readers (`keep` of a proxy route).
//!
//! A [`pump`] owns the backend's response. It runs as a task of the shard that took the request, whoever reads, and
//! appends to a bounded [`log`]: the bytes as the backend wrote them, with ids for its events
//! ([`ssegate_sse::number`]). Every [`reader`], the first included, is served from the log, on any shard, so that a
//! slow one slows nobody. The body of a response is the one that relays a backend's stream otherwise
//! ([`backend_stream`](super::backend_stream)): it adds the comments that keep it alive, and is watched as those are.
//!
//! [`kept_request`](super::kept_request) decides what happens to a request: it is forwarded, and its response becomes a
//! [`stream`]; or it was made before, and gets the rest of its stream. [`kept_detach`](super::kept_detach) forwards a
//! request whose client may leave before the backend has responded. [`kept_address`](super::kept_address) handles the
//! requests to a stream, by its address or its name. [`waiting`] has the requests without a stream yet. [`owner`]
//! identifies the owner of a stream; the [`registry`] finds streams and bounds them. [`loss`] reports to a client that
//! it cannot have all events.
//!
//! # How a stream ends
//!
//! With the backend's own end (`ended`); cancelled by its owner, because nobody reads it, or because another one
//! replaces it (`cancelled`); or broken off: the backend failed, the stream was too old, or the gateway stops (`lost`).
//! The log ends first, which ends the readers; the pump notices, and drops the request to the backend. The stream is
//! removed some time later.
//!
//! # What is never kept
//!
//! Any response but a 200 with `text/event-stream`; a response with a content coding (no id could be put into it), or
//! with `Vary: *`; a response to a request of the Model Context Protocol, in which a client cancels by leaving; a
//! response to a client without an owner, or that sends one of its credentials twice. Such a response is relayed as on
//! any proxy route.

pub(super) mod about;
pub(super) mod answer;
mod backend_ids;
pub(super) mod body_digest;
pub(super) mod claim;
mod copier;
mod copies;
mod copy_freshness;
mod copying;
pub(super) mod elsewhere;
pub(super) mod grant;
pub(super) mod log;
mod log_bytes;
pub(super) mod log_part;
pub(super) mod loss;
mod memory_log;
pub(super) mod owner;
pub(super) mod pump;
pub(super) mod reader;
pub(super) mod registry;
pub(super) mod sender;
mod sending;
mod stop_word;
pub(super) mod stream;
pub(super) mod stream_id;
pub(super) mod waiting;
