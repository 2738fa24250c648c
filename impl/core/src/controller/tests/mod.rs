//! The controller's tests: guards by name, topics, and invariants over random inputs.

mod configs;
mod elections;
mod elr;
mod growth;
mod guards;
mod invariants;
mod reassign;
mod shutdown;
mod topics;

use bellwether_trace::{Change, IsrMember, NodeId, PartitionState, TopicId, TopicPartition};

use super::*;

const TOPIC: TopicId = TopicId(7);
const TP: TopicPartition = TopicPartition { topic: TOPIC, partition: 0 };
const TIMEOUT: u64 = 9000;

/// A controller with brokers 1, 2 and 3, and the time.
struct Fixture {
    now: Millis,
    controller: Controller,
    log: Vec<MetadataRecord>,
}

impl Fixture {
    /// Three brokers, unfenced, and a topic with one partition on them: leader 1, all in the ISR.
    fn new(rules: Rules) -> Fixture {
        Fixture::with_topic(rules, &[("min.insync.replicas", "2")])
    }

    fn with_topic(rules: Rules, configs: &[(&str, &str)]) -> Fixture {
        Fixture::with_brokers(rules, 3).and_topic(configs)
    }

    /// The same in a cluster with `eligible.leader.replicas.version` 0.
    fn without_elr(rules: Rules, configs: &[(&str, &str)]) -> Fixture {
        let defaults = TopicDefaults { elr: false, ..TopicDefaults::default() };
        Fixture::with_config(rules, 3, ControllerConfig { defaults, ..ControllerConfig::default() }).and_topic(configs)
    }

    fn and_topic(mut self, configs: &[(&str, &str)]) -> Fixture {
        let fixture = &mut self;
        let mut topic = topic("orders");
        topic.assignments = vec![(0, vec![1, 2, 3])];
        topic.configs = configs.iter().map(|(k, v)| ((*k).to_owned(), Some((*v).to_owned()))).collect();
        let reply = fixture.run(|c, _| c.create_topics(vec![topic], false)).reply;
        assert!(reply.iter().all(Result::is_ok), "{reply:?}");
        self
    }

    fn with_brokers(rules: Rules, brokers: NodeId) -> Fixture {
        Fixture::with_config(rules, brokers, ControllerConfig::default())
    }

    fn with_config(rules: Rules, brokers: NodeId, config: ControllerConfig) -> Fixture {
        let config = ControllerConfig { session_timeout_ms: TIMEOUT, ..config };
        let mut fixture = Fixture { now: 1000, controller: Controller::new(0, rules, config), log: Vec::new() };
        for broker in 1..=brokers {
            fixture.register(broker, 1).unwrap();
            fixture.heartbeat(broker).unwrap();
        }
        fixture
    }

    /// One decision, its records written to the log.
    fn run<R>(&mut self, step: impl FnOnce(&mut Controller, Millis) -> Decision<R>) -> Decision<R> {
        let decision = step(&mut self.controller, self.now);
        assert_eq!(decision.first_offset, self.log.len() as i64, "a batch goes to the end of the log");
        self.log.extend(decision.records.iter().cloned());
        decision
    }

    fn register(&mut self, broker: NodeId, incarnation: u128) -> Result<i64, ResponseError> {
        self.run(|c, now| c.register(now, registration(broker, incarnation))).reply
    }

    /// A heartbeat of a broker that has taken in the whole log.
    fn heartbeat(&mut self, broker: NodeId) -> Result<HeartbeatReply, ResponseError> {
        let (broker_epoch, metadata_offset) = (self.epoch(broker), self.controller.image().offset());
        let heartbeat = Heartbeat { broker, broker_epoch, metadata_offset, want_shut_down: false };
        self.run(|c, now| c.heartbeat(now, heartbeat)).reply
    }

    fn fence(&mut self, broker: NodeId) -> Decision<()> {
        self.run(|c, _| c.fence(broker))
    }

    fn epoch(&self, broker: NodeId) -> i64 {
        self.controller.image().broker(broker).map_or(-1, |b| b.broker_epoch)
    }

    fn state(&self) -> &PartitionState {
        self.controller.image().partition(TP).unwrap()
    }

    /// Leader, ISR, ELR and last known leader.
    fn candidates(&self) -> (Option<NodeId>, Vec<NodeId>, Vec<NodeId>, Option<NodeId>) {
        let s = self.state();
        (s.leader, s.isr.clone(), s.elr.clone(), s.last_known_leader)
    }

    /// A broker stops, its session ends, it starts again, registers and catches up.
    fn restart(&mut self, broker: NodeId, incarnation: u128, clean: bool) -> Decision<Result<i64, ResponseError>> {
        let _ = self.fence(broker);
        let previous_broker_epoch = if clean { self.epoch(broker) } else { -1 };
        let request = Registration { previous_broker_epoch, ..registration(broker, incarnation) };
        self.run(|c, now| c.register(now, request))
    }

    /// The leader, its epoch, the ISR and the partition epoch.
    fn summary(&self) -> (Option<NodeId>, i32, Vec<NodeId>, i32) {
        let s = self.state();
        (s.leader, s.leader_epoch, s.isr.clone(), s.partition_epoch)
    }

    /// A request of the leader, as it should be.
    fn alter(&self, isr: &[NodeId]) -> AlterPartition {
        let state = self.state();
        let broker = state.leader.unwrap_or(-1);
        AlterPartition {
            broker,
            broker_epoch: self.epoch(broker),
            tp: TP,
            leader_epoch: state.leader_epoch,
            partition_epoch: state.partition_epoch,
            isr: isr.iter().map(|b| IsrMember { broker: *b, broker_epoch: self.epoch(*b) }).collect(),
        }
    }
}

fn registration(broker: NodeId, incarnation: u128) -> Registration {
    Registration { broker, incarnation, host: format!("b{broker}"), port: 9092, rack: None, previous_broker_epoch: -1 }
}

fn topic(name: &str) -> CreateTopic {
    CreateTopic {
        name: name.to_owned(),
        id: TOPIC,
        num_partitions: -1,
        replication_factor: -1,
        assignments: Vec::new(),
        configs: Vec::new(),
    }
}
