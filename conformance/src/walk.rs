//! Random behaviours of the model, written down as traces: what the oracle must accept, and the driver can follow.

mod choices;

use std::collections::BTreeMap;

use bellwether_model::replication::step::min_isr;
use bellwether_model::replication::{
    Action, BrokerId, Config, Departure, EpochRuns, Log, Rules, State, advance, departed, electable,
    high_watermark_limit,
};
use bellwether_trace::{
    Change, ErrorCode, Event, FetchEffect, Header, Line, NodeId, PartitionState, Rule, TopicId, TopicPartition,
};
use bellwether_trace::{write_header, write_line};

use crate::oracle::{Batches, Names, Nodes, decided, event_of};

use choices::{REASSIGNS_ONE_IN, actor, candidates, weight};

/// A small generator of random numbers (SplitMix64): the same seed gives the same walk on every machine.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.number() % n.max(1) as u64) as usize
    }
}

/// What a walk is to be like.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many brokers; their nodes are 1, 2, … and the controller is node 100, or also node 1.
    pub brokers: NodeId,
    /// Whether node 1 is the controller as well.
    pub combined: bool,
    /// How many partitions.
    pub partitions: i32,
    /// min.insync.replicas.
    pub min_isr: u32,
    /// unclean.leader.election.enable.
    pub unclean: bool,
    /// Eligible leader replicas.
    pub elr: bool,
    /// Stops may lose records.
    pub lossy: bool,
    /// How many brokers are no replicas at first: the last ones.
    pub spares: NodeId,
    /// Operators have a hand in it: reassignments, controlled shutdowns, other configurations, forced elections.
    pub operators: bool,
    /// The rules of the model.
    pub rules: Rules,
    /// Choices that the broker's machines do not have are left out: answers to produces come in order of their ends, and
    /// no records without an event stand in the metadata log.
    pub drivable: bool,
    /// How many random steps.
    pub steps: usize,
}

/// A cluster of the model: what is known of its nodes, one state for each partition, and the trace so far.
#[derive(Clone, Debug)]
pub struct Walk {
    run: String,
    plan: Plan,
    config: Config,
    random: Random,
    nodes: Nodes,
    partitions: Vec<(TopicPartition, Names, State<EpochRuns>)>,
    /// Where the batches of each partition end.
    batches: Vec<Batches>,
    lines: Vec<Line>,
    lamport: u64,
}

impl Walk {
    /// Starts the nodes, creates the partitions, and takes `steps` random steps.
    pub fn new(seed: u64, plan: Plan) -> Self {
        let mut walk = Walk::begun(format!("walk-{seed}"), seed, plan);
        for _ in 0..walk.plan.steps {
            walk.random_step();
        }
        walk.heal();
        walk
    }

    fn begun(run: String, seed: u64, plan: Plan) -> Self {
        let config = Config { rules: plan.rules, ..Config::oracle().with_elr(plan.elr) };
        let mut walk = Walk {
            run,
            plan,
            config,
            random: Random(seed),
            nodes: Nodes::default(),
            partitions: Vec::new(),
            batches: Vec::new(),
            lines: Vec::new(),
            lamport: 1000,
        };
        walk.begin();
        walk
    }

    /// Starts the nodes, creates one partition, and lets every replica learn of it: what a search starts from.
    pub fn scripted(run: &str, plan: Plan) -> Self {
        let mut walk = Walk::begun(run.into(), 0, Plan { partitions: 1, ..plan });
        let replicas: Vec<BrokerId> = walk.state().ids().collect();
        for broker in replicas {
            walk.take(0, Action::Apply { broker, index: 0 });
        }
        let (_, names, state) = &mut walk.partitions[0];
        for node in 1..=walk.plan.brokers {
            walk.nodes.assign(names, state, node).expect("the brokers are registered");
        }
        walk
    }

