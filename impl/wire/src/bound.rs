//! The bound on untrusted bodies: a walk over the bytes that believes no length before it has seen the bytes for it.
//!
//! `kafka-protocol` reserves memory for as many elements as a count says, so five bytes can ask it for hundreds of GB.
//! A body that this walk accepts holds every element that it announces, and no more than [`MAX_ELEMENTS`] of them, so
//! that decoding it costs memory in proportion to its size.

use kafka_protocol::messages::ApiKey;

use crate::schema::{self, Field, Kind, Message, Schema};
use crate::varint::take_u32;

/// The largest number of array elements and tagged fields in one body. An element can be one byte on the wire (an
/// empty string) and some 32 to 300 in memory; a body with a million is already far more than a cluster has partitions.
pub const MAX_ELEMENTS: usize = 1_000_000;

/// Why a body is not decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BoundError {
    /// A length or count asks for more bytes than there are, or is negative without being null.
    #[error("field {0} does not fit into the body")]
    Length(&'static str),
    /// More than [`MAX_ELEMENTS`] elements.
    #[error("field {0} takes the body past {MAX_ELEMENTS} elements")]
    Elements(&'static str),
    /// A tagged field whose content ends before or after its size says.
    #[error("tagged field {0} is not as long as it says")]
    Tagged(&'static str),
    /// An API without a table.
    #[error("API key {0} is not known")]
    Api(i16),
}

/// Walks a request body; the number of bytes that it takes. More may follow: Kafka ignores them.
pub fn request_body(key: ApiKey, version: i16, body: &[u8]) -> Result<usize, BoundError> {
    walk(schema::of_request(key).ok_or(BoundError::Api(key as i16))?, version, body)
}

/// Walks a response body; the number of bytes that it takes.
pub fn response_body(key: ApiKey, version: i16, body: &[u8]) -> Result<usize, BoundError> {
    walk(schema::of_response(key).ok_or(BoundError::Api(key as i16))?, version, body)
}

fn walk(message: &Message, version: i16, body: &[u8]) -> Result<usize, BoundError> {
    let mut walker = Walker { rest: body, version, flexible: version >= message.flexible, elements: 0 };
    walker.structure(message.body)?;
    Ok(body.len() - walker.rest.len())
}

struct Walker<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    elements: usize,
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
                Some(size) => self.skip(name, size),
            },
            Kind::Array(element) => {
                let Some(count) = self.length(name)? else { return Ok(()) };
                self.count(name, count)?;
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

    /// Every element takes at least a byte, so a count above what is left is false; then the total is held down.
    fn count(&mut self, name: &'static str, count: usize) -> Result<(), BoundError> {
        if count > self.rest.len() {
            return Err(BoundError::Length(name));
        }
        self.elements += count;
        if self.elements > MAX_ELEMENTS { Err(BoundError::Elements(name)) } else { Ok(()) }
    }

    fn tagged(&mut self, schema: &Schema) -> Result<(), BoundError> {
        const NAME: &str = "tagged fields";
        let count = take_u32(&mut self.rest).ok_or(BoundError::Length(NAME))? as usize;
        self.count(NAME, count)?;
        for _ in 0..count {
            let tag = take_u32(&mut self.rest).ok_or(BoundError::Length(NAME))?;
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
