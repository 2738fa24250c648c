//! A node: a listener, and behind it a broker, a controller or both.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bellwether_trace::{Event, NodeId};
use bellwether_wire::messages::{
    AllocateProducerIdsResponse, AlterPartitionResponse, ApiKey, AssignReplicasToDirsResponse, BrokerHeartbeatResponse,
    BrokerRegistrationResponse,
};
use bellwether_wire::{Request, RequestKind, ResponseError, ResponseKind, encode_response};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::apis;
use crate::broker::{Broker, Queues};
use crate::clock::Clock;
use crate::config::{Config, HostPort};
use crate::controller::{ControllerNode, METADATA_TOPIC};
use crate::error::StartError;
use crate::limits::Limits;
use crate::server::{self, Answer, Service};
use crate::sink::TraceSink;
use crate::store::Store;
use crate::{admin, describe_configs, fetch, groups, logs, metadata, produce, topics};

/// How long a broker that stops waits for the controller to let it go.
const SHUTDOWN_PATIENCE: Duration = Duration::from_millis(1500);

/// A running node.
pub struct Node {
    id: NodeId,
    advertised: HostPort,
    service: Arc<NodeService>,
    tasks: Vec<JoinHandle<()>>,
    _store: Arc<Store>,
}

struct NodeService {
    broker: Option<Arc<Broker>>,
    controller: Option<Arc<ControllerNode>>,
    sink: Arc<TraceSink>,
}

impl Node {
    /// Recovers what is on disk, writes the `start` event, and runs. A broker is ready when [`Node::ready`] says so. It needs
    /// Tokio's multi-threaded runtime: where files take time, the others go on.
    pub async fn start(config: Config, sink: Arc<TraceSink>) -> Result<Node, StartError> {
        let listener = bind(&config.listen).await?;
        Node::start_on(listener, config, sink).await
    }

    pub(crate) async fn start_on(
        listener: TcpListener,
        config: Config,
        sink: Arc<TraceSink>,
    ) -> Result<Node, StartError> {
        config.check()?;
        let id = config.node_id;
        let advertised = advertised(&config, &listener)?;
        let clock = Clock::start();
        // First of all the directory, and with it the lock: nobody else reads or writes there from here on.
        let store = Arc::new(Store::open(&config)?);
        let (controller, broker) = prepare(&config, &store, advertised.clone(), sink.clone(), clock)?;
        // Before anything else of this node.
        let logs = broker.as_ref().map_or_else(Vec::new, |(broker, _)| broker.recovered());
        let clean = broker.as_ref().is_some_and(|(broker, _)| broker.previous_epoch >= 0);
        sink.record(id, [Event::Start { logs, clean }]);
        let mut tasks = Vec::new();
        if let Some(controller) = &controller {
            tasks.push(tokio::spawn(controller.clone().tick(config.session_timeout_ms)));
        }
        let broker = broker.map(|(broker, queues)| {
            broker.run(queues);
            broker
        });
        let service = Arc::new(NodeService { broker, controller, sink });
        tasks.push(tokio::spawn(server::serve(listener, service.clone(), Limits::of(&config).await)));
        Ok(Node { id, advertised, service, tasks, _store: store })
    }

    /// The node's id.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Where clients and other nodes reach it.
    pub fn address(&self) -> &HostPort {
        &self.advertised
    }

    /// Waits until the controller counts on this broker, and the broker knows of `brokers` that are unfenced. A controller is
    /// ready at once.
    pub async fn ready(&self, brokers: usize) {
        let Some(broker) = &self.service.broker else { return };
        // The senders live as long as the broker: waiting cannot fail.
        let _ = broker.running.subscribe().wait_for(|running| *running).await;
        let known = |_: &i64| {
            let image = broker.image.read();
            image.unfenced(self.id) && image.brokers().values().filter(|b| !b.fenced).count() >= brokers
        };
        let _ = broker.image_offset.subscribe().wait_for(known).await;
    }