    /// Takes a step if it is possible. A search gives indices of metadata entries from the end: `behind` the last one.
    pub fn try_take(&mut self, action: Action, behind: Option<u32>) -> bool {
        let state = &self.partitions[0].2;
        let action = match (action, behind) {
            (Action::Apply { broker, .. }, Some(behind)) => {
                Action::Apply { broker, index: state.metadata.last_index() - behind }
            }
            _ => action,
        };
        let possible = advance(&mut state.clone(), &action, &self.config).is_ok();
        if possible {
            self.take(0, action);
        }
        possible
    }

    /// Forgets what was written after so many lines.
    pub fn truncate(&mut self, lines: usize) {
        self.lines.truncate(lines);
        self.lamport = self.lines.last().map_or(self.lamport, |line| line.l);
    }

    /// The state of the first partition.
    pub fn state(&self) -> &State<EpochRuns> {
        &self.partitions[0].2
    }

    fn controller(&self) -> NodeId {
        if self.plan.combined { 1 } else { 100 }
    }

    fn emit(&mut self, n: NodeId, event: Event) {
        self.lamport += 1 + self.random.number() % 50;
        let s = self.lines.len() as u64;
        self.lines.push(Line { n, s, l: self.lamport, event });
    }

    fn decide(&mut self, event: Event) {
        let controller = self.controller();
        self.nodes.decided(controller, &event).expect("the walk makes what the oracle takes");
        self.emit(controller, event);
    }

    fn begin(&mut self) {
        let mut all: Vec<NodeId> = (1..=self.plan.brokers).collect();
        if !self.plan.combined {
            all.push(self.controller());
        }
        for node in &all {
            self.nodes.started(*node, false);
            self.emit(*node, Event::Start { logs: vec![], clean: false });
        }
        for broker in 1..=self.plan.brokers {
            let offset = self.nodes.metadata_end() + 1;
            self.decide(Event::Register {
                broker,
                broker_epoch: offset,
                clean: false,
                metadata_offset: offset,
                changes: vec![],
            });
            self.decide(Event::Unfence { broker, metadata_offset: offset + 1, changes: vec![] });
        }
        let metadata_offset = self.nodes.metadata_end() + 1 + i64::from(self.plan.partitions);
        for partition in 0..self.plan.partitions {
            let tp = TopicPartition { topic: TopicId(7), partition };
            let mut replicas: Vec<NodeId> = (1..=self.plan.brokers - self.plan.spares).collect();
            let isr = replicas.clone();
            let shift = partition as usize % replicas.len();
            replicas.rotate_left(shift);
            let leader = replicas.first().copied();
            let state = PartitionState { leader, isr, replicas, ..PartitionState::default() };
            let created = Event::Create {
                tp,
                topic: "walk".into(),
                min_isr: self.plan.min_isr as i32,
                unclean: self.plan.unclean,
                elr: self.plan.elr,
                metadata_offset,
                state: state.clone(),
            };
            self.decide(created);
            let created = self.nodes.create(&state, self.plan.min_isr, self.plan.unclean);
            let (names, entry, starts) = created.expect("the replicas are unfenced");
            self.partitions.push((tp, names, State::created(entry, &starts)));
            self.batches.push(Batches::default());
        }
    }

    fn random_step(&mut self) {
        let place = self.random.below(self.partitions.len());
        if self.plan.operators && self.random.below(REASSIGNS_ONE_IN) == 0 {
            return self.reassign(place);
        }
        let mut weighed: BTreeMap<&'static str, Vec<Action>> = BTreeMap::new();
        for action in candidates(&self.partitions[place].2, &self.config, &self.plan, &mut self.random) {
            let unfit = self.splits_a_batch(place, &action) || self.overtakes(place, &action);
            if !unfit && self.is_possible(place, &action) {
                weighed.entry(action.name()).or_default().push(action);
            }
        }
        let total: usize = weighed.keys().map(|name| weight(name)).sum();
        let mut ticket = self.random.below(total);
        for (name, actions) in weighed {
            if ticket < weight(name) {
                let action = actions[self.random.below(actions.len())];
                self.take(place, action);
                return;
            }
            ticket -= weight(name);
        }
    }

