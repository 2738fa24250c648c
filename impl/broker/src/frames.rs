//! Frames on a socket: reading them with a limit, writing ropes of them with vectored writes.

use std::io::{self, IoSlice};

use bellwether_wire::frame_len;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How much is read at a time. A frame's claimed length reserves no more than this at once, so a length without its bytes costs nothing.
const CHUNK: usize = 64 << 10;
/// The largest step by which the buffer grows for a frame that is really arriving.
const GROWTH: usize = 4 << 20;
/// How many pieces one vectored write takes: Linux takes up to 1024.
const PIECES: usize = 64;

/// Cuts a byte stream into frames. A frame is a slice of the read buffer, not a copy.
pub(crate) struct FrameReader<R> {
    from: R,
    buffer: BytesMut,
    max: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(from: R, max: usize) -> FrameReader<R> {
        FrameReader { from, buffer: BytesMut::with_capacity(CHUNK), max }
    }

    /// The next frame without its length prefix; none at a clean end of the stream. A length out of range, or an end in the middle
    /// of a frame, is an error: the connection cannot go on.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let length = loop {
            if let Some(prefix) = self.buffer.first_chunk::<4>() {
                break frame_len(*prefix, self.max).map_err(io::Error::other)?;
            }
            if !self.fill(4).await? {
                return if self.buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        };
        while self.buffer.len() < 4 + length {
            if !self.fill(4 + length).await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let mut frame = self.buffer.split_to(4 + length);
        Ok(Some(frame.split_off(4).freeze()))
    }

    /// Reads once, towards a buffer of `wanted` bytes. False at the end of the stream.
    async fn fill(&mut self, wanted: usize) -> io::Result<bool> {
        let missing = wanted.saturating_sub(self.buffer.len());
        if self.buffer.capacity() - self.buffer.len() < missing.min(CHUNK)
            || self.buffer.capacity() == self.buffer.len()
        {
            self.buffer.reserve(missing.clamp(CHUNK, GROWTH.max(self.buffer.len()).min(missing.max(CHUNK))));
        }
        Ok(self.from.read_buf(&mut self.buffer).await? > 0)
    }
}

/// Writes all pieces, in order.
pub(crate) async fn write_all<W: AsyncWrite + Unpin>(to: &mut W, pieces: &[Bytes]) -> io::Result<()> {
    if let [one] = pieces {
        return to.write_all(one).await;
    }
    let mut pieces = pieces.iter().filter(|p| !p.is_empty());
    loop {
        let mut slices = [IoSlice::new(&[]); PIECES];
        let mut count = 0;
        for (slot, piece) in slices.iter_mut().zip(pieces.by_ref()) {
            *slot = IoSlice::new(piece);
            count += 1;
        }
        let mut rest = slices.get_mut(..count).unwrap_or_default();
        if rest.is_empty() {
            return Ok(());
        }
        while !rest.is_empty() {
            match to.write_vectored(rest).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => IoSlice::advance_slices(&mut rest, n),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let sizes = [0usize, 1, 70_000, 3, 200_000, 5];
        let mut stream = Vec::new();
        for size in sizes {
            stream.extend_from_slice(&(size as i32).to_be_bytes());
            stream.extend((0..size).map(|i| i as u8));
        }
        let (mut client, server) = tokio::io::duplex(777);
        let writer = tokio::spawn(async move {
            let pieces: Vec<Bytes> = stream.chunks(1001).map(Bytes::copy_from_slice).collect();
            write_all(&mut client, &pieces).await
        });
        let mut reader = FrameReader::new(server, 200_000);
        for size in sizes {
            let frame = reader.next().await.unwrap().unwrap();
            assert!(frame.len() == size && frame.iter().enumerate().all(|(i, b)| *b == i as u8));
        }
        assert!(reader.next().await.unwrap().is_none());
        writer.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_length_out_of_range_and_a_cut_frame_are_errors() {
        for bad in [&(-1i32).to_be_bytes()[..], &101i32.to_be_bytes()[..], &[0, 0, 0, 5, 1, 2], &[0, 0]] {
            assert!(FrameReader::new(bad, 100).next().await.is_err(), "{bad:?}");
        }
    }
}
