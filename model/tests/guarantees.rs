//! The derived table: what it must say, that it can say the opposite, and that the page about it is not stale.

use std::time::Duration;

use bellwether_model::engine::{Options, explore};
use bellwether_model::guarantees::{Election, Limits, Promise, Question, Setting, Table, answer_of, derive, page};
use bellwether_model::replication::bounds::NOTHING;
use bellwether_model::replication::{Acks, Bound, Noted};

const LIMITS: Limits = Limits { threads: 2, max_memory: u64::MAX, max_time: Duration::MAX };

fn setting(acks: Acks, min_insync_replicas: u32, election: Election, lossy_crashes: u32) -> Setting {
    Setting { acks, min_insync_replicas, election, lossy_crashes, idempotence: false }
}

fn table(settings: &[Setting]) -> Table {
    derive(settings, &LIMITS, &|_, _| (), None)
}

/// Rows of which both answers have a witness that is found soon.
fn failing() -> Vec<Setting> {
    let all = Setting::all().into_iter();
    all.filter(|s| !s.idempotence)
        .filter(|s| match (s.election, s.min_insync_replicas) {
            (Election::Clean, _) => s.lossy_crashes > 0,
            (Election::CleanElr, min) => s.lossy_crashes >= min,
            (Election::Unclean, min) => s.lossy_crashes >= 2 * (min - 1),
        })
        .collect()
}

#[test]
fn every_configuration_has_one_row() {
    let all = Setting::all();
    assert_eq!(all.len(), 72);
    assert!(all.iter().enumerate().all(|(i, s)| !all[..i].contains(s)));
}

#[test]
fn without_an_elr_one_loss_is_enough_and_with_it_two_stops_are() {
    for (election, losses) in [(Election::Clean, 1), (Election::CleanElr, 2)] {
        let table = table(&[setting(Acks::All, 2, election, losses)]);
        let row = &table.rows[0];
        assert_eq!((row.lose, row.reread, row.complete, table.ok), (Some("may"), Some("may-change"), true, true));
        let witness = row.witness.as_ref().unwrap();
        for w in [&witness.lose, &witness.reread].into_iter().flatten() {
            assert_eq!(w.steps.len() as u32, w.depth);
            assert!(w.steps.iter().any(|s| s.contains("stops, and loses its records from offset 0")), "{:?}", w.steps);
        }
        assert!(witness.lose.as_ref().unwrap().steps.iter().any(|s| s.contains("acknowledged up to offset 1")));
        assert!(witness.reread.as_ref().unwrap().steps.iter().any(|s| s.contains("consumer")));
    }
}

#[test]
fn with_an_elr_one_loss_among_two_brokers_loses_nothing_and_without_it_does() {
    let one = Bound { brokers: 2, records: 1, acks_all: true, crashes: 1, lossy: 1, shrinks: 1, ..NOTHING };
    for elr in [true, false] {
        let promise = Promise::new(Bound { elr, ..one }, Noted::Acknowledged, Question::Lose);
        let outcome = explore(&promise, &Options { stop_at: 1, ..Options::default() }, None);
        assert_eq!((outcome.complete(), outcome.discoveries[0].is_none()), (elr, elr));
    }
}

#[test]
fn acks_0_and_1_lose_what_a_deposed_leader_takes_without_any_crash() {
    for (acks, min) in [(Acks::None, 1), (Acks::One, 2)] {
        let bound = Bound { brokers: 2, records: 1, elections: 1, min_isr: min, ..NOTHING };
        let bound = Bound { acks0: acks == Acks::None, acks1: acks == Acks::One, ..bound };
        let steps = |noted| {
            let promise = Promise::new(bound, noted, Question::Lose);
            explore(&promise, &Options::default(), None).discoveries[0].as_ref().map(|t| t.steps.clone())
        };
        let lost = steps(Noted::Sent).unwrap();
        assert!(lost.len() == 3 && lost[1].contains(&format!("broker 0: produce, acks={}", acks.name())), "{lost:?}");
        assert!(lost.iter().all(|s| !s.contains("stops")), "{lost:?}");
        // acks=0 acknowledges nothing, so that nothing acknowledged is lost; and what is not remembered is never missed.
        assert_eq!(steps(Noted::Acknowledged).is_some(), acks == Acks::One);
        assert_eq!(steps(Noted::Nothing), None);
    }
}

