//! Judges what a client wrote against what was read: equal, complete, in order.

use std::collections::BTreeMap;

use bellwether_conformance::history::{History, Outcome, Promise};

use crate::story::{Records, Story};

/// What is promised of a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Expected {
    /// No record may be there twice.
    pub(crate) once: bool,
    /// The reader began when everything was written, and was told so.
    pub(crate) read_after: bool,
}

/// How many records were there more than once, if that may be; else the first that is wrong.
pub(crate) fn judge(records: &Records, written: &Story, read: &Story, expected: Expected) -> Result<u64, String> {
    for (who, story) in [("the producer", written), ("the consumer", read)] {
        if let Some(nonsense) = &story.nonsense {
            return Err(format!("{who} said {nonsense}"));
        }
    }
    if let Some((number, why)) = written.failed.first() {
        return Err(format!("{} records were refused, the first is {number}: {why}", written.failed.len()));
    }
    let mut settled = vec![None; records.count()];
    for told in &written.acknowledged {
        if told.partition != records.partition(told.number) {
            return Err(format!("record {} went to partition {}", told.number, told.partition));
        }
        if settled[told.number].replace(told.offset).is_some() {
            return Err(format!("record {} was acknowledged twice", told.number));
        }
    }
    if let Some(number) = settled.iter().position(Option::is_none) {
        return Err(format!("record {number} was never acknowledged"));
    }
    check_ranges(records, read, expected)?;

    let promise = Promise { durable: true, no_duplicates: expected.once, in_order: true };
    let mut history = History::default();
    let producer = history.producer(promise);
    for (number, offset) in settled.into_iter().enumerate() {
        let value = number.to_string().into();
        let sent = history.sent(producer, records.partition(number), value).map_err(|e| e.to_string())?;
        history.settled(sent, Outcome::Acknowledged(offset.flatten()));
    }
    let mut due: BTreeMap<i32, i64> = BTreeMap::new();
    for record in &read.reads {
        let place = format!("{}@{}", record.partition, record.offset);
        let due = due.entry(record.partition).or_default();
        if record.offset != *due {
            return Err(format!("{place} was read where offset {due} was due"));
        }
        *due += 1;
        match &record.number {
            Ok(number) => history.found(record.partition, record.offset, number.to_string().into()),
            Err(differs) => return Err(format!("at {place} is {differs}")),
        }
    }
    let judgement = history.check();
    if let Some(anomaly) = judgement.anomalies.first() {
        return Err(format!("{} things are wrong, the first: {anomaly}", judgement.anomalies.len()));
    }
    let count = records.count() as u64;
    let again = judgement.log.checked_sub(count).ok_or("fewer records than were written")?;
    match (judgement.found == count, expected.once && again > 0) {
        (true, false) => Ok(again),
        _ => Err(format!("{} of {count} records were found in a log of {}", judgement.found, judgement.log)),
    }
}

/// What the client was told of the partitions by ListOffsets.
fn check_ranges(records: &Records, read: &Story, expected: Expected) -> Result<(), String> {
    for partition in 0..records.partitions {
        let Some((beginning, end)) = read.ranges.get(&partition).copied() else {
            return Err(format!("the consumer did not learn where partition {partition} begins and ends"));
        };
        let all = records.in_partition(partition);
        if beginning != 0 || (expected.read_after && end != all) {
            return Err(format!("partition {partition} is said to hold {beginning} to {end}, not 0 to {all}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::{Acknowledged, Read};

    const ONCE: Expected = Expected { once: true, read_after: true };
    const AT_LEAST_ONCE: Expected = Expected { once: false, read_after: true };

    fn good() -> (Records, Story, Story) {
        let records = Records::new(b"aaaabbbbccccddddeeeeffff", 4, 2);
        let (mut written, mut read) = (Story::default(), Story::default());
        for number in 0..records.count() {
            let (partition, offset) = (records.partition(number), (number / 2) as i64);
            written.acknowledged.push(Acknowledged { number, partition, offset: Some(offset) });
            read.reads.push(Read { partition, offset, number: Ok(number) });
        }
        read.ranges = [(0, (0, 3)), (1, (0, 3))].into();
        (records, written, read)
    }

    /// What is said of a good run after this was done to it.
    fn after(expected: Expected, harm: impl FnOnce(&mut Story, &mut Story)) -> Result<u64, String> {
        let (records, mut written, mut read) = good();
        harm(&mut written, &mut read);
        judge(&records, &written, &read, expected)
    }

    fn refused(needle: &str, harm: impl FnOnce(&mut Story, &mut Story)) {
        let why = after(ONCE, harm).unwrap_err();
        assert!(why.contains(needle), "{why}");
    }

    #[test]
    fn what_was_written_and_read_in_order_is_good() {
        assert_eq!(after(ONCE, |_, _| ()), Ok(0));
        // Not every client tells offsets.
        assert_eq!(after(ONCE, |written, _| written.acknowledged.iter_mut().for_each(|a| a.offset = None)), Ok(0));
    }

    #[test]
    fn what_the_producer_lacks_is_seen() {
        refused("was never acknowledged", |written, _| written.acknowledged.truncate(5));
        refused("acknowledged twice", |written, _| written.acknowledged.push(written.acknowledged[0]));
        refused("went to partition 0", |written, _| written.acknowledged[1].partition = 0);
        refused("refused", |written, _| written.failed.push((1, "no".into())));
        refused("the producer said", |written, _| written.nonsense = Some("x".into()));
        refused("misplaced", |written, _| written.acknowledged[0].offset = Some(2));
    }

    #[test]
    fn what_the_consumer_lacks_is_seen() {
        refused("lost", |_, read| drop(read.reads.pop()));
        refused("was due", |_, read| drop(read.reads.remove(0)));
        refused("at 0@0 is other", |_, read| read.reads[0].number = Err("other".into()));
        refused("did not learn", |_, read| read.ranges.retain(|partition, _| *partition == 0));
        refused("0 to 2, not 0 to 3", |_, read| read.ranges.extend([(1, (0, 2))]));
        refused("the consumer said", |_, read| read.nonsense = Some("x".into()));
        // Records 0 and 2 have changed places, and the producer was told so.
        refused("reordered", |written, read| {
            (read.reads[0].number, read.reads[2].number) = (Ok(2), Ok(0));
            (written.acknowledged[0].offset, written.acknowledged[2].offset) = (Some(1), Some(0));
        });
        // A record in the other partition.
        refused("invented", |_, read| read.reads[1].number = Ok(0));
    }

    #[test]
    fn a_record_may_be_there_twice_only_if_it_may_be_sent_twice() {
        let again = |_: &mut Story, read: &mut Story| {
            read.reads.push(Read { partition: 0, offset: 3, number: Ok(4) });
            read.ranges.insert(0, (0, 4));
        };
        let within = |expected: Expected| Expected { read_after: false, ..expected };
        assert!(after(within(ONCE), again).unwrap_err().contains("duplicated"));
        assert_eq!(after(within(AT_LEAST_ONCE), again), Ok(1));
        assert!(after(within(AT_LEAST_ONCE), |_, read| drop(read.reads.pop())).is_err());
    }
}
