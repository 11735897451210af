//! The settings of both ends (RFC 9113, section 6.5).

use ssegate_http2::error::ErrorCode;
use ssegate_http2::frame::{self, DEFAULT_WINDOW, MAX_31_BITS, MAX_FRAME_SIZE, setting};

use super::reason::ProtocolViolation;

/// The backend's settings that a client needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BackendSettings {
    /// SETTINGS_MAX_CONCURRENT_STREAMS.
    pub(super) max_streams: usize,
    /// SETTINGS_INITIAL_WINDOW_SIZE, in octets.
    pub(super) initial_window: u32,
    /// SETTINGS_MAX_FRAME_SIZE, in octets.
    pub(super) max_payload: usize,
}

impl Default for BackendSettings {
    fn default() -> Self {
        Self {
            max_streams: usize::MAX,
            initial_window: DEFAULT_WINDOW,
            max_payload: MAX_FRAME_SIZE,
        }
    }
}

impl BackendSettings {
    /// Applies the payload of a SETTINGS frame, in order.
    ///
    /// # Errors
    /// A value out of range: a connection error.
    pub(super) fn update(&mut self, payload: &[u8]) -> Result<(), ProtocolViolation> {
        let Some(settings) = frame::read_settings(payload) else {
            return Err(ProtocolViolation::Connection(
                ErrorCode::FRAME_SIZE_ERROR,
                "a truncated setting",
            ));
        };
        for (id, value) in settings {
            match id {
                setting::MAX_CONCURRENT_STREAMS => self.max_streams = value as usize,
                setting::INITIAL_WINDOW_SIZE if value > MAX_31_BITS => {
                    let what = "SETTINGS_INITIAL_WINDOW_SIZE over 2^31 - 1";
                    return Err(ProtocolViolation::Connection(ErrorCode::FLOW_CONTROL_ERROR, what));
                }
                setting::INITIAL_WINDOW_SIZE => self.initial_window = value,
                setting::MAX_FRAME_SIZE if (1 << 14..1 << 24).contains(&value) => {
                    self.max_payload = value as usize;
                }
                setting::MAX_FRAME_SIZE => {
                    return Err(ProtocolViolation::protocol(
                        "SETTINGS_MAX_FRAME_SIZE out of range",
                    ));
                }
                setting::ENABLE_PUSH if value != 0 => {
                    return Err(ProtocolViolation::protocol("SETTINGS_ENABLE_PUSH from a server"));
                }
                // HEADER_TABLE_SIZE: the encoder uses no dynamic table. MAX_HEADER_LIST_SIZE is
                // advisory: the backend itself responds to a request over it. Unknown settings are
                // ignored.
                _ => {}
            }
        }
        Ok(())
    }
}

/// Writes the frames after the client connection preface: SETTINGS, and a WINDOW_UPDATE of the
/// connection.
///
/// The connection window is opened to its maximum, so that only stream windows limit the backend:
/// data that one client does not read takes nothing from the other streams.
pub(super) fn put_initial_frames(out: &mut Vec<u8>, stream_window: u32, max_header_list: usize) {
    let list = u32::try_from(max_header_list).unwrap_or(u32::MAX);
    let ours = [
        (setting::ENABLE_PUSH, 0),
        (setting::INITIAL_WINDOW_SIZE, stream_window),
        (setting::MAX_HEADER_LIST_SIZE, list),
    ];
    frame::put_settings(out, &ours);
    frame::put_window_update(out, 0, MAX_31_BITS - DEFAULT_WINDOW);
}

#[cfg(test)]
mod tests {
    use ssegate_http2::error::ErrorCode;

    use super::{BackendSettings, ProtocolViolation};

    fn setting(id: u16, value: u32) -> Vec<u8> {
        [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
    }

    #[test]
    fn known_settings_are_applied_and_others_ignored() {
        let mut settings = BackendSettings::default();
        let payload = [
            setting(0x3, 4),
            setting(0x4, 0),
            setting(0x5, 1 << 20),
            setting(0x2, 0),
            setting(0xff, 7),
        ];
        settings.update(&payload.concat()).expect("allowed");
        let expected = BackendSettings { max_streams: 4, initial_window: 0, max_payload: 1 << 20 };
        assert_eq!(settings, expected);
    }

    #[test]
    fn an_invalid_setting_is_a_connection_error() {
        for (payload, code) in [
            (setting(0x2, 1), ErrorCode::PROTOCOL_ERROR),
            (setting(0x4, 1 << 31), ErrorCode::FLOW_CONTROL_ERROR),
            (setting(0x5, (1 << 14) - 1), ErrorCode::PROTOCOL_ERROR),
            (setting(0x5, 1 << 24), ErrorCode::PROTOCOL_ERROR),
            (vec![0; 5], ErrorCode::FRAME_SIZE_ERROR),
        ] {
            let result = BackendSettings::default().update(&payload);
            assert!(
                matches!(result, Err(ProtocolViolation::Connection(found, _)) if found == code),
                "{payload:?}"
            );
        }
    }
}
