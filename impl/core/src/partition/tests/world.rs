//! Three partitions, a toy controller and a network that loses and delays: each step is compared with what it says of itself.

use super::cluster::Op;
use super::*;
use crate::partition::Produced;
use bellwether_trace::{FetchEffect, IsrMember};
use std::collections::BTreeSet;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Record {
    id: u32,
    epoch: i32,
}

struct Request {
    leader_epoch: i32,
    partition_epoch: i32,
    isr: Vec<IsrMember>,
    answer: Option<Result<AcceptedIsr, ErrorCode>>,
}

struct Node {
    p: Partition,
    log: Vec<Record>,
    /// The epoch cache as it was checkpointed.
    checkpoint: Vec<(i32, i64)>,
    applied: usize,
    broker_epoch: i64,
    waiting: BTreeMap<u64, i64>,
    alter: Option<Request>,
}

enum Phase {
    Sent,
    Parked(FetchIn),
    Refused(i16),
    Diverging(i32, i64),
    Records(i64, Vec<Record>),
}

struct Flight {
    follower: usize,
    out: FetchOut,
    phase: Phase,
}

pub(super) struct Cluster {
    rules: Rules,
    nodes: Vec<Node>,
    /// The metadata log; an index is an offset.
    metadata: Vec<PartitionDelta>,
    flights: Vec<Flight>,
    next: u64,
    seen: Vec<Record>,
    acked: Vec<Record>,
    /// Which outcomes there were.
    pub met: BTreeSet<String>,
}

pub(super) type Outcome = Result<(), String>;

macro_rules! holds {
    ($condition:expr, $($why:tt)+) => {
        if !$condition {
            return Err(format!($($why)+));
        }
    };
}

fn id(index: usize) -> NodeId {
    index as NodeId + 1
}

fn index(id: NodeId) -> usize {
    (id - 1) as usize
}

impl Cluster {
    pub fn new(rules: Rules) -> Cluster {
        let mut first = metadata(0, 1, 0, &[1, 2, 3], 0);
        first = with_brokers(first, |brokers| brokers.values_mut().for_each(|b| b.broker_epoch = 0));
        let nodes = (0..3).map(|n| Node {
            p: empty(id(n), rules),
            log: Vec::new(),
            checkpoint: Vec::new(),
            applied: 0,
            broker_epoch: 0,
            waiting: BTreeMap::new(),
            alter: None,
        });
        let nodes = nodes.collect();
        let (flights, metadata) = (Vec::new(), vec![first]);
        let mut cluster = Cluster {
            rules,
            nodes,
            metadata,
            flights,
            next: 0,
            seen: Vec::new(),
            acked: Vec::new(),
            met: Default::default(),
        };
        for n in 0..3 {
            cluster.apply(n, 0).expect("the first metadata");
        }
        cluster
    }

    fn controller(&self) -> PartitionDelta {
        self.metadata.last().expect("never empty").clone()
    }

    fn commit(&mut self, mut delta: PartitionDelta) {
        let last = self.controller();
        if (last.state.leader, last.state.leader_epoch, &last.state.isr)
            != (delta.state.leader, delta.state.leader_epoch, &delta.state.isr)
        {
            delta.state.partition_epoch += 1;
        }
        delta.metadata_offset = self.metadata.len() as i64;
        self.metadata.push(delta);
    }

    fn lead(delta: &mut PartitionDelta) {
        let brokers = delta.brokers.clone();
        let mut candidates = delta.state.isr.iter().filter(|b| !brokers[b].fenced);
        delta.state.leader = candidates.next().copied();
        delta.state.leader_epoch += 1;
    }

