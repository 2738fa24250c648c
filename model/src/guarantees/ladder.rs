//! The bounds in which each promise is judged, one after the other: the first that has a witness ends it.

use super::{Election, Question, Setting};
use crate::replication::bounds::NOTHING;
use crate::replication::{Acks, Bound};

/// The bounds of a question, in order. Which ones does not depend on the answer that is expected.
///
/// A broker's crash counts as one of the lossy ones whether or not it loses anything, except that there is always one crash:
/// after a stop that was not clean the controller cannot know what is left, and treats all of them alike (KIP-966).
pub(super) fn bounds(setting: &Setting, question: Question) -> Vec<Bound> {
    if question.is_about_resends() {
        return resends(setting, question);
    }
    let reads = question == Question::Reread;
    let calm = Bound {
        brokers: 3,
        records: 1,
        // What a consumer sees of acks=0 and acks=1 is the same: the leader appends either at once.
        acks0: setting.acks == Acks::None || reads && setting.acks == Acks::One,
        acks1: setting.acks == Acks::One && !reads,
        acks_all: setting.acks == Acks::All,
        reads,
        min_isr: setting.min_insync_replicas,
        unclean: setting.election == Election::Unclean,
        elr: setting.election == Election::CleanElr,
        ..NOTHING
    };
    let crash = Bound { crashes: setting.lossy_crashes.max(1), lossy: setting.lossy_crashes, ..calm };
    // Two brokers leave few states, and are enough for most of what can go wrong: here with an election besides.
    let mut bounds = vec![Bound { brokers: 2, shrinks: 1, elections: 1, ..crash }];
    if calm.unclean && calm.min_isr > 1 {
        // A third replica, left behind, that leads when the others are away.
        bounds.push(Bound { shrinks: 2, fences: 1, ..calm });
    }
    bounds.extend([
        crash,
        Bound { shrinks: 1, elections: 1, ..calm },
        Bound { brokers: 2, records: 2, elections: 1, ..crash },
        Bound { brokers: 2, fences: 1, shrinks: 1, ..crash },
    ]);
    if crash.lossy > 0 && !reads {
        bounds.push(Bound { shrinks: 1, ..crash });
    }
    bounds
}

/// A producer that sends again what it got no answer for, or a bad one. Two requests in flight contain the case of one.
///
/// acks=all is looked at for itself first, since there may be a witness. What it appends, acks=1 appends too, and what waits
/// for an answer changes no log: so what acks=1 excludes, acks=all does.
fn resends(setting: &Setting, question: Question) -> Vec<Bound> {
    let plain = setting.acks != Acks::None && !setting.idempotence;
    let base = Bound {
        brokers: 2,
        records: 2,
        acks0: setting.acks == Acks::None,
        acks1: setting.acks != Acks::None,
        min_isr: setting.min_insync_replicas,
        idempotent: setting.idempotence,
        in_flight: if plain && question == Question::ReorderInFlight1 { 1 } else { 2 },
        resends: 1,
        ..NOTHING
    };
    let own = Bound { acks1: false, acks_all: true, elections: 1, ..base };
    // Where nobody stops or is left behind, how leaders are elected makes no difference.
    let stops = Bound {
        unclean: setting.election == Election::Unclean,
        elr: setting.election == Election::CleanElr,
        crashes: 1,
        ..base
    };
    let (crashes, lossy) = (setting.lossy_crashes.max(1), setting.lossy_crashes);
    let mut bounds = vec![own; usize::from(setting.acks == Acks::All)];
    bounds.extend([
        Bound { elections: 2, ..base },
        Bound { records: 3, resends: 2, elections: 1, ..base },
        Bound { brokers: 3, elections: 1, ..base },
        Bound { brokers: 1, records: 3, resends: 2, crashes, lossy, ..stops },
        // An unclean election takes a replica that was left behind, and loses without a loss.
        if stops.unclean { Bound { shrinks: 1, ..stops } } else { Bound { lossy: lossy.min(1), ..stops } },
    ]);
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_fits_and_none_allows_more_losses_than_the_row_says() {
        for setting in Setting::all() {
            for question in Question::ALL {
                let bounds = bounds(&setting, question);
                assert!(bounds.iter().all(|b| b.check().is_ok() && b.lossy <= setting.lossy_crashes));
                assert!(bounds.iter().any(|b| b.lossy == setting.lossy_crashes && b.crashes >= b.lossy));
                // Each is judged with an election, and with three replicas.
                let any = |of: fn(&Bound) -> u32, n| bounds.iter().any(|b| of(b) >= n);
                assert!(any(|b| b.elections, 1) && any(|b| b.brokers, 3));
                assert!(bounds.iter().any(|b| b.unclean == (setting.election == Election::Unclean)));
                assert!(bounds.iter().all(|b| b.reads == (question == Question::Reread)));
                let again = question.is_about_resends();
                assert!(bounds.iter().all(|b| (b.resends > 0, b.idempotent) == (again, again && setting.idempotence)));
                if !again {
                    assert!(any(|b| b.shrinks, 1) && any(|b| b.fences, 1));
                    assert!(bounds.iter().all(|b| b.unclean == (setting.election == Election::Unclean)));
                }
            }
        }
    }
}
