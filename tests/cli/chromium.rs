//! A headless Chromium, driven over its debugging pipe: JSON with a zero byte after each message, no socket, no crate.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Once;
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};

use crate::real::process::{WAIT_MAX, until};

/// The environment variable that names the browser.
const CHROMIUM: &str = "RECURD_TEST_CHROMIUM";

/// How a person looks at a page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) name: &'static str,
    pub(crate) width: u32,
    pub(crate) dark: bool,
    pub(crate) scripts: bool,
    /// Pixels of the picture for each of the page's.
    pub(crate) scale: f64,
}

pub(crate) const LOOKS: [Look; 4] = [
    Look { name: "phone-light", width: 390, dark: false, scripts: true, scale: 2.0 },
    Look { name: "phone-dark-noscript", width: 390, dark: true, scripts: false, scale: 2.0 },
    Look { name: "desktop-light-noscript", width: 1280, dark: false, scripts: false, scale: 1.0 },
    Look { name: "desktop-dark", width: 1280, dark: true, scripts: true, scale: 1.0 },
];

/// The browser with one open page.
pub(crate) struct Chromium {
    process: Child,
    pipe: ChildStdin,
    messages: Receiver<Value>,
    events: VecDeque<Value>,
    last_id: u64,
    session: Option<String>,
    profile: PathBuf,
    look: Look,
}

impl Chromium {
    /// `None`, and a loud line, when there is no browser.
    pub(crate) fn start() -> Option<Self> {
        let program = std::env::var(CHROMIUM).ok().filter(|program| !program.is_empty()).or_else(told)?;
        let profile = std::env::temp_dir().join(format!("recurd-chromium-{}", uuid::Uuid::new_v4().simple()));
        // The browser reads from descriptor 3 and writes to 4.
        let mut process = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", &program])
            .args([
                "--headless",
                "--no-sandbox",
                "--remote-debugging-pipe",
                "--no-first-run",
                "--disable-gpu",
            ])
            .args(["--hide-scrollbars", "--disable-background-networking", "--disable-dev-shm-usage"])
            // Pages reach this machine and nothing else.
            .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
            .arg(format!("--user-data-dir={}", profile.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pipe = process.stdin.take().unwrap();
        let (send, messages) = channel();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while output.read_until(0, &mut message).is_ok_and(|count| count > 0) {
                let value = serde_json::from_slice(&message[..message.len() - 1]).unwrap_or_default();
                if send.send(value).is_err() {
                    break;
                }
                message.clear();
            }
        });
        let (events, look) = (VecDeque::new(), LOOKS[0]);
        Some(Self { process, pipe, messages, events, last_id: 0, session: None, profile, look })
    }

