//! What administrators ask of a broker: it passes on what the controller decides, and describes configurations itself.

use std::sync::Arc;

use bellwether_core::{ConfigType, TOPIC_CONFIGS, TopicConfig};
use bellwether_wire::messages::{
    self, AlterConfigsRequest, AlterConfigsResponse, AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse, DescribeConfigsRequest, DescribeConfigsResponse, ElectLeadersRequest,
    ElectLeadersResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};
use bellwether_wire::{RequestKind, ResponseError, ResponseKind, StrBytes};
use messages::describe_configs_request::DescribeConfigsResource;
use messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};

use crate::broker::Broker;
use crate::config::Described;
use crate::controller::ControllerNode;
use crate::controller::admin::{BROKER, TOPIC};

/// `ConfigSource`, where a value comes from.
const TOPIC_CONFIG: i8 = 1;
const STATIC_BROKER_CONFIG: i8 = 4;
const DEFAULT_CONFIG: i8 = 5;

/// Is this a request that a broker passes on to the controller as it is? The version is the one for the way there.
pub(crate) fn for_controller(body: &RequestKind) -> Option<i16> {
    match body {
        RequestKind::ElectLeaders(_) | RequestKind::AlterConfigs(_) => Some(2),
        RequestKind::AlterPartitionReassignments(_) | RequestKind::IncrementalAlterConfigs(_) => Some(1),
        RequestKind::ListPartitionReassignments(_) => Some(0),
        _ => None,
    }
}

/// The controller's answer to one of them.
pub(crate) fn at_controller(controller: &ControllerNode, body: &RequestKind) -> Option<ResponseKind> {
    Some(match body {
        RequestKind::ElectLeaders(request) => controller.elect_leaders(request).into(),
        RequestKind::AlterConfigs(request) => controller.alter_configs(request).into(),
        RequestKind::AlterPartitionReassignments(request) => controller.alter_partition_reassignments(request).into(),
        RequestKind::IncrementalAlterConfigs(request) => controller.incremental_alter_configs(request).into(),
        RequestKind::ListPartitionReassignments(request) => controller.list_partition_reassignments(request).into(),
        _ => return None,
    })
}

/// Passes a request on to the controller. NOT_CONTROLLER if it cannot be reached: the client asks again.
pub(crate) async fn forward(broker: &Arc<Broker>, version: i16, body: RequestKind) -> Option<ResponseKind> {
    if let Some(controller) = &broker.local_controller {
        return at_controller(controller, &body);
    }
    match broker.link.call(version, body.clone()).await {
        Ok(response) if response.api_key() == body.api_key() => Some(response),
        _ => unreachable_controller(&body),
    }
}

fn unreachable_controller(body: &RequestKind) -> Option<ResponseKind> {
    let error = ResponseError::NotController.code();
    Some(match body {
        RequestKind::ElectLeaders(request) => lost_elections(request, error).into(),
        RequestKind::AlterPartitionReassignments(AlterPartitionReassignmentsRequest { .. }) => {
            AlterPartitionReassignmentsResponse::default().with_error_code(error).into()
        }
        RequestKind::ListPartitionReassignments(ListPartitionReassignmentsRequest { .. }) => {
            ListPartitionReassignmentsResponse::default().with_error_code(error).into()
        }
        RequestKind::AlterConfigs(AlterConfigsRequest { resources, .. }) => {
            let lost = resources.iter().map(|resource| {
                let mut lost = messages::alter_configs_response::AlterConfigsResourceResponse::default();
                (lost.resource_type, lost.resource_name) = (resource.resource_type, resource.resource_name.clone());
                lost.with_error_code(error)
            });
            AlterConfigsResponse::default().with_responses(lost.collect()).into()
        }
        RequestKind::IncrementalAlterConfigs(IncrementalAlterConfigsRequest { resources, .. }) => {
            let lost = resources.iter().map(|resource| {
                let mut lost = messages::incremental_alter_configs_response::AlterConfigsResourceResponse::default();
                (lost.resource_type, lost.resource_name) = (resource.resource_type, resource.resource_name.clone());
                lost.with_error_code(error)
            });
            IncrementalAlterConfigsResponse::default().with_responses(lost.collect()).into()
        }
        _ => return None,
    })
}

/// Version 0 has no error for the whole: each partition gets it as well.
fn lost_elections(request: &ElectLeadersRequest, error: i16) -> ElectLeadersResponse {
    use messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
    let topic = |asked: &messages::elect_leaders_request::TopicPartitions| {
        let partition = |id: &i32| PartitionResult::default().with_partition_id(*id).with_error_code(error);
        let results = asked.partitions.iter().map(partition).collect();
        ReplicaElectionResult::default().with_topic(asked.topic.clone()).with_partition_result(results)
    };
    let results = request.topic_partitions.iter().flatten().map(topic).collect();
    ElectLeadersResponse::default().with_error_code(error).with_replica_election_results(results)
}

