//! A program that backs up its own data and gets it back, in forty lines.
//!
//! Run it with `cargo run --example embed`. It works in a temporary folder and leaves nothing behind.
#![expect(clippy::print_stdout, reason = "an example shows what it did")]

use std::error::Error;
use std::sync::Arc;

use backup_core::clock::SystemClock;
use backup_core::model::SnapshotPath;
use backup_core::observe::Silent;
use backup_core::pipeline::{BackupOptions, RestoreOptions, backup, restore};
use backup_core::repository::{CreateOptions, Identity, Passphrase, Repository, SnapshotQuery};
use backup_core::{Result, bridge};
use backup_sources::files::{FilesOptions, FilesSource, FilesTarget};
use backup_store::{Access, Place};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let scratch = tempfile::tempdir()?;
    let (data, copy) = (scratch.path().join("data"), scratch.path().join("copy"));
    let place = Place::parse(scratch.path().join("repository"))?; // or /mnt/backups/repository
    std::fs::create_dir(&data)?;
    std::fs::write(data.join("orders.csv"), "id,total\n1,9.90\n")?;

    let mut source = FilesSource::new(vec![data.clone()], &FilesOptions::default())?;
    let target = FilesTarget::new(copy.clone(), Default::default());
    // What a verb does, it does on a thread of its own: this program's runtime goes on serving meanwhile.
    bridge::run(move |cancel| {
        let identity = Identity { hostname: "shop-1".into(), username: "shop".into(), uid: 0, gid: 0, pid: 0 };
        let identity = Identity { pid: i32::try_from(std::process::id()).unwrap_or(0), ..identity };
        let (passphrase, options) = (Passphrase::new("keep a second copy of me"), CreateOptions::default());
        let repository = Repository::create(
            place.create(&Access::default())?,
            &passphrase,
            &options,
            identity,
            Arc::new(SystemClock),
        )?;
        let saved = backup(&repository, &mut source, &BackupOptions::default(), cancel, &Silent)?;
        println!("saved {} bytes", saved.summary.total_bytes_processed);

        for (id, snapshot) in repository.snapshots()? {
            println!("snapshot {id:.8} of {} at {}", snapshot.paths.join(" "), snapshot.time);
        }
        let (_, snapshot) = repository.find_snapshot("latest", &SnapshotQuery::default())?;
        let wanted = RestoreOptions { path: Some(SnapshotPath::of_file(&data)), verify: true, ..Default::default() };
        let restored = restore(&repository, &snapshot, &target, &wanted, cancel, &Silent)?;
        println!("restored {} files, {} lost", restored.files, restored.losses);
        Ok(())
    })
    .await?;
    assert_eq!(std::fs::read_to_string(copy.join("orders.csv"))?, "id,total\n1,9.90\n");
    Ok(())
}
