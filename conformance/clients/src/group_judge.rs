//! Judges a group: every record was processed, and no committed offset went back or was lost.

use std::collections::{BTreeMap, BTreeSet};

use crate::story::{Records, Story};

/// The committed offsets of a group, as somebody outside of it sees them again and again.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    /// How many times they were seen.
    pub(crate) looks: u64,
    /// When they were seen last.
    pub(crate) committed: BTreeMap<i32, i64>,
    /// The first that was wrong.
    pub(crate) wrong: Option<String>,
}

impl Watched {
    /// Takes in what OffsetFetch said. These commits had been acknowledged before it was asked.
    pub(crate) fn see(&mut self, acknowledged: &BTreeMap<i32, i64>, found: BTreeMap<i32, i64>) {
        self.looks += 1;
        for (who, due) in [("a member", acknowledged), ("somebody", &self.committed)] {
            for (partition, offset) in due {
                let now = found.get(partition).copied();
                if now.is_none_or(|now| now < *offset) {
                    let now = now.map_or_else(|| "nothing".to_string(), |now| now.to_string());
                    let why = format!("{who} had committed {partition}@{offset}, and OffsetFetch said {now}");
                    self.wrong.get_or_insert(why);
                }
            }
        }
        self.committed = found;
    }
}

/// What a member told, and whether it lived to the end.
pub(crate) struct Told<'a> {
    pub(crate) name: &'a str,
    pub(crate) story: &'a Story,
    pub(crate) killed: bool,
}

/// Figures of a good run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    /// Records that were processed, each as often as it was.
    pub(crate) processed: u64,
    /// How often one was processed that had been processed before.
    pub(crate) again: u64,
    /// Commits of a partition that a member was told of.
    pub(crate) commits: u64,
}

