//! What may be asked about groups from outside: the coordinator, committed offsets, the protocol.

use std::collections::BTreeMap;

use bellwether_trace::NodeId;
use bellwether_wire::messages::offset_fetch_request::OffsetFetchRequestTopic;
use bellwether_wire::messages::{FindCoordinatorRequest, GroupId, ListGroupsRequest, OffsetFetchRequest};
use bellwether_wire::{ResponseError, ResponseKind, StrBytes};

use super::{Client, ClientError, topic_name};

/// `CoordinatorType.GROUP`.
const GROUP: i8 = 0;

impl Client {
    /// The broker that coordinates a group.
    pub async fn coordinator(&self, group: &str) -> Result<NodeId, ClientError> {
        let tries = self.tries();
        loop {
            let tried = self.find_coordinator(group).await;
            if let Some(outcome) = tries.last(tried).await {
                return outcome.map(|(node, _)| node);
            }
        }
    }

    /// The committed offsets of a group in a topic, where there is one. A group that never was has none.
    pub async fn committed(
        &self,
        group: &str,
        topic: &str,
        partitions: i32,
    ) -> Result<BTreeMap<i32, i64>, ClientError> {
        let tries = self.tries();
        loop {
            let tried = self.committed_once(group, topic, partitions).await;
            if let Some(outcome) = tries.last(tried).await {
                return outcome;
            }
        }
    }

    /// What ListGroups says of a group's protocol (KIP-848): `Classic` or `Consumer`. None: its coordinator has no such group.
    pub async fn group_type(&self, group: &str) -> Result<Option<String>, ClientError> {
        let tries = self.tries();
        loop {
            let tried = self.group_type_once(group).await;
            if let Some(outcome) = tries.last(tried).await {
                return outcome;
            }
        }
    }

    async fn find_coordinator(&self, group: &str) -> Result<(NodeId, String), ClientError> {
        let key = StrBytes::from_string(group.to_owned());
        let request = FindCoordinatorRequest::default().with_key(key).with_key_type(GROUP);
        let ResponseKind::FindCoordinator(answer) = self.ask(request.into()).await? else {
            return Err(ClientError::Incomplete("FindCoordinator".into()));
        };
        match ResponseError::try_from_code(answer.error_code) {
            None => Ok((answer.node_id.0, format!("{}:{}", answer.host.as_str(), answer.port))),
            Some(error) => Err(ClientError::Broker { what: format!("FindCoordinator {group}"), error }),
        }
    }

    async fn committed_once(
        &self,
        group: &str,
        topic: &str,
        partitions: i32,
    ) -> Result<BTreeMap<i32, i64>, ClientError> {
        let what = || format!("OffsetFetch {group}");
        let asked = OffsetFetchRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partition_indexes((0..partitions).collect());
        let request = OffsetFetchRequest::default().with_group_id(group_id(group)).with_topics(Some(vec![asked]));
        let (_, address) = self.find_coordinator(group).await?;
        let ResponseKind::OffsetFetch(answer) = self.call(&address, request.into()).await? else {
            return Err(ClientError::Incomplete(what()));
        };
        let mut found = BTreeMap::new();
        let answers = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let codes = std::iter::once(answer.error_code).chain(answers.clone().map(|answer| answer.error_code));
        if let Some(error) = codes.filter_map(ResponseError::try_from_code).next() {
            return Err(ClientError::Broker { what: what(), error });
        }
        for answer in answers.filter(|answer| answer.committed_offset >= 0) {
            found.insert(answer.partition_index, answer.committed_offset);
        }
        Ok(found)
    }

    async fn group_type_once(&self, group: &str) -> Result<Option<String>, ClientError> {
        let (_, address) = self.find_coordinator(group).await?;
        let ResponseKind::ListGroups(answer) = self.call(&address, ListGroupsRequest::default().into()).await? else {
            return Err(ClientError::Incomplete("ListGroups".into()));
        };
        if let Some(error) = ResponseError::try_from_code(answer.error_code) {
            return Err(ClientError::Broker { what: format!("ListGroups for {group}"), error });
        }
        let found = answer.groups.iter().find(|listed| listed.group_id == group_id(group));
        Ok(found.map(|listed| listed.group_type.as_str().to_owned()))
    }
}

fn group_id(group: &str) -> GroupId {
    GroupId(StrBytes::from_string(group.to_owned()))
}
