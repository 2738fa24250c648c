//! The bound on untrusted bodies: a walk over the bytes that believes no length before it has seen the bytes for it.
//!
//! `kafka-protocol` reserves memory for as many elements as a count says, so five bytes can ask it for hundreds of GB.
//! A body that this walk accepts holds every element that it announces, and takes no more memory once it is decoded than
//! a small multiple of its size: an element can be one byte on the wire (an empty string) and hundreds in memory.

use kafka_protocol::messages::ApiKey;

use crate::schema::{self, Field, Kind, Message, Schema};
use crate::varint::take_u32;

/// What the elements of any body may take in memory, in bytes: enough for some thousand elements without a name.
pub const FREE_MEMORY: usize = 256 << 10;
/// How many bytes in memory each byte of the body pays for, above [`FREE_MEMORY`]. What clients really send, names of
/// eight characters and partitions, needs 4 to 10.
pub const MEMORY_PER_BYTE: usize = 16;
/// What the elements of a request may take in memory in all, however large it is: more than 200,000 topics or partitions.
pub const MAX_REQUEST_MEMORY: usize = 32 << 20;
/// The same for a response, which comes from a node of ours.
pub const MAX_RESPONSE_MEMORY: usize = 1 << 30;

/// How many bytes a string may have, in every version: a compact one could say more, and Kafka refuses it too.
pub const LONGEST_STRING: usize = i16::MAX as usize;

/// What a string or bytes take in memory, besides the frame that they are a slice of.
const HANDLE: usize = 32;
/// What a tagged field takes that is not known: an entry of a map. The first one of a struct also takes the node of that map.
const UNKNOWN_TAG: usize = 96;
const TAG_NODE: usize = 416;

/// What the walk found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Walk {
    /// How many bytes the body takes. More may follow: Kafka ignores them.
    pub bytes: usize,
    /// About how much memory its elements take once it is decoded, in bytes; strings and records are slices of the frame.
    pub memory: usize,
}

