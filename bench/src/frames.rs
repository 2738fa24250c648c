//! The frames of the load: made once, sent as often as needed with another correlation id. What a broker answers is read in place.

use anyhow::{Context as _, ensure};
use bellwether_wire::batch::{self, parse_header};
use bellwether_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use bellwether_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use bellwether_wire::messages::{FetchRequest, ProduceRequest, TopicName};
use bellwether_wire::{RequestKind, StrBytes, encode_request};
use bytes::Bytes;

use crate::topic::TOPIC;

/// The last version of Produce before the flexible ones that all three systems serve.
const PRODUCE: i16 = 7;
/// The last one of Fetch without flexible fields.
const FETCH: i16 = 11;

/// A produce request with one batch of `count` records of `size` bytes for each of these partitions.
pub(crate) fn produce(partitions: &[i32], acks: i16, size: usize, count: usize) -> anyhow::Result<Vec<u8>> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis() as i64;
    let records: Vec<_> = (0..count).map(|i| (None, Some(noise(size, i as u64)), now)).collect();
    let batch = batch::build(&records, -1, -1, -1);
    let mut topic = TopicProduceData::default();
    topic.name = TopicName(StrBytes::from_static_str(TOPIC));
    for index in partitions {
        topic.partition_data.push(PartitionProduceData::default().with_index(*index).with_records(Some(batch.clone())));
    }
    let mut request = ProduceRequest::default();
    request.acks = acks;
    request.timeout_ms = 30_000;
    request.topic_data = vec![topic];
    frame(PRODUCE, request.into())
}

/// A fetch of these partitions from these offsets, which waits for at least one byte.
pub(crate) fn fetch(places: &[(i32, i64)]) -> anyhow::Result<Vec<u8>> {
    let mut topic = FetchTopic::default();
    topic.topic = TopicName(StrBytes::from_static_str(TOPIC));
    for (index, offset) in places {
        let mut partition = FetchPartition::default();
        partition.partition = *index;
        partition.current_leader_epoch = -1;
        partition.fetch_offset = *offset;
        partition.log_start_offset = -1;
        // As the Java client asks: max.partition.fetch.bytes and fetch.max.bytes.
        partition.partition_max_bytes = 1 << 20;
        topic.partitions.push(partition);
    }
    let mut request = FetchRequest::default();
    request.replica_id = (-1).into();
    request.max_wait_ms = 500;
    request.min_bytes = 1;
    request.max_bytes = 50 << 20;
    request.session_epoch = -1;
    request.topics = vec![topic];
    frame(FETCH, request.into())
}

fn frame(version: i16, body: RequestKind) -> anyhow::Result<Vec<u8>> {
    Ok(encode_request(body.api_key(), version, 0, Some("bench"), None, &body)?.into())
}

/// Gives a frame another correlation id.
pub(crate) fn number(frame: &mut [u8], id: i32) {
    if let Some(place) = frame.get_mut(8..12) {
        place.copy_from_slice(&id.to_be_bytes());
    }
}

/// Bytes that no codec makes shorter, the same in each run.
fn noise(size: usize, seed: u64) -> Bytes {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.to_le_bytes()
    };
    (0..size.div_ceil(8)).flat_map(|_| next()).take(size).collect::<Vec<u8>>().into()
}

/// Reads a produce response (version 7): an error of any partition is one.
pub(crate) fn check_produced(frame: &[u8]) -> anyhow::Result<()> {
    let mut rest = Reader(frame);
    rest.i32()?;
    for _ in 0..rest.i32()? {
        rest.text()?;
        for _ in 0..rest.i32()? {
            let (index, error) = (rest.i32()?, rest.i16()?);
            ensure!(error == 0, "partition {index} refuses a batch: error {error}");
            rest.take(24)?;
        }
    }
    Ok(())
}

/// What a fetch brought of one partition.
pub(crate) struct Fetched {
    pub(crate) partition: i32,
    /// The offset after the last whole batch; none if there was none.
    pub(crate) next: Option<i64>,
    pub(crate) records: u64,
}

