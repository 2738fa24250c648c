//! What holds whatever the controller is asked, in any order. A mutant breaks it: a check that was never red checks
//! nothing.

use std::collections::BTreeMap;

use bellwether_trace::ErrorCode;
use proptest::prelude::*;

use super::*;
use crate::MetadataImage;
use crate::image::only_reordered;

/// Something that reaches the controller. Epochs are the current ones, less `behind`.
#[derive(Clone, Debug)]
enum Input {
    Register {
        broker: NodeId,
        incarnation: u128,
        /// It names the broker epoch of its former life.
        clean: bool,
    },
    Heartbeat {
        broker: NodeId,
        behind: i64,
        caught_up: bool,
        want_shut_down: bool,
    },
    /// The controller may have been busy elsewhere and not looked at its sessions.
    Pass {
        millis: u64,
        ticks: bool,
    },
    Fence {
        broker: NodeId,
    },
    Elect {
        leader: NodeId,
        unclean: bool,
    },
    ElectLeader {
        election: ElectionType,
    },
    ElectOrphans,
    Reassign {
        wanted: Option<Vec<NodeId>>,
    },
    Configure {
        name: &'static str,
        value: &'static str,
    },
    Prefer {
        leader: Option<NodeId>,
    },
    Alter {
        broker: Option<NodeId>,
        isr: Vec<NodeId>,
        off: Off,
    },
    Create {
        id: u8,
        replicas: Vec<NodeId>,
        unclean: bool,
    },
    ProducerIds {
        broker: NodeId,
    },
}

/// How far the epochs of an AlterPartition request are from the current ones.
#[derive(Clone, Copy, Debug)]
struct Off {
    leader_epoch: i32,
    partition_epoch: i32,
    sender: i32,
    member: i32,
}

fn input() -> impl Strategy<Value = Input> {
    let broker = || 1..=4i32;
    // Mostly zero: an epoch that is current.
    let off = || prop_oneof![6 => Just(0i32), 1 => -2..=2i32];
    let subset = || proptest::sample::subsequence(vec![1, 2, 3, 4], 0..=4);
    prop_oneof![
        4 => (broker(), 1..=5u128, any::<bool>())
            .prop_map(|(broker, incarnation, clean)| Input::Register { broker, incarnation, clean }),
        8 => (broker(), off(), prop::bool::weighted(0.8), prop::bool::weighted(0.1)).prop_map(
            |(broker, behind, caught_up, want_shut_down)| {
                Input::Heartbeat { broker, behind: behind.into(), caught_up, want_shut_down }
            }
        ),
        2 => (0..=2 * TIMEOUT, any::<bool>()).prop_map(|(millis, ticks)| Input::Pass { millis, ticks }),
        3 => broker().prop_map(|broker| Input::Fence { broker }),
        3 => (broker(), any::<bool>()).prop_map(|(leader, unclean)| Input::Elect { leader, unclean }),
        2 => prop_oneof![Just(ElectionType::Preferred), Just(ElectionType::Unclean)]
            .prop_map(|election| Input::ElectLeader { election }),
        1 => Just(Input::ElectOrphans),
        4 => prop_oneof![1 => Just(None), 3 => subset().prop_shuffle().prop_map(Some)]
            .prop_map(|wanted| Input::Reassign { wanted }),
        2 => prop_oneof![
            3 => prop_oneof![Just("1"), Just("2"), Just("3")].prop_map(|value| ("min.insync.replicas", value)),
            1 => prop_oneof![3 => Just("false"), 1 => Just("true")]
                .prop_map(|value| ("unclean.leader.election.enable", value)),
            1 => Just(("retention.ms", "1000")),
        ]
        .prop_map(|(name, value)| Input::Configure { name, value }),
        1 => proptest::option::of(broker()).prop_map(|leader| Input::Prefer { leader }),
        8 => (prop_oneof![6 => Just(None), 1 => broker().prop_map(Some)], subset(), off(), off(), off(), off()).prop_map(
            |(broker, isr, leader_epoch, partition_epoch, sender, member)| {
                Input::Alter { broker, isr, off: Off { leader_epoch, partition_epoch, sender, member } }
            }
        ),
        1 => (2..=3u8, subset().prop_shuffle(), any::<bool>())
            .prop_map(|(id, replicas, unclean)| Input::Create { id, replicas, unclean }),
        1 => broker().prop_map(|broker| Input::ProducerIds { broker }),
    ]
}

