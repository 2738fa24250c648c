//! Bounds: how many brokers and records, and how much may go wrong. Several small ones tell more than one large one.

use bellwether_trace::{Invariant, Kind};

use super::action::{Acks, Budget, Config, Noted, Rules};
use super::log::PackedLog;
use super::producers::WINDOW;
use super::state::MAX_BROKERS;
use crate::bound::fields;

/// Limits of an exploration. Healing (restart, registration, unfencing, ISR growth, fetching) is never limited.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Bound {
    /// Replicas, all in sync at first.
    pub brokers: u32,
    /// Records.
    pub records: u32,
    /// Records of one batch, at most: what is appended, sent, kept and shown as one.
    pub batch: u32,
    /// Producers may use acks=0.
    pub acks0: bool,
    /// Producers may use acks=1.
    pub acks1: bool,
    /// Producers may use acks=all.
    pub acks_all: bool,
    /// Consumers read.
    pub reads: bool,
    /// min.insync.replicas.
    pub min_isr: u32,
    /// unclean.leader.election.enable.
    pub unclean: bool,
    /// Eligible leader replicas (KIP-966).
    pub elr: bool,
    /// Stops of brokers at once.
    pub crashes: u32,
    /// Those among them that lose records.
    pub lossy: u32,
    /// Clean stops of brokers.
    pub stops: u32,
    /// Sessions of living brokers that end.
    pub fences: u32,
    /// Members that leaders drop from the ISR.
    pub shrinks: u32,
    /// Elections on request.
    pub elections: u32,
    /// Retries of producers that were appended before.
    pub retries: u32,
    /// Brokers that are no replicas at first, and may become some.
    pub spares: u32,
    /// Controlled shutdowns.
    pub shutdowns: u32,
    /// Reassignments: of one replica that is added, removed, or takes another one's place.
    pub reassigns: u32,
    /// Changes of min.insync.replicas, to a value from 1 to the number of replicas.
    pub configures: u32,
    /// Elections on request may be unclean if there is no leader, whatever is configured.
    pub forced: bool,
    /// Producers, 1 or 2.
    pub producers: u32,
    /// They are idempotent (KIP-98).
    pub idempotent: bool,
    /// How many batches a producer may have sent without an answer.
    pub in_flight: u32,
    /// Batches that are sent again, since the answer was an error or got lost. With acks=0 there is no answer to miss.
    pub resends: u32,
    /// Fetches of one follower on their way: 1, or more for one to each broker that it has held for the leader.
    pub flights: u32,
    /// Fetches and responses get lost on the way, at any time.
    pub loss: bool,
    /// Consumers of which it is known what they have read: 0 or 1.
    pub consumers: u32,
    /// Consumers read from followers, too.
    pub follower_reads: bool,
    /// Fetches that a newer one has superseded, but that still arrive, or whose answers do.
    pub stale: u32,
}

/// The least bound: three brokers, nothing written, nothing wrong.
pub const NOTHING: Bound = Bound {
    brokers: 3,
    records: 0,
    batch: 1,
    acks0: false,
    acks1: false,
    acks_all: false,
    reads: false,
    min_isr: 2,
    unclean: false,
    elr: false,
    crashes: 0,
    lossy: 0,
    stops: 0,
    fences: 0,
    shrinks: 0,
    elections: 0,
    retries: 0,
    spares: 0,
    shutdowns: 0,
    reassigns: 0,
    configures: 0,
    forced: false,
    producers: 1,
    idempotent: false,
    in_flight: 1,
    resends: 0,
    flights: 1,
    loss: false,
    consumers: 0,
    follower_reads: false,
    stale: 0,
};

fields! {
    "brokers" brokers Count;
    "records" records Count;
    "batch" batch Count;
    "acks0" acks0 Switch;
    "acks1" acks1 Switch;
    "acks-all" acks_all Switch;
    "reads" reads Switch;
    "min-isr" min_isr Count;
    "unclean" unclean Switch;
    "elr" elr Switch;
    "crashes" crashes Count;
    "lossy" lossy Count;
    "stops" stops Count;
    "fences" fences Count;
    "shrinks" shrinks Count;
    "elections" elections Count;
    "retries" retries Count;
    "spares" spares Count;
    "shutdowns" shutdowns Count;
    "reassigns" reassigns Count;
    "configures" configures Count;
    "forced" forced Switch;
    "producers" producers Count;
    "idempotent" idempotent Switch;
    "in-flight" in_flight Count;
    "resends" resends Count;
    "flights" flights Count;
    "loss" loss Switch;
    "consumers" consumers Count;
    "follower-reads" follower_reads Switch;
    "stale" stale Count;
}

impl Bound {
    /// What producers ask for.
    pub fn acks(&self) -> impl Iterator<Item = Acks> + use<> {
        let all = [(self.acks0, Acks::None), (self.acks1, Acks::One), (self.acks_all, Acks::All)];
        all.into_iter().filter_map(|(on, acks)| on.then_some(acks))
    }

    /// The full protocol with these limits.
    pub fn config(&self) -> Config {
        Config {
            elr: self.elr,
            one_flight: self.flights == 1,
            numbered: self.batch > 1 || self.producers > 1 || self.resends > 0,
            idempotent: self.idempotent,
            in_flight: self.in_flight,
            follower_reads: self.follower_reads,
            noted: Noted::Acknowledged,
            rules: Rules::ALL,
            budget: Budget {
                records: self.records,
                batch: self.batch,
                crashes: self.crashes,
                lossy: self.lossy,
                stops: self.stops,
                fences: self.fences,
                shrinks: self.shrinks,
                elections: self.elections,
                retries: self.retries,
                shutdowns: self.shutdowns,
                reassigns: self.reassigns,
                configures: self.configures,
                resends: self.resends,
                stale: self.stale,
            },
        }
    }

