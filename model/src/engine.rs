//! Exhaustive exploration of any `stateright::Model`: breadth first, level by level, deterministic, with shortest paths.
//!
//! Stateright's own breadth-first search ignores symmetry, is not level-synchronous with several threads (so that its
//! counterexamples are neither shortest nor the same from run to run), and looks complete when it was cut short. This
//! engine expands a level in parallel and inserts its states in a fixed order, so one thread and several give the same
//! answer. A state is known by a 64-bit fingerprint; paths are kept as parent and action index.

mod asked;
mod search;
mod visited;

use std::time::Duration;

use stateright::Model;

pub use asked::{Ask, Asked, Unjudged};
pub use search::explore;

/// The conditions of all invariants of the registry, in its order: `condition::<0>`, `condition::<1>`, and so on. The array's
/// length is that of the registry, so that this does not compile if one is missing here.
macro_rules! conditions {
    ($condition:ident) => {
        crate::engine::conditions!($condition: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 41 42 43 44)
    };
    ($condition:ident: $($n:literal)*) => {
        [$($condition::<$n>),*]
    };
}
pub(crate) use conditions;

/// What the engine needs of a model besides Stateright's trait.
pub trait Explore: Model {
    /// The kinds of actions, by name.
    fn action_names(&self) -> &'static [&'static str];

    /// The place of an action's kind in [`Explore::action_names`].
    fn action_kind(&self, action: &Self::Action) -> usize;

    /// Writes a state as bytes: what the frontier keeps.
    fn pack(&self, state: &Self::State, out: &mut Vec<u8>);

    /// Reads it back.
    fn unpack(&self, bytes: &[u8]) -> Self::State;

    /// Writes what a state has in common with all its mirror images, and with nothing else.
    fn symmetric(&self, state: &Self::State, out: &mut Vec<u8>);

    /// Whether a state in which nothing can happen is one where nothing is left to do.
    fn settled(&self, state: &Self::State) -> bool;

    /// The one step that heals next when nothing more goes wrong: a fixed, fair schedule. None if there is no such step.
    fn heal(&self, state: &Self::State) -> Option<Self::Action>;

    /// One step of a path for a reader.
    fn describe(&self, before: &Self::State, action: &Self::Action, after: &Self::State) -> String;
}

/// How to explore.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Threads that expand states.
    pub threads: usize,
    /// Take mirror images for one state.
    pub symmetry: bool,
    /// Follow the healing of every state until it is settled.
    pub convergence: bool,
    /// Stop when there are more states than this.
    pub max_states: u64,
    /// Stop when the engine's tables are larger than this many bytes.
    pub max_memory: u64,
    /// Stop after this time.
    pub max_time: Duration,
    /// Stop after the level in which one of these properties (bits, in the model's order) is discovered, or, if
    /// [`Options::convergence`] is set, a state that does not heal. 0 is never.
    pub stop_at: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            symmetry: true,
            convergence: false,
            max_states: u64::from(u32::MAX - 1),
            max_memory: u64::MAX,
            max_time: Duration::MAX,
            stop_at: 0,
        }
    }
}

/// Why an exploration ended before every state was seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// [`Options::max_states`].
    States,
    /// [`Options::max_memory`].
    Memory,
    /// [`Options::max_time`].
    Time,
    /// [`Options::stop_at`], or a state that does not heal when that is looked for.
    Found,
}

/// A shortest way into a state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trail {
    /// How many steps.
    pub depth: u32,
    /// The steps, for a reader.
    pub steps: Vec<String>,
    /// The steps, for a program: the place of each among the actions of its state, from the first initial state on.
    pub choices: Vec<usize>,
}

/// The figures of one level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Level {
    /// States first seen at this depth.
    pub states: u64,
    /// Steps that lead out of them.
    pub generated: u64,
}

/// What an exploration found.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// None if every state was seen.
    pub cut: Option<Cut>,
    /// Distinct states.
    pub distinct: u64,
    /// Steps taken, and the initial states.
    pub generated: u64,
    /// The largest depth of a state.
    pub depth: u32,
    /// By depth.
    pub levels: Vec<Level>,
    /// Wall-clock time.
    pub elapsed: Duration,
    /// The largest size of the engine's tables.
    pub peak_bytes: u64,
    /// How often each kind of action happened.
    pub actions: Vec<u64>,
    /// For each property, in the model's order: how it is violated (always) or witnessed (sometimes).
    pub discoveries: Vec<Option<Trail>>,
    /// A state that does not heal: the way there, and then what healing does until it repeats itself or ends.
    pub unhealed: Option<Trail>,
    /// A state in which nothing at all can happen although something is left to do.
    pub deadlock: Option<Trail>,
}

impl Outcome {
    /// Whether every state in the bound was seen.
    pub fn complete(&self) -> bool {
        self.cut.is_none()
    }

    /// The probability that two states shared a fingerprint, so that one of them was passed over.
    pub fn collision_probability(&self) -> f64 {
        let n = self.distinct as f64;
        (n * (n - 1.0) / 2.0 / 2f64.powi(64)).min(1.0)
    }
}

/// Called now and then with the depth, the number of states so far and of those in the frontier.
pub type Progress<'a> = &'a (dyn Fn(u32, u64, u64) + Sync);
