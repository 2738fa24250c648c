//! A segment that is being cleaned, read batch by batch, while others may use the log.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use bellwether_wire::batch::{HEADER_LEN, check, parse_header};
use bellwether_wire::{Batch, BatchError};
use bytes::Bytes;

use crate::error::LogError;

/// How much is read at once (`log.cleaner.io.buffer.size`).
const BUFFER: usize = 512 * 1024;

/// Where the batches are.
#[derive(Debug)]
pub(crate) enum Content {
    File(PathBuf),
    /// A batch's stamp, and the rest of it.
    Memory(Vec<[Bytes; 2]>),
}

#[derive(Debug)]
pub(crate) struct Source {
    pub base: i64,
    /// Where the next one begins.
    pub next: i64,
    pub size: u64,
    pub content: Content,
}

/// A batch, and where it is in memory, if it is.
pub(crate) type Found = (Batch, Option<[Bytes; 2]>);

pub(crate) enum Batches<'a> {
    File { path: &'a Path, reader: BufReader<File>, left: u64 },
    Memory(std::slice::Iter<'a, [Bytes; 2]>),
}

impl Source {
    pub fn batches(&self) -> Result<Batches<'_>, LogError> {
        Ok(match &self.content {
            Content::Memory(batches) => Batches::Memory(batches.iter()),
            Content::File(path) => {
                let file = File::open(path).map_err(LogError::io(path))?;
                Batches::File { path, reader: BufReader::with_capacity(BUFFER, file), left: self.size }
            }
        })
    }
}

fn whole(bytes: Bytes, offset: i64) -> Result<Batch, LogError> {
    let header = check(&bytes).map_err(|why| LogError::Corrupt { offset, why })?;
    Ok(Batch { header, bytes })
}

impl Iterator for Batches<'_> {
    type Item = Result<Found, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Batches::Memory(batches) => {
                let pieces = batches.next()?;
                Some(whole(pieces.concat().into(), -1).map(|batch| (batch, Some(pieces.clone()))))
            }
            Batches::File { left: 0, .. } => None,
            Batches::File { path, reader, left } => {
                let read = read(path, reader, *left);
                // After an error there is nothing more.
                *left = read.as_ref().map_or(0, |batch| left.saturating_sub(batch.bytes.len() as u64));
                Some(read.map(|batch| (batch, None)))
            }
        }
    }
}

fn read(path: &Path, reader: &mut BufReader<File>, left: u64) -> Result<Batch, LogError> {
    let corrupt = |offset, why| LogError::Corrupt { offset, why };
    if left < HEADER_LEN as u64 {
        return Err(corrupt(-1, BatchError::Truncated));
    }
    let mut bytes = vec![0; HEADER_LEN];
    reader.read_exact(&mut bytes).map_err(LogError::io(path))?;
    let header = parse_header(&bytes).map_err(|why| corrupt(-1, why))?;
    if header.size() as u64 > left {
        return Err(corrupt(header.base_offset, BatchError::Truncated));
    }
    bytes.resize(header.size(), 0);
    reader.read_exact(bytes.get_mut(HEADER_LEN..).unwrap_or_default()).map_err(LogError::io(path))?;
    whole(bytes.into(), header.base_offset)
}
