//! Redis without a server: something that answers as one does, and sends the same file each time.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use backup_core::clock::{Clock, SystemClock};
use backup_core::testing::source_suite;
use backup_sources::databases::redis::{Address, RedisSettings, RedisSource};
use crc_fast::{CrcAlgorithm, checksum};
use tempfile::{TempDir, tempdir};

use crate::repository::Repo;

const MARK: &[u8] = b"0123456789abcdef0123456789abcdef01234567";

/// How the server says where its file ends.
#[derive(Clone, Copy)]
enum End {
    Length,
    Mark,
}

struct Replay {
    /// Holds the socket.
    _folder: TempDir,
    settings: RedisSettings,
}

impl Replay {
    fn new(file: Vec<u8>, end: End) -> Self {
        let folder = tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || {
            for client in listener.incoming() {
                let file = file.clone();
                thread::spawn(move || serve(&client.unwrap(), &file, end));
            }
        });
        Self { _folder: folder, settings: settings(path) }
    }

    fn source(&self) -> RedisSource {
        RedisSource::connect(&self.settings, &(Arc::new(SystemClock) as Arc<dyn Clock>)).unwrap()
    }
}

fn settings(socket: PathBuf) -> RedisSettings {
    RedisSettings {
        address: Address::Socket(socket),
        user: None,
        password: None,
        tls: None,
        name: Some("server".into()),
        patience: Duration::from_secs(5),
    }
}

/// Answers until the client has gone.
fn serve(client: &UnixStream, file: &[u8], end: End) {
    let mut lines = BufReader::new(client).lines();
    let mut to = client;
    while let Some(Ok(line)) = lines.next() {
        // The name of a command is its first text; counts and lengths begin with a sign of their own.
        let answered = match line.as_str() {
            "PING" => to.write_all(b"+PONG\r\n"),
            "INFO" => to.write_all(b"$21\r\nredis_version:7.2.0\r\n\r\n"),
            "REPLCONF" => to.write_all(b"+OK\r\n"),
            "PSYNC" => {
                let head = match end {
                    End::Length => format!("${}\r\n", file.len()).into_bytes(),
                    End::Mark => [b"$EOF:", MARK, b"\r\n"].concat(),
                };
                let tail = if matches!(end, End::Mark) { MARK } else { b"" };
                to.write_all(&[b"\n+FULLRESYNC id 7\r\n\n", &head[..], file, tail].concat())
            }
            _ => Ok(()),
        };
        if answered.is_err() {
            return;
        }
    }
}

/// A file of version 9 with its checksum.
fn file_of(entries: &[u8]) -> Vec<u8> {
    let mut file = [b"REDIS0009".as_slice(), entries, &[0xFF]].concat();
    let sum = checksum(CrcAlgorithm::Crc64Redis, &file);
    file.extend_from_slice(&sum.to_le_bytes());
    file
}

const TWO_KEYS: &[u8] = b"\xfa\x05ctime\xc2\x00\x00\x00\x65\xfe\x00\xfb\x02\x00\x00\x01a\x01b\x01\x01l\x02\x01x\x01y";

#[test]
fn a_server_of_redis_keeps_the_contract_of_a_source() {
    for end in [End::Length, End::Mark] {
        let replay = Replay::new(file_of(TWO_KEYS), end);
        source_suite(|| Box::new(replay.source()));
    }
}

#[test]
fn what_passes_is_counted_and_belongs_to_the_servers_instant() {
    let repo = Repo::new();
    let report = repo.back_up(&mut Replay::new(file_of(TWO_KEYS), End::Mark).source()).unwrap().report;
    let point = report.recovery_point.unwrap();
    assert_eq!((point.time.as_second(), point.position.as_deref()), (0x6500_0000, Some("id:7")));
    assert_eq!(report.expectations[0].count, Some(2));
    assert_eq!(repo.file("/redis/server/dump.rdb"), file_of(TWO_KEYS));
}

#[test]
fn a_file_with_something_unknown_is_kept_but_its_keys_are_not_claimed() {
    for unknown in [&b"\x63\x01k whatever"[..], b"\x00\x01k\xc9", b"\x00\xbf"] {
        for end in [End::Length, End::Mark] {
            let repo = Repo::new();
            let file = file_of(&[TWO_KEYS, unknown, &[7; 1_000]].concat());
            let report = repo.back_up(&mut Replay::new(file.clone(), end).source()).unwrap().report;
            assert!(report.warnings[0].contains("its keys were not counted"), "{:?}", report.warnings);
            assert_eq!(report.expectations, []);
            assert_eq!(repo.file("/redis/server/dump.rdb"), file);
        }
    }
}

#[test]
fn a_file_that_is_shorter_or_other_than_it_says_is_refused() {
    let sound = file_of(TWO_KEYS);
    for length in 0..sound.len() {
        let mut other = sound.clone();
        other[length] ^= 0x10;
        for file in [&sound[..length], &other] {
            let replay = Replay::new(file.to_vec(), End::Length);
            Repo::new().fail_to_back_up(&mut replay.source());
        }
    }
    let longer = [&sound[..], b"more"].concat();
    Repo::new().fail_to_back_up(&mut Replay::new(longer, End::Length).source());
}
