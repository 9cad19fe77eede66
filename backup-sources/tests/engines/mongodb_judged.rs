//! MongoDB with its own programs as judges: mongorestore takes what we dumped, and we take what mongodump did.

use std::fs;
use std::path::Path;
use std::process::Command;

use backup_core::contracts::Report;
use backup_sources::databases::differences;
use backup_sources::databases::manifest::Manifest;
use backup_sources::databases::mongodb::archive::{ArchiveWriter, Contents};
use backup_sources::databases::mongodb::{LoadOptions, MongodbTarget};
use backup_sources::databases::url::Engine;
use backup_sources::files::{FilesOptions, FilesSource};
use mongodb::bson::doc;
use tempfile::tempdir;

use crate::mongodb::{back_up, beforehand, extracted, fill, shown};
use crate::mongodb_server::{Kind, Server};
use crate::repository::{Repo, words};

fn as_archive(repo: &Repo) -> Vec<u8> {
    let sizes: Vec<_> = repo
        .names("/mongodb/app")
        .into_iter()
        .map(|name| (name.clone(), repo.file(&format!("/mongodb/app/{name}")).len() as u64))
        .collect();
    let contents = Contents::of(&repo.manifest("/mongodb/app"), &sizes, &beforehand(repo, "/mongodb/app")).unwrap();
    let files: Vec<String> = contents.files().map(str::to_owned).collect();
    let mut archive = ArchiveWriter::begin(Vec::new(), contents).unwrap();
    for file in files {
        repo.file(&format!("/mongodb/app/{file}")).chunks(100_000).for_each(|piece| archive.write(piece).unwrap());
        archive.end_file().unwrap();
    }
    archive.finish().unwrap()
}

#[test]
#[ignore = "needs ferretdb, mongo-tools"]
fn mongorestore_restores_what_we_dumped_from_a_folder_and_from_an_archive() {
    for kind in Kind::all() {
        let server = Server::new(kind);
        fill(&server, "app");
        let repo = Repo::new();
        let report = back_up(&repo, &server, "app");
        let folder = extracted(&repo);
        let path = folder.path().display().to_string();
        // FerretDB refuses an option that mongorestore gives every index; there the documents are judged.
        let mut expected = report.expectations.clone();
        expected.retain(|it| kind.is_real() || it.kind != "index" || it.object.ends_with("._id_"));
        let options: &[&str] = if kind.is_real() { &[] } else { &["--noIndexRestore"] };
        server.tool("mongorestore", &[options, &["--db=by_folder", "--dir", &path]].concat());
        assert_eq!(differences(&expected, &shown(&server, "by_folder")), Vec::<String>::new());

        let archive = folder.path().join("app.archive");
        fs::write(&archive, as_archive(&repo)).unwrap();
        let option = format!("--archive={}", archive.display());
        let renamed = [option.as_str(), "--nsFrom=app.*", "--nsTo=by_archive.*"];
        server.tool("mongorestore", &[options, &renamed].concat());
        assert_eq!(differences(&expected, &shown(&server, "by_archive")), Vec::<String>::new());
    }
}

#[test]
#[ignore = "needs ferretdb, mongo-tools"]
fn mongorestore_notices_an_archive_of_ours_that_was_damaged() {
    let server = Server::new(Kind::Ferret);
    server.insert("app", "a", &[doc! {"_id": 1, "text": "something"}]);
    let repo = Repo::new();
    back_up(&repo, &server, "app");
    let mut archive = as_archive(&repo);
    let at = archive.windows(9).rposition(|bytes| bytes == b"something").unwrap();
    archive[at] ^= 1;
    let folder = tempdir().unwrap();
    let path = folder.path().join("archive");
    fs::write(&path, archive).unwrap();
    let tools = std::env::var_os("BACKUP_TEST_MONGO_TOOLS").expect("scripts/tools mongo-tools says where it is");
    let output = Command::new(Path::new(&tools).with_file_name("mongorestore"))
        .arg(format!("--uri=mongodb://127.0.0.1:{}/", server.port))
        .arg(format!("--archive={}", path.display()))
        .args(["--nsFrom=app.*", "--nsTo=other.*"])
        .output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.to_lowercase().contains("crc"), "{said}");
}

#[test]
#[ignore = "needs ferretdb, mongo-tools"]
fn what_mongodump_dumped_is_restored_by_us() {
    for kind in Kind::all() {
        let server = Server::new(kind);
        fill(&server, "app");
        let folder = tempdir().unwrap();
        let out = folder.path().display().to_string();
        server.tool("mongodump", &["--db=app", "--out", &out]);
        let repo = Repo::new();
        let mut files = FilesSource::new(vec![folder.path().to_owned()], &FilesOptions::default()).unwrap();
        repo.back_up(&mut files).unwrap();
        let dump = format!("{out}/app");
        let manifest = Manifest::new(Engine::Mongodb, "app", Report::default());
        let (settings, known) = (server.settings("again"), beforehand(&repo, &dump));
        let target = MongodbTarget::connect(&settings, "again", &known, manifest, LoadOptions::default()).unwrap();
        assert_eq!(repo.restore(&dump, &target).map_err(|error| words(&error)).unwrap().losses, 0);
        assert_eq!(differences(&shown(&server, "app"), &shown(&server, "again")), Vec::<String>::new());

        // And what it writes is what we write.
        let repo = Repo::new();
        back_up(&repo, &server, "app");
        let ours = extracted(&repo);
        let name = "users.bson";
        assert_eq!(fs::read(ours.path().join(name)).unwrap(), fs::read(Path::new(&dump).join(name)).unwrap());
        let json = |folder: &Path| -> serde_json::Value {
            serde_json::from_slice(&fs::read(folder.join("users.metadata.json")).unwrap()).unwrap()
        };
        assert_eq!(json(ours.path()), json(Path::new(&dump)));
    }
}
