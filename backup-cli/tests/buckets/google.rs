//! What a bucket of Google's keeps of the past and from being removed, against fake-gcs-server, which knows versions and
//! the retention of an object, and has no word of the bucket for the latter: that is put into its answer on the way.
//! Soft delete and policies of buckets, which it does not know, are tested where they are understood
//! (`backup-store/src/sinks/gcs/`).

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::driver::World;
use crate::immutable::assert_all_is_back;
use crate::proxy::{Fault, Proxy};
use crate::servers::{BUCKET, Server};
use crate::{run, tree};

/// Sends a request of the JSON interface, and gives the status and the document.
fn ask(server: &Server, method: &str, path: &str, body: &str) -> (u16, Value) {
    let answer = exchange(server.port, method, path, body);
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, document) = answer.split_once("\r\n\r\n").unwrap();
    (status, serde_json::from_str(document).unwrap_or_default())
}

fn exchange(port: u16, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let head = format!("{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n");
    stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Switches versions on.
fn keep_versions(server: &Server) {
    let path = format!("/storage/v1/b/{BUCKET}");
    assert_eq!(ask(server, "PATCH", &path, r#"{"versioning": {"enabled": true}}"#).0, 200);
}

/// The names of all live objects.
fn names(server: &Server) -> Vec<String> {
    let (_, page) = ask(server, "GET", &format!("/storage/v1/b/{BUCKET}/o"), "");
    page["items"].as_array().into_iter().flatten().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

fn in_path(name: &str) -> String {
    format!("/storage/v1/b/{BUCKET}/o/{}", name.replace('/', "%2F"))
}

#[test]
#[ignore = "needs gcs-server"]
fn what_a_thief_deletes_and_replaces_comes_back() {
    let server = Server::gcs();
    keep_versions(&server);
    let (world, place) = (World::new(), server.place("some/where"));
    let go = |arguments: &[&str]| run(&world, &place, server.variables(), arguments);
    go(&["init"]).succeeds();
    let source = world.source();
    fs::write(source.join("large"), tree::noise(20_000_000, 5)).unwrap();
    go(&["create", source.to_str().unwrap()]).succeeds();
    let good = Timestamp::now();
    // Whatever the store's clock rounds to.
    thread::sleep(Duration::from_millis(20));
    let at = good.to_string();
    assert!(go(&["repair", "undelete", "--at", &at]).succeeds().out.contains("nothing was deleted"));

    let names = names(&server);
    assert!(names.len() > 6, "{names:?}");
    for (number, name) in names.iter().enumerate() {
        if number % 3 == 0 {
            let path = format!("/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={}", name.replace('/', "%2F"));
            assert_eq!(ask(&server, "POST", &path, "ransom").0, 200);
        } else {
            assert_eq!(ask(&server, "DELETE", &in_path(name), "").0, 200);
        }
    }
    let planned = go(&["--json", "repair", "undelete", "--at", &at, "--dry-run"]).succeeds().lines().pop().unwrap();
    assert_eq!(planned["objects"].as_array().unwrap().len(), names.len(), "{planned}");
    let brought = go(&["--json", "repair", "undelete", "--at", &at]).succeeds().lines().pop().unwrap();
    assert_eq!(brought["done"]["brought_back"].as_u64(), Some(names.len() as u64), "{brought}");
    assert_all_is_back(&world, go, &at);
}

#[test]
#[ignore = "needs gcs-server"]
fn a_server_that_is_busy_or_says_no_to_what_it_did_delays_undelete_and_does_not_end_it() {
    let server = Server::gcs();
    keep_versions(&server);
    let (world, place) = (World::new(), server.place("p"));
    run(&world, &place, server.variables(), &["init"]).succeeds();
    run(&world, &place, server.variables(), &["create", world.source().to_str().unwrap()]).succeeds();
    let at = Timestamp::now().to_string();
    thread::sleep(Duration::from_millis(20));
    let all = names(&server);
    for name in &all {
        assert_eq!(ask(&server, "DELETE", &in_path(name), "").0, 200);
    }
    let plan = |number| match number % 5 {
        1 => Some(Fault::Status(503, Some(0))),
        3 => Some(Fault::DoneButStatus(503)),
        _ => None,
    };
    let proxy = Proxy::start(([127, 0, 0, 1], server.port).into(), plan);
    let through = place.replace(&format!("127.0.0.1:{}", server.port), &proxy.address.to_string());
    run(&world, &through, server.variables(), &["repair", "undelete", "--at", &at]).succeeds();
    assert_eq!(names(&server), all);
    assert!(proxy.faults() > 3, "{}", proxy.faults());
    run(&world, &place, server.variables(), &["check", "--read-data"]).succeeds();
}

#[test]
#[ignore = "needs gcs-server"]
fn a_bucket_that_keeps_nothing_or_is_not_there_says_so_in_two_lines() {
    let server = Server::gcs();
    let world = World::new();
    let place = server.place("p");
    let undelete = ["repair", "undelete", "--at", "2026-01-01"];
    let told = run(&world, &place, server.variables(), &undelete).ends_with(1).err;
    assert!(told.contains("keeps no versions, and no soft delete") && told.trim_end().lines().count() <= 2, "{told}");
    let nowhere = place.replace(BUCKET, "no-such-bucket");
    let told = run(&world, &nowhere, server.variables(), &undelete).ends_with(1).err;
    assert!(told.contains("check the name of the bucket") && told.trim_end().lines().count() <= 2, "{told}");
    run(&world, &place, server.variables(), &["init"]).succeeds();
    let told = run(&world, &place, server.variables(), &["protect", "--days", "3"]).ends_with(1).err;
    assert!(told.contains("no object retention") && told.trim_end().lines().count() <= 2, "{told}");
}

/// A server on this machine: `answer` gets the head of each request, in small letters, and all of it.
fn served(answer: impl Fn(&str, &[u8]) -> Vec<u8> + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            thread::spawn(move || {
                if let Some((head, request)) = received(&mut client) {
                    let _ = client.write_all(&answer(&head, &request));
                }
            });
        }
    });
    port
}

fn received(client: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let (mut request, mut piece, mut wanted) = (Vec::new(), [0; 65_536], None);
    while wanted.is_none_or(|wanted| request.len() < wanted) {
        match client.read(&mut piece) {
            Ok(count @ 1..) => request.extend_from_slice(&piece[..count]),
            _ => return None,
        }
        wanted = wanted.or_else(|| {
            let head = String::from_utf8_lossy(&request[..head_bytes(&request)?]).to_lowercase();
            let length = head.split_once("content-length: ").map_or("0", |(_, rest)| rest.lines().next().unwrap());
            Some(head_bytes(&request)? + length.parse::<usize>().unwrap())
        });
    }
    let head = String::from_utf8_lossy(&request[..head_bytes(&request)?]).to_lowercase();
    Some((head, request))
}

fn head_bytes(request: &[u8]) -> Option<usize> {
    request.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4)
}