/// A run of the controller, and what is remembered to judge it.
struct Run {
    fixture: Fixture,
    /// Who led in each leader epoch.
    leaders: BTreeMap<(TopicPartition, i32), Option<NodeId>>,
    next_producer_id: i64,
    /// The last step was an election that may be unclean.
    unclean: bool,
    /// The ISR that the last step was asked for.
    asked: Option<Vec<NodeId>>,
}

type Verdict = Result<(), String>;

fn demand(holds: bool, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(what()) }
}

impl Run {
    /// Without eligible leader replicas the last member of an ISR stays in it.
    fn new(rules: Rules, elr: bool) -> Run {
        let configs = [("min.insync.replicas", "2")];
        let new = if elr { Fixture::with_topic } else { Fixture::without_elr };
        Run {
            fixture: new(rules, &configs),
            leaders: BTreeMap::new(),
            next_producer_id: 0,
            unclean: false,
            asked: None,
        }
    }

    fn step(&mut self, input: Input) -> Verdict {
        let before = self.fixture.controller.image().clone();
        let events = match input {
            Input::Register { broker, incarnation, clean } => {
                let previous_broker_epoch = if clean { self.fixture.epoch(broker) } else { -1 };
                let request = Registration { previous_broker_epoch, ..registration(broker, incarnation) };
                let decision = self.fixture.run(|c, now| c.register(now, request));
                for event in &decision.events {
                    let image = self.fixture.controller.image();
                    let Event::Register { clean: told, .. } = event else { continue };
                    let clean = clean && before.broker(broker).is_some();
                    demand(*told == clean, || format!("{broker} registers clean={told}"))?;
                    let eligible = image.partitions().any(|(_, p)| p.elr.contains(&broker));
                    demand(clean || !eligible, || format!("{broker} is in an ELR after an unclean stop"))?;
                }
                if let Ok(epoch) = decision.reply {
                    let known = self.fixture.controller.image().broker(broker);
                    let registered = known.is_some_and(|b| b.broker_epoch == epoch && b.incarnation == incarnation);
                    demand(registered, || format!("{broker} was told epoch {epoch}"))?;
                }
                decision.events
            }
            Input::Heartbeat { broker, behind, caught_up, want_shut_down } => {
                let broker_epoch = self.fixture.epoch(broker) + behind;
                let metadata_offset = if caught_up { before.offset() } else { broker_epoch - 1 };
                let heartbeat = Heartbeat { broker, broker_epoch, metadata_offset, want_shut_down };
                let decision = self.fixture.run(|c, now| c.heartbeat(now, heartbeat));
                if let Ok(reply) = decision.reply {
                    let fenced = !self.fixture.controller.image().unfenced(broker);
                    demand(reply.is_fenced == fenced, || format!("{broker} was told fenced={}", reply.is_fenced))?;
                }
                decision.events
            }
            Input::Pass { millis, ticks } => {
                self.fixture.now += millis;
                let now = self.fixture.now;
                let decisions = if ticks { self.fixture.controller.tick(now) } else { Vec::new() };
                return self.judge_all(before, decisions);
            }
            Input::ElectOrphans => {
                let decisions = self.fixture.controller.elect_orphans();
                return self.judge_all(before, decisions);
            }
            Input::ElectLeader { election } => self.fixture.run(|c, _| c.elect_leader(TP, election)).events,
            Input::Reassign { wanted } => {
                let decision = self.fixture.run(|c, _| c.reassign(TP, wanted, true));
                demand(decision.reply.is_ok() || decision.records.is_empty(), || "refused and written".into())?;
                decision.events
            }
            Input::Configure { name, value } => {
                let change = [(name.to_owned(), ConfigChange::Set(value.to_owned()))];
                let decision = self.fixture.run(|c, _| c.alter_configs("orders", &change, false));
                demand(decision.reply == Ok(()), || format!("{:?}", decision.reply))?;
                let image = self.fixture.controller.image();
                if before.min_isr(TOPIC) != image.min_isr(TOPIC)
                    && let (Some(was), Some(is)) = (before.partition(TP), image.partition(TP))
                {
                    let renewed = is.partition_epoch == was.partition_epoch + 1;
                    demand(renewed, || format!("an ISR is taken that is of the old value: {was:?} then {is:?}"))?;
                    let below = is.isr.len() < (image.min_isr(TOPIC) as usize).min(is.replicas.len());
                    let kept = (&is.elr, is.last_known_leader) == (&was.elr, was.last_known_leader);
                    demand(kept || !below, || format!("cleared: {was:?} then {is:?}"))?;
                }
                decision.events
            }
            Input::Fence { broker } => self.fixture.fence(broker).events,
            Input::Elect { leader, unclean } => self.fixture.run(|c, _| c.elect(TP, leader, unclean)).events,
            Input::Prefer { leader } => {
                self.fixture.controller.prefer(leader);
                Vec::new()
            }
            Input::Alter { broker, isr, off } => {
                let mut request = self.fixture.alter(&isr);
                request.broker = broker.unwrap_or(request.broker);
                request.broker_epoch = self.fixture.epoch(request.broker) + i64::from(off.sender);
                request.leader_epoch += off.leader_epoch;
                request.partition_epoch += off.partition_epoch;
                if let Some(member) = request.isr.last_mut() {
                    member.broker_epoch += i64::from(off.member);
                }
                let decision = self.fixture.run(|c, _| c.alter_partition(request.clone()));
                if decision.reply.is_ok() {
                    let current = off.leader_epoch == 0 && off.partition_epoch == 0;
                    demand(current, || format!("accepted from other epochs: {request:?}"))?;
                    let members = request.isr.iter();
                    let known = |m: &IsrMember| m.broker_epoch == -1 || m.broker_epoch == self.fixture.epoch(m.broker);
                    demand(members.clone().all(known), || format!("accepted an earlier incarnation: {request:?}"))?;
                }
                decision.events
            }
            Input::Create { id, replicas, unclean } => {
                let mut wanted = CreateTopic { id: TopicId(id.into()), ..topic(&format!("t{id}")) };
                wanted.assignments = vec![(0, replicas.clone()), (1, replicas)];
                wanted.configs.push(("unclean.leader.election.enable".to_owned(), Some(unclean.to_string())));
                self.fixture.run(|c, _| c.create_topics(vec![wanted], false)).events
            }
            Input::ProducerIds { broker } => {
                let epoch = self.fixture.epoch(broker);
                let decision = self.fixture.run(|c, _| c.allocate_producer_ids(broker, epoch));
                if let Ok(block) = decision.reply {
                    demand(block.first >= self.next_producer_id, || format!("{block:?} twice"))?;
                    self.next_producer_id = block.first + i64::from(block.len);
                }
                decision.events
            }
        };
        judge_events(&before, self.fixture.controller.image(), &events)?;
        self.asked = events.iter().find_map(|e| match e {
            Event::AlterPartition { isr, .. } => Some(isr.iter().map(|m| m.broker).collect()),
            _ => None,
        });
        self.unclean = events.iter().any(|e| matches!(e, Event::Elect { unclean: true, .. }));
        self.judge(&before, true)
    }

