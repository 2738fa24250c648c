//! Every API in every version that is advertised, over TCP: it is served, the answer can be decoded, and it is a happy one.

mod common;

use std::time::Duration;

use bellwether_wire::messages::alter_configs_request as alter;
use bellwether_wire::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use bellwether_wire::messages::create_partitions_request::CreatePartitionsTopic;
use bellwether_wire::messages::create_topics_request::CreatableTopic;
use bellwether_wire::messages::delete_topics_request::DeleteTopicState;
use bellwether_wire::messages::describe_configs_request::DescribeConfigsResource;
use bellwether_wire::messages::describe_topic_partitions_request::TopicRequest;
use bellwether_wire::messages::elect_leaders_request::TopicPartitions;
use bellwether_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use bellwether_wire::messages::incremental_alter_configs_request as incremental;
use bellwether_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use bellwether_wire::messages::metadata_request::MetadataRequestTopic;
use bellwether_wire::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use bellwether_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use bellwether_wire::messages::*;
use bellwether_wire::{RequestKind, ResponseError, ResponseKind, SUPPORTED, StrBytes, Uuid};
use common::{Client, config, name, start, values};

fn text(s: &str) -> StrBytes {
    StrBytes::from(s.to_owned())
}

/// A request that succeeds, about partition 0 of topic "t". What a version does not have may not be set.
fn sample(key: ApiKey, version: i16, id: Uuid) -> RequestKind {
    let t = name("t");
    let named =
        |ids_since: i16| if version < ids_since { (t.clone(), Uuid::nil()) } else { (TopicName::default(), id) };
    match key {
        ApiKey::Produce => {
            let data = PartitionProduceData::default().with_records(Some(values(&["v"])));
            let (name, id) = named(13);
            let topic = TopicProduceData::default().with_name(name).with_topic_id(id).with_partition_data(vec![data]);
            ProduceRequest::default().with_acks(1).with_timeout_ms(1000).with_topic_data(vec![topic]).into()
        }
        ApiKey::Fetch => {
            let partition = FetchPartition::default().with_partition_max_bytes(1000);
            let (name, id) = named(13);
            let topic = FetchTopic::default().with_topic(name).with_topic_id(id).with_partitions(vec![partition]);
            FetchRequest::default().with_max_bytes(1000).with_topics(vec![topic]).into()
        }
        ApiKey::ListOffsets => {
            let partitions = |timestamp| ListOffsetsPartition::default().with_timestamp(timestamp);
            let topic = ListOffsetsTopic::default().with_name(t).with_partitions(vec![partitions(-1)]);
            ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]).into()
        }
        ApiKey::Metadata => {
            let topic = MetadataRequestTopic::default().with_name(Some(t));
            MetadataRequest::default().with_topics(Some(vec![topic])).into()
        }
        ApiKey::ApiVersions => {
            let words = |since| if version < since { StrBytes::default() } else { text("a-client") };
            let request = ApiVersionsRequest::default().with_client_software_name(words(3));
            request.with_client_software_version(words(3)).into()
        }
        ApiKey::CreateTopics => {
            let topic = CreatableTopic::default().with_name(name(&format!("c-{version}")));
            let topic = topic.with_num_partitions(1).with_replication_factor(1);
            CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(1000).into()
        }
        ApiKey::DeleteTopics => {
            // One of those that were created, by its name.
            let doomed = name(&format!("c-{}", version + 1));
            let request = DeleteTopicsRequest::default().with_timeout_ms(1000);
            match version {
                6.. => request.with_topics(vec![DeleteTopicState::default().with_name(Some(doomed))]).into(),
                _ => request.with_topic_names(vec![doomed]).into(),
            }
        }
        ApiKey::CreatePartitions => {
            let topic = CreatePartitionsTopic::default().with_name(t).with_count(2 + i32::from(version));
            CreatePartitionsRequest::default().with_topics(vec![topic.with_assignments(None)]).into()
        }
        ApiKey::InitProducerId => InitProducerIdRequest::default().with_transactional_id(None).into(),
        ApiKey::OffsetForLeaderEpoch => {
            let partition = OffsetForLeaderPartition::default().with_leader_epoch(0);
            let topic = OffsetForLeaderTopic::default().with_topic(t).with_partitions(vec![partition]);
            OffsetForLeaderEpochRequest::default().with_topics(vec![topic]).into()
        }
        ApiKey::DescribeConfigs => {
            let resource = |kind, name| {
                let resource = DescribeConfigsResource::default().with_resource_type(kind);
                resource.with_resource_name(text(name)).with_configuration_keys(None)
            };
            let request = DescribeConfigsRequest::default().with_resources(vec![resource(2, "t"), resource(4, "1")]);
            request.with_include_synonyms(true).with_include_documentation(version >= 3).into()
        }
        ApiKey::AlterConfigs => {
            let config = alter::AlterableConfig::default().with_name(text("retention.ms")).with_value(Some(text("5")));
            let resource = alter::AlterConfigsResource::default().with_resource_type(2).with_resource_name(text("t"));
            AlterConfigsRequest::default().with_resources(vec![resource.with_configs(vec![config])]).into()
        }
        ApiKey::IncrementalAlterConfigs => {
            let config = incremental::AlterableConfig::default().with_name(text("retention.ms"));
            let config = config.with_value(Some(text("500000")));
            let resource = incremental::AlterConfigsResource::default().with_resource_type(2);
            let resource = resource.with_resource_name(text("t")).with_configs(vec![config]);
            IncrementalAlterConfigsRequest::default().with_resources(vec![resource]).into()
        }
        ApiKey::ElectLeaders => {
            let topic = TopicPartitions::default().with_topic(t).with_partitions(vec![0]);
            ElectLeadersRequest::default().with_topic_partitions(Some(vec![topic])).into()
        }
        ApiKey::AlterPartitionReassignments => {
            let partition = ReassignablePartition::default().with_replicas(Some(vec![1.into()]));
            let topic = ReassignableTopic::default().with_name(t).with_partitions(vec![partition]);
            AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]).into()
        }
        ApiKey::ListPartitionReassignments => ListPartitionReassignmentsRequest::default().with_topics(None).into(),
        ApiKey::DescribeCluster => DescribeClusterRequest::default().into(),
        ApiKey::DescribeTopicPartitions => {
            let topic = TopicRequest::default().with_name(t);
            DescribeTopicPartitionsRequest::default().with_topics(vec![topic]).into()
        }
        ApiKey::FindCoordinator => {
            let request = FindCoordinatorRequest::default();
            match version {
                4.. => request.with_coordinator_keys(vec![text("g")]).into(),
                _ => request.with_key(text("g")).into(),
            }
        }
        other => panic!("{other:?} is advertised: give it a request here, or list it in ELSEWHERE with its test"),
    }
}

