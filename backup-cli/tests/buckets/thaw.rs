//! What lies in an archive is named, asked for and waited for.

use std::fs;

use serde_json::Value;

use crate::archive::Archive;
use crate::driver::{Ran, World};
use crate::servers::Server;
use crate::{run, tree};

/// A world with a snapshot whose content lies in a class of its own, behind what makes an archive of it.
struct Frozen {
    world: World,
    server: Server,
    archive: Archive,
    place: String,
}

impl Frozen {
    fn new() -> Self {
        let (world, server) = (World::new(), Server::minio());
        let archive = Archive::start(([127, 0, 0, 1], server.port).into());
        let place = server.place("p").replace(&format!("127.0.0.1:{}", server.port), &archive.address.to_string());
        let frozen = Self { place: format!("{place}&storage_class=REDUCED_REDUNDANCY"), world, server, archive };
        fs::write(frozen.world.source().join("large"), tree::noise(30_000_000, 9)).unwrap();
        frozen.run(&["init"]).succeeds();
        frozen.run(&["create", frozen.world.source().to_str().unwrap()]).succeeds();
        assert!(frozen.archive.objects() >= 2, "two packs of content at least");
        frozen.archive.freeze();
        frozen
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        run(&self.world, &self.place, self.server.variables(), arguments)
    }

    fn json(&self, code: i32, arguments: &[&str]) -> Value {
        let all: Vec<_> = ["--json"].iter().chain(arguments).copied().collect();
        self.run(&all).ends_with(code).lines().pop().unwrap()
    }
}

#[test]
#[ignore = "needs minio"]
fn a_restore_from_an_archive_names_what_is_frozen_and_the_way_out_and_waits_where_it_is_told_to() {
    let frozen = Frozen::new();
    let packs = frozen.archive.objects();
    let to = frozen.world.path().join("restored");
    let to_name = to.to_str().unwrap();
    frozen.run(&["snapshots"]).succeeds();
    frozen.run(&["ls", "latest"]).succeeds();
    let refused = frozen.run(&["--quiet", "restore", "latest", "--to", to_name]).ends_with(1);
    let counted = format!("{packs} of {packs} packs that it needs: data/");
    for word in ["/p/data/", "frozen", "InvalidObjectState", "--thaw", &counted] {
        assert!(refused.err.contains(word), "{word}: {}", refused.err);
    }
    assert!(refused.err.trim_end().lines().count() <= 2, "{}", refused.err);
    frozen.world.run(["init"]).succeeds();
    let other = frozen.world.repository();
    let to_other = ["--quiet", "copy", "--to", other.to_str().unwrap()];
    for verb in [&["--quiet", "check", "--read-data"][..], &to_other] {
        let refused = frozen.run(verb).ends_with(1);
        for word in ["/p/data/", "frozen", "--thaw-limit 0s", "run this again"] {
            assert!(refused.err.contains(word), "{verb:?}: {word}: {}", refused.err);
        }
        assert!(refused.err.trim_end().lines().count() <= 2, "{}", refused.err);
    }

    let looked = frozen.json(0, &["restore", "latest", "--to", to_name, "--thaw", "--dry-run"]);
    assert_eq!(looked["thaw"]["frozen"].as_array().unwrap().len(), packs, "{looked}");
    assert_eq!(looked["thaw"]["asked"], false, "{looked}");
    assert!(frozen.archive.requests().is_empty(), "nothing was asked for yet");

    let late = frozen.run(&["restore", "latest", "--to", to_name, "--thaw", "--thaw-limit", "0s"]).ends_with(1);
    assert!(
        late.err.contains(&format!("{packs} of {packs} packs")) && late.err.contains("run it again"),
        "{}",
        late.err
    );
    frozen.archive.freeze();
    let bulk = ["restore", "latest", "--to", to_name, "--thaw", "--thaw-speed", "bulk", "--thaw-days", "3"];
    let done = frozen.json(0, &bulk);
    assert_eq!(done["thaw"]["frozen"].as_array().unwrap().len(), packs, "{done}");
    assert!(done["thaw"]["seconds"].as_f64().unwrap() > 1.0, "{done}");
    let requests = frozen.archive.requests();
    assert_eq!(requests.len(), packs, "each once: {requests:?}");
    for request in requests {
        assert!(request.contains("<Days>3</Days>") && request.contains("<Tier>Bulk</Tier>"), "{request}");
    }
    let source = frozen.world.source();
    let found = tree::differences(&source, &to.join(source.strip_prefix("/").unwrap()));
    assert!(found.is_empty(), "{}", found.join("\n"));

    let again = frozen.json(0, &bulk);
    assert_eq!(again["thaw"]["ready"].as_u64(), Some(packs as u64), "it stays readable for some days: {again}");
}