    /// Several decisions in a row, each judged by what it says.
    fn judge_all(&mut self, before: MetadataImage, decisions: Vec<Decision<()>>) -> Verdict {
        for decision in &decisions {
            demand(decision.first_offset == self.fixture.log.len() as i64, || "a gap in the log".into())?;
            self.fixture.log.extend(decision.records.iter().cloned());
        }
        let mut image = before.clone();
        for decision in decisions {
            let earlier = image.clone();
            image.apply_batch(decision.first_offset, &decision.records).map_err(|e| e.to_string())?;
            judge_events(&earlier, &image, &decision.events)?;
        }
        self.judge(&before, false)
    }

    /// The invariants, after a step from `before`, or after several.
    fn judge(&mut self, before: &MetadataImage, one_step: bool) -> Verdict {
        let (image, unclean) = (self.fixture.controller.image(), self.unclean);
        for (tp, state) in image.partitions() {
            let replicas = &state.replicas;
            let fenced = |b: &NodeId| !image.active(*b);
            let empty = state.isr.is_empty() && !image.elr();
            demand(state.isr.is_sorted() && !empty, || format!("{tp} has ISR {:?}", state.isr))?;
            let min_isr = (image.min_isr(tp.topic) as usize).min(replicas.len());
            let (isr, elr) = (&state.isr, &state.elr);
            demand(elr.is_sorted() && (elr.is_empty() || image.elr()), || format!("{tp} has ELR {elr:?}"))?;
            demand(elr.iter().all(|b| replicas.contains(b)), || format!("{tp}: ELR {elr:?} of {replicas:?}"))?;
            let (adding, removing) = (&state.adding, &state.removing);
            demand(adding.is_sorted() && removing.is_sorted(), || format!("{tp}: {state:?}"))?;
            let parts = adding.iter().chain(removing).all(|b| replicas.contains(b));
            let both = adding.iter().any(|b| removing.contains(b));
            demand(parts && !both, || format!("{tp}: adding {adding:?}, removing {removing:?} of {replicas:?}"))?;
            demand(!elr.iter().any(|b| isr.contains(b)), || format!("{tp}: ELR {elr:?} and ISR {isr:?} overlap"))?;
            demand(elr.is_empty() || isr.len() < min_isr, || format!("{tp}: ELR {elr:?} beside ISR {isr:?}"))?;
            demand(state.leader.is_none() || state.last_known_leader.is_none(), || format!("{tp}: {state:?}"))?;
            demand(state.isr.iter().all(|b| replicas.contains(b)), || format!("{tp}: a stranger in the ISR"))?;
            let last = state.isr.len() == 1 && !image.elr();
            demand(last || !state.isr.iter().any(fenced), || format!("{tp}: a fenced broker in {state:?}"))?;
            if let Some(leader) = state.leader {
                demand(state.isr.contains(&leader), || format!("{tp}: leader {leader} not in the ISR"))?;
                demand(!fenced(&leader), || format!("{tp}: leader {leader} is fenced"))?;
            }
            let led = *self.leaders.entry((tp, state.leader_epoch)).or_insert(state.leader);
            demand(led == state.leader, || format!("{tp}: {led:?} and {:?} in one epoch", state.leader))?;
            if let Some(was) = before.partition(tp).filter(|was| *was != state && !only_reordered(state, was)) {
                let gone = was.replicas.iter().any(|b| !replicas.contains(b));
                demand(!gone || state.leader_epoch > was.leader_epoch, || {
                    format!("{tp}: removed, {was:?} then {state:?}")
                })?;
                let shrinks_to_isr = replicas.iter().all(|b| isr.contains(b));
                demand(!gone || !one_step || shrinks_to_isr || taken_back(was, state), || {
                    format!("{tp}: completed too early, {was:?} then {state:?}")
                })?;
                demand(state.partition_epoch > was.partition_epoch, || format!("{tp}: {was:?} then {state:?}"))?;
                demand(state.leader_epoch >= was.leader_epoch, || format!("{tp}: {was:?} then {state:?}"))?;
                let strangers = |b: &NodeId| one_step && !was.isr.contains(b) && !was.elr.contains(b);
                demand(!elr.iter().any(strangers), || format!("{tp}: strangers in the ELR, {was:?} then {state:?}"))?;
                let asked = |l: &NodeId| self.asked.as_ref().is_some_and(|isr| isr.contains(l));
                let nobody = was.isr.iter().all(fenced);
                let eligible = |l: &NodeId| was.elr.contains(l) && nobody;
                let last_known = |l: &NodeId| was.last_known_leader == Some(*l) && isr.len() == 1 && elr.is_empty();
                let clean =
                    state.leader.is_none_or(|l| was.isr.contains(&l) || asked(&l) || eligible(&l) || last_known(&l));
                demand(clean || !one_step || unclean || image.unclean(tp.topic), || {
                    format!("{tp}: unclean, {was:?} then {state:?}")
                })?;
            }
        }
        let mut rebuilt = MetadataImage::new(*image.defaults());
        for (offset, record) in (0..).zip(&self.fixture.log) {
            let read = MetadataRecord::decode(&record.encode()).map_err(|e| e.to_string())?;
            rebuilt.apply(offset, &read).map_err(|e| e.to_string())?;
        }
        demand(rebuilt == *image, || "the log tells another story than the controller".into())
    }
}

