//! What is kept of a channel, and how long it stays followed without subscribers.
//!
//! Several routes may lead to one channel, each with settings of its own. What each route promises must hold,
//! whichever was requested first. So a channel gets the most of what all routes that could lead to it say,
//! not what the route of one stream says.

use std::collections::HashMap;
use std::time::Duration;

use ssegate_format::Format;

use crate::Ids;
use crate::Topic;

/// What is kept of a channel while it is followed: the newest events within all three bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistorySettings {
    /// The most events.
    pub count: usize,
    /// The most bytes of their frames.
    pub bytes: usize,
    /// The longest time since an event was received.
    pub age: Duration,
}

/// What is kept of a channel's past, and how long it is followed without subscribers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// `None`: nothing.
    pub history: Option<HistorySettings>,
    /// How long it is followed after its last subscriber has left.
    pub linger: Duration,
}

/// The retention of the channels that one route can lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionRule {
    /// Their names.
    pub names: NameShape,
    /// How the route decodes their payloads.
    pub format: Format,
    /// The ids that their events have.
    pub ids: Ids,
    /// What is kept of them.
    pub retention: Retention,
}

/// The names that a template makes: its literal parts in order, with anything between two of them, as
/// in `user:` and ``. A single part is a whole name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameShape(Vec<Box<str>>);

/// The rules of all routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionRules(HashMap<(Format, Ids), FormatRules>);

/// The rules for one format and kind of ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct FormatRules {
    whole: HashMap<Box<str>, Retention>,
    shapes: Vec<(NameShape, Retention)>,
}

impl HistorySettings {
    /// The least that is kept of a log, even if its route keeps nothing.
    pub const LEAST: Self = Self { count: 100, bytes: 256 << 10, age: Duration::from_secs(60) };
}

impl Default for HistorySettings {
    fn default() -> Self {
        Self { count: 1000, bytes: 4 << 20, age: Duration::from_secs(300) }
    }
}

impl Retention {
    /// The most of both.
    #[must_use]
    pub fn or_more(self, other: Self) -> Self {
        let history = match (self.history, other.history) {
            (Some(one), Some(other)) => Some(HistorySettings {
                count: one.count.max(other.count),
                bytes: one.bytes.max(other.bytes),
                age: one.age.max(other.age),
            }),
            (one, other) => one.or(other),
        };
        Self { history, linger: self.linger.max(other.linger) }
    }
}

impl NameShape {
    /// The parts of a name; at least one.
    pub fn new(parts: Vec<String>) -> Self {
        debug_assert!(!parts.is_empty());
        Self(parts.into_iter().map(String::into_boxed_str).collect())
    }

    fn matches(&self, name: &str) -> bool {
        let [first, middle @ .., last] = &*self.0 else {
            return self.0.first().is_some_and(|whole| **whole == *name);
        };
        let Some(mut rest) = name.strip_prefix(&**first) else { return false };
        for part in middle {
            let Some((_, after)) = rest.split_once(&**part) else { return false };
            rest = after;
        }
        rest.ends_with(&**last)
    }
}

impl RetentionRules {
    /// The rules of all routes.
    pub fn new(rules: impl IntoIterator<Item = RetentionRule>) -> Self {
        let mut by_format: HashMap<_, FormatRules> = HashMap::new();
        for RetentionRule { names, format, ids, retention } in rules {
            let of_format = by_format.entry((format, ids)).or_default();
            let known = match &*names.0 {
                [whole] => Some(of_format.whole.entry(whole.clone()).or_insert(retention)),
                _ => {
                    let known = of_format.shapes.iter_mut().find(|(shape, _)| *shape == names);
                    known.map(|(_, known)| known)
                }
            };
            match known {
                Some(known) => *known = known.or_more(retention),
                None => of_format.shapes.push((names, retention)),
            }
        }
        Self(by_format)
    }

    /// The most that any rule says for this channel; `None` if no rule matches.
    pub(crate) fn of(&self, topic: &Topic) -> Option<Retention> {
        let rules = self.0.get(&(topic.format, topic.ids))?;
        let name = topic.subscription.name.as_str();
        let shapes = rules.shapes.iter().filter(|(shape, _)| shape.matches(name));
        let all = rules.whole.get(name).into_iter().chain(shapes.map(|(_, retention)| retention));
        all.copied().reduce(Retention::or_more)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ssegate_format::Format;

    use super::{NameShape, Retention, RetentionRule, RetentionRules};
    use crate::HistorySettings;
    use crate::Topic;
    use crate::{ChannelName, Ids, Subscription};

    fn shape(parts: &[&str]) -> NameShape {
        NameShape::new(parts.iter().map(|part| (*part).to_owned()).collect())
    }

    fn rule(parts: &[&str], count: usize, seconds: u64) -> RetentionRule {
        let history = HistorySettings { count, ..HistorySettings::default() };
        RetentionRule {
            names: shape(parts),
            format: Format::Raw,
            ids: Ids::Ours,
            retention: Retention { history: Some(history), linger: Duration::from_secs(seconds) },
        }
    }

    #[test]
    fn a_shape_matches_the_names_of_its_template() {
        for (parts, name, matches) in [
            (&["news"][..], "news", true),
            (&["news"], "newss", false),
            (&["", ""], "anything", true),
            (&["user:", ""], "user:7", true),
            (&["user:", ""], "users:7", false),
            (&["", ":", ":log"], "a:b:log", true),
            (&["", ":", ":log"], "a:log", false),
            (&["a", "a"], "a", false),
            (&["a", "a"], "aa", true),
        ] {
            assert_eq!(shape(parts).matches(name), matches, "{parts:?} {name}");
        }
    }

    #[test]
    fn a_channel_gets_the_most_that_any_route_says() {
        let other = RetentionRule { format: Format::Envelope, ..rule(&["", ""], 9999, 9999) };
        let rules = RetentionRules::new([
            rule(&["news"], 2, 60),
            rule(&["news"], 5, 1),
            rule(&["n", ""], 3, 90),
            rule(&["user:", ""], 1000, 1),
            other,
        ]);
        let of = |name: &str| {
            let name = ChannelName::new(name).expect("a name");
            let subscription = Subscription { name, is_pattern: false };
            let retention =
                rules.of(&Topic { subscription, format: Format::Raw, ids: Ids::Ours })?;
            Some((retention.history?.count, retention.linger.as_secs()))
        };
        assert_eq!(of("news"), Some((5, 90)));
        assert_eq!(of("names"), Some((3, 90)));
        assert_eq!(of("user:7"), Some((1000, 1)));
        assert_eq!(of("x"), None);
    }
}
