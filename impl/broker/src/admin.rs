//! What administrators ask of a broker: it passes on what the controller decides.

use std::sync::Arc;

use bellwether_wire::messages::{
    self, AlterConfigsRequest, AlterConfigsResponse, AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse, ElectLeadersRequest, ElectLeadersResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};
use bellwether_wire::{RequestKind, ResponseError, ResponseKind};

use crate::broker::Broker;
use crate::controller::ControllerNode;

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