    /// Opens a fresh page for somebody who looks like this.
    pub(crate) fn look_like(&mut self, look: Look) {
        self.look = look;
        self.session = None;
        self.events.clear();
        let target = self.call("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let attach = json!({ "targetId": target, "flatten": true });
        let session = self.call("Target.attachToTarget", attach)["sessionId"].clone();
        self.session = session.as_str().map(str::to_owned);
        for domain in ["Page", "DOM", "Log", "Runtime"] {
            self.call(&format!("{domain}.enable"), json!({}));
        }
        let phone = look.width < 600;
        let size = json!({ "width": look.width, "height": if phone { 844 } else { 800 }, "mobile": phone,
            "deviceScaleFactor": look.scale });
        self.call("Emulation.setDeviceMetricsOverride", size);
        let scheme = if look.dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", media);
        self.call("Emulation.setScriptExecutionDisabled", json!({ "value": !look.scripts }));
    }

    pub(crate) fn go(&mut self, url: &str) {
        self.events.clear();
        let gone = self.call("Page.navigate", json!({ "url": url }));
        assert!(gone.get("errorText").is_none(), "{url}: {gone}");
        self.loaded();
    }

    /// Clicks in the middle of an element that leads to another page, and waits for that page.
    pub(crate) fn click(&mut self, selector: &str) {
        let node = self.node(selector);
        self.call("DOM.scrollIntoViewIfNeeded", json!({ "nodeId": node }));
        let quad = self.call("DOM.getBoxModel", json!({ "nodeId": node }))["model"]["content"].clone();
        let corner = |index: usize| quad[index].as_f64().unwrap();
        let (x, y) = ((corner(0) + corner(4)) / 2.0, (corner(1) + corner(5)) / 2.0);
        self.events.clear();
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": x, "y": y, "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event);
        }
        self.loaded();
    }

    pub(crate) fn type_into(&mut self, selector: &str, text: &str) {
        let node = self.node(selector);
        self.call("DOM.focus", json!({ "nodeId": node }));
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Presses the tab key and says where the focus is: an element's name and what it says.
    pub(crate) fn tab(&mut self) -> String {
        let key = json!({ "type": "rawKeyDown", "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9 });
        self.call("Input.dispatchKeyEvent", key);
        self.evaluate("((one) => (one.tagName + ' ' + (one.innerText || one.name || '')).trim())(document.activeElement)")
    }

    fn evaluate(&mut self, script: &str) -> String {
        let answer = self.call("Runtime.evaluate", json!({ "expression": script, "returnByValue": true }));
        answer["result"]["value"].as_str().unwrap_or_else(|| panic!("{script}: {answer}")).to_owned()
    }

    pub(crate) fn html(&mut self) -> String {
        let root = self.root();
        let html = self.call("DOM.getOuterHTML", json!({ "nodeId": root }))["outerHTML"].clone();
        html.as_str().unwrap().to_owned()
    }

    pub(crate) fn url(&mut self) -> String {
        let history = self.call("Page.getNavigationHistory", json!({}));
        let at = usize::try_from(history["currentIndex"].as_u64().unwrap()).unwrap();
        history["entries"][at]["url"].as_str().unwrap().to_owned()
    }

    /// Looks at the page: nothing may stick out sideways, nothing may be blocked by its own policy. Keeps a picture.
    pub(crate) fn picture(&mut self, name: &str) {
        let metrics = self.call("Page.getLayoutMetrics", json!({}));
        let (content, view) =
            (&metrics["cssContentSize"]["width"], &metrics["cssLayoutViewport"]["clientWidth"]);
        assert!(content.as_f64() <= view.as_f64(), "{name} {}: {content} wide in {view}", self.look.name);
        let shot = json!({ "format": "png", "captureBeyondViewport": true });
        let shot = self.call("Page.captureScreenshot", shot)["data"].clone();
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("pictures");
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join(format!("{name}-{}.png", self.look.name));
        std::fs::write(file, from_base64(shot.as_str().unwrap())).unwrap();
        let entries = self.events.iter().filter(|event| event["method"] == "Log.entryAdded");
        let wrong: Vec<&Value> = entries
            .map(|event| &event["params"]["entry"])
            .filter(|entry| entry["source"] == "security")
            .collect();
        assert!(wrong.is_empty(), "{name}: {wrong:?}");
    }

    fn root(&mut self) -> Value {
        self.call("DOM.getDocument", json!({ "depth": 0 }))["root"]["nodeId"].clone()
    }

    fn node(&mut self, selector: &str) -> Value {
        let root = self.root();
        let node =
            self.call("DOM.querySelector", json!({ "nodeId": root, "selector": selector }))["nodeId"].clone();
        assert!(node != 0, "no {selector} on {}:\n{}", self.url(), self.html());
        node
    }

    fn loaded(&mut self) {
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            let message = self.messages.recv_timeout(WAIT_MAX).expect("the page loads");
            self.events.push_back(message);
        }
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut message = json!({ "id": self.last_id, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.pipe.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let answer =
                self.messages.recv_timeout(WAIT_MAX).unwrap_or_else(|error| panic!("{method}: {error}"));
            if answer["id"] == self.last_id {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.events.push_back(answer);
        }
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // Asked first, since it has children of its own.
        let _ = self.pipe.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        if !std::thread::panicking() {
            until("the browser closes", || self.process.try_wait().unwrap().is_some());
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}

fn told() -> Option<String> {
    static TOLD: Once = Once::new();
    // Not eprintln!: the test harness would swallow it.
    let line = format!("\n!!!! SKIPPED: no page was looked at: {CHROMIUM} does not name a browser\n\n");
    TOLD.call_once(|| std::io::stderr().write_all(line.as_bytes()).unwrap_or_default());
    None
}

fn from_base64(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let letters: Vec<u8> = text.bytes().filter(|byte| *byte != b'=').map(value).collect();
    let group = |four: &[u8]| {
        let bits = four.iter().chain([&0; 3]).take(4).fold(0_u32, |bits, six| bits << 6 | u32::from(*six));
        bits.to_be_bytes()[1..four.len()].to_vec()
    };
    letters.chunks(4).flat_map(group).collect()
}