#[test]
#[ignore = "needs minio"]
fn a_drill_of_what_is_frozen_has_not_run_and_with_thaw_the_waiting_is_part_of_its_time() {
    let frozen = Frozen::new();
    let drilled = frozen.json(4, &["drill"]);
    assert_eq!(drilled["verdict"], "not_run", "{drilled}");
    assert!(drilled["reason"].as_str().unwrap().starts_with("thaw: "), "{drilled}");
    assert!(frozen.archive.requests().is_empty());

    let drilled = frozen.json(0, &["drill", "--thaw"]);
    assert_eq!((&drilled["verdict"], &drilled["proven"]), (&"passed".into(), &true.into()), "{drilled}");
    let stages = drilled["stages"].as_array().unwrap();
    let thaw = stages.iter().find(|stage| stage["name"] == "thaw").unwrap();
    let waited = thaw["duration_ms"].as_f64().unwrap() / 1_000.0;
    assert!(waited >= 1.0, "{drilled}");
    assert!(drilled["technical_seconds"].as_f64().unwrap() > waited, "{drilled}");
    assert_eq!(frozen.archive.requests().len(), frozen.archive.objects());
}

#[test]
#[ignore = "needs minio"]
fn a_database_in_an_archive_comes_out_with_its_manifest() {
    let (world, server) = (World::new(), Server::minio());
    let archive = Archive::start(([127, 0, 0, 1], server.port).into());
    let place = server.place("p").replace(&format!("127.0.0.1:{}", server.port), &archive.address.to_string());
    let frozen = Frozen { place: format!("{place}&storage_class=REDUCED_REDUNDANCY"), world, server, archive };
    let (source, to) = (frozen.world.path().join("app.db"), frozen.world.path().join("back.db"));
    let database = rusqlite::Connection::open(&source).unwrap();
    database.execute_batch("create table t(a); insert into t values (1), (2)").unwrap();
    drop(database);
    let of = |path: &std::path::Path| format!("sqlite:{}", path.display());
    frozen.run(&["init"]).succeeds();
    frozen.run(&["create", &of(&source)]).succeeds();
    frozen.archive.freeze();
    // What is known of packs on this machine would hide it.
    let drilled = frozen.json(4, &["--no-cache", "drill"]);
    assert_eq!((&drilled["verdict"], &drilled["recorded"]), (&"not_run".into(), &true.into()), "{drilled}");
    assert!(drilled["reason"].as_str().unwrap().starts_with("thaw: "), "{drilled}");
    let refused = frozen.run(&["--no-cache", "restore", "latest", "--to", &of(&to)]).ends_with(1);
    assert!(refused.err.contains("--thaw") && !refused.err.contains("repair"), "{}", refused.err);
    // It ends at the manifest, and tells of everything all the same.
    let packs = frozen.archive.objects();
    let counted = format!(
        "{packs} of {} that it needs: data/",
        if packs == 1 { String::from("1 pack") } else { format!("{packs} packs") }
    );
    for word in ["/p/data/", "frozen", counted.as_str()] {
        assert!(refused.err.contains(word), "{word}: {}", refused.err);
    }
    assert!(refused.err.trim_end().lines().count() <= 2, "{}", refused.err);
    let looked = frozen.json(0, &["--no-cache", "restore", "latest", "--to", &of(&to), "--thaw", "--dry-run"]);
    assert!(!looked["thaw"]["frozen"].as_array().unwrap().is_empty(), "{looked}");
    assert!(frozen.archive.requests().is_empty(), "nothing was asked for yet");

    let drilled = frozen.json(0, &["--no-cache", "drill", "--thaw"]);
    assert_eq!((&drilled["verdict"], &drilled["level"]), (&"passed".into(), &4.into()), "{drilled}");
    assert!(!frozen.archive.requests().is_empty());
    frozen.archive.freeze();
    frozen.run(&["--no-cache", "restore", "latest", "--to", &of(&to), "--thaw"]).succeeds();
    let back = rusqlite::Connection::open(&to).unwrap();
    assert_eq!(back.query_row("select count(*) from t", [], |row| row.get::<_, i64>(0)), Ok(2));
}

#[test]
fn what_nobody_can_thaw_is_refused_at_once() {
    let world = World::with_snapshot();
    for arguments in [&["restore", "latest", "--to", "out", "--thaw"][..], &["drill", "--thaw"]] {
        let refused = world.run(arguments).ends_with(2);
        assert!(refused.err.contains("leave out --thaw"), "{}", refused.err);
    }
    world.run(["restore", "latest", "--to", "out", "--thaw-days", "3"]).ends_with(2);
}
