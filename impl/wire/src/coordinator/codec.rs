//! Bytes there and back. Lengths and counts are believed only as far as there are bytes for them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use uuid::Uuid;

use super::{
    Assignment, ClassicMemberValue, CurrentAssignmentValue, GroupMetadataValue, GroupRecord, GroupRecordError,
    MemberMetadataValue, OffsetValue,
};
use crate::bound::LONGEST_STRING;
use crate::varint::{put_u32, take_u32};

/// The versions that are written: Kafka 4.1's. An OffsetCommitValue with its own time of expiry needs version 1, the only one that has it.
const OFFSET_COMMIT: i16 = 4;
const OFFSET_COMMIT_EXPIRES: i16 = 1;
const GROUP_METADATA: i16 = 3;

type Result<T> = std::result::Result<T, GroupRecordError>;

impl GroupRecord {
    /// The record's key and value as they stand in the log, or [`GroupRecordError::TooLong`]. Nothing for [`GroupRecord::Other`].
    pub fn encode(&self) -> Result<(Bytes, Option<Bytes>)> {
        let mut key = Writer { out: Vec::new(), flexible: false, too_long: None };
        let value = match self {
            GroupRecord::OffsetCommit { group, topic, partition, value } => {
                key.i16(1);
                key.str(group);
                key.str(topic);
                key.i32(*partition);
                value.as_ref().map(offset_value)
            }
            GroupRecord::GroupMetadata { group, value } => {
                key.i16(2);
                key.str(group);
                value.as_ref().map(group_value)
            }
            GroupRecord::ConsumerGroupMetadata { group, value } => {
                key.i16(3);
                key.str(group);
                value.map(|(epoch, hash)| {
                    let mut w = Writer::value(0, true);
                    w.i32(epoch);
                    // Tag 0, left out where it has its default.
                    match hash {
                        0 => w.u32(0),
                        _ => {
                            w.u32(1);
                            w.u32(0);
                            w.u32(8);
                            w.i64(hash);
                        }
                    }
                    w.done()
                })
            }
            GroupRecord::MemberMetadata { group, member, value } => {
                key.i16(5);
                key.str(group);
                key.str(member);
                value.as_ref().map(member_value)
            }
            GroupRecord::TargetAssignmentEpoch { group, value } => {
                key.i16(6);
                key.str(group);
                value.map(|epoch| {
                    let mut w = Writer::value(0, true);
                    w.i32(epoch);
                    w.u32(0);
                    w.done()
                })
            }
            GroupRecord::TargetAssignment { group, member, value } => {
                key.i16(7);
                key.str(group);
                key.str(member);
                value.as_ref().map(|assignment| {
                    let mut w = Writer::value(0, true);
                    w.assignment(assignment);
                    w.u32(0);
                    w.done()
                })
            }
            GroupRecord::CurrentAssignment { group, member, value } => {
                key.i16(8);
                key.str(group);
                key.str(member);
                value.as_ref().map(|v| {
                    let mut w = Writer::value(0, true);
                    w.i32(v.member_epoch);
                    w.i32(v.previous_member_epoch);
                    w.out.push(v.state as u8);
                    w.assignment(&v.assigned);
                    w.assignment(&v.pending_revocation);
                    w.u32(0);
                    w.done()
                })
            }
            GroupRecord::RegularExpression { group, regex, value } => {
                key.i16(16);
                key.str(group);
                key.str(regex);
                value.as_ref().map(|(topics, version, timestamp)| {
                    let mut w = Writer::value(0, true);
                    w.count(topics.len());
                    topics.iter().for_each(|topic| w.str(topic));
                    w.i64(*version);
                    w.i64(*timestamp);
                    w.u32(0);
                    w.done()
                })
            }
            GroupRecord::Other(kind) => {
                key.i16(*kind);
                None
            }
        };
        Ok((key.done()?, value.transpose()?))
    }

