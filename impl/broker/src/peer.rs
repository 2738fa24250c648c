//! Connections to other nodes: requests out, responses in, both with the Lamport clock.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bellwether_wire::messages::ApiKey;
use bellwether_wire::{RequestKind, ResponseKind, decode_response, encode_request};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use crate::config::HostPort;
use crate::frames::{FrameReader, write_all};
use crate::sink::TraceSink;

/// Why a request has no response.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It was not sent: the peer cannot be reached.
    #[error("cannot reach {0}: {1}")]
    Unreachable(HostPort, io::Error),
    /// It may have been taken in, but the connection ended before the response.
    #[error("the connection ended before the response")]
    Lost,
    /// It cannot be encoded, or the response is not one to this request.
    #[error("{0}")]
    Malformed(String),
}

struct Pending {
    correlation_id: i32,
    api_key: ApiKey,
    version: i16,
    done: oneshot::Sender<Result<ResponseKind, PeerError>>,
}

/// One connection to a node of the cluster. Several requests may be in flight; responses come in their order. It ends when it is dropped.
pub struct Peer {
    out: mpsc::UnboundedSender<Bytes>,
    shared: Arc<Shared>,
    client_id: String,
    tasks: [AbortHandle; 2],
}

struct Shared {
    pending: Mutex<(i32, VecDeque<Pending>)>,
    broken: AtomicBool,
    clock: Arc<TraceSink>,
}

impl Peer {
    /// Connects.
    pub async fn connect(
        address: &HostPort,
        client_id: &str,
        clock: Arc<TraceSink>,
        max_frame: usize,
    ) -> Result<Peer, PeerError> {
        let failed = |e| PeerError::Unreachable(address.clone(), e);
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let (read, mut write) = stream.into_split();
        let shared =
            Arc::new(Shared { pending: Mutex::new((0, VecDeque::new())), broken: AtomicBool::new(false), clock });
        let (out, mut queue) = mpsc::unbounded_channel::<Bytes>();
        let reader = tokio::spawn(read_responses(FrameReader::new(read, max_frame), shared.clone())).abort_handle();
        let on_error = shared.clone();
        let writer = tokio::spawn(async move {
            while let Some(frame) = queue.recv().await {
                if write_all(&mut write, &[frame], None).await.is_err() {
                    on_error.fail();
                }
            }
        })
        .abort_handle();
        Ok(Peer { out, shared, client_id: client_id.to_string(), tasks: [reader, writer] })
    }

    /// Has the connection ended?
    pub fn is_broken(&self) -> bool {
        self.shared.broken.load(Ordering::Acquire)
    }

    /// Sends a request; the response comes through the receiver. Dropping that gives the response up, not the request.
    pub fn send(
        &self,
        version: i16,
        body: &RequestKind,
    ) -> Result<oneshot::Receiver<Result<ResponseKind, PeerError>>, PeerError> {
        let api_key = body.api_key();
        let (done, response) = oneshot::channel();
        let mut pending = self.shared.pending.lock();
        if self.is_broken() {
            return Err(PeerError::Lost);
        }
        let correlation_id = pending.0;
        let lamport = Some(self.shared.clock.stamp());
        let frame = encode_request(api_key, version, correlation_id, Some(&self.client_id), lamport, body)
            .map_err(|e| PeerError::Malformed(e.to_string()))?;
        pending.0 = correlation_id.wrapping_add(1);
        pending.1.push_back(Pending { correlation_id, api_key, version, done });
        // Under the lock, so that the order on the wire is that of the queue.
        self.out.send(frame).map_err(|_| PeerError::Lost)?;
        Ok(response)
    }

    /// Sends a request and waits for the response.
    pub async fn call(&self, version: i16, body: &RequestKind) -> Result<ResponseKind, PeerError> {
        self.send(version, body)?.await.unwrap_or(Err(PeerError::Lost))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        self.shared.fail();
    }
}

impl Shared {
    fn fail(&self) {
        let mut pending = self.pending.lock();
        self.broken.store(true, Ordering::Release);
        for lost in pending.1.drain(..) {
            let _ = lost.done.send(Err(PeerError::Lost));
        }
    }
}

async fn read_responses(mut frames: FrameReader<OwnedReadHalf>, shared: Arc<Shared>) {
    while let Ok(Some(frame)) = frames.next().await {
        let Some(pending) = shared.pending.lock().1.pop_front() else { break };
        let outcome = match decode_response(pending.api_key, pending.version, frame) {
            Ok((id, lamport, body)) if id == pending.correlation_id => {
                if let Some(lamport) = lamport {
                    shared.clock.observe(lamport);
                }
                Ok(body)
            }
            Ok((id, ..)) => Err(PeerError::Malformed(format!("response {id} to request {}", pending.correlation_id))),
            Err(error) => Err(PeerError::Malformed(error.to_string())),
        };
        let malformed = matches!(outcome, Err(PeerError::Malformed(_)));
        let _ = pending.done.send(outcome);
        if malformed {
            break;
        }
    }
    shared.fail();
}
