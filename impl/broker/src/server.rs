//! Connections: one task reads requests, one writes answers, in the order of the requests.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bellwether_sync::{Budget, Charge};
use bellwether_wire::messages::{ApiKey, ApiVersionsResponse};
use bellwether_wire::{Request, WireError, decode_request, encode_response};
use bytes::Bytes;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::frames::{Active, FrameReader, Pace, write_all};
use crate::limits::{Connections, Limits};

/// A response that is not there yet. `None` closes the connection.
pub(crate) type Later = Pin<Box<dyn Future<Output = Option<Vec<Bytes>>> + Send>>;

/// What becomes of a request.
pub(crate) enum Answer {
    /// The frame of the response, in pieces.
    Now(Vec<Bytes>),
    /// The frame when it is ready; it is polled once the answers before it are out. How many bytes it holds until then, if
    /// that is more than its request does.
    Later(Later, usize),
    /// There is none (acks=0).
    Nothing,
    /// The connection is closed, as Kafka does when it cannot say what is wrong.
    Close,
}

impl Answer {
    /// An answer that holds no more than its request while it waits.
    pub(crate) fn later(answer: impl Future<Output = Option<Vec<Bytes>>> + Send + 'static) -> Answer {
        Answer::Later(Box::pin(answer), 0)
    }
}

/// Takes requests. Called in the order of arrival on a connection; the next one is taken in when this returns, whether the answer is there or not.
pub(crate) trait Service: Send + Sync + 'static {
    fn call(self: &Arc<Self>, request: Request, peer: IpAddr) -> impl Future<Output = Answer> + Send;
}

/// Requests of one connection whose answers are not written yet. A client that sends more waits.
const PIPELINE: usize = 256;
/// Answers that are ready are written together up to about this many bytes.
const GATHER: usize = 256 << 10;
/// While a client has not taken so many bytes of its answers, its next request waits.
const UNTAKEN: usize = 1 << 20;
/// A client that has ended its side may take the answers that are still to come for so long. Kafka closes at once.
const LINGER: Duration = Duration::from_secs(1);

/// An answer on its way to the writer, with what its request and itself take of the budgets.
struct Queued {
    answer: Answer,
    held: (Charge, Charge),
}

/// Accepts connections until it is dropped or the task is aborted; the connections end with it.
pub(crate) async fn serve<S: Service>(listener: TcpListener, service: Arc<S>, limits: Limits) {
    let limits = Arc::new(limits);
    let counted = Connections::new();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // As in Kafka: beyond max.connections nobody is let in until somebody goes (SocketServer, ConnectionQuotas).
            accepted = listener.accept(), if connections.len() < limits.max_connections => match accepted {
                Ok((stream, peer)) => match counted.admit(peer.ip(), &limits) {
                    Some(place) => {
                        let (service, limits) = (service.clone(), limits.clone());
                        connections.spawn(async move {
                            let _place = place;
                            connection(stream, peer, service, &limits).await;
                        });
                    }
                    None => tracing::info!(%peer, "too many connections"),
                },
                Err(error) => {
                    // Out of file descriptors, most likely: wait until some connection ends.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            // max.connections is 0.
            else => std::future::pending().await,
        }
    }
}

async fn connection<S: Service>(stream: TcpStream, peer: SocketAddr, service: Arc<S>, limits: &Limits) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "set_nodelay");
    }
    let (read, mut write) = stream.into_split();
    let (answers, mut queue) = mpsc::channel(PIPELINE);
    let active = Arc::new(Active::new());
    let mut writing = std::pin::pin!(write_answers(&mut write, &mut queue, limits, &active));
    let outcome = tokio::select! {
        read = read_requests(read, peer.ip(), &service, answers, limits, &active) => match read {
            // The client has no more requests, but may still wait for answers.
            Ok(()) => tokio::time::timeout(LINGER, writing).await.unwrap_or(Ok(())),
            Err(error) => Err(error),
        },
        written = &mut writing => written,
        () = active.idle(limits.idle) => Err(io::Error::other("idle for too long")),
    };
    if let Err(error) = outcome {
        tracing::debug!(%peer, %error, "connection closed");
    }
}

