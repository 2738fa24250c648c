//! A step in words: who sends what to whom.

use bellwether_trace::{ErrorCode, FetchAnswer, FetchEffect};

use super::action::{Action, Config};
use super::log::Log;
use super::producers::Batch;
use super::state::{AlterStatus, Answer, BrokerId, MetaEntry, Phase, State};
use super::step::{fetch_verdict, fetched_outcome, step};

/// An outcome under Kafka's name.
pub fn error_name(code: ErrorCode) -> String {
    let mut name = String::new();
    for c in format!("{code:?}").chars() {
        if c.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

/// One step as a line of an exchange. `after` is where the step leads to.
pub fn describe<L: Log>(before: &State<L>, action: &Action, after: &State<L>, config: &Config) -> String {
    let b = |b: BrokerId| &before.brokers[usize::from(b)];
    match *action {
        Action::Register { broker, clean, .. } => {
            let clean = if clean { " after a clean stop" } else { "" };
            format!("controller: registers broker {broker} anew{clean}, fenced{}", changes(before, after))
        }
        Action::Fence { broker, .. } => format!("controller: fences broker {broker}{}", changes(before, after)),
        Action::Unfence { broker } => format!("controller: unfences broker {broker}{}", changes(before, after)),
        Action::Elect { leader, unclean } => {
            let asked = if unclean { ", unclean as the operator allows" } else { "" };
            format!("controller: elects broker {leader}{asked}{}", changes(before, after))
        }
        Action::ShutDown { broker, .. } => {
            format!("controller: broker {broker} wants to stop{}", changes(before, after))
        }
        Action::Reassign { target: Some(target), .. } => {
            format!("operator → controller: reassign to {target}{}", changes(before, after))
        }
        Action::Reassign { target: None, .. } => {
            format!("operator → controller: take the reassignment back{}", changes(before, after))
        }
        Action::Configure { min_isr, unclean } => {
            let unclean = if unclean { ", unclean elections allowed" } else { "" };
            format!("operator → controller: min.insync.replicas={min_isr}{unclean}{}", changes(before, after))
        }
        Action::AlterPartition { broker, .. } => match super::alter_decision(before, broker, config) {
            Some((ErrorCode::None, _)) => {
                let isr = b(broker).alter.map(|a| a.isr).unwrap_or_default();
                let reassigned = before.controller().is_reassigning() && !after.controller().is_reassigning();
                let done = if reassigned { changes(before, after) } else { String::new() };
                format!("controller: accepts ISR {isr} from broker {broker}{done}")
            }
            Some((error, _)) => format!("controller → broker {broker}: alter partition, {}", error_name(error)),
            None => format!("controller: decides nothing for broker {broker}"),
        },
        Action::Crash { broker, keep, .. } if keep < b(broker).log.end() => {
            format!("broker {broker}: stops, and loses its records from offset {keep}")
        }
        Action::Crash { broker, .. } => format!("broker {broker}: stops, and keeps its log"),
        Action::Stop { broker, .. } => format!("broker {broker}: stops cleanly"),
        Action::Restart { broker } => {
            let r = b(broker);
            format!("broker {broker}: starts, log end {}, high watermark {}", r.log.end(), r.high_watermark)
        }
        Action::Apply { broker, index } => match before.metadata.get(index) {
            Some(entry) => format!("controller → broker {broker}: metadata, {}", partition(entry)),
            None => format!("controller → broker {broker}: metadata"),
        },
        Action::Produce { broker, acks, batch } => {
            let acks = acks.name();
            let at = b(broker).log.end();
            let epoch = before.view(broker).map_or(0, |v| v.leader_epoch);
            let lost = match batch.first.checked_sub(before.used.records) {
                None | Some(0) => String::new(),
                Some(_) => format!(" (what it sent from record {} on did not arrive)", before.used.records),
            };
            let (who, what) = (producer(batch), records(batch, before.used.records));
            format!("{who} → broker {broker}: produce, acks={acks}, {what}: at offset {at}, epoch {epoch}{lost}")
        }
        Action::OutOfOrder { broker, batch } => {
            let (who, what) = (producer(batch), records(batch, before.used.records));
            format!("{who} → broker {broker}: produce, {what}: OUT_OF_ORDER_SEQUENCE_NUMBER")
        }
        Action::Reject { broker } => format!("broker {broker} → producer: acks=all refused, NOT_ENOUGH_REPLICAS"),
        Action::Duplicate { broker, batch: None, end } => {
            format!("producer → broker {broker}: retries the batch that ends at {end}")
        }
        Action::Duplicate { broker, batch: Some(batch), end } => {
            let (who, what) = (producer(batch), records(batch, before.used.records));
            format!("{who} → broker {broker}: produce, {what}: a duplicate of what ends at offset {end}")
        }
        Action::Ack { broker, end, error: ErrorCode::None } => {
            format!("broker {broker} → producer: acks=all, acknowledged up to offset {end}")
        }
        Action::Ack { broker, end, error } => {
            format!("broker {broker} → producer: acks=all up to offset {end}, {}", error_name(error))
        }
        Action::HighWatermark { broker, to } => {
            format!("broker {broker}: high watermark {} → {to}", b(broker).high_watermark)
        }
        Action::Read { broker, end } => format!("broker {broker} → consumer: records up to offset {end}"),
        Action::Validate { broker } => {
            let read = before.consumer.as_ref().map_or(0, |c| c.log.end());
            let told = before.consumer.as_ref().zip(after.consumer.as_ref()).filter(|(was, is)| was.log != is.log);
            let asks = format!("consumer → broker {broker}: is offset {read} valid in this leader epoch?");
            match told {
                Some((_, is)) => format!("{asks} No, truncation detected, and it is set back to {}", is.log.end()),
                None => format!("{asks} It reads on"),
            }
        }
        Action::Fetch { follower, leader } => {
            let f = b(follower);
            let epoch = before.view(follower).map_or(0, |v| v.leader_epoch);
            let last = f.log.latest_epoch().map_or("none".into(), |e| e.to_string());
            let at = f.log.end();
            format!("broker {follower} → broker {leader}: fetch, epoch {epoch}, offset {at}, last epoch {last}")
        }
        Action::Receive { follower, leader, nth } => match fetch_verdict(before, follower, leader, nth, config) {
            Some((FetchAnswer::Diverging { epoch, end }, _)) => {
                format!("broker {leader} → broker {follower}: diverging, epoch {epoch} ends at {end}{}", late(nth))
            }
            Some((FetchAnswer::Error(error), _)) => {
                format!("broker {leader} → broker {follower}: fetch refused, {}{}", error_name(error), late(nth))
            }
            _ => {
                let at = b(follower).flight(leader, nth).map_or(0, |f| f.fetch_offset);
                let late = late(nth);
                format!("broker {leader}: takes the fetch of broker {follower} in, whose log ends at {at}{late}")
            }
        },
        Action::Respond { follower, leader, nth, .. } => {
            let late = late(nth);
            let answered = step(before, action, config).ok();
            let phase = answered.as_ref().and_then(|s| s.brokers[usize::from(follower)].flight(leader, nth));
            match phase.map(|f| (&f.phase, f.fetch_offset)) {
                Some((Phase::Answered(Answer::Records { records, high_watermark }), from)) => {
                    let what = match records.end() {
                        0 => "no records".to_owned(),
                        1 => format!("the record at offset {from}"),
                        n => format!("the records from offset {from} to {}", from + n - 1),
                    };
                    format!("broker {leader} → broker {follower}: {what}, high watermark {high_watermark}{late}")
                }
                Some((Phase::Answered(Answer::Error(error)), _)) => {
                    format!("broker {leader} → broker {follower}: fetch refused, {}{late}", error_name(*error))
                }
                _ => format!("broker {leader} → broker {follower}: response"),
            }
        }
        Action::Fetched { follower, leader, nth } => match fetched_outcome(before, follower, leader, nth, config) {
            Some((FetchEffect::Appended, end, hw, _)) => {
                format!("broker {follower}: takes the response in, log end {end}, high watermark {hw}{}", late(nth))
            }
            Some((FetchEffect::Truncated, end, hw, _)) => {
                format!("broker {follower}: truncates to offset {end}, high watermark {hw}{}", late(nth))
            }
            _ => format!("broker {follower}: drops the response of broker {leader}{}", late(nth)),
        },
        Action::ProposeIsr { broker, isr } => {
            format!("broker {broker} → controller: alter partition, ISR {isr} instead of {}", b(broker).isr)
        }
        Action::LearnIsr { broker } => {
            let error = match b(broker).alter.map(|a| a.status) {
                Some(AlterStatus::Decided { error, .. }) => error_name(error),
                _ => "nothing".to_owned(),
            };
            let isr = after.brokers[usize::from(broker)].isr;
            format!("controller → broker {broker}: answer to alter partition, {error}; its ISR is {isr}")
        }
    }
}

/// Said of a message whose follower has sent a newer one since.
fn late(nth: u8) -> &'static str {
    if nth > 0 { " (the follower has asked again since)" } else { "" }
}

fn producer(batch: Batch) -> &'static str {
    if batch.producer == 0 { "producer" } else { "second producer" }
}

