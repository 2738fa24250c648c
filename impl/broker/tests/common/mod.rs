//! A small client over the wire crate: each request by hand, each answer as it is.
#![allow(dead_code, reason = "not every test needs all of it")]

use std::sync::Arc;
use std::time::Duration;

use bellwether_broker::{Cluster, Config, HostPort, Peer, PeerError, TraceSink};
use bellwether_wire::messages::create_topics_request::CreatableTopic;
use bellwether_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use bellwether_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use bellwether_wire::messages::metadata_request::MetadataRequestTopic;
use bellwether_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use bellwether_wire::messages::{
    CreateTopicsRequest, FetchRequest, ListOffsetsRequest, MetadataRequest, MetadataResponse, ProduceRequest, TopicName,
};
use bellwether_wire::{RequestKind, ResponseError, ResponseKind, StrBytes, batch};
use bytes::Bytes;

pub fn config() -> Config {
    let mut config = Config { listen: HostPort { host: "127.0.0.1".into(), port: 0 }, ..Config::default() };
    config.test_timeouts();
    config
}

pub async fn start(nodes: usize, config: &Config) -> Cluster {
    start_traced(nodes, config, Arc::new(TraceSink::off())).await
}

pub async fn start_traced(nodes: usize, config: &Config, sink: Arc<TraceSink>) -> Cluster {
    let cluster = Cluster::start(nodes, config, sink).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), cluster.ready()).await.expect("the cluster gets ready");
    cluster
}

/// Asks until it is so, for some ten seconds.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..1000 {
        if let Some(found) = ask().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

pub fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from(topic.to_string()))
}

pub fn values(values: &[&str]) -> Bytes {
    let records: Vec<_> = values.iter().map(|v| (None, Some(Bytes::copy_from_slice(v.as_bytes())), 1_000)).collect();
    batch::build(&records, -1, -1, -1)
}

pub struct Client(pub Peer);

pub struct Fetched {
    pub error: i16,
    pub high_watermark: i64,
    pub values: Vec<String>,
}

impl Client {
    pub async fn connect(address: &HostPort) -> Client {
        Client(Peer::connect(address, "test", Arc::new(TraceSink::off()), 1 << 28).await.unwrap())
    }