    /// Other replicas for a partition, or the reassignment taken back: whichever is possible of a random choice.
    fn reassign(&mut self, place: usize) {
        let nodes: Vec<NodeId> = (1..=self.plan.brokers).filter(|_| self.random.below(3) > 0).collect();
        let target = Some(nodes).filter(|_| self.random.below(4) > 0);
        // Whoever never was a replica gets a place, as in the oracle; but not for nothing.
        let (_, names, state) = &self.partitions[place];
        let (mut names, mut state) = (names.clone(), state.clone());
        for node in target.iter().flatten() {
            self.nodes.assign(&mut names, &mut state, *node).expect("there are few brokers, all registered");
        }
        let target = target.map(|nodes| names.among(&nodes).expect("each has a place"));
        let leaders = std::iter::once(None).chain(state.ids().map(Some));
        let tries = leaders.map(|leader| Action::Reassign { target, leader });
        let possible = |a: &Action| advance(&mut state.clone(), a, &self.config).is_ok();
        if let Some(action) = tries.into_iter().find(possible) {
            (self.partitions[place].1, self.partitions[place].2) = (names, state);
            self.take(place, action);
        }
    }

    /// A broker sends, shows and keeps whole batches.
    fn splits_a_batch(&self, place: usize, action: &Action) -> bool {
        let (b, offset) = match *action {
            Action::Duplicate { broker, end, .. } | Action::Read { broker, end } => (broker, end),
            Action::HighWatermark { broker, to } => (broker, to),
            Action::Respond { leader, end, .. } => (leader, end),
            _ => return false,
        };
        let log = &self.partitions[place].2.brokers[usize::from(b)].log;
        offset <= log.end() && !self.batches[place].end_at(log, offset)
    }

    /// What the machines never do: the broker answers the first of those that wait.
    fn overtakes(&self, place: usize, action: &Action) -> bool {
        match *action {
            Action::Ack { broker, end, error } if self.plan.drivable && error != ErrorCode::RequestTimedOut => {
                self.partitions[place].2.brokers[usize::from(broker)].waiting.first() != Some(&end)
            }
            // The broker looks at the size of the ISR before it looks for the batch.
            Action::Duplicate { broker, .. } if self.plan.drivable => {
                let state = &self.partitions[place].2;
                state.brokers[usize::from(broker)].isr.len() < min_isr(state, broker)
            }
            _ => false,
        }
    }

    fn is_possible(&self, place: usize, action: &Action) -> bool {
        let has_machine = !self.plan.drivable || self.has_machine(place, action);
        has_machine && advance(&mut self.partitions[place].2.clone(), action, &self.config).is_ok()
    }

    /// Whether a step is one of a broker that has the partition: the model lets others go on, with nothing to do.
    fn has_machine(&self, place: usize, action: &Action) -> bool {
        let state = &self.partitions[place].2;
        let gone = |b: BrokerId| state.view(b).is_some_and(|v| !v.replicas.contains(b));
        match *action {
            Action::Apply { broker, index } => {
                let b = &state.brokers[usize::from(broker)];
                let stray = b.applied.is_none() && b.log.end() > 0;
                let given = state.metadata.get(index).is_some_and(|e| e.replicas.contains(broker));
                given || stray || state.is_assigned(broker)
            }
            Action::Receive { leader, .. } | Action::Respond { leader, .. } => !gone(leader),
            Action::Fetched { follower, .. } => !gone(follower),
            // Whoever leads nothing is fenced at once.
            Action::ShutDown { broker, .. } => state.controller().leader == Some(broker),
            _ => true,
        }
    }

    /// All is well in the end, and everybody has seen everything: so it matters what was written before.
    fn heal(&mut self) {
        for _ in 0..100 {
            let before = self.lines.len();
            for place in 0..self.partitions.len() {
                let replicas: Vec<BrokerId> = self.partitions[place].2.ids().collect();
                for b in replicas {
                    self.heal_replica(place, b);
                }
            }
            // Empty fetches would go on for ever.
            let wrote = self.lines.get(before..).unwrap_or_default();
            let idle = |line: &Line| {
                matches!(line.event, Event::Fetch { .. } | Event::Receive { .. } | Event::Respond { .. })
                    || matches!(line.event, Event::Fetched { effect: FetchEffect::Appended, .. })
            };
            if wrote.iter().all(idle) && before > 0 && self.is_level() {
                return;
            }
        }
    }

