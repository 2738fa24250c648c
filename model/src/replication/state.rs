//! What one partition's replication consists of: the controller's metadata, each broker, and what clients were told.
//!
//! Nothing is stored that can be derived: a broker's role and view come from the metadata entry that it has applied.

use bellwether_trace::ErrorCode;
use smallvec::SmallVec;

use super::log::{Epoch, Log, Offset};
use super::producers::Sent;
/// A set of brokers.
pub use crate::set::Set as BrokerSet;

/// At most this many replicas.
pub const MAX_BROKERS: usize = 5;

/// A replica of the partition, by its place in the assignment: 0, 1, …
pub type BrokerId = u8;

/// The partition and its brokers after one batch of the controller's metadata log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MetaEntry {
    /// The leader, if there is one.
    pub leader: Option<BrokerId>,
    /// Grows whenever a record sets a leader, none included.
    pub leader_epoch: Epoch,
    /// The committed in-sync replicas.
    pub isr: BrokerSet,
    /// The eligible leader replicas (KIP-966): none unless the partition has them.
    pub elr: BrokerSet,
    /// Who led when the ISR became empty; none while there is a leader.
    pub last_known_leader: Option<BrokerId>,
    /// Grows with each change of leader, ISR or ELR.
    pub partition_epoch: u32,
    /// The assignment: during a reassignment the replicas that stay, those that it adds, and those that it removes.
    pub replicas: BrokerSet,
    /// Replicas that a reassignment adds, until it is complete.
    pub adding: BrokerSet,
    /// Replicas that a reassignment removes, until it is complete.
    pub removing: BrokerSet,
    /// min.insync.replicas as configured.
    pub min_isr: u32,
    /// unclean.leader.election.enable.
    pub unclean: bool,
    /// Brokers without a session.
    pub fenced: BrokerSet,
    /// Brokers in controlled shutdown: from their wish to stop until they register again.
    pub stopping: BrokerSet,
    /// The incarnation of each broker that is registered: stands for its broker epoch. 0 is none.
    pub incarnations: [u16; MAX_BROKERS],
}

impl MetaEntry {
    /// min.insync.replicas as it takes effect: never more than there are replicas.
    pub fn min_isr(&self) -> u32 {
        self.min_isr.min(self.replicas.len())
    }

    /// Brokers that can be counted on: with a session, and not about to stop.
    pub fn active(&self) -> BrokerSet {
        BrokerSet(u8::MAX).minus(self.fenced).minus(self.stopping)
    }

    /// Whether replicas are being added or removed.
    pub fn is_reassigning(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }
}

/// The controller's metadata log as far as it concerns the partition: its last entry is the controller's state.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Metadata {
    /// The index of the first entry that is kept.
    pub base: u32,
    /// Never empty.
    pub entries: SmallVec<[MetaEntry; 4]>,
}

impl Metadata {
    /// The controller's state.
    pub fn last(&self) -> &MetaEntry {
        self.entries.last().expect("the metadata log starts with the creation and is never emptied")
    }

    /// The index of the last entry.
    pub fn last_index(&self) -> u32 {
        self.base + self.entries.len() as u32 - 1
    }

    /// The entry at an index, if it is kept.
    pub fn get(&self, index: u32) -> Option<&MetaEntry> {
        self.entries.get(index.checked_sub(self.base)? as usize)
    }
}

/// What a leader knows of a follower, from its last valid fetch in this leader epoch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Remote {
    /// Where its log ends.
    pub end: Offset,
    /// The incarnation that fetched.
    pub incarnation: u16,
}

/// An AlterPartition request, from the moment that it is sent until its answer is learned.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Alter {
    /// The proposed ISR.
    pub isr: BrokerSet,
    /// The incarnation of each member as the leader knows it; 0 is "not known, do not check" (broker epoch -1).
    pub incarnations: [u16; MAX_BROKERS],
    /// The sender's leader epoch.
    pub leader_epoch: Epoch,
    /// The partition epoch that it starts from.
    pub partition_epoch: u32,
    /// The sender's own incarnation.
    pub incarnation: u16,
    /// Where it is.
    pub status: AlterStatus,
}

