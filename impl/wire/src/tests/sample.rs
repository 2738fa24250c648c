//! Bodies made up from our tables: each field that the version has, filled at random.

use crate::schema::{Kind, Message, Schema};
use crate::varint::put_u32;

/// Numbers from a seed (xorshift64*): the same ones on every machine.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 16) as usize % bound
    }
}

/// A body of this version.
pub fn body(message: &Message, version: i16, dice: &mut Dice) -> Vec<u8> {
    let mut sample = Sample { out: Vec::new(), version, flexible: version >= message.flexible, dice };
    sample.structure(message.body);
    sample.out
}

struct Sample<'a> {
    out: Vec<u8>,
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
        put_u32(&mut self.out, tagged.len() as u32);
        for (tag, kind) in tagged {
            let outer = std::mem::take(&mut self.out);
            match kind {
                Some(kind) => self.value(kind),
                None => self.fill(5),
            }
            let value = std::mem::replace(&mut self.out, outer);
            put_u32(&mut self.out, tag);
            put_u32(&mut self.out, value.len() as u32);
            self.out.extend_from_slice(&value);
        }
    }

    fn value(&mut self, kind: &Kind) {
        match kind {
            Kind::Fixed(size) => self.fill(*size),
            Kind::Str | Kind::Bytes => {
                let size = if self.dice.below(20) == 0 { 200 } else { self.dice.below(9) };
                if self.flexible {
                    put_u32(&mut self.out, size as u32 + 1);
                } else if matches!(kind, Kind::Str) {
                    self.out.extend_from_slice(&(size as i16).to_be_bytes());
                } else {
                    self.out.extend_from_slice(&(size as i32).to_be_bytes());
                }
                for _ in 0..size {
                    self.out.push(b'a' + self.dice.below(26) as u8);
                }
            }
            Kind::Array(element) => {
                let count = self.dice.below(4);
                if self.flexible {
                    put_u32(&mut self.out, count as u32 + 1);
                } else {
                    self.out.extend_from_slice(&(count as i32).to_be_bytes());
                }
                (0..count).for_each(|_| self.value(element));
            }
            Kind::Struct(schema) => self.structure(schema),
            Kind::NullableStruct(_) if self.dice.below(3) == 0 => self.out.push(0xff),
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
