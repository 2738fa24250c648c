//! Changed configurations of a topic (IncrementalAlterConfigs, AlterConfigs).

use std::collections::{BTreeMap, BTreeSet};

use bellwether_trace::{Event, PartitionState, Rule, TopicPartition};
use bellwether_wire::ResponseError;

use super::change::{Changes, Target, push_state};
use super::configs::{TopicConfig, check_together, check_value};
use super::create::{TopicError, check_name, refuse};
use super::{Controller, Decision};
use crate::{ConfigType, MetadataRecord, Topic};

/// The longest value that a configuration may have.
const MAX_VALUE: usize = i16::MAX as usize;

/// What becomes of one configuration (`AlterConfigOp.OpType`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigChange {
    /// This value.
    Set(String),
    /// The broker's default.
    Delete,
    /// These items more, where it is a list.
    Append(String),
    /// Without these items, where it is a list.
    Subtract(String),
}

impl Controller {
    /// IncrementalAlterConfigs, for one topic: all of the changes or none.
    ///
    /// INVALID_REQUEST for a configuration that is named twice; INVALID_CONFIG; INVALID_TOPIC_EXCEPTION;
    /// UNKNOWN_TOPIC_OR_PARTITION.
    ///
    /// Event `configure` if min.insync.replicas or unclean.leader.election.enable change. A new min.insync.replicas is a new
    /// partition epoch of every partition of the topic: an ISR that a leader has proposed under the old value is refused. The ELR
    /// is what goes with the ISR under the new value; Kafka 4.1 clears all ELRs of the topic
    /// (`ConfigurationControlManager.createClearElrRecordsAsNeeded`). Who had no leader and may have one now gets it from
    /// [`Controller::elect_orphans`].
    pub fn alter_configs(
        &mut self,
        topic: &str,
        changes: &[(String, ConfigChange)],
        validate_only: bool,
    ) -> Decision<Result<(), TopicError>> {
        let names: BTreeSet<_> = changes.iter().map(|(name, _)| name).collect();
        if names.len() != changes.len() {
            return self.reply(refuse(ResponseError::InvalidRequest, "Error due to duplicate config keys"));
        }
        let known = self.image.topic_named(topic);
        let set = known.map(|t| t.configs.clone()).unwrap_or_default();
        let next = match altered(&set, changes) {
            Ok(next) => next,
            Err(message) => return self.reply(refuse(ResponseError::InvalidConfig, message)),
        };
        self.configure(topic, next, validate_only)
    }

    /// AlterConfigs, for one topic: what is not named is not set any more. Otherwise as [`Controller::alter_configs`].
    pub fn replace_configs(
        &mut self,
        topic: &str,
        configs: &[(String, String)],
        validate_only: bool,
    ) -> Decision<Result<(), TopicError>> {
        let named: BTreeSet<_> = configs.iter().map(|(name, _)| name.as_str()).collect();
        let set = self.image.topic_named(topic).map(|t| t.configs.clone()).unwrap_or_default();
        let dropped = set.into_keys().filter(|name| !named.contains(name.as_str()));
        let mut changes: Vec<_> = dropped.map(|name| (name, ConfigChange::Delete)).collect();
        changes.extend(configs.iter().map(|(name, value)| (name.clone(), ConfigChange::Set(value.clone()))));
        self.alter_configs(topic, &changes, validate_only)
    }

