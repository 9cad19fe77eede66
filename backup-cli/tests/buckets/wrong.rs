//! What is wrong with a bucket, its credentials or its name is said in two lines, with the right exit code, and nothing
//! is half-made.

use crate::driver::{Ran, World};
use crate::servers::signed::{Keys, s3};
use crate::servers::{BUCKET, Server};
use crate::silent::Silent;
use crate::{command, run};

/// Insists on an exit code, on two lines of error at most, and on words in them.
#[track_caller]
fn says(ran: Ran, code: i32, words: &[&str]) {
    let ran = ran.ends_with(code);
    assert!(ran.err.trim_end().lines().count() <= 2, "{}", ran.err);
    for word in words {
        assert!(ran.err.contains(word), "{word:?} is not in: {}", ran.err);
    }
    assert!(!ran.err.contains("hunter2"), "{}", ran.err);
}

#[test]
fn what_only_buckets_have_says_which() {
    let world = World::new();
    let place = "sftp://host/x";
    for (verb, word) in [
        (&["protect", "--days", "3"][..], "object lock"),
        (&["repair", "undelete", "--at", "2026-01-01"], "that keep versions"),
    ] {
        says_both(run(&world, place, Vec::new(), verb), 2, &["sftp://host/x is no bucket", word]);
    }
}

/// The emulator signs, lists and answers as Azure does, and has neither of both.
#[test]
#[ignore = "needs azurite"]
fn a_container_that_keeps_nothing_of_the_past_and_nobody_from_deleting_says_so() {
    let (server, world) = (Server::azurite(), World::new());
    let place = server.place("p");
    run(&world, &place, server.variables(), &["init"]).succeeds();
    let source = world.source();
    run(&world, &place, server.variables(), &["create", source.to_str().unwrap()]).succeeds();
    let undelete = ["repair", "undelete", "--at", "2026-01-01"];
    let signed = server.signed_variables("rcwdl", 2999);
    for (variables, kept) in [(server.variables(), "the account keeps no versions"), (signed, "no blob has a version")]
    {
        says_both(run(&world, &place, variables, &undelete), 1, &[kept, "versioning or soft delete"]);
    }
    let protect = run(&world, &place, server.variables(), &["protect", "--days", "3"]);
    says_both(protect, 1, &["no version-level immutability", "azure.md"]);
}

fn keys(id: &str, secret: &str) -> Vec<(String, String)> {
    Keys { id: id.to_owned(), secret: secret.to_owned(), token: None }.variables()
}

#[test]
fn a_place_that_cannot_be_is_refused_before_anything_is_asked() {
    let world = World::new();
    for (place, words) in [
        ("s3://user:hunter2@bucket/x", "credentials do not belong into a place"),
        ("s3://bucket/x?secret_access_key=hunter2", "does not belong into a place"),
        ("s3://bucket/x?regoin=y", "known are: endpoint, region"),
        ("s3:localhost/bucket", "s3://BUCKET/PREFIX"),
        ("az://container/x", "AZURE_STORAGE_ACCOUNT"),
        ("s3://bucket?profile=nobody", "no profile nobody"),
        ("b2:bucket", "not supported"),
    ] {
        says(run(&world, place, Vec::new(), &["snapshots"]), 2, &[words]);
    }
    let half = vec![(String::from("AWS_ACCESS_KEY_ID"), String::from("x"))];
    says(run(&world, "s3://bucket", half, &["snapshots"]), 2, &["AWS_SECRET_ACCESS_KEY is not"]);
}

#[test]
fn a_server_that_is_not_there_is_an_error_of_two_lines() {
    let world = World::new();
    let place = "s3://bucket/x?endpoint=http://127.0.0.1:1";
    says(
        run(&world, place, keys("i", "hunter2"), &["--quiet", "snapshots"]),
        1,
        &["127.0.0.1 cannot be reached", "endpoint"],
    );
}

/// What is wrong, with the name of the variable or file, and what to do: two lines, and nothing of what stands there.
#[track_caller]
fn says_both(ran: Ran, code: i32, words: &[&str]) {
    let Ran { err, .. } = &ran;
    assert!(err.lines().count() == 2 && err.lines().nth(1).unwrap().starts_with("  try: "), "{err}");
    says(ran, code, words);
}