    /// Reads a record off the log.
    pub fn decode(key: &Bytes, value: Option<&Bytes>) -> Result<GroupRecord> {
        let mut k = Reader { bytes: key, rest: key, flexible: false };
        let kind = k.i16()?;
        let mut v = match value {
            Some(bytes) => {
                let mut reader = Reader { bytes, rest: bytes, flexible: true };
                let version = reader.i16()?;
                Some((version, reader))
            }
            None => None,
        };
        let newest = match kind {
            0..=2 => 4,
            _ => 0,
        };
        if !matches!(kind, 0..=3 | 5..=8 | 16) {
            return Ok(GroupRecord::Other(kind));
        }
        if let Some((version, reader)) = &mut v {
            if !(0..=newest).contains(version) {
                return Err(GroupRecordError::Version(kind, *version));
            }
            reader.flexible = newest == 0 || *version >= 4;
        }
        Ok(match kind {
            0 | 1 => GroupRecord::OffsetCommit {
                group: k.str()?,
                topic: k.str()?,
                partition: k.i32()?,
                value: v.map(|(version, r)| read_offset(version, r)).transpose()?,
            },
            2 => GroupRecord::GroupMetadata {
                group: k.str()?,
                value: v.map(|(version, r)| read_group(version, r)).transpose()?,
            },
            3 => GroupRecord::ConsumerGroupMetadata {
                group: k.str()?,
                value: v
                    .map(|(_, mut r)| {
                        let epoch = r.i32()?;
                        let hash = r.tagged(0)?.map(|mut field| field.i64()).transpose()?;
                        Ok((epoch, hash.unwrap_or(0)))
                    })
                    .transpose()?,
            },
            5 => GroupRecord::MemberMetadata {
                group: k.str()?,
                member: k.str()?,
                value: v.map(|(_, r)| read_member(r)).transpose()?,
            },
            6 => {
                GroupRecord::TargetAssignmentEpoch { group: k.str()?, value: v.map(|(_, mut r)| r.i32()).transpose()? }
            }
            7 => GroupRecord::TargetAssignment {
                group: k.str()?,
                member: k.str()?,
                value: v.map(|(_, mut r)| r.assignment()).transpose()?,
            },
            8 => GroupRecord::CurrentAssignment {
                group: k.str()?,
                member: k.str()?,
                value: v
                    .map(|(_, mut r)| {
                        Ok(CurrentAssignmentValue {
                            member_epoch: r.i32()?,
                            previous_member_epoch: r.i32()?,
                            state: r.i8()?,
                            assigned: r.assignment()?,
                            pending_revocation: r.assignment()?,
                        })
                    })
                    .transpose()?,
            },
            _ => GroupRecord::RegularExpression {
                group: k.str()?,
                regex: k.str()?,
                value: v
                    .map(|(_, mut r)| {
                        let count = r.count()?;
                        let topics = (0..count).map(|_| r.str()).collect::<Result<BTreeSet<_>>>()?;
                        Ok((topics, r.i64()?, r.i64()?))
                    })
                    .transpose()?,
            },
        })
    }
}

fn offset_value(v: &OffsetValue) -> Result<Bytes> {
    if v.expire_timestamp >= 0 {
        let mut w = Writer::value(OFFSET_COMMIT_EXPIRES, false);
        w.i64(v.offset);
        w.str(&v.metadata);
        w.i64(v.commit_timestamp);
        w.i64(v.expire_timestamp);
        return w.done();
    }
    let mut w = Writer::value(OFFSET_COMMIT, true);
    w.i64(v.offset);
    w.i32(v.leader_epoch);
    w.str(&v.metadata);
    w.i64(v.commit_timestamp);
    match v.topic_id.is_nil() {
        true => w.u32(0),
        false => {
            w.u32(1);
            w.u32(0);
            w.u32(16);
            w.out.extend_from_slice(v.topic_id.as_bytes());
        }
    }
    w.done()
}

fn read_offset(version: i16, mut r: Reader<'_>) -> Result<OffsetValue> {
    let offset = r.i64()?;
    let leader_epoch = if version >= 3 { r.i32()? } else { -1 };
    let metadata = r.str()?;
    let commit_timestamp = r.i64()?;
    let expire_timestamp = if version == 1 { r.i64()? } else { -1 };
    let topic_id = match version >= 4 {
        true => r.tagged(0)?.map(|mut field| field.uuid()).transpose()?,
        false => None,
    };
    let topic_id = topic_id.unwrap_or_default();
    Ok(OffsetValue { offset, leader_epoch, metadata, commit_timestamp, expire_timestamp, topic_id })
}

