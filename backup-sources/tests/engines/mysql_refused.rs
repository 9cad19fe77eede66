//! What is refused of MariaDB and MySQL before anything is written: a way that is not encrypted, programs that are too old, a
//! server that does not take the longest row, a view that does not work.

use backup_core::testing::write_program;
use backup_sources::databases::mysql::{Encryption, Existing, MysqlSettings, MysqlTarget, observe};
use tempfile::tempdir;

use crate::mysql_server::{Flavour, Server, source};
use crate::repository::{Repo, words};

fn app(flavour: &Flavour, options: &[&str]) -> Server {
    let server = Server::with(flavour, options);
    server.sql("mysql", "CREATE DATABASE app");
    server.sql("app", "CREATE TABLE t (a INT); INSERT INTO t VALUES (1), (2)");
    server
}

#[test]
#[ignore = "needs mariadbd"]
fn a_connection_that_is_not_encrypted_is_refused_where_that_was_required() {
    for flavour in Flavour::all() {
        // MySQL has no other word for it any more.
        let plain = app(&flavour, &[if flavour.is_mariadb { "--skip-ssl" } else { "--tls-version=" }]);
        let over = |server: &Server, encryption| MysqlSettings { encryption, ..server.settings("app") };
        for encryption in [Encryption::Required, Encryption::Verified(None)] {
            let settings = over(&plain, encryption);
            let told = source(&settings).unwrap_err();
            assert!(told.contains("encrypted") || told.contains("SSL") || told.contains("TLS"), "{told}");
            assert!(MysqlTarget::connect(&settings, Existing::Refuse, None).is_err());
        }
        let folder = tempdir().unwrap();
        crate::redis::certificates(folder.path());
        let text = |name: &str| folder.path().join(name).display().to_string();
        let options = [("ca", "ca.pem"), ("cert", "server.pem"), ("key", "server.key")];
        let options = options.map(|(option, name)| format!("--ssl-{option}={}", text(name)));
        let server = app(&flavour, &options.each_ref().map(String::as_str));
        Repo::new().back_up(&mut source(&over(&server, Encryption::Required)).unwrap()).unwrap();
        MysqlTarget::connect(&over(&server, Encryption::Required), Existing::Refuse, None).unwrap();
    }
}

#[test]
#[ignore = "needs mariadbd"]
fn a_row_that_the_server_does_not_take_back_is_told_and_refused_before_anything_is_loaded() {
    for flavour in Flavour::all() {
        let server = app(&flavour, &["--max-allowed-packet=16M"]);
        server.sql("app", "CREATE TABLE big (b LONGBLOB); INSERT INTO big VALUES (REPEAT('x', 10000000))");
        let repo = Repo::new();
        let report = repo.back_up(&mut server.source("app")).unwrap().report;
        let [warning] = &report.warnings[..] else { panic!("{:?}", report.warnings) };
        assert!(warning.contains("a row of big") && warning.contains("max_allowed_packet is 16777216"), "{warning}");
        let manifest = repo.manifest("/mysql/app");
        assert!(manifest.details["longest_statement_bytes"].as_u64().unwrap() > 20_000_000);

        let connect = |manifest| MysqlTarget::connect(&server.settings("again"), Existing::Refuse, manifest);
        let told = words(&connect(Some(&manifest)).unwrap_err());
        assert!(told.contains("SET GLOBAL max_allowed_packet = 20971520"), "{told}");
        assert!(!server.sql("mysql", "SHOW DATABASES").contains("again"), "nothing was made");
        // A manifest of before does not tell it.
        let told = words(&repo.restore("/mysql/app", &connect(None).unwrap()).unwrap_err());
        assert!(told.contains("max_allowed_packet"), "{told}");
        server.sql("mysql", "DROP DATABASE again; SET GLOBAL max_allowed_packet = 20971520");
        repo.restore("/mysql/app", &connect(Some(&manifest)).unwrap()).map_err(|error| words(&error)).unwrap();
        assert_eq!(observe(&server.settings("again")).unwrap(), report.expectations);
    }
}

#[test]
#[ignore = "needs mariadbd"]
fn a_dump_program_that_is_older_than_the_server_is_refused_with_both_versions() {
    for flavour in Flavour::all() {
        let server = app(&flavour, &[]);
        let folder = tempdir().unwrap();
        let (name, said) = match flavour.is_mariadb {
            true => ("mariadb-dump", "mariadb-dump  Ver 10.19 Distrib 10.3.39-MariaDB, for debian-linux-gnu (x86_64)"),
            false => ("mysqldump", "mysqldump  Ver 5.7.44 for Linux on x86_64 (MySQL Community Server - GPL)"),
        };
        let program = folder.path().join(name);
        write_program(&program, &format!("#!/bin/sh\necho '{said}'\n"));
        for client in ["mariadb", "mysql"].map(|name| flavour.programs().join(name)).iter().filter(|path| path.exists())
        {
            std::os::unix::fs::symlink(client, folder.path().join(client.file_name().unwrap())).unwrap();
        }
        let settings = MysqlSettings { programs: vec![folder.path().to_owned()], ..server.settings("app") };
        let told = source(&settings).unwrap_err();
        let version = server.sql("app", "SELECT @@version");
        let older = if flavour.is_mariadb { "10.3.39" } else { "5.7.44" };
        assert!(told.contains(version.trim()) && told.contains(older) && told.contains("--mysql-bin"), "{told}");
        // Behind it there is one that fits.
        let programs = vec![folder.path().to_owned(), flavour.programs()];
        Repo::new().back_up(&mut source(&MysqlSettings { programs, ..settings }).unwrap()).unwrap();
    }
}

#[test]
#[ignore = "needs mariadbd"]
fn a_view_that_does_not_work_fails_the_backup_and_is_named() {
    for flavour in Flavour::all() {
        let server = app(&flavour, &[]);
        server.sql("app", "CREATE TABLE gone (a INT); CREATE VIEW broken AS SELECT a FROM gone; DROP TABLE gone");
        let told = Repo::new().fail_to_back_up(&mut server.source("app"));
        assert!(told.contains("broken") && told.contains("repair or drop that view"), "{told}");
    }
}
