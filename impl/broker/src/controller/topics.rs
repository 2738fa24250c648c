//! What clients ask of the controller about topics as a whole: that they are made, grow, and go.

use std::collections::BTreeMap;

use bellwether_core::CreateTopic;
use bellwether_trace::TopicId;
use bellwether_wire::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use bellwether_wire::messages::delete_topics_request::DeleteTopicState;
use bellwether_wire::messages::delete_topics_response::DeletableTopicResult;
use bellwether_wire::messages::describe_configs_response::DescribeConfigsResourceResult;
use bellwether_wire::messages::{
    self, CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, TopicName,
};
use bellwether_wire::{ResponseError, StrBytes, Uuid};

use super::ControllerNode;
use super::admin::{Refused, told};
use crate::describe_configs::topic_entries;

impl ControllerNode {
    /// CreateTopics.
    pub(crate) fn create_topics(&self, request: &CreateTopicsRequest) -> CreateTopicsResponse {
        let topic = |t: &messages::create_topics_request::CreatableTopic| CreateTopic {
            name: t.name.to_string(),
            id: TopicId(Uuid::new_v4().as_u128()),
            num_partitions: t.num_partitions,
            replication_factor: t.replication_factor,
            assignments: t
                .assignments
                .iter()
                .map(|a| (a.partition_index, a.broker_ids.iter().map(|id| id.0).collect()))
                .collect(),
            configs: t.configs.iter().map(|c| (c.name.to_string(), c.value.as_ref().map(|v| v.to_string()))).collect(),
        };
        let topics = request.topics.iter().map(topic).collect();
        let outcome = self.decide(|c, _| c.create_topics(topics, request.validate_only));
        let mut response = CreateTopicsResponse::default();
        let mut outcomes = outcome.map(Vec::into_iter);
        let described: Vec<_> = self.config.described().collect();
        for topic in &request.topics {
            let mut result = CreatableTopicResult::default();
            result.name = topic.name.clone();
            (result.num_partitions, result.replication_factor) = (-1, -1);
            match &mut outcomes {
                Err(error) => result.error_code = error.code(),
                Ok(outcomes) => match outcomes.next() {
                    Some(Ok(created)) => {
                        if !request.validate_only {
                            result.topic_id = Uuid::from_u128(created.id.0);
                        }
                        result.num_partitions = created.num_partitions;
                        result.replication_factor = created.replication_factor;
                        // All that is in force, as far as this node's own configuration tells (KIP-525).
                        let entries = topic_entries(&self.config, &described, &created.configs).into_iter();
                        let config = |entry: DescribeConfigsResourceResult| {
                            let mut config = CreatableTopicConfigs::default();
                            (config.name, config.value) = (entry.name, entry.value);
                            (config.config_source, config.is_sensitive) = (entry.config_source, entry.is_sensitive);
                            config
                        };
                        result.configs = Some(entries.map(config).collect());
                    }
                    Some(Err(refused)) => {
                        result.error_code = refused.error.code();
                        result.error_message = Some(StrBytes::from(refused.message));
                    }
                    None => result.error_code = ResponseError::UnknownServerError.code(),
                },
            }
            response.topics.push(result);
        }
        response
    }