    /// Whether all replicas of each partition have the same log.
    fn is_level(&self) -> bool {
        let level = |s: &State<EpochRuns>| {
            let mut logs = s.controller().replicas.iter().filter_map(|b| s.broker(b)).map(|b| &b.log);
            let Some(log) = logs.next() else { return true };
            logs.all(|other| other.end() == log.end() && other.common_prefix(log) == log.end())
        };
        self.partitions.iter().all(|(_, _, state)| level(state))
    }

    fn heal_replica(&mut self, place: usize, b: BrokerId) {
        for _ in 0..20 {
            let state = &self.partitions[place].2;
            let last = state.metadata.last_index();
            let leader = state.view(b).and_then(|v| v.leader).unwrap_or(b);
            let end = state.brokers[usize::from(leader)].log.end();
            let mut tries = vec![
                Action::Restart { broker: b },
                Action::Apply { broker: b, index: last },
                Action::Unfence { broker: b },
                Action::LearnIsr { broker: b },
                Action::HighWatermark { broker: b, to: high_watermark_limit(state, b, &self.config) },
            ];
            for leader in std::iter::once(None).chain(state.ids().map(Some)) {
                let clean = state.brokers[usize::from(b)].clean;
                tries.push(Action::Register { broker: b, leader, clean });
                tries.push(Action::AlterPartition { broker: b, leader });
            }
            if state.controller().stopping.contains(b) {
                tries.push(Action::Stop { broker: b, high_watermark: state.brokers[usize::from(b)].high_watermark });
            }
            for end in &state.brokers[usize::from(b)].waiting {
                for error in [ErrorCode::None, ErrorCode::NotEnoughReplicasAfterAppend] {
                    tries.push(Action::Ack { broker: b, end: *end, error });
                }
            }
            let isr = state.brokers[usize::from(b)].isr;
            tries.extend(state.ids().map(|m| Action::ProposeIsr { broker: b, isr: isr.with(m) }));
            let possible = |a: &Action| self.is_possible(place, a);
            match tries.into_iter().find(possible) {
                Some(action) => {
                    let before = self.lines.len();
                    self.take(place, action);
                    if self.lines.len() == before {
                        break;
                    }
                }
                None => {
                    for action in [
                        Action::Fetch { follower: b, leader },
                        Action::Receive { follower: b, leader, nth: 0 },
                        Action::Respond { follower: b, leader, nth: 0, end },
                        Action::Fetched { follower: b, leader, nth: 0 },
                    ] {
                        if self.is_possible(place, &action) {
                            self.take(place, action);
                        }
                    }
                    break;
                }
            }
        }
    }