    /// A client of the partition's leader.
    pub async fn to_leader(cluster: &Cluster, topic: &str, partition: i32) -> Client {
        for _ in 0..200 {
            for node in cluster.nodes() {
                let client = Client::connect(node.address()).await;
                let metadata = client.metadata(topic, false).await;
                let found = metadata.topics.first().and_then(|t| t.partitions.get(partition as usize));
                // A broker may know that it is to lead before its replica does.
                let leads = found.is_some_and(|p| p.leader_id.0 == node.id());
                if leads && client.list(topic, partition, -1).await.0 != ResponseError::NotLeaderOrFollower.code() {
                    return client;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no leader of {topic}-{partition}");
    }

    pub async fn call(&self, version: i16, body: impl Into<RequestKind>) -> ResponseKind {
        let body = body.into();
        let call = self.0.call(version, &body);
        tokio::time::timeout(Duration::from_secs(20), call).await.expect("an answer in time").unwrap()
    }

    pub async fn metadata(&self, topic: &str, create: bool) -> MetadataResponse {
        let mut request = MetadataRequest::default();
        request.topics = Some(vec![MetadataRequestTopic::default().with_name(Some(name(topic)))]);
        request.allow_auto_topic_creation = create;
        match self.call(9, request).await {
            ResponseKind::Metadata(response) => response,
            other => panic!("{other:?}"),
        }
    }

    /// The leader of a partition, once this broker knows it.
    pub async fn leader(&self, topic: &str, partition: i32) -> i32 {
        for _ in 0..500 {
            let metadata = self.metadata(topic, false).await;
            if let Some(found) = metadata.topics.first().and_then(|t| t.partitions.get(partition as usize)) {
                return found.leader_id.0;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{topic}-{partition} does not show up");
    }

    /// Creates a topic; the error code.
    pub async fn create(&self, topic: &str, partitions: i32, replicas: i16) -> i16 {
        let topic = CreatableTopic::default()
            .with_name(name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(replicas);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(5000);
        match self.call(7, request).await {
            ResponseKind::CreateTopics(response) => response.topics[0].error_code,
            other => panic!("{other:?}"),
        }
    }

    /// Produces a batch; error code and base offset.
    pub async fn produce(&self, topic: &str, partition: i32, acks: i16, records: Bytes) -> (i16, i64) {
        match self.call(9, produce_request(topic, partition, acks, records)).await {
            ResponseKind::Produce(response) => {
                let partition = &response.responses[0].partition_responses[0];
                (partition.error_code, partition.base_offset)
            }
            other => panic!("{other:?}"),
        }
    }

    pub async fn fetch(&self, topic: &str, partition: i32, offset: i64, max_wait: Duration) -> Fetched {
        self.fetch_version(11, topic, partition, offset, max_wait).await
    }

    /// As a client of this version; before 11 only leaders serve it.
    pub async fn fetch_version(
        &self,
        version: i16,
        topic: &str,
        partition: i32,
        offset: i64,
        max_wait: Duration,
    ) -> Fetched {
        let mut asked = FetchPartition::default();
        (asked.partition, asked.fetch_offset, asked.partition_max_bytes) = (partition, offset, 1 << 20);
        asked.current_leader_epoch = -1;
        let topic = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![asked]);
        let mut request = FetchRequest::default();
        (request.max_wait_ms, request.min_bytes, request.max_bytes) = (max_wait.as_millis() as i32, 1, 1 << 24);
        request.topics = vec![topic];
        let ResponseKind::Fetch(response) = self.call(version, request).await else { panic!("not a fetch response") };
        let partition = &response.responses[0].partitions[0];
        let batches = batch::split_fetched(&partition.records.clone().unwrap_or_default()).unwrap();
        let records = batches.iter().flat_map(|b| batch::records(b).unwrap());
        let records = records.filter(|r| r.offset >= offset);
        Fetched {
            error: partition.error_code,
            high_watermark: partition.high_watermark,
            values: records.map(|r| String::from_utf8(r.value.unwrap().to_vec()).unwrap()).collect(),
        }
    }

    /// Fetches from the start until there are `count` values.
    pub async fn read(&self, topic: &str, partition: i32, count: usize) -> Vec<String> {
        let mut all = Vec::new();
        for _ in 0..200 {
            let fetched = self.fetch(topic, partition, all.len() as i64, Duration::from_millis(100)).await;
            assert_eq!(fetched.error, 0);
            all.extend(fetched.values);
            if all.len() >= count {
                break;
            }
        }
        all
    }

    /// ListOffsets: error code, offset.
    pub async fn list(&self, topic: &str, partition: i32, timestamp: i64) -> (i16, i64) {
        self.list_version(7, topic, partition, timestamp).await
    }

    /// As a client of this version.
    pub async fn list_version(&self, version: i16, topic: &str, partition: i32, timestamp: i64) -> (i16, i64) {
        let mut asked = ListOffsetsPartition::default();
        (asked.partition_index, asked.timestamp, asked.current_leader_epoch) = (partition, timestamp, -1);
        let topic = ListOffsetsTopic::default().with_name(name(topic)).with_partitions(vec![asked]);
        let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
        match self.call(version, request).await {
            ResponseKind::ListOffsets(response) => {
                let partition = &response.topics[0].partitions[0];
                (partition.error_code, partition.offset)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Has the broker closed the connection?
    pub async fn is_closed(&self) -> bool {
        for _ in 0..500 {
            if self.0.is_broken() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    /// Sends a request that has no response (acks=0).
    pub fn send(&self, body: ProduceRequest) -> Result<(), PeerError> {
        self.0.send(9, &body.into()).map(|_| ())
    }
}

pub fn produce_request(topic: &str, partition: i32, acks: i16, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
    let topic = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(10_000).with_topic_data(vec![topic])
}