async fn read_requests<S: Service>(
    read: OwnedReadHalf,
    peer: IpAddr,
    service: &Arc<S>,
    answers: mpsc::Sender<Queued>,
    limits: &Limits,
    active: &Arc<Active>,
) -> io::Result<()> {
    let mut frames = FrameReader::new(read, limits.max_frame).paced(limits.pace, active.clone());
    let untaken = Budget::new(UNTAKEN, false);
    loop {
        let mut request_held = limits.requests.charge();
        let Some(frame) = frames.next_charged(Some(&mut request_held)).await? else { return Ok(()) };
        // The first request of a connection always goes through, so that nobody is shut out by what others hold.
        if answers.capacity() < PIPELINE {
            request_held.room().await;
        }
        let size = frame.len();
        let mut answer_held = untaken.charge();
        let mut taken = size;
        let answer = match decode_request(frame) {
            Ok(request) => {
                taken += request.memory;
                request_held.set(taken);
                answer_held.room().await;
                service.call(request, peer).await
            }
            Err(WireError::UnsupportedVersion { api_key: ApiKey::ApiVersions, correlation_id, .. }) => {
                unsupported_api_versions(correlation_id)
            }
            Err(error) => return Err(io::Error::other(error)),
        };
        match &answer {
            Answer::Close => return Err(io::Error::other("closed on purpose")),
            Answer::Nothing => continue,
            Answer::Now(pieces) => answer_held.set(pieces.iter().map(Bytes::len).sum()),
            Answer::Later(_, held) => request_held.set(taken + held),
        }
        if answers.send(Queued { answer, held: (request_held, answer_held) }).await.is_err() {
            return Ok(());
        }
    }
}

/// A client that is newer than we are gets UNSUPPORTED_VERSION in version 0, with our version of ApiVersions, and asks again (KIP-511).
fn unsupported_api_versions(correlation_id: i32) -> Answer {
    let mut body = ApiVersionsResponse::default();
    body.error_code = 35;
    body.api_keys =
        crate::apis::api_versions().into_iter().filter(|v| v.api_key == ApiKey::ApiVersions as i16).collect();
    match encode_response(ApiKey::ApiVersions, 0, correlation_id, None, &body.into()) {
        Ok(frame) => Answer::Now(vec![frame]),
        Err(_) => Answer::Close,
    }
}

async fn write_answers(
    write: &mut OwnedWriteHalf,
    queue: &mut mpsc::Receiver<Queued>,
    limits: &Limits,
    active: &Active,
) -> io::Result<()> {
    let mut ready = Ready { write, pieces: Vec::new(), held: Vec::new(), size: 0, pace: limits.pace, active };
    while let Some(mut next) = queue.recv().await {
        loop {
            let Queued { answer, held } = next;
            let pieces = match answer {
                Answer::Now(pieces) => Some(pieces),
                Answer::Later(later, _) => {
                    // What is ready must not wait for what is not.
                    ready.write().await?;
                    later.await
                }
                Answer::Nothing => Some(Vec::new()),
                Answer::Close => None,
            };
            let Some(pieces) = pieces else { return Err(io::Error::other("closed on purpose")) };
            ready.push(pieces, held);
            match queue.try_recv() {
                Ok(more) if ready.size < GATHER => next = more,
                Ok(more) => {
                    ready.write().await?;
                    next = more;
                }
                Err(_) => break,
            }
        }
        ready.write().await?;
    }
    Ok(())
}

/// Answers that are written together.
struct Ready<'a> {
    write: &'a mut OwnedWriteHalf,
    pieces: Vec<Bytes>,
    held: Vec<(Charge, Charge)>,
    size: usize,
    pace: Pace,
    active: &'a Active,
}

impl Ready<'_> {
    fn push(&mut self, pieces: Vec<Bytes>, held: (Charge, Charge)) {
        self.size += pieces.iter().map(Bytes::len).sum::<usize>();
        self.pieces.extend(pieces);
        self.held.push(held);
    }

    async fn write(&mut self) -> io::Result<()> {
        if !self.pieces.is_empty() {
            write_all(self.write, &self.pieces, Some((self.pace, self.active))).await?;
        }
        self.pieces.clear();
        self.held.clear();
        self.size = 0;
        Ok(())
    }
}