/// Judges what the members told against the partitions' ends. The ends are those of the log; `watched` has looked at last when
/// all members were done.
pub(crate) fn judge(
    records: &Records,
    ends: &BTreeMap<i32, i64>,
    members: &[Told<'_>],
    watched: &Watched,
) -> Result<Counts, String> {
    if let Some(wrong) = &watched.wrong {
        return Err(wrong.clone());
    }
    let mut counts = Counts::default();
    let mut places: BTreeMap<(i32, i64), usize> = BTreeMap::new();
    for Told { name, story, killed } in members {
        if let Some(wrong) = story.nonsense.as_ref().or(story.went_back.as_ref()) {
            return Err(format!("{name}: {wrong}"));
        }
        counts.commits += story.commits;
        for read in &story.reads {
            let place = format!("{}@{}", read.partition, read.offset);
            let number = read.number.as_ref().map_err(|differs| format!("{name}: at {place} is {differs}"))?;
            counts.processed += 1;
            if let Some(other) = places.insert((read.partition, read.offset), *number) {
                counts.again += 1;
                if other != *number {
                    return Err(format!("{name}: record {number} is at {place}, where {other} was"));
                }
            }
        }
        if let Some((partition, offset)) = story.committed.iter().find(|(p, offset)| ends.get(p) < Some(offset)) {
            return Err(format!("{name} committed {partition}@{offset}, behind the end"));
        }
        for (partition, end) in ends.iter().filter(|_| !killed) {
            match story.lags.get(partition) {
                Some(found) if *found == (*end, *end) => {}
                found => return Err(format!("{name} found {found:?} in partition {partition} instead of {end} twice")),
            }
        }
    }
    for (partition, end) in ends {
        if let Some(offset) = (0..*end).find(|offset| !places.contains_key(&(*partition, *offset))) {
            return Err(format!("{partition}@{offset} was never processed"));
        }
    }
    let distinct: BTreeSet<usize> = places.values().copied().collect();
    if let Some(number) = (0..records.count()).find(|number| !distinct.contains(number)) {
        return Err(format!("record {number} was never processed"));
    }
    if watched.looks == 0 || watched.committed != *ends {
        return Err(format!("committed at last is {:?}, and the ends are {ends:?}", watched.committed));
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::Read;

    /// Two members of a group that read four records in two partitions; the first was killed.
    fn good() -> (Records, BTreeMap<i32, i64>, [Story; 2], Watched) {
        let records = Records::new(b"aaaabbbbccccdddd", 4, 2);
        let ends = BTreeMap::from([(0, 2), (1, 2)]);
        let read = |number: usize| Read {
            partition: records.partition(number),
            offset: (number / 2) as i64,
            number: Ok(number),
        };
        let killed = Story { reads: [0, 1].map(read).into(), commits: 1, ..Story::default() };
        let lags = BTreeMap::from([(0, (2, 2)), (1, (2, 2))]);
        let alive = Story { reads: [1, 2, 3].map(read).into(), commits: 2, lags, ..Story::default() };
        let watched = Watched { looks: 1, committed: ends.clone(), wrong: None };
        (records, ends, [killed, alive], watched)
    }

    fn after(harm: impl FnOnce(&mut [Story; 2], &mut Watched)) -> Result<Counts, String> {
        let (records, ends, mut stories, mut watched) = good();
        harm(&mut stories, &mut watched);
        let [killed, alive] = &stories;
        let told = [("a", killed, true), ("b", alive, false)];
        let told = told.map(|(name, story, killed)| Told { name, story, killed });
        judge(&records, &ends, &told, &watched)
    }

    fn refused(needle: &str, harm: impl FnOnce(&mut [Story; 2], &mut Watched)) {
        let why = after(harm).unwrap_err();
        assert!(why.contains(needle), "{why}");
    }

    #[test]
    fn a_record_may_be_processed_twice() {
        assert_eq!(after(|_, _| ()), Ok(Counts { processed: 5, again: 1, commits: 3 }));
    }

    #[test]
    fn what_a_member_lacks_is_seen() {
        refused("0@1 was never processed", |[_, alive], _| drop(alive.reads.remove(1)));
        refused("a: at 0@0 is other", |[killed, _], _| killed.reads[0].number = Err("other".into()));
        refused("b: record 3 is at 1@0, where 1 was", |[_, alive], _| alive.reads[0].number = Ok(3));
        refused("record 3 was never", |[_, alive], _| alive.reads[2].number = Ok(0));
        refused("back", |[killed, _], _| killed.went_back = Some("back".into()));
        refused("nonsense", |[_, alive], _| alive.nonsense = Some("nonsense".into()));
        refused("behind the end", |[killed, _], _| killed.committed = [(1, 3)].into());
        refused("b found Some((1, 2)) in partition 1", |[_, alive], _| alive.lags.extend([(1, (1, 2))]));
        refused("b found None in partition 0", |[_, alive], _| alive.lags.clear());
    }

    #[test]
    fn offsets_that_are_lost_or_go_back_are_seen() {
        refused("committed at last", |_, watched| watched.committed = [(0, 2)].into());
        refused("committed at last", |_, watched| watched.looks = 0);
        refused("wrong", |_, watched| watched.wrong = Some("wrong".into()));
        let see = |acknowledged: &[(i32, i64)], found: &[(i32, i64)]| {
            let map = |pairs: &[(i32, i64)]| pairs.iter().copied().collect();
            let mut watched = Watched { looks: 1, committed: map(&[(0, 2)]), wrong: None };
            watched.see(&map(acknowledged), map(found));
            watched.wrong
        };
        assert_eq!(see(&[(0, 3), (1, 1)], &[(0, 3), (1, 2)]), None);
        assert_eq!(see(&[], &[]).unwrap(), "somebody had committed 0@2, and OffsetFetch said nothing");
        assert_eq!(see(&[], &[(0, 1)]).unwrap(), "somebody had committed 0@2, and OffsetFetch said 1");
        assert_eq!(see(&[(1, 4)], &[(0, 2), (1, 3)]).unwrap(), "a member had committed 1@4, and OffsetFetch said 3");
    }
}