/// The error codes in an answer.
fn errors(response: &ResponseKind) -> Vec<i16> {
    match response {
        ResponseKind::Produce(r) => {
            r.responses.iter().flat_map(|t| &t.partition_responses).map(|p| p.error_code).collect()
        }
        ResponseKind::Fetch(r) => {
            let partitions = r.responses.iter().flat_map(|t| &t.partitions).map(|p| p.error_code);
            partitions.chain([r.error_code]).collect()
        }
        ResponseKind::ListOffsets(r) => r.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect(),
        ResponseKind::Metadata(r) => {
            r.topics.iter().flat_map(|t| t.partitions.iter().map(|p| p.error_code).chain([t.error_code])).collect()
        }
        ResponseKind::ApiVersions(r) => vec![r.error_code],
        ResponseKind::CreateTopics(r) => r.topics.iter().map(|t| t.error_code).collect(),
        ResponseKind::DeleteTopics(r) => r.responses.iter().map(|t| t.error_code).collect(),
        ResponseKind::CreatePartitions(r) => r.results.iter().map(|t| t.error_code).collect(),
        ResponseKind::InitProducerId(r) => vec![r.error_code],
        ResponseKind::OffsetForLeaderEpoch(r) => {
            r.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect()
        }
        ResponseKind::DescribeConfigs(r) => r.results.iter().map(|t| t.error_code).collect(),
        ResponseKind::AlterConfigs(r) => r.responses.iter().map(|t| t.error_code).collect(),
        ResponseKind::IncrementalAlterConfigs(r) => r.responses.iter().map(|t| t.error_code).collect(),
        ResponseKind::ElectLeaders(r) => {
            let partitions = r.replica_election_results.iter().flat_map(|t| &t.partition_result);
            // It leads already.
            let unneeded = ResponseError::ElectionNotNeeded.code();
            partitions.map(|p| if p.error_code == unneeded { 0 } else { p.error_code }).chain([r.error_code]).collect()
        }
        ResponseKind::AlterPartitionReassignments(r) => {
            let partitions = r.responses.iter().flat_map(|t| &t.partitions).map(|p| p.error_code);
            partitions.chain([r.error_code]).collect()
        }
        ResponseKind::ListPartitionReassignments(r) => vec![r.error_code],
        ResponseKind::DescribeCluster(r) => vec![r.error_code],
        ResponseKind::DescribeTopicPartitions(r) => {
            r.topics.iter().flat_map(|t| t.partitions.iter().map(|p| p.error_code).chain([t.error_code])).collect()
        }
        // Whatever it says of coordinators is another test's.
        ResponseKind::FindCoordinator(_) => vec![0],
        other => panic!("{other:?}"),
    }
}