    /// DeleteTopics (`ControllerApis.deleteTopics`): a topic that is named twice, by name or by id, is refused once.
    pub(crate) fn delete_topics(&self, request: &DeleteTopicsRequest) -> DeleteTopicsResponse {
        let mut response = DeleteTopicsResponse::default();
        // Versions before 6 have names of their own place.
        let older = request.topic_names.iter().map(|name| DeleteTopicState::default().with_name(Some(name.clone())));
        let topics: Vec<DeleteTopicState> = request.topics.iter().cloned().chain(older).collect();
        let mut counts: BTreeMap<(Option<&str>, u128), usize> = BTreeMap::new();
        let key = |t: &DeleteTopicState| (t.name.as_ref().map(|n| n.to_string()), t.topic_id.as_u128());
        for topic in &topics {
            *counts.entry((topic.name.as_deref().map(|n| &**n), topic.topic_id.as_u128())).or_default() += 1;
        }
        let mut answered = std::collections::BTreeSet::new();
        for topic in &topics {
            if !answered.insert(key(topic)) {
                continue;
            }
            let asked = (topic.name.as_deref().map(|n| &**n), topic.topic_id.as_u128());
            let twice = counts.get(&asked).is_some_and(|n| *n > 1);
            let mut result = DeletableTopicResult::default();
            (result.name, result.topic_id) = (topic.name.clone(), topic.topic_id);
            let outcome = self.find_doomed(topic, twice, &counts).and_then(|(id, name)| {
                (result.name, result.topic_id) = (Some(name), Uuid::from_u128(id.0));
                self.decide(|c, _| c.delete_topic(id)).and_then(|r| r).map_err(|error| (error, None))
            });
            (result.error_code, result.error_message) = told(outcome);
            response.responses.push(result);
        }
        response
    }

    /// The topic that is to be deleted, by its name or its id.
    fn find_doomed(
        &self,
        topic: &DeleteTopicState,
        twice: bool,
        counts: &BTreeMap<(Option<&str>, u128), usize>,
    ) -> Result<(TopicId, TopicName), Refused> {
        let invalid = |message: &str| Err((ResponseError::InvalidRequest, Some(message.to_owned())));
        if !self.config.delete_topics {
            return Err((ResponseError::TopicDeletionDisabled, Some("Topic deletion is disabled.".to_owned())));
        }
        let by_id = !topic.topic_id.is_nil();
        match &topic.name {
            None if !by_id => return invalid("Neither topic name nor id were specified."),
            Some(_) if by_id => return invalid("You may not specify both topic name and topic id."),
            Some(_) if twice => return invalid("Duplicate topic name."),
            None if twice => return invalid("Duplicate topic id."),
            _ => {}
        }
        let found = self.look(|image| {
            let topic = match &topic.name {
                Some(name) => image.topic_named(name),
                None => image.topic(TopicId(topic.topic_id.as_u128())),
            };
            topic.map(|t| (t.id, TopicName(StrBytes::from(t.name.clone()))))
        });
        let unknown = if by_id { ResponseError::UnknownTopicId } else { ResponseError::UnknownTopicOrPartition };
        let (id, name) = found.ok_or((unknown, None))?;
        if !by_id && counts.contains_key(&(None, id.0)) {
            return invalid("The provided topic name maps to an ID that was already supplied.");
        }
        Ok((id, name))
    }

    /// CreatePartitions, one topic after another.
    pub(crate) fn create_partitions(&self, request: &CreatePartitionsRequest) -> CreatePartitionsResponse {
        use messages::create_partitions_response::CreatePartitionsTopicResult;
        let mut response = CreatePartitionsResponse::default();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        request.topics.iter().for_each(|topic| *counts.entry(topic.name.as_str()).or_default() += 1);
        for topic in &request.topics {
            // The first of a name answers for all.
            let Some(count) = counts.remove(topic.name.as_str()) else { continue };
            let twice = count > 1;
            let outcome = if twice {
                Err((ResponseError::InvalidRequest, Some("Duplicate topic name.".to_owned())))
            } else {
                let replicas = |a: &messages::create_partitions_request::CreatePartitionsAssignment| {
                    a.broker_ids.iter().map(|id| id.0).collect::<Vec<_>>()
                };
                let rows = topic.assignments.as_ref().map(|rows| rows.iter().map(replicas).collect::<Vec<_>>());
                let (name, count) = (topic.name.as_str(), topic.count);
                self.refusable(|c| c.create_partitions(name, count, rows.as_deref(), request.validate_only))
            };
            let mut result = CreatePartitionsTopicResult::default();
            result.name = topic.name.clone();
            (result.error_code, result.error_message) = told(outcome);
            response.results.push(result);
        }
        response
    }
}