/// Reads a fetch response (version 11), batch headers included.
pub(crate) fn fetched(frame: &[u8], mut each: impl FnMut(Fetched) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut rest = Reader(frame);
    rest.take(8)?;
    let error = rest.i16()?;
    ensure!(error == 0, "fetch error {error}");
    rest.i32()?;
    for _ in 0..rest.i32()? {
        rest.text()?;
        for _ in 0..rest.i32()? {
            let (partition, error) = (rest.i32()?, rest.i16()?);
            ensure!(error == 0, "partition {partition}: fetch error {error}");
            rest.take(24)?;
            let aborted = usize::try_from(rest.i32()?).unwrap_or(0);
            rest.take(aborted * 16 + 4)?;
            let size = usize::try_from(rest.i32()?).unwrap_or(0);
            let mut batches = rest.take(size)?;
            let mut found = Fetched { partition, next: None, records: 0 };
            while let Ok(header) = parse_header(batches)
                && let Some(after) = batches.get(header.size()..)
            {
                found.next = Some(header.base_offset + i64::from(header.last_offset_delta) + 1);
                found.records += u64::from(header.record_count.unsigned_abs());
                batches = after;
            }
            each(found)?;
        }
    }
    Ok(())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, size: usize) -> anyhow::Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(size).context("a response is cut short")?;
        self.0 = rest;
        Ok(taken)
    }

    fn i16(&mut self) -> anyhow::Result<i16> {
        Ok(i16::from_be_bytes(self.take(2)?.try_into()?))
    }

    fn i32(&mut self) -> anyhow::Result<i32> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into()?))
    }

    fn text(&mut self) -> anyhow::Result<()> {
        let size = usize::try_from(self.i16()?).unwrap_or(0);
        self.take(size).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use bellwether_wire::messages::ProduceResponse;
    use bellwether_wire::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
    use bellwether_wire::{ApiKey, FetchPartition as Place, FetchReply, FetchTopic as Topic};
    use bellwether_wire::{decode_request, encode_fetch, encode_response};

    use super::*;

    #[test]
    fn a_produce_request_is_one_that_a_broker_takes_under_the_number_it_was_given() {
        let mut frame = produce(&[0, 3], -1, 1000, 4).unwrap();
        number(&mut frame, 77);
        let request = decode_request(Bytes::from(frame).slice(4..)).unwrap();
        assert_eq!((request.api_key, request.version, request.correlation_id), (ApiKey::Produce, PRODUCE, 77));
        let RequestKind::Produce(body) = request.body else { panic!("{:?}", request.body) };
        let partitions = &body.topic_data[0].partition_data;
        assert_eq!(partitions.iter().map(|p| p.index).collect::<Vec<_>>(), [0, 3]);
        let batches = batch::split(partitions[1].records.as_ref().unwrap(), true).unwrap();
        let records = batch::records(&batches[0]).unwrap();
        assert!(records.len() == 4 && records.iter().all(|r| r.value.as_ref().is_some_and(|v| v.len() == 1000)));
        assert_ne!(records[0].value, records[1].value);
    }

    fn produced(error: i16) -> anyhow::Result<()> {
        let mut topic = TopicProduceResponse::default();
        topic.name = TopicName(StrBytes::from_static_str(TOPIC));
        for code in [0, error] {
            topic.partition_responses.push(PartitionProduceResponse::default().with_error_code(code));
        }
        let response = ProduceResponse::default().with_responses(vec![topic]);
        check_produced(&encode_response(ApiKey::Produce, PRODUCE, 5, None, &response.into()).unwrap()[4..])
    }

    #[test]
    fn an_error_of_any_partition_is_seen() {
        produced(0).unwrap();
        assert!(produced(19).unwrap_err().to_string().contains("error 19"));
    }

    #[test]
    fn a_fetch_response_is_read_batch_by_batch_and_a_cut_one_ends_before_the_cut() {
        let records: Vec<_> = (0..3).map(|_| (None, Some(noise(50, 1)), 0)).collect();
        let batch = batch::build(&records, -1, -1, -1);
        let mut second = batch.to_vec();
        second[..8].copy_from_slice(&3i64.to_be_bytes());
        let cut = batch.slice(..70);
        let place = |index, records| Place { index, records, ..Place::default() };
        let partitions = vec![place(2, vec![batch, second.into(), cut]), place(4, vec![])];
        let topics = vec![Topic { name: TOPIC.into(), id: 0, partitions }];
        let reply = FetchReply { topics, ..FetchReply::default() };
        let frame = encode_fetch(FETCH, 1, None, &reply).unwrap().concat();
        let mut found = Vec::new();
        fetched(&frame[4..], |f| {
            found.push((f.partition, f.next, f.records));
            Ok(())
        })
        .unwrap();
        assert_eq!(found, [(2, Some(6), 6), (4, None, 0)]);
        assert!(fetched(&frame[4..frame.len() - 1], |_| Ok(())).is_err());
    }
}
