//! A browser without a window, steered by chromedriver in the words of WebDriver.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use backup_core::testing::free_port;
use serde_json::{Value, json};

use crate::{Running, tool};

/// The key that goes to what comes next, as WebDriver writes it.
pub(crate) const TAB: &str = "\u{e004}";
/// The key that does what is chosen.
pub(crate) const ENTER: &str = "\u{e007}";

/// A browser with one page.
pub(crate) struct Browser {
    _driver: Running,
    port: u16,
    session: String,
}

impl Browser {
    /// One whose files lie in `folder`.
    pub(crate) fn start(folder: &Path) -> Self {
        let port = free_port();
        let driver = Command::new(tool("BACKUP_TEST_CHROMEDRIVER"))
            .arg(format!("--port={port}"))
            .env("HOME", folder)
            .env("TMPDIR", folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut browser = Self { _driver: Running(driver), port, session: String::new() };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < Duration::from_secs(180), "chromedriver does not start");
            thread::sleep(Duration::from_millis(50));
        }
        // Its own sandbox wants rights that a test may not have; the page is ours.
        let arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"];
        let wanted = json!({
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        });
        let made = browser.ask("POST", "/session", &json!({"capabilities": {"alwaysMatch": wanted}}));
        browser.session = made["sessionId"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        browser
    }

    /// Goes to an address, in a window of this size, in the light or in the dark.
    pub(crate) fn open(&self, url: &str, (width, height): (u32, u32), scheme: &str) {
        self.tell(
            "goog/cdp/execute",
            &json!({"cmd": "Emulation.setDeviceMetricsOverride", "params":
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}}),
        );
        self.tell(
            "goog/cdp/execute",
            &json!({"cmd": "Emulation.setEmulatedMedia", "params":
            {"features": [{"name": "prefers-color-scheme", "value": scheme}]}}),
        );
        self.tell("url", &json!({"url": url}));
    }

    /// What an expression of the page's language gives.
    pub(crate) fn value(&self, expression: &str) -> Value {
        self.tell("execute/sync", &json!({"script": format!("return {expression}"), "args": []}))
    }

    /// Presses a key.
    pub(crate) fn press(&self, key: &str) {
        let strokes = [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})];
        self.tell("actions", &json!({"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]}));
    }

    /// What is seen, as a PNG in base64.
    pub(crate) fn picture(&self) -> String {
        let path = format!("/session/{}/screenshot", self.session);
        self.ask("GET", &path, &Value::Null).as_str().unwrap().to_owned()
    }

    /// What the browser complains of.
    pub(crate) fn complaints(&self) -> Vec<Value> {
        self.tell("se/log", &json!({"type": "browser"})).as_array().unwrap().clone()
    }

    #[track_caller]
    fn tell(&self, command: &str, body: &Value) -> Value {
        self.ask("POST", &format!("/session/{}/{command}", self.session), body)
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(180))).unwrap();
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost:{}\r\nContent-Length: {}\r\n", self.port, body.len());
        write!(stream, "{head}Connection: close\r\n\r\n{body}").unwrap();
        let mut reader = BufReader::new(stream);
        let (mut bytes, mut line) = (0, String::new());
        while reader.read_line(&mut line).unwrap() > 2 {
            if let Some(length) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                bytes = length.trim().parse().unwrap();
            }
            line.clear();
        }
        let mut answer = vec![0; bytes];
        reader.read_exact(&mut answer).unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert!(answer["value"]["error"].is_null(), "{path}: {answer}");
        answer["value"].clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser ends with its session; killed, the driver would leave it behind.
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return };
        let head = format!("DELETE /session/{} HTTP/1.1\r\nHost: localhost:{}\r\n", self.session, self.port);
        let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
        let _ = write!(stream, "{head}Connection: close\r\n\r\n");
        let _ = stream.read(&mut [0; 64]);
    }
}
