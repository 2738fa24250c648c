//! What administrators ask of the controller: elections, reassignments, configurations.

use std::collections::BTreeMap;

use bellwether_core::{ConfigChange, Decision, ElectionType, TopicError};
use bellwether_trace::TopicPartition;
use bellwether_wire::messages::{
    self, AlterConfigsRequest, AlterConfigsResponse, AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse, ElectLeadersRequest, ElectLeadersResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};
use bellwether_wire::{ResponseError, StrBytes};
use messages::{BrokerId, TopicName};

use super::ControllerNode;

/// A Kafka error with its message, for one of the things that were asked for.
pub(crate) type Refused = (ResponseError, Option<String>);

/// `ConfigResource.Type.TOPIC`.
pub(crate) const TOPIC: i8 = 2;
/// `ConfigResource.Type.BROKER`.
pub(crate) const BROKER: i8 = 4;

impl ControllerNode {
    /// ElectLeaders.
    pub(crate) fn elect_leaders(&self, request: &ElectLeadersRequest) -> ElectLeadersResponse {
        use messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
        let mut response = ElectLeadersResponse::default();
        let election = match request.election_type {
            0 => ElectionType::Preferred,
            1 => ElectionType::Unclean,
            _ => {
                response.error_code = ResponseError::InvalidRequest.code();
                return response;
            }
        };
        let all = request.topic_partitions.is_none();
        let asked: Vec<(TopicName, Vec<i32>)> = match &request.topic_partitions {
            Some(topics) => topics.iter().map(|t| (t.topic.clone(), t.partitions.clone())).collect(),
            None => self.look(|image| {
                let partitions = |t: &bellwether_core::Topic| t.partitions.keys().copied().collect();
                let name = |t: &bellwether_core::Topic| TopicName(StrBytes::from(t.name.clone()));
                image.topics_by_name().map(|t| (name(t), partitions(t))).collect()
            }),
        };
        for (name, partitions) in asked {
            let mut topic = ReplicaElectionResult::default();
            for partition in partitions {
                let outcome = self.find(&name, partition).and_then(|tp| {
                    let elected = self.decide(|c, _| c.elect_leader(tp, election)).and_then(|r| r);
                    elected.map_err(|error| (error, election_message(error)))
                });
                // Whoever asks for all is not told of those that are as they should be.
                if all && matches!(outcome, Err((ResponseError::ElectionNotNeeded, _))) {
                    continue;
                }
                let mut result = PartitionResult::default();
                result.partition_id = partition;
                (result.error_code, result.error_message) = told(outcome);
                topic.partition_result.push(result);
            }
            topic.topic = name;
            response.replica_election_results.push(topic);
        }
        response
    }

    /// AlterPartitionReassignments.
    pub(crate) fn alter_partition_reassignments(
        &self,
        request: &AlterPartitionReassignmentsRequest,
    ) -> AlterPartitionReassignmentsResponse {
        use messages::alter_partition_reassignments_response::{
            ReassignablePartitionResponse, ReassignableTopicResponse,
        };
        let mut response = AlterPartitionReassignmentsResponse::default();
        let allow = request.allow_replication_factor_change;
        response.allow_replication_factor_change = allow;
        for asked in &request.topics {
            let mut topic = ReassignableTopicResponse::default();
            topic.name = asked.name.clone();
            for partition in &asked.partitions {
                let wanted = partition.replicas.as_ref().map(|ids| ids.iter().map(|id| id.0).collect());
                let outcome = self
                    .find(&asked.name, partition.partition_index)
                    .map_err(|_| unknown_partition(&asked.name, partition.partition_index))
                    .and_then(|tp| self.refusable(|c| c.reassign(tp, wanted, allow)));
                let mut result = ReassignablePartitionResponse::default();
                result.partition_index = partition.partition_index;
                (result.error_code, result.error_message) = told(outcome);
                topic.partitions.push(result);
            }
            response.responses.push(topic);
        }
        response
    }

