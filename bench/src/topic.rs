//! What the load generator asks of a cluster besides producing and fetching. Versions are such that Apache Kafka, librdkafka's mock
//! cluster and our broker all serve.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bellwether_wire::messages::create_topics_request::CreatableTopic;
use bellwether_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use bellwether_wire::messages::metadata_request::MetadataRequestTopic;
use bellwether_wire::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, ListOffsetsRequest, MetadataRequest, MetadataResponse, TopicName,
};
use bellwether_wire::{ResponseKind, StrBytes};

use crate::connection::Connection;

/// The topic that every run uses.
pub(crate) const TOPIC: &str = "bench";
/// Its partitions.
pub(crate) const PARTITIONS: i32 = 6;

const METADATA: i16 = 5;
/// UNKNOWN_TOPIC_OR_PARTITION
const UNKNOWN_TOPIC: i16 = 3;

fn name() -> TopicName {
    TopicName(StrBytes::from_static_str(TOPIC))
}

fn metadata(connection: &mut Connection, topic: bool) -> anyhow::Result<MetadataResponse> {
    let mut request = MetadataRequest::default();
    let topics = match topic {
        true => vec![MetadataRequestTopic::default().with_name(Some(name()))],
        false => Vec::new(),
    };
    request.topics = Some(topics);
    request.allow_auto_topic_creation = false;
    match connection.call(METADATA, request)? {
        ResponseKind::Metadata(response) => Ok(response),
        _ => bail!("not a metadata response"),
    }
}

/// Waits until the cluster answers Metadata with so many brokers.
pub(crate) fn await_brokers(bootstrap: &str, brokers: usize, patience: Duration) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut connection: Option<Connection> = None;
    loop {
        let known = match &mut connection {
            Some(open) => metadata(open, false).map(|m| m.brokers.len()),
            None => {
                connection = Connection::open(bootstrap).ok();
                Ok(0)
            }
        };
        match known {
            Ok(known) if known >= brokers => return Ok(()),
            Ok(_) => {}
            Err(_) => connection = None,
        }
        if began.elapsed() > patience {
            bail!("{bootstrap}: no cluster of {brokers} brokers after {patience:?}");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Creates the topic.
pub(crate) fn create(bootstrap: &str, replication_factor: i16) -> anyhow::Result<()> {
    let mut topic = CreatableTopic::default();
    topic.name = name();
    topic.num_partitions = PARTITIONS;
    topic.replication_factor = replication_factor;
    let mut request = CreateTopicsRequest::default();
    request.topics = vec![topic];
    request.timeout_ms = 15_000;
    let began = Instant::now();
    loop {
        let ResponseKind::CreateTopics(response) = Connection::open(bootstrap)?.call(4, request.clone())? else {
            bail!("not an answer to CreateTopics");
        };
        match response.topics.first().map(|t| t.error_code) {
            Some(0) => return Ok(()),
            // The one of the run before is not gone yet.
            Some(36) if began.elapsed() < Duration::from_secs(10) => std::thread::sleep(Duration::from_millis(50)),
            other => bail!("CreateTopics: error {other:?}"),
        }
    }
}

/// Deletes the topic (DeleteTopics version 1), and waits until no broker knows it: the next one has its name.
pub(crate) fn delete(bootstrap: &str) -> anyhow::Result<()> {
    let mut request = DeleteTopicsRequest::default();
    (request.topic_names, request.timeout_ms) = (vec![name()], 15_000);
    let mut connection = Connection::open(bootstrap)?;
    let ResponseKind::DeleteTopics(response) = connection.call(1, request)? else {
        bail!("not an answer to DeleteTopics")
    };
    if let Some(refused) = response.responses.iter().find(|r| r.error_code != 0) {
        bail!("DeleteTopics: error {}", refused.error_code);
    }
    let began = Instant::now();
    for broker in metadata(&mut connection, false)?.brokers {
        let mut connection = Connection::open(&format!("{}:{}", broker.host.as_str(), broker.port))?;
        while metadata(&mut connection, true)?.topics.iter().any(|t| t.error_code != UNKNOWN_TOPIC) {
            if began.elapsed() > Duration::from_secs(15) {
                bail!("the topic is not deleted");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    Ok(())
}

/// The addresses of the leaders, each with its partitions, once all partitions have one and are in sync with `replicas`.
pub(crate) fn leaders(bootstrap: &str, replicas: usize) -> anyhow::Result<BTreeMap<String, Vec<i32>>> {
    let began = Instant::now();
    let mut connection = Connection::open(bootstrap)?;
    loop {
        let response = metadata(&mut connection, true)?;
        let topic = response.topics.first().context("no topic")?;
        let mut leaders: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for partition in topic.partitions.iter().filter(|p| p.isr_nodes.len() >= replicas) {
            if let Some(broker) = response.brokers.iter().find(|b| b.node_id == partition.leader_id) {
                let address = format!("{}:{}", broker.host.as_str(), broker.port);
                leaders.entry(address).or_default().push(partition.partition_index);
            }
        }
        if leaders.values().map(Vec::len).sum::<usize>() == PARTITIONS as usize {
            return Ok(leaders);
        }
        if began.elapsed() > Duration::from_secs(15) {
            bail!("the partitions have no leaders: {:?}", topic);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until the leaders serve: Kafka's controller tells clients of a leader before that one knows that it is.
pub(crate) fn await_leaders(bootstrap: &str, replicas: usize) -> anyhow::Result<()> {
    let began = Instant::now();
    for (address, partitions) in leaders(bootstrap, replicas)? {
        let mut connection = Connection::open(&address)?;
        while let Err(why) = ends(&mut connection, &partitions) {
            if began.elapsed() > Duration::from_secs(15) {
                return Err(why);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    Ok(())
}

/// The end of these partitions' logs. Requests of a connection are taken in in order, so this tells what came before it.
pub(crate) fn ends(connection: &mut Connection, partitions: &[i32]) -> anyhow::Result<Vec<i64>> {
    let mut topic = ListOffsetsTopic::default();
    topic.name = name();
    for index in partitions {
        let mut partition = ListOffsetsPartition::default();
        (partition.partition_index, partition.timestamp) = (*index, -1);
        topic.partitions.push(partition);
    }
    let mut request = ListOffsetsRequest::default();
    request.replica_id = (-1).into();
    request.topics = vec![topic];
    let ResponseKind::ListOffsets(response) = connection.call(5, request)? else {
        bail!("not an answer to ListOffsets")
    };
    let found = &response.topics.first().context("no topic")?.partitions;
    let end = |index: &i32| {
        let found = found.iter().find(|p| p.partition_index == *index && p.error_code == 0);
        found.map(|p| p.offset).with_context(|| format!("no end of partition {index}"))
    };
    partitions.iter().map(end).collect()
}
