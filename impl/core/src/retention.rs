//! Which of a log's oldest segments retention takes away: a pure question, asked by the shell (UnifiedLog.deleteOldSegments).

use bellwether_log::SegmentInfo;

/// A topic's retention, as its configuration says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    /// cleanup.policy has `delete`: without it nothing goes but what DeleteRecords, or the leader, has left below the log start.
    pub delete: bool,
    /// retention.ms: how old records may become; below 0 there is no limit.
    pub ms: i64,
    /// retention.bytes: how large a log may be; below 0 there is no limit.
    pub bytes: i64,
}

/// What is to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expired {
    /// Where the log is to start.
    pub log_start: i64,
    /// The active segment goes too: another one is needed first (UnifiedLog.deleteSegments).
    pub roll: bool,
}

impl Retention {
    /// Whole segments from the front that are too many by size, then those whose records are all too old at `now` (ms since 1970), as far as
    /// they are below the high watermark. None if there is nothing to do. A segment without any timestamp is never too old.
    pub fn expired(&self, segments: &[SegmentInfo], high_watermark: i64, now: i64) -> Option<Expired> {
        if !self.delete {
            return None;
        }
        let committed = |s: &SegmentInfo| s.size > 0 && s.end_offset <= high_watermark;
        let size: u64 = segments.iter().map(|s| s.size).sum();
        let limit = u64::try_from(self.bytes).unwrap_or(u64::MAX);
        let mut excess = size.saturating_sub(limit);
        let mut gone = 0;
        for segment in segments {
            if !committed(segment) || size < limit || segment.size > excess {
                break;
            }
            excess -= segment.size;
            gone += 1;
        }
        let old =
            |s: &SegmentInfo| self.ms >= 0 && s.max_timestamp >= 0 && now.saturating_sub(s.max_timestamp) > self.ms;
        gone += segments.iter().skip(gone).take_while(|s| committed(s) && old(s)).count();
        let last = gone.checked_sub(1).and_then(|last| segments.get(last))?;
        Some(Expired { log_start: last.end_offset, roll: gone == segments.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Retention = Retention { delete: true, ms: -1, bytes: -1 };

    /// Segments of ten records and a hundred bytes each, with these largest timestamps.
    fn log(times: &[i64]) -> Vec<SegmentInfo> {
        let row = |(i, t): (usize, &i64)| {
            let base_offset = i as i64 * 10;
            SegmentInfo { base_offset, end_offset: base_offset + 10, size: 100, max_timestamp: *t }
        };
        times.iter().enumerate().map(row).collect()
    }

    fn start(retention: Retention, times: &[i64], high_watermark: i64, now: i64) -> Option<(i64, bool)> {
        retention.expired(&log(times), high_watermark, now).map(|e| (e.log_start, e.roll))
    }

    #[test]
    fn segments_go_when_all_of_their_records_are_too_old() {
        let r = Retention { ms: 100, ..KEEP };
        assert_eq!(start(r, &[0, 50, 60], 30, 100), None, "as old as it may be");
        assert_eq!(start(r, &[0, 50, 60], 30, 101), Some((10, false)));
        assert_eq!(start(r, &[0, 50, 60], 30, 155), Some((20, false)));
        assert_eq!(start(r, &[50, 0, 60], 30, 101), None, "only from the front");
        assert_eq!(start(r, &[0, 0, 0], 30, 101), Some((30, true)), "the active one as well");
        assert_eq!(start(r, &[-1, 0], 20, i64::MAX), None);
        assert_eq!(start(KEEP, &[0, 0], 20, i64::MAX), None);
    }

    #[test]
    fn nothing_above_the_high_watermark_goes() {
        let r = Retention { ms: 0, bytes: 0, ..KEEP };
        assert_eq!(start(r, &[0, 0, 0], 29, 500), Some((20, false)));
        assert_eq!(start(r, &[0, 0, 0], 9, 500), None);
    }

    #[test]
    fn segments_go_while_what_is_left_is_large_enough() {
        let r = |bytes| Retention { bytes, ..KEEP };
        assert_eq!(start(r(300), &[0, 0, 0], 30, 0), None);
        assert_eq!(start(r(201), &[0, 0, 0], 30, 0), None, "not a byte below the limit");
        assert_eq!(start(r(200), &[0, 0, 0], 30, 0), Some((10, false)));
        assert_eq!(start(r(0), &[0, 0, 0], 30, 0), Some((30, true)));
    }

    #[test]
    fn both_limits_hold_and_without_the_policy_neither() {
        let r = Retention { ms: 100, bytes: 300, ..KEEP };
        assert_eq!(start(r, &[900, 0, 0, 900], 40, 950), Some((30, false)), "one for its size, two for their age");
        assert_eq!(start(Retention { delete: false, ..r }, &[0, 0, 0, 0], 40, 950), None);
    }

    #[test]
    fn an_empty_segment_is_left_alone() {
        let mut segments = log(&[0, -1]);
        segments[1] = SegmentInfo { base_offset: 10, end_offset: 10, size: 0, max_timestamp: -1 };
        let r = Retention { ms: 0, bytes: 0, ..KEEP };
        assert_eq!(r.expired(&segments, 10, 500), Some(Expired { log_start: 10, roll: false }));
        assert_eq!(r.expired(&segments[1..], 10, 500), None);
    }
}