/// Is this a reassignment that was given up?
fn taken_back(was: &PartitionState, is: &PartitionState) -> bool {
    let original: Vec<_> = was.replicas.iter().copied().filter(|b| !was.adding.contains(b)).collect();
    is.replicas == original && is.adding.is_empty() && is.removing.is_empty()
}

/// Does the event say what changed, all of it and nothing else?
fn judge_events(before: &MetadataImage, after: &MetadataImage, events: &[Event]) -> Verdict {
    let mut told = BTreeMap::new();
    for event in events {
        let (offset, changes) = match event {
            Event::Register { metadata_offset, changes, .. }
            | Event::Fence { metadata_offset, changes, .. }
            | Event::Unfence { metadata_offset, changes, .. } => (Some(*metadata_offset), changes.clone()),
            Event::ShutDown { metadata_offset, changes, .. } | Event::Configure { metadata_offset, changes, .. } => {
                (Some(*metadata_offset), changes.clone())
            }
            Event::Elect { metadata_offset, change, .. } | Event::Reassign { metadata_offset, change, .. } => {
                (Some(*metadata_offset), vec![change.clone()])
            }
            Event::Create { tp, metadata_offset, state, .. } => {
                (Some(*metadata_offset), vec![Change { tp: *tp, state: state.clone() }])
            }
            Event::AlterPartition { tp, error, metadata_offset, completed, .. } => {
                let accepted = matches!(error, ErrorCode::None | ErrorCode::NewLeaderElected);
                let accepted = after.partition(*tp).cloned().filter(|_| accepted);
                let same = completed.is_none() || *completed == accepted;
                demand(same, || format!("not as it was completed: {event:?}"))?;
                (*metadata_offset, accepted.map(|state| Change { tp: *tp, state }).into_iter().collect())
            }
            other => return Err(format!("not the controller's: {other:?}")),
        };
        demand(offset.is_none_or(|o| o == after.offset()), || format!("not the last offset: {event:?}"))?;
        told.extend(changes.into_iter().map(|change| (change.tp, change.state)));
    }
    let differs = |was: Option<&PartitionState>, is| was != Some(is) && !was.is_some_and(|was| only_reordered(is, was));
    let changed = after.partitions().filter(|(tp, p)| differs(before.partition(*tp), p));
    let changed: BTreeMap<_, _> = changed.map(|(tp, p)| (tp, p.clone())).collect();
    demand(told == changed, || format!("told {told:?}, changed {changed:?}"))?;
    let brokers_changed = before.brokers() != after.brokers();
    let broker_event = |e: &Event| {
        matches!(e, Event::Register { .. } | Event::Fence { .. } | Event::Unfence { .. } | Event::ShutDown { .. })
    };
    demand(brokers_changed == events.iter().any(broker_event), || {
        format!("brokers changed: {brokers_changed}, {events:?}")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn the_controller_keeps_its_invariants(inputs in prop::collection::vec(input(), 1..80), elr: bool) {
        let mut run = Run::new(Rules::all(), elr);
        for input in inputs {
            let shown = format!("{input:?}");
            if let Err(why) = run.step(input) {
                prop_assert!(false, "{shown}: {why}");
            }
        }
    }
}

#[test]
fn random_inputs_reach_every_outcome() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = BTreeMap::new();
    for i in 0..150 {
        let inputs = prop::collection::vec(input(), 80).new_tree(&mut runner).unwrap().current();
        let mut run = Run::new(Rules::all(), i % 2 == 0);
        for input in inputs {
            let request = format!("{input:?}");
            let offset = run.fixture.log.len();
            run.step(input).unwrap();
            let kind = request.split([' ', '{']).next().unwrap_or_default().to_owned();
            *seen.entry((kind, run.fixture.log.len() > offset)).or_insert(0) += 1;
        }
    }
    for kind in [
        "Register",
        "Heartbeat",
        "Pass",
        "Fence",
        "Elect",
        "ElectLeader",
        "Reassign",
        "Configure",
        "Alter",
        "Create",
        "ProducerIds",
    ] {
        for wrote in [true, false] {
            assert!(seen.get(&(kind.to_owned(), wrote)).is_some_and(|n| *n >= 10), "{kind} {wrote}: {seen:?}");
        }
    }
}

#[cfg(feature = "mutants")]
#[test]
fn each_mutant_of_the_controller_breaks_an_invariant() {
    use proptest::strategy::ValueTree;
    for (rule, complaint) in [
        (Rule::AlterPartitionEpoch, "accepted from other epochs"),
        (Rule::AlterPartitionLeaderEpoch, "accepted from other epochs"),
        (Rule::AlterPartitionBrokerEpoch, "accepted an earlier incarnation"),
        (Rule::AlterPartitionUnfenced, "a fenced broker in"),
        (Rule::ElectionInSync, "unclean"),
        (Rule::ElectionNewEpoch, "in one epoch"),
        (Rule::RegistrationLeavesIsr, "a fenced broker in"),
        (Rule::FencingLeavesIsr, "a fenced broker in"),
        (Rule::RegistrationCleanProof, "registers clean"),
        (Rule::ElrFromIsr, "strangers in the ELR"),
        (Rule::ElrBelowMinIsr, "beside ISR"),
        (Rule::ElrUncleanLeaves, "after an unclean stop"),
        (Rule::ElectionElrWhenIsrEmpty, "unclean"),
        (Rule::ElectionLastKnownLeader, "unclean"),
        (Rule::ShutdownLeavesIsr, "a fenced broker in"),
        (Rule::ReassignmentInSync, "completed too early"),
        (Rule::ReassignmentNewEpoch, "removed"),
        (Rule::ElrAssigned, "ELR"),
        (Rule::ConfigNewPartitionEpoch, "of the old value"),
        (Rule::ConfigKeepsElr, "cleared"),
    ] {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let caught = (0..300).any(|i| {
            let inputs = prop::collection::vec(input(), 80).new_tree(&mut runner).unwrap().current();
            let mut run = Run::new(Rules::without(rule), i % 2 == 0);
            let verdict = inputs.into_iter().try_for_each(|input| run.step(input));
            verdict.is_err_and(|why| why.contains(complaint))
        });
        assert!(caught, "{rule} was not caught");
    }
}