    /// Takes a step in one partition; what concerns a broker as a whole is a step in each.
    fn take(&mut self, place: usize, action: Action) {
        match action {
            Action::Register { broker, .. }
            | Action::Fence { broker, .. }
            | Action::Unfence { broker }
            | Action::ShutDown { broker, .. } => {
                let node = self.partitions[place].1.node(broker);
                self.take_for_broker(node, action);
            }
            Action::Configure { min_isr, unclean } => self.configure(min_isr, unclean, action),
            Action::Crash { broker, keep: wanted, high_watermark: checkpoint } => {
                let scripted = self.plan.steps == 0;
                let node = self.partitions[place].1.node(broker);
                for ((_, names, state), batches) in self.partitions.iter_mut().zip(&self.batches) {
                    let Some(broker) = names.replica(node) else { continue };
                    let b = &state.brokers[usize::from(broker)];
                    let lost = if self.plan.lossy { self.random.below(3) as u32 } else { 0 };
                    let mut keep = b.log.end().saturating_sub(lost);
                    while !batches.end_at(&b.log, keep) {
                        keep -= 1;
                    }
                    let high_watermark = b.high_watermark.min(keep).saturating_sub(self.random.below(2) as u32);
                    let (keep, high_watermark) = if scripted { (wanted, checkpoint) } else { (keep, high_watermark) };
                    let crash = Action::Crash { broker, keep, high_watermark };
                    advance(state, &crash, &self.config).expect("a running broker can stop");
                }
            }
            Action::Stop { broker, .. } => {
                let node = self.partitions[place].1.node(broker);
                for (_, names, state) in &mut self.partitions {
                    let Some(broker) = names.replica(node) else { continue };
                    let high_watermark = state.brokers[usize::from(broker)].high_watermark;
                    let stop = Action::Stop { broker, high_watermark };
                    advance(state, &stop, &self.config).expect("a running broker can stop");
                }
            }
            Action::Restart { broker } => {
                let node = self.partitions[place].1.node(broker);
                let clean = self.partitions[place].2.brokers[usize::from(broker)].clean;
                self.nodes.started(node, clean);
                let mut all = Vec::new();
                for (tp, names, state) in &mut self.partitions {
                    let Some(broker) = names.replica(node) else { continue };
                    let restart = Action::Restart { broker };
                    let before = state.clone();
                    advance(state, &restart, &self.config).expect("it stopped in all partitions");
                    let event = event_of(*tp, names, &self.nodes, &self.config, &before, &restart, state);
                    let Some(Event::Start { logs, .. }) = event else { unreachable!("a restart shows as a start") };
                    all.extend(logs);
                }
                self.emit(node, Event::Start { logs: all, clean });
            }
            _ => {
                let gap = i64::from(!self.plan.drivable && self.random.below(8) == 0);
                let (tp, names, state) = &mut self.partitions[place];
                let before = state.clone();
                advance(state, &action, &self.config).expect("it was tried");
                if let Action::Produce { broker, .. } = action {
                    self.batches[place].appended(&state.brokers[usize::from(broker)].log);
                }
                let decides =
                    matches!(action, Action::Elect { .. } | Action::AlterPartition { .. } | Action::Reassign { .. });
                if state.metadata.last_index() > before.metadata.last_index() {
                    names.offsets.push(self.nodes.metadata_end() + 1 + gap);
                }
                let event = event_of(*tp, names, &self.nodes, &self.config, &before, &action, state);
                let event = event.unwrap_or_else(|| panic!("{action:?} has an event"));
                state.trim(self.config.rules.holds(Rule::RegistrationCatchUp));
                if decides {
                    self.decide(event);
                } else {
                    let node = self.partitions[place].1.node(actor(&action));
                    self.emit(node, event);
                }
            }
        }
    }

    fn take_for_broker(&mut self, node: NodeId, action: Action) {
        let mut steps = Vec::new();
        let mut all: Vec<Change> = Vec::new();
        for (place, (tp, names, state)) in self.partitions.iter().enumerate() {
            let Some(broker) = names.replica(node) else { continue };
            let b = &state.brokers[usize::from(broker)];
            let registers = matches!(action, Action::Register { .. });
            let departure = match action {
                Action::ShutDown { .. } => Departure::Stopping,
                _ if registers && !b.clean => Departure::Unclean,
                _ => Departure::Whole,
            };
            let lead = |state: &State<EpochRuns>| {
                let (entry, elects) = departed(state.controller(), broker, departure, true, &self.config);
                electable(&entry, &self.config).0.iter().next().filter(|_| elects)
            };
            let own = match action {
                _ if self.partitions.len() == 1 => action,
                Action::Register { .. } => Action::Register { broker, leader: lead(state), clean: b.clean },
                Action::Fence { .. } => Action::Fence { broker, leader: lead(state) },
                Action::ShutDown { .. } => Action::ShutDown { broker, leader: lead(state) },
                _ => Action::Unfence { broker },
            };
            let mut after = state.clone();
            // Another partition's replica may not be as far.
            if advance(&mut after, &own, &self.config).is_err() {
                return;
            }
            let (old, new) = (state.controller(), after.controller());
            if old.partition_epoch != new.partition_epoch {
                all.push(Change { tp: *tp, state: decided(names, &after) });
            }
            steps.push((place, after));
        }
        let metadata_offset = self.nodes.metadata_end() + 1 + all.len() as i64;
        let (broker, changes) = (node, all);
        let event = match action {
            Action::Register { clean, .. } => {
                Event::Register { broker, broker_epoch: metadata_offset, clean, metadata_offset, changes }
            }
            Action::Fence { .. } => Event::Fence { broker, metadata_offset, changes },
            Action::ShutDown { .. } => Event::ShutDown { broker, metadata_offset, changes },
            _ => Event::Unfence { broker, metadata_offset, changes },
        };
        self.decide_for(steps, metadata_offset, event);
    }

