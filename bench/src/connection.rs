//! A connection that blocks: the load generator has one thread for each, and nothing between it and the socket.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bellwether_wire::{RequestKind, ResponseKind, decode_response, encode_request};
use bytes::Bytes;

/// No answer takes longer than this.
const PATIENCE: Duration = Duration::from_secs(20);
/// What is read from the socket at once.
const CHUNK: usize = 256 << 10;

/// A connection to one broker.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The part of the buffer that is read and not yet taken.
    filled: std::ops::Range<usize>,
    next_id: i32,
}

impl Connection {
    /// Connects.
    pub(crate) fn open(address: &str) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(address).with_context(|| address.to_string())?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Connection { stream, buffer: vec![0; CHUNK], filled: 0..0, next_id: 0 })
    }

    /// Another handle of the same connection, for a thread that only writes.
    pub(crate) fn writer(&self) -> anyhow::Result<TcpStream> {
        Ok(self.stream.try_clone()?)
    }

    /// Writes a whole frame.
    pub(crate) fn send(&mut self, frame: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.write_all(frame)?)
    }

    /// The next frame, without its length.
    pub(crate) fn receive(&mut self) -> anyhow::Result<&[u8]> {
        let length = loop {
            if let Some(prefix) = self.buffer.get(self.filled.clone()).and_then(|b| b.first_chunk::<4>()) {
                break usize::try_from(i32::from_be_bytes(*prefix)).context("a negative frame length")?;
            }
            self.fill(4)?;
        };
        ensure!(length <= 1 << 28, "a frame of {length} bytes");
        while self.filled.len() < 4 + length {
            self.fill(4 + length)?;
        }
        let frame = self.filled.start + 4..self.filled.start + 4 + length;
        self.filled.start = frame.end;
        self.buffer.get(frame).context("a frame outside of the buffer")
    }

    fn fill(&mut self, wanted: usize) -> anyhow::Result<()> {
        if self.filled.is_empty() {
            self.filled = 0..0;
        }
        if self.filled.start + wanted > self.buffer.len() {
            self.buffer.copy_within(self.filled.clone(), 0);
            self.filled = 0..self.filled.len();
        }
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted.next_power_of_two(), 0);
        }
        let free = self.buffer.get_mut(self.filled.end..).unwrap_or_default();
        match self.stream.read(free)? {
            0 => bail!("the connection was closed"),
            n => self.filled.end += n,
        }
        Ok(())
    }

    /// A request in this version, and its answer. Answers that nobody waits for (a produce with acks=0 to the mock) are skipped.
    pub(crate) fn call(&mut self, version: i16, body: impl Into<RequestKind>) -> anyhow::Result<ResponseKind> {
        let body = body.into();
        // Far from the ids that the load bears.
        self.next_id = self.next_id.max(1 << 30) + 1;
        let (api, id) = (body.api_key(), self.next_id);
        let frame = encode_request(api, version, id, Some("bench"), None, &body)?;
        self.send(&frame)?;
        loop {
            let frame = self.receive()?;
            if correlation_id(frame) == Some(id) {
                let (_, _, body) = decode_response(api, version, Bytes::copy_from_slice(frame))?;
                return Ok(body);
            }
        }
    }
}

/// Which request a frame answers.
pub(crate) fn correlation_id(frame: &[u8]) -> Option<i32> {
    frame.first_chunk::<4>().map(|id| i32::from_be_bytes(*id))
}
