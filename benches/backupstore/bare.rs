//! The floors: what hashing, getting, and the two with unpacking and writing cost when nothing else is done.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::fs::FileExt,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use lhrun::backupstore::{block::Checksum, codec};

use crate::{BUCKET, child::processors};

/// Threads that get: enough to have a request waiting while the processors are busy.
const GETTERS: usize = 8;

/// One object to get, and where its block goes.
struct Item {
    key: String,
    checksum: Checksum,
    offsets: Vec<u64>,
}

/// Reads what `child keys` wrote: key, checksum and offsets of each object.
fn items(keys: &str) -> Vec<Item> {
    let text = fs::read_to_string(keys).expect("the list of keys");
    text.lines()
        .map(|line| {
            let mut words = line.split(' ');
            let key = words.next().expect("a key").to_owned();
            let checksum = words.next().expect("a checksum").parse().expect("a checksum");
            Item { key, checksum, offsets: words.map(|word| word.parse().expect("an offset")).collect() }
        })
        .collect()
}

/// Hashes that many bytes on all processors.
pub fn sha512(image: &str, bytes: u64) -> f64 {
    repeat(image, bytes, |_, block| {
        std::hint::black_box(Checksum::of(block));
    })
}

/// Writes that many bytes to a file on all processors.
pub fn write(image: &str, bytes: u64, target: &str) -> f64 {
    let file = File::create(target).expect("a file to write");
    file.set_len(bytes).expect("room");
    repeat(image, bytes, |index, block| {
        write_pieces(&file, block, index as u64 * block.len() as u64);
    })
}

/// Writes in the pieces that are cheapest for Linux, as a restore does.
fn write_pieces(file: &File, data: &[u8], mut offset: u64) {
    for piece in data.chunks(128 << 10) {
        file.write_all_at(piece, offset).expect("a write");
        offset += piece.len() as u64;
    }
}

/// Does something with blocks of the image's beginning, over and over. Returns the seconds it took.
fn repeat(image: &str, bytes: u64, work: impl Fn(usize, &[u8]) + Sync) -> f64 {
    let mut sample = Vec::new();
    File::open(image).expect("the image").take(32 << 20).read_to_end(&mut sample).expect("its beginning");
    let blocks: Vec<&[u8]> = sample.chunks_exact(2 << 20).collect();
    let count = usize::try_from(bytes >> 21).expect("a number of blocks");
    let next = AtomicUsize::new(0);
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..processors() {
            scope.spawn(|| {
                while let Some(index) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|index| *index < count) {
                    work(index, blocks[index % blocks.len()]);
                }
            });
        }
    });
    begun.elapsed().as_secs_f64()
}

/// Gets every object and throws it away.
pub fn get(keys: &str) {
    each(keys, |_, _, _| {});
}

/// Gets, unpacks and hashes every object, and writes its block to all its places if there is a file for them.
pub fn work(keys: &str, block: usize, target: Option<(&str, u64)>) {
    let file = target.map(|(path, size)| {
        let file = File::create(path).expect("a file to restore into");
        file.set_len(size).expect("room");
        file
    });
    each(keys, |item, body, buffer| {
        buffer.resize(block, 0);
        let unpacked = codec::unpack(body, &item.checksum, buffer).expect("a whole block");
        for offset in &item.offsets {
            if let Some(file) = &file {
                write_pieces(file, unpacked.data, *offset);
            }
        }
    });
}

fn each(keys: &str, then: impl Fn(&Item, &[u8], &mut Vec<u8>) + Sync) {
    let items = items(keys);
    let endpoint = std::env::var("AWS_ENDPOINT_URL").expect("the endpoint");
    let address = endpoint.trim_start_matches("http://");
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..GETTERS {
            scope.spawn(|| {
                let stream = TcpStream::connect(address).expect("the server");
                stream.set_nodelay(true).expect("a socket");
                let mut stream = BufReader::with_capacity(256 << 10, stream);
                let (mut body, mut buffer) = (Vec::new(), Vec::new());
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    fetch(&mut stream, &item.key, &mut body);
                    then(item, &body, &mut buffer);
                }
            });
        }
    });
}

/// One GET on a connection that is kept.
fn fetch(stream: &mut BufReader<TcpStream>, key: &str, body: &mut Vec<u8>) {
    // In one piece, or the second waits until the first is acknowledged.
    let request = format!("GET /{BUCKET}/{key} HTTP/1.1\r\nHost: bench\r\n\r\n");
    stream.get_mut().write_all(request.as_bytes()).expect("a request");
    let (mut line, mut length) = (String::new(), None);
    stream.read_line(&mut line).expect("an answer");
    assert!(line.starts_with("HTTP/1.1 200"), "{key}: {line}");
    while line.trim() != "" {
        line.clear();
        stream.read_line(&mut line).expect("a header");
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse::<usize>().ok();
        }
    }
    body.resize(length.expect("a length"), 0);
    stream.read_exact(body).expect("the body");
}
