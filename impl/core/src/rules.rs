//! Which rules hold: all of them, unless the feature `mutants` lets a test switch one off.

use bellwether_trace::Rule;

/// The rules of this machine. Zero-sized, and every rule holds, unless the feature `mutants` is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rules {
    #[cfg(feature = "mutants")]
    off: Option<Rule>,
}

// Rules cost nothing in a published build: this does not compile otherwise.
#[cfg(not(feature = "mutants"))]
const _: () = assert!(size_of::<Rules>() == 0);

impl Rules {
    /// All rules hold.
    pub fn all() -> Rules {
        Rules::default()
    }

    /// All rules but one hold: a mutant.
    #[cfg(feature = "mutants")]
    pub fn without(rule: Rule) -> Rules {
        Rules { off: Some(rule) }
    }

    /// The guard of `rule`: passes if `condition` is true, or if the rule is switched off.
    #[inline(always)]
    pub fn holds(&self, rule: Rule, condition: bool) -> bool {
        condition || !self.on(rule)
    }

    /// Is the rule in force? For rules that are a way of doing something, not a condition.
    #[inline(always)]
    pub fn on(&self, rule: Rule) -> bool {
        #[cfg(feature = "mutants")]
        return self.off != Some(rule);
        #[cfg(not(feature = "mutants"))]
        {
            let _ = rule;
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_holds_by_default() {
        for rule in Rule::ALL {
            assert!(Rules::all().on(*rule) && !Rules::all().holds(*rule, false) && Rules::all().holds(*rule, true));
        }
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn a_mutant_lacks_one_rule() {
        let rules = Rules::without(Rule::FetchLeaderEpoch);
        assert!(rules.holds(Rule::FetchLeaderEpoch, false) && !rules.holds(Rule::FetchBrokerEpoch, false));
    }
}
