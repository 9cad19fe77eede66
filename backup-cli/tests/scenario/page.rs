//! The status page in a browser: light and dark, wide and narrow, by keyboard alone.

use std::fs;

use serde_json::{Value, json};

use crate::browser::{Browser, ENTER, TAB};
use crate::driver::{Ran, World};
use crate::running::Daemon;

/// What has the focus: its element, its words, and whether it is seen to have it.
const FOCUSED: &str = "(e => [e.tagName, e.textContent.trim().slice(0, 40), \
    getComputedStyle(e).outlineStyle !== 'none' && parseFloat(getComputedStyle(e).outlineWidth) > 0])(document.activeElement)";

/// A daemon with a job that is well, one that misses its objective, and one that was never run.
fn shown(world: &World) -> Daemon {
    let path = world.path().display();
    let text = format!(
        "timezone = \"Europe/Paris\"\n[daemon]\nlisten = \"127.0.0.1:0\"\n\
        [repositories.local]\nurl = \"{path}/near\"\nsite = \"paris\"\nfailure_domain = \"nas\"\n\
        [repositories.offsite]\nurl = \"{path}/far\"\nmedia = \"tape\"\nsite = \"oslo\"\nfailure_domain = \"bunker\"\n\
        [defaults]\nsite = \"paris\"\nfailure_domain = \"server\"\nrepositories = [\"local\", \"offsite\"]\n\
        drill = {{ schedule = \"0 5 * * 0\" }}\n\
        [jobs.uploads]\nsource = \"{path}/source\"\nschedule = \"0 2 * * *\"\nobjectives = {{ rpo = \"26h\", rto = \"2h\" }}\n\
        [jobs.late]\nsource = \"{path}/source\"\nschedule = \"0 2 * * *\"\nobjectives = {{ rpo = \"1s\" }}\n\
        [jobs.a-job-with-a-long-name-that-was-never-run]\nsource = \"{path}/source\"\nobjectives = {{ rpo = \"1h\" }}\n"
    );
    fs::write(world.path().join("backup.toml"), text).unwrap();
    let command = |arguments: &[&str]| {
        let mut command = world.command();
        command.env_remove("BACKUP_REPO").env("HOME", world.path()).args(["-c", "backup.toml"]).args(arguments);
        command
    };
    let run = |arguments: &[&str]| Ran::of(&command(arguments).output().unwrap()).succeeds();
    run(&["--quiet", "init"]);
    for _ in 0..3 {
        run(&["--quiet", "run", "uploads", "late"]);
    }
    run(&["drill", "uploads"]);
    for name in ["local", "offsite"] {
        run(&["-r", name, "check", "--read-data"]);
    }
    Daemon::start(command(&["daemon"]))
}

#[test]
#[ignore = "needs chromedriver"]
fn the_page_is_shown_whole_in_the_light_and_the_dark_wide_and_narrow_and_used_by_keyboard() {
    let world = World::new();
    let daemon = shown(&world);
    let browser = Browser::start(world.path());
    let url = format!("http://{}/", daemon.address);
    let mut backgrounds = Vec::new();
    for (scheme, size) in [("light", (1280, 900)), ("dark", (1280, 900)), ("light", (360, 740)), ("dark", (360, 740))] {
        browser.open(&url, size, scheme);
        assert_eq!(browser.value("document.querySelectorAll('.job').length"), 3);
        let seen = browser.value("[innerWidth, document.documentElement.scrollWidth]");
        assert_eq!(seen[0], size.0, "the window has its size");
        assert!(seen[1].as_u64() <= seen[0].as_u64(), "nothing is wider than the window: {seen}");
        backgrounds.push(browser.value("getComputedStyle(document.body).backgroundColor"));
        keep(&format!("status-{scheme}-{}", size.0), &browser.picture());
    }
    assert!(backgrounds[0] == backgrounds[2] && backgrounds[1] == backgrounds[3], "{backgrounds:?}");
    assert_ne!(backgrounds[0], backgrounds[1], "the dark is another colour");
    assert!(browser.value("document.title").as_str().unwrap().starts_with("wrong · backups of "));
    assert!(browser.value("document.querySelector('.wrong').innerText").as_str().unwrap().contains("late"));

    browser.open(&url, (1280, 900), "light");
    let order = walked(&browser);
    let stops: Vec<_> = order.iter().map(|stop| stop[0].as_str().unwrap()).collect();
    assert_eq!(stops, ["SUMMARY", "SUMMARY", "SUMMARY", "A"], "{order:?}");
    assert!(order.iter().all(|stop| stop[2] == true), "what has the focus is seen to have it: {order:?}");
    browser.open(&url, (1280, 900), "light");
    browser.press(TAB);
    browser.press(ENTER);
    assert_eq!(browser.value("document.querySelector('details').open"), true, "a key opens what a click opens");
    let order = walked(&browser);
    assert_eq!(order[0][0], "DIV", "what is wider than a phone is scrolled by keyboard: {order:?}");
    assert_eq!(order.last().unwrap()[0], "A", "and left again: {order:?}");
    let complaints = browser.complaints();
    assert!(complaints.is_empty(), "{complaints:?}");
    assert_eq!(daemon.stop().0, 0);
}

/// What has the focus, from one to the next, until it leaves the page or is where it was.
fn walked(browser: &Browser) -> Vec<Value> {
    let mut stops = Vec::new();
    for _ in 0..20 {
        browser.press(TAB);
        let stop = browser.value(FOCUSED);
        if stop[0] == "BODY" || stops.contains(&stop) {
            return stops;
        }
        stops.push(stop);
    }
    panic!("the focus does not come out of the page: {}", json!(stops));
}

/// Keeps a picture where somebody wants to look at it: in the folder that `BACKUP_TEST_PICTURES` names.
fn keep(name: &str, picture: &str) {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    assert!(picture.len() > 1_000, "an empty picture");
    let Some(folder) = std::env::var_os("BACKUP_TEST_PICTURES") else { return };
    let file = fs::File::create(std::path::Path::new(&folder).join(format!("{name}.png"))).unwrap();
    let mut decoder = Command::new("base64").arg("-d").stdin(Stdio::piped()).stdout(file).spawn().unwrap();
    decoder.stdin.take().unwrap().write_all(picture.as_bytes()).unwrap();
    assert!(decoder.wait().unwrap().success());
}
