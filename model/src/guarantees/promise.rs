//! A promise as a model: the replication of a partition, with the one question whether the promise is ever broken.

use stateright::{Expectation, Property};

use super::Setting;
use crate::engine::{Ask, Asked};
use crate::replication::producers::{in_order, no_duplicate};
use crate::replication::{Acks, Bound, Log, Noted, Packed, PackedLog, Replication};

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Question {
    /// May an acknowledged record be lost: a leader of the latest leader epoch lacks it.
    Lose,
    /// May a record that a consumer has read change or vanish: a leader shows another one below its high watermark, or a
    /// leader of the latest leader epoch lacks it.
    Reread,
    /// May a record be in a log twice.
    Duplicate,
    /// May a record stand in a log, where it is there for the first time, behind one that the same producer sent later.
    Reorder,
    /// The same if a producer has one request in flight.
    ReorderInFlight1,
}

impl Question {
    /// All of them, in the order of a row's answers.
    pub const ALL: [Question; 5] =
        [Question::Lose, Question::Reread, Question::Duplicate, Question::Reorder, Question::ReorderInFlight1];

    /// The words for "holds" and for "fails".
    pub fn words(self) -> (&'static str, &'static str) {
        if self == Question::Reread { ("same", "may-change") } else { ("never", "may") }
    }

    /// Whether it is about what producers send again.
    pub fn is_about_resends(self) -> bool {
        !matches!(self, Question::Lose | Question::Reread)
    }
}

/// The replication of one partition, with one question.
pub type Promise = Asked<Replication, Question>;

/// What has to be remembered to answer.
pub(super) fn noted(setting: &Setting, question: Question) -> Noted {
    match (question, setting.acks) {
        (Question::Lose, Acks::None) => Noted::Sent,
        (Question::Lose, _) => Noted::Acknowledged,
        _ => Noted::Nothing,
    }
}

impl Promise {
    /// The full protocol within a bound.
    pub fn new(bound: Bound, noted: Noted, question: Question) -> Self {
        let mut model = Replication::new(bound);
        model.config.noted = noted;
        Asked { model, question }
    }

    /// Whether a log has a record twice, or out of order.
    fn uneasy(&self, state: &Packed) -> bool {
        state.brokers.iter().any(|b| !no_duplicate(&b.log) || !in_order(&b.log, state.sent))
    }

    /// Whether the promise is broken in a state.
    pub fn broken(&self, state: &Packed) -> bool {
        let current = state.current_leader().map(|l| &state.brokers[usize::from(l)].log);
        let lacks = |record: &PackedLog| current.is_some_and(|log| log.common_prefix(record) < record.end());
        match self.question {
            Question::Lose => lacks(&state.acked_all) || lacks(&state.acked_one),
            Question::Reread => {
                let other = |b| {
                    let b = &state.brokers[usize::from(b)];
                    b.log.common_prefix(&state.seen) < b.high_watermark.min(state.seen.end())
                };
                lacks(&state.seen) || state.ids().any(|b| state.leads(b) && other(b))
            }
            Question::Duplicate => state.brokers.iter().any(|b| !no_duplicate(&b.log)),
            Question::Reorder | Question::ReorderInFlight1 => {
                state.brokers.iter().any(|b| !in_order(&b.log, state.sent))
            }
        }
    }
}

impl Ask<Replication> for Question {
    fn properties(&self) -> Vec<Property<Promise>> {
        let sometimes = |name, condition| Property { expectation: Expectation::Sometimes, name, condition };
        let mut properties = vec![sometimes("broken", Promise::broken)];
        if self.is_about_resends() {
            // Where this is never so, the other questions about what is sent again are answered too.
            properties.push(sometimes("uneasy", Promise::uneasy));
        }
        properties
    }
}
