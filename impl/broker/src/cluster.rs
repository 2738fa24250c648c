//! Several nodes in one process: node 1 is controller and broker, the others are brokers.

use std::path::PathBuf;
use std::sync::Arc;

use bellwether_trace::NodeId;

use crate::config::{Config, HostPort, Voter};
use crate::error::StartError;
use crate::node::{Node, bind};
use crate::sink::TraceSink;

/// A running cluster.
pub struct Cluster {
    nodes: Vec<Node>,
    sink: Arc<TraceSink>,
}

impl Cluster {
    /// Starts nodes 1 to `nodes`, all with the configuration of `config` apart from ids, roles and addresses. They listen on consecutive
    /// ports from that of `config`, or on free ones if it is 0. With several nodes a data directory has a folder `node-<id>` for each.
    pub async fn start(nodes: usize, config: &Config, sink: Arc<TraceSink>) -> Result<Cluster, StartError> {
        // All listeners first, so that a port that is taken is known before anything runs.
        let mut listeners = Vec::with_capacity(nodes);
        for i in 0..nodes {
            let port = match config.listen.port {
                0 => 0,
                port => port.saturating_add(i as u16),
            };
            listeners.push(bind(&HostPort { host: config.listen.host.clone(), port }).await?);
        }
        let mut cluster = Cluster { nodes: Vec::with_capacity(nodes), sink };
        for (i, listener) in listeners.into_iter().enumerate() {
            let id = i as NodeId + 1;
            let mut node = config.clone();
            node.node_id = id;
            (node.broker, node.controller) = (true, i == 0);
            node.voters = match cluster.nodes.first() {
                None => Vec::new(),
                Some(first) => vec![Voter { id: 1, address: first.address().clone() }],
            };
            node.log_dir = config.log_dir.as_ref().map(|dir| node_dir(dir.clone(), id, nodes));
            node.advertised = config.advertised.as_ref().map(|a| HostPort {
                host: a.host.clone(),
                port: if a.port == 0 { 0 } else { a.port.saturating_add(i as u16) },
            });
            cluster.nodes.push(Node::start_on(listener, node, cluster.sink.clone()).await?);
        }
        Ok(cluster)
    }

    /// Waits until every broker is unfenced and every one knows it.
    pub async fn ready(&self) {
        for node in &self.nodes {
            node.ready(self.nodes.len()).await;
        }
    }

    /// The nodes, by id.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The brokers' addresses, as clients take them: `h:p,h:p`.
    pub fn bootstrap(&self) -> String {
        self.nodes.iter().map(|n| n.address().to_string()).collect::<Vec<_>>().join(",")
    }

    /// A controlled shutdown of all nodes, the controller last, and the end of the trace.
    pub async fn shutdown(self) {
        let mut leaving = tokio::task::JoinSet::new();
        let first = self.nodes.first().map_or(0, Node::id);
        for node in self.nodes.into_iter().rev() {
            leaving.spawn(async move {
                node.leave().await;
                node
            });
        }
        let mut nodes = leaving.join_all().await;
        nodes.sort_by_key(|node| std::cmp::Reverse(node.id()));
        for node in nodes {
            node.close().await;
        }
        self.sink.end(first);
    }
}

fn node_dir(dir: PathBuf, id: NodeId, nodes: usize) -> PathBuf {
    if nodes == 1 { dir } else { dir.join(format!("node-{id}")) }
}
