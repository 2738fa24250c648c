//! Subscriptions by pattern, which the broker resolves for members of consumer groups (KIP-848, KAFKA-17593).

use std::collections::BTreeSet;

use bellwether_wire::coordinator::GroupRecord;
use regex::RegexBuilder;

use super::consumer::ConsumerGroup;
use super::messages::Moment;

/// A pattern may take this many bytes once it is compiled.
const MAX_COMPILED: usize = 1 << 20;

/// Brings the topics of the group's patterns up to date, and forgets patterns that nobody uses. Those that were up to date at
/// `checked` are not looked at if nothing has changed since. The error says what is wrong with a pattern. Kafka takes RE2/J's
/// patterns; this takes the same kind (no look-around, no back references), which match in linear time.
pub(super) fn resolve_patterns(
    at: &Moment<'_>,
    id: &str,
    group: &mut ConsumerGroup,
    checked: Option<i64>,
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
    let is_current = |version: i64| version >= now || checked == Some(now);
    let stale = |regex: &String| !group.patterns.get(regex).is_some_and(|(_, version, _)| is_current(*version));
    let stale: Vec<String> = used.into_iter().filter(stale).collect();
    if stale.is_empty() {
        return Ok(());
    }
    let names = at.topics.names();
    for regex in stale {
        let known = group.patterns.get(&regex);
        // The whole name has to match.
        let whole = RegexBuilder::new(&format!("^(?:{regex})$")).size_limit(MAX_COMPILED).build();
        let whole = whole.map_err(|error| format!("SubscribedTopicRegex '{regex}' is not valid: {error}"))?;
        let topics: BTreeSet<String> = names.iter().filter(|name| whole.is_match(name)).cloned().collect();
        if known.is_none_or(|(before, ..)| *before != topics) {
            let value = (topics, now, at.wall);
            group.patterns.insert(regex.clone(), value.clone());
            records.push(GroupRecord::RegularExpression { group: id.to_string(), regex, value: Some(value) });
        }
    }
    Ok(())
}
