//! A partition's log: segments, epoch cache, producer state, recovery.
