//! One connection: requests go out in the order of the calls, answers come back by correlation id.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bellwether_wire::messages::ApiVersionsRequest;
use bellwether_wire::{ApiKey, RequestKind, ResponseError, ResponseKind, decode_response, encode_request, frame_len};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{ClientError, negotiated};

/// The largest response that is read, in bytes. Fetches ask for far less.
const MAX_RESPONSE: usize = 256 << 20;

/// An open connection. Dropping it closes it.
pub(super) struct Connection {
    address: String,
    client_id: String,
    versions: BTreeMap<i16, (i16, i16)>,
    /// The writer takes whole frames, so that a caller that gives up waiting cannot leave half a frame behind.
    frames: mpsc::UnboundedSender<Bytes>,
    waiting: Arc<Mutex<Waiting>>,
    tasks: [JoinHandle<()>; 2],
}

/// An answer that is due.
pub(super) struct Reply {
    sent: Instant,
    receiver: oneshot::Receiver<Result<ResponseKind, ClientError>>,
    api: ApiKey,
    address: String,
    waiting: Arc<Mutex<Waiting>>,
}

/// Where an answer goes.
type Answer = oneshot::Sender<Result<ResponseKind, ClientError>>;

#[derive(Default)]
struct Waiting {
    next: i32,
    closed: Option<String>,
    requests: HashMap<i32, (ApiKey, i16, Answer)>,
}

impl Waiting {
    /// Everybody who waits learns why; nobody waits from now on.
    fn close(&mut self, address: &str, why: &str) {
        if self.closed.is_none() {
            self.closed = Some(why.to_owned());
        }
        for (_, (_, _, sender)) in self.requests.drain() {
            let _ = sender.send(Err(ClientError::Connection { address: address.to_owned(), why: why.to_owned() }));
        }
    }
}

fn lock(waiting: &Mutex<Waiting>) -> std::sync::MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Connection {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        lock(&self.waiting).close(&self.address, "closed by us");
    }
}

