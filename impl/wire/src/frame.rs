//! Frames: the length prefix, request and response headers, and the tagged field that carries the Lamport clock.

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;

use crate::api::{RequestKind, ResponseKind, flexible, served};
use crate::bound::{self, BoundError};
use crate::varint::{put_u32, take_u32};

/// The largest request that a broker takes by default, in bytes (`socket.request.max.bytes`).
pub const MAX_FRAME: usize = 104_857_600;

/// The tag of the Lamport clock in the header of flexible requests and responses between nodes: 8 bytes, big-endian.
/// KIP-482 lets anybody ignore a tag that it does not know.
pub const LAMPORT_TAG: u32 = 0x4c4d;

/// Why a frame is not decoded, or not written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WireError {
    /// The length prefix is negative or above the limit: the connection cannot go on.
    #[error("a frame of {0} bytes is out of range")]
    FrameSize(i64),
    /// The header is cut short or malformed.
    #[error("the header is malformed")]
    Header,
    /// An API that we do not know. Kafka closes the connection.
    #[error("API key {api_key} is not known")]
    UnknownApi {
        /// The key in the request.
        api_key: i16,
        /// To answer with, if at all.
        correlation_id: i32,
    },
    /// A version that is not served. ApiVersions is answered in version 0 with error 35 (KIP-511); for any other API
    /// Kafka closes the connection.
    #[error("{api_key:?} version {version} is not served")]
    UnsupportedVersion {
        /// The API.
        api_key: ApiKey,
        /// The version in the request.
        version: i16,
        /// To answer with.
        correlation_id: i32,
    },
    /// A length in the body does not fit.
    #[error("{api_key:?} version {version}: {why}")]
    Bound {
        /// The API.
        api_key: ApiKey,
        /// Its version.
        version: i16,
        /// What does not fit.
        why: BoundError,
    },
    /// The body is malformed in another way (a null where none may be, text that is not UTF-8).
    #[error("the body of {api_key:?} version {version} is malformed")]
    Body {
        /// The API.
        api_key: ApiKey,
        /// Its version.
        version: i16,
    },
    /// A field is set that the version cannot express, or a string is too long: an error of ours, not of a peer.
    #[error("{api_key:?} version {version} cannot be encoded: {why}")]
    Encode {
        /// The API.
        api_key: ApiKey,
        /// Its version.
        version: i16,
        /// What `kafka-protocol` said.
        why: String,
    },
}

/// A request as it came from a socket.
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    /// The API that it asks.
    pub api_key: ApiKey,
    /// Version of its body, one that [`served`] accepts.
    pub version: i16,
    /// To be repeated in the response.
    pub correlation_id: i32,
    /// `client.id`, if any.
    pub client_id: Option<String>,
    /// The sender's Lamport clock, if it is a node of ours.
    pub lamport: Option<u64>,
    /// About how many bytes of memory it takes besides the frame that it came in.
    pub memory: usize,
    /// What it asks. Records are slices of the frame.
    pub body: RequestKind,
}

/// The number of bytes that follow a length prefix. `max` is [`MAX_FRAME`] or what is configured.
pub fn frame_len(prefix: [u8; 4], max: usize) -> Result<usize, WireError> {
    let len = i32::from_be_bytes(prefix);
    match usize::try_from(len) {
        Ok(n) if n <= max => Ok(n),
        _ => Err(WireError::FrameSize(i64::from(len))),
    }
}

/// Decodes a request: `frame` is what follows the length prefix. Neither panics nor reserves memory out of proportion,
/// whatever the bytes.
pub fn decode_request(frame: Bytes) -> Result<Request, WireError> {
    let mut rest = &frame[..];
    let api_key = i16::from_be_bytes(take(&mut rest)?);
    let version = i16::from_be_bytes(take(&mut rest)?);
    let correlation_id = i32::from_be_bytes(take(&mut rest)?);
    let Ok(api_key) = ApiKey::try_from(api_key) else {
        return Err(WireError::UnknownApi { api_key, correlation_id });
    };
    if !served(api_key, version) {
        return Err(match crate::api::versions(api_key) {
            None => WireError::UnknownApi { api_key: api_key as i16, correlation_id },
            Some(_) => WireError::UnsupportedVersion { api_key, version, correlation_id },
        });
    }
    // The client id keeps its 16-bit length in every version, so that it can be read before versions are agreed on.
    let client_id = match i16::from_be_bytes(take(&mut rest)?) {
        -1 => None,
        size => {
            let size = usize::try_from(size).map_err(|_| WireError::Header)?;
            let text = std::str::from_utf8(slice(&mut rest, size)?).map_err(|_| WireError::Header)?;
            Some(text.to_owned())
        }
    };
    let lamport = if flexible(api_key, version) { header_tags(&mut rest)? } else { None };
    let walk = bound::request_body(api_key, version, rest);
    let memory = walk.map_err(|why| WireError::Bound { api_key, version, why })?.memory;
    let mut body = frame.slice_ref(rest);
    let body = RequestKind::decode(api_key, version, &mut body).ok_or(WireError::Body { api_key, version })?;
    Ok(Request { api_key, version, correlation_id, client_id, lamport, memory, body })
}

