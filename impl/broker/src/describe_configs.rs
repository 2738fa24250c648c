//! DescribeConfigs, from what this broker knows (`ConfigHelper.scala`): every configuration that Kafka has, where its value comes from, and what stands behind it.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::{ConfigKind, ConfigType, TOPIC_CONFIGS, TopicConfig, check_topic_name};
use bellwether_wire::messages::describe_configs_request::DescribeConfigsResource;
use bellwether_wire::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use bellwether_wire::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use bellwether_wire::{ResponseError, StrBytes};

use crate::broker::Broker;
use crate::config::{Config, Described};
use crate::controller::admin::{BROKER, TOPIC};

/// `ConfigResource.Type.BROKER_LOGGER`.
const BROKER_LOGGER: i8 = 8;
/// `ConfigResource.Type.CLIENT_METRICS`.
const CLIENT_METRICS: i8 = 16;

/// `ConfigSource`, where a value comes from.
pub(crate) const DYNAMIC_TOPIC_CONFIG: i8 = 1;
const STATIC_BROKER_CONFIG: i8 = 4;
const DEFAULT_CONFIG: i8 = 5;

/// What a subscription to clients' metrics has (`ClientMetricsConfigs`): there are none here, so that these stand for all.
const SUBSCRIPTION: &[(&str, ConfigKind, &str)] = &[
    ("interval.ms", ConfigKind::Int(100, 3_600_000), "300000"),
    ("match", ConfigKind::List, ""),
    ("metrics", ConfigKind::List, ""),
];

/// DescribeConfigs.
pub(crate) fn describe_configs(broker: &Broker, request: &DescribeConfigsRequest) -> DescribeConfigsResponse {
    let mut response = DescribeConfigsResponse::default();
    // A type that Kafka does not know spoils the request.
    let known = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS];
    let strange = request.resources.iter().find(|r| !known.contains(&r.resource_type));
    let mut answered = BTreeSet::new();
    let ours: Vec<Described> = broker.config.described().collect();
    for resource in &request.resources {
        // Each once, however often it is named: an answer is not to be larger than the question by so much.
        let name = resource.resource_name.as_str();
        // A broker has many names: 1, 01, +1.
        let named = match resource.resource_type {
            BROKER | BROKER_LOGGER => name.parse().map_or((Some(name), 0), |id: i32| (None, id)),
            _ => (Some(name), 0),
        };
        if !answered.insert((resource.resource_type, named)) {
            continue;
        }
        let mut result = DescribeConfigsResult::default();
        (result.resource_type, result.resource_name) = (resource.resource_type, resource.resource_name.clone());
        let described = match strange {
            Some(strange) => {
                let (kind, name) = (strange.resource_type, &*strange.resource_name);
                invalid(format!("Unexpected resource type {kind} for resource {name}"))
            }
            None => describe(broker, resource, &ours),
        };
        match described {
            Ok(mut configs) => {
                if let Some(keys) = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty()) {
                    configs.retain(|config| keys.contains(&config.name));
                }
                for config in &mut configs {
                    if !request.include_synonyms {
                        config.synonyms.clear();
                    }
                    if !request.include_documentation {
                        config.documentation = None;
                    }
                }
                result.configs = configs;
            }
            Err((error, message)) => {
                result.error_code = error.code();
                result.error_message = message.map(StrBytes::from);
            }
        }
        response.results.push(result);
    }
    response
}

type Configs = Result<Vec<DescribeConfigsResourceResult>, (ResponseError, Option<String>)>;

fn invalid(message: String) -> Configs {
    Err((ResponseError::InvalidRequest, Some(message)))
}

fn describe(broker: &Broker, resource: &DescribeConfigsResource, described: &[Described]) -> Configs {
    let name = resource.resource_name.as_str();
    let ours = broker.config.node_id;
    match resource.resource_type {
        TOPIC => {
            check_topic_name(name).map_err(|refused| (refused.error, Some(refused.message)))?;
            let own = broker.image.read().topic_named(name).map(|topic| topic.configs.clone());
            Ok(topic_entries(&broker.config, described, &own.ok_or((ResponseError::UnknownTopicOrPartition, None))?))
        }
        // The configurations that all brokers share and that can be changed: there are none.
        BROKER if name.is_empty() => Ok(Vec::new()),
        BROKER_LOGGER if name.is_empty() => invalid("Broker id must not be empty".to_owned()),
        BROKER | BROKER_LOGGER => match name.parse::<i32>() {
            Err(_) => invalid(format!("Broker id must be an integer, but it is: {name}")),
            Ok(id) if id != ours && resource.resource_type == BROKER => {
                invalid(format!("Unexpected broker id, expected {ours} or empty string, but received {name}"))
            }
            Ok(id) if id != ours => invalid(format!("Unexpected broker id, expected {ours} but received {name}")),
            Ok(_) if resource.resource_type == BROKER => {
                Ok(described.iter().map(|config| broker_entry(config, described)).collect())
            }
            // No logger here can be changed by request.
            Ok(_) => Ok(Vec::new()),
        },
        _ if name.is_empty() => invalid("Client metrics subscription name must not be empty".to_owned()),
        _ => {
            let one = |(name, kind, value): &(&str, ConfigKind, &str)| {
                let words = "What clients are asked for, if anybody subscribes to their metrics.";
                entry(name, Some((*value).to_owned()), *kind, Vec::new(), words)
            };
            Ok(SUBSCRIPTION.iter().map(one).collect())
        }
    }
}

