//! The id of a stream that has its channels at several servers: the position at each.
//!
//! `3*0=k3v9qa-42-…*2=9xk2lm-7-…` is a position at the servers 0 and 2 of three. Adding or removing a server moves
//! channels, so an id of another number of servers is unknown: the client gets a gap, and never a position at the wrong
//! server. A part of one Redis Stream has a hash of the stream's name, since its position, the id of an entry, could
//! also be one of another stream. So has a part of one sharded channel, of which there are several at a server.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use ssegate_hub::{MAX_LOGS, Topic, max_position_bytes};

/// Positions of a fleet have about forty bytes each. An id of more parts is known only to this gateway.
pub(in crate::service) const MAX_FLEET_PARTS: usize = 8;
/// The longest position at one server, in bytes; one in several logs, which begins with a dot, may be longer.
const MAX_PART_BYTES: usize = 128;
/// Stands for an id that no server knows.
pub(in crate::service) const UNKNOWN: &[u8] = b"?";

/// Identifies a part of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) struct PartKey {
    /// The server.
    pub(in crate::service) server: usize,
    // Of a part that is one log, or one sharded channel: a hash of its name.
    log: Option<u32>,
}

/// An id of a client, read as one of several servers.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::service) struct JoinedId<'a>(Vec<(PartKey, &'a str)>);

impl PartKey {
    /// The key of a part with these topics.
    pub(in crate::service) fn new(server: usize, topics: &[Topic]) -> Self {
        let log = match topics {
            [one] if one.ids.is_log() || one.subscription.name.as_sharded().is_some() => {
                let hash = digest(&SHA256, one.subscription.name.as_str().as_bytes());
                hash.as_ref().first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
            }
            _ => None,
        };
        Self { server, log }
    }

    fn read(text: &str) -> Option<Self> {
        let (server, log) = match text.split_once('~') {
            Some((server, log)) => (server, Some(u32::from_str_radix(log, 16).ok()?)),
            None => (text, None),
        };
        Some(Self { server: server.parse().ok()?, log })
    }
}

impl<'a> JoinedId<'a> {
    /// Whether a text is an id of any number of servers.
    pub(in crate::service) fn is_one(text: &[u8]) -> bool {
        let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        digits > 0 && text.get(digits) == Some(&b'*')
    }

    /// Parses an id of `servers` servers; `None` if it is invalid. A part is echoed in `id:` lines until its server has
    /// sent an event: so each has to have the bytes and the length of an id of this gateway.
    pub(in crate::service) fn read(text: &'a [u8], servers: usize) -> Option<Self> {
        let mut parts = std::str::from_utf8(text).ok()?.split('*');
        if parts.next()?.parse() != Ok(servers) {
            return None;
        }
        let part = |part: &'a str| {
            let (key, id) = part.split_once('=')?;
            let most =
                if id.starts_with('.') { max_position_bytes(MAX_LOGS) } else { MAX_PART_BYTES };
            let is_id = id.len() <= most && id.bytes().all(|byte| byte.is_ascii_graphic());
            is_id.then_some((PartKey::read(key)?, id))
        };
        parts.map(part).collect::<Option<_>>().map(Self)
    }

    /// The position of a part; [`UNKNOWN`] if the id has none, or several.
    pub(in crate::service) fn part(&self, key: PartKey) -> &'a [u8] {
        let mut own = self.0.iter().filter(|(known, _)| *known == key);
        match (own.next(), own.next()) {
            (Some((_, id)), None) => id.as_bytes(),
            _ => UNKNOWN,
        }
    }
}

