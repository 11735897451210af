//! The largest of many things, within a bound.

/// The `max` things with the largest keys of those that were offered.
#[derive(Debug)]
pub(crate) struct TopList<T> {
    max: usize,
    // The largest first.
    items: Vec<(u64, T)>,
}

impl<T> TopList<T> {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, items: Vec::new() }
    }

    /// Takes a thing, unless there are enough with larger keys. `item` is called only for one that is taken.
    pub(crate) fn offer(&mut self, key: u64, item: impl FnOnce() -> T) {
        let place = self.items.partition_point(|(known, _)| *known >= key);
        if place < self.max {
            self.items.insert(place, (key, item()));
            self.items.truncate(self.max);
        }
    }

    /// The things that were taken, the largest first.
    pub(crate) fn into_items(self) -> impl Iterator<Item = T> {
        self.items.into_iter().map(|(_, item)| item)
    }
}

#[cfg(test)]
mod tests {
    use super::TopList;

    #[test]
    fn the_largest_are_kept_and_of_equal_ones_the_first() {
        let mut top = TopList::new(3);
        for (key, name) in [(5, "a"), (1, "b"), (9, "c"), (5, "d"), (0, "e"), (7, "f"), (9, "g")] {
            top.offer(key, || name);
        }
        assert_eq!(top.into_items().collect::<Vec<_>>(), ["c", "g", "f"]);
        let mut none = TopList::new(0);
        none.offer(1, || "x");
        assert_eq!(none.into_items().collect::<Vec<&str>>(), Vec::<&str>::new());
    }
}