    /// A controlled shutdown: the controller takes the broker's leaderships away, if it answers in time; then nothing is served
    /// any more, and the logs are closed cleanly.
    pub async fn shutdown(self) {
        self.leave().await;
        self.close().await;
    }

    /// Asks the controller for leave to stop.
    pub(crate) async fn leave(&self) {
        if let Some(broker) = &self.service.broker {
            let _ = broker.signals.send(bellwether_core::LifecycleInput::Shutdown);
            let mut stopped: watch::Receiver<bool> = broker.stopped.subscribe();
            let _ = tokio::time::timeout(SHUTDOWN_PATIENCE, stopped.wait_for(|s| *s)).await;
        }
    }

    pub(crate) async fn close(mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
            let _ = task.await;
        }
        if let Some(broker) = &self.service.broker {
            broker.close().await;
        }
        if let Some(controller) = &self.service.controller {
            controller.close();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        if let Some(broker) = &self.service.broker {
            broker.abort();
        }
    }
}

/// Listens on an address.
pub(crate) async fn bind(address: &HostPort) -> Result<TcpListener, StartError> {
    let failed = |e| StartError::Listen(address.clone(), e);
    TcpListener::bind((address.host.as_str(), address.port)).await.map_err(failed)
}

fn advertised(config: &Config, listener: &TcpListener) -> Result<HostPort, StartError> {
    let local: SocketAddr = listener.local_addr().map_err(|e| StartError::Listen(config.listen.clone(), e))?;
    Ok(match &config.advertised {
        Some(advertised) if advertised.port != 0 => advertised.clone(),
        Some(advertised) => HostPort { host: advertised.host.clone(), port: local.port() },
        // Every interface is not an address that anybody can connect to.
        None if local.ip().is_unspecified() => HostPort { host: "localhost".into(), port: local.port() },
        None => HostPort { host: config.listen.host.clone(), port: local.port() },
    })
}

type Prepared = (Option<Arc<ControllerNode>>, Option<(Arc<Broker>, Queues)>);

fn prepare(
    config: &Config,
    store: &Arc<Store>,
    advertised: HostPort,
    sink: Arc<TraceSink>,
    clock: Clock,
) -> Result<Prepared, StartError> {
    let controller_address = match config.voters.first() {
        Some(voter) if !config.controller => voter.address.clone(),
        _ => advertised.clone(),
    };
    let controller = match config.controller {
        true => Some(Arc::new(ControllerNode::open(config, sink.clone(), clock)?)),
        false => None,
    };
    let broker = match config.broker {
        true => {
            let (local, store) = (controller.clone(), store.clone());
            Some(Broker::open(config.clone(), store, advertised, controller_address, local, sink, clock)?)
        }
        false => None,
    };
    Ok((controller, broker))
}

impl Service for NodeService {
    async fn call(self: &Arc<Self>, request: Request, peer: IpAddr) -> Answer {
        let Request { api_key, version, correlation_id, lamport, client_id, body, .. } = request;
        if let Some(lamport) = lamport {
            self.sink.observe(lamport);
        }
        let response = match body {
            RequestKind::ApiVersions(_) => self.api_versions(version),
            RequestKind::Fetch(request)
                if request.topics.first().is_some_and(|t| t.topic_id.as_u128() == METADATA_TOPIC) =>
            {
                return match &self.controller {
                    Some(controller) => controller.fetch(version, correlation_id, lamport, &request),
                    None => Answer::Close,
                };
            }
            RequestKind::BrokerRegistration(_)
            | RequestKind::BrokerHeartbeat(_)
            | RequestKind::AlterPartition(_)
            | RequestKind::AllocateProducerIds(_)
            | RequestKind::AssignReplicasToDirs(_) => self.controller_response(&body),
            body if self.broker.is_none() && admin::for_controller(&body).is_some() => {
                match self.controller.as_ref().and_then(|controller| admin::at_controller(controller, &body)) {
                    Some(response) => response,
                    None => return Answer::Close,
                }
            }
            RequestKind::CreateTopics(request) if self.broker.is_none() => match &self.controller {
                Some(controller) => controller.create_topics(&request).into(),
                None => return Answer::Close,
            },
            RequestKind::DeleteTopics(request) if self.broker.is_none() => match &self.controller {
                Some(controller) => controller.delete_topics(&request).into(),
                None => return Answer::Close,
            },
            RequestKind::CreatePartitions(request) if self.broker.is_none() => match &self.controller {
                Some(controller) => controller.create_partitions(&request).into(),
                None => return Answer::Close,
            },
            body => {
                let client = groups::Client { version, id: client_id.unwrap_or_default(), host: peer };
                return self.broker_answer(correlation_id, lamport, client, body).await;
            }
        };
        self.encode(api_key, version, correlation_id, lamport, &response)
    }
}

