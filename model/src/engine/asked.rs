//! A model with other properties: what it does is the same, and only what is asked of it differs.

use std::fmt::Debug;

use stateright::{Model, Path, Property};

use super::Explore;

/// What is asked of a model.
pub trait Ask<M: Model>: Sized {
    /// The questions as properties.
    fn properties(&self) -> Vec<Property<Asked<M, Self>>>;
}

/// A model of which other things are asked than its own properties.
#[derive(Clone, Copy, Debug)]
pub struct Asked<M, Q> {
    /// The model.
    pub model: M,
    /// What is asked.
    pub question: Q,
}

/// Nothing that is ever discovered: Stateright's own checkers stop when everything is.
#[derive(Clone, Copy, Debug)]
pub struct Unjudged;

impl<M: Model> Ask<M> for Unjudged {
    fn properties(&self) -> Vec<Property<Asked<M, Self>>> {
        vec![Property::always("true", |_, _| true)]
    }
}

impl<M: Model, Q: Ask<M>> Model for Asked<M, Q> {
    type State = M::State;
    type Action = M::Action;

    fn init_states(&self) -> Vec<M::State> {
        self.model.init_states()
    }

    fn actions(&self, state: &M::State, out: &mut Vec<M::Action>) {
        self.model.actions(state, out);
    }

    fn next_state(&self, state: &M::State, action: M::Action) -> Option<M::State> {
        self.model.next_state(state, action)
    }

    fn within_boundary(&self, state: &M::State) -> bool {
        self.model.within_boundary(state)
    }

    fn format_action(&self, action: &M::Action) -> String
    where
        M::Action: Debug,
    {
        self.model.format_action(action)
    }

    fn format_step(&self, state: &M::State, action: M::Action) -> Option<String>
    where
        M::State: Debug,
    {
        self.model.format_step(state, action)
    }

    fn as_svg(&self, path: Path<M::State, M::Action>) -> Option<String> {
        self.model.as_svg(path)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        self.question.properties()
    }
}

impl<M: Explore, Q: Ask<M>> Explore for Asked<M, Q> {
    fn action_names(&self) -> &'static [&'static str] {
        self.model.action_names()
    }

    fn action_kind(&self, action: &M::Action) -> usize {
        self.model.action_kind(action)
    }

    fn pack(&self, state: &M::State, out: &mut Vec<u8>) {
        self.model.pack(state, out);
    }

    fn unpack(&self, bytes: &[u8]) -> M::State {
        self.model.unpack(bytes)
    }

    fn symmetric(&self, state: &M::State, out: &mut Vec<u8>) {
        self.model.symmetric(state, out);
    }

    fn settled(&self, state: &M::State) -> bool {
        self.model.settled(state)
    }

    fn heal(&self, state: &M::State) -> Option<M::Action> {
        self.model.heal(state)
    }

    fn describe(&self, before: &M::State, action: &M::Action, after: &M::State) -> String {
        self.model.describe(before, action, after)
    }
}
