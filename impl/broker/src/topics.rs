//! Topics that clients make, let grow and delete: the controller decides, and what it decided is known here when the client is told.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bellwether_core::{MetadataImage, check_topic_name};
use bellwether_trace::TopicId;
use bellwether_wire::messages::{
    self, CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, TopicName,
};
use bellwether_wire::{ResponseError, ResponseKind};

use crate::broker::Broker;

/// How long an answer waits for this broker to know what the controller has decided.
const KNOWN_WITHIN: Duration = Duration::from_millis(1000);

/// Waits until the image says so, for a while.
async fn known(broker: &Broker, so: impl Fn(&MetadataImage) -> bool) {
    let mut offset = broker.image_offset.subscribe();
    let known = offset.wait_for(|_| so(&broker.image.read()));
    let _ = tokio::time::timeout(KNOWN_WITHIN, known).await;
}

/// Creates topics because somebody has asked for their metadata.
pub(crate) async fn auto_create(broker: &Arc<Broker>, names: Vec<TopicName>) {
    let topic = |name: TopicName| {
        let mut topic = messages::create_topics_request::CreatableTopic::default();
        topic.name = name;
        (topic.num_partitions, topic.replication_factor) = (-1, -1);
        topic
    };
    let mut request = CreateTopicsRequest::default();
    request.topics = names.into_iter().filter(|n| check_topic_name(n).is_ok()).map(topic).collect();
    request.timeout_ms = KNOWN_WITHIN.as_millis() as i32;
    if !request.topics.is_empty() {
        create_topics(broker, &request).await;
    }
}

/// CreateTopics.
pub(crate) async fn create_topics(broker: &Arc<Broker>, request: &CreateTopicsRequest) -> CreateTopicsResponse {
    let response = match &broker.local_controller {
        Some(controller) => Some(controller.create_topics(request)),
        None => match broker.link.call(7, request.clone()).await {
            Ok(ResponseKind::CreateTopics(response)) => Some(response),
            _ => None,
        },
    };
    let Some(response) = response else {
        let mut response = CreateTopicsResponse::default();
        for topic in &request.topics {
            let mut result = messages::create_topics_response::CreatableTopicResult::default();
            result.name = topic.name.clone();
            result.error_code = ResponseError::NotController.code();
            response.topics.push(result);
        }
        return response;
    };
    let exists = ResponseError::TopicAlreadyExists.code();
    let names: Vec<_> =
        response.topics.iter().filter(|t| [0, exists].contains(&t.error_code)).map(|t| t.name.clone()).collect();
    if !request.validate_only && !names.is_empty() {
        known(broker, |image| names.iter().all(|name| image.topic_named(name).is_some())).await;
    }
    response
}

/// DeleteTopics. Older versions name topics, version 6 names them or says their ids.
pub(crate) async fn delete_topics(
    broker: &Arc<Broker>,
    version: i16,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    // One form on the way to the controller.
    let mut request = request;
    for name in std::mem::take(&mut request.topic_names) {
        let mut topic = messages::delete_topics_request::DeleteTopicState::default();
        topic.name = Some(name);
        request.topics.push(topic);
    }
    let before: Vec<_> = {
        let image = broker.image.read();
        let named = request.topics.iter().filter_map(|t| Some(image.topic_named(t.name.as_ref()?)?.id));
        named.collect()
    };
    let response = match &broker.local_controller {
        Some(controller) => Some(controller.delete_topics(&request)),
        None => match broker.link.call(6, request.clone()).await {
            Ok(ResponseKind::DeleteTopics(response)) => Some(response),
            _ => None,
        },
    };
    let mut response = response.unwrap_or_else(|| {
        let mut response = DeleteTopicsResponse::default();
        for topic in &request.topics {
            let mut result = messages::delete_topics_response::DeletableTopicResult::default();
            (result.name, result.topic_id) = (topic.name.clone(), topic.topic_id);
            result.error_code = ResponseError::NotController.code();
            response.responses.push(result);
        }
        response
    });
    let gone: Vec<_> = response.responses.iter().filter(|r| r.error_code == 0).map(|r| r.topic_id).collect();
    if !gone.is_empty() {
        let gone = || gone.iter().map(|id| TopicId(id.as_u128())).chain(before.iter().copied());
        known(broker, |image| gone().all(|id| image.topic(id).is_none())).await;
    }
    for result in &mut response.responses {
        if version < 3 && result.error_code == ResponseError::TopicDeletionDisabled.code() {
            // Those clients do not know that error.
            result.error_code = ResponseError::InvalidRequest.code();
        }
        if version < 6 {
            result.name.get_or_insert_default();
        }
    }
    response
}

/// CreatePartitions.
pub(crate) async fn create_partitions(
    broker: &Arc<Broker>,
    request: &CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let response = match &broker.local_controller {
        Some(controller) => Some(controller.create_partitions(request)),
        None => match broker.link.call(3, request.clone()).await {
            Ok(ResponseKind::CreatePartitions(response)) => Some(response),
            _ => None,
        },
    };
    let response = response.unwrap_or_else(|| {
        let mut response = CreatePartitionsResponse::default();
        for topic in &request.topics {
            let mut result = messages::create_partitions_response::CreatePartitionsTopicResult::default();
            (result.name, result.error_code) = (topic.name.clone(), ResponseError::NotController.code());
            response.results.push(result);
        }
        response
    });
    let done: BTreeSet<&TopicName> = response.results.iter().filter(|r| r.error_code == 0).map(|r| &r.name).collect();
    let grown: Vec<_> = request.topics.iter().filter(|t| done.contains(&t.name)).collect();
    if !request.validate_only && !grown.is_empty() {
        let has = |image: &MetadataImage, name: &TopicName, count: i32| {
            // Whoever has deleted it meanwhile need not be waited for.
            image.topic_named(name).is_none_or(|topic| topic.partitions.contains_key(&(count - 1)))
        };
        known(broker, |image| grown.iter().all(|t| has(image, &t.name, t.count))).await;
    }
    response
}
