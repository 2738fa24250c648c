//! Bodies made up from our tables: each field that the version has, filled at random. For tests and fuzzing alone.

use kafka_protocol::messages::ApiKey;

use crate::schema::{self, Kind, Message, Schema};
use crate::varint::put_u32;

/// Numbers from a seed (xorshift64*): the same ones on every machine.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The numbers of this seed.
    pub fn new(seed: u64) -> Self {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next one.
    #[allow(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, which is at least 1.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 16) as usize % bound
    }
}

/// A request frame without its length prefix: an API that we serve, in this version. None if there is no such API.
pub fn request(key: ApiKey, version: i16, dice: &mut Dice) -> Option<Vec<u8>> {
    let body = body(schema::of_request(key)?, version, dice);
    Some(frame(key, version, &body))
}

/// A request frame with this body, whatever it is, correlation id 1 and neither client id nor tags.
pub fn frame(key: ApiKey, version: i16, body: &[u8]) -> Vec<u8> {
    let mut out = (key as i16).to_be_bytes().to_vec();
    out.extend_from_slice(&version.to_be_bytes());
    out.extend_from_slice(b"\0\0\0\x01\xff\xff");
    if crate::api::flexible(key, version) {
        out.push(0);
    }
    out.extend_from_slice(body);
    out
}

/// A response frame of this API and version without its length prefix, correlation id 1.
pub fn response(key: ApiKey, version: i16, dice: &mut Dice) -> Option<Vec<u8>> {
    let body = body(schema::of_response(key)?, version, dice);
    let mut out = b"\0\0\0\x01".to_vec();
    if crate::api::flexible(key, version) && key != ApiKey::ApiVersions {
        out.push(0);
    }
    out.extend_from_slice(&body);
    Some(out)
}

/// Changes some bytes, preferably into those that lengths are made of, and perhaps cuts the end off.
pub fn mutate(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..1 + dice.below(4) {
        if bytes.is_empty() {
            return;
        }
        let at = dice.below(bytes.len());
        let value = match dice.below(4) {
            0 => 0xff,
            1 => 0x7f,
            2 => 0x80,
            _ => dice.next() as u8,
        };
        // A run of the same value makes the large numbers.
        let run = 1 + dice.below(5);
        bytes.iter_mut().skip(at).take(run).for_each(|b| *b = value);
    }
    if dice.below(4) == 0 {
        bytes.truncate(dice.below(bytes.len() + 1));
    }
}

/// A body of this version.
pub(crate) fn body(message: &Message, version: i16, dice: &mut Dice) -> Vec<u8> {
    body_with_lengths(message, version, dice).0
}

/// How a length or count is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(not(test), allow(dead_code, reason = "only our own tests look at single lengths"))]
pub(crate) enum Width {
    I16,
    I32,
    Varint,
}

/// A body of this version, and where each length and count in it stands, at any depth.
pub(crate) fn body_with_lengths(message: &Message, version: i16, dice: &mut Dice) -> (Vec<u8>, Vec<(usize, Width)>) {
    let flexible = version >= message.flexible;
    let mut sample = Sample { out: Vec::new(), lengths: Vec::new(), version, flexible, dice };
    sample.structure(message.body);
    (sample.out, sample.lengths)
}

struct Sample<'a> {
    out: Vec<u8>,
    lengths: Vec<(usize, Width)>,
    version: i16,
    flexible: bool,
    dice: &'a mut Dice,
}

impl Sample<'_> {
    fn structure(&mut self, schema: &Schema) {
        let version = self.version;
        for field in schema.fields.iter().filter(|f| (f.first..=f.last).contains(&version)) {
            self.value(&field.kind);
        }
        if !self.flexible {
            return;
        }
        let known = schema.tagged.iter().filter(|(_, f)| (f.first..=f.last).contains(&version));
        let mut tagged: Vec<_> = known.map(|(tag, field)| (*tag, Some(&field.kind))).collect();
        tagged.retain(|_| self.dice.below(2) == 0);
        if self.dice.below(4) == 0 {
            tagged.push((1000 + self.dice.below(100_000) as u32, None));
        }
        self.varint(tagged.len());
        for (tag, kind) in tagged {
            let outer = std::mem::take(&mut self.out);
            let before = self.lengths.len();
            match kind {
                Some(kind) => self.value(kind),
                None => self.fill(5),
            }
            let value = std::mem::replace(&mut self.out, outer);
            put_u32(&mut self.out, tag);
            let inside = self.lengths.split_off(before);
            self.varint(value.len());
            let at = self.out.len();
            self.lengths.extend(inside.into_iter().map(|(from, width)| (at + from, width)));
            self.out.extend_from_slice(&value);
        }
    }

    fn varint(&mut self, length: usize) {
        self.lengths.push((self.out.len(), Width::Varint));
        put_u32(&mut self.out, length as u32);
    }

    fn length(&mut self, length: usize, width: Width) {
        match width {
            _ if self.flexible => return self.varint(length + 1),
            Width::I16 => self.out.extend_from_slice(&(length as i16).to_be_bytes()),
            _ => self.out.extend_from_slice(&(length as i32).to_be_bytes()),
        }
        let size = if width == Width::I16 { 2 } else { 4 };
        self.lengths.push((self.out.len() - size, width));
    }

    fn value(&mut self, kind: &Kind) {
        match kind {
            Kind::Fixed(size) => self.fill(*size),
            Kind::Str | Kind::Bytes => {
                let size = if self.dice.below(20) == 0 { 200 } else { self.dice.below(9) };
                self.length(size, if matches!(kind, Kind::Str) { Width::I16 } else { Width::I32 });
                for _ in 0..size {
                    self.out.push(b'a' + self.dice.below(26) as u8);
                }
            }
            Kind::Array(element) => {
                let count = self.dice.below(4);
                self.length(count, Width::I32);
                (0..count).for_each(|_| self.value(element));
            }
            Kind::Struct(schema) => self.structure(schema),
            Kind::NullableStruct(_) if self.dice.below(2) == 0 => self.out.push(0xff),
            Kind::NullableStruct(schema) => {
                self.out.push(1);
                self.structure(schema);
            }
        }
    }

    fn fill(&mut self, size: usize) {
        for _ in 0..size {
            self.out.push(self.dice.next() as u8);
        }
    }
}
