//! The values that a configuration may have (`ConfigDef` and its validators), and how DescribeConfigs names their type.

/// The type of a configuration, as DescribeConfigs tells it (KIP-569).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigType {
    /// true or false.
    Boolean,
    /// Text.
    String,
    /// 32 bits.
    Int,
    /// 16 bits.
    Short,
    /// 64 bits.
    Long,
    /// A fraction.
    Double,
    /// Comma-separated.
    List,
    /// The name of a class.
    Class,
    /// What is never told.
    Password,
}

impl ConfigType {
    /// Its number in DescribeConfigsResponse (`DescribeConfigsResponse.ConfigType`).
    pub fn id(self) -> i8 {
        match self {
            ConfigType::Boolean => 1,
            ConfigType::String => 2,
            ConfigType::Int => 3,
            ConfigType::Short => 4,
            ConfigType::Long => 5,
            ConfigType::Double => 6,
            ConfigType::List => 7,
            ConfigType::Class => 8,
            ConfigType::Password => 9,
        }
    }
}

/// What values a configuration has.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum ConfigKind {
    /// true or false.
    Bool,
    /// An integer of 16 bits between these.
    Short(i16, i16),
    /// An integer of 32 bits between these.
    Int(i32, i32),
    /// An integer of 64 bits between these.
    Long(i64, i64),
    /// A number between these.
    Double(f64, f64),
    /// A level of gzip: 1 to 9, or -1.
    GzipLevel,
    /// Anything.
    Text,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// One of these, in capitals or not.
    OneOfAnyCase(&'static [&'static str]),
    /// A comma-separated list.
    List,
    /// A comma-separated list of these.
    ListOf(&'static [&'static str]),
    /// `[partition]:[broker],…`, `*` or nothing (`ThrottledReplicaListValidator`).
    Throttled,
    /// The name of a class.
    Class,
    /// What is never told.
    Password,
}

impl ConfigKind {
    /// Its type.
    pub fn config_type(&self) -> ConfigType {
        match self {
            ConfigKind::Bool => ConfigType::Boolean,
            ConfigKind::Short(..) => ConfigType::Short,
            ConfigKind::Int(..) | ConfigKind::GzipLevel => ConfigType::Int,
            ConfigKind::Long(..) => ConfigType::Long,
            ConfigKind::Double(..) => ConfigType::Double,
            ConfigKind::Text | ConfigKind::OneOf(_) | ConfigKind::OneOfAnyCase(_) => ConfigType::String,
            ConfigKind::List | ConfigKind::ListOf(_) | ConfigKind::Throttled => ConfigType::List,
            ConfigKind::Class => ConfigType::Class,
            ConfigKind::Password => ConfigType::Password,
        }
    }

    /// Would Kafka take this value, without the blanks around it? If not, what it should be.
    pub fn check(&self, value: &str) -> Result<(), String> {
        fn within<T: std::str::FromStr + PartialOrd + std::fmt::Display>(
            v: &str,
            from: T,
            to: T,
        ) -> Result<(), String> {
            match v.parse::<T>() {
                Err(_) => Err("it is not a number of this type".to_owned()),
                Ok(n) if n < from => Err(format!("the value must be at least {from}")),
                Ok(n) if n > to => Err(format!("the value must be no more than {to}")),
                // What cannot be compared is not between them.
                Ok(n) if n >= from => Ok(()),
                Ok(_) => Err("it is not a number".to_owned()),
            }
        }
        let one_of = |found: bool, names: &[&str]| match found {
            true => Ok(()),
            false => Err(format!("it must be one of: {}", names.join(", "))),
        };
        match self {
            ConfigKind::Bool if value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false") => Ok(()),
            ConfigKind::Bool => Err("it must be either true or false".to_owned()),
            ConfigKind::Short(from, to) => within(value, *from, *to),
            ConfigKind::Int(from, to) => within(value, *from, *to),
            ConfigKind::Long(from, to) => within(value, *from, *to),
            ConfigKind::Double(from, to) => within(value, *from, *to),
            ConfigKind::GzipLevel if value == "-1" => Ok(()),
            ConfigKind::GzipLevel => within(value, 1, 9).map_err(|why| format!("{why}, or -1")),
            ConfigKind::OneOf(names) => one_of(names.contains(&value), names),
            ConfigKind::OneOfAnyCase(names) => one_of(names.iter().any(|n| n.eq_ignore_ascii_case(value)), names),
            ConfigKind::ListOf(names) => {
                one_of(!value.is_empty() && value.split(',').all(|item| names.contains(&item.trim())), names)
            }
            ConfigKind::Throttled => {
                let number = |n: &str| n.parse::<i32>().is_ok();
                let pair = |item: &str| item.trim().split_once(':').is_some_and(|(p, b)| number(p) && number(b));
                match value.is_empty() || value == "*" || value.split(',').all(pair) {
                    true => Ok(()),
                    false => Err("it must be *, or a list of [partitionId]:[brokerId]".to_owned()),
                }
            }
            ConfigKind::Text | ConfigKind::List | ConfigKind::Class | ConfigKind::Password => Ok(()),
        }
    }

    /// A value that passed the check as Kafka writes it: without blanks around it, booleans in small letters.
    pub fn normal(&self, value: &str) -> String {
        match self {
            ConfigKind::Bool => value.trim().to_ascii_lowercase(),
            _ => value.trim().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ConfigKind::{self, *};

    #[test]
    fn values_are_taken_and_refused_as_kafka_does() {
        let good: &[(ConfigKind, &[&str])] = &[
            (Bool, &["true", "FALSE"]),
            (Short(1, i16::MAX), &["1", "32767"]),
            (Int(-2, 5), &["-2", "5", "+3"]),
            (Long(0, i64::MAX), &["0", "9223372036854775807"]),
            (Double(0.0, 1.0), &["0", "0.5", "1"]),
            (GzipLevel, &["-1", "1", "9"]),
            (OneOf(&["a", "b"]), &["a"]),
            (OneOfAnyCase(&["A"]), &["a", "A"]),
            (ListOf(&["a", "b"]), &["a", "b, a"]),
            (Throttled, &["", "*", "0:1,1:2"]),
            (Text, &["", "x"]),
        ];
        for (kind, values) in good {
            values.iter().for_each(|v| assert_eq!(kind.check(v), Ok(()), "{kind:?} {v}"));
        }
        let bad: &[(ConfigKind, &[&str])] = &[
            (Bool, &["yes", "", "1"]),
            (Short(1, i16::MAX), &["0", "32768", "x"]),
            (Int(-2, 5), &["-3", "6", "", "1.5", "4294967298"]),
            (Long(0, i64::MAX), &["-1", "9223372036854775808"]),
            (Double(0.0, 1.0), &["-0.1", "1.1", "NaN", "half"]),
            (GzipLevel, &["0", "10", "-2"]),
            (OneOf(&["a", "b"]), &["A", "", "a,b"]),
            (ListOf(&["a", "b"]), &["", "c", "a,c"]),
            (Throttled, &["0", "0:1,", "a:b"]),
        ];
        for (kind, values) in bad {
            values.iter().for_each(|v| assert!(kind.check(v).is_err(), "{kind:?} {v}"));
        }
    }
}
