//! The image alone: what it refuses, and what it tells.

use super::*;

const T: TopicId = TopicId(3);

fn register(broker: NodeId) -> MetadataRecord {
    MetadataRecord::RegisterBroker {
        broker,
        incarnation: 1,
        host: "h".to_owned(),
        port: 9,
        rack: Some(format!("r{broker}")),
    }
}

fn topic(configs: &[(&str, &str)]) -> MetadataRecord {
    let configs = configs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    MetadataRecord::Topic { name: "t".to_owned(), id: T, configs }
}

fn partition(index: i32, replicas: &[NodeId]) -> MetadataRecord {
    let leader = replicas.first().copied();
    let (isr, replicas) = (replicas.to_vec(), replicas.to_vec());
    let state = PartitionState { leader, isr, replicas, ..PartitionState::default() };
    MetadataRecord::Partition { topic: T, partition: index, state }
}

fn tp(partition: i32) -> TopicPartition {
    TopicPartition { topic: T, partition }
}

#[test]
fn a_log_that_no_controller_wrote_is_refused() {
    let mut image = MetadataImage::new(TopicDefaults::default());
    let fence = MetadataRecord::FenceBroker { broker: 1 };
    assert_eq!(image.apply(0, &fence), Err(ReplayError::UnknownBroker(1)));
    assert_eq!(image.apply(0, &partition(0, &[1])), Err(ReplayError::UnknownTopic(T)));
    image.apply(0, &topic(&[])).unwrap();
    assert_eq!(image.apply(1, &topic(&[])), Err(ReplayError::DuplicateTopic("t".to_owned())));
    assert_eq!(image.apply(0, &register(1)), Err(ReplayError::Offset { at: 0, got: 0 }));
    assert_eq!((image.offset(), image.brokers().len()), (0, 0));
}

#[test]
fn a_batch_touches_what_it_changes_and_the_partitions_of_its_brokers() {
    let mut image = MetadataImage::new(TopicDefaults::default());
    let first = [register(1), register(2), topic(&[]), partition(0, &[1]), partition(1, &[2]), partition(2, &[1, 2])];
    let touched = image.apply_batch(0, &first).unwrap();
    assert_eq!(touched.partitions, BTreeSet::from([tp(0), tp(1), tp(2)]));
    assert_eq!(touched.brokers, BTreeSet::from([1, 2]));
    let unfenced = image.apply_batch(6, &[MetadataRecord::UnfenceBroker { broker: 1 }]).unwrap();
    assert_eq!(unfenced.partitions, BTreeSet::from([tp(0), tp(2)]));
    let changed = image.apply(7, &partition(1, &[2])).unwrap();
    assert_eq!((changed.partitions, changed.brokers), (BTreeSet::from([tp(1)]), BTreeSet::new()));
    assert_eq!(image.partitions_of(2).collect::<Vec<_>>(), vec![tp(1), tp(2)]);
}

#[test]
fn a_partition_is_told_the_state_as_of_the_image() {
    let mut image = MetadataImage::new(TopicDefaults { min_isr: 2, unclean: true, ..TopicDefaults::default() });
    let records = [register(1), topic(&[]), partition(0, &[1])];
    image.apply_batch(10, &records).unwrap();
    let delta = image.delta(tp(0)).unwrap();
    assert_eq!((delta.metadata_offset, delta.min_isr, &delta.state.replicas[..]), (12, 2, &[1][..]));
    assert_eq!(delta.brokers.get(&1), Some(&BrokerStatus { broker_epoch: 10, fenced: true, shutting_down: false }));
    image.apply(13, &MetadataRecord::UnfenceBroker { broker: 1 }).unwrap();
    let later = image.delta(tp(0)).unwrap();
    assert_eq!(later.brokers.get(&1), Some(&BrokerStatus { broker_epoch: 10, fenced: false, shutting_down: false }));
    assert_eq!(delta.brokers.get(&1).map(|b| b.fenced), Some(true), "an earlier delta stays as it was");
    assert!(image.delta(tp(1)).is_none());
}

#[test]
fn a_topics_own_configuration_comes_before_the_defaults() {
    let mut image = MetadataImage::new(TopicDefaults { min_isr: 2, unclean: true, ..TopicDefaults::default() });
    image.apply(0, &topic(&[("min.insync.replicas", "3"), ("unclean.leader.election.enable", "false")])).unwrap();
    assert_eq!((image.min_isr(T), image.unclean(T)), (3, false));
    assert_eq!((image.min_isr(TopicId(9)), image.unclean(TopicId(9))), (2, true));
    assert_eq!(image.topic_named("t").map(|t| t.id), Some(T));
}

#[test]
fn a_block_of_producer_ids_is_no_step_of_a_partition() {
    let mut image = MetadataImage::new(TopicDefaults::default());
    let records = [register(1), topic(&[]), partition(0, &[1]), MetadataRecord::ProducerIds { next: 1000 }];
    image.apply_batch(0, &records).unwrap();
    // A trace has no event of such a record: a replica that names its offset would know more than the log says.
    assert_eq!((image.offset(), image.delta(tp(0)).unwrap().metadata_offset), (3, 2));
    image.apply(4, &MetadataRecord::UnfenceBroker { broker: 1 }).unwrap();
    assert_eq!(image.delta(tp(0)).unwrap().metadata_offset, 4);
}