/// DescribeConfigs, from what this broker knows (`ConfigHelper`).
pub(crate) fn describe_configs(broker: &Broker, request: &DescribeConfigsRequest) -> DescribeConfigsResponse {
    let mut response = DescribeConfigsResponse::default();
    for resource in &request.resources {
        let mut result = DescribeConfigsResult::default();
        (result.resource_type, result.resource_name) = (resource.resource_type, resource.resource_name.clone());
        match describe(broker, resource) {
            Ok(mut configs) => {
                if let Some(keys) = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty()) {
                    configs.retain(|config| keys.contains(&config.name));
                }
                if !request.include_synonyms {
                    configs.iter_mut().for_each(|config| config.synonyms.clear());
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

fn describe(broker: &Broker, resource: &DescribeConfigsResource) -> Configs {
    let invalid = |message: String| Err((ResponseError::InvalidRequest, Some(message)));
    let name = resource.resource_name.as_str();
    match resource.resource_type {
        TOPIC => {
            let image = broker.image.read();
            let topic = image.topic_named(name).ok_or((ResponseError::UnknownTopicOrPartition, None))?;
            let ours: Vec<Described> = broker.config.described().collect();
            Ok(TOPIC_CONFIGS.iter().map(|config| topic_entry(config, topic.configs.get(config.name), &ours)).collect())
        }
        // The configurations that all brokers share and that can be changed: there are none.
        BROKER if name.is_empty() => Ok(Vec::new()),
        BROKER => match name.parse::<i32>() {
            Err(_) => invalid(format!("Broker id must be an integer, but it is: {name}")),
            Ok(id) if id != broker.config.node_id => invalid(format!(
                "Unexpected broker id, expected {} or empty string, but received {name}",
                broker.config.node_id
            )),
            Ok(_) => Ok(broker.config.described().map(|config| broker_entry(&config)).collect()),
        },
        other => invalid(format!("Unsupported resource type: {other}")),
    }
}

/// A topic's configuration: its own, or else the broker's, or else the default.
fn topic_entry(config: &TopicConfig, own: Option<&String>, broker: &[Described]) -> DescribeConfigsResourceResult {
    let mut synonyms = Vec::new();
    if let Some(value) = own {
        synonyms.push(synonym(config.name, Some(value), TOPIC_CONFIG));
    }
    if let Some(name) = config.synonym {
        match broker.iter().find(|described| described.name == name) {
            Some(described) => synonyms.extend(broker_synonyms(described)),
            None => synonyms.push(synonym(name, Some(config.default), DEFAULT_CONFIG)),
        }
    }
    let value = synonyms.first().and_then(|first| first.value.clone());
    let source = synonyms.first().map_or(DEFAULT_CONFIG, |first| first.source);
    let value = value.or_else(|| Some(StrBytes::from_static_str(config.default)));
    entry(config.name, value, source, config.config_type(), synonyms)
}

/// A broker's configuration. It is given at its start, and stays.
fn broker_entry(config: &Described) -> DescribeConfigsResourceResult {
    let synonyms = broker_synonyms(config);
    let source = synonyms.first().map_or(DEFAULT_CONFIG, |first| first.source);
    let value = config.value.clone().map(StrBytes::from);
    entry(config.name, value, source, config.kind, synonyms).with_read_only(true)
}

fn broker_synonyms(config: &Described) -> Vec<DescribeConfigsSynonym> {
    let Described { name, value, default, .. } = config;
    let set = (value != default).then(|| synonym(name, value.as_deref(), STATIC_BROKER_CONFIG));
    let default = default.as_deref().map(|value| synonym(name, Some(value), DEFAULT_CONFIG));
    set.into_iter().chain(default).collect()
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
    value: Option<StrBytes>,
    source: i8,
    kind: ConfigType,
    synonyms: Vec<DescribeConfigsSynonym>,
) -> DescribeConfigsResourceResult {
    let mut entry = DescribeConfigsResourceResult::default();
    entry.name = StrBytes::from(name.to_owned());
    (entry.value, entry.config_source, entry.synonyms) = (value, source, synonyms);
    // DescribeConfigsResponse.ConfigType.
    entry.config_type = match kind {
        ConfigType::Boolean => 1,
        ConfigType::String => 2,
        ConfigType::Int => 3,
        ConfigType::Long => 5,
        ConfigType::Double => 6,
        ConfigType::List => 7,
    };
    entry
}