fn group_value(v: &GroupMetadataValue) -> Result<Bytes> {
    let mut w = Writer::value(GROUP_METADATA, false);
    w.str(&v.protocol_type);
    w.i32(v.generation);
    w.nullable(&v.protocol);
    w.nullable(&v.leader);
    w.i64(v.current_state_timestamp);
    w.count(v.members.len());
    for m in &v.members {
        w.str(&m.member_id);
        w.nullable(&m.group_instance_id);
        w.str(&m.client_id);
        w.str(&m.client_host);
        w.i32(m.rebalance_timeout);
        w.i32(m.session_timeout);
        w.bytes(&m.subscription);
        w.bytes(&m.assignment);
    }
    w.done()
}

fn read_group(version: i16, mut r: Reader<'_>) -> Result<GroupMetadataValue> {
    let protocol_type = r.str()?;
    let generation = r.i32()?;
    let protocol = r.nullable()?;
    let leader = r.nullable()?;
    let current_state_timestamp = if version >= 2 { r.i64()? } else { -1 };
    let count = r.count()?;
    let member = |r: &mut Reader<'_>| {
        let member = ClassicMemberValue {
            member_id: r.str()?,
            group_instance_id: if version >= 3 { r.nullable()? } else { None },
            client_id: r.str()?,
            client_host: r.str()?,
            rebalance_timeout: if version >= 1 { r.i32()? } else { -1 },
            session_timeout: r.i32()?,
            subscription: r.bytes()?,
            assignment: r.bytes()?,
        };
        if r.flexible {
            r.tagged(-1)?;
        }
        Ok(member)
    };
    let members = (0..count).map(|_| member(&mut r)).collect::<Result<_>>()?;
    Ok(GroupMetadataValue { protocol_type, generation, protocol, leader, current_state_timestamp, members })
}

fn member_value(v: &MemberMetadataValue) -> Result<Bytes> {
    let mut w = Writer::value(0, true);
    w.nullable(&v.instance_id);
    w.nullable(&v.rack_id);
    w.str(&v.client_id);
    w.str(&v.client_host);
    w.count(v.subscribed_topic_names.len());
    v.subscribed_topic_names.iter().for_each(|name| w.str(name));
    w.nullable(&v.subscribed_topic_regex);
    w.i32(v.rebalance_timeout_ms);
    w.nullable(&v.server_assignor);
    w.u32(0);
    w.done()
}

fn read_member(mut r: Reader<'_>) -> Result<MemberMetadataValue> {
    Ok(MemberMetadataValue {
        instance_id: r.nullable()?,
        rack_id: r.nullable()?,
        client_id: r.str()?,
        client_host: r.str()?,
        subscribed_topic_names: {
            let count = r.count()?;
            (0..count).map(|_| r.str()).collect::<Result<_>>()?
        },
        subscribed_topic_regex: r.nullable()?,
        rebalance_timeout_ms: r.i32()?,
        server_assignor: r.nullable()?,
    })
}

struct Writer {
    out: Vec<u8>,
    flexible: bool,
    /// The length of a string that does not fit.
    too_long: Option<usize>,
}

impl Writer {
    fn value(version: i16, flexible: bool) -> Writer {
        Writer { out: version.to_be_bytes().to_vec(), flexible, too_long: None }
    }

    fn done(self) -> Result<Bytes> {
        self.too_long.map_or_else(|| Ok(self.out.into()), |size| Err(GroupRecordError::TooLong(size)))
    }

    fn i16(&mut self, v: i16) {
        self.out.extend_from_slice(&v.to_be_bytes());
    }

    fn i32(&mut self, v: i32) {
        self.out.extend_from_slice(&v.to_be_bytes());
    }

    fn i64(&mut self, v: i64) {
        self.out.extend_from_slice(&v.to_be_bytes());
    }

    fn u32(&mut self, v: u32) {
        put_u32(&mut self.out, v);
    }

    /// The number of elements of an array.
    fn count(&mut self, count: usize) {
        match self.flexible {
            true => self.u32(count as u32 + 1),
            false => self.i32(count as i32),
        }
    }