fn named(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn credentials_of_azure_that_cannot_be_any_are_named_and_not_shown() {
    let world = World::new();
    let place = "az://c/x?account=acme&endpoint=http://127.0.0.1:1";
    for (variable, value, words) in [
        ("AZURE_STORAGE_KEY", "hunter2", &["AZURE_STORAGE_KEY", "not base 64", "keys list --account-name acme"][..]),
        ("AZURE_STORAGE_ACCOUNT_KEY", "hunter2!", &["AZURE_STORAGE_ACCOUNT_KEY", "not base 64"]),
        ("AZURE_STORAGE_SAS_TOKEN", "hunter2", &["AZURE_STORAGE_SAS_TOKEN", "no shared access signature"]),
        ("AZURE_STORAGE_SAS_TOKEN", "sv=2&se=hunter2", &["no shared access signature", "generate-sas"]),
        (
            "AZURE_FEDERATED_TOKEN_FILE",
            "/none",
            &["AZURE_FEDERATED_TOKEN_FILE=/none", "cannot be read", "No such file"],
        ),
    ] {
        says_both(run(&world, place, named(&[(variable, value)]), &["snapshots"]), 2, words);
    }
    let toml = world.path().join("backup.toml");
    let written = format!("[repositories.far]\nurl = \"{place}\"\naccount_key = \"hunter2\"\n");
    std::fs::write(&toml, written).unwrap();
    let configured = run(&world, "far", Vec::new(), &["-c", toml.to_str().unwrap(), "snapshots"]);
    says_both(configured, 2, &["account_key", "not base 64"]);
}

#[test]
fn a_file_of_googles_credentials_that_holds_none_is_named_and_not_shown() {
    let world = World::new();
    let file = world.path().join("google.json");
    let place = "gs://b/x?endpoint=http://127.0.0.1:1";
    let of = |path: &str, words: &[&str]| {
        let named = named(&[("GOOGLE_APPLICATION_CREDENTIALS", path)]);
        let name = format!("GOOGLE_APPLICATION_CREDENTIALS={path}");
        says_both(run(&world, place, named, &["snapshots"]), 2, &[&[name.as_str()], words].concat());
    };
    of("/none.json", &["cannot be read", "No such file", "check the path"]);
    of("/tmp", &["cannot be read", "Is a directory"]);
    for (text, word) in [
        ("", "no JSON from line 1, column 0"),
        ("{\n  hunter2", "no JSON from line 2"),
        ("[\"hunter2\"]", "no text as type"),
        ("{}", "no text as type"),
        (r#"{"type": ""}"#, "its type is empty"),
        (r#"{"type": "hunter2"}"#, "a kind that is not known"),
        (r#"{"type": "impersonated_service_account"}"#, "impersonated_service_account, which is not followed"),
        (
            r#"{"type": "service_account", "client_email": "a@b", "private_key": "hunter2"}"#,
            "no text as private_key_id",
        ),
        (r#"{"client_email": "a@b", "private_key": "hunter2", "private_key_id": 5}"#, "no text as private_key_id"),
        (
            r#"{"type": "service_account", "client_email": "a@b", "private_key_id": "x", "private_key": "hunter2"}"#,
            "private_key is no private key in PEM",
        ),
        (r#"{"type": "authorized_user", "client_id": "x", "client_secret": "hunter2"}"#, "no text as refresh_token"),
        (r#"{"type": "external_account", "audience": "hunter2"}"#, "no text as subject_token_type"),
        (
            r#"{"type": "external_account", "audience": "a", "subject_token_type": "t", "token_url": "https://a",
                "credential_source": "hunter2"}"#,
            "credential_source is not understood",
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        of(file.to_str().unwrap(), &[word]);
    }
}

#[test]
fn a_profile_of_amazons_that_gives_no_credentials_is_named_and_what_stands_in_it_is_not_shown() {
    let world = World::new();
    let config = world.path().join("config");
    let text = "[profile fails]\ncredential_process = sh -c 'exit 3' hunter2\n\
        [profile says]\ncredential_process = echo 'not logged in' >&2; false hunter2\n\
        [profile prints]\ncredential_process = echo '\"hunter2\"'\n\
        [profile half]\naws_access_key_id = hunter2\n\
        [profile token]\nrole_arn = arn:r\nweb_identity_token_file = /none\n";
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let place = "s3://b/x?endpoint=http://127.0.0.1:1";
    let of = |profile: &str, code, words: &[&str]| {
        let named = named(&[("AWS_CONFIG_FILE", config), ("AWS_PROFILE", profile)]);
        let ran = Ran::of(
            &command(&world, place, named)
                .env("PATH", "/usr/bin:/bin")
                .args(["--quiet", "snapshots"])
                .output()
                .unwrap(),
        );
        says_both(ran, code, words);
    };
    let credentials = world.path().join(".aws/credentials");
    of("nobody", 2, &["AWS_PROFILE=nobody", config, credentials.to_str().unwrap(), "list-profiles"]);
    of("fails", 1, &["sh, the credential_process of the profile fails: exit status: 3\n"]);
    of("says", 1, &["the profile says: exit status: 1: not logged in"]);
    of("prints", 1, &["the profile prints", "not understood", "AccessKeyId"]);
    of("half", 2, &["the profile half has aws_access_key_id and no aws_secret_access_key", "docs/manual/s3.md"]);
    of("token", 2, &["/none", "web_identity_token_file of the profile token", "No such file"]);
    let token = named(&[("AWS_WEB_IDENTITY_TOKEN_FILE", "/none"), ("AWS_ROLE_ARN", "arn:r")]);
    says_both(run(&world, place, token, &["snapshots"]), 2, &["AWS_WEB_IDENTITY_TOKEN_FILE=/none cannot be read"]);
    let asked = run(&world, &format!("{place}&profile=nobody"), Vec::new(), &["snapshots"]);
    says_both(asked, 2, &["profile=nobody", "there is no profile nobody in"]);
    let half = named(&[("AWS_ACCESS_KEY_ID", "hunter2")]);
    says_both(
        run(&world, place, half, &["snapshots"]),
        2,
        &["AWS_ACCESS_KEY_ID is set, and AWS_SECRET_ACCESS_KEY is not"],
    );
}

#[test]
fn a_file_of_certificates_that_is_none_says_what_it_has_to_be() {
    let world = World::new();
    let file = world.path().join("ca.pem");
    std::fs::write(&file, "none").unwrap();
    for (path, word) in [("/none", "No such file"), (file.to_str().unwrap(), "no certificate in PEM form")] {
        let place = format!("s3://b/x?endpoint=https://127.0.0.1:1&ca_certificate={path}");
        says_both(run(&world, &place, keys("i", "hunter2"), &["snapshots"]), 1, &[path, word, "in PEM form that"]);
    }
}

#[test]
fn a_command_for_the_passphrase_that_fails_is_said_before_the_store_is_asked() {
    let place = "s3://b/x?endpoint=http://127.0.0.1:1";
    let mut variables = keys("i", "hunter2");
    variables.extend(named(&[("BACKUP_PASSWORD", ""), ("BACKUP_PASSWORD_COMMAND", "exit 3 # hunter2")]));
    let failed = run(&World::new(), place, variables, &["snapshots"]);
    says_both(failed, 2, &["password command failed: exit status: 3", "run it by hand"]);
}

#[test]
fn a_run_that_is_interrupted_waits_for_no_server_that_never_answered() {
    let world = World::new();
    let source = world.source();
    for arguments in [&["snapshots"][..], &["init"], &["create", source.to_str().unwrap()]] {
        let silent = Silent::start();
        let place = format!("s3://bucket/x?endpoint=http://{}", silent.address);
        silent.interrupts(command(&world, &place, keys("i", "x")).args(arguments));
    }
}

#[test]
#[ignore = "needs minio"]
fn what_the_server_refuses_is_said() {
    let server = Server::minio();
    let world = World::new();
    let place = server.place("p");
    let nowhere = place.replace(BUCKET, "no-such-bucket");
    let owner = || server.variables();
    says(run(&world, &nowhere, owner(), &["snapshots"]), 10, &["no repository at", "NoSuchBucket", "bucket"]);
    says(run(&world, &nowhere, owner(), &["init"]), 1, &["NoSuchBucket", "check the name of the bucket"]);
    for command in ["init", "snapshots"] {
        says(
            run(&world, &place, keys("owner", "hunter2"), &[command]),
            1,
            &["permission denied", "check the credentials"],
        );
        says(run(&world, &place, keys("hunter2", "x"), &[command]), 1, &["permission denied", "check the credentials"]);
    }
    let elsewhere = format!("{place}&region=mars-north-1");
    says(run(&world, &elsewhere, owner(), &["snapshots"]), 1, &["region=us-east-1"]);
    let listed = s3(&server.keys(), "GET", &server.url(&format!("{BUCKET}?list-type=2")), &[], "");
    assert!(listed.body.contains("<KeyCount>0</KeyCount>"), "something was half-made: {}", listed.body);

    // What somebody else keeps there.
    let foreign = server.url(&format!("{BUCKET}/p/data/holiday.jpg"));
    assert_eq!(s3(&server.keys(), "PUT", &foreign, &[], "x").status, 200);
    says(run(&world, &place, owner(), &["init"]), 1, &["already holds something"]);
    for (prefix, name) in [("q", "photos/2024/a.jpg"), ("r", "data/my%20holiday.jpg")] {
        let foreign = server.url(&format!("{BUCKET}/{prefix}/{name}"));
        assert_eq!(s3(&server.keys(), "PUT", &foreign, &[], "x").status, 200);
        let name = name.replace("%20", " ");
        says(run(&world, &server.place(prefix), owner(), &["init"]), 1, &["already holds something", &name]);
        let left = s3(&server.keys(), "GET", &server.url(&format!("{BUCKET}?list-type=2&prefix={prefix}%2F")), &[], "");
        assert!(left.body.contains("<KeyCount>1</KeyCount>"), "something was half-made: {}", left.body);
    }
    // A repository is told of as such, whatever lies beside it.
    run(&world, &server.place("s"), owner(), &["init"]).succeeds();
    assert_eq!(s3(&server.keys(), "PUT", &server.url(&format!("{BUCKET}/s/a.jpg")), &[], "x").status, 200);
    let again = run(&world, &server.place("s"), owner(), &["init"]).ends_with(1);
    assert!(!again.err.contains("a.jpg"), "{}", again.err);
}

#[test]
fn a_folder_with_something_else_in_it_is_refused_and_left_as_it_is() {
    let world = World::new();
    let source = world.source();
    says(
        run(&world, source.to_str().unwrap(), Vec::new(), &["init"]),
        1,
        &["already holds something", "is of no repository"],
    );
    assert!(!source.join("keys").exists() && !source.join("data").exists(), "something was half-made");
    let empty = world.path().join("disk");
    std::fs::create_dir_all(empty.join("lost+found")).unwrap();
    run(&world, empty.to_str().unwrap(), Vec::new(), &["init"]).succeeds();
}

#[test]
#[ignore = "needs minio"]
fn what_the_credentials_do_not_allow_is_named_and_costs_nothing() {
    let server = Server::minio();
    let world = World::new();
    let place = server.place("p");
    run(&world, &place, server.variables(), &["init"]).succeeds();
    let source = world.source();
    let source = source.to_str().unwrap();
    let allowing = |actions: &str| {
        let policy = format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":{actions},
            "Resource":["arn:aws:s3:::{BUCKET}","arn:aws:s3:::{BUCKET}/*"]}}]}}"#
        );
        server.keys().restricted(&server.endpoint(), &policy).variables()
    };
    let no_write = || allowing(r#"["s3:GetObject","s3:ListBucket"]"#);
    says(run(&world, &place, no_write(), &["create", source]), 1, &["may not write", "AccessDenied"]);
    run(&world, &place, no_write(), &["--no-lock", "snapshots"]).succeeds();
    let no_list = || allowing(r#"["s3:GetObject","s3:PutObject","s3:DeleteObject"]"#);
    says(run(&world, &place, no_list(), &["snapshots"]), 1, &["may not list"]);
    run(&world, &place, server.variables(), &["create", source]).succeeds();
    let no_delete = || allowing(r#"["s3:GetObject","s3:PutObject","s3:ListBucket"]"#);
    says(run(&world, &place, no_delete(), &["forget", "--keep-last", "1"]), 0, &[]);
    let snapshot = run(&world, &place, server.variables(), &["--json", "snapshots"]).succeeds().lines()[0]["snapshots"]
        [0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    says(run(&world, &place, no_delete(), &["forget", &snapshot]), 1, &["may not delete"]);
    run(&world, &place, server.variables(), &["unlock"]).succeeds();
    run(&world, &place, server.variables(), &["check", "--read-data"]).succeeds();
}
