//! What an administrator asks for: other replicas, elections, configurations.

use bellwether_trace::NodeId;
use bellwether_wire::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use bellwether_wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use bellwether_wire::messages::elect_leaders_request::TopicPartitions;
use bellwether_wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use bellwether_wire::messages::{
    AlterPartitionReassignmentsRequest, DeleteRecordsRequest, ElectLeadersRequest, IncrementalAlterConfigsRequest,
};
use bellwether_wire::{RequestKind, ResponseError, ResponseKind, StrBytes};

use super::{Client, ClientError, topic_name};

/// `ConfigResource.Type.TOPIC`.
const TOPIC: i8 = 2;

impl Client {
    /// Gives a partition other replicas, the preferred leader first, or takes back the reassignment that is going on. It is
    /// under way when this returns, not complete.
    pub async fn reassign(&self, topic: &str, partition: i32, replicas: Option<&[NodeId]>) -> Result<(), ClientError> {
        let replicas = replicas.map(|ids| ids.iter().map(|id| (*id).into()).collect());
        let wanted = ReassignablePartition::default().with_partition_index(partition).with_replicas(replicas);
        let wanted = ReassignableTopic::default().with_name(topic_name(topic)).with_partitions(vec![wanted]);
        let request = AlterPartitionReassignmentsRequest::default()
            .with_allow_replication_factor_change(true)
            .with_topics(vec![wanted])
            .with_timeout_ms(self.timeout_ms());
        let ResponseKind::AlterPartitionReassignments(response) = self.ask(request.into()).await? else {
            return Err(ClientError::Incomplete("AlterPartitionReassignments".into()));
        };
        let result = response.responses.first().and_then(|t| t.partitions.first());
        let code = if response.error_code == 0 { result.map(|p| p.error_code) } else { Some(response.error_code) };
        outcome("AlterPartitionReassignments", code)
    }

    /// Has the preferred replica of a partition elected; with `unclean`, anybody where nobody leads.
    pub async fn elect_leader(&self, topic: &str, partition: i32, unclean: bool) -> Result<(), ClientError> {
        let wanted = TopicPartitions::default().with_topic(topic_name(topic)).with_partitions(vec![partition]);
        let request = ElectLeadersRequest::default()
            .with_election_type(i8::from(unclean))
            .with_topic_partitions(Some(vec![wanted]))
            .with_timeout_ms(self.timeout_ms());
        let ResponseKind::ElectLeaders(response) = self.ask(request.into()).await? else {
            return Err(ClientError::Incomplete("ElectLeaders".into()));
        };
        let result = response.replica_election_results.first().and_then(|t| t.partition_result.first());
        let code = if response.error_code == 0 { result.map(|p| p.error_code) } else { Some(response.error_code) };
        outcome("ElectLeaders", code)
    }

    /// Deletes a partition's records below an offset, on every replica that is alive; the low watermark after it.
    pub async fn delete_records(&self, topic: &str, partition: i32, offset: i64) -> Result<i64, ClientError> {
        let asked = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset);
        let asked = DeleteRecordsTopic::default().with_name(topic_name(topic)).with_partitions(vec![asked]);
        let request = DeleteRecordsRequest::default().with_topics(vec![asked]).with_timeout_ms(self.timeout_ms());
        let (connection, _) = self.leader(topic, partition).await?;
        let answer = connection.call(request.into(), self.config().request_timeout).await?;
        let ResponseKind::DeleteRecords(response) = answer else {
            return Err(ClientError::Incomplete("DeleteRecords".into()));
        };
        let result = response.topics.first().and_then(|t| t.partitions.first());
        outcome("DeleteRecords", result.map(|p| p.error_code))?;
        Ok(result.map_or(-1, |p| p.low_watermark))
    }

    /// Sets a configuration of a topic, or leaves it to the default again.
    pub async fn alter_config(&self, topic: &str, name: &str, value: Option<&str>) -> Result<(), ClientError> {
        let text = |s: &str| StrBytes::from_string(s.to_owned());
        let config = AlterableConfig::default()
            .with_name(text(name))
            .with_value(value.map(text))
            .with_config_operation(i8::from(value.is_none()));
        let resource = AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(topic))
            .with_configs(vec![config]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let ResponseKind::IncrementalAlterConfigs(response) = self.ask(request.into()).await? else {
            return Err(ClientError::Incomplete("IncrementalAlterConfigs".into()));
        };
        outcome("IncrementalAlterConfigs", response.responses.first().map(|r| r.error_code))
    }

    fn timeout_ms(&self) -> i32 {
        i32::try_from(self.config().request_timeout.as_millis()).unwrap_or(i32::MAX)
    }

    /// Whom any broker can answer, or passes on to the controller (KIP-590): the first that answers.
    pub(super) async fn ask(&self, request: RequestKind) -> Result<ResponseKind, ClientError> {
        let metadata = self.refresh(&[]).await?;
        let mut last = ClientError::Incomplete("Metadata without a broker".into());
        for address in metadata.brokers.values() {
            match self.call(address, request.clone()).await {
                Ok(response) => return Ok(response),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn outcome(what: &str, code: Option<i16>) -> Result<(), ClientError> {
    match code.map(ResponseError::try_from_code) {
        Some(None) => Ok(()),
        Some(Some(error)) => Err(ClientError::Broker { what: what.to_owned(), error }),
        None => Err(ClientError::Incomplete(what.to_owned())),
    }
}
