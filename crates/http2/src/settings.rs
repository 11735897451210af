//! SETTINGS of both sides (RFC 9113, section 6.5).

use std::time::Duration;

use super::error::{ErrorCode, ReceiveError};
use super::frame::{self, DEFAULT_WINDOW, MAX_31_BITS, MAX_FRAME_SIZE, setting};

/// The settings of HTTP/2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http2Settings {
    /// SETTINGS_MAX_CONCURRENT_STREAMS. Chromium opens 256 at most.
    pub max_concurrent_streams: u32,
    /// SETTINGS_MAX_HEADER_LIST_SIZE, in bytes.
    pub max_header_list_bytes: u32,
    /// SETTINGS_INITIAL_WINDOW_SIZE: the initial flow-control window of a stream, in bytes.
    pub stream_window: u32,
    /// The size a stream's window may grow to while its body is read as fast as it arrives.
    pub max_stream_window: u32,
    /// The flow-control window of a connection, in bytes, without what it reserves of
    /// `upload_memory`.
    pub connection_window: u32,
    /// How long a client may take to send a whole header block, or a whole frame other than DATA.
    pub header_timeout: Duration,
    /// How long a connection may be silent before it is sent a PING.
    pub keep_alive_interval: Duration,
    /// How long to wait for the PING's ACK before the connection is closed.
    pub keep_alive_timeout: Duration,
}

impl Default for Http2Settings {
    fn default() -> Self {
        Self {
            max_concurrent_streams: 256,
            max_header_list_bytes: 16 << 10,
            stream_window: 64 << 10,
            max_stream_window: 4 << 20,
            connection_window: 1 << 20,
            header_timeout: Duration::from_secs(10),
            keep_alive_interval: Duration::from_secs(20),
            keep_alive_timeout: Duration::from_secs(20),
        }
    }
}

/// The client's settings that limit what we send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientSettings {
    /// SETTINGS_INITIAL_WINDOW_SIZE: the send window of a new stream.
    pub(crate) initial_window: u32,
    /// SETTINGS_MAX_FRAME_SIZE: the largest payload that it accepts.
    pub(crate) max_frame_size: usize,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self { initial_window: DEFAULT_WINDOW, max_frame_size: MAX_FRAME_SIZE }
    }
}

impl ClientSettings {
    /// Applies the payload of a SETTINGS frame, in its order.
    ///
    /// # Errors
    /// A value is out of range, or the payload is cut short.
    pub(crate) fn update(&mut self, payload: &[u8]) -> Result<(), ReceiveError> {
        let Some(settings) = frame::read_settings(payload) else {
            return Err(ReceiveError::frame_size("SETTINGS whose length is not a multiple of 6"));
        };
        for (id, value) in settings {
            match id {
                setting::ENABLE_PUSH if value > 1 => {
                    return Err(ReceiveError::protocol("SETTINGS_ENABLE_PUSH is neither 0 nor 1"));
                }
                setting::INITIAL_WINDOW_SIZE if value > MAX_31_BITS => {
                    let what = "SETTINGS_INITIAL_WINDOW_SIZE above 2^31-1";
                    return Err(ReceiveError::Connection(ErrorCode::FLOW_CONTROL_ERROR, what));
                }
                setting::INITIAL_WINDOW_SIZE => self.initial_window = value,
                setting::MAX_FRAME_SIZE if (1 << 14..1 << 24).contains(&value) => {
                    self.max_frame_size = value as usize;
                }
                setting::MAX_FRAME_SIZE => {
                    return Err(ReceiveError::protocol("SETTINGS_MAX_FRAME_SIZE out of range"));
                }
                // The limits on header tables and lists do not matter: the encoder has no dynamic
                // table, and the list size is advisory. Unknown settings are ignored (section
                // 6.5.2).
                _ => {}
            }
        }
        Ok(())
    }
}

/// The receive window of the connection at first, in octets. No setting can lower it below the
/// default of 65,535 (section 6.9.2).
pub(crate) fn connection_window(settings: &Http2Settings) -> u32 {
    settings.connection_window.max(DEFAULT_WINDOW)
}

/// Writes the server connection preface (section 3.4): our SETTINGS, and the window of the
/// connection.
pub(crate) fn put_server_preface(out: &mut Vec<u8>, settings: &Http2Settings) {
    let ours = [
        (setting::MAX_CONCURRENT_STREAMS, settings.max_concurrent_streams),
        (setting::INITIAL_WINDOW_SIZE, settings.stream_window),
        (setting::MAX_HEADER_LIST_SIZE, settings.max_header_list_bytes),
        (setting::ENABLE_CONNECT_PROTOCOL, 1),
    ];
    frame::put_settings(out, &ours);
    let more = connection_window(settings) - DEFAULT_WINDOW;
    if more > 0 {
        frame::put_window_update(out, 0, more);
    }
}

#[cfg(test)]
mod tests {
    use super::{ClientSettings, ReceiveError};
    use crate::error::ErrorCode;

    fn setting(id: u16, value: u32) -> Vec<u8> {
        [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
    }

    #[test]
    fn known_settings_are_applied_and_others_ignored() {
        let mut settings = ClientSettings::default();
        let payload = [setting(0x4, 0), setting(0x5, 1 << 20), setting(0xff, 7), setting(0x1, 0)];
        settings.update(&payload.concat()).expect("allowed");
        assert_eq!(settings, ClientSettings { initial_window: 0, max_frame_size: 1 << 20 });
    }

    #[test]
    fn a_setting_out_of_range_is_a_connection_error() {
        for (payload, code) in [
            (setting(0x2, 2), ErrorCode::PROTOCOL_ERROR),
            (setting(0x4, 1 << 31), ErrorCode::FLOW_CONTROL_ERROR),
            (setting(0x5, (1 << 14) - 1), ErrorCode::PROTOCOL_ERROR),
            (setting(0x5, 1 << 24), ErrorCode::PROTOCOL_ERROR),
            (vec![0; 5], ErrorCode::FRAME_SIZE_ERROR),
        ] {
            let result = ClientSettings::default().update(&payload);
            assert!(
                matches!(result, Err(ReceiveError::Connection(found, _)) if found == code),
                "{payload:?}"
            );
        }
    }
}
