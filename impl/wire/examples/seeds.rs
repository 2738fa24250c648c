//! Writes inputs that the fuzz targets begin with: frames of every API and version, batches, compressed bytes, the files of a log.
//!
//! `cargo run -p bellwether-wire --features sample --example seeds -- DIR`; `fuzz/corpus` is what libFuzzer's `-merge=1` keeps of
//! them and of what it has found since.

use std::path::Path;
use std::{env, fs, io};

use bellwether_wire::batch;
use bellwether_wire::compression::{self, Codec, Levels};
use bellwether_wire::sample::{self, Dice};
use bellwether_wire::{INTERNAL, SUPPORTED};
use bytes::Bytes;

fn write(dir: &Path, target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let dir = dir.join(target);
    fs::create_dir_all(&dir)?;
    fs::write(dir.join(name), bytes)
}

/// A batch of so many records, compressed or not.
fn batch_of(records: usize, codec: Codec) -> Vec<u8> {
    let value = |i: usize| Some(Bytes::from(format!("value {i}").repeat(3)));
    let records: Vec<_> =
        (0..records).map(|i| (Some(Bytes::from_static(b"key")), value(i), 1_000 + i as i64)).collect();
    let mut bytes = batch::build(&records, 7, 0, 0).to_vec();
    if codec != Codec::None {
        let packed = compression::compress(codec, Levels::default(), &bytes[batch::HEADER_LEN..]).expect("compresses");
        bytes.truncate(batch::HEADER_LEN);
        bytes.extend_from_slice(&packed);
        bytes[22] = codec.id();
    }
    // Length and CRC are repaired by the target.
    bytes
}

/// A file of the log target: its number, its size, its content.
fn file(out: &mut Vec<u8>, number: u8, content: &[u8]) {
    out.push(number);
    out.extend_from_slice(&(content.len() as u16).to_be_bytes());
    out.extend_from_slice(content);
}

fn main() -> io::Result<()> {
    let dir = env::args().nth(1).expect("a folder");
    let dir = Path::new(&dir);
    let dice = &mut Dice::new(1);
    for (choice, range) in SUPPORTED.iter().chain(INTERNAL).enumerate() {
        for version in range.served_from..=range.max {
            let name = format!("{:?}-{version}", range.key);
            write(dir, "request", &name, &sample::request(range.key, version, dice).expect("a table"))?;
            let mut response = vec![choice as u8, (version - range.served_from) as u8];
            response.extend(sample::response(range.key, version, dice).expect("a table"));
            write(dir, "response", &name, &response)?;
        }
    }
    for codec in Codec::ALL {
        let plain = b"so much of the same, so much of the same, so much of the same".repeat(4);
        let packed = compression::compress(codec, Levels::default(), &plain).expect("compresses");
        write(dir, "compression", &format!("{codec:?}"), &[&[codec.id()], &packed[..]].concat())?;
        for choice in [0, 2, 4, 8, 16, 48, 80, 112, 144] {
            let bytes = [&[choice], &batch_of(3, codec)[..]].concat();
            write(dir, "batch", &format!("{codec:?}-{choice}"), &bytes)?;
        }
    }
    let mut log = Vec::new();
    let one = batch_of(3, Codec::None);
    file(&mut log, 16, &one);
    file(&mut log, 17, &{
        let mut next = one.clone();
        next[7] = 3;
        next
    });
    write(dir, "log", "two-segments", &log)?;
    file(&mut log, 11, b"0\n1\n0 0\n");
    file(&mut log, 3, &[0, 0, 0, 2, 0, 0, 0, 0]);
    file(&mut log, 6, &[0, 0, 0, 0, 0, 0, 3, 0xea, 0, 0, 0, 2]);
    file(&mut log, 8, &[0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    write(dir, "log", "with-indexes", &log)?;
    file(&mut log, 12, format!("0\n2 {} 6\n", 2 * one.len()).as_bytes());
    write(dir, "log", "clean", &log)
}