/// APIs that have tests of their own (`groups.rs`, `offsets.rs`, `records.rs`).
const ELSEWHERE: &[ApiKey] = &[
    ApiKey::FindCoordinator,
    ApiKey::JoinGroup,
    ApiKey::SyncGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::OffsetDelete,
    ApiKey::ListGroups,
    ApiKey::DescribeGroups,
    ApiKey::DeleteGroups,
    ApiKey::ConsumerGroupHeartbeat,
    ApiKey::ConsumerGroupDescribe,
    ApiKey::DeleteRecords,
    ApiKey::DescribeLogDirs,
    ApiKey::DescribeProducers,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_version_of_every_api_is_served() {
    let cluster = start(1, &config()).await;
    let client = Client::connect(cluster.nodes()[0].address()).await;
    assert_eq!(client.create("t", 1, 1).await, 0);
    let client = Client::to_leader(&cluster, "t", 0).await;
    let id = client.metadata("t", false).await.topics[0].topic_id;
    assert!(id.is_nil(), "version 9 has no ids");
    let ResponseKind::Metadata(metadata) = client.call(12, sample(ApiKey::Metadata, 12, id)).await else { panic!() };
    let id = metadata.topics[0].topic_id;
    let mut served = 0;
    for range in SUPPORTED.iter().filter(|range| !ELSEWHERE.contains(&range.key)) {
        for version in range.served_from..=range.max {
            let response = client.call(version, sample(range.key, version, id)).await;
            assert_eq!(response.api_key(), range.key);
            let errors = errors(&response);
            assert!(!errors.is_empty() && errors.iter().all(|e| *e == 0), "{:?} {version}: {response:?}", range.key);
            served += 1;
        }
    }
    assert!(served > 70, "{served}");
    // Versions that are advertised for old clients' sake only, and those behind the last.
    for (key, version) in [(ApiKey::Metadata, 14), (ApiKey::Produce, 2), (ApiKey::Fetch, 3), (ApiKey::DeleteTopics, 0)]
    {
        assert!(!bellwether_wire::served(key, version), "{key:?} {version}");
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn features_are_told_from_version_3_on_and_level_0_from_version_4_on() {
    let cluster = start(1, &config()).await;
    let client = Client::connect(cluster.nodes()[0].address()).await;
    for version in 0..=4 {
        let request = sample(ApiKey::ApiVersions, version, Uuid::nil());
        let ResponseKind::ApiVersions(response) = client.call(version, request).await else { panic!() };
        assert_eq!(response.api_keys.len(), SUPPORTED.len());
        let supported: Vec<_> = response.supported_features.iter().map(|f| (f.name.as_str(), f.min_version)).collect();
        let finalized: Vec<_> = response.finalized_features.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(supported.iter().any(|(_, min)| *min == 0), version >= 4, "{supported:?}");
        assert_eq!(supported.iter().any(|(name, _)| *name == "metadata.version"), version >= 3);
        assert_eq!(finalized.contains(&"metadata.version"), version >= 3);
        // Nobody may think that there are transactions of the second version.
        assert!(!finalized.contains(&"transaction.version"));
        assert_eq!(response.finalized_features_epoch >= 0, version >= 3);
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_leader_is_told_who_leads_instead() {
    let cluster = start(2, &config()).await;
    let client = Client::connect(cluster.nodes()[0].address()).await;
    assert_eq!(client.create("t", 1, 1).await, 0);
    let leader = client.leader("t", 0).await;
    let other = Client::connect(cluster.nodes()[2 - leader as usize].address()).await;
    let not_leader = ResponseError::NotLeaderOrFollower.code();
    assert!(!other.metadata("t", false).await.topics[0].partitions.is_empty());
    let ResponseKind::Metadata(metadata) = other.call(12, sample(ApiKey::Metadata, 12, Uuid::nil())).await else {
        panic!()
    };
    let id = metadata.topics[0].topic_id;
    for version in [9, 10, 13] {
        let ResponseKind::Produce(response) = other.call(version, sample(ApiKey::Produce, version, id)).await else {
            panic!()
        };
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!(partition.error_code, not_leader);
        let (told, nodes) = if version < 10 { (-1, vec![]) } else { (leader, vec![leader]) };
        assert_eq!(partition.current_leader.leader_id.0, told, "{version}");
        assert_eq!(response.node_endpoints.iter().map(|n| n.node_id.0).collect::<Vec<_>>(), nodes);
    }
    for version in [15, 16, 18] {
        let ResponseKind::Fetch(response) = other.call(version, sample(ApiKey::Fetch, version, id)).await else {
            panic!()
        };
        let partition = &response.responses[0].partitions[0];
        assert_eq!(partition.error_code, not_leader);
        let (told, nodes) = if version < 16 { (-1, vec![]) } else { (leader, vec![leader]) };
        assert_eq!(partition.current_leader.leader_id.0, told, "{version}");
        assert_eq!(response.node_endpoints.iter().map(|n| n.node_id.0).collect::<Vec<_>>(), nodes);
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_are_listed_as_without_tiered_storage() {
    let cluster = start(1, &config()).await;
    let client = Client::connect(cluster.nodes()[0].address()).await;
    assert_eq!(client.create("t", 1, 1).await, 0);
    let client = Client::to_leader(&cluster, "t", 0).await;
    assert_eq!(client.produce("t", 0, 1, values(&["a", "b"])).await, (0, 0));
    let list = async |version: i16, timestamp: i64| {
        let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default().with_name(name("t")).with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
        let ResponseKind::ListOffsets(response) = client.call(version, request).await else { panic!() };
        let partition = &response.topics[0].partitions[0];
        (partition.error_code, partition.offset)
    };
    let unsupported = (ResponseError::UnsupportedVersion.code(), -1);
    for (timestamp, since, offset) in
        [(-1, 1, 2), (-2, 1, 0), (-3, 7, 0), (-4, 8, 0), (-5, 9, -1), (-6, 99, 0), (999, 1, 0)]
    {
        for version in 1..=10 {
            let expected = if version < since { unsupported } else { (0, offset) };
            assert_eq!(list(version, timestamp).await, expected, "{timestamp} in {version}");
        }
    }
    let twice = ListOffsetsTopic::default().with_name(name("t")).with_partitions(vec![Default::default(); 2]);
    let request = ListOffsetsRequest::default().with_topics(vec![twice]);
    let ResponseKind::ListOffsets(response) = client.call(7, request).await else { panic!() };
    let invalid = ResponseError::InvalidRequest.code();
    assert_eq!(response.topics[0].partitions.iter().map(|p| p.error_code).collect::<Vec<_>>(), [invalid, invalid]);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_answers_what_has_changed_and_nothing_else() {
    let cluster = start(1, &config()).await;
    let client = Client::connect(cluster.nodes()[0].address()).await;
    assert_eq!(client.create("t", 3, 1).await, 0);
    for partition in 0..3 {
        Client::to_leader(&cluster, "t", partition).await;
    }
    let id = {
        let ResponseKind::Metadata(m) = client.call(12, sample(ApiKey::Metadata, 12, Uuid::nil())).await else {
            panic!()
        };
        m.topics[0].topic_id
    };
    for version in [7, 12, 13, 18] {
        let fetch = async |session: (i32, i32), partitions: &[(i32, i64)], wait: i32| {
            let partition = |(index, offset): &(i32, i64)| {
                let partition = FetchPartition::default().with_partition(*index).with_fetch_offset(*offset);
                partition.with_partition_max_bytes(1000)
            };
            let (name, id) = if version < 13 { (name("t"), Uuid::nil()) } else { (TopicName::default(), id) };
            let topic = FetchTopic::default().with_topic(name).with_topic_id(id);
            let topic = topic.with_partitions(partitions.iter().map(partition).collect());
            let topics = if partitions.is_empty() { vec![] } else { vec![topic] };
            let request = FetchRequest::default().with_max_bytes(1 << 20).with_min_bytes(1).with_max_wait_ms(wait);
            let request = request.with_session_id(session.0).with_session_epoch(session.1).with_topics(topics);
            let ResponseKind::Fetch(response) = client.call(version, request).await else { panic!() };
            let told = response.responses.iter().flat_map(|t| &t.partitions).map(|p| p.partition_index);
            (response.error_code, response.session_id, told.collect::<Vec<_>>())
        };
        let end = client.list("t", 1, -1).await.1;
        let all = [(0, 0), (1, end), (2, 0)];
        let (error, session, told) = fetch((0, 0), &all, 0).await;
        assert_eq!((error, told), (0, vec![0, 1, 2]), "{version}");
        assert!(session > 0);
        assert_eq!(fetch((session, 1), &[], 0).await, (0, session, vec![]));
        assert_eq!(client.produce("t", 1, 1, values(&["v"])).await.0, 0);
        assert_eq!(fetch((session, 2), &[], 10_000).await, (0, session, vec![1]));
        let stale = ResponseError::InvalidFetchSessionEpoch.code();
        assert_eq!(fetch((session, 2), &[], 0).await, (stale, 0, vec![]));
        assert_eq!(fetch((session, -1), &all, 0).await.1, 0, "the last fetch");
        let unknown = ResponseError::FetchSessionIdNotFound.code();
        assert_eq!(fetch((session, 3), &[], 0).await, (unknown, 0, vec![]));
    }
    let waits = tokio::time::timeout(Duration::from_secs(5), client.fetch("t", 0, 0, Duration::ZERO)).await;
    assert_eq!(waits.unwrap().error, 0, "without a session as ever");
    cluster.shutdown().await;
}
