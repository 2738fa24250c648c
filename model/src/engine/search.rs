//! The search: expand a batch of the level in parallel, insert its states in order, go on.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use foldhash::quality::FixedState;
use stateright::{Expectation, Property};

use super::visited::Visited;
use super::{Cut, Explore, Level, Options, Outcome, Progress, Trail};

/// States that one thread expands at a time.
const CHUNK: usize = 256;
/// Chunks that are expanded before their states are inserted: bounds what is held in between.
const BATCH: usize = 64;
/// A node without a parent.
const ROOT: u32 = u32::MAX;

/// Packed states with their node numbers, which follow each other.
#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    first_node: u32,
}

impl Chunk {
    fn states(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(self.ends.iter()).map(|(from, to)| &self.bytes[from as usize..*to as usize])
    }

    fn size(&self) -> u64 {
        self.bytes.capacity() as u64 + self.ends.capacity() as u64 * 4
    }
}

/// A state that a step leads to, not known when it was reached.
struct Candidate {
    fingerprint: u64,
    parent: u32,
    action: u16,
    /// The properties that it violates or witnesses, by bit.
    found: u64,
    end: u32,
}

#[derive(Default)]
struct Expanded {
    candidates: Vec<Candidate>,
    bytes: Vec<u8>,
    generated: u64,
    actions: Vec<u64>,
    deadlock: Option<u32>,
    healed: Vec<u64>,
    unhealed: Option<u32>,
}

struct Search<'a, M: Explore> {
    model: &'a M,
    options: &'a Options,
    properties: Vec<Property<M>>,
    hasher: FixedState,
    visited: Visited,
    parents: Vec<u32>,
    actions: Vec<u16>,
    /// For each property the first node that violates or witnesses it.
    found: Vec<Option<u32>>,
    open: u64,
    deadlock: Option<u32>,
    /// The states that are known to heal.
    healed: Visited,
    unhealed: Option<u32>,
}

/// Explores a model until every state is known, or a cap is reached.
pub fn explore<M>(model: &M, options: &Options, progress: Option<Progress<'_>>) -> Outcome
where
    M: Explore + Sync,
{
    let start = Instant::now();
    let properties = model.properties();
    assert!(properties.len() <= 64, "properties are kept as bits of a word");
    let decidable = |p: &Property<M>| p.expectation != Expectation::Eventually;
    let open = properties.iter().enumerate().filter(|(_, p)| decidable(p)).fold(0, |bits, (i, _)| bits | 1 << i);
    let mut search = Search {
        model,
        options,
        found: vec![None; properties.len()],
        properties,
        hasher: FixedState::with_seed(0x6265_6c6c),
        visited: Visited::new(),
        parents: Vec::new(),
        actions: Vec::new(),
        open,
        deadlock: None,
        healed: Visited::new(),
        unhealed: None,
    };
    let mut outcome = Outcome {
        cut: None,
        distinct: 0,
        generated: 0,
        depth: 0,
        levels: Vec::new(),
        elapsed: start.elapsed(),
        peak_bytes: 0,
        actions: vec![0; model.action_names().len()],
        discoveries: Vec::new(),
        deadlock: None,
        unhealed: None,
    };

    let mut first = Expanded::default();
    for (i, state) in model.init_states().iter().enumerate().filter(|(_, s)| model.within_boundary(s)) {
        search.consider(state, ROOT, i as u16, &mut Vec::new(), &mut first);
    }
    outcome.generated += first.generated;
    let mut frontier = Vec::new();
    search.insert(first, &mut frontier);

    'levels: while !frontier.is_empty() {
        let mut level = Level { states: frontier.iter().map(|c| c.ends.len() as u64).sum(), generated: 0 };
        let mut next = Vec::new();
        let frontier_bytes: u64 = frontier.iter().map(Chunk::size).sum();
        for batch in frontier.chunks(BATCH) {
            let expanded = search.expand(batch);
            let held: u64 = expanded.iter().map(Expanded::size).sum();
            for e in expanded {
                level.generated += e.generated;
                outcome.actions.iter_mut().zip(&e.actions).for_each(|(sum, n)| *sum += n);
                search.deadlock = search.deadlock.or(e.deadlock);
                search.unhealed = search.unhealed.or(e.unhealed);
                for fingerprint in &e.healed {
                    search.healed.insert(*fingerprint);
                }
                search.insert(e, &mut next);
            }
            let tables = search.visited.bytes()
                + search.healed.bytes()
                + search.parents.capacity() as u64 * 4
                + search.actions.capacity() as u64 * 2;
            let bytes = tables + frontier_bytes + held + next.iter().map(Chunk::size).sum::<u64>();
            outcome.peak_bytes = outcome.peak_bytes.max(bytes);
            let states = search.parents.len() as u64;
            if let Some(progress) = progress {
                progress(outcome.depth, states, level.states);
            }
            outcome.cut = if states > options.max_states.min(u64::from(ROOT - 1)) {
                Some(Cut::States)
            } else if bytes > options.max_memory {
                Some(Cut::Memory)
            } else if start.elapsed() > options.max_time {
                Some(Cut::Time)
            } else {
                None
            };
            if outcome.cut.is_some() {
                outcome.generated += level.generated;
                outcome.levels.push(level);
                break 'levels;
            }
        }
        outcome.generated += level.generated;
        outcome.levels.push(level);
        outcome.depth += u32::from(!next.is_empty());
        frontier = next;
        if !frontier.is_empty() && search.enough() {
            outcome.cut = Some(Cut::Found);
            break;
        }
    }
    outcome.distinct = search.parents.len() as u64;
    outcome.discoveries = search.found.iter().map(|n| n.map(|n| search.trail(n))).collect();
    outcome.deadlock = search.deadlock.map(|n| search.trail(n));
    outcome.unhealed = search.unhealed.map(|n| search.relapse(n));
    outcome.elapsed = start.elapsed();
    outcome
}