/// Why a body is not decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BoundError {
    /// A length or count asks for more bytes than there are or may be, or is negative without being null.
    #[error("field {0} does not fit into the body")]
    Length(&'static str),
    /// So many small elements that they would take far more memory than the body has bytes.
    #[error("field {0} takes the body past the memory that its size pays for")]
    Memory(&'static str),
    /// A tagged field whose content ends before or after its size says.
    #[error("tagged field {0} is not as long as it says")]
    Tagged(&'static str),
    /// An API without a table.
    #[error("API key {0} is not known")]
    Api(i16),
}

/// Walks a request body.
pub fn request_body(key: ApiKey, version: i16, body: &[u8]) -> Result<Walk, BoundError> {
    walk(schema::of_request(key).ok_or(BoundError::Api(key as i16))?, version, body, MAX_REQUEST_MEMORY)
}

/// Walks a response body.
pub fn response_body(key: ApiKey, version: i16, body: &[u8]) -> Result<Walk, BoundError> {
    walk(schema::of_response(key).ok_or(BoundError::Api(key as i16))?, version, body, MAX_RESPONSE_MEMORY)
}

fn walk(message: &Message, version: i16, body: &[u8], most: usize) -> Result<Walk, BoundError> {
    let allowed = body.len().saturating_mul(MEMORY_PER_BYTE).saturating_add(FREE_MEMORY).min(most);
    let mut walker = Walker { rest: body, version, flexible: version >= message.flexible, memory: 0, allowed };
    walker.structure(message.body)?;
    Ok(Walk { bytes: body.len() - walker.rest.len(), memory: walker.memory })
}

struct Walker<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    memory: usize,
    allowed: usize,
}

/// What a value takes in memory, without the elements of the arrays in it: at least what it does in `kafka-protocol`.
fn size_of(kind: &Kind) -> usize {
    match kind {
        Kind::Fixed(size) => size.next_multiple_of(8),
        Kind::Str | Kind::Bytes | Kind::Array(_) => HANDLE,
        // Every struct has a map of the tagged fields that it does not know.
        Kind::Struct(schema) | Kind::NullableStruct(schema) => {
            let fields = schema.fields.iter().chain(schema.tagged.iter().map(|(_, field)| field));
            fields.map(|field| size_of(&field.kind)).sum::<usize>() + HANDLE
        }
    }
}

impl Walker<'_> {
    fn structure(&mut self, schema: &Schema) -> Result<(), BoundError> {
        for field in schema.fields {
            if self.has(field) {
                self.value(field.name, &field.kind)?;
            }
        }
        if self.flexible { self.tagged(schema) } else { Ok(()) }
    }

    fn has(&self, field: &Field) -> bool {
        (field.first..=field.last).contains(&self.version)
    }

    fn value(&mut self, name: &'static str, kind: &Kind) -> Result<(), BoundError> {
        match kind {
            Kind::Fixed(size) => self.skip(name, *size),
            Kind::Str if !self.flexible => match i16::from_be_bytes(self.take(name)?) {
                -1 => Ok(()),
                size => self.skip(name, usize::try_from(size).map_err(|_| BoundError::Length(name))?),
            },
            Kind::Str | Kind::Bytes => match self.length(name)? {
                None => Ok(()),
                Some(size) if matches!(kind, Kind::Str) && size > LONGEST_STRING => Err(BoundError::Length(name)),
                Some(size) => self.skip(name, size),
            },
            Kind::Array(element) => {
                let Some(count) = self.length(name)? else { return Ok(()) };
                let each = if let Kind::Fixed(size) = element { *size } else { size_of(element) };
                self.count(name, count, each)?;
                match element {
                    Kind::Fixed(size) => self.skip(name, count.saturating_mul(*size)),
                    _ => (0..count).try_for_each(|_| self.value(name, element)),
                }
            }
            Kind::Struct(schema) => self.structure(schema),
            Kind::NullableStruct(schema) => match i8::from_be_bytes(self.take(name)?) {
                i8::MIN..=-1 => Ok(()),
                1 => self.structure(schema),
                // Kafka takes it for a struct, `kafka-protocol` for null.
                _ => Err(BoundError::Length(name)),
            },
        }
    }

    /// The length of bytes or of an array, `None` for null.
    fn length(&mut self, name: &'static str) -> Result<Option<usize>, BoundError> {
        if self.flexible {
            let length = take_u32(&mut self.rest).ok_or(BoundError::Length(name))?;
            return Ok((length as usize).checked_sub(1));
        }
        match i32::from_be_bytes(self.take(name)?) {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| BoundError::Length(name)),
        }
    }

    /// Every element takes at least a byte, so a count above what is left is false; then the memory is held down.
    fn count(&mut self, name: &'static str, count: usize, each: usize) -> Result<(), BoundError> {
        if count > self.rest.len() {
            return Err(BoundError::Length(name));
        }
        self.memory = self.memory.saturating_add(count.saturating_mul(each));
        if self.memory > self.allowed { Err(BoundError::Memory(name)) } else { Ok(()) }
    }

    fn tagged(&mut self, schema: &Schema) -> Result<(), BoundError> {
        const NAME: &str = "tagged fields";
        let count = take_u32(&mut self.rest).ok_or(BoundError::Length(NAME))? as usize;
        if count > 0 {
            self.memory = self.memory.saturating_add(TAG_NODE);
        }
        self.count(NAME, count, UNKNOWN_TAG)?;
        for _ in 0..count {
            // Kafka's tags are positive 32-bit numbers; `kafka-protocol` counts others and does not write them again.
            let tag = take_u32(&mut self.rest).filter(|tag| i32::try_from(*tag).is_ok());
            let tag = tag.ok_or(BoundError::Length(NAME))?;
            let size = take_u32(&mut self.rest).ok_or(BoundError::Length(NAME))? as usize;
            let after = self.rest.len().checked_sub(size).ok_or(BoundError::Length(NAME))?;
            match schema.tagged.iter().find(|(t, field)| *t == tag && self.has(field)) {
                Some((_, field)) => {
                    self.value(field.name, &field.kind)?;
                    if self.rest.len() != after {
                        return Err(BoundError::Tagged(field.name));
                    }
                }
                None => self.skip(NAME, size)?,
            }
        }
        Ok(())
    }

    fn skip(&mut self, name: &'static str, size: usize) -> Result<(), BoundError> {
        self.rest = self.rest.get(size..).ok_or(BoundError::Length(name))?;
        Ok(())
    }

    fn take<const N: usize>(&mut self, name: &'static str) -> Result<[u8; N], BoundError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(BoundError::Length(name))?;
        self.rest = rest;
        Ok(*head)
    }
}
