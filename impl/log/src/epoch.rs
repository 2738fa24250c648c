//! The leader epoch cache: where each leader's epoch began in this log (KIP-101, KIP-279).

/// (epoch, start offset) pairs, both rising. It answers where an epoch ended, which is how replicas find the point at
/// which their logs part. Kafka's `LeaderEpochFileCache`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct EpochCache {
    entries: Vec<(i32, i64)>,
}

impl EpochCache {
    /// A cache of these entries, in order; those that contradict earlier ones replace them, as [`Self::assign`] does.
    pub fn from_entries(entries: impl IntoIterator<Item = (i32, i64)>) -> Self {
        let mut cache = Self::default();
        for (epoch, start) in entries {
            cache.assign(epoch, start);
        }
        cache
    }

    /// Says that `epoch` begins at `start`. A leader does so when it takes over, with its log end, before it has any
    /// data (KAFKA-7415); a batch of a new epoch does so by being appended. Entries that contradict the new one (with
    /// an epoch or a start at or above it) go, an epoch that wrote nothing among them. Whether anything changed.
    pub fn assign(&mut self, epoch: i32, start: i64) -> bool {
        if epoch < 0 || start < 0 {
            return false;
        }
        if let Some(&(last, at)) = self.entries.last()
            && last == epoch
            && start >= at
        {
            return false;
        }
        while self.entries.last().is_some_and(|&(e, s)| e >= epoch || s >= start) {
            self.entries.pop();
        }
        self.entries.push((epoch, start));
        true
    }

    /// The largest epoch, one that has written nothing included.
    pub fn latest(&self) -> Option<i32> {
        self.entries.last().map(|e| e.0)
    }

    /// Where an epoch ended, as (epoch, end offset), in a log that ends at `log_end`:
    /// the latest epoch → itself and the log's end; above the latest, or nothing known → `None`;
    /// in between → the largest known epoch up to it, and the start of the next one;
    /// below the first → the epoch asked for, and the first start.
    pub fn end_for(&self, epoch: i32, log_end: i64) -> Option<(i32, i64)> {
        if epoch < 0 {
            return None;
        }
        if self.latest() == Some(epoch) {
            return Some((epoch, log_end));
        }
        let higher = self.entries.partition_point(|e| e.0 <= epoch);
        let &(_, end) = self.entries.get(higher)?;
        let floor = higher.checked_sub(1).and_then(|i| self.entries.get(i)).map_or(epoch, |e| e.0);
        Some((floor, end))
    }

    /// The epoch of the record at `offset`, as far as the cache knows.
    pub fn epoch_at(&self, offset: i64) -> Option<i32> {
        let above = self.entries.partition_point(|e| e.1 <= offset);
        above.checked_sub(1).and_then(|i| self.entries.get(i)).map(|e| e.0)
    }

    /// Drops the entries that start at `to` or above it: the log now ends there. Whether anything changed.
    pub fn truncate_end(&mut self, to: i64) -> bool {
        let kept = self.entries.partition_point(|e| e.1 < to);
        let changed = kept < self.entries.len();
        self.entries.truncate(kept);
        changed
    }

