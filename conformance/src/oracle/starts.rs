//! Where logs start. The model's logs start at 0; a replica that has deleted records shows, beside that, an epoch cache without what is
//! below, answers fetches from there with OFFSET_OUT_OF_RANGE, and may begin anew (the deviation `trace.log-starts`).

use bellwether_model::replication::{
    Action, Answer, BrokerId, Config, EpochRuns, Log, Offset, Phase, Remote, Rules, State, fetched_outcome, violations,
};
use bellwether_trace::{ErrorCode, Event, FetchEffect, RecoveredLog, Rule};

use super::partition::Why;

/// The log starts of a partition's replicas.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Starts {
    /// By broker.
    at: Vec<Offset>,
    /// Followers (the first) that were told by a leader (the second) that what they ask for is deleted, with what the leader's log had
    /// below its start then.
    told: Vec<(BrokerId, BrokerId, EpochRuns)>,
}

impl Starts {
    pub fn new(brokers: usize) -> Self {
        Starts { at: vec![0; brokers], told: Vec::new() }
    }

    /// A broker more.
    pub fn assign(&mut self) {
        self.at.push(0);
    }

    /// The logs that followers were told of.
    pub fn logs(&mut self) -> impl Iterator<Item = &mut EpochRuns> {
        self.told.iter_mut().map(|(.., below)| below)
    }

    fn of(&self, broker: BrokerId) -> Offset {
        self.at.get(usize::from(broker)).copied().unwrap_or(0)
    }

    fn set(&mut self, broker: BrokerId, start: Offset) {
        if let Some(at) = self.at.get_mut(usize::from(broker)) {
            *at = start;
        }
    }

    /// Whether some log starts here: in the middle of a batch, perhaps.
    pub fn is_one(&self, offset: Offset) -> bool {
        offset > 0 && self.at.contains(&offset)
    }

    /// Event `log-start`.
    pub fn advanced(
        &mut self,
        state: &mut State<EpochRuns>,
        config: &Config,
        broker: BrokerId,
        start: i64,
    ) -> Result<(), Why> {
        let unknown = || Why::new("the replica does not run");
        let b = state.brokers.get_mut(usize::from(broker)).filter(|b| b.alive).ok_or_else(unknown)?;
        let new = Offset::try_from(start).map_err(|_| Why::new(format!("no log can start at {start}")))?;
        if new <= self.of(broker) {
            return Err(Why::new(format!("the log starts at {} already", self.of(broker))));
        }
        if new > b.log.end() || (new > b.high_watermark && config.rules.holds(Rule::LogStartBelowHighWatermark)) {
            let why = format!("the high watermark is {}, and nothing above it may be deleted", b.high_watermark);
            return Err(Why { id: Some(Rule::LogStartBelowHighWatermark.id()), why });
        }
        b.log = std::mem::take(&mut b.log).started_at(new);
        self.set(broker, new);
        Ok(())
    }

    /// A leader has taken a fetch in: what is below the start of its log it does not have.
    pub fn received(
        &mut self,
        state: &mut State<EpochRuns>,
        follower: BrokerId,
        leader: BrokerId,
        nth: u8,
        remote: Option<Remote>,
    ) {
        self.told.retain(|(f, l, _)| (*f, *l) != (follower, leader));
        let start = self.of(leader);
        let flight = state.broker(follower).and_then(|b| b.flight(leader, nth));
        let is_below = flight.is_some_and(|f| f.phase == Phase::Received && f.fetch_offset < start);
        let refused = flight.is_some_and(|f| f.phase == Phase::Answered(Answer::Error(ErrorCode::OffsetOutOfRange)));
        if !is_below && !refused {
            return;
        }
        if let Some(l) = state.brokers.get_mut(usize::from(leader)) {
            self.told.push((follower, leader, l.log.slice(0, start)));
            if is_below && let Some(known) = l.remote.get_mut(usize::from(follower)) {
                *known = remote;
            }
        }
        let fetches = state.brokers.get_mut(usize::from(follower)).map(|b| &mut b.fetches);
        if is_below && let Some(flight) = fetches.and_then(|f| f.iter_mut().find(|f| f.leader == leader)) {
            flight.phase = Phase::Answered(Answer::Error(ErrorCode::OffsetOutOfRange));
        }
    }

    /// The fetch that a leader has taken in was one that its follower had given up: nobody listens to the answer. Only if it asked the same
    /// as the present one nobody can say which of the two it was.
    pub fn answered_nobody(&mut self, before: &Starts, same: bool) {
        let now = std::mem::replace(&mut self.told, before.told.clone());
        self.told.extend(now.into_iter().filter(|told| same && !before.told.contains(told)));
    }

