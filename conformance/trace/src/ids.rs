//! Who and what an event is about: nodes, topics, partitions.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A node's id, as in `node.id`: brokers and controllers alike.
pub type NodeId = i32;

/// A topic's id (KIP-516), written as Kafka writes it: 22 characters of URL-safe base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicId(pub u128);

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 128 bits in 22 characters of 6 bits: the last one carries 2 bits and 4 zeros.
        for i in 0..22u32 {
            let sextet = if i < 21 { self.0 >> (122 - 6 * i) } else { self.0 << 4 };
            let c = ALPHABET[(sextet & 63) as usize];
            write!(f, "{}", c as char)?;
        }
        Ok(())
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TopicId {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let bad = || format!("'{s}' is not a topic id (22 characters of URL-safe base64)");
        if s.len() != 22 {
            return Err(bad());
        }
        let mut id = 0u128;
        for (i, c) in s.bytes().enumerate() {
            let sextet = ALPHABET.iter().position(|a| *a == c).ok_or_else(bad)? as u128;
            if i < 21 {
                id = id << 6 | sextet;
            } else if sextet & 15 == 0 {
                id = id << 2 | sextet >> 4;
            } else {
                return Err(bad());
            }
        }
        Ok(TopicId(id))
    }
}

/// A partition of a topic, written `<topic id>:<partition>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct TopicPartition {
    /// The topic's id.
    pub topic: TopicId,
    /// The partition's index, from 0.
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.topic, self.partition)
    }
}

impl FromStr for TopicPartition {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let (topic, partition) = s.rsplit_once(':').ok_or_else(|| format!("'{s}' is not <topic id>:<partition>"))?;
        Ok(TopicPartition {
            topic: topic.parse()?,
            partition: partition.parse().map_err(|_| format!("'{partition}' is not a partition index"))?,
        })
    }
}

macro_rules! written_as_text {
    ($($id:ty),*) => {$(
        impl Serialize for $id {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $id {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(D::Error::custom)
            }
        }
    )*};
}

written_as_text!(TopicId, TopicPartition);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_partition_reads_back_as_it_was_written(topic: u128, partition in 0i32..) {
            let tp = TopicPartition { topic: TopicId(topic), partition };
            prop_assert_eq!(tp.to_string().parse::<TopicPartition>(), Ok(tp));
        }
    }

    #[test]
    fn malformed_ids_are_refused() {
        for bad in ["", "AAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAA:x", "AAAAAAAAAAAAAAAAAAAAAB:0", "A:0"] {
            assert!(bad.parse::<TopicPartition>().is_err(), "{bad}");
        }
    }
}
