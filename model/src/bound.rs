//! What the bounds of all models have in common: how their values are named, read and written, and which scopes there are.

use std::collections::BTreeMap;

/// A value of a bound, as it is written: a number or a switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(untagged)]
pub enum Value {
    /// How many.
    Count(u32),
    /// Whether.
    Switch(bool),
}

/// A bound on one line. What is off or zero goes without saying.
pub fn line(values: &BTreeMap<&'static str, Value>) -> String {
    let said = values.iter().filter_map(|(key, value)| match value {
        Value::Count(0) | Value::Switch(false) => None,
        Value::Count(1) if ["batch", "producers", "in-flight", "uncommitted"].contains(key) => None,
        Value::Count(n) => Some(format!("{key}={n}")),
        Value::Switch(true) => Some((*key).to_owned()),
    });
    said.collect::<Vec<_>>().join(" ")
}

/// How much to explore.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Over a million states in seconds.
    Quick,
    /// About a minute.
    Standard,
    /// What takes longest: about ten minutes, and some gigabytes.
    Deep,
}

/// The largest count that can be given. No bound that can be explored comes near it, and no sum of a few of them overflows.
pub(crate) const MOST: u32 = 255;

/// What a field of a bound can be.
pub(crate) trait Field: Sized {
    /// Reads it. The message says what is wrong with the text.
    fn read(text: &str) -> Result<Self, String>;
}

impl Field for u32 {
    fn read(text: &str) -> Result<u32, String> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse() {
            Ok(n) if n <= MOST => Ok(n),
            // Too large for a u32 is too large as well.
            _ if digits => Err(format!("'{text}' is too large, at most {MOST}")),
            _ => Err(format!("'{text}' is not a number")),
        }
    }
}

impl Field for bool {
    fn read(text: &str) -> Result<bool, String> {
        text.parse().map_err(|_| format!("'{text}' is neither true nor false"))
    }
}

/// Gives a `Bound` the names of its fields, and what reads and writes them by name.
macro_rules! fields {
    ($($key:literal $field:ident $variant:ident;)*) => {
        impl Bound {
            /// The names under which a bound is given and reported.
            pub const KEYS: &[&str] = &[$($key),*];

            /// The bound as names and values.
            pub fn values(&self) -> std::collections::BTreeMap<&'static str, crate::bound::Value> {
                std::collections::BTreeMap::from([$(($key, crate::bound::Value::$variant(self.$field))),*])
            }

            /// Sets one value. The message says what is wrong with it.
            pub fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
                match key {
                    $($key => {
                        self.$field = crate::bound::Field::read(value).map_err(|wrong| format!("{key}: {wrong}"))?
                    })*
                    _ => return Err(format!("no bound '{key}'; there are {}", Self::KEYS.join(", "))),
                }
                Ok(())
            }
        }
    };
}
pub(crate) use fields;