/// Encodes a request with its length prefix. The Lamport clock travels in flexible versions only.
pub fn encode_request(
    api_key: ApiKey,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    lamport: Option<u64>,
    body: &RequestKind,
) -> Result<Bytes, WireError> {
    let mut out = vec![0; 4];
    out.extend_from_slice(&(api_key as i16).to_be_bytes());
    out.extend_from_slice(&version.to_be_bytes());
    out.extend_from_slice(&correlation_id.to_be_bytes());
    match client_id {
        None => out.extend_from_slice(&(-1i16).to_be_bytes()),
        Some(id) => {
            let failed = |_| encode_error(api_key, version, "the client id is too long".into());
            out.extend_from_slice(&i16::try_from(id.len()).map_err(failed)?.to_be_bytes());
            out.extend_from_slice(id.as_bytes());
        }
    }
    if flexible(api_key, version) {
        put_header_tags(&mut out, lamport);
    }
    if body.api_key() != api_key {
        return Err(encode_error(api_key, version, format!("the body is of {:?}", body.api_key())));
    }
    body.encode(version, &mut out).map_err(|why| encode_error(api_key, version, why))?;
    finish(api_key, version, out)
}

/// Encodes a response with its length prefix. The header of ApiVersions is v0 in every version (KIP-511), so it never
/// carries a Lamport clock.
pub fn encode_response(
    api_key: ApiKey,
    version: i16,
    correlation_id: i32,
    lamport: Option<u64>,
    body: &ResponseKind,
) -> Result<Bytes, WireError> {
    let mut out = response_header(api_key, version, correlation_id, lamport);
    if body.api_key() != api_key {
        return Err(encode_error(api_key, version, format!("the body is of {:?}", body.api_key())));
    }
    body.encode(version, &mut out).map_err(|why| encode_error(api_key, version, why))?;
    finish(api_key, version, out)
}

/// Decodes the response to a request of this API and version: `frame` is what follows the length prefix. Returns the
/// correlation id, the sender's Lamport clock, and the body.
pub fn decode_response(
    api_key: ApiKey,
    version: i16,
    frame: Bytes,
) -> Result<(i32, Option<u64>, ResponseKind), WireError> {
    let mut rest = &frame[..];
    let correlation_id = i32::from_be_bytes(take(&mut rest)?);
    let lamport = if tagged_response_header(api_key, version) { header_tags(&mut rest)? } else { None };
    bound::response_body(api_key, version, rest).map_err(|why| WireError::Bound { api_key, version, why })?;
    let mut body = frame.slice_ref(rest);
    let body = ResponseKind::decode(api_key, version, &mut body).ok_or(WireError::Body { api_key, version })?;
    Ok((correlation_id, lamport, body))
}

/// Four bytes for the length, and the response header.
pub(crate) fn response_header(api_key: ApiKey, version: i16, correlation_id: i32, lamport: Option<u64>) -> Vec<u8> {
    let mut out = vec![0; 4];
    out.extend_from_slice(&correlation_id.to_be_bytes());
    if tagged_response_header(api_key, version) {
        put_header_tags(&mut out, lamport);
    }
    out
}

pub(crate) fn encode_error(api_key: ApiKey, version: i16, why: String) -> WireError {
    WireError::Encode { api_key, version, why }
}

fn tagged_response_header(api_key: ApiKey, version: i16) -> bool {
    api_key != ApiKey::ApiVersions && flexible(api_key, version)
}

#[allow(clippy::indexing_slicing, reason = "it begins with four bytes for the length")]
fn finish(api_key: ApiKey, version: i16, mut out: Vec<u8>) -> Result<Bytes, WireError> {
    let failed = |_| encode_error(api_key, version, "longer than a frame can be".into());
    let length = i32::try_from(out.len() - 4).map_err(failed)?;
    out[..4].copy_from_slice(&length.to_be_bytes());
    Ok(out.into())
}

fn put_header_tags(out: &mut Vec<u8>, lamport: Option<u64>) {
    match lamport {
        None => out.push(0),
        Some(clock) => {
            out.push(1);
            put_u32(out, LAMPORT_TAG);
            put_u32(out, 8);
            out.extend_from_slice(&clock.to_be_bytes());
        }
    }
}

/// Takes the tagged fields of a header; the Lamport clock if it is among them.
fn header_tags(rest: &mut &[u8]) -> Result<Option<u64>, WireError> {
    let count = take_u32(rest).ok_or(WireError::Header)?;
    let mut lamport = None;
    for _ in 0..count {
        let tag = take_u32(rest).ok_or(WireError::Header)?;
        let size = take_u32(rest).ok_or(WireError::Header)?;
        let value = slice(rest, size as usize)?;
        if tag == LAMPORT_TAG {
            lamport = Some(u64::from_be_bytes(value.try_into().map_err(|_| WireError::Header)?));
        }
    }
    Ok(lamport)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], WireError> {
    let (head, tail) = rest.split_first_chunk().ok_or(WireError::Header)?;
    *rest = tail;
    Ok(*head)
}

fn slice<'a>(rest: &mut &'a [u8], size: usize) -> Result<&'a [u8], WireError> {
    let (head, tail) = rest.split_at_checked(size).ok_or(WireError::Header)?;
    *rest = tail;
    Ok(head)
}