    /// Drops the entries that end at `to` or below it: the log now starts there. The one in force at `to` then starts
    /// at `to`. Whether anything changed.
    pub fn truncate_start(&mut self, to: i64) -> bool {
        let above = self.entries.partition_point(|e| e.1 <= to);
        let Some(kept) = above.checked_sub(1) else { return false };
        let before = self.entries.clone();
        self.entries.drain(..kept);
        if let Some(first) = self.entries.first_mut() {
            first.1 = to;
        }
        self.entries != before
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// The entries, both columns rising.
    pub fn entries(&self) -> &[(i32, i64)] {
        &self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cache(entries: &[(i32, i64)]) -> EpochCache {
        EpochCache::from_entries(entries.iter().copied())
    }

    #[test]
    fn the_end_of_an_epoch_follows_kafkas_four_cases() {
        let c = cache(&[(2, 10), (4, 20), (7, 30)]);
        assert_eq!(c.end_for(7, 45), Some((7, 45)));
        assert_eq!(c.end_for(8, 45), None);
        assert_eq!(c.end_for(4, 45), Some((4, 30)));
        assert_eq!(c.end_for(6, 45), Some((4, 30)));
        assert_eq!(c.end_for(1, 45), Some((1, 10)));
        assert_eq!(c.end_for(-1, 45), None);
        assert_eq!(EpochCache::default().end_for(0, 0), None);
    }

    #[test]
    fn an_epoch_that_wrote_nothing_is_the_latest_until_another_starts_at_the_same_offset() {
        let mut c = cache(&[(1, 0), (2, 5)]);
        assert_eq!((c.latest(), c.end_for(2, 5)), (Some(2), Some((2, 5))));
        assert!(c.assign(3, 5));
        assert_eq!(c.entries(), [(1, 0), (3, 5)]);
        assert_eq!(c.end_for(2, 5), Some((1, 5)));
    }

    #[test]
    fn assigning_the_latest_epoch_again_keeps_its_start() {
        let mut c = cache(&[(1, 0), (2, 5)]);
        assert!(!c.assign(2, 9));
        assert!(!c.assign(2, 5));
        assert!(!c.assign(-1, 9));
        assert_eq!(c.entries(), [(1, 0), (2, 5)]);
    }

    #[test]
    fn truncation_takes_the_entries_that_start_where_the_log_now_ends() {
        let mut c = cache(&[(1, 0), (2, 5), (3, 8)]);
        assert!(c.truncate_end(5));
        assert_eq!(c.entries(), [(1, 0)]);
        assert!(!c.truncate_end(5));
        let mut c = cache(&[(1, 0), (2, 5), (3, 8)]);
        assert!(c.truncate_start(6));
        assert_eq!(c.entries(), [(2, 6), (3, 8)]);
        assert!(!cache(&[(1, 4)]).truncate_start(3));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Append(i32),
        Begin(i32),
        Truncate(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0i32..2).prop_map(Step::Append),
            1 => (1i32..3).prop_map(Step::Begin),
            1 => (0usize..12).prop_map(Step::Truncate),
        ]
    }

    proptest! {
        /// The reference is the log itself, as a list of the epoch of each record, and the epochs that have begun.
        #[test]
        fn the_cache_agrees_with_a_list_of_epochs(steps in prop::collection::vec(step(), 0..40)) {
            let mut cache = EpochCache::default();
            let mut log: Vec<i32> = Vec::new();
            // An epoch that has begun at the end of the log and has no record yet.
            let mut begun: Option<i32> = None;
            for step in steps {
                let latest = begun.or(log.last().copied());
                match step {
                    Step::Append(up) => {
                        let epoch = latest.unwrap_or(0) + up;
                        cache.assign(epoch, log.len() as i64);
                        log.push(epoch);
                        begun = None;
                    }
                    Step::Begin(up) => {
                        let epoch = latest.unwrap_or(0) + up;
                        cache.assign(epoch, log.len() as i64);
                        begun = Some(epoch);
                    }
                    Step::Truncate(to) if to <= log.len() => {
                        cache.truncate_end(to as i64);
                        log.truncate(to);
                        begun = None;
                    }
                    Step::Truncate(_) => {}
                }
                let latest = begun.or(log.last().copied());
                prop_assert_eq!(cache.latest(), latest);
                for (offset, epoch) in log.iter().enumerate() {
                    prop_assert_eq!(cache.epoch_at(offset as i64), Some(*epoch));
                }
                for asked in 0..latest.map_or(0, |l| l + 3) {
                    let end = cache.end_for(asked, log.len() as i64);
                    let first_above = log.iter().position(|e| *e > asked).or(begun.filter(|b| *b > asked).map(|_| log.len()));
                    let expected = match first_above {
                        _ if latest == Some(asked) => Some((asked, log.len() as i64)),
                        None => None,
                        Some(0) => Some((asked, 0)),
                        Some(end) => Some((log[end - 1], end as i64)),
                    };
                    prop_assert_eq!(end, expected, "epoch {} of {:?} begun {:?}", asked, log, begun);
                }
            }
        }
    }
}