/// Where an AlterPartition request is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AlterStatus {
    /// Not yet decided by the controller.
    Sent,
    /// Decided; the answer is on its way.
    Decided {
        /// NONE, or why not.
        error: ErrorCode,
        /// The partition epoch from then on, if accepted within the sender's leader epoch; else 0.
        partition_epoch: u32,
    },
}

/// A fetch on its way, there and back.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Flight<L> {
    /// To whom.
    pub leader: BrokerId,
    /// The follower's leader epoch when it asked.
    pub leader_epoch: Epoch,
    /// Its log end offset when it asked.
    pub fetch_offset: Offset,
    /// The latest epoch of its epoch cache when it asked.
    pub last_fetched_epoch: Option<Epoch>,
    /// Its incarnation.
    pub incarnation: u16,
    /// Where the fetch is.
    pub phase: Phase<L>,
}

/// Where a fetch is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Phase<L> {
    /// On its way to the leader.
    Requested,
    /// Valid, and parked at the leader.
    Received,
    /// The response is on its way back.
    Answered(Answer<L>),
}

/// The response to a fetch.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Answer<L> {
    /// Refused.
    Error(ErrorCode),
    /// The logs diverge: the leader's largest epoch that is at most the follower's latest, and where it ends.
    Diverging {
        /// The leader's epoch.
        epoch: Epoch,
        /// Its end.
        end: Offset,
    },
    /// Records, possibly none, as they were in the leader's log when it answered.
    Records {
        /// The records.
        records: L,
        /// The leader's high watermark.
        high_watermark: Offset,
    },
}

/// A replica.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Broker<L> {
    /// Whether it runs.
    pub alive: bool,
    /// It lost records when it stopped, and has not registered since.
    pub lossy: bool,
    /// Its last stop was clean, and it can prove it: it has not registered since, and did so in the life before.
    pub clean: bool,
    /// How often it has started.
    pub incarnation: u16,
    /// The metadata entry that it acts on; none after a start.
    pub applied: Option<u32>,
    /// Its log.
    pub log: L,
    /// Its high watermark.
    pub high_watermark: Offset,
    /// The ISR that it knows: a leader may learn of it from an AlterPartition response before it applies the entry.
    pub isr: BrokerSet,
    /// The partition epoch of that ISR.
    pub partition_epoch: u32,
    /// The proposed ISR that a leader counts as well, while it does not know the outcome.
    pub pending: Option<BrokerSet>,
    /// Its AlterPartition request: may outlive `pending`, and be outlived by it, and outlive a stop of its sender.
    pub alter: Option<Alter>,
    /// Leader only: where its epoch starts.
    pub epoch_start: Offset,
    /// Leader only: what it knows of the followers.
    pub remote: [Option<Remote>; MAX_BROKERS],
    /// Only without the rule idempotence.truncation: a log that was cut, of which the producers' batches are remembered.
    pub remembered: L,
    /// Leader only: the ends of produced batches that wait for acks=all, ascending.
    pub waiting: SmallVec<[Offset; 4]>,
    /// Follower only: it has taken records in, or none, from its leader in the present leader epoch.
    pub in_step: bool,
    /// Its fetches on the way, by leader, at most one each.
    pub fetches: SmallVec<[Flight<L>; 1]>,
    /// Fetches that a newer one to the same leader has superseded, and that are on their way all the same.
    pub stale: Vec<Flight<L>>,
}

impl<L: Log> Broker<L> {
    /// What is gone when the process is.
    pub(crate) fn forget_volatile(&mut self) {
        self.applied = None;
        self.isr = BrokerSet::default();
        self.partition_epoch = 0;
        self.pending = None;
        self.epoch_start = 0;
        self.remembered = L::default();
        self.remote = [None; MAX_BROKERS];
        self.waiting.clear();
        self.in_step = false;
    }

    /// Its fetch to `leader`.
    pub fn fetch_to(&self, leader: BrokerId) -> Option<&Flight<L>> {
        self.fetches.iter().find(|f| f.leader == leader)
    }

    /// Its fetch to `leader`: the newest for 0, else one of those that were superseded, by their place in [`Broker::stale`]
    /// from 1 on.
    pub fn flight(&self, leader: BrokerId, nth: u8) -> Option<&Flight<L>> {
        match nth.checked_sub(1) {
            None => self.fetch_to(leader),
            Some(at) => self.stale.get(usize::from(at)).filter(|f| f.leader == leader),
        }
    }