    /// Event `fetched` of a follower that begins anew where its leader's log starts. What is below was committed, and the leader had it: by
    /// log matching the follower has it as good as copied.
    pub fn begun_anew(
        &mut self,
        state: &mut State<EpochRuns>,
        config: &Config,
        follower: BrokerId,
        leader: BrokerId,
        log_end: i64,
        high_watermark: i64,
    ) -> Result<(), Why> {
        let told = self.told.iter().filter(|(f, l, _)| (*f, *l) == (follower, leader));
        let starts: Vec<i64> = told.clone().map(|(.., below)| below.end().into()).collect();
        let last = starts.last().ok_or_else(|| Why::new("its leader has not said that what it asks for is deleted"))?;
        let found =
            told.clone().find(|(.., below)| (log_end, high_watermark) == (below.end().into(), below.end().into()));
        let (.., below) = found.cloned().ok_or_else(|| Why::new(format!("the leader's log started at {last}")))?;
        // Whether it would take this answer in: as if there were no records in it.
        let mut heard = state.clone();
        let place = |state: &mut State<EpochRuns>| -> Option<()> {
            let fetches = &mut state.brokers.get_mut(usize::from(follower))?.fetches;
            let flight = fetches.iter_mut().find(|f| f.leader == leader)?;
            let refused = Phase::Answered(Answer::Error(ErrorCode::OffsetOutOfRange));
            let none = Answer::Records { records: EpochRuns::default(), high_watermark: 0 };
            (flight.phase == refused).then(|| flight.phase = Phase::Answered(none))
        };
        place(&mut heard).ok_or_else(|| Why::new("no such answer is on its way"))?;
        match fetched_outcome(&heard, follower, leader, 0, config) {
            Some((FetchEffect::Appended, ..)) => {}
            Some((.., Some(rule))) => {
                return Err(Why { id: Some(rule.id()), why: "the answer is to be dropped".into() });
            }
            _ => return Err(Why::new("the answer is to be dropped")),
        }
        let b = state.brokers.get_mut(usize::from(follower)).ok_or_else(|| Why::new("no such replica"))?;
        if below.end() <= b.log.end() {
            return Err(Why::new("the log reaches the leader's start"));
        }
        (b.high_watermark, b.log) = (below.end(), below.with_epochs([]));
        b.fetches.retain(|f| f.leader != leader);
        let end = b.log.end();
        self.told.retain(|(f, l, _)| (*f, *l) != (follower, leader));
        self.set(follower, end);
        let broken = if config.rules == Rules::ALL { violations(state, config) } else { Vec::new() };
        match broken.first() {
            None => Ok(()),
            Some(i) => Err(Why { id: Some(i.id()), why: format!("it breaks an invariant: {}", i.statement()) }),
        }
    }

    /// A replica has started: its checkpoint of the log start may be older than the last one that it told of, and its epoch cache anything
    /// between.
    pub fn recovered(
        &mut self,
        state: &mut State<EpochRuns>,
        broker: BrokerId,
        log: Option<&RecoveredLog>,
    ) -> Result<(), String> {
        let before = self.of(broker);
        let start = log.map_or(0, |log| log.log_start);
        let start = Offset::try_from(start).map_err(|_| format!("no log can start at {start}"))?;
        if start > before {
            return Err(format!("the log started at {before}, and recovery adds nothing to that"));
        }
        self.told.retain(|(f, ..)| *f != broker);
        if before == 0 {
            return Ok(());
        }
        let first = log.and_then(|log| log.epochs.first()).and_then(|e| Offset::try_from(e.start).ok());
        let from = first.unwrap_or(start).clamp(start, before);
        if let Some(b) = state.brokers.get_mut(usize::from(broker)) {
            b.log = std::mem::take(&mut b.log).recovered_at(from);
        }
        self.set(broker, start);
        Ok(())
    }

    /// Puts into the event that the model shows what it does not know.
    pub fn show(&self, shown: &mut Option<Event>, action: &Action) {
        if let (Some(Event::Start { logs, .. }), Action::Restart { broker }) = (shown, action) {
            logs.iter_mut().for_each(|log| log.log_start = self.of(*broker).into());
        }
    }

    /// A log that was cut below its start, or deleted, starts where it ends.
    pub fn settle(&mut self, state: &State<EpochRuns>) {
        for (at, b) in self.at.iter_mut().zip(&state.brokers) {
            *at = (*at).min(b.log.end());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::{Plan, Walk};

    /// No legal trace comes here: whoever was refused had asked from below its leader's start, and that is where its log ends. The model's own
    /// refusal, of an offset beyond the leader's end, says nothing of starts; a follower that took it for one would lose its log.
    #[test]
    fn a_log_that_reaches_the_leaders_start_does_not_begin_anew() {
        let plan = Plan {
            brokers: 2,
            combined: false,
            partitions: 1,
            min_isr: 1,
            unclean: false,
            elr: false,
            lossy: false,
            spares: 0,
            operators: false,
            rules: Rules::ALL,
            drivable: true,
            steps: 0,
        };
        let mut walk = Walk::scripted("starts", plan);
        assert!(walk.try_take(Action::Fetch { follower: 1, leader: 0 }, None));
        let mut state = walk.state().clone();
        state.brokers[1].fetches.iter_mut().for_each(|flight| {
            flight.phase = Phase::Answered(Answer::Error(ErrorCode::OffsetOutOfRange));
        });
        let mut starts = Starts::new(2);
        starts.told.push((1, 0, EpochRuns::default()));
        let before = state.clone();
        let refused = starts.begun_anew(&mut state, &Config::oracle(), 1, 0, 0, 0).unwrap_err();
        assert_eq!(refused.why, "the log reaches the leader's start");
        assert_eq!(state, before);
    }
}
