//! Frames on a socket: reading them with a limit, writing ropes of them with vectored writes, neither for longer than allowed.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bellwether_sync::Charge;
use bellwether_wire::frame_len;
use bytes::{Bytes, BytesMut};
use memmap2::MmapMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

/// How much is read at a time, and what a frame may take without asking the node's budget.
const CHUNK: usize = 64 << 10;
/// A frame above this gets a mapping of its own, once [`CHUNK`] of it has arrived: the system gives it memory page by page as the bytes
/// come, and has it back at once when the frame is done with. An allocator keeps such pieces for a while.
const LARGE: usize = 2 << 20;
/// How many pieces one vectored write takes: Linux takes up to 1024.
const PIECES: usize = 64;
/// How much of a frame or an answer must pass in a second, once the patience of [`Pace`] is over.
const BYTES_PER_SECOND: usize = 1 << 20;

/// How long a peer may take for a frame that it has begun, and for an answer that it is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace(pub(crate) Duration);

impl Pace {
    fn within(self, bytes: usize) -> Duration {
        self.0.saturating_add(Duration::from_secs((bytes / BYTES_PER_SECOND) as u64))
    }
}

/// When bytes last went over a connection, either way.
pub(crate) struct Active {
    began: Instant,
    /// In ms after that.
    last: AtomicU64,
}

impl Active {
    pub(crate) fn new() -> Active {
        Active { began: Instant::now(), last: AtomicU64::new(0) }
    }