    /// One step of a machine: its effects are carried out, and what it says of itself is compared with what it is.
    fn step<T>(
        &mut self,
        n: usize,
        call: impl FnOnce(&mut Partition, &mut Effects) -> T,
        input: &[Record],
    ) -> Result<T, String> {
        let fx = &mut Effects::default();
        let node = &mut self.nodes[n];
        let before = (node.p.is_leader(), node.p.leader_epoch(), node.p.high_watermark());
        let result = call(&mut node.p, fx);
        let mut told = 0;
        for effect in fx.drain() {
            match effect {
                Effect::Append { index, base_offset, leader_epoch } => {
                    holds!(base_offset == node.log.len() as i64, "append at {base_offset} of {}", node.log.len());
                    let batch = input.iter().skip(index).take(if input.len() > 1 { 1 } else { input.len() });
                    node.log.extend(batch.map(|r| Record { epoch: leader_epoch, ..*r }));
                }
                Effect::Truncate { to } => {
                    holds!(to < node.log.len() as i64, "truncation to {to} of {}", node.log.len());
                    node.log.truncate(to as usize);
                }
                Effect::Delete => return Err("nobody is taken from this assignment".into()),
                Effect::WriteEpochs => node.checkpoint = node.p.epochs().entries().to_vec(),
                Effect::Trace(event) => {
                    told += 1;
                    check_event(&node.p, &event)?;
                    self.met.insert(outcome(&event));
                    if let Event::Ack { end, error: ErrorCode::None, .. } = event
                        && end as usize > self.acked.len()
                    {
                        self.acked = node.log[..end as usize].to_vec();
                    }
                }
                Effect::Produced { token, result } => {
                    let Some(end) = node.waiting.remove(&token) else {
                        return Err(format!("{token} is answered twice"));
                    };
                    holds!(result.is_err() || node.p.high_watermark() >= end, "acknowledged above the high watermark");
                }
                Effect::SendAlterPartition { leader_epoch, partition_epoch, isr, .. } => {
                    holds!(node.alter.is_none(), "two AlterPartition requests");
                    node.alter = Some(Request { leader_epoch, partition_epoch, isr, answer: None });
                }
                Effect::Follow { leader } => {
                    holds!(leader == node.p.leader().filter(|l| *l != id(n)), "follows {leader:?}");
                }
                Effect::AdvanceStart { .. } | Effect::Reset { .. } => return Err("nothing is deleted here".into()),
                Effect::LogGrew | Effect::HighWatermarkMoved | Effect::LowWatermarkMoved => {}
            }
        }
        let p = &node.p;
        holds!(told <= 1, "{told} events of one atomic step");
        holds!(p.log_end() == node.log.len() as i64, "the log ends at {}, not {}", node.log.len(), p.log_end());
        holds!(p.high_watermark() <= p.log_end(), "replication.high-watermark-in-log");
        holds!(node.checkpoint == p.epochs().entries(), "an epoch is not checkpointed");
        if before.0 && p.is_leader() && before.1 == p.leader_epoch() {
            holds!(before.2 <= p.high_watermark(), "a leader's high watermark goes back");
        }
        self.judge(n)?;
        Ok(result)
    }

    fn judge(&self, n: usize) -> Outcome {
        let node = &self.nodes[n];
        holds!(node.p.waiting() == node.waiting.len(), "{} wait, not {}", node.waiting.len(), node.p.waiting());
        for (offset, record) in node.log.iter().enumerate() {
            let known = node.p.epochs().epoch_at(offset as i64);
            holds!(known == Some(record.epoch), "the epoch cache has {known:?} at {offset}, not {}", record.epoch);
        }
        for other in &self.nodes {
            let pairs = node.log.iter().zip(&other.log);
            let same = pairs.clone().enumerate().filter(|(_, (a, b))| a.epoch == b.epoch).map(|(at, _)| at).next_back();
            let equal = pairs.take_while(|(a, b)| a == b).count();
            holds!(same.is_none_or(|at| at < equal), "replication.log-matching");
        }
        if node.p.is_leader() && node.p.leader_epoch() == self.controller().state.leader_epoch {
            holds!(node.log.starts_with(&self.seen), "replication.leader-completeness: what was read");
            holds!(node.log.starts_with(&self.acked), "acks.all-is-durable");
        }
        Ok(())
    }

    fn apply(&mut self, n: usize, jump: usize) -> Outcome {
        let node = &self.nodes[n];
        let first = if node.p.applied().is_some() { node.applied + 1 } else { node.broker_epoch as usize };
        if first >= self.metadata.len() {
            return Ok(());
        }
        let at = (first + jump).min(self.metadata.len() - 1);
        let delta = self.metadata[at].clone();
        self.nodes[n].applied = at;
        let newer = self.step(n, |p, fx| p.apply(0, &delta, fx), &[])?;
        holds!(newer, "newer metadata is not taken");
        Ok(())
    }

