//! Backups with credentials that can neither delete nor replace.

use std::fs;

use crate::driver::World;
use crate::run;
use crate::servers::signed::s3;
use crate::servers::{BUCKET, Server};

#[test]
#[ignore = "needs minio"]
fn credentials_that_can_only_add_are_enough_for_a_backup_and_nothing_is_replaced() {
    let server = Server::minio();
    let versioning = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    let url = server.url(&format!("{BUCKET}?versioning"));
    assert_eq!(s3(&server.keys(), "PUT", &url, &[], versioning).status, 200);
    let world = World::new();
    let place = server.place("p");
    run(&world, &place, server.variables(), &["init"]).succeeds();
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[
        {{"Effect":"Allow","Action":["s3:ListBucket"],"Resource":["arn:aws:s3:::{BUCKET}"]}},
        {{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject"],"Resource":["arn:aws:s3:::{BUCKET}/p/*"]}}]}}"#
    );
    let adder = server.keys().restricted(&server.endpoint(), &policy);
    let source = world.source();
    for round in 0..3 {
        fs::write(source.join("new"), format!("{round}")).unwrap();
        run(&world, &place, adder.variables(), &["--no-lock", "create", source.to_str().unwrap()]).succeeds();
    }
    run(&world, &place, adder.variables(), &["--no-lock", "check", "--read-data"]).succeeds();
    let listed = s3(&server.keys(), "GET", &server.url(&format!("{BUCKET}?versions")), &[], "").body;
    let count = |element: &str| listed.matches(element).count();
    assert_eq!(count("<Version>"), count("<IsLatest>true</IsLatest>"), "something was replaced: {listed}");
    assert_eq!(count("<DeleteMarker>"), 0, "{listed}");
}