    fn configure(
        &mut self,
        topic: &str,
        next: BTreeMap<String, Option<String>>,
        validate_only: bool,
    ) -> Decision<Result<(), TopicError>> {
        if topic.is_empty() {
            return self.reply(refuse(ResponseError::InvalidRequest, "Default topic resources are not allowed."));
        }
        if let Err(refused) = check_name(topic) {
            return self.reply(Err(refused));
        }
        let Some(known) = self.image.topic_named(topic) else {
            let message = format!("The topic '{topic}' does not exist.");
            return self.reply(refuse(ResponseError::UnknownTopicOrPartition, message));
        };
        let mut next = next;
        next.retain(|name, value| known.configs.get(name) != value.as_ref());
        let effective = |t: &Topic| (t.min_isr(self.image.defaults()), t.unclean(self.image.defaults()));
        let mut after = Topic { partitions: BTreeMap::new(), ..known.clone() };
        for (name, value) in &next {
            match value {
                Some(value) => after.configs.insert(name.clone(), value.clone()),
                None => after.configs.remove(name),
            };
        }
        if let Err(message) = check_together(&after.configs) {
            return self.reply(refuse(ResponseError::InvalidConfig, message));
        }
        if validate_only || next.is_empty() {
            return self.reply(Ok(()));
        }
        let (before, (min_isr, unclean)) = (effective(known), effective(&after));
        let id = known.id;
        let (mut records, changes) =
            if before.0 == min_isr { Changes::default() } else { self.under_min_isr(known, min_isr) };
        records.insert(0, MetadataRecord::TopicConfigs { id, configs: next });
        self.commit(records, |metadata_offset| {
            let event = Event::Configure { topic: id, min_isr, unclean, metadata_offset, changes };
            (if before == (min_isr, unclean) { Vec::new() } else { vec![event] }, Ok(()))
        })
    }

    /// A topic's partitions under another min.insync.replicas.
    fn under_min_isr(&self, topic: &Topic, min_isr: i32) -> Changes {
        let mut changes = Changes::default();
        for (partition, state) in &topic.partitions {
            let (elr, last_known_leader) = if self.rules.on(Rule::ConfigKeepsElr) {
                (self.elr_below(state, &Target::of(state), min_isr, None), state.last_known_leader)
            } else {
                (Vec::new(), None)
            };
            let same = elr == state.elr && last_known_leader == state.last_known_leader;
            if !same || self.rules.on(Rule::ConfigNewPartitionEpoch) {
                let partition_epoch = state.partition_epoch.saturating_add(1);
                let tp = TopicPartition { topic: topic.id, partition: *partition };
                let next = PartitionState { elr, last_known_leader, partition_epoch, ..state.clone() };
                push_state(tp, next, &mut changes);
            }
        }
        changes
    }
}

/// What a topic with these configurations sets after the changes, where they change anything; none for what it does not
/// set any more. `Err`: Kafka would not take it.
fn altered(
    set: &BTreeMap<String, String>,
    changes: &[(String, ConfigChange)],
) -> Result<BTreeMap<String, Option<String>>, String> {
    let mut next = BTreeMap::new();
    for (name, change) in changes {
        let items = |kind: &str| -> Result<Vec<String>, String> {
            let config = TopicConfig::named(name).filter(|c| c.kind.config_type() == ConfigType::List);
            let config = config.ok_or_else(|| format!("Can't {kind} to key {name} because its type is not LIST."))?;
            let value = set.get(name).map_or(config.default, String::as_str);
            Ok(value.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect())
        };
        let value = match change {
            ConfigChange::Set(value) => Some(value.clone()),
            ConfigChange::Delete => None,
            ConfigChange::Append(more) => {
                let mut items = items("APPEND")?;
                for item in more.split(',') {
                    if !items.iter().any(|known| known == item) {
                        items.push(item.to_owned());
                    }
                }
                Some(items.join(","))
            }
            ConfigChange::Subtract(less) => {
                let mut items = items("SUBTRACT")?;
                items.retain(|item| !less.split(',').any(|gone| gone == item));
                Some(items.join(","))
            }
        };
        if value.as_ref().is_some_and(|v| v.len() > MAX_VALUE) {
            return Err(format!(
                "The configuration value cannot be added because it exceeds the maximum value size of {MAX_VALUE} bytes."
            ));
        }
        next.insert(name.clone(), value.map(|v| check_value(name, &v)).transpose()?);
    }
    Ok(next)
}
