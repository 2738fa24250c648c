//! Tests that take the crate as a whole: our tables and encoders against `kafka-protocol`, and bytes from an enemy.

mod fetch;
mod frames;
mod hostile;

use crate::api::{INTERNAL, SUPPORTED};
use crate::messages::ApiKey;

/// Every API and version that is served.
fn served() -> impl Iterator<Item = (ApiKey, i16)> {
    SUPPORTED.iter().chain(INTERNAL).flat_map(|v| (v.served_from..=v.max).map(|version| (v.key, version)))
}
