//! What a client's program tells of itself, line by line; each record that it read is compared with what was to be written.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// The records of a topic: what is written under each number, in every partition.
#[derive(Debug)]
pub(crate) struct Records {
    /// CRC-32 of each value, by number.
    crcs: Vec<u32>,
    /// Bytes of each value.
    size: usize,
    /// Record i goes to partition i modulo this.
    pub(crate) partitions: i32,
}

impl Records {
    /// For these values, one after the other.
    pub(crate) fn new(values: &[u8], size: usize, partitions: i32) -> Records {
        Records { crcs: values.chunks_exact(size).map(crc32fast::hash).collect(), size, partitions }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.crcs.len()
    }

    /// Where this one goes.
    pub(crate) fn partition(&self, number: usize) -> i32 {
        (number % self.partitions as usize) as i32
    }

    /// How many go to this partition.
    pub(crate) fn in_partition(&self, partition: i32) -> i64 {
        (0..self.count()).filter(|number| self.partition(*number) == partition).count() as i64
    }

    /// The number of the record with this key, value and headers; or what differs.
    fn number_of(&self, read: &Line<'_>, headers: bool) -> Result<usize, String> {
        let key = read.text(3).ok_or("no key")?;
        let number: usize = key.strip_prefix("key-").and_then(|n| n.parse().ok()).ok_or(format!("the key '{key}'"))?;
        let crc = *self.crcs.get(number).ok_or(format!("the key '{key}'"))?;
        let size = read.int(5)?;
        if read.int(4)? != i64::from(crc) || size != self.size as i64 {
            return Err(format!("another value under {key}, of {size} bytes"));
        }
        let number_text = number.to_string();
        let wanted: &[(&str, &str)] = match headers {
            true => &[("number", &number_text), ("twice", "first"), ("twice", "second")],
            false => &[],
        };
        let found = read.0.get(6).and_then(Value::as_array).ok_or("no list of headers")?;
        let same = |(pair, wanted): (&Value, &(&str, &str))| pair[0] == wanted.0 && pair[1] == wanted.1;
        if found.len() != wanted.len() || !found.iter().zip(wanted).all(same) {
            return Err(format!("other headers under {key}: {}", Value::from(found.clone())));
        }
        Ok(number)
    }
}

/// One line: an array whose first entry is a word.
struct Line<'a>(&'a [Value]);

impl Line<'_> {
    fn int(&self, at: usize) -> Result<i64, String> {
        self.0.get(at).and_then(Value::as_i64).ok_or_else(|| format!("no number at {at}"))
    }

    fn text(&self, at: usize) -> Option<&str> {
        self.0.get(at).and_then(Value::as_str)
    }

    fn partition(&self, at: usize) -> Result<i32, String> {
        i32::try_from(self.int(at)?).map_err(|e| e.to_string())
    }
}

/// A record that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Read {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// Which record it is; or how it differs from all that were written.
    pub(crate) number: Result<usize, String>,
}

/// A record that was acknowledged; without an offset if the client tells none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Acknowledged {
    pub(crate) number: usize,
    pub(crate) partition: i32,
    pub(crate) offset: Option<i64>,
}

/// Everything that a program has told so far.
#[derive(Debug, Default)]
pub(crate) struct Story {
    /// The client's version, and what is worth knowing beside it.
    pub(crate) versions: String,
    pub(crate) acknowledged: Vec<Acknowledged>,
    /// Records that the client gave up, with its reason.
    pub(crate) failed: Vec<(usize, String)>,
    /// The first offset of each partition and the one after its last, as the client was told before it read.
    pub(crate) ranges: BTreeMap<i32, (i64, i64)>,
    pub(crate) reads: Vec<Read>,
    /// For each partition the offset after the last that was read.
    pub(crate) read_to: BTreeMap<i32, i64>,
    /// A member's partitions, since it told of them last.
    pub(crate) assigned: BTreeSet<i32>,
    /// For each partition the offset that a member committed last.
    pub(crate) committed: BTreeMap<i32, i64>,
    /// How many commits of a partition were acknowledged.
    pub(crate) commits: u64,
    /// The first commit of a member that was below an earlier one of its own.
    pub(crate) went_back: Option<String>,
    /// The committed offset and the end of each partition, as a member found them before it left.
    pub(crate) lags: BTreeMap<i32, (i64, i64)>,
    /// It said that it was done.
    pub(crate) done: bool,
    /// Lines that are not of the contract: the first of them.
    pub(crate) nonsense: Option<String>,
}

impl Story {
    /// Takes the next line.
    pub(crate) fn hear(&mut self, line: &str, records: &Records, headers: bool) {
        if let Err(why) = self.take(line, records, headers) {
            self.nonsense.get_or_insert_with(|| format!("'{line}': {why}"));
        }
    }