    /// All its fetches, each with what tells it from others to the same leader.
    pub fn flights(&self) -> impl Iterator<Item = (u8, &Flight<L>)> {
        let stale = self.stale.iter().zip(1..).map(|(f, nth)| (nth, f));
        self.fetches.iter().map(|f| (0, f)).chain(stale)
    }

    /// The replicas that must have a record before the high watermark passes it (KIP-497's maximal ISR).
    pub fn maximal_isr(&self) -> BrokerSet {
        self.isr.union(self.pending.unwrap_or_default())
    }
}

/// What has happened so far, as far as budgets and promises depend on it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Used {
    /// Records produced: also the number of the next one.
    pub records: u32,
    /// Stops at once.
    pub crashes: u32,
    /// Such stops that lost records.
    pub lossy: u32,
    /// Clean stops.
    pub stops: u32,
    /// Sessions of living brokers that ended.
    pub fences: u32,
    /// Members that leaders proposed to drop from the ISR.
    pub shrinks: u32,
    /// Elections on request.
    pub elections: u32,
    /// Retries of producers.
    pub retries: u32,
    /// Controlled shutdowns.
    pub shutdowns: u32,
    /// Reassignments, those that were taken back included.
    pub reassigns: u32,
    /// Changes of the configuration.
    pub configures: u32,
    /// The least min.insync.replicas that was in effect so far.
    pub min_isr: u32,
    /// Reassignments that were taken back when the ISR without the added replicas was below min.insync.replicas: 0, or 1 for
    /// any number.
    pub reverted: u32,
    /// Batches that were sent again.
    pub resends: u32,
    /// A leader took a batch for a duplicate that its log does not have, or refused one as out of order that it has: 0 or 1.
    pub misjudged: u32,
    /// Fetches that were superseded and stayed on their way.
    pub stale: u32,
    /// Elections of a replica outside of the ISR, by configuration: 0, or 1 for any number.
    pub unclean: u32,
    /// Registrations of an only member of the ISR that had lost records; with eligible leader replicas, elections of the last
    /// known leader after a loss: 0, or 1 for any number.
    pub standing: u32,
}

/// A consumer that reads the partition from its start.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Consumer<L> {
    /// What it has read, since it was last told of a truncation; before that, what the leader had then. Its position is the
    /// end, and the epoch that it tells is that of the last record. Without an epoch cache.
    pub log: L,
    /// The leader epoch in which it has validated its position.
    pub epoch: Epoch,
}

/// One partition.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct State<L> {
    /// The controller's metadata log.
    pub metadata: Metadata,
    /// The replicas, by their place in the assignment.
    pub brokers: SmallVec<[Broker<L>; 3]>,
    /// The longest log that a consumer has read.
    pub seen: L,
    /// A consumer of which more is known; none in traces.
    pub consumer: Option<Consumer<L>>,
    /// The longest log that acks=all has acknowledged.
    pub acked_all: L,
    /// The longest log that acks=1 has acknowledged.
    pub acked_one: L,
    /// Which of the records belong together.
    pub sent: Sent,
    /// What has happened.
    pub used: Used,
}

/// A broker at the creation of the partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Start {
    /// Whether it runs.
    pub alive: bool,
    /// How often it has started.
    pub incarnation: u16,
    /// It can prove that its last stop was clean.
    pub clean: bool,
}

impl<L: Log> State<L> {
    /// A partition just created with this first metadata entry (index 0), which no broker has applied yet. Logs are empty.
    pub fn created(entry: MetaEntry, brokers: &[Start]) -> Self {
        let mut state = State {
            metadata: Metadata { base: 0, entries: smallvec::smallvec![entry] },
            brokers: SmallVec::new(),
            seen: L::default(),
            consumer: None,
            acked_all: L::default(),
            acked_one: L::default(),
            sent: Sent::default(),
            used: Used { min_isr: entry.min_isr(), ..Used::default() },
        };
        brokers.iter().for_each(|start| state.join(*start));
        state
    }