fn answer_of(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()).into_bytes()
}

/// Stands before the server and says of its buckets that their objects may have a retention.
fn allowing_retention(server: u16) -> u16 {
    served(move |head, request| {
        if head.starts_with(&format!("get /storage/v1/b/{BUCKET}?")) {
            return answer_of("200 OK", r#"{"objectRetention": {"mode": "Enabled"}}"#);
        }
        let head_bytes = head_bytes(request).unwrap();
        let head = String::from_utf8_lossy(&request[..head_bytes]).into_owned();
        let is_kept = |line: &&str| {
            let line = line.to_lowercase();
            !line.starts_with("host:") && !line.starts_with("connection:")
        };
        let lines: Vec<_> = head.trim_end().lines().filter(is_kept).collect();
        let head = format!("{}\r\nHost: 127.0.0.1:{server}\r\nConnection: close\r\n\r\n", lines.join("\r\n"));
        let mut stream = TcpStream::connect(("127.0.0.1", server)).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&request[head_bytes..]).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    })
}

#[test]
fn a_machine_of_google_is_asked_what_it_may_do_and_the_store_is_shown_the_answer() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&heard);
    let port = served(move |head, _| {
        told.lock().unwrap().push(head.to_owned());
        let is_metadata = head.starts_with("get /computemetadata/v1/instance/service-accounts/default/token");
        match is_metadata && head.contains("metadata-flavor: google") {
            true => answer_of("200 OK", r#"{"access_token": "machines", "expires_in": 3600, "token_type": "Bearer"}"#),
            false => answer_of("404 Not Found", "<Error><Code>NoSuchKey</Code></Error>"),
        }
    });
    let world = World::new();
    let place = format!("gs://b/p?endpoint=http://127.0.0.1:{port}");
    let with_host = vec![(String::from("GCE_METADATA_HOST"), format!("127.0.0.1:{port}"))];
    run(&world, &place, with_host, &["--no-lock", "snapshots"]).ends_with(10);
    let heard = heard.lock().unwrap();
    let (asked, shown): (Vec<_>, Vec<_>) = heard.iter().partition(|head| head.contains("/computemetadata/"));
    assert_eq!(asked.len(), 1, "the token lasts for the run: {heard:#?}");
    assert!(
        !shown.is_empty() && shown.iter().all(|head| head.contains("authorization: bearer machines")),
        "{heard:#?}"
    );
}