/// A batch by the numbers of its records; a number below `next` was sent before.
fn records(batch: Batch, next: u32) -> String {
    let Batch { first, count, .. } = batch;
    let what = if count == 1 { format!("record {first}") } else { format!("records {first} to {}", first + count - 1) };
    if first < next { format!("{what} again") } else { what }
}

fn partition(entry: &MetaEntry) -> String {
    let leader = entry.leader.map_or("no leader".to_owned(), |l| format!("leader {l}"));
    let fenced = if entry.fenced.is_empty() { String::new() } else { format!(", fenced {}", entry.fenced) };
    let elr = if entry.elr.is_empty() { String::new() } else { format!(", ELR {}", entry.elr) };
    let last = entry.last_known_leader.map_or(String::new(), |l| format!(", last known leader {l}"));
    let stopping = if entry.stopping.is_empty() { String::new() } else { format!(", stopping {}", entry.stopping) };
    let moving = if entry.is_reassigning() {
        format!(", replicas {}, adding {}, removing {}", entry.replicas, entry.adding, entry.removing)
    } else {
        String::new()
    };
    format!("{leader}, epoch {}, ISR {}{elr}{last}{fenced}{stopping}{moving}", entry.leader_epoch, entry.isr)
}

fn changes<L: Log>(before: &State<L>, after: &State<L>) -> String {
    let (was, is) = (before.controller(), after.controller());
    let parts = |e: &MetaEntry| (e.leader, e.leader_epoch, e.isr, e.elr, e.last_known_leader);
    let replicas = if was.replicas == is.replicas { String::new() } else { format!("; replicas {}", is.replicas) };
    let moved = was.is_reassigning() != is.is_reassigning();
    if parts(was) == parts(is) && !moved { replicas } else { format!("{replicas}; {}", partition(is)) }
}
