//! Named bounds: what `quick`, `standard` and `deep` explore.

use super::bounds::{Bound, NOTHING};
use crate::bound::Scope;

/// The bound that single values given by hand start from: two clients of KIP-848 join, nothing goes wrong.
pub const BASE: Bound = Bound { joins: 2, ..NOTHING };

/// Two clients of the classic protocol.
const CLASSIC: Bound = Bound { consumer: false, ..BASE };

/// The bounds of a scope. Together they witness every `sometimes` and every kind of action.
pub fn bounds(scope: Scope) -> Vec<Bound> {
    let quick = [
        // KIP-848: members come, leave, stop and are taken for dead; answers get lost, requests come late.
        Bound { joins: 3, leaves: 1, crashes: 1, ..BASE },
        Bound { expiries: 1, lost: 1, uncommitted: 2, ..BASE },
        Bound { expiries: 1, late: 1, ..BASE },
        Bound { failovers: 1, expiries: 1, uncommitted: 2, ..BASE },
        // Static members.
        Bound { instances: 2, joins: 3, leaves: 1, expiries: 1, late: 1, ..BASE },
        // Three members, so that one has nothing.
        Bound { members: 3, joins: 3, ..BASE },
        // Records that are processed and then committed, and the other way round.
        Bound { records: 1, expiries: 1, failovers: 1, ..BASE },
        Bound { partitions: 1, records: 1, crashes: 1, late: 1, retention: 1, ..BASE },
        Bound { partitions: 1, records: 2, commit_first: true, crashes: 1, failovers: 1, ..BASE },
        // The classic protocol.
        Bound { expiries: 1, timeouts: 1, lost: 1, ..CLASSIC },
        Bound { joins: 3, leaves: 1, late: 1, ..CLASSIC },
        Bound { expiries: 1, failovers: 1, ..CLASSIC },
        Bound { instances: 2, joins: 3, timeouts: 1, failovers: 1, ..CLASSIC },
        Bound { records: 1, crashes: 1, timeouts: 1, ..CLASSIC },
        Bound { partitions: 1, records: 2, commit_first: true, crashes: 1, expiries: 1, late: 1, ..CLASSIC },
    ];
    let standard = [
        Bound { joins: 3, leaves: 1, expiries: 1, late: 1, lost: 1, ..BASE },
        Bound { joins: 3, leaves: 1, crashes: 1, expiries: 1, failovers: 1, lost: 1, ..BASE },
        Bound { expiries: 2, failovers: 2, uncommitted: 2, ..BASE },
        Bound { expiries: 1, late: 2, ..BASE },
        Bound { members: 3, joins: 3, crashes: 1, failovers: 1, ..BASE },
    ];
    let deep = [
        // KIP-848 with two members and two topics, and everything that can go wrong, once.
        Bound { joins: 3, leaves: 1, crashes: 1, expiries: 1, failovers: 1, lost: 1, late: 1, ..BASE },
    ];
    match scope {
        Scope::Quick => quick.to_vec(),
        Scope::Standard => [&quick[..], &standard].concat(),
        Scope::Deep => [&quick[..], &standard, &deep].concat(),
    }
}