    /// One more broker that may become a replica: it has an empty log, and no view of the partition.
    pub fn join(&mut self, start: Start) {
        self.brokers.push(Broker {
            alive: start.alive,
            lossy: false,
            clean: start.clean,
            incarnation: start.incarnation,
            applied: None,
            log: L::default(),
            high_watermark: 0,
            isr: BrokerSet::default(),
            partition_epoch: 0,
            pending: None,
            alter: None,
            epoch_start: 0,
            remote: [None; MAX_BROKERS],
            remembered: L::default(),
            waiting: SmallVec::new(),
            fetches: SmallVec::new(),
            stale: Vec::new(),
            in_step: false,
        });
    }

    /// A partition that all brokers have applied the creation of: 0 leads, all `replicas` are in sync. The spare brokers are
    /// no replicas yet.
    pub fn initial(replicas: usize, spares: usize, min_isr: u32, unclean: bool) -> Self {
        let brokers = replicas + spares;
        let entry = MetaEntry {
            leader: Some(0),
            leader_epoch: 0,
            isr: BrokerSet::all(replicas),
            elr: BrokerSet::default(),
            last_known_leader: None,
            partition_epoch: 0,
            replicas: BrokerSet::all(replicas),
            adding: BrokerSet::default(),
            removing: BrokerSet::default(),
            min_isr,
            unclean,
            fenced: BrokerSet::default(),
            stopping: BrokerSet::default(),
            incarnations: std::array::from_fn(|b| u16::from(b < brokers)),
        };
        let mut state: State<L> =
            State::created(entry, &vec![Start { alive: true, incarnation: 1, clean: false }; brokers]);
        for broker in &mut state.brokers {
            broker.applied = Some(0);
            broker.isr = entry.isr;
        }
        state.brokers[0].log.begin_epoch(0);
        state
    }

    /// Whether no batch of the log lies on both sides of this offset. Batches are written, sent and kept as they are, so that
    /// the number of a record tells in every log whether its batch ends there.
    pub fn ends_batch(&self, log: &L, offset: Offset) -> bool {
        self.sent.joined == 0
            || offset.checked_sub(1).and_then(|at| log.record(at)).is_none_or(|r| self.sent.ends_batch(r.id))
    }

    /// The controller's state.
    pub fn controller(&self) -> &MetaEntry {
        self.metadata.last()
    }

    /// A replica, if there is one of this number.
    pub fn broker(&self, b: BrokerId) -> Option<&Broker<L>> {
        self.brokers.get(usize::from(b))
    }

    /// The numbers of the brokers: all that are replicas, were, or may become one.
    pub fn ids(&self) -> impl Iterator<Item = BrokerId> + use<L> {
        0..self.brokers.len() as BrokerId
    }

    /// The entry that a broker acts on; none after a start, and when it is down.
    pub fn view(&self, b: BrokerId) -> Option<&MetaEntry> {
        self.metadata.get(self.broker(b)?.applied?)
    }

    /// Whether a broker holds itself for a replica, rightly or not.
    pub fn is_assigned(&self, b: BrokerId) -> bool {
        self.view(b).is_some_and(|v| v.replicas.contains(b))
    }

    /// Whether a broker holds itself for the leader, rightly or not.
    pub fn leads(&self, b: BrokerId) -> bool {
        self.view(b).is_some_and(|v| v.leader == Some(b))
    }

    /// The broker that leads in the latest leader epoch, and knows it.
    pub fn current_leader(&self) -> Option<BrokerId> {
        let c = self.controller();
        c.leader.filter(|l| self.leads(*l) && self.view(*l).is_some_and(|v| v.leader_epoch == c.leader_epoch))
    }

    /// Forgets the metadata entries that no broker can come to act on any more. Indices stay.
    pub fn trim(&mut self, catch_up: bool) {
        let last = self.metadata.last_index();
        let mut needed = last;
        for (i, b) in self.brokers.iter().enumerate() {
            let from = match b.applied {
                Some(index) => index,
                // Whoever has nothing yet starts no earlier than with its own registration, which may be to come.
                None if catch_up => {
                    let own = |e: &MetaEntry| b.alive && e.incarnations[i] == b.incarnation;
                    let first = self.metadata.entries.iter().position(own);
                    first.map_or(last, |n| self.metadata.base + n as u32)
                }
                None => self.metadata.base,
            };
            needed = needed.min(from);
        }
        let drop = (needed - self.metadata.base) as usize;
        self.metadata.entries.drain(..drop);
        self.metadata.base = needed;
    }
}
