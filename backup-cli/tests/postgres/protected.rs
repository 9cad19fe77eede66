//! Passwords and TLS: what protects is used as it was asked for, and no secret is told.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use backup_core::testing::free_port;

use crate::driver::Ran;
use crate::server::Server;

const PASSWORD: &str = "p@ss/w:o\\rd";
const ENCODED: &str = "p%40ss%2Fw%3Ao%5Crd";

/// A server that wants a password of everybody but its owner.
fn guarded(settings: &[&str]) -> Server {
    let mut server = Server::start(15, &[]);
    server.database("app", "CREATE TABLE t (n integer)");
    server.sql("app", &format!("CREATE ROLE me LOGIN SUPERUSER PASSWORD E'{}'", PASSWORD.replace('\\', "\\\\")));
    let rules = "local all postgres trust\nlocal all all scram-sha-256\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
    fs::write(server.folder().join("data/pg_hba.conf"), rules).unwrap();
    server.restart(settings);
    server
}

fn url(server: &Server, user: &str) -> String {
    format!("postgres://{user}@/app?host={}", server.folder().display())
}

#[test]
#[ignore = "needs postgres-15"]
fn a_password_comes_from_the_url_the_environment_or_pgpass_and_is_told_nowhere() {
    let server = guarded(&[]);
    let home = server.world.path();
    let create = |user: &str| {
        let mut command = server.backup();
        command.env("HOME", home).args(["create", "-v", "--json", &url(&server, user)]);
        command
    };
    let ran = Ran::of(&create("me").output().unwrap());
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("PGPASSWORD"), "{}", ran.err);
    let wrong = Ran::of(&create("me:wr0ng").output().unwrap());
    assert_eq!(wrong.code, 1);
    assert!(wrong.err.contains("password authentication failed") && !wrong.err.contains("wr0ng"), "{}", wrong.err);

    let mut ran = vec![Ran::of(&create(&format!("me:{ENCODED}")).output().unwrap())];
    ran.push(Ran::of(&create("me").env("PGPASSWORD", PASSWORD).output().unwrap()));
    let line =
        format!("{}:*:app:me:{}\n", server.folder().display(), PASSWORD.replace('\\', "\\\\").replace(':', "\\:"));
    fs::write(home.join(".pgpass"), line).unwrap();
    fs::set_permissions(home.join(".pgpass"), fs::Permissions::from_mode(0o600)).unwrap();
    ran.push(Ran::of(&create("me").output().unwrap()));
    fs::set_permissions(home.join(".pgpass"), fs::Permissions::from_mode(0o644)).unwrap();
    let open = Ran::of(&create("me").output().unwrap());
    assert!(open.code == 1 && open.err.contains("chmod 600"), "{}", open.err);
    // Once, however many databases there are.
    let two = Ran::of(&create("me").arg(url(&server, "me").replace("/app?", "/postgres?")).output().unwrap());
    assert_eq!((two.code, two.err.matches("chmod 600").count()), (1, 1), "{}", two.err);
    let both = create("me").arg(url(&server, "me").replace("/app?", "/postgres?")).env("PGPASSWORD", PASSWORD).output();
    ran.push(Ran::of(&both.unwrap()));
    assert_eq!(ran.last().unwrap().err.matches("chmod 600").count(), 1);

    let manifest =
        server.world.run(["cat", "latest", "--source", "/postgres/app", "/postgres/app/manifest.json"]).succeeds();
    let snapshots = server.world.run(["snapshots", "--json"]).succeeds();
    for ran in ran.into_iter().map(Ran::succeeds).chain([manifest, snapshots]) {
        assert!(![PASSWORD, ENCODED].iter().any(|secret| ran.out.contains(secret) || ran.err.contains(secret)));
    }
}

/// A key and a certificate for `localhost`, and the authority that vouches for it.
fn certificates(folder: &Path) {
    let run = |arguments: &[&str]| {
        let ended = Command::new("openssl").args(arguments).current_dir(folder).output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    };
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    run(&[&["req", "-x509", "-subj", "/CN=authority", "-days", "9", "-keyout", "ca.key", "-out", "ca.crt"], &key[..]]
        .concat());
    run(&[&["req", "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr"], &key[..]].concat());
    fs::write(folder.join("ext"), "subjectAltName=DNS:localhost\n").unwrap();
    run(&[
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "9",
        "-extfile",
        "ext",
        "-out",
        "server.crt",
    ]);
}

#[test]
#[ignore = "needs postgres-15"]
fn tls_is_what_sslmode_says() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let port = free_port().to_string();
    let mut server = guarded(&[]);
    for name in ["server.key", "server.crt"] {
        let path = server.folder().join("data").join(name);
        fs::copy(folder.path().join(name), &path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let owner = fs::metadata(server.folder()).unwrap();
        use std::os::unix::fs::MetadataExt as _;
        std::os::unix::fs::chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    server.restart(&["ssl=on", "listen_addresses=127.0.0.1", &format!("port={port}")]);
    let authority = folder.path().join("ca.crt");
    let with = format!("&sslrootcert={}", authority.display());
    for (host, mode, authority, works) in [
        ("localhost", "disable", "", false),
        ("localhost", "prefer", "", true),
        ("127.0.0.1", "require", "", true),
        ("127.0.0.1", "verify-ca", with.as_str(), true),
        ("127.0.0.1", "verify-full", with.as_str(), false),
        ("localhost", "verify-full", with.as_str(), true),
        ("localhost", "verify-full", "", false),
        ("localhost", "verify-ca", "&sslrootcert=system", false),
        ("localhost", "nonsense", "", false),
    ] {
        let url = format!("postgres://me:{ENCODED}@{host}:{port}/app?sslmode={mode}{authority}");
        let ran = Ran::of(&server.backup().args(["create", "--quiet", &url]).output().unwrap());
        assert_eq!(ran.code == 0, works, "{host} {mode} {authority}: {}", ran.err);
        assert!(!ran.err.contains(PASSWORD) && !ran.err.contains(ENCODED), "{}", ran.err);
    }
}
