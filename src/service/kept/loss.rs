//! How a client learns that it cannot have all events.

use bytes::Bytes;

use crate::route::OnLost;

/// Why events are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) enum Loss {
    /// The backend failed, or its stream was cut off.
    Broken,
    /// The next events for the client are not kept any more.
    Behind,
}

impl Loss {
    fn reason(self) -> &'static str {
        match self {
            Self::Broken => "lost",
            Self::Behind => "history",
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::Broken => "the stream broke off",
            Self::Behind => "events of the stream are not kept any more",
        }
    }

    /// The text that reports the loss in a stream, between two events; `None`: the stream is cut. `id`: that of
    /// the last event before the next one, if there is a next one.
    pub(in crate::service) fn report(self, how: OnLost, id: Option<&str>) -> Option<Bytes> {
        let message = self.message();
        let text = match how {
            OnLost::Cut => return None,
            OnLost::OpenAi => format!(
                "event: error\ndata: {{\"error\":{{\"message\":\"{message}\",\"type\":\"server_error\",\
                 \"code\":\"stream_lost\"}}}}\n\n"
            ),
            OnLost::Anthropic => format!(
                "event: error\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"api_error\",\
                 \"message\":\"{message}\"}}}}\n\n"
            ),
            OnLost::AiSdk => format!(
                "data: {{\"type\":\"error\",\"errorText\":\"{message}\"}}\n\ndata: [DONE]\n\n"
            ),
            OnLost::Gap => {
                let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
                format!("event: gap\ndata: {{\"reason\":\"{}\"}}\n{id}\n", self.reason())
            }
        };
        Some(text.into())
    }

    /// Whether the stream continues after the loss.
    pub(in crate::service) fn goes_on(self, how: OnLost) -> bool {
        self == Self::Behind && how == OnLost::Gap
    }
}