    pub fn run(&mut self, op: Op) -> Outcome {
        match op {
            Op::Apply(n, jump) => self.apply(n, jump)?,
            Op::ApplyAll => (0..3).try_for_each(|n| self.apply(n, usize::MAX / 2))?,
            Op::Elect(n) => {
                let mut next = self.controller();
                if next.state.leader != Some(id(n)) && next.state.isr.contains(&id(n)) && !next.brokers[&id(n)].fenced {
                    next.state.leader = Some(id(n));
                    next.state.leader_epoch += 1;
                    self.commit(next);
                }
            }
            Op::Fence(n) => self.depart(n, None),
            Op::Unfence(n) => {
                let mut next = self.controller();
                if next.brokers[&id(n)].fenced && self.nodes[n].p.applied().is_some() {
                    next = with_brokers(next, |b| b.get_mut(&id(n)).expect("registered").fenced = false);
                    if next.state.leader.is_none() && next.state.isr.contains(&id(n)) {
                        Self::lead(&mut next);
                    }
                    self.commit(next);
                }
            }
            Op::Restart(n) => self.restart(n),
            Op::Produce(n, acks, count) => self.produce(n, acks, count)?,
            Op::Fetch(n) => {
                let broker_epoch = self.nodes[n].broker_epoch;
                if let Some(out) = self.step(n, |p, fx| p.fetch(broker_epoch, fx), &[])? {
                    self.flights.retain(|f| f.follower != n || f.out.leader != out.leader);
                    self.flights.push(Flight { follower: n, out, phase: Phase::Sent });
                }
            }
            Op::Receive(i) => self.receive(i)?,
            Op::Respond(i, less) => self.respond(i, less)?,
            Op::Fetched(i) => self.fetched(i)?,
            Op::Lose(i) => {
                if i < self.flights.len() {
                    self.flights.remove(i);
                }
            }
            Op::Advance(n) => {
                self.step(n, |p, fx| p.advance_high_watermark(fx), &[])?;
            }
            Op::Ack(n) => {
                self.step(n, |p, fx| p.ack(fx), &[])?;
            }
            Op::Expire(n) => {
                if let Some(token) = self.nodes[n].waiting.keys().next().copied() {
                    holds!(self.step(n, |p, fx| p.expire(token, fx), &[])?, "{token} does not wait");
                }
            }
            Op::Read(n) => {
                let end = self.nodes[n].p.read_bound();
                if self.step(n, |p, fx| p.read(end, fx), &[])?.is_ok() {
                    let read = &self.nodes[n].log[..end as usize];
                    let same = read.iter().zip(&self.seen).all(|(a, b)| a == b);
                    holds!(same, "replication.consistent-read");
                    if read.len() > self.seen.len() {
                        self.seen = read.to_vec();
                    }
                }
            }
            Op::Propose(n, other) => {
                let mut isr = self.nodes[n].p.isr().to_vec();
                match isr.iter().position(|b| *b == id(other)) {
                    Some(at) => drop(isr.remove(at)),
                    None => isr.push(id(other)),
                }
                let _ = self.step(n, |p, fx| p.propose_isr(0, isr, fx), &[])?;
            }
            Op::Decide(n) => self.decide(n),
            Op::Learn(n) => {
                if let Some(answer) = self.nodes[n].alter.as_ref().and_then(|a| a.answer.clone()) {
                    self.nodes[n].alter = None;
                    holds!(self.step(n, |p, fx| p.learn_isr(0, answer, fx), &[])?, "an outcome is not taken");
                }
            }
            Op::Replicate(n) => {
                self.run(Op::Fetch(n))?;
                if self.flights.last().is_some_and(|f| f.follower == n) {
                    let last = self.flights.len() - 1;
                    self.receive(last)?;
                    self.respond(last, 0)?;
                    self.fetched(last)?;
                }
            }
        }
        Ok(())
    }

    /// The controller ends a broker's session, or replaces it by that of a new incarnation.
    fn depart(&mut self, n: usize, broker_epoch: Option<i64>) {
        let mut next = self.controller();
        next = with_brokers(next, |brokers| {
            let status = brokers.get_mut(&id(n)).expect("registered");
            status.fenced = true;
            status.broker_epoch = broker_epoch.unwrap_or(status.broker_epoch);
        });
        if next.state.isr.len() > 1 {
            next.state.isr.retain(|b| *b != id(n));
        }
        if next.state.leader == Some(id(n)) {
            Self::lead(&mut next);
        }
        self.commit(next);
    }

    fn restart(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let found = recovered(node.log.len() as i64, node.p.high_watermark(), &node.checkpoint);
        node.p = Partition::new(TP, id(n), found, self.rules);
        node.waiting.clear();
        node.alter = None;
        node.broker_epoch = self.metadata.len() as i64;
        let broker_epoch = node.broker_epoch;
        self.flights.retain(|f| f.follower != n);
        self.flights.retain(|f| index(f.out.leader) != n || !matches!(f.phase, Phase::Sent | Phase::Parked(_)));
        self.depart(n, Some(broker_epoch));
    }

