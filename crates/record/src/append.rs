//! What a gateway asks Redis to append, and the rule by which it is appended.
//!
//! The gateway has this rule as a script in Redis, which a test compares with [`AppendRequest::apply`].

use crate::{RecordId, RecordRule, ReferenceLog};

/// What has to be appended to a log, in ascending order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AppendRequest<P> {
    /// The gateway has received everything after this id.
    pub since: RecordId,
    /// If the log ends before `since`, a gap is appended first: no other gateway has appended what is missing.
    pub may_gap: bool,
    /// What follows `since`. May be empty: the request then only asks how far the log reaches.
    pub items: Vec<(RecordId, LogItem<P>)>,
}

/// One item of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LogItem<P> {
    /// A message.
    Message(P),
    /// Nothing: the log is whole up to this id.
    Seal,
}

/// The reply of the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AppendAnswer {
    /// The newest id of the log, after the request: everything up to there is in it, or was never to be.
    pub top: RecordId,
    /// The log ends before `since`, and nothing was appended.
    pub is_missing: bool,
}

impl<P: Clone> AppendRequest<P> {
    /// Applies the request to `log` by the rule of the script.
    pub fn apply(&self, log: &mut ReferenceLog<P>) -> AppendAnswer {
        let is_behind = log.top < self.since && RecordRule::ReachesSince.holds();
        let seals_only = self.items.iter().all(|(_, item)| matches!(item, LogItem::Seal));
        let is_exempt = seals_only && !RecordRule::SealReachesSince.holds();
        if is_behind && !is_exempt {
            if !self.may_gap {
                return AppendAnswer { top: log.top, is_missing: true };
            }
            log.add(self.since, None);
        }
        for (id, item) in &self.items {
            if *id > log.top || !RecordRule::NotBehindTop.holds() {
                match item {
                    LogItem::Message(message) => log.add(*id, Some(message.clone())),
                    LogItem::Seal => log.top = *id,
                }
            }
        }
        AppendAnswer { top: log.top, is_missing: false }
    }
}

#[cfg(test)]
mod tests {
    use super::{AppendAnswer, AppendRequest, LogItem};
    use crate::{RecordId, ReferenceLog};

    fn id(mark: u64, k: u64) -> RecordId {
        RecordId { mark, k }
    }

    fn request(since: RecordId, items: &[(RecordId, char)]) -> AppendRequest<char> {
        let item = |&(id, message)| {
            (id, if message == '|' { LogItem::Seal } else { LogItem::Message(message) })
        };
        AppendRequest { since, may_gap: false, items: items.iter().map(item).collect() }
    }

    #[test]
    fn each_message_is_appended_once_and_in_order() {
        let mut log = ReferenceLog::default();
        let one = AppendRequest {
            may_gap: true,
            ..request(id(5, 0), &[(id(5, 1), 'a'), (id(5, 2), 'b')])
        };
        let two = request(id(5, 0), &[(id(5, 1), 'a'), (id(5, 2), 'b'), (id(6, 1), 'c')]);
        one.apply(&mut log);
        two.apply(&mut log);
        one.apply(&mut log);
        let texts: String = log.entries.iter().map(|(_, message)| message.unwrap_or('?')).collect();
        assert_eq!(texts, "?abc");
    }

    #[test]
    fn a_log_that_ends_too_early_is_left_alone_until_there_may_be_a_gap() {
        let mut log = ReferenceLog::default();
        log.add(id(5, 3), Some('a'));
        let late = request(id(7, 0), &[(id(7, 1), 'b')]);
        assert_eq!(late.apply(&mut log), AppendAnswer { top: id(5, 3), is_missing: true });
        assert_eq!(log.entries.len(), 1);
        let late = AppendRequest { may_gap: true, ..late };
        assert_eq!(late.apply(&mut log), AppendAnswer { top: id(7, 1), is_missing: false });
        assert_eq!(log.entries[1..], [(id(7, 0), None), (id(7, 1), Some('b'))]);
    }

    #[test]
    fn a_seal_moves_the_top_and_adds_nothing() {
        let mut log = ReferenceLog::default();
        log.add(id(5, 3), Some('a'));
        let answer = request(id(5, 3), &[(id(7, 0), '|')]).apply(&mut log);
        assert_eq!((answer.top, log.entries.len()), (id(7, 0), 1));
        let late = request(id(7, 0), &[(id(7, 1), 'b')]).apply(&mut log);
        assert_eq!((late.is_missing, log.entries.len()), (false, 2));
    }
}