impl Connection {
    /// Connects and agrees on versions.
    pub(super) async fn open(address: &str, client_id: &str, timeout: Duration) -> Result<Connection, ClientError> {
        let failed = |e: std::io::Error| ClientError::Connection { address: address.to_owned(), why: e.to_string() };
        let stream = TcpStream::connect(address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let (read, write) = stream.into_split();
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let (frames, queue) = mpsc::unbounded_channel();
        let tasks = [
            tokio::spawn(write_frames(write, queue, waiting.clone(), address.to_owned())),
            tokio::spawn(read_frames(read, waiting.clone(), address.to_owned())),
        ];
        let versions = BTreeMap::from([(ApiKey::ApiVersions as i16, (0, 0))]);
        let client_id = client_id.to_owned();
        let mut connection = Connection { address: address.to_owned(), client_id, versions, frames, waiting, tasks };
        // Version 0 is served by every broker there is, and says all that we want to know.
        let answer = connection.call(ApiVersionsRequest::default().into(), timeout).await?;
        let ResponseKind::ApiVersions(answer) = answer else {
            return Err(ClientError::Incomplete("ApiVersions".into()));
        };
        if let Some(error) = ResponseError::try_from_code(answer.error_code) {
            return Err(ClientError::Broker { what: "ApiVersions".into(), error });
        }
        connection.versions =
            answer.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        Ok(connection)
    }

    /// `host:port` of the other side.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Has it been closed, by the other side or by an error?
    pub(super) fn is_closed(&self) -> bool {
        lock(&self.waiting).closed.is_some()
    }

    /// Puts a request on its way; returns at once. Requests arrive in the order of these calls.
    pub(super) fn send(&self, body: RequestKind) -> Result<Reply, ClientError> {
        let (sender, receiver) = oneshot::channel();
        let api = body.api_key();
        let version = negotiated(api, &self.versions)?;
        // Under the lock, so that the frames are queued in the order of their correlation ids.
        let mut waiting = lock(&self.waiting);
        let frame = self.frame(&mut waiting, version, body)?;
        let id = waiting.next;
        waiting.requests.insert(id, (api, version, sender));
        self.queue(&mut waiting, frame)?;
        Ok(Reply { sent: Instant::now(), receiver, api, address: self.address.clone(), waiting: self.waiting.clone() })
    }

    /// Puts a request on its way that is not answered: a produce with acks=0.
    pub(super) fn send_unanswered(&self, body: RequestKind) -> Result<(), ClientError> {
        let version = negotiated(body.api_key(), &self.versions)?;
        let mut waiting = lock(&self.waiting);
        let frame = self.frame(&mut waiting, version, body)?;
        self.queue(&mut waiting, frame)
    }

    /// A request and its answer.
    pub(super) async fn call(&self, body: RequestKind, timeout: Duration) -> Result<ResponseKind, ClientError> {
        let mut reply = self.send(body)?;
        reply.within(timeout).await
    }

    fn frame(&self, waiting: &mut Waiting, version: i16, body: RequestKind) -> Result<Bytes, ClientError> {
        waiting.next = waiting.next.wrapping_add(1);
        Ok(encode_request(body.api_key(), version, waiting.next, Some(&self.client_id), None, &body)?)
    }

    fn queue(&self, waiting: &mut Waiting, frame: Bytes) -> Result<(), ClientError> {
        let why = match &waiting.closed {
            Some(why) => why.clone(),
            None if self.frames.send(frame).is_ok() => return Ok(()),
            None => "closed".to_owned(),
        };
        waiting.close(&self.address, &why);
        Err(ClientError::Connection { address: self.address.clone(), why })
    }
}

impl Reply {
    /// The answer, once. If there is none this long after the request the connection is closed: what comes later belongs
    /// to nobody. The future may be dropped and asked for again.
    pub(super) async fn within(&mut self, timeout: Duration) -> Result<ResponseKind, ClientError> {
        match tokio::time::timeout_at(self.sent + timeout, &mut self.receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(ClientError::Connection { address: self.address.clone(), why: "closed".into() }),
            Err(_) => {
                lock(&self.waiting).close(&self.address, "an answer did not come in time");
                Err(ClientError::Timeout { what: format!("{:?}", self.api), after: timeout })
            }
        }
    }
}

async fn write_frames(
    mut write: OwnedWriteHalf,
    mut queue: mpsc::UnboundedReceiver<Bytes>,
    waiting: Arc<Mutex<Waiting>>,
    address: String,
) {
    while let Some(frame) = queue.recv().await {
        if let Err(e) = write.write_all(&frame).await {
            lock(&waiting).close(&address, &e.to_string());
            return;
        }
    }
}

async fn read_frames(mut read: OwnedReadHalf, waiting: Arc<Mutex<Waiting>>, address: String) {
    let why = loop {
        match read_frame(&mut read).await {
            Ok(frame) => {
                if let Err(why) = answer(&waiting, frame) {
                    break why;
                }
            }
            Err(why) => break why,
        }
    };
    lock(&waiting).close(&address, &why);
}

async fn read_frame(read: &mut OwnedReadHalf) -> Result<Bytes, String> {
    let mut prefix = [0; 4];
    read.read_exact(&mut prefix).await.map_err(|e| e.to_string())?;
    let size = frame_len(prefix, MAX_RESPONSE).map_err(|e| e.to_string())?;
    // Memory grows with what really comes, not with what the prefix claims.
    let mut frame = Vec::with_capacity(size.min(1 << 20));
    let got = read.take(size as u64).read_to_end(&mut frame).await.map_err(|e| e.to_string())?;
    if got == size { Ok(frame.into()) } else { Err("closed in the middle of an answer".into()) }
}

fn answer(waiting: &Mutex<Waiting>, frame: Bytes) -> Result<(), String> {
    let id = frame.first_chunk::<4>().map(|id| i32::from_be_bytes(*id)).ok_or("an answer without a header")?;
    let Some((api, version, sender)) = lock(waiting).requests.remove(&id) else {
        return Err(format!("an answer with correlation id {id}, which nobody asked"));
    };
    let answer = decode_response(api, version, frame).map(|(_, _, body)| body).map_err(ClientError::from);
    // The caller may have gone away.
    let _ = sender.send(answer);
    Ok(())
}