    /// The controller's step in several partitions: what each is after it.
    fn decide_for(&mut self, steps: Vec<(usize, State<EpochRuns>)>, metadata_offset: i64, event: Event) {
        self.decide(event);
        for (place, after) in steps {
            let (_, names, state) = &mut self.partitions[place];
            names.offsets.push(metadata_offset);
            *state = after;
            state.trim(self.config.rules.holds(Rule::RegistrationCatchUp));
        }
    }

    /// Another configuration of the topic, in each of its partitions.
    fn configure(&mut self, min_isr: u32, unclean: bool, action: Action) {
        let mut steps = Vec::new();
        let mut changes: Vec<Change> = Vec::new();
        for (place, (tp, names, state)) in self.partitions.iter().enumerate() {
            let mut after = state.clone();
            advance(&mut after, &action, &self.config).expect("all partitions have the same configuration");
            if after.controller().partition_epoch != state.controller().partition_epoch {
                changes.push(Change { tp: *tp, state: decided(names, &after) });
            }
            steps.push((place, after));
        }
        let metadata_offset = self.nodes.metadata_end() + 1 + changes.len() as i64;
        let topic = self.partitions[0].0.topic;
        let min_isr = min_isr as i32;
        self.decide_for(steps, metadata_offset, Event::Configure { topic, min_isr, unclean, metadata_offset, changes });
    }

    fn rules_off(&self) -> Vec<Rule> {
        Rule::ALL.iter().copied().filter(|rule| !self.config.rules.holds(*rule)).collect()
    }

    /// The whole cluster as one process: one file.
    pub fn one_file(&self) -> Vec<u8> {
        let mut nodes: Vec<NodeId> = (1..=self.plan.brokers).collect();
        if !self.plan.combined {
            nodes.push(self.controller());
        }
        let mut out = Vec::new();
        write_header(&mut out, &Header { format: 1, run: self.run.clone(), nodes, rules_off: self.rules_off() });
        for line in &self.lines {
            write_line(&mut out, line.n, line.s, line.l, &line.event);
        }
        let (events, l) = (self.lines.len() as u64, self.lamport + 1);
        write_line(&mut out, 1, events, l, &Event::End { events });
        out
    }

    /// One process for each life of each node: a killed one leaves a file without `end`.
    pub fn a_file_each(&self) -> Vec<Vec<u8>> {
        let mut lives: Vec<(NodeId, Vec<&Line>)> = Vec::new();
        for line in &self.lines {
            if matches!(line.event, Event::Start { .. }) {
                lives.push((line.n, Vec::new()));
            }
            if let Some((_, life)) = lives.iter_mut().rev().find(|(n, _)| *n == line.n) {
                life.push(line);
            }
        }
        let mut files = Vec::new();
        for (i, (node, life)) in lives.iter().enumerate() {
            let mut out = Vec::new();
            write_header(&mut out, &Header { format: 1, run: self.run.clone(), nodes: vec![*node], rules_off: vec![] });
            for (s, line) in life.iter().enumerate() {
                write_line(&mut out, line.n, s as u64, line.l, &line.event);
            }
            if lives.iter().skip(i + 1).all(|(n, _)| n != node) {
                let events = life.len() as u64;
                write_line(&mut out, *node, events, self.lamport + 1, &Event::End { events });
            }
            files.push(out);
        }
        files
    }

    /// The events.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }
}