impl NodeService {
    fn encode(
        &self,
        api_key: ApiKey,
        version: i16,
        correlation_id: i32,
        lamport: Option<u64>,
        body: &ResponseKind,
    ) -> Answer {
        match encode_response(api_key, version, correlation_id, lamport.map(|_| self.sink.stamp()), body) {
            Ok(frame) => Answer::Now(vec![frame]),
            Err(error) => {
                tracing::error!(%error, "a response cannot be encoded");
                Answer::Close
            }
        }
    }

    fn api_versions(&self, version: i16) -> ResponseKind {
        let image = self.broker.as_ref().map(|broker| broker.image.read());
        let (elr, offset) = image.map_or((false, -1), |image| (image.elr(), image.offset()));
        apis::api_versions_response(version, elr, offset)
    }

    fn controller_response(&self, body: &RequestKind) -> ResponseKind {
        let error = ResponseError::NotController.code();
        match (&self.controller, body) {
            (Some(controller), RequestKind::BrokerRegistration(request)) => controller.register(request).into(),
            (Some(controller), RequestKind::BrokerHeartbeat(request)) => controller.heartbeat(request).into(),
            (Some(controller), RequestKind::AlterPartition(request)) => controller.alter_partition(request).into(),
            (Some(controller), RequestKind::AllocateProducerIds(request)) => {
                controller.allocate_producer_ids(request).into()
            }
            (Some(controller), RequestKind::AssignReplicasToDirs(request)) => {
                controller.assign_replicas_to_dirs(request).into()
            }
            (_, RequestKind::AssignReplicasToDirs(_)) => {
                AssignReplicasToDirsResponse::default().with_error_code(error).into()
            }
            (_, RequestKind::BrokerRegistration(_)) => {
                BrokerRegistrationResponse::default().with_error_code(error).into()
            }
            (_, RequestKind::BrokerHeartbeat(_)) => BrokerHeartbeatResponse::default().with_error_code(error).into(),
            (_, RequestKind::AllocateProducerIds(_)) => {
                AllocateProducerIdsResponse::default().with_error_code(error).into()
            }
            _ => AlterPartitionResponse::default().with_error_code(error).into(),
        }
    }