/// All configurations of a topic that sets these.
pub(crate) fn topic_entries(
    config: &Config,
    described: &[Described],
    own: &BTreeMap<String, String>,
) -> Vec<DescribeConfigsResourceResult> {
    TOPIC_CONFIGS.iter().map(|topic| topic_entry(config, topic, own, described)).collect()
}

/// A topic's configuration: its own, or else the broker's, or else the default.
fn topic_entry(
    config: &Config,
    topic: &TopicConfig,
    own: &BTreeMap<String, String>,
    broker: &[Described],
) -> DescribeConfigsResourceResult {
    let mut synonyms = Vec::new();
    let value = config.topic_value(own, topic.name);
    if own.contains_key(topic.name) {
        synonyms.push(synonym(topic.name, Some(&value), DYNAMIC_TOPIC_CONFIG));
    }
    let names: Vec<_> = topic.synonyms.iter().map(|(name, _)| *name).collect();
    synonyms.extend(broker_synonyms(&names, names.first().copied().unwrap_or_default(), broker));
    entry(topic.name, Some(value), topic.kind, synonyms, topic.documentation)
}

/// A broker's configuration. It is given at its start, and stays.
fn broker_entry(config: &Described, all: &[Described]) -> DescribeConfigsResourceResult {
    let family = TOPIC_CONFIGS.iter().find(|topic| topic.synonyms.iter().any(|(name, _)| *name == config.name));
    let names: Vec<_> = match family {
        Some(topic) => topic.synonyms.iter().map(|(name, _)| *name).collect(),
        None => vec![config.name],
    };
    let synonyms = broker_synonyms(&names, config.name, all);
    entry(config.name, config.value.clone(), config.kind, synonyms, config.documentation).with_read_only(true)
}

/// What stands behind a configuration that goes by these names, the strongest first: what was given by each, then their
/// defaults; nothing before the first that bears the name in question (`ConfigHelper.configSynonyms`).
fn broker_synonyms(names: &[&str], asked: &str, all: &[Described]) -> Vec<DescribeConfigsSynonym> {
    let described = || names.iter().filter_map(|name| all.iter().find(|d| d.name == *name));
    let shown = |d: &Described, value: &Option<String>, source| {
        let secret = d.kind.config_type() == ConfigType::Password;
        synonym(d.name, value.as_deref().filter(|_| !secret), source)
    };
    let given = described().filter(|d| d.given).map(|d| shown(d, &d.value, STATIC_BROKER_CONFIG));
    let defaults = described().filter(|d| d.default.is_some()).map(|d| shown(d, &d.default, DEFAULT_CONFIG));
    let mut synonyms: Vec<_> = given.chain(defaults).collect();
    let first = synonyms.iter().position(|s| s.name.as_str() == asked).unwrap_or(synonyms.len());
    synonyms.drain(..first);
    synonyms
}

fn synonym(name: &str, value: Option<&str>, source: i8) -> DescribeConfigsSynonym {
    let mut synonym = DescribeConfigsSynonym::default();
    synonym.name = StrBytes::from(name.to_owned());
    synonym.value = value.map(|v| StrBytes::from(v.to_owned()));
    synonym.source = source;
    synonym
}

fn entry(
    name: &str,
    value: Option<String>,
    kind: ConfigKind,
    synonyms: Vec<DescribeConfigsSynonym>,
    documentation: &str,
) -> DescribeConfigsResourceResult {
    let mut entry = DescribeConfigsResourceResult::default();
    entry.name = StrBytes::from(name.to_owned());
    entry.config_source = synonyms.first().map_or(DEFAULT_CONFIG, |first| first.source);
    entry.synonyms = synonyms;
    entry.config_type = kind.config_type().id();
    entry.is_sensitive = kind.config_type() == ConfigType::Password;
    entry.value = value.filter(|_| !entry.is_sensitive).map(StrBytes::from);
    entry.documentation = Some(StrBytes::from(documentation.to_owned()));
    entry
}