/// Writes the id of the known ones of these positions at `servers` servers; `None` if none is known.
pub(super) fn write<'a>(
    servers: usize,
    parts: impl ExactSizeIterator<Item = (PartKey, Option<&'a str>)>,
) -> Option<String> {
    let is_for_all = parts.len() <= MAX_FLEET_PARTS;
    let mut text = servers.to_string();
    let mut is_any_known = false;
    for (PartKey { server, log }, id) in parts {
        let Some(id) = id else { continue };
        is_any_known = true;
        let log = log.map(|log| format!("~{log:x}")).unwrap_or_default();
        let id = if is_for_all { id } else { without_place(id) };
        write!(text, "*{server}{log}={id}").expect("a string takes any text");
    }
    is_any_known.then_some(text)
}

/// The run and the number of an id, without its place in the order of the server. Any other id is unchanged.
fn without_place(id: &str) -> &str {
    match id.match_indices('-').nth(1) {
        Some((end, _)) if !id.starts_with('.') => &id[..end],
        _ => id,
    }
}

#[cfg(test)]
mod tests {
    use super::{JoinedId, MAX_PART_BYTES, PartKey, UNKNOWN, write};

    fn key(server: usize) -> PartKey {
        PartKey { server, log: None }
    }

    #[test]
    fn an_id_is_read_as_it_was_written() {
        let log = PartKey { server: 2, log: Some(0xbeef) };
        let parts = [(key(0), Some("k3v9qa-42-aB_c")), (key(1), None), (log, Some("17-3"))];
        let text = write(3, parts.into_iter()).expect("an id");
        assert_eq!(text, "3*0=k3v9qa-42-aB_c*2~beef=17-3");
        let id = JoinedId::read(text.as_bytes(), 3).expect("it is read");
        assert_eq!(id.part(key(0)), b"k3v9qa-42-aB_c");
        assert_eq!(id.part(log), b"17-3");
        for other in [key(1), key(2), PartKey { server: 2, log: Some(1) }] {
            assert_eq!(id.part(other), UNKNOWN, "{other:?}");
        }
        assert!(JoinedId::is_one(text.as_bytes()));
    }

    #[test]
    fn what_is_not_of_these_servers_is_unknown() {
        for text in ["", "k3v9qa-42", "2*0=a-1", "*0=a-1", "3*0", "3*x=a-1", "3*0~g=a", "17-3"] {
            assert_eq!(JoinedId::read(text.as_bytes(), 3), None, "{text}");
        }
        // Nothing that would end the line in which it is sent back.
        for byte in ["\n", "\r", "\0", " ", "\u{85}", "\u{2028}", "\u{7f}"] {
            let text = format!("3*0=a-1{byte}data: x*1=b-1");
            assert_eq!(JoinedId::read(text.as_bytes(), 3), None, "{text:?}");
        }
        let long = |bytes| format!("3*0={}", "a".repeat(bytes));
        assert!(JoinedId::read(long(MAX_PART_BYTES).as_bytes(), 3).is_some());
        assert_eq!(JoinedId::read(long(MAX_PART_BYTES + 1).as_bytes(), 3), None);
        let twice = JoinedId::read(b"3*0=a-1*0=a-2", 3).expect("it has the form");
        assert_eq!(twice.part(key(0)), UNKNOWN);
        for text in ["", "k3v9qa-42", "*0", "17-3", ".AbC"] {
            assert!(!JoinedId::is_one(text.as_bytes()), "{text}");
        }
        assert_eq!(write(3, [(key(0), None)].into_iter()), None);
    }

    #[test]
    fn many_parts_are_known_to_this_gateway_alone() {
        let parts = |count| (0..count).map(|server| (key(server), Some("k3v9qa-42-aB-c")));
        assert!(write(8, parts(8)).expect("an id").ends_with("*7=k3v9qa-42-aB-c"));
        assert!(write(9, parts(9)).expect("an id").ends_with("*8=k3v9qa-42"));
        let logs = [(key(0), Some(".A-B-C")), (key(1), Some("17-3"))];
        let nine = logs.into_iter().chain((2..9).map(|server| (key(server), None)));
        let nine: Vec<_> = nine.collect();
        assert_eq!(write(9, nine.into_iter()).expect("an id"), "9*0=.A-B-C*1=17-3");
    }
}
