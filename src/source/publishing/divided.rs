//! The results of publications of one request that were made in parts, at several servers or nodes.

use super::publication::{JobResult, NotPublished, PublicationOutcome, Receipt};

/// What is known about the parts of a request.
#[derive(Debug)]
pub(crate) struct DividedOutcome {
    receipts: Vec<Option<Receipt>>,
    is_repeated: bool,
    failure: Option<NotPublished>,
}

impl DividedOutcome {
    /// Nothing is known yet of these many publications.
    pub(crate) fn new(publications: usize) -> Self {
        Self { receipts: vec![None; publications], is_repeated: true, failure: None }
    }

    /// Records the result of a part, for these publications of the request.
    pub(crate) fn take(&mut self, indexes: &[usize], result: JobResult) {
        match result {
            Ok(PublicationOutcome { receipts, is_repeated }) => {
                self.is_repeated &= is_repeated;
                for (&index, receipt) in indexes.iter().zip(receipts) {
                    self.receipts[index] = Some(receipt);
                }
            }
            Err(why) => self.fail(why),
        }
    }

    /// Records that a part is not known to be published. An uncertain part counts more than one
    /// that was not sent.
    pub(crate) fn fail(&mut self, why: NotPublished) {
        if self.failure.is_none_or(is_unsent) {
            self.failure = Some(why);
        }
    }

    /// Returns the result of the request, once all its parts have completed.
    ///
    /// # Errors
    /// A part is not known to be published.
    pub(crate) fn result(self) -> JobResult {
        let Self { receipts, is_repeated, failure } = self;
        let is_any_made = receipts.iter().any(Option::is_some);
        let receipts: Option<Vec<_>> = receipts.into_iter().collect();
        match (receipts, failure) {
            (Some(receipts), None) => Ok(PublicationOutcome { receipts, is_repeated }),
            // Some parts were published: an error that says that nothing was sent would be wrong.
            (_, Some(failure)) if is_any_made && is_unsent(failure) => Err(NotPublished::Lost),
            (_, Some(failure)) => Err(failure),
            (None, None) => Err(NotPublished::Lost),
        }
    }
}

/// Whether nothing of the part was sent.
fn is_unsent(why: NotPublished) -> bool {
    matches!(why, NotPublished::Away | NotPublished::Busy | NotPublished::Stopping)
}

#[cfg(test)]
mod tests {
    use super::DividedOutcome;
    use crate::source::publishing::{JobResult, NotPublished, PublicationOutcome, Receipt};

    fn made(receivers: &[u64], is_repeated: bool) -> JobResult {
        let receipts = receivers.iter().map(|number| Receipt::Receivers(*number)).collect();
        Ok(PublicationOutcome { receipts, is_repeated })
    }

    fn after(parts: [(&[usize], JobResult); 2]) -> JobResult {
        let mut outcome = DividedOutcome::new(3);
        parts.into_iter().for_each(|(indexes, result)| outcome.take(indexes, result));
        outcome.result()
    }

    #[test]
    fn receipts_are_in_the_order_of_the_request() {
        let all = after([(&[1], made(&[7], true)), (&[0, 2], made(&[5, 6], false))]);
        assert_eq!(all, made(&[5, 7, 6], false));
        let again = after([(&[1], made(&[7], true)), (&[0, 2], made(&[5, 6], true))]);
        assert!(again.expect("all").is_repeated);
    }

    #[test]
    fn nothing_is_said_to_be_unpublished_where_a_part_is_not() {
        let away = || Err(NotPublished::Away);
        let lost = || Err(NotPublished::Lost);
        for (one, other, expected) in [
            (made(&[7], false), away(), NotPublished::Lost),
            (away(), away(), NotPublished::Away),
            (away(), lost(), NotPublished::Lost),
            (lost(), away(), NotPublished::Lost),
            (made(&[7], false), Err(NotPublished::KeyReused), NotPublished::KeyReused),
        ] {
            assert_eq!(after([(&[1], one), (&[0, 2], other)]), Err(expected));
        }
    }
}