    fn now(&self) {
        self.last.store(self.began.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Ends when nothing has happened for so long.
    pub(crate) async fn idle(&self, limit: Option<Duration>) {
        let Some(limit) = limit else { return std::future::pending().await };
        loop {
            let last = self.began + Duration::from_millis(self.last.load(Ordering::Relaxed));
            if last.elapsed() >= limit {
                return;
            }
            tokio::time::sleep_until(last + limit).await;
        }
    }
}

/// Cuts a byte stream into frames. A frame is a slice of the read buffer, not a copy.
pub(crate) struct FrameReader<R> {
    from: R,
    buffer: BytesMut,
    large: Option<Large>,
    max: usize,
    pace: Option<(Pace, Arc<Active>)>,
}

/// A large frame on its way, without its length prefix, and how much of it is there.
struct Large {
    frame: MmapMut,
    filled: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(from: R, max: usize) -> FrameReader<R> {
        FrameReader { from, buffer: BytesMut::new(), large: None, max, pace: None }
    }

    /// A frame that has begun must end in time.
    pub(crate) fn paced(mut self, pace: Pace, active: Arc<Active>) -> FrameReader<R> {
        self.pace = Some((pace, active));
        self
    }

    /// The next frame without its length prefix; none at a clean end of the stream. A length out of range, or an end in the middle
    /// of a frame, is an error: the connection cannot go on.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        self.next_charged(None).await
    }

    /// The same. A large frame takes what has arrived of it out of a budget, and is not read on while nothing is left there.
    pub(crate) async fn next_charged(&mut self, mut charge: Option<&mut Charge>) -> io::Result<Option<Bytes>> {
        let mut began = None;
        loop {
            let (wanted, arrived) = match (&self.large, self.buffer.first_chunk::<4>()) {
                (Some(large), _) => (4 + large.frame.len(), 4 + large.filled),
                (None, Some(prefix)) => {
                    (4 + frame_len(*prefix, self.max).map_err(io::Error::other)?, self.buffer.len())
                }
                // Not even the length is there, whatever it is.
                (None, None) => (4, self.buffer.len()),
            };
            if let Some(charge) = charge.as_deref_mut()
                && wanted > CHUNK
            {
                charge.set(arrived.min(wanted));
            }
            if arrived >= wanted {
                return Ok(Some(self.take(wanted)));
            }
            if arrived == 0 {
                if !self.fill(wanted).await? {
                    return Ok(None);
                }
                continue;
            }
            let mut began_at = *began.get_or_insert_with(Instant::now);
            if let Some(charge) = charge.as_deref_mut()
                && arrived > CHUNK
            {
                // The time that a peer waits for others is not its own.
                let before = Instant::now();
                charge.room().await;
                began_at += before.elapsed();
                began = Some(began_at);
            }
            let more = match self.pace.as_ref().map(|(pace, _)| *pace) {
                None => self.fill(wanted).await?,
                Some(pace) => match tokio::time::timeout_at(began_at + pace.within(wanted), self.fill(wanted)).await {
                    Ok(more) => more?,
                    Err(_) => return Err(late("a frame was begun and not finished in time")),
                },
            };
            if !more {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn take(&mut self, size: usize) -> Bytes {
        match self.large.take() {
            Some(large) => Bytes::from_owner(large.frame),
            None => self.buffer.split_to(size).split_off(4).freeze(),
        }
    }

    /// Reads once, towards a frame of `wanted` bytes with its prefix. False at the end of the stream.
    async fn fill(&mut self, wanted: usize) -> io::Result<bool> {
        if self.large.is_none() && wanted > LARGE && self.buffer.len() >= CHUNK {
            let mut frame = MmapMut::map_anon(wanted - 4)?;
            let begun = self.buffer.split().split_off(4);
            if let Some(place) = frame.get_mut(..begun.len()) {
                place.copy_from_slice(&begun);
            }
            self.large = Some(Large { frame, filled: begun.len() });
        }
        let read = match &mut self.large {
            Some(Large { frame, filled }) => {
                let read = self.from.read(frame.get_mut(*filled..).unwrap_or_default()).await?;
                *filled += read;
                read
            }
            None => {
                let (length, spare) = (self.buffer.len(), self.buffer.capacity() - self.buffer.len());
                // A length without its bytes costs nothing: no more than this before some of a large frame has arrived.
                let missing = if wanted > LARGE { CHUNK } else { wanted.saturating_sub(length) };
                if spare < missing.min(CHUNK) || spare == 0 {
                    self.buffer.reserve(missing.max(CHUNK));
                }
                self.from.read_buf(&mut self.buffer).await?
            }
        };
        if let Some((_, active)) = &self.pace {
            active.now();
        }
        Ok(read > 0)
    }
}

fn late(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, why)
}

/// Writes all pieces, in order. With a pace the peer must take them in time.
pub(crate) async fn write_all<W: AsyncWrite + Unpin>(
    to: &mut W,
    pieces: &[Bytes],
    pace: Option<(Pace, &Active)>,
) -> io::Result<()> {
    let Some((pace, active)) = pace else { return write_pieces(to, pieces, None).await };
    let within = pace.within(pieces.iter().map(Bytes::len).sum());
    let written = tokio::time::timeout(within, write_pieces(to, pieces, Some(active))).await;
    written.unwrap_or_else(|_| Err(late("an answer was not taken in time")))
}

async fn write_pieces<W: AsyncWrite + Unpin>(to: &mut W, pieces: &[Bytes], active: Option<&Active>) -> io::Result<()> {
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
            if let Some(active) = active {
                active.now();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bellwether_sync::Budget;

    #[tokio::test]
    async fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let sizes = [0usize, 1, 70_000, 3, 3_000_000, 5, 2_500_000, 200_000];
        let mut stream = Vec::new();
        for size in sizes {
            stream.extend_from_slice(&(size as i32).to_be_bytes());
            stream.extend((0..size).map(|i| i as u8));
        }
        let (mut client, server) = tokio::io::duplex(777);
        let writer = tokio::spawn(async move {
            let pieces: Vec<Bytes> = stream.chunks(1001).map(Bytes::copy_from_slice).collect();
            write_all(&mut client, &pieces, None).await
        });
        let mut reader = FrameReader::new(server, 3_000_000);
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

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_is_begun_must_be_finished_in_time_and_one_that_is_not_may_wait() {
        let pace = Pace(Duration::from_secs(60));
        let (mut client, server) = tokio::io::duplex(1000);
        let mut reader = FrameReader::new(server, 1000).paced(pace, Arc::new(Active::new()));
        let idle = tokio::time::timeout(Duration::from_secs(3600), reader.next()).await;
        assert!(idle.is_err(), "nothing has begun");
        client.write_all(&[0, 0]).await.unwrap();
        let error = reader.next().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_must_be_taken_in_time() {
        let (mut server, _client) = tokio::io::duplex(100);
        let pieces = [Bytes::from(vec![0; 60]), Bytes::from(vec![0; 60])];
        let written = write_all(&mut server, &pieces, Some((Pace(Duration::from_secs(60)), &Active::new()))).await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn when_nothing_is_left_one_large_frame_after_the_other_goes_on() {
        let budget = Budget::new(100_000, true);
        let pace = Pace(Duration::from_secs(60));
        let mut readers = Vec::new();
        for _ in 0..2 {
            let (mut client, server) = tokio::io::duplex(1 << 20);
            client.write_all(&300_000i32.to_be_bytes()).await.unwrap();
            client.write_all(&[7; 200_000]).await.unwrap();
            readers.push((
                client,
                FrameReader::new(server, 1 << 20).paced(pace, Arc::new(Active::new())),
                budget.charge(),
            ));
        }
        for (_, reader, charge) in &mut readers {
            let wait = tokio::time::timeout(Duration::from_secs(30), reader.next_charged(Some(charge))).await;
            assert!(wait.is_err(), "it is not finished");
        }
        assert!((100_000..400_010).contains(&budget.used()), "{}", budget.used());
        for (client, ..) in &mut readers {
            client.write_all(&[7; 100_000]).await.unwrap();
        }
        let (_client, mut second, mut held) = readers.pop().unwrap();
        let (_other, mut first, mut overdrawn) = readers.pop().unwrap();
        let waits = tokio::time::timeout(Duration::from_secs(300), second.next_charged(Some(&mut held))).await;
        assert!(waits.is_err(), "it waits for the first, which is not its fault");
        let frame = first.next_charged(Some(&mut overdrawn)).await.unwrap().unwrap();
        assert_eq!((frame.len(), overdrawn.bytes()), (300_000, 300_004));
        drop(overdrawn);
        assert_eq!(second.next_charged(Some(&mut held)).await.unwrap().unwrap().len(), 300_000);
        drop(held);
        assert_eq!(budget.used(), 0);
    }
}
