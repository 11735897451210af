//! The error of a body.

use std::error::Error;
use std::io::{self, ErrorKind};

use ssegate_http2::IncompleteBody;

/// Any error of a body.
pub type BodyError = Box<dyn Error + Send + Sync>;

/// Whether the body of a request ends early because its client has left, or has closed its sending side: over HTTP/1.1 its
/// connection ends in the middle of the body, over HTTP/2 its stream.
pub fn has_client_left(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let is_end = |error: &io::Error| {
            matches!(
                error.kind(),
                ErrorKind::UnexpectedEof
                    | ErrorKind::ConnectionReset
                    | ErrorKind::ConnectionAborted
                    | ErrorKind::BrokenPipe
            )
        };
        if error.is::<IncompleteBody>() || error.downcast_ref::<io::Error>().is_some_and(is_end) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind};

    use ssegate_http2::IncompleteBody;

    use super::{BodyError, has_client_left};

    #[derive(Debug, thiserror::Error)]
    #[error("the body failed")]
    struct OfBody(#[source] BodyError);

    #[test]
    fn a_body_that_ends_early_is_told_from_one_that_is_malformed() {
        for (error, expected) in [
            (BodyError::from(IncompleteBody), true),
            (io::Error::from(ErrorKind::UnexpectedEof).into(), true),
            (io::Error::from(ErrorKind::ConnectionReset).into(), true),
            (io::Error::from(ErrorKind::InvalidInput).into(), false),
            (io::Error::from(ErrorKind::TimedOut).into(), false),
            ("malformed".into(), false),
        ] {
            assert_eq!(has_client_left(&*error), expected, "{error}");
            // As hyper does: the cause is behind an error of its own.
            let error = OfBody(Box::new(OfBody(error)));
            assert_eq!(has_client_left(&error), expected, "{error:?}");
        }
    }
}
