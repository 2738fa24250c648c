//! Connections: one task reads requests, one writes answers, in the order of the requests.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use bellwether_wire::messages::{ApiKey, ApiVersionsResponse};
use bellwether_wire::{Request, WireError, decode_request, encode_response};
use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::frames::{FrameReader, write_all};

/// A response that is not there yet. `None` closes the connection.
pub(crate) type Later = Pin<Box<dyn Future<Output = Option<Vec<Bytes>>> + Send>>;

/// What becomes of a request.
pub(crate) enum Answer {
    /// The frame of the response, in pieces.
    Now(Vec<Bytes>),
    /// The frame when it is ready; it is polled once the answers before it are out.
    Later(Later),
    /// There is none (acks=0).
    Nothing,
    /// The connection is closed, as Kafka does when it cannot say what is wrong.
    Close,
}

/// Takes requests. Called in the order of arrival on a connection; the next one is taken in when this returns, whether the answer is there or not.
pub(crate) trait Service: Send + Sync + 'static {
    fn call(self: &Arc<Self>, request: Request, peer: IpAddr) -> impl Future<Output = Answer> + Send;
}

/// Requests of one connection whose answers are not written yet. A client that sends more waits.
const PIPELINE: usize = 256;
/// Answers that are ready are written together up to about this many bytes.
const GATHER: usize = 256 << 10;

/// Accepts connections until it is dropped or the task is aborted; the connections end with it.
pub(crate) async fn serve<S: Service>(listener: TcpListener, service: Arc<S>, max_frame: usize) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(connection(stream, peer.ip(), service.clone(), max_frame));
                }
                Err(error) => {
                    // Out of file descriptors, most likely: wait until some connection ends.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection<S: Service>(stream: TcpStream, peer: IpAddr, service: Arc<S>, max_frame: usize) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "set_nodelay");
    }
    let (read, mut write) = stream.into_split();
    let (answers, mut queue) = mpsc::channel(PIPELINE);
    let mut writing = std::pin::pin!(write_answers(&mut write, &mut queue));
    let outcome = tokio::select! {
        read = read_requests(FrameReader::new(read, max_frame), peer, &service, answers) => match read {
            // The client has no more requests, but may still wait for answers.
            Ok(()) => writing.await,
            Err(error) => Err(error),
        },
        written = &mut writing => written,
    };
    if let Err(error) = outcome {
        tracing::debug!(%peer, %error, "connection closed");
    }
}

async fn read_requests<S: Service>(
    mut frames: FrameReader<tokio::net::tcp::OwnedReadHalf>,
    peer: IpAddr,
    service: &Arc<S>,
    answers: mpsc::Sender<Answer>,
) -> io::Result<()> {
    while let Some(frame) = frames.next().await? {
        let answer = match decode_request(frame) {
            Ok(request) => service.call(request, peer).await,
            Err(WireError::UnsupportedVersion { api_key: ApiKey::ApiVersions, correlation_id, .. }) => {
                unsupported_api_versions(correlation_id)
            }
            Err(error) => return Err(io::Error::other(error)),
        };
        match answer {
            Answer::Close => return Err(io::Error::other("closed on purpose")),
            Answer::Nothing => {}
            answer => {
                if answers.send(answer).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
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
    write: &mut tokio::net::tcp::OwnedWriteHalf,
    queue: &mut mpsc::Receiver<Answer>,
) -> io::Result<()> {
    let mut ready: Vec<Bytes> = Vec::new();
    let mut size = 0;
    while let Some(mut answer) = queue.recv().await {
        loop {
            let pieces = match answer {
                Answer::Now(pieces) => Some(pieces),
                Answer::Later(later) => {
                    // What is ready must not wait for what is not.
                    if !ready.is_empty() {
                        write_all(write, &ready).await?;
                        (ready, size) = (Vec::new(), 0);
                    }
                    later.await
                }
                Answer::Nothing => Some(Vec::new()),
                Answer::Close => None,
            };
            let Some(pieces) = pieces else { return Err(io::Error::other("closed on purpose")) };
            size += pieces.iter().map(Bytes::len).sum::<usize>();
            ready.extend(pieces);
            match queue.try_recv() {
                Ok(next) if size < GATHER => answer = next,
                Ok(next) => {
                    write_all(write, &ready).await?;
                    (ready, size) = (Vec::new(), 0);
                    answer = next;
                }
                Err(_) => break,
            }
        }
        if !ready.is_empty() {
            write_all(write, &ready).await?;
            (ready, size) = (Vec::new(), 0);
        }
    }
    Ok(())
}