    fn produce(&mut self, n: usize, acks: i16, count: i32) -> Outcome {
        // One record a batch here: several are several batches.
        for _ in 0..count {
            self.next += 1;
            let token = self.next;
            let record = Record { id: token as u32, epoch: 0 };
            let before = self.nodes[n].p.log_end();
            // The step compares what waits, so it must know before. One that is refused does not wait.
            let p = &self.nodes[n].p;
            if acks == -1 && p.is_leader() && (p.isr().len() >= 2 || !self.rules.on(Rule::AckMinIsr)) {
                self.nodes[n].waiting.insert(token, before + 1);
            }
            let result = self.step(n, |p, fx| p.produce(0, token, acks, &batch(1), fx), &[record])?;
            if let Ok(Produced { base_offset, end, duplicate, .. }) = result {
                holds!((base_offset, end, duplicate) == (before, before + 1, false), "{result:?}");
            }
        }
        Ok(())
    }

    fn receive(&mut self, i: usize) -> Outcome {
        let Some(flight) = self.flights.get(i).filter(|f| matches!(f.phase, Phase::Sent)) else { return Ok(()) };
        self.next += 1;
        let FetchOut { leader, leader_epoch, fetch_offset, last_fetched_epoch, broker_epoch, log_start } = flight.out;
        let (token, follower) = (self.next, id(flight.follower));
        let fetch =
            FetchIn { token, follower, leader_epoch, fetch_offset, last_fetched_epoch, broker_epoch, log_start };
        let answer = self.step(index(leader), |p, fx| p.receive(0, &fetch, fx), &[])?;
        self.flights[i].phase = match answer {
            FetchAnswer::Ok => Phase::Parked(fetch),
            FetchAnswer::Diverging { epoch, end } => Phase::Diverging(epoch, end),
            FetchAnswer::Error(error) => Phase::Refused(error.code()),
        };
        Ok(())
    }

    fn respond(&mut self, i: usize, less: i64) -> Outcome {
        let Some(Flight { out, phase: Phase::Parked(fetch), .. }) = self.flights.get(i) else { return Ok(()) };
        let (from, leader, fetch) = (out.fetch_offset, index(out.leader), *fetch);
        let end = (self.nodes[leader].p.log_end() - less).max(from);
        self.flights[i].phase = match self.step(leader, |p, fx| p.respond(&fetch, end, fx), &[])? {
            Responded::Superseded => return Err("the newest fetch is superseded".into()),
            Responded::Error(error) => Phase::Refused(error.code()),
            Responded::Records { high_watermark } => {
                Phase::Records(high_watermark, self.nodes[leader].log[from as usize..end as usize].to_vec())
            }
        };
        Ok(())
    }

    fn fetched(&mut self, i: usize) -> Outcome {
        if !self.flights.get(i).is_some_and(|f| !matches!(f.phase, Phase::Sent | Phase::Parked(_))) {
            return Ok(());
        }
        let Flight { follower, out, phase } = self.flights.remove(i);
        let mut answer = records(-1, &[]);
        let (mut input, mut batches) = (Vec::new(), Vec::new());
        match phase {
            Phase::Refused(error) => answer.error = error,
            Phase::Diverging(epoch, end) => answer.diverging = Some((epoch, end)),
            Phase::Records(high_watermark, sent) => {
                answer.high_watermark = high_watermark;
                batches.extend(sent.iter().enumerate().map(|(at, r)| stored(out.fetch_offset + at as i64, r.epoch, 1)));
                input = sent;
            }
            Phase::Sent | Phase::Parked(_) => {}
        }
        let answer = FetchedIn { batches: &batches, ..answer };
        let effect = self.step(follower, |p, fx| p.fetched(&out, out.leader, &answer, fx), &input)?;
        holds!(answer.error == 0 || effect == FetchEffect::Ignored, "an error is not dropped");
        Ok(())
    }

