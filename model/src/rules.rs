//! Which rules of the protocol hold, and what becomes of a model without one.

use bellwether_trace::{Invariant, Rule};

/// The rules that hold: all of them, or all but those that a mutant lacks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Rules {
    off: u128,
}

impl Rules {
    /// The full protocol.
    pub const ALL: Rules = Rules { off: 0 };

    /// These rules without one.
    #[must_use]
    pub fn without(self, rule: Rule) -> Self {
        Rules { off: self.off | 1 << rule as u32 }
    }

    /// Whether a rule is in force.
    pub fn holds(self, rule: Rule) -> bool {
        self.off & 1 << rule as u32 == 0
    }
}

/// A rule with the bound in which it is switched off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mutant<B> {
    /// The rule that the mutant lacks.
    pub rule: Rule,
    /// Where.
    pub bound: B,
    /// What is expected.
    pub fate: Fate,
}

/// What becomes of a mutant in its bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// An invariant breaks. The one named is looked for; none means whichever breaks first.
    Caught(Option<Invariant>),
    /// Nothing breaks in the whole bound, and this is why.
    Explained(&'static str),
}
