//! Bounds: how many members, partitions and records, and how much may go wrong.

use bellwether_trace::{Invariant, Kind};

use super::action::{Config, Rules};
use super::state::{MEMBERS, PARTITIONS};
use crate::bound::fields;

/// Limits of an exploration. What heals is never limited: heartbeats, joining again, commits, a failover's end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Bound {
    /// KIP-848; else the classic protocol.
    pub consumer: bool,
    /// Clients, each with a member id of its own: at most 3.
    pub members: u32,
    /// The first so many of them bear one instance id (KIP-345): 0 or 2, as if a process was started a second time.
    pub instances: u32,
    /// Partitions, each of a topic of its own: 1 or 2.
    pub partitions: u32,
    /// Records of each partition: at most 2. 0 leaves out offsets and processing.
    pub records: u32,
    /// Clients commit before they process; else after.
    pub commit_first: bool,
    /// Clients finish what they have begun before they give a partition up: what they have processed they commit, what they
    /// have committed they process.
    pub orderly: bool,
    /// Batches of the coordinator's that may be appended and not committed: 1 or 2. What needs another waits.
    pub uncommitted: u32,
    /// How often a client makes up its mind to join.
    pub joins: u32,
    /// How often one leaves.
    pub leaves: u32,
    /// How often one stops for good and tells nobody.
    pub crashes: u32,
    /// Sessions that end although the client lives, or rebalance timeouts of KIP-848.
    pub expiries: u32,
    /// Classic: rebalance timeouts.
    pub timeouts: u32,
    /// Changes of the coordinator.
    pub failovers: u32,
    /// Answers that get lost.
    pub lost: u32,
    /// Requests that come in when their client has given them up.
    pub late: u32,
    /// How often offsets get too old.
    pub retention: u32,
}

/// The least bound: two clients of KIP-848, of which none joins.
pub const NOTHING: Bound = Bound {
    consumer: true,
    members: 2,
    instances: 0,
    partitions: 2,
    records: 0,
    commit_first: false,
    orderly: false,
    uncommitted: 1,
    joins: 0,
    leaves: 0,
    crashes: 0,
    expiries: 0,
    timeouts: 0,
    failovers: 0,
    lost: 0,
    late: 0,
    retention: 0,
};

fields! {
    "consumer" consumer Switch;
    "members" members Count;
    "instances" instances Count;
    "partitions" partitions Count;
    "records" records Count;
    "commit-first" commit_first Switch;
    "orderly" orderly Switch;
    "uncommitted" uncommitted Count;
    "joins" joins Count;
    "leaves" leaves Count;
    "crashes" crashes Count;
    "expiries" expiries Count;
    "timeouts" timeouts Count;
    "failovers" failovers Count;
    "lost" lost Count;
    "late" late Count;
    "retention" retention Count;
}

impl Bound {
    /// The full protocol with these limits.
    pub fn config(&self) -> Config {
        Config {
            consumer: self.consumer,
            members: self.members,
            instances: self.instances,
            partitions: self.partitions,
            records: self.records,
            commit_first: self.commit_first,
            orderly: self.orderly,
            uncommitted: self.uncommitted,
            rules: Rules::ALL,
        }
    }

    /// Whether a state within the bound fits its packed form. Each join is a new epoch, and so is each removal; whoever is
    /// removed unawares joins again. (member.epoch-committed fails if there are more all the same.)
    pub fn check(&self) -> Result<(), String> {
        let unawares = self.expiries + self.timeouts + self.lost + self.late;
        let epochs = self.joins + self.leaves + self.crashes + self.failovers + 2 * unawares;
        if self.members == 0 || self.members as usize > MEMBERS {
            Err(format!("members: 1 to {MEMBERS}"))
        } else if self.instances == 1 || self.instances > 2 || self.instances > self.members {
            Err("instances: 0 or 2, and no more than members".to_owned())
        } else if self.partitions == 0 || self.partitions as usize > PARTITIONS {
            Err(format!("partitions: 1 to {PARTITIONS}"))
        } else if self.records > 2 {
            Err("records: at most 2".to_owned())
        } else if !(1..=2).contains(&self.uncommitted) {
            Err("uncommitted: 1 or 2".to_owned())
        } else if self.timeouts > 0 && self.consumer {
            Err("timeouts: of the classic protocol only; with KIP-848 they are among the expiries".to_owned())
        } else if self.retention > 15 {
            Err("retention: at most 15".to_owned())
        } else if epochs > 14 {
            Err(format!(
                "joins + leaves + crashes + failovers + 2 (expiries + timeouts + lost + late) may reach {epochs} epochs, more \
                 than the 14 that fit"
            ))
        } else {
            Ok(())
        }
    }

    /// The properties that say something within this bound: every `always`, and each `sometimes` that can be expected.
    pub fn properties(&self) -> Vec<Invariant> {
        let away = self.expiries + self.timeouts > 0;
        let again = self.expiries + self.crashes + self.failovers > 0 && self.joins > 1;
        let applies = |i: &Invariant| match i {
            Invariant::PartitionEpochValid | Invariant::MemberEpochForward => self.consumer,
            Invariant::OffsetsDurable | Invariant::OffsetsForward | Invariant::OffsetsByOwner => self.records > 0,
            Invariant::AtLeastOnce => self.records > 0 && !self.commit_first,
            Invariant::AtMostOnce => self.records > 0 && self.commit_first,
            _ if i.kind() == Kind::Always => true,
            Invariant::RebalanceEnds => self.joins > 1 && self.members > self.instances.max(1) && self.partitions > 1,
            Invariant::ZombieRefused => away && self.joins > 0,
            Invariant::ProcessedTwice => self.records > 0 && !self.commit_first && again && self.members > 1,
            Invariant::RecordSkipped => self.records > 0 && self.commit_first && self.crashes > 0,
            _ => false,
        };
        Invariant::ALL.iter().copied().filter(|i| i.model() == super::NAME && applies(i)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bound::Value;

    #[test]
    fn every_key_is_read_and_written_and_nonsense_is_refused() {
        let mut bound = NOTHING;
        for key in Bound::KEYS {
            let value = if matches!(NOTHING.values()[key], Value::Switch(_)) { "true" } else { "1" };
            bound.set(key, value).unwrap();
            assert_ne!(bound.values()[key], Value::Count(0), "{key}");
        }
        assert!(bound.set("brokers", "1").is_err() && bound.set("joins", "many").is_err());
        assert_eq!(NOTHING.check(), Ok(()));
        for wrong in [
            Bound { members: 4, ..NOTHING },
            Bound { instances: 1, ..NOTHING },
            Bound { partitions: 3, ..NOTHING },
            Bound { records: 3, ..NOTHING },
            Bound { uncommitted: 3, ..NOTHING },
            Bound { timeouts: 1, ..NOTHING },
            Bound { joins: 15, ..NOTHING },
            Bound { retention: 16, ..NOTHING },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn counts_that_no_sum_could_hold_are_refused() {
        let mut bound = NOTHING;
        for large in ["256", "2147483648", "99999999999"] {
            assert_eq!(bound.set("expiries", large), Err(format!("expiries: '{large}' is too large, at most 255")));
        }
        assert_eq!(bound, NOTHING);
        for key in Bound::KEYS {
            let largest = if matches!(NOTHING.values()[key], Value::Switch(_)) { "true" } else { "255" };
            bound.set(key, largest).unwrap();
        }
        assert!(bound.check().is_err());
        assert!(bound.set("joins", "-1").unwrap_err().contains("not a number"));
        assert!(bound.set("orderly", "1").unwrap_err().contains("neither true nor false"));
    }
}
