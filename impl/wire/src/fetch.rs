//! Fetch responses without a copy: the frame is a rope of small headers and of slices of the log.
//!
//! `kafka-protocol`'s encoder copies every record into its buffer. This one writes the same bytes (a test compares them
//! for every version) and leaves the records where they are; the shell hands the pieces to one vectored write.

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;

use crate::api::served;
use crate::frame::{WireError, encode_error, response_header};
use crate::varint::put_u32;

/// A fetch response. Versions drop what they cannot say: names from 13, ids before it, divergence, leaders and endpoints
/// in the older ones.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct FetchReply {
    /// How long the client is being throttled, in ms.
    pub throttle_ms: i32,
    /// Top-level error (a session that is not known, …); not before version 7.
    pub error_code: i16,
    /// The fetch session (KIP-227), 0 for none.
    pub session_id: i32,
    /// What was asked for, in order.
    pub topics: Vec<FetchTopic>,
    /// Addresses of the leaders named in the partitions (KIP-951), from version 16.
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// A topic of a fetch response.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct FetchTopic {
    /// Its name, used up to version 12.
    pub name: String,
    /// Its id (KIP-516), used from version 13.
    pub id: u128,
    /// Its partitions.
    pub partitions: Vec<FetchPartition>,
}

/// A partition of a fetch response.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct FetchPartition {
    /// The partition.
    pub index: i32,
    /// Kafka's error code, 0 for none.
    pub error_code: i16,
    /// The offset below which everything is committed.
    pub high_watermark: i64,
    /// The offset below which every transaction is decided.
    pub last_stable_offset: i64,
    /// The first offset of the log.
    pub log_start_offset: i64,
    /// (epoch, end offset): the largest epoch that the leader knows up to the one that the follower fetched last, and
    /// its end (KIP-595), from version 12.
    pub diverging: Option<(i32, i64)>,
    /// (node id, epoch) of the leader, if the asker was wrong about it, from version 12.
    pub current_leader: Option<(i32, i32)>,
    /// The replica that the consumer should rather read from (KIP-392), from version 11.
    pub preferred_read_replica: Option<i32>,
    /// The aborted transactions within the records, for a read-committed fetch; `None` for any other.
    pub aborted: Option<Vec<AbortedTransaction>>,
    /// The records in pieces, as the log gave them.
    pub records: Vec<Bytes>,
}

/// A transaction that a read-committed consumer must skip.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AbortedTransaction {
    /// Whose.
    pub producer_id: i64,
    /// Its first offset.
    pub first_offset: i64,
}

/// Where a node listens.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeEndpoint {
    /// The node.
    pub node_id: i32,
    /// Its host name.
    pub host: String,
    /// Its port.
    pub port: i32,
    /// Its rack, if any.
    pub rack: Option<String>,
}

/// Encodes a fetch response as pieces to be written one after another; the first begins with the length prefix.
/// Errors: a version that is not served, a name or frame too long.
pub fn encode_fetch(
    version: i16,
    correlation_id: i32,
    lamport: Option<u64>,
    reply: &FetchReply,
) -> Result<Vec<Bytes>, WireError> {
    if !served(ApiKey::Fetch, version) {
        return Err(encode_error(ApiKey::Fetch, version, "this version is not served".into()));
    }
    let out = response_header(ApiKey::Fetch, version, correlation_id, lamport);
    let mut writer = Writer { version, flexible: version >= 12, out, cuts: Vec::new(), record_bytes: 0 };
    writer.reply(reply)?;
    writer.finish()
}

struct Writer<'a> {
    version: i16,
    flexible: bool,
    /// Everything but the records.
    out: Vec<u8>,
    /// Where in `out` which records belong.
    cuts: Vec<(usize, &'a [Bytes])>,
    record_bytes: usize,
}

impl<'a> Writer<'a> {
    fn reply(&mut self, reply: &'a FetchReply) -> Result<(), WireError> {
        self.i32(reply.throttle_ms);
        if self.version >= 7 {
            self.i16(reply.error_code);
            self.i32(reply.session_id);
        }
        self.count(reply.topics.len())?;
        for topic in &reply.topics {
            if self.version <= 12 {
                self.string(&topic.name)?;
            } else {
                self.out.extend_from_slice(&topic.id.to_be_bytes());
            }
            self.count(topic.partitions.len())?;
            for partition in &topic.partitions {
                self.partition(partition)?;
            }
            self.no_tags();
        }
        if self.version >= 16 && !reply.node_endpoints.is_empty() {
            self.out.push(1);
            self.endpoints(&reply.node_endpoints)
        } else {
            self.no_tags();
            Ok(())
        }
    }

