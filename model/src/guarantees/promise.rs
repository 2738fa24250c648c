//! A promise as a model: the replication of a partition, with the one question whether the promise is ever broken.

use stateright::{Expectation, Model, Property};

use super::Setting;
use crate::engine::Explore;
use crate::replication::{Acks, Action, Bound, Log, Noted, Packed, PackedLog, Replication};

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Question {
    /// May an acknowledged record be lost: a leader of the latest leader epoch lacks it.
    Lose,
    /// May a record that a consumer has read change or vanish: a leader shows another one below its high watermark, or a
    /// leader of the latest leader epoch lacks it.
    Reread,
}

/// The replication of one partition, with one question.
#[derive(Clone, Debug)]
pub struct Promise {
    model: Replication,
    question: Question,
}

/// What has to be remembered to answer.
pub(super) fn noted(setting: &Setting, question: Question) -> Noted {
    match (question, setting.acks) {
        (Question::Reread, _) => Noted::Nothing,
        (Question::Lose, Acks::None) => Noted::Sent,
        (Question::Lose, _) => Noted::Acknowledged,
    }
}

impl Promise {
    /// The full protocol within a bound.
    pub fn new(bound: Bound, noted: Noted, question: Question) -> Self {
        let mut model = Replication::new(bound);
        model.config.noted = noted;
        Promise { model, question }
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
        }
    }
}

impl Model for Promise {
    type State = Packed;
    type Action = Action;

    fn init_states(&self) -> Vec<Packed> {
        self.model.init_states()
    }

    fn actions(&self, state: &Packed, out: &mut Vec<Action>) {
        self.model.actions(state, out);
    }

    fn next_state(&self, state: &Packed, action: Action) -> Option<Packed> {
        self.model.next_state(state, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property { expectation: Expectation::Sometimes, name: "broken", condition: Promise::broken }]
    }
}

impl Explore for Promise {
    fn action_names(&self) -> &'static [&'static str] {
        self.model.action_names()
    }

    fn action_kind(&self, action: &Action) -> usize {
        self.model.action_kind(action)
    }

    fn pack(&self, state: &Packed, out: &mut Vec<u8>) {
        self.model.pack(state, out);
    }

    fn unpack(&self, bytes: &[u8]) -> Packed {
        self.model.unpack(bytes)
    }

    fn symmetric(&self, state: &Packed, out: &mut Vec<u8>) {
        self.model.symmetric(state, out);
    }

    fn settled(&self, state: &Packed) -> bool {
        self.model.settled(state)
    }

    fn heal(&self, state: &Packed) -> Option<Action> {
        self.model.heal(state)
    }

    fn describe(&self, before: &Packed, action: &Action, after: &Packed) -> String {
        self.model.describe(before, action, after)
    }
}