impl Expanded {
    fn size(&self) -> u64 {
        self.bytes.capacity() as u64 + (self.candidates.capacity() * size_of::<Candidate>()) as u64
    }
}

impl<M: Explore + Sync> Search<'_, M> {
    /// Expands the chunks, on several threads; the results are in the order of the chunks.
    fn expand(&self, batch: &[Chunk]) -> Vec<Expanded> {
        let threads = self.options.threads.clamp(1, batch.len());
        if threads == 1 {
            return batch.iter().map(|c| self.expand_chunk(c)).collect();
        }
        let turn = AtomicUsize::new(0);
        let results: Vec<Mutex<Option<Expanded>>> = batch.iter().map(|_| Mutex::new(None)).collect();
        let work = || {
            while let Some(chunk) = batch.get(turn.fetch_add(1, Ordering::Relaxed)) {
                let at = ((chunk.first_node - batch[0].first_node) as usize) / CHUNK;
                *results[at].lock().expect("no thread panicked") = Some(self.expand_chunk(chunk));
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        results.into_iter().filter_map(|r| r.into_inner().expect("no thread panicked")).collect()
    }

    fn expand_chunk(&self, chunk: &Chunk) -> Expanded {
        let mut out = Expanded { actions: vec![0; self.model.action_names().len()], ..Expanded::default() };
        let (mut actions, mut identity) = (Vec::new(), Vec::new());
        let mut healed = HashSet::with_hasher(self.hasher.clone());
        for (i, packed) in chunk.states().enumerate() {
            let node = chunk.first_node + i as u32;
            let state = self.model.unpack(packed);
            self.model.actions(&state, &mut actions);
            if self.options.convergence && out.unhealed.is_none() && !self.heals(&state, &mut healed, &mut identity) {
                out.unhealed = Some(node);
            }
            let before = out.generated;
            for (nth, action) in actions.drain(..).enumerate() {
                let kind = self.model.action_kind(&action);
                let Some(next) = self.model.next_state(&state, action) else { continue };
                if self.model.within_boundary(&next) {
                    out.actions[kind] += 1;
                    self.consider(&next, node, nth as u16, &mut identity, &mut out);
                }
            }
            if out.generated == before && out.deadlock.is_none() && !self.model.settled(&state) {
                out.deadlock = Some(node);
            }
        }
        // In an order that does not depend on the hash set's.
        out.healed = healed.into_iter().collect();
        out.healed.sort_unstable();
        out
    }

    /// A state's fingerprint; `identity` keeps the bytes that it is made of.
    fn fingerprint(&self, state: &M::State, identity: &mut Vec<u8>) -> u64 {
        identity.clear();
        if self.options.symmetry {
            self.model.symmetric(state, identity);
        } else {
            self.model.pack(state, identity);
        }
        let mut hasher = self.hasher.build_hasher();
        hasher.write(identity);
        hasher.finish().max(1)
    }

    /// Follows the healing of a state until it is settled or is known to heal; false if it ends or repeats itself before.
    fn heals(&self, state: &M::State, known: &mut HashSet<u64, FixedState>, identity: &mut Vec<u8>) -> bool {
        let mut way = Vec::new();
        let mut fingerprint = self.fingerprint(state, identity);
        let mut healing: Option<M::State> = None;
        while !self.healed.contains(fingerprint) && !known.contains(&fingerprint) {
            let now = healing.as_ref().unwrap_or(state);
            if way.contains(&fingerprint) {
                return false;
            }
            way.push(fingerprint);
            if self.model.settled(now) {
                break;
            }
            let Some(next) = self.model.heal(now).and_then(|a| self.model.next_state(now, a)) else { return false };
            fingerprint = self.fingerprint(&next, identity);
            healing = Some(next);
        }
        known.extend(way);
        true
    }

    fn consider(&self, state: &M::State, parent: u32, action: u16, identity: &mut Vec<u8>, out: &mut Expanded) {
        out.generated += 1;
        let fingerprint = self.fingerprint(state, identity);
        if self.visited.contains(fingerprint) {
            return;
        }
        let mut found = 0;
        for (i, p) in self.properties.iter().enumerate().filter(|(i, _)| self.open & 1 << i != 0) {
            let is_true = (p.condition)(self.model, state);
            found |= u64::from(is_true != (p.expectation == Expectation::Always)) << i;
        }
        if self.options.symmetry {
            self.model.pack(state, &mut out.bytes);
        } else {
            out.bytes.extend_from_slice(identity);
        }
        out.candidates.push(Candidate { fingerprint, parent, action, found, end: out.bytes.len() as u32 });
    }

    /// Inserts the candidates in order: those not known become nodes of the next level.
    fn insert(&mut self, expanded: Expanded, next: &mut Vec<Chunk>) {
        let mut from = 0;
        for c in expanded.candidates {
            let bytes = &expanded.bytes[from..c.end as usize];
            from = c.end as usize;
            if !self.visited.insert(c.fingerprint) {
                continue;
            }
            let node = self.parents.len() as u32;
            self.parents.push(c.parent);
            self.actions.push(c.action);
            let mut found = c.found & self.open;
            self.open &= !found;
            while found != 0 {
                self.found[found.trailing_zeros() as usize] = Some(node);
                found &= found - 1;
            }
            if next.last().is_none_or(|chunk| chunk.ends.len() == CHUNK) {
                next.push(Chunk { first_node: node, ..Chunk::default() });
            }
            if let Some(chunk) = next.last_mut() {
                chunk.bytes.extend_from_slice(bytes);
                chunk.ends.push(chunk.bytes.len() as u32);
            }
        }
    }

    /// Whether what was looked for is found.
    fn enough(&self) -> bool {
        let wanted = self.options.stop_at;
        let found = self.found.iter().enumerate().any(|(i, node)| wanted & 1 << i != 0 && node.is_some());
        found || wanted != 0 && self.unhealed.is_some()
    }

    /// The way to a state that does not heal, and on until a state comes again, or nothing heals any more.
    fn relapse(&self, node: u32) -> Trail {
        let (mut trail, mut state) = self.replay(node);
        trail.steps.push("from here on nothing goes wrong any more".into());
        let (mut seen, mut identity) = (HashSet::new(), Vec::new());
        while seen.insert(self.fingerprint(&state, &mut identity)) {
            let Some(action) = self.model.heal(&state) else {
                trail.steps.push("nothing is left that heals".into());
                return trail;
            };
            let Some(next) = self.model.heal(&state).and_then(|a| self.model.next_state(&state, a)) else {
                return trail;
            };
            trail.steps.push(self.model.describe(&state, &action, &next));
            state = next;
        }
        trail.steps.push("and so on, for ever".into());
        trail
    }

    fn trail(&self, node: u32) -> Trail {
        self.replay(node).0
    }

    /// Replays the way from an initial state to a node: what is printed has really happened in the model.
    fn replay(&self, node: u32) -> (Trail, M::State) {
        let mut way = Vec::new();
        let mut at = node;
        while at != ROOT {
            way.push(self.actions[at as usize]);
            at = self.parents[at as usize];
        }
        let mut way = way.into_iter().rev().map(usize::from);
        let root = way.next().unwrap_or(0);
        let choices: Vec<usize> = way.collect();
        let mut state =
            self.model.init_states().into_iter().nth(root).expect("the model's initial states are the same");
        let mut steps = Vec::new();
        for nth in choices.iter().copied() {
            let enabled = |state: &M::State| {
                let mut actions = Vec::new();
                self.model.actions(state, &mut actions);
                actions.into_iter().nth(nth).expect("the model's actions are the same")
            };
            let next = self.model.next_state(&state, enabled(&state)).expect("the action was possible");
            steps.push(self.model.describe(&state, &enabled(&state), &next));
            state = next;
        }
        (Trail { depth: steps.len() as u32, steps, choices }, state)
    }
}