    fn partition(&mut self, partition: &'a FetchPartition) -> Result<(), WireError> {
        self.i32(partition.index);
        self.i16(partition.error_code);
        self.i64(partition.high_watermark);
        self.i64(partition.last_stable_offset);
        if self.version >= 5 {
            self.i64(partition.log_start_offset);
        }
        match &partition.aborted {
            None if self.flexible => self.out.push(0),
            None => self.i32(-1),
            Some(aborted) => {
                self.count(aborted.len())?;
                for transaction in aborted {
                    self.i64(transaction.producer_id);
                    self.i64(transaction.first_offset);
                    self.no_tags();
                }
            }
        }
        if self.version >= 11 {
            self.i32(partition.preferred_read_replica.unwrap_or(-1));
        }
        let size = partition.records.iter().map(Bytes::len).sum();
        self.count(size)?;
        if size > 0 {
            self.cuts.push((self.out.len(), &partition.records));
            self.record_bytes += size;
        }
        if self.flexible {
            self.partition_tags(partition);
        }
        Ok(())
    }

    fn partition_tags(&mut self, partition: &FetchPartition) {
        // As every Kafka encoder does, a tagged field that has its default is left out.
        let diverging = partition.diverging.filter(|d| *d != (-1, -1));
        let leader = partition.current_leader.filter(|l| *l != (-1, -1));
        self.out.push(u8::from(diverging.is_some()) + u8::from(leader.is_some()));
        if let Some((epoch, end_offset)) = diverging {
            self.out.extend_from_slice(&[0, 13]);
            self.i32(epoch);
            self.i64(end_offset);
            self.no_tags();
        }
        if let Some((id, epoch)) = leader {
            self.out.extend_from_slice(&[1, 9]);
            self.i32(id);
            self.i32(epoch);
            self.no_tags();
        }
    }

    /// Tag 0 of the body. Its size stands before it, so it is written aside first.
    fn endpoints(&mut self, endpoints: &[NodeEndpoint]) -> Result<(), WireError> {
        let outer = std::mem::take(&mut self.out);
        self.count(endpoints.len())?;
        for endpoint in endpoints {
            self.i32(endpoint.node_id);
            self.string(&endpoint.host)?;
            self.i32(endpoint.port);
            match &endpoint.rack {
                None => self.out.push(0),
                Some(rack) => self.string(rack)?,
            }
            self.no_tags();
        }
        let inner = std::mem::replace(&mut self.out, outer);
        self.out.push(0);
        put_u32(&mut self.out, inner.len() as u32);
        self.out.extend_from_slice(&inner);
        Ok(())
    }

    #[allow(clippy::indexing_slicing, reason = "it begins with four bytes for the length")]
    fn finish(mut self) -> Result<Vec<Bytes>, WireError> {
        let length = i32::try_from(self.out.len() - 4 + self.record_bytes).map_err(|_| self.too_long())?;
        self.out[..4].copy_from_slice(&length.to_be_bytes());
        let head = Bytes::from(self.out);
        let mut rope = Vec::with_capacity(1 + self.cuts.iter().map(|(_, r)| r.len() + 1).sum::<usize>());
        let mut from = 0;
        for (at, records) in self.cuts {
            rope.push(head.slice(from..at));
            rope.extend(records.iter().filter(|r| !r.is_empty()).cloned());
            from = at;
        }
        rope.push(head.slice(from..));
        Ok(rope)
    }

    fn i16(&mut self, value: i16) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    fn i32(&mut self, value: i32) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    fn i64(&mut self, value: i64) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// The length of an array or of bytes.
    fn count(&mut self, count: usize) -> Result<(), WireError> {
        let count = i32::try_from(count).ok().filter(|c| *c < i32::MAX).ok_or_else(|| self.too_long())?;
        if self.flexible {
            put_u32(&mut self.out, count as u32 + 1);
        } else {
            self.i32(count);
        }
        Ok(())
    }

    fn string(&mut self, text: &str) -> Result<(), WireError> {
        let size = i16::try_from(text.len()).map_err(|_| self.too_long())?;
        if self.flexible {
            put_u32(&mut self.out, size as u32 + 1);
        } else {
            self.i16(size);
        }
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn no_tags(&mut self) {
        if self.flexible {
            self.out.push(0);
        }
    }

    fn too_long(&self) -> WireError {
        encode_error(ApiKey::Fetch, self.version, "a name, a count or the frame is too long".into())
    }
}