    fn take(&mut self, line: &str, records: &Records, headers: bool) -> Result<(), String> {
        let value: Value = serde_json::from_str(line).map_err(|e| e.to_string())?;
        let line = Line(value.as_array().ok_or("not an array")?);
        match line.text(0).ok_or("no word")? {
            "versions" => self.versions = line.text(1).ok_or("no text")?.to_string(),
            "acknowledged" => {
                let number = usize::try_from(line.int(1)?).map_err(|e| e.to_string())?;
                if number >= records.count() {
                    return Err("no such record".into());
                }
                let offset = line.int(3).ok().filter(|offset| *offset >= 0);
                self.acknowledged.push(Acknowledged { number, partition: line.partition(2)?, offset });
            }
            "failed" => {
                let number = usize::try_from(line.int(1)?).map_err(|e| e.to_string())?;
                self.failed.push((number, line.text(2).unwrap_or("no reason").to_string()));
            }
            "range" => {
                self.ranges.insert(line.partition(1)?, (line.int(2)?, line.int(3)?));
            }
            "read" => {
                let (partition, offset) = (line.partition(1)?, line.int(2)?);
                let number = records.number_of(&line, headers);
                self.reads.push(Read { partition, offset, number });
                self.read_to.insert(partition, offset + 1);
            }
            "assigned" => {
                let list = line.0.get(1).and_then(Value::as_array).ok_or("no list of partitions")?;
                let partition = |at| Line(list).partition(at);
                self.assigned = (0..list.len()).map(partition).collect::<Result<_, _>>()?;
            }
            "committed" => {
                let (partition, offset) = (line.partition(1)?, line.int(2)?);
                self.commits += 1;
                let before = self.committed.insert(partition, offset);
                if let Some(before) = before.filter(|before| *before > offset) {
                    let why = format!("it committed {partition}@{before}, and then {partition}@{offset}");
                    self.went_back.get_or_insert(why);
                }
            }
            "lag" => {
                self.lags.insert(line.partition(1)?, (line.int(2)?, line.int(3)?));
            }
            "done" => self.done = true,
            word => return Err(format!("the word '{word}'")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: &[&str]) -> Story {
        let records = Records::new(b"aaaabbbb", 4, 2);
        let mut story = Story::default();
        for line in lines {
            story.hear(line, &records, true);
        }
        story
    }

    fn read(key: &str, value: &str, headers: &str) -> Result<usize, String> {
        let crc = crc32fast::hash(value.as_bytes());
        let line = format!("[\"read\",1,0,\"{key}\",{crc},{},{headers}]", value.len());
        let story = told(&[&line]);
        assert_eq!(story.nonsense, None);
        assert_eq!((story.reads.len(), story.read_to[&1]), (1, 1));
        story.reads[0].number.clone()
    }

    #[test]
    fn a_record_is_itself_only_with_its_value_and_its_headers() {
        let headers = r#"[["number","1"],["twice","first"],["twice","second"]]"#;
        assert_eq!(read("key-1", "bbbb", headers), Ok(1));
        assert!(read("key-0", "bbbb", headers).is_err());
        assert!(read("key-1", "bbbc", headers).is_err());
        assert!(read("key-1", "bbb", headers).is_err());
        assert!(read("key-2", "bbbb", headers).is_err());
        assert!(read("1", "bbbb", headers).is_err());
        assert!(read("key-1", "bbbb", r#"[["number","1"],["twice","second"]]"#).is_err());
        assert!(read("key-1", "bbbb", r#"[["number","1"],["twice","second"],["twice","first"]]"#).is_err());
    }

    #[test]
    fn lines_that_are_not_of_the_contract_are_remembered() {
        assert!(told(&["hello"]).nonsense.is_some());
        assert!(told(&[r#"["acknowledged",2,0,0]"#]).nonsense.is_some());
        assert!(told(&[r#"["read",0]"#]).nonsense.is_some());
        let story = told(&[r#"["versions","x 1"]"#, r#"["acknowledged",1,1,-1]"#, r#"["range",0,0,1]"#, r#"["done"]"#]);
        assert_eq!((story.versions.as_str(), story.done, story.nonsense), ("x 1", true, None));
        assert_eq!(story.acknowledged, [Acknowledged { number: 1, partition: 1, offset: None }]);
        assert_eq!(story.ranges[&0], (0, 1));
    }

    #[test]
    fn a_member_has_the_partitions_that_it_told_last_and_its_commits_do_not_go_back() {
        let mut lines = vec![r#"["assigned",[0,1]]"#, r#"["assigned",[1]]"#, r#"["committed",0,5]"#];
        lines.extend([r#"["committed",1,3]"#, r#"["committed",0,5]"#, r#"["lag",0,5,7]"#]);
        let story = told(&lines);
        assert_eq!((story.assigned, story.lags, story.nonsense), ([1].into(), [(0, (5, 7))].into(), None));
        assert_eq!((story.committed, story.commits, story.went_back), ([(0, 5), (1, 3)].into(), 3, None));
        lines.push(r#"["committed",0,4]"#);
        assert_eq!(told(&lines).went_back.as_deref(), Some("it committed 0@5, and then 0@4"));
        assert!(told(&[r#"["assigned",["a"]]"#]).nonsense.is_some());
    }
}