    fn bytes(&mut self, v: &[u8]) {
        self.count(v.len());
        self.out.extend_from_slice(v);
    }

    fn str(&mut self, v: &str) {
        if v.len() > LONGEST_STRING {
            self.too_long = Some(v.len());
            return;
        }
        match self.flexible {
            true => self.bytes(v.as_bytes()),
            false => {
                self.i16(v.len() as i16);
                self.out.extend_from_slice(v.as_bytes());
            }
        }
    }

    fn nullable(&mut self, v: &Option<String>) {
        match v {
            Some(v) => self.str(v),
            None if self.flexible => self.u32(0),
            None => self.i16(-1),
        }
    }

    fn assignment(&mut self, assignment: &Assignment) {
        self.count(assignment.len());
        for (topic, partitions) in assignment {
            self.out.extend_from_slice(topic.as_bytes());
            self.count(partitions.len());
            partitions.iter().for_each(|p| self.i32(*p));
            self.u32(0);
        }
    }
}

struct Reader<'a> {
    bytes: &'a Bytes,
    rest: &'a [u8],
    flexible: bool,
}

impl<'a> Reader<'a> {
    fn take(&mut self, size: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(size).ok_or(GroupRecordError::Malformed("cut short"))?;
        self.rest = rest;
        Ok(head)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(GroupRecordError::Malformed("cut short"))?;
        self.rest = rest;
        Ok(*head)
    }

    fn i8(&mut self) -> Result<i8> {
        Ok(i8::from_be_bytes(self.fixed()?))
    }

    fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }

    fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.fixed()?))
    }

    fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.fixed()?))
    }

    fn uuid(&mut self) -> Result<Uuid> {
        Ok(Uuid::from_bytes(self.fixed()?))
    }

    fn u32(&mut self) -> Result<usize> {
        Ok(take_u32(&mut self.rest).ok_or(GroupRecordError::Malformed("a varint"))? as usize)
    }

    /// A count: no more than there are bytes left, so that nobody reserves memory for what is not there.
    fn count(&mut self) -> Result<usize> {
        let count = match self.flexible {
            true => self.u32()?.checked_sub(1),
            false => usize::try_from(self.i32()?).ok(),
        };
        count.filter(|c| *c <= self.rest.len()).ok_or(GroupRecordError::Malformed("a count"))
    }

    fn bytes(&mut self) -> Result<Bytes> {
        let size = self.count()?;
        let slice = self.take(size)?;
        Ok(self.bytes.slice_ref(slice))
    }

    fn nullable(&mut self) -> Result<Option<String>> {
        let size = match self.flexible {
            true => self.u32()?.checked_sub(1),
            false => match self.i16()? {
                -1 => None,
                size => Some(usize::try_from(size).map_err(|_| GroupRecordError::Malformed("a length"))?),
            },
        };
        let Some(size) = size else { return Ok(None) };
        let text = std::str::from_utf8(self.take(size)?).map_err(|_| GroupRecordError::Malformed("not UTF-8"))?;
        Ok(Some(text.to_string()))
    }

    fn str(&mut self) -> Result<String> {
        self.nullable()?.ok_or(GroupRecordError::Malformed("null"))
    }

    fn assignment(&mut self) -> Result<Assignment> {
        let count = self.count()?;
        let mut assignment = BTreeMap::new();
        for _ in 0..count {
            let topic = self.uuid()?;
            let partitions = self.count()?;
            let partitions = (0..partitions).map(|_| self.i32()).collect::<Result<BTreeSet<_>>>()?;
            self.tagged(-1)?;
            assignment.insert(topic, partitions);
        }
        Ok(assignment)
    }

    /// Walks the tagged fields at the end of a struct; what the field with this tag holds.
    fn tagged(&mut self, wanted: i64) -> Result<Option<Reader<'a>>> {
        let mut found = None;
        for _ in 0..self.u32()? {
            let tag = self.u32()?;
            let size = self.u32()?;
            let rest = self.take(size)?;
            if tag as i64 == wanted {
                found = Some(Reader { bytes: self.bytes, rest, flexible: true });
            }
        }
        Ok(found)
    }
}