    /// Whether a state within the bound fits its packed form. A leader epoch starts with each election: one on request,
    /// one for a fenced leader, and for a stop one each when the controller fences, registers and unfences the broker; one more
    /// where it is led down. A reassignment may begin one when it is asked for and one when it is complete.
    pub fn check(&self) -> Result<(), String> {
        let epochs =
            self.elections + 2 * (self.fences + self.reassigns) + 3 * (self.crashes + self.stops) + 4 * self.shutdowns;
        let small = [self.crashes, self.fences, self.shrinks, self.elections, self.retries, self.lossy];
        if self.brokers == 0 || (self.brokers + self.spares) as usize > MAX_BROKERS {
            Err(format!("brokers: 1 to {MAX_BROKERS}, with the spare ones"))
        } else if self.records > PackedLog::RECORDS {
            Err(format!("records: at most {}", PackedLog::RECORDS))
        } else if self.batch == 0 {
            Err("batch: at least 1".to_owned())
        } else if !(1..=2).contains(&self.producers) {
            Err("producers: 1 or 2".to_owned())
        } else if self.in_flight == 0 || self.in_flight as usize > WINDOW {
            Err(format!("in-flight: 1 to {WINDOW}, as an idempotent producer may have"))
        } else if self.records + self.resends * self.batch > PackedLog::RECORDS {
            Err(format!("records + resends * batch: at most {}", PackedLog::RECORDS))
        } else if self.resends > 0 && self.acks0 && (self.acks1 || self.acks_all) {
            Err("resends: a producer with acks=0 sends nothing again, so it is not one that may ask for more"
                .to_owned())
        } else if self.stops > 3 {
            Err("stops: at most 3".to_owned())
        } else if self.configures > 7 || self.min_isr > 7 {
            Err("configures, min-isr: at most 7".to_owned())
        } else if self.consumers > 1 || (self.consumers == 1 || self.follower_reads) && !self.reads {
            Err("consumers: at most 1; and with consumers or follower-reads goes reads".to_owned())
        } else if self.stale > 3 {
            Err("stale: at most 3".to_owned())
        } else if small.iter().any(|n| *n > 15) || epochs >= PackedLog::EPOCHS {
            Err(format!(
                "elections + 2 (fences + reassigns) + 3 (crashes + stops) + 4 shutdowns may reach {epochs} leader epochs, more than the {} that fit",
                PackedLog::EPOCHS - 1
            ))
        } else {
            Ok(())
        }
    }

    /// The properties that say something within this bound: every `always`, and each `sometimes` that can be expected.
    pub fn properties(&self) -> Vec<Invariant> {
        let writes = self.records > 0 && self.acks().next().is_some();
        let committed = self.records > 0 && self.acks_all && self.min_isr <= self.brokers;
        // A leader that is not the only replica, and another one after it.
        let moves = self.elections + self.fences + self.crashes + self.stops + self.shutdowns;
        let changes = self.brokers > 1 && moves > 0;
        let again = self.records > 0 && (self.acks1 || self.acks_all) && self.resends > 0;
        let applies = |i: &Invariant| match i {
            Invariant::ProducerNoDuplicate | Invariant::ProducerInOrder | Invariant::ProducerJudgedByLog => {
                self.idempotent
            }
            _ if i.kind() == Kind::Always => true,
            Invariant::AckedOneIsLost => self.records > 0 && self.acks1 && changes,
            // With eligible leader replicas it takes as many stops as copies, and none of the others left in the ISR.
            Invariant::LastReplicaStanding if self.elr => {
                let gone = self.shrinks + self.crashes + self.fences >= self.brokers;
                committed && !self.unclean && self.lossy > 0 && self.crashes >= self.min_isr && gone
            }
            // It takes a way out of the ISR for the others, and a loss of what the last one has.
            Invariant::LastReplicaStanding => {
                committed && !self.unclean && self.lossy > 0 && self.shrinks + 1 >= self.brokers
            }
            Invariant::UncleanLoses => {
                committed && self.unclean && self.min_isr < self.brokers && self.shrinks > 0 && self.crashes > 0
            }
            Invariant::AckedAllHappens => committed,
            Invariant::ProducerDuplicates => again && !self.idempotent,
            Invariant::ProducerReorders => again && !self.idempotent && self.in_flight > 1 && self.records > 1,
            Invariant::TruncationHappens => writes && changes,
            Invariant::ConsumerIsTold => {
                let alone = self.min_isr < self.brokers && self.shrinks > 0 && self.crashes > 0;
                writes && self.records > 1 && self.consumers > 0 && self.unclean && alone
            }
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
    fn counts_that_no_sum_could_hold_are_refused() {
        let mut bound = NOTHING;
        for large in ["256", "1073741824", "99999999999"] {
            assert_eq!(bound.set("shutdowns", large), Err(format!("shutdowns: '{large}' is too large, at most 255")));
        }
        assert_eq!(bound, NOTHING);
        for key in Bound::KEYS {
            let largest = if matches!(NOTHING.values()[key], Value::Switch(_)) { "true" } else { "255" };
            bound.set(key, largest).unwrap();
            assert!(matches!(bound.values()[key], Value::Switch(true) | Value::Count(255)), "{key}");
        }
        assert!(bound.check().is_err());
        // Whatever a bound says, what follows from it can be reckoned.
        assert!(!bound.properties().is_empty());
    }
}