#[test]
fn a_row_that_was_cut_short_is_not_complete_and_says_never_of_nothing() {
    let limits = Limits { max_memory: 1 << 20, ..LIMITS };
    let table = derive(&[setting(Acks::All, 2, Election::CleanElr, 1)], &limits, &|_, _| (), None);
    let row = &table.rows[0];
    assert_eq!((row.lose, row.reread, row.complete), (None, None, false));
    assert!(!table.ok && !table.complete() && !table.broken());
    let json = serde_json::to_string(&table).unwrap();
    assert!(json.contains(r#""lose":null"#) && !json.contains("never") && !json.contains("\"same\""), "{json}");
}

#[test]
fn what_is_sent_again_is_there_twice_and_out_of_order_without_idempotence_and_never_with_it() {
    let plain = |acks| setting(acks, 2, Election::CleanElr, 1);
    let settings =
        [plain(Acks::None), plain(Acks::One), plain(Acks::All), Setting { idempotence: true, ..plain(Acks::All) }];
    let (never, may) = (Some("never"), Some("may"));
    let mut made = Vec::new();
    for (setting, again) in settings.into_iter().zip([never, may, may, never]) {
        // What is lost and read again is for other tests: these take longer.
        let answers = [Question::Duplicate, Question::Reorder, Question::ReorderInFlight1]
            .map(|question| answer_of(&setting, question, &LIMITS));
        let words = answers.each_ref().map(|(word, ..)| *word);
        assert_eq!(words, [again, again, never], "{setting:?}");
        for (question, (word, witness, explored)) in Question::ALL[2..].iter().zip(answers) {
            assert!(setting.promised(*question) == (word == never), "{setting:?} {question:?}");
            assert_eq!(witness.is_some(), word == may);
            assert!(explored.iter().all(|e| e.exhausted) || word == may);
            made.extend(witness.map(|w| (setting.acks.name(), *question, w)));
        }
    }
    assert_eq!(made.len(), 4);
    for (acks, question, witness) in made {
        assert_eq!(witness.steps.len(), 2, "{acks}: {:?}", witness.steps);
        assert!(witness.steps[1].contains("record 0 again: at offset 1"), "{:?}", witness.steps);
        let late = witness.steps[0].contains("record 1: at offset 0") && witness.steps[0].contains("did not arrive");
        assert_eq!(late, question == Question::Reorder, "{:?}", witness.steps);
    }
}

#[test]
fn an_answer_below_what_kafka_documents_is_a_broken_table() {
    let mut table = table(&[setting(Acks::All, 2, Election::Clean, 1)]);
    assert!(!table.broken());
    table.rows[0].config.lossy_crashes = 0;
    assert!(table.broken());
    table.rows[0].config.acks = Acks::One;
    assert!(table.broken(), "what a consumer has read stays, whatever producers ask for");
    table.rows[0].reread = Some("same");
    assert!(!table.broken(), "acks=1 promises nothing");
    table.rows[0].config.acks = Acks::None;
    assert!(table.broken(), "acks=0 sends nothing again");
    table.rows[0].config = Setting { acks: Acks::All, idempotence: true, lossy_crashes: 1, ..table.rows[0].config };
    assert!(table.broken(), "idempotence");
    (table.rows[0].duplicate, table.rows[0].reorder) = (Some("never"), Some("never"));
    assert!(!table.broken());
    table.rows[0].reorder_in_flight_1 = Some("may");
    assert!(table.broken(), "one in flight keeps the order");
}

/// Of the answers with a witness here; the rest takes a minute of optimised code: `bellwether guarantees --check`.
#[test]
fn the_page_has_the_witnesses_and_words_that_the_model_gives_now() {
    let committed = include_str!("../../specs/guarantees.md");
    let table = table(&failing());
    assert!(table.rows.len() > 24 && table.ok);
    for row in &table.rows {
        let witness = row.witness.as_ref().unwrap();
        let resent = [&witness.duplicate, &witness.reorder].into_iter().filter(|w| w.is_some());
        assert_eq!(resent.clone().count(), if row.config.acks == Acks::None { 0 } else { 2 });
        for w in [&witness.lose, &witness.reread].into_iter().chain(resent) {
            let w = w.as_ref().unwrap_or_else(|| panic!("a witness of {:?}", row.config));
            let exchange = w.numbered();
            assert!(committed.contains(&exchange), "specs/guarantees.md is stale: {:?}\n{exchange}", row.config);
        }
    }
    // The prose around the table is part of the page.
    let now = page(&table);
    let prose = |page: &str| {
        let lines = page.lines().filter(|l| !l.starts_with('|'));
        lines.take_while(|l| *l != "## The witnesses").map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(prose(committed), prose(&now), "specs/guarantees.md is stale");
}
