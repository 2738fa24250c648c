//! Subscriptions by pattern, which the broker resolves for members of consumer groups (KIP-848, KAFKA-17593).

use std::collections::BTreeSet;

use bellwether_wire::coordinator::GroupRecord;
use regex::RegexBuilder;

use super::consumer::ConsumerGroup;
use super::messages::Moment;

/// A pattern may take this many bytes once it is compiled.
const MAX_COMPILED: usize = 1 << 20;

/// Brings the topics of the group's patterns up to date, and forgets patterns that nobody uses. The error says what is wrong with a
/// pattern. Kafka takes RE2/J's patterns; this takes the same kind (no look-around, no back references), which match in linear time.
pub(super) fn resolve_patterns(
    at: &Moment<'_>,
    id: &str,
    group: &mut ConsumerGroup,
    records: &mut Vec<GroupRecord>,
) -> Result<(), String> {
    let used: BTreeSet<String> =
        group.members.values().filter_map(|m| m.about.subscribed_topic_regex.clone()).collect();
    let unused: Vec<String> = group.patterns.keys().filter(|regex| !used.contains(*regex)).cloned().collect();
    for regex in unused {
        group.patterns.remove(&regex);
        records.push(GroupRecord::RegularExpression { group: id.to_string(), regex, value: None });
    }
    let now = at.topics.offset();
    for regex in used {
        let known = group.patterns.get(&regex);
        if known.is_some_and(|(_, version, _)| *version >= now) {
            continue;
        }
        // The whole name has to match.
        let whole = RegexBuilder::new(&format!("^(?:{regex})$")).size_limit(MAX_COMPILED).build();
        let whole = whole.map_err(|error| format!("SubscribedTopicRegex '{regex}' is not valid: {error}"))?;
        let topics: BTreeSet<String> = at.topics.names().into_iter().filter(|name| whole.is_match(name)).collect();
        if known.is_none_or(|(before, ..)| *before != topics) {
            let value = (topics, now, at.wall);
            group.patterns.insert(regex.clone(), value.clone());
            records.push(GroupRecord::RegularExpression { group: id.to_string(), regex, value: Some(value) });
        }
    }
    Ok(())
}
