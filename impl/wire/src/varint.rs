//! Variable-length integers: unsigned (lengths and tags, KIP-482) and zigzag (inside records, KIP-98).

/// Writes `value` in 7-bit groups, the lowest first: 1 to 5 bytes.
pub fn put_u32(out: &mut Vec<u8>, value: u32) {
    put_u64(out, u64::from(value));
}

/// Writes `value` in 7-bit groups, the lowest first: 1 to 10 bytes.
pub fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes `value` zigzag-encoded, so that small negative numbers are short too.
pub fn put_i64(out: &mut Vec<u8>, value: i64) {
    put_u64(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Takes an unsigned 32-bit varint off the front of `input`. `None`: cut short, or more than 32 bits.
pub fn take_u32(input: &mut &[u8]) -> Option<u32> {
    take_bits(input, 32).map(|v| v as u32)
}

/// Takes a zigzag 32-bit varint off the front of `input`.
pub fn take_i32(input: &mut &[u8]) -> Option<i32> {
    take_bits(input, 32).map(|v| ((v as u32) >> 1) as i32 ^ -((v & 1) as i32))
}

/// Takes a zigzag 64-bit varint off the front of `input`.
pub fn take_i64(input: &mut &[u8]) -> Option<i64> {
    take_bits(input, 64).map(|v| (v >> 1) as i64 ^ -((v & 1) as i64))
}

fn take_bits(input: &mut &[u8], bits: u32) -> Option<u64> {
    let mut value = 0u64;
    let mut shift = 0;
    loop {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        let group = u64::from(byte & 0x7f);
        // The last group has room for fewer than 7 bits; what does not fit is not a number of this width.
        if shift >= bits || (bits - shift < 7 && group >> (bits - shift) != 0) {
            return None;
        }
        value |= group << shift;
        if byte < 0x80 {
            return Some(value);
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_varint_of_too_many_bits_is_refused() {
        assert_eq!(take_u32(&mut &[0xff, 0xff, 0xff, 0xff, 0x0f][..]), Some(u32::MAX));
        assert_eq!(take_u32(&mut &[0xff, 0xff, 0xff, 0xff, 0x10][..]), None);
        assert_eq!(take_u32(&mut &[0x80, 0x80, 0x80, 0x80, 0x80, 0x00][..]), None);
        assert_eq!(take_u32(&mut &[0x80][..]), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(u: u32, i: i32, l: i64) {
            let mut out = Vec::new();
            put_u32(&mut out, u);
            put_i64(&mut out, i64::from(i));
            put_i64(&mut out, l);
            let mut input = &out[..];
            prop_assert_eq!(take_u32(&mut input), Some(u));
            prop_assert_eq!(take_i32(&mut input), Some(i));
            prop_assert_eq!(take_i64(&mut input), Some(l));
            prop_assert!(input.is_empty());
        }
    }
}
