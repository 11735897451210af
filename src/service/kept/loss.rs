//! How a client is told that it cannot have all events.

use bytes::Bytes;

use crate::route::OnLost;

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) enum Loss {
    /// The backend failed, or its stream was cut off.
    Broken,
    /// What the client wants next is not kept any more.
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

    /// What is sent in a stream, between two events; `None`: it is cut. `id`: that of the last event before those
    /// that follow, if any do.
    pub(in crate::service) fn told(self, how: OnLost, id: Option<&str>) -> Option<Bytes> {
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

    /// Whether the stream goes on after it.
    pub(in crate::service) fn goes_on(self, how: OnLost) -> bool {
        self == Self::Behind && how == OnLost::Gap
    }
}
