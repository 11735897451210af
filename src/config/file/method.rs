//! An HTTP method, as it is written.

use http::Method;
use schemars::JsonSchema;
use serde::Deserialize;

/// An HTTP method.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(rename = "Method")]
pub(crate) enum MethodFile {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Connect,
    Trace,
}

impl From<MethodFile> for Method {
    fn from(word: MethodFile) -> Self {
        match word {
            MethodFile::Get => Self::GET,
            MethodFile::Head => Self::HEAD,
            MethodFile::Post => Self::POST,
            MethodFile::Put => Self::PUT,
            MethodFile::Patch => Self::PATCH,
            MethodFile::Delete => Self::DELETE,
            MethodFile::Options => Self::OPTIONS,
            MethodFile::Connect => Self::CONNECT,
            MethodFile::Trace => Self::TRACE,
        }
    }
}
