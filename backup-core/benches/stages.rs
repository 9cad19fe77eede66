//! Micro-benchmarks of the stages that every byte passes, each alone and on one thread:
//!
//! ```sh
//! cargo bench -p backup-core --bench stages
//! cargo bench -p backup-core --bench stages -- seal
//! ```
//!
//! They show where the time of a backup goes and what a change of one stage did to it. What the whole does, beside its
//! peers, is shown by `benches/compare`.

#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::hint::black_box;
use std::sync::Arc;

use backup_core::chunk::{Chunking, Polynomial, Rabin};
use backup_core::codec::{BlobCodec, Compression, MasterKey, Proof};
use backup_core::contracts::Codec as _;
use backup_core::model::{BlobId, BlobKind, Metadata, Node, NodeKind, TreeWriter, decode_tree};
use backup_core::pack::PackWriter;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

/// A usual piece of a large file.
const PIECE_BYTES: usize = 1 << 20;
/// Entries of a large folder.
const ENTRIES: usize = 1_000;

criterion_group!(stages, cut, name, seal, open, pack, trees);
criterion_main!(stages);

fn cut(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cut");
    let bytes = 64 << 20;
    group.throughput(Throughput::Bytes(bytes as u64)).sample_size(20);
    let polynomial = Polynomial::from_bits(0x3D_A335_8B4D_C173).unwrap();
    for (kind, data) in [("noise", noise(bytes)), ("text", text(bytes)), ("zeros", vec![0; bytes])] {
        let chunking = Chunking::Rabin(Rabin::new(polynomial).into());
        group.bench_function(kind, |bencher| {
            bencher.iter(|| {
                let (mut cutter, mut rest, mut cuts) = (chunking.cutter(), data.as_slice(), 0_u32);
                while let Some(cut) = cutter.next_cut(rest) {
                    rest = &rest[cut..];
                    cuts += 1;
                }
                cuts
            });
        });
    }
}

fn name(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("name");
    let piece = noise(PIECE_BYTES);
    group.throughput(Throughput::Bytes(piece.len() as u64));
    group.bench_function("sha256", |bencher| bencher.iter(|| BlobId::of(black_box(&piece))));
}

fn seal(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("seal");
    group.throughput(Throughput::Bytes(PIECE_BYTES as u64));
    for (kind, piece) in [("noise", noise(PIECE_BYTES)), ("text", text(PIECE_BYTES))] {
        for (proof, word) in [(Proof::Off, "alone"), (Proof::Each, "and prove")] {
            let codec = codec(proof);
            let mut sealed = Vec::new();
            group.bench_function(format!("{kind} {word}"), |bencher| {
                bencher.iter(|| {
                    sealed.clear();
                    codec.seal_and_prove(black_box(&piece), &mut sealed).unwrap()
                });
            });
        }
    }
}

fn open(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("open");
    group.throughput(Throughput::Bytes(PIECE_BYTES as u64));
    for (kind, piece) in [("noise", noise(PIECE_BYTES)), ("text", text(PIECE_BYTES))] {
        let codec = codec(Proof::Off);
        let (mut sealed, mut plain) = (Vec::new(), Vec::new());
        let is_compressed = codec.seal(&piece, &mut sealed).unwrap().is_compressed;
        let plain_bytes = is_compressed.then_some(PIECE_BYTES as u32);
        group.bench_function(kind, |bencher| {
            bencher.iter(|| codec.open(black_box(&sealed), plain_bytes, &mut plain).unwrap());
        });
    }
}

fn pack(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pack");
    let (key, sealed) = (MasterKey::generate().unwrap(), noise(PIECE_BYTES));
    group.throughput(Throughput::Bytes(16 * sealed.len() as u64));
    group.bench_function("sixteen pieces", |bencher| {
        bencher.iter_batched(
            || PackWriter::new(BlobKind::Data),
            |mut pack| {
                for number in 0..16_u8 {
                    pack.append(BlobId::from_bytes([number; 32]), &sealed, None).unwrap();
                }
                pack.finish(&key).unwrap()
            },
            BatchSize::LargeInput,
        );
    });
}

fn trees(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tree");
    let nodes: Vec<Node> = (0..ENTRIES).map(file).collect();
    let encode = || {
        let mut tree = TreeWriter::default();
        nodes.iter().for_each(|node| tree.push(node).unwrap());
        tree.finish()
    };
    group.throughput(Throughput::Elements(ENTRIES as u64));
    group.bench_function("encode", |bencher| bencher.iter(encode));
    let encoded = encode();
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            let mut entries = 0;
            decode_tree(black_box(&encoded), |_| {
                entries += 1;
                Ok(())
            })
            .unwrap();
            entries
        });
    });
}

fn codec(proof: Proof) -> BlobCodec {
    let level = Compression::DEFAULT_LEVEL;
    BlobCodec::new(Arc::new(MasterKey::generate().unwrap()), Compression::WhenItPays(level), proof)
}

fn file(number: usize) -> Node {
    let metadata =
        Metadata { mode: 0o644, links: 1, user: "user".into(), group: "users".into(), ..Metadata::default() };
    let content = vec![BlobId::of(&number.to_le_bytes())];
    let size = number as u64 * 1_000;
    Node { name: format!("file-{number:06}.txt").into_bytes(), kind: NodeKind::File { size, content }, metadata }
}

/// Bytes that do not compress.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let words = std::iter::repeat_with(|| {
        // Marsaglia, "Xorshift RNGs" (2003): the same bytes in every run.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(bytes).collect()
}

/// Bytes that compress about as well as a dump: words of a small vocabulary.
fn text(bytes: usize) -> Vec<u8> {
    let choice = noise(bytes / 4);
    let words = choice.iter().enumerate().map(|(at, byte)| format!("word{} {}\t", byte % 97, at % 1_000));
    let mut text: Vec<u8> = words.flat_map(String::into_bytes).take(bytes).collect();
    text.resize(bytes, b' ');
    text
}
