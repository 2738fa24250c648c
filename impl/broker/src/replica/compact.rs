//! A replica's log is cleaned: looked at and swapped under the lock, read and written without it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bellwether_core::Dirty;
use bellwether_log::{CleanError, Cleaning, Compaction, LogError};

use super::{Inner, Outgoing, Replica};

/// Who cleans, and at what time.
pub(crate) struct Broom<'a> {
    /// ms since 1970.
    pub(crate) now: i64,
    /// How many bytes the keys may take.
    pub(crate) key_bytes: u64,
    /// Is told of bytes that were read; false: it is to stop.
    pub(crate) pace: &'a mut dyn FnMut(u64) -> bool,
}

impl Replica {
    /// How dirty the log is, if it is to be cleaned and nobody does so.
    pub(crate) fn dirtiness(self: &Arc<Self>, now: i64) -> Option<f64> {
        if self.cleaning.load(Ordering::Acquire) {
            return None;
        }
        let inner = &mut *self.inner.lock();
        self.dirty(inner, now).map(|dirty| dirty.ratio)
    }

    fn dirty(self: &Arc<Self>, inner: &mut Inner, now: i64) -> Option<Dirty> {
        if inner.closed.is_some() || inner.uncleanable || !inner.compaction.compact {
            return None;
        }
        // What is committed, and on the disk: or a power failure could take the record for which an older one was dropped.
        let stable = inner.partition.high_watermark().min(inner.log.recovery_point());
        let start = inner.partition.log_start();
        let firsts = |from| inner.log.first_timestamps(from);
        match inner.compaction.dirty(&inner.log.segments(), start, inner.cleaned, stable, now, firsts) {
            Ok(dirty) => dirty,
            Err(error) => {
                let _ = self.read_failed(inner, &error);
                None
            }
        }
    }

    /// Cleans the log. Blocks, for as long as it takes to read all of it twice; others use it meanwhile. False if it is no more to be
    /// cleaned.
    pub(crate) fn compact(self: &Arc<Self>, broom: Broom<'_>) -> bool {
        if self.cleaning.swap(true, Ordering::AcqRel) {
            // Somebody was faster; another log may be next.
            return true;
        }
        let begun = self.begin(&broom);
        let some = begun.is_some();
        if let Some((mut cleaning, cuts)) = begun
            && let Err(error) = self.sweep(&mut cleaning, cuts, broom)
        {
            self.not_cleaned(&cleaning, &error);
        }
        self.cleaning.store(false, Ordering::Release);
        some
    }

    fn begin(self: &Arc<Self>, broom: &Broom<'_>) -> Option<(Cleaning, u64)> {
        let inner = &mut *self.inner.lock();
        let Dirty { from, below, .. } = self.dirty(inner, broom.now)?;
        let delete_retention_ms = inner.compaction.delete_retention_ms;
        let how = Compaction { now: broom.now, delete_retention_ms, key_bytes: broom.key_bytes };
        let cleaning = inner.log.cleaning(from, below, how, inner.partition.producers())?;
        Some((cleaning, self.cuts.load(Ordering::Acquire)))
    }

    fn sweep(self: &Arc<Self>, cleaning: &mut Cleaning, cuts: u64, broom: Broom<'_>) -> Result<(), CleanError> {
        let uncut = || self.cuts.load(Ordering::Acquire) == cuts;
        let mut step = |bytes| (broom.pace)(bytes) && uncut();
        cleaning.read_keys(&mut step)?;
        while let Some(cleaned) = cleaning.next(&mut step)? {
            if !step(0) {
                return Err(CleanError::Stopped);
            }
            let swapped = {
                let inner = &mut *self.inner.lock();
                if inner.closed.is_some() {
                    return Err(CleanError::Stopped);
                }
                match inner.log.swap(cleaned) {
                    Ok(swapped) => swapped,
                    Err(error) => {
                        tracing::error!(tp = %self.tp, %error, "a cleaned segment has no place, the partition goes offline");
                        self.go_offline(inner);
                        return Err(CleanError::Stopped);
                    }
                }
            };
            swapped.ok_or(CleanError::Stopped)?.remove();
        }
        let inner = &mut *self.inner.lock();
        if inner.closed.is_none() && uncut() {
            inner.cleaned = Some(cleaning.end());
            let _ = self.out.send(Outgoing::Checkpoint);
            tracing::debug!(tp = %self.tp, end = cleaning.end(), bytes = inner.log.size(), "the log was cleaned");
        }
        Ok(())
    }

    fn not_cleaned(self: &Arc<Self>, cleaning: &Cleaning, error: &CleanError) {
        let inner = &mut *self.inner.lock();
        // Files that were deleted or cut while they were read are not damaged.
        let there = inner.closed.is_none() && inner.log.has(cleaning);
        match error {
            _ if !there => {}
            CleanError::Stopped => {}
            CleanError::Log(LogError::Io { .. } | LogError::Failed) => {
                tracing::error!(tp = %self.tp, %error, "the log cannot be cleaned, the partition goes offline");
                self.go_offline(inner);
            }
            // As Kafka's uncleanable partitions: everything else goes on.
            _ => {
                tracing::error!(tp = %self.tp, %error, "the log cannot be cleaned, and will not be before the next start");
                inner.uncleanable = true;
            }
        }
    }

    /// The log was cut here, or is closed: what is being cleaned of it is not wanted.
    pub(super) fn cut(&self, inner: &mut Inner, to: i64) {
        self.cuts.fetch_add(1, Ordering::AcqRel);
        inner.cleaned = inner.cleaned.map(|cleaned| cleaned.min(to));
    }
}