    /// ListPartitionReassignments.
    pub(crate) fn list_partition_reassignments(
        &self,
        request: &ListPartitionReassignmentsRequest,
    ) -> ListPartitionReassignmentsResponse {
        use messages::list_partition_reassignments_response::{OngoingPartitionReassignment, OngoingTopicReassignment};
        let ids = |nodes: &[i32]| nodes.iter().copied().map(BrokerId).collect();
        let mut response = ListPartitionReassignmentsResponse::default();
        self.look(|image| {
            for topic in image.topics_by_name() {
                let asked = match &request.topics {
                    None => None,
                    Some(topics) => match topics.iter().find(|t| t.name.0.as_str() == topic.name) {
                        Some(asked) => Some(&asked.partition_indexes),
                        None => continue,
                    },
                };
                let mut ongoing = OngoingTopicReassignment::default();
                for (index, state) in &topic.partitions {
                    let wanted = asked.is_none_or(|indexes| indexes.contains(index));
                    if !wanted || state.adding.is_empty() && state.removing.is_empty() {
                        continue;
                    }
                    let mut partition = OngoingPartitionReassignment::default();
                    partition.partition_index = *index;
                    partition.replicas = ids(&state.replicas);
                    partition.adding_replicas = ids(&state.adding);
                    partition.removing_replicas = ids(&state.removing);
                    ongoing.partitions.push(partition);
                }
                if !ongoing.partitions.is_empty() {
                    ongoing.name = TopicName(StrBytes::from(topic.name.clone()));
                    response.topics.push(ongoing);
                }
            }
        });
        response
    }

    /// IncrementalAlterConfigs.
    pub(crate) fn incremental_alter_configs(
        &self,
        request: &IncrementalAlterConfigsRequest,
    ) -> IncrementalAlterConfigsResponse {
        use messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
        let mut response = IncrementalAlterConfigsResponse::default();
        let all = named(request.resources.iter().map(|r| (r.resource_type, r.resource_name.as_str())));
        for resource in &request.resources {
            let change = |config: &messages::incremental_alter_configs_request::AlterableConfig| {
                let name = config.name.to_string();
                let value = config.value.as_ref().map(ToString::to_string);
                let change = match (config.config_operation, value) {
                    (1, _) => ConfigChange::Delete,
                    (_, None) => return Err((ResponseError::InvalidRequest, Some(null_value(&name)))),
                    (0, Some(value)) => ConfigChange::Set(value),
                    (2, Some(value)) => ConfigChange::Append(value),
                    (3, Some(value)) => ConfigChange::Subtract(value),
                    (other, _) => {
                        let message = format!("Unknown operations type {other}");
                        return Err((ResponseError::InvalidRequest, Some(message)));
                    }
                };
                Ok((name, change))
            };
            let names = || resource.configs.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
            let outcome = check_resource(resource.resource_type, &resource.resource_name, &all, names).and_then(|()| {
                let changes = resource.configs.iter().map(change).collect::<Result<Vec<_>, _>>()?;
                let topic = resource.resource_name.as_str();
                self.configure(|c| c.alter_configs(topic, &changes, request.validate_only))
            });
            let mut result = AlterConfigsResourceResponse::default();
            (result.error_code, result.error_message) = told(outcome);
            (result.resource_type, result.resource_name) = (resource.resource_type, resource.resource_name.clone());
            response.responses.push(result);
        }
        response
    }

    /// AlterConfigs.
    pub(crate) fn alter_configs(&self, request: &AlterConfigsRequest) -> AlterConfigsResponse {
        use messages::alter_configs_response::AlterConfigsResourceResponse;
        let mut response = AlterConfigsResponse::default();
        let all = named(request.resources.iter().map(|r| (r.resource_type, r.resource_name.as_str())));
        for resource in &request.resources {
            let config = |config: &messages::alter_configs_request::AlterableConfig| match &config.value {
                Some(value) => Ok((config.name.to_string(), value.to_string())),
                None => Err((ResponseError::InvalidRequest, Some(null_value(&config.name)))),
            };
            let names = || resource.configs.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
            let outcome = check_resource(resource.resource_type, &resource.resource_name, &all, names).and_then(|()| {
                let configs = resource.configs.iter().map(config).collect::<Result<Vec<_>, _>>()?;
                let topic = resource.resource_name.as_str();
                self.configure(|c| c.replace_configs(topic, &configs, request.validate_only))
            });
            let mut result = AlterConfigsResourceResponse::default();
            (result.error_code, result.error_message) = told(outcome);
            (result.resource_type, result.resource_name) = (resource.resource_type, resource.resource_name.clone());
            response.responses.push(result);
        }
        response
    }

