//! Named bounds: what `quick`, `standard` and `deep` explore.

use super::bounds::{Bound, NOTHING};
use crate::bound::Scope;

/// The bound that single values given by hand start from: one record with acks=all, read by consumers, nothing wrong.
pub const BASE: Bound = Bound { records: 1, acks_all: true, reads: true, ..NOTHING };

/// Two brokers, the second of which falls behind and is elected all the same.
const UNCLEAN: Bound =
    Bound { brokers: 2, acks0: true, reads: true, min_isr: 1, unclean: true, crashes: 1, shrinks: 1, ..NOTHING };

/// The bounds of a scope. Together they witness every `sometimes` and every kind of action.
pub fn bounds(scope: Scope) -> Vec<Bound> {
    let quick = [
        // A broker stops at any moment and comes back with its log.
        Bound { records: 2, acks0: true, crashes: 1, ..NOTHING },
        // The same with a loss, and with clients that notice.
        Bound { crashes: 1, lossy: 1, ..BASE },
        // Elections at any moment while the ISR changes.
        Bound { elections: 1, shrinks: 1, ..BASE },
        // Two elections: epochs without records, leaders that miss an epoch.
        Bound { records: 2, acks1: true, reads: true, elections: 2, ..NOTHING },
        // Two fetches of one follower on their way, to different leaders.
        Bound { records: 3, acks0: true, elections: 1, flights: 2, ..NOTHING },
        // A fetch that was superseded comes late, or its answer does: within an epoch, and across a loss.
        Bound { brokers: 2, records: 2, acks0: true, reads: true, elections: 1, stale: 2, ..NOTHING },
        Bound { brokers: 2, min_isr: 1, crashes: 1, lossy: 1, stale: 1, ..BASE },
        // Batches of one record and of two, cut by a loss.
        Bound {
            brokers: 2,
            records: 3,
            batch: 2,
            acks0: true,
            reads: true,
            min_isr: 1,
            crashes: 1,
            lossy: 1,
            ..NOTHING
        },
        // Producers that send again: without sequence numbers, and with them.
        Bound { brokers: 2, records: 2, acks1: true, in_flight: 2, resends: 1, elections: 1, ..NOTHING },
        Bound {
            records: 3,
            producers: 2,
            idempotent: true,
            in_flight: 2,
            resends: 1,
            brokers: 2,
            elections: 1,
            reads: false,
            ..BASE
        },
        // A consumer reads from leader and follower, elections are unclean, and it is told of what is gone.
        Bound { consumers: 1, follower_reads: true, records: 2, ..UNCLEAN },
        // Sessions end, producers retry, messages get lost.
        Bound { reads: false, fences: 1, retries: 1, loss: true, ..BASE },
        // A loss by one of two, and by the last one standing.
        Bound { brokers: 2, reads: false, crashes: 1, lossy: 1, shrinks: 1, ..BASE },
        // The same with eligible leader replicas: nothing is lost; and with as many stops as copies.
        Bound { elr: true, brokers: 2, reads: false, crashes: 1, lossy: 1, shrinks: 1, ..BASE },
        Bound { elr: true, brokers: 2, reads: false, crashes: 2, lossy: 1, ..BASE },
        // A clean stop and one that loses records.
        Bound { elr: true, brokers: 2, reads: false, crashes: 1, lossy: 1, stops: 1, ..BASE },
        // Unclean elections.
        Bound { brokers: 2, reads: false, min_isr: 1, unclean: true, crashes: 1, shrinks: 1, ..BASE },
        // A broker is led down; replicas come and go; min.insync.replicas changes.
        Bound { brokers: 2, shutdowns: 1, ..BASE },
        Bound { brokers: 2, spares: 1, reassigns: 1, ..BASE },
        Bound { elr: true, brokers: 2, fences: 1, configures: 1, ..BASE },
    ];
    let standard = [
        // A loss with a shrink before it: 4.6 million states.
        Bound { records: 1, acks0: true, reads: true, crashes: 1, lossy: 1, shrinks: 1, ..NOTHING },
        Bound { fences: 1, elections: 1, ..BASE },
        Bound { records: 2, acks0: true, reads: true, crashes: 1, ..NOTHING },
        Bound { records: 1, acks0: true, reads: true, elections: 2, shrinks: 1, ..NOTHING },
        Bound { brokers: 2, crashes: 2, lossy: 2, shrinks: 1, ..BASE },
        Bound { elr: true, brokers: 2, reads: false, crashes: 2, lossy: 2, shrinks: 1, ..BASE },
        Bound { elr: true, crashes: 1, lossy: 1, ..BASE },
        Bound { elr: true, brokers: 2, stops: 2, shrinks: 1, ..BASE },
        Bound { brokers: 3, shutdowns: 1, ..BASE },
        Bound { elr: true, brokers: 2, shutdowns: 1, crashes: 1, lossy: 1, ..BASE },
        Bound { elr: true, brokers: 2, spares: 1, shrinks: 1, reassigns: 1, ..BASE },
        Bound { brokers: 2, reassigns: 2, crashes: 1, lossy: 1, ..BASE },
        Bound { elr: true, brokers: 2, min_isr: 1, crashes: 1, lossy: 1, shrinks: 1, configures: 1, ..BASE },
        // An operator asks for an unclean election.
        Bound { brokers: 2, crashes: 1, lossy: 1, shrinks: 1, elections: 1, forced: true, ..BASE },
    ];
    let deep = [
        // What TLC could not exhaust: three brokers, one value, a stop that loses it, a session that ends. 36 million states.
        Bound { elr: true, crashes: 1, lossy: 1, fences: 1, ..BASE },
        // A loss while a replica takes another one's place, without eligible leader replicas and with them: 6 million each.
        Bound { brokers: 2, spares: 1, reassigns: 1, crashes: 1, lossy: 1, ..BASE },
        Bound { elr: true, brokers: 2, spares: 1, reassigns: 1, crashes: 1, lossy: 1, ..BASE },
        Bound { brokers: 4, elections: 1, shrinks: 1, ..BASE },
        // One shrink and one loss of three copies.
        Bound { elr: true, crashes: 1, lossy: 1, shrinks: 1, ..BASE },
    ];
    match scope {
        Scope::Quick => quick.to_vec(),
        Scope::Standard => [&quick[..], &standard].concat(),
        Scope::Deep => [&quick[..], &standard, &deep].concat(),
    }
}
