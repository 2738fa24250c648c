//! Sets of small numbers.

use std::fmt;

/// A set of small numbers: brokers, members, partitions, records. One bit each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Set(pub u8);

impl Set {
    /// 0 to `n` - 1.
    pub fn all(n: usize) -> Self {
        Set(((1u16 << n) - 1) as u8)
    }

    /// Only this one.
    pub fn only(n: u8) -> Self {
        Set(1 << n)
    }

    /// Whether `n` is in it.
    pub fn contains(self, n: u8) -> bool {
        self.0 & (1 << n) != 0
    }

    /// The set with `n`.
    #[must_use]
    pub fn with(self, n: u8) -> Self {
        Set(self.0 | 1 << n)
    }

    /// The set without `n`.
    #[must_use]
    pub fn without(self, n: u8) -> Self {
        Set(self.0 & !(1 << n))
    }

    /// Those of either.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Set(self.0 | other.0)
    }

    /// Those of both.
    #[must_use]
    pub fn both(self, other: Self) -> Self {
        Set(self.0 & other.0)
    }

    /// Those that are not in `other`.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Set(self.0 & !other.0)
    }

    /// How many.
    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Nothing.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` are in it.
    pub fn includes(self, other: Self) -> bool {
        other.minus(self).is_empty()
    }

    /// Its members, ascending.
    pub fn iter(self) -> impl Iterator<Item = u8> + use<> {
        (0..8).filter(move |n| self.contains(*n))
    }
}

impl FromIterator<u8> for Set {
    fn from_iter<I: IntoIterator<Item = u8>>(all: I) -> Self {
        all.into_iter().fold(Set::default(), Set::with)
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members: Vec<String> = self.iter().map(|n| n.to_string()).collect();
        write!(f, "{{{}}}", members.join(", "))
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
