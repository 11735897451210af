//! What each side says of itself (RFC 9113, section 6.5).

use super::error::{Code, Fault};
use super::frame::{self, DEFAULT_WINDOW, MAX_31_BITS, MAX_PAYLOAD, kind, setting};
use crate::server::Http2Settings;

/// What the client has said, as far as it matters to who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PeerSettings {
    /// What we may send on a new stream.
    pub(super) initial_window: u32,
    /// The largest payload that it takes.
    pub(super) max_payload: usize,
}

impl Default for PeerSettings {
    fn default() -> Self {
        Self { initial_window: DEFAULT_WINDOW, max_payload: MAX_PAYLOAD }
    }
}

impl PeerSettings {
    /// Takes what a SETTINGS frame says, in its order.
    ///
    /// # Errors
    /// A value that is not allowed.
    pub(super) fn update(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let (settings, rest) = payload.as_chunks::<{ setting::SIZE }>();
        if !rest.is_empty() {
            return Err(Fault::frame_size("a setting that is cut short"));
        }
        for &[i0, i1, v0, v1, v2, v3] in settings {
            let value = u32::from_be_bytes([v0, v1, v2, v3]);
            match u16::from_be_bytes([i0, i1]) {
                setting::ENABLE_PUSH if value > 1 => {
                    return Err(Fault::protocol("SETTINGS_ENABLE_PUSH that is no 0 and no 1"));
                }
                setting::INITIAL_WINDOW_SIZE if value > MAX_31_BITS => {
                    let what = "SETTINGS_INITIAL_WINDOW_SIZE beyond 31 bits";
                    return Err(Fault::Connection(Code::FLOW_CONTROL_ERROR, what));
                }
                setting::INITIAL_WINDOW_SIZE => self.initial_window = value,
                setting::MAX_FRAME_SIZE if (1 << 14..1 << 24).contains(&value) => {
                    self.max_payload = value as usize;
                }
                setting::MAX_FRAME_SIZE => {
                    return Err(Fault::protocol("SETTINGS_MAX_FRAME_SIZE out of its bounds"));
                }
                // What a client keeps of header tables and lists is its own affair: we use no
                // dynamic table. What is not known is ignored.
                _ => {}
            }
        }
        Ok(())
    }
}

/// What a client may send on the whole connection, in octets: no setting makes it smaller than it is
/// before anybody says otherwise.
pub(super) fn connection_window(settings: &Http2Settings) -> u32 {
    settings.connection_window.max(DEFAULT_WINDOW)
}

/// What we say first: our settings, and the window of the connection.
pub(super) fn put_first(out: &mut Vec<u8>, settings: &Http2Settings) {
    let ours = [
        (setting::MAX_CONCURRENT_STREAMS, settings.max_concurrent_streams),
        (setting::INITIAL_WINDOW_SIZE, settings.stream_window),
        (setting::MAX_HEADER_LIST_SIZE, settings.max_header_list_bytes),
        (setting::ENABLE_CONNECT_PROTOCOL, 1),
    ];
    frame::put_head(out, ours.len() * setting::SIZE, kind::SETTINGS, 0, 0);
    for (id, value) in ours {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
    let more = connection_window(settings) - DEFAULT_WINDOW;
    if more > 0 {
        frame::put_head(out, 4, kind::WINDOW_UPDATE, 0, 0);
        out.extend_from_slice(&more.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, PeerSettings};
    use crate::server::http2::error::Code;

    fn setting(id: u16, value: u32) -> Vec<u8> {
        [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
    }

    #[test]
    fn what_matters_is_taken_and_the_rest_ignored() {
        let mut settings = PeerSettings::default();
        let said = [setting(0x4, 0), setting(0x5, 1 << 20), setting(0xff, 7), setting(0x1, 0)];
        settings.update(&said.concat()).expect("allowed");
        assert_eq!(settings, PeerSettings { initial_window: 0, max_payload: 1 << 20 });
    }

    #[test]
    fn what_is_not_allowed_ends_the_connection() {
        for (said, code) in [
            (setting(0x2, 2), Code::PROTOCOL_ERROR),
            (setting(0x4, 1 << 31), Code::FLOW_CONTROL_ERROR),
            (setting(0x5, (1 << 14) - 1), Code::PROTOCOL_ERROR),
            (setting(0x5, 1 << 24), Code::PROTOCOL_ERROR),
            (vec![0; 5], Code::FRAME_SIZE_ERROR),
        ] {
            let result = PeerSettings::default().update(&said);
            assert!(
                matches!(result, Err(Fault::Connection(found, _)) if found == code),
                "{said:?}"
            );
        }
    }
}