    /// The controller's checks, in Kafka's order.
    fn decide(&mut self, n: usize) {
        let mut next = self.controller();
        let Some(request) = self.nodes[n].alter.as_ref().filter(|r| r.answer.is_none()) else { return };
        let eligible = |m: &IsrMember| {
            let status = next.brokers[&m.broker];
            !status.fenced && (m.broker_epoch == -1 || m.broker_epoch == status.broker_epoch)
        };
        let answer = if self.nodes[n].broker_epoch != next.brokers[&id(n)].broker_epoch {
            Err(ErrorCode::StaleBrokerEpoch)
        } else if request.leader_epoch < next.state.leader_epoch {
            Err(ErrorCode::FencedLeaderEpoch)
        } else if next.state.leader != Some(id(n)) {
            Err(ErrorCode::InvalidRequest)
        } else if request.partition_epoch < next.state.partition_epoch {
            Err(ErrorCode::InvalidUpdateVersion)
        } else if !request.isr.iter().all(eligible) {
            Err(ErrorCode::IneligibleReplica)
        } else {
            next.state.isr = request.isr.iter().map(|m| m.broker).collect();
            let (isr, leader_epoch) = (next.state.isr.clone(), request.leader_epoch);
            let partition_epoch = next.state.partition_epoch + 1;
            self.commit(next);
            Ok(AcceptedIsr { isr, leader_epoch, partition_epoch })
        };
        if let Some(request) = &mut self.nodes[n].alter {
            request.answer = Some(answer);
        }
    }
}

/// Every field of the event is what the machine shows after the step.
fn check_event(p: &Partition, event: &Event) -> Outcome {
    let own = (p.log_end(), p.high_watermark());
    let fits = match event {
        Event::Apply { metadata_offset, state, log_end, high_watermark, .. } => {
            let shown = (p.applied(), p.leader(), p.leader_epoch(), p.isr(), p.partition_epoch());
            own == (*log_end, *high_watermark)
                && shown
                    == (Some(*metadata_offset), state.leader, state.leader_epoch, &state.isr[..], state.partition_epoch)
        }
        Event::Produce { leader_epoch, base_offset, log_end, acks, .. } => {
            own.0 == *log_end && base_offset < log_end && *leader_epoch == p.leader_epoch() && (-1..=1).contains(acks)
        }
        Event::Reject { isr_size, .. } => *isr_size == p.isr().len() as i32 && *isr_size < 2,
        Event::Duplicate { end, .. } => *end <= own.0,
        Event::Ack { end, error, .. } => *error == ErrorCode::RequestTimedOut || *end <= own.1,
        Event::HighWatermark { high_watermark, .. } => own.1 == *high_watermark && p.is_leader(),
        Event::Read { end, high_watermark, .. } => {
            own.1 == *high_watermark && *end <= own.1 && (p.is_leader() || p.in_step)
        }
        Event::Fetch { leader, leader_epoch, fetch_offset, last_fetched_epoch, .. } => {
            let asked = (Some(*leader), *leader_epoch, *fetch_offset, *last_fetched_epoch);
            asked == (p.leader(), p.leader_epoch(), own.0, p.epochs().latest().unwrap_or(-1)) && !p.is_leader()
        }
        Event::Receive { leader_epoch, fetch_offset, answer, .. } => {
            *answer != FetchAnswer::Ok || (p.is_leader() && *leader_epoch == p.leader_epoch() && *fetch_offset <= own.0)
        }
        Event::Respond { fetch_offset, end, high_watermark, error, .. } => match error {
            ErrorCode::None => p.is_leader() && fetch_offset <= end && *end <= own.0 && *high_watermark == own.1,
            _ => fetch_offset == end && *high_watermark == -1,
        },
        Event::Fetched { log_end, high_watermark, .. } => own == (*log_end, *high_watermark),
        Event::ProposeIsr { leader_epoch, partition_epoch, isr, .. } => {
            (*leader_epoch, *partition_epoch) == (p.leader_epoch(), p.partition_epoch())
                && isr.is_sorted_by_key(|m| m.broker)
        }
        Event::LearnIsr { isr, partition_epoch, .. } => isr == p.isr() && *partition_epoch == p.partition_epoch(),
        _ => false,
    };
    if fits { Ok(()) } else { Err(format!("the event does not fit the state: {event:?} {p:?}")) }
}

fn outcome(event: &Event) -> String {
    match event {
        Event::Ack { error, .. } => format!("ack {error:?}"),
        Event::LearnIsr { error, .. } => format!("learn-isr {error:?}"),
        Event::Respond { error, .. } => format!("respond {error:?}"),
        Event::Fetched { effect, .. } => format!("fetched {effect:?}"),
        Event::Receive { answer: FetchAnswer::Diverging { .. }, .. } => "receive Diverging".into(),
        Event::Receive { answer, .. } => format!("receive {answer:?}"),
        other => other.name().into(),
    }
}