    fn find(&self, topic: &TopicName, partition: i32) -> Result<TopicPartition, Refused> {
        let unknown = |what: String| (ResponseError::UnknownTopicOrPartition, Some(what));
        self.look(|image| {
            let name = topic.0.as_str();
            let found = image.topic_named(name).ok_or_else(|| unknown(format!("No such topic as {name}")))?;
            match found.partitions.contains_key(&partition) {
                true => Ok(TopicPartition { topic: found.id, partition }),
                false => Err(unknown(format!("No such partition as {name}-{partition}"))),
            }
        })
    }

    pub(super) fn refusable(
        &self,
        decide: impl FnOnce(&mut bellwether_core::Controller) -> Decision<Result<(), TopicError>>,
    ) -> Result<(), Refused> {
        match self.decide(|c, _| decide(c)) {
            Ok(outcome) => outcome.map_err(|refused| (refused.error, Some(refused.message))),
            Err(error) => Err((error, None)),
        }
    }

    /// A topic's configuration changes, and then whoever may lead because of it does.
    fn configure(
        &self,
        decide: impl FnOnce(&mut bellwether_core::Controller) -> Decision<Result<(), TopicError>>,
    ) -> Result<(), Refused> {
        self.refusable(decide)?;
        self.carry_out_all(|c| c.elect_orphans());
        Ok(())
    }
}

pub(super) fn told(outcome: Result<(), Refused>) -> (i16, Option<StrBytes>) {
    match outcome {
        Ok(()) => (0, None),
        Err((error, message)) => (error.code(), message.map(StrBytes::from)),
    }
}

/// Kafka's words for these errors (`Errors.java`).
fn election_message(error: ResponseError) -> Option<String> {
    let words = match error {
        ResponseError::ElectionNotNeeded => "Leader election not needed for topic partition.",
        ResponseError::PreferredLeaderNotAvailable => "The preferred leader was not available.",
        ResponseError::EligibleLeadersNotAvailable => "Eligible topic partition leaders are not available.",
        _ => return None,
    };
    Some(words.to_owned())
}

fn unknown_partition(topic: &TopicName, partition: i32) -> Refused {
    let message = format!("Unable to find partition {}:{partition}.", topic.0.as_str());
    (ResponseError::UnknownTopicOrPartition, Some(message))
}

fn null_value(name: &str) -> String {
    format!("Null value not supported for : {name}")
}

/// How often each resource is named in a request.
type Named<'a> = BTreeMap<(i8, &'a str), usize>;

fn named<'a>(resources: impl Iterator<Item = (i8, &'a str)>) -> Named<'a> {
    let mut named = BTreeMap::new();
    resources.for_each(|resource| *named.entry(resource).or_default() += 1);
    named
}

/// What is wrong with a resource as such (`ConfigAdminManager.preprocess`). Only topics can be altered here.
fn check_resource(kind: i8, name: &str, all: &Named<'_>, configs: impl FnOnce() -> String) -> Result<(), Refused> {
    let refuse = |message: String| Err((ResponseError::InvalidRequest, Some(message)));
    if all.get(&(kind, name)).is_some_and(|times| *times > 1) {
        return refuse("Each resource must appear at most once.".to_owned());
    }
    match kind {
        TOPIC => Ok(()),
        BROKER => refuse(format!("Cannot update these configs dynamically: {}", configs())),
        _ => refuse(format!("Unknown resource type {kind}")),
    }
}
