//! Figures as a Pushgateway gets them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use crate::driver::Ran;
use crate::jobs::{run, world};

/// A request as it came.
struct Request {
    line: String,
    content_type: String,
    body: String,
}

/// Takes one request and answers it with `status`.
fn take(gateway: &TcpListener, status: &str) -> Request {
    let (mut stream, _) = gateway.accept().unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let head: Vec<String> = reader.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
    let header = |name: &str| {
        let of = |line: &String| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        };
        head.iter().find_map(of).unwrap_or_default()
    };
    let mut body = vec![0; header("content-length").parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    Request { line: head[0].clone(), content_type: header("content-type"), body: String::from_utf8(body).unwrap() }
}

#[test]
fn figures_take_the_place_of_those_of_the_same_machine_and_a_gateway_that_refuses_fails_no_run() {
    let gateway = TcpListener::bind("127.0.0.1:0").unwrap();
    let more = format!(
        "[jobs.files]\nsource = \"PATH/source\"\nschedule = \"0 2 * * *\"\nobjectives = {{ rpo = \"26h\" }}\n\
        [metrics]\npushgateway = {{ url = \"http://{}/\", instance = \"web 1\" }}\n",
        gateway.local_addr().unwrap()
    );
    let world = world(&more);
    run(&world, &["init"]).succeeds();
    let taken = thread::spawn(move || ["200 OK", "400 Bad Request"].map(|status| take(&gateway, status)));
    let in_home = |arguments: &[&str]| {
        let mut command = world.command();
        command.env_remove("BACKUP_REPO").env_remove("BACKUP_PASSWORD").env("HOME", world.path().join("home"));
        Ran::of(&command.args(arguments).output().unwrap())
    };
    let good = in_home(&["run", "--quiet"]).succeeds();
    assert!(!good.err.contains("Pushgateway"), "{}", good.err);
    let checklist = in_home(&["--json", "status"]).succeeds().lines().pop().unwrap()["checklist"].clone();
    let monitoring = checklist.as_array().unwrap().iter().find(|line| line["item"] == "monitoring").unwrap().clone();
    assert_eq!(monitoring["answer"], "yes", "that they were taken is evidence: {monitoring}");
    let refused = in_home(&["run", "--quiet"]).succeeds();
    assert!(refused.err.contains("the Pushgateway has no figures") && refused.err.contains("400"), "{}", refused.err);
    for Request { line, content_type, body } in taken.join().unwrap() {
        assert_eq!(line, "PUT /metrics/job/backup/instance/web_1 HTTP/1.1");
        assert!(content_type.starts_with("text/plain; version=0.0.4"), "{content_type}");
        assert!(body.contains("\nbackup_last_success_timestamp{job=\"files\",repository=\"far\"} "), "{body}");
        assert!(body.ends_with('\n'), "{body}");
    }
}