    async fn broker_answer(
        &self,
        correlation_id: i32,
        lamport: Option<u64>,
        client: groups::Client,
        body: RequestKind,
    ) -> Answer {
        let version = client.version;
        // A node that is a controller only has nothing to say here: Kafka closes the connection too.
        let Some(broker) = &self.broker else { return Answer::Close };
        if !*broker.serving.borrow() {
            // Before the first registration the image is empty, and would tell clients that their topics do not exist.
            let _ = broker.serving.subscribe().wait_for(|serving| *serving).await;
        }
        let api_key = body.api_key();
        match body {
            RequestKind::Produce(request) => produce::produce(broker, version, correlation_id, lamport, request),
            RequestKind::Fetch(request) => fetch::fetch(broker, version, correlation_id, lamport, request),
            RequestKind::ListOffsets(request) => {
                let body = apis::list_offsets(broker, version, &request).into();
                self.encode(api_key, version, correlation_id, lamport, &body)
            }
            RequestKind::OffsetForLeaderEpoch(request) => {
                let body = apis::offset_for_leader_epoch(broker, &request).into();
                self.encode(api_key, version, correlation_id, lamport, &body)
            }
            // These may wait for the controller: what comes after them on the connection does not.
            RequestKind::Metadata(request) => {
                let broker = broker.clone();
                Answer::later(async move {
                    let body = metadata::metadata(&broker, version, &request).await.into();
                    broker.encode(api_key, version, correlation_id, lamport, body)
                })
            }
            RequestKind::FindCoordinator(request) => {
                let broker = broker.clone();
                Answer::later(async move {
                    let body = groups::find_coordinator(&broker, version, &request).await.into();
                    broker.encode(api_key, version, correlation_id, lamport, body)
                })
            }
            RequestKind::CreateTopics(request) => {
                let broker = broker.clone();
                Answer::later(async move {
                    let body = topics::create_topics(&broker, &request).await.into();
                    broker.encode(api_key, version, correlation_id, lamport, body)
                })
            }
            RequestKind::DeleteTopics(request) => {
                let broker = broker.clone();
                Answer::later(async move {
                    let body = topics::delete_topics(&broker, version, request).await.into();
                    broker.encode(api_key, version, correlation_id, lamport, body)
                })
            }
            RequestKind::CreatePartitions(request) => {
                let broker = broker.clone();
                Answer::later(async move {
                    let body = topics::create_partitions(&broker, &request).await.into();
                    broker.encode(api_key, version, correlation_id, lamport, body)
                })
            }
            RequestKind::DescribeCluster(request) => {
                let body = metadata::describe_cluster(broker, &request).into();
                self.encode(api_key, version, correlation_id, lamport, &body)
            }
            RequestKind::DescribeTopicPartitions(request) => {
                let body = metadata::describe_topic_partitions(broker, &request).into();
                self.encode(api_key, version, correlation_id, lamport, &body)
            }
            RequestKind::DeleteRecords(request) => {
                let broker = broker.clone();
                Answer::later(async move {
                    let body = logs::delete_records(&broker, &request).await.into();
                    broker.encode(api_key, version, correlation_id, lamport, body)
                })
            }
            RequestKind::DescribeLogDirs(request) => {
                let body = logs::describe_log_dirs(broker, &request).into();
                self.encode(api_key, version, correlation_id, lamport, &body)
            }
            RequestKind::DescribeProducers(request) => {
                let body = logs::describe_producers(broker, &request).into();
                self.encode(api_key, version, correlation_id, lamport, &body)
            }
            RequestKind::DescribeConfigs(request) => {
                let body = describe_configs::describe_configs(broker, &request).into();
                self.encode(api_key, version, correlation_id, lamport, &body)
            }
            RequestKind::InitProducerId(request) => {
                let broker = broker.clone();
                Answer::later(async move {
                    let body = apis::init_producer_id(&broker, &request).await.into();
                    broker.encode(api_key, version, correlation_id, lamport, body)
                })
            }
            body => match groups::answer(broker, &client, body) {
                Ok(body) => {
                    let broker = broker.clone();
                    Answer::later(async move { broker.encode(api_key, version, correlation_id, lamport, body.await) })
                }
                Err(body) => {
                    let body = *body;
                    let Some(way) = admin::for_controller(&body) else { return Answer::Close };
                    let broker = broker.clone();
                    Answer::later(async move {
                        let body = admin::forward(&broker, way, body).await?;
                        broker.encode(api_key, version, correlation_id, lamport, body)
                    })
                }
            },
        }
    }
}
