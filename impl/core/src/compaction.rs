//! Which part of a log the cleaner may clean, and how much it needs it: a pure question, asked by the shell
//! (LogCleanerManager.cleanableOffsets, grabFilthiestCompactedLog).

use bellwether_log::SegmentInfo;

/// How a topic is compacted, as its configuration says.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct CompactionPolicy {
    /// cleanup.policy has `compact`.
    pub compact: bool,
    /// min.compaction.lag.ms: a record younger than this is left alone (KIP-58).
    pub min_lag_ms: i64,
    /// max.compaction.lag.ms: one older than this makes its log dirty enough (KIP-354).
    pub max_lag_ms: i64,
    /// min.cleanable.dirty.ratio: how large a part of the log must be dirty.
    pub min_dirty_ratio: f64,
    /// delete.retention.ms: how long a tombstone stays that has been cleaned for the first time (KIP-534).
    pub delete_retention_ms: i64,
}

/// What a log is to be cleaned of.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Dirty {
    /// Everything below was cleaned already.
    pub from: i64,
    /// What may be cleaned ends here, with a segment.
    pub below: i64,
    /// The dirty part of what may be cleaned, in bytes: above 0, up to 1. The log with the largest is cleaned first.
    pub ratio: f64,
}

impl CompactionPolicy {
    /// What is to be cleaned at `now` (ms since 1970) of a log of these segments that starts at `log_start` and was cleaned up to `cleaned`,
    /// if ever. Whole segments only, below `stable` (the high watermark), and never the one that grows. None if there is nothing, or not enough of
    /// it. `first_timestamps` tells, of the segments from an offset on that grow no more, the largest timestamps of their first batches.
    pub fn dirty<E>(
        &self,
        segments: &[SegmentInfo],
        log_start: i64,
        cleaned: Option<i64>,
        stable: i64,
        now: i64,
        first_timestamps: impl FnOnce(i64) -> Result<Vec<i64>, E>,
    ) -> Result<Option<Dirty>, E> {
        let Some((active, grown)) = segments.split_last().filter(|_| self.compact) else { return Ok(None) };
        // A checkpoint that is not of this log, since it was cut or has lost its end, says nothing.
        let from = cleaned.filter(|c| (log_start..=active.end_offset).contains(c)).unwrap_or(log_start);
        let young = |s: &SegmentInfo| self.min_lag_ms > 0 && s.max_timestamp > now.saturating_sub(self.min_lag_ms);
        let may = |s: &&SegmentInfo| s.end_offset <= stable && (s.end_offset <= from || !young(s));
        let cleanable: Vec<_> = grown.iter().take_while(may).collect();
        let bytes = |dirty: bool| {
            let some = cleanable.iter().filter(|s| (s.end_offset > from) == dirty);
            some.map(|s| s.size).sum::<u64>()
        };
        let (clean, dirty) = (bytes(false), bytes(true));
        let Some(below) = cleanable.last().map(|s| s.end_offset).filter(|_| dirty > 0) else { return Ok(None) };
        let ratio = dirty as f64 / (clean + dirty) as f64;
        let enough = ratio > self.min_dirty_ratio
            || (self.max_lag_ms < i64::MAX && {
                let due = now.saturating_sub(self.max_lag_ms);
                first_timestamps(from)?.into_iter().any(|first| first > 0 && first < due)
            });
        Ok(enough.then_some(Dirty { from, below, ratio }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: CompactionPolicy = CompactionPolicy {
        compact: true,
        min_lag_ms: 0,
        max_lag_ms: i64::MAX,
        min_dirty_ratio: 0.5,
        delete_retention_ms: 0,
    };

    /// Segments of ten records and a hundred bytes each, with these largest timestamps.
    fn log(times: &[i64]) -> Vec<SegmentInfo> {
        let row = |(i, t): (usize, &i64)| {
            let base_offset = i as i64 * 10;
            SegmentInfo { base_offset, end_offset: base_offset + 10, size: 100, max_timestamp: *t }
        };
        times.iter().enumerate().map(row).collect()
    }

    fn ask(
        policy: CompactionPolicy,
        start: i64,
        cleaned: Option<i64>,
        stable: i64,
        now: i64,
    ) -> Option<(i64, i64, f64)> {
        let firsts = |from: i64| Ok::<_, ()>(vec![from, from + 10]);
        let dirty = policy.dirty(&log(&[100, 200, 300, 400, 500]), start, cleaned, stable, now, firsts);
        dirty.expect("read").map(|d| (d.from, d.below, d.ratio))
    }

    #[test]
    fn the_segment_that_grows_and_what_is_not_committed_are_left_alone() {
        assert_eq!(ask(POLICY, 0, None, 50, 0), Some((0, 40, 1.0)));
        assert_eq!(ask(POLICY, 0, None, 39, 0), Some((0, 30, 1.0)), "not a part of a segment");
        assert_eq!(ask(POLICY, 0, None, 9, 0), None);
        assert_eq!(ask(CompactionPolicy { compact: false, ..POLICY }, 0, None, 50, 0), None);
        assert_eq!(POLICY.dirty(&log(&[1]), 0, None, 10, 0, |_| Ok::<_, ()>(Vec::new())), Ok(None));
        assert_eq!(POLICY.dirty(&[], 0, None, 10, 0, |_| Ok::<_, ()>(Vec::new())), Ok(None));
    }

    #[test]
    fn a_log_is_cleaned_when_enough_of_it_is_dirty() {
        assert_eq!(ask(POLICY, 0, Some(20), 50, 0), None, "a half is not more than a half");
        assert_eq!(ask(POLICY, 0, Some(10), 50, 0), Some((10, 40, 0.75)));
        assert_eq!(ask(POLICY, 0, Some(19), 50, 0), Some((19, 40, 0.75)), "the last run ended within a segment");
        let always = CompactionPolicy { min_dirty_ratio: 0.0, ..POLICY };
        assert_eq!(ask(always, 0, Some(30), 50, 0), Some((30, 40, 0.25)));
        assert_eq!(ask(always, 0, Some(40), 50, 0), None);
    }

    #[test]
    fn a_checkpoint_that_is_not_of_this_log_says_nothing() {
        assert_eq!(ask(POLICY, 15, Some(5), 50, 0), Some((15, 40, 0.75)));
        assert_eq!(ask(POLICY, 0, Some(51), 50, 0), Some((0, 40, 1.0)));
    }

    #[test]
    fn young_records_are_left_alone_until_they_are_old_enough() {
        let policy = CompactionPolicy { min_lag_ms: 1000, ..POLICY };
        assert_eq!(ask(policy, 0, None, 50, 1199), Some((0, 10, 1.0)));
        assert_eq!(ask(policy, 0, None, 50, 1200), Some((0, 20, 1.0)));
        assert_eq!(ask(policy, 0, None, 50, 1099), None);
        assert_eq!(ask(policy, 0, Some(20), 50, 0), None, "what was cleaned is clean whatever its age");
    }

    #[test]
    fn records_that_are_too_old_are_a_reason_of_their_own() {
        let policy = CompactionPolicy { max_lag_ms: 1000, min_dirty_ratio: 1.0, ..POLICY };
        assert_eq!(ask(policy, 0, Some(20), 50, 1020), None);
        assert_eq!(ask(policy, 0, Some(20), 50, 1021), Some((20, 40, 0.5)));
        let failed = policy.dirty(&log(&[1, 2]), 0, None, 20, 0, |_| Err("the disk"));
        assert_eq!(failed, Err("the disk"));
    }
}