#[test]
#[ignore = "needs gcs-server"]
fn what_the_snapshots_need_is_protected_for_longer_and_that_is_read_back() {
    let server = Server::gcs();
    keep_versions(&server);
    let world = World::new();
    let direct = server.place("p");
    let place = direct.replace(&server.port.to_string(), &allowing_retention(server.port).to_string());
    let last = |arguments: &[&str], code| {
        run(&world, &place, server.variables(), arguments).ends_with(code).lines().pop().unwrap()
    };
    run(&world, &direct, server.variables(), &["init"]).succeeds();
    run(&world, &direct, server.variables(), &["create", world.source().to_str().unwrap()]).succeeds();

    let looked = last(&["--json", "protect", "--days", "30", "--dry-run"], 1);
    let objects = looked["objects"].as_u64().unwrap();
    assert!(objects >= 6, "{looked}");
    assert_eq!(looked["short"].as_array().unwrap().len() as u64, objects, "{looked}");
    let before = Timestamp::now();
    let done = last(&["--json", "protect", "--days", "30"], 0);
    assert_eq!((done["prolonged"].as_u64(), done["enough"].as_u64()), (Some(objects), Some(0)), "{done}");
    // All but the config have the hash of their content for a name, which this store does not keep.
    assert_eq!((&done["uncompared"], &done["recorded"]), (&(objects - 1).into(), &false.into()), "{done}");
    assert_eq!(done["least"]["mode"], "GOVERNANCE", "{done}");
    let again = last(&["--json", "protect", "--days", "29"], 0);
    assert_eq!(again["enough"].as_u64(), Some(objects), "{again}");
    let month = jiff::SignedDuration::from_hours(24 * 30);
    let packs: Vec<_> = names(&server).into_iter().filter(|name| name.contains("/data/")).collect();
    for name in &packs {
        let (_, object) = ask(&server, "GET", &in_path(name), "");
        assert_eq!(object["retention"]["mode"], "Unlocked", "{object}");
        let until: Timestamp = object["retention"]["retainUntilTime"].as_str().unwrap().parse().unwrap();
        assert!(until >= before + month, "{object}");
    }
    // One is written over, one is gone: neither is certified.
    let path = format!("/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={}", packs[0].replace('/', "%2F"));
    assert_eq!(ask(&server, "POST", &path, "ransom").0, 200);
    assert_eq!(ask(&server, "DELETE", &in_path(&packs[1]), "").0, 200);
    let robbed = last(&["--json", "protect", "--days", "29"], 1);
    let why: Vec<_> =
        robbed["short"].as_array().unwrap().iter().map(|short| short["reason"].as_str().unwrap()).collect();
    assert!(why.len() == 2 && why.contains(&"replaced") && why.contains(&"missing"), "{robbed}");
}
