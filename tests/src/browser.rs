//! A real browser: headless Chromium, driven by its own chromedriver (W3C WebDriver over HTTP,
//! <https://www.w3.org/TR/webdriver2/>). It plays people, and scanners that run scripts and press buttons. Every start has
//! a profile of its own, and no name but those of the test leads anywhere, so that it talks to this machine alone.
//!
//! Chromium is many processes. They are one process group under a shell that reads from us: when the test ends, however
//! rudely, the shell reads the end and kills the group. `ROTATOR_PICTURES=FOLDER` keeps the pictures that tests take.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::kms::target;
use crate::patience::until;
use crate::scratch::Scratch;
use crate::sidecar::http;

/// A machine that does much else takes its time to start a browser.
const STARTED: Duration = Duration::from_secs(60);
const SHOWN: Duration = Duration::from_secs(20);
/// The first argument is the program.
const KEEPER: &str = "\"$1\" --port=0 & exec >&-; read -r _; kill -KILL 0";
/// How WebDriver spells a reference to an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Keys as WebDriver spells them.
pub const TAB: &str = "\u{e004}";
pub const ENTER: &str = "\u{e007}";

pub struct Browser {
    session: String,
    process: Child,
    folder: Scratch,
}

/// What a browser noticed since it was asked last.
#[derive(Debug, Default)]
pub struct Noticed {
    /// Lines of its console of level warning or worse: violations of a policy, errors of scripts, what could not be loaded.
    pub complaints: Vec<String>,
    /// What it asked servers for, pages included.
    pub requests: Vec<String>,
}

impl Browser {
    pub async fn start() -> Result<Self> {
        Self::that_knows("").await
    }

    /// One to which this name leads to this address: it may be any name, and port 80.
    pub async fn with_host(name: &str, address: &str) -> Result<Self> {
        Self::that_knows(&format!("MAP {name} {address}, ")).await
    }

    async fn that_knows(hosts: &str) -> Result<Self> {
        let folder = Scratch::new("browser")?;
        // Where the distribution has none, `make setup` brought one.
        let fetched =
            Some(target().join("chrome")).filter(|chrome| chrome.join("complete").exists());
        let chromedriver = match &fetched {
            Some(chrome) => chrome.join("chromedriver-linux64/chromedriver"),
            None => "chromedriver".into(),
        };
        let mut process = Command::new("sh")
            .args(["-c", KEEPER, "sh"])
            .arg(chromedriver)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", folder.path())
            .env("TMPDIR", folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(folder.join("browser.log"))?)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("starting a shell")?;
        let output = process.stdout.take().context("standard output is a pipe")?;
        let mut browser = Self {
            session: String::new(),
            process,
            folder,
        };
        let driver = tokio::time::timeout(STARTED, listening(output)).await;
        let session = match driver.context("chromedriver did not start") {
            Ok(Ok(driver)) => browser.begin(&driver, fetched.as_deref(), hosts).await,
            Ok(Err(error)) | Err(error) => Err(error),
        };
        browser.session = session.with_context(|| {
            let log = std::fs::read_to_string(browser.folder.join("browser.log"));
            format!(
                "no browser: `make setup` installs one, or says why it can't; {}",
                log.unwrap_or_default().trim()
            )
        })?;
        // Its own first page is no concern of a test.
        browser.noticed().await?;
        Ok(browser)
    }

    async fn begin(&self, driver: &str, fetched: Option<&Path>, hosts: &str) -> Result<String> {
        let profile = format!("--user-data-dir={}", self.folder.join("profile").display());
        let hosts = format!("--host-resolver-rules={hosts}MAP * ~NOTFOUND, EXCLUDE 127.0.0.1");
        // Chromium's sandbox doesn't work for root, nor in containers; the only pages are our own.
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--lang=en-US",
            "--window-size=800,2400", // all of a page is in sight
            &hosts,
            &profile,
        ];
        let mut options = json!({"args": arguments});
        if let Some(chrome) = fetched {
            options["binary"] = json!(chrome.join("chrome-linux64/chrome"));
        }
        let wishes = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            "timeouts": {"pageLoad": SHOWN.as_millis() as u64, "script": SHOWN.as_millis() as u64},
        }}});
        let made = ask(Method::POST, &format!("{driver}/session"), &wishes).await?;
        let id = made["sessionId"].as_str().context("a session's id")?;
        Ok(format!("{driver}/session/{id}"))
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        ask(Method::POST, &format!("{}{path}", self.session), body).await
    }

    /// A command of the DevTools protocol, <https://chromedevtools.github.io/devtools-protocol/>.
    async fn devtools(&self, command: &str, parameters: Value) -> Result<Value> {
        let body = json!({"cmd": command, "params": parameters});
        self.post("/goog/cdp/execute", &body).await
    }

    /// Opens a page, as from the address bar, and waits until it is there.
    pub async fn open(&self, url: &str) -> Result<()> {
        self.post("/url", &json!({"url": url})).await.map(drop)
    }

    /// Runs a script as one of the page's, and gives what it returns.
    pub async fn run(&self, script: &str) -> Result<Value> {
        self.run_on(script, &[]).await
    }

    /// As [`Browser::run`], with these elements as its arguments.
    pub async fn run_on(&self, script: &str, elements: &[&str]) -> Result<Value> {
        let elements: Vec<Value> = elements.iter().map(|id| json!({ELEMENT: id})).collect();
        let body = json!({"script": script, "args": elements});
        self.post("/execute/sync", &body).await
    }

    /// References to the elements that a script returns.
    pub async fn elements(&self, script: &str) -> Result<Vec<String>> {
        let found = self.run(script).await?;
        let found = found.as_array().context("a list of elements")?;
        let id = |element: &Value| element[ELEMENT].as_str().map(str::to_owned);
        found
            .iter()
            .map(|element| id(element).with_context(|| format!("{element} is no element")))
            .collect()
    }

    /// Scrolls to the one element that this CSS selector names and clicks on it; an error if something is in the way.
    pub async fn click(&self, selector: &str) -> Result<()> {
        let script = format!("return [...document.querySelectorAll({})]", json!(selector));
        let found = self.elements(&script).await?;
        ensure!(found.len() == 1, "{} are {selector}", found.len());
        let path = format!("/element/{}/click", found[0]);
        self.post(&path, &json!({})).await.map(drop)
    }

    /// Moves the mouse to the middle of an element that is in sight, and clicks on whatever is there.
    pub async fn click_at(&self, element: &str) -> Result<()> {
        let mouse = json!({"type": "pointer", "id": "mouse", "actions": [
            {"type": "pointerMove", "duration": 0, "x": 0, "y": 0, "origin": {ELEMENT: element}},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]});
        self.post("/actions", &json!({"actions": [mouse]}))
            .await
            .map(drop)
    }

    /// Presses these keys one after the other, wherever the focus is.
    pub async fn press(&self, keys: &str) -> Result<()> {
        let strokes: Vec<Value> = keys
            .chars()
            .flat_map(|key| {
                ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key.to_string()}))
            })
            .collect();
        let keyboard = json!({"type": "key", "id": "keyboard", "actions": strokes});
        self.post("/actions", &json!({"actions": [keyboard]}))
            .await
            .map(drop)
    }

    /// Waits until the first element of that kind reads so.
    pub async fn reads(&self, selector: &str, words: &str) -> Result<()> {
        let script = format!(
            "return document.querySelector({})?.innerText ?? null",
            json!(selector)
        );
        let mut last = Value::Null;
        let what = format!("{selector} to read {words:?}");
        let outcome = until(SHOWN, &what, async || {
            last = self.run(&script).await?;
            Ok(last == words)
        })
        .await;
        outcome.with_context(|| format!("it reads {last}"))
    }

    /// A screen of this width, as a phone has it.
    pub async fn narrow(&self, width: u32) -> Result<()> {
        let screen = json!({"width": width, "height": 740, "deviceScaleFactor": 2, "mobile": true});
        self.devtools("Emulation.setDeviceMetricsOverride", screen)
            .await
            .map(drop)
    }

    /// From now on pages run no scripts. Those of the test do run.
    pub async fn turn_scripts_off(&self) -> Result<()> {
        let off = json!({"value": true});
        self.devtools("Emulation.setScriptExecutionDisabled", off)
            .await?;
        self.open("data:text/html,<h1>off</h1><script>document.querySelector('h1').innerText = 'on'</script>")
            .await?;
        self.reads("h1", "off").await.context("scripts still run")
    }

    /// Lets the page's clock go on by so much at once; whatever waits in it happens. The clock stands still afterwards, so
    /// this is the last thing to do with a page.
    pub async fn waits(&self, time: Duration) -> Result<()> {
        let budget = time.as_millis() as u64;
        let clock = json!({"policy": "pauseIfNetworkFetchesPending", "budget": budget});
        self.devtools("Emulation.setVirtualTimePolicy", clock)
            .await?;
        until(SHOWN, "the page's clock to go on", async || {
            let now = self.run("return performance.now()").await?;
            Ok(now.as_f64().is_some_and(|now| now >= budget as f64))
        })
        .await
    }

    /// What was noticed since this was asked last.
    pub async fn noticed(&self) -> Result<Noticed> {
        let mut noticed = Noticed::default();
        for entry in self.log("browser").await? {
            if matches!(entry["level"].as_str(), Some("SEVERE" | "WARNING")) {
                noticed.complaints.push(text(&entry["message"]));
            }
        }
        for entry in self.log("performance").await? {
            let event: Value = serde_json::from_str(&text(&entry["message"]))?;
            let event = &event["message"];
            let url = text(&event["params"]["request"]["url"]);
            // What is inside of a page, and Chromium's own pages, come from nowhere.
            let local = url.starts_with("data:") || url.starts_with("chrome://");
            if event["method"] == "Network.requestWillBeSent" && !local {
                noticed.requests.push(url);
            }
        }
        Ok(noticed)
    }

    async fn log(&self, kind: &str) -> Result<Vec<Value>> {
        let entries = self.post("/se/log", &json!({"type": kind})).await?;
        Ok(entries.as_array().cloned().unwrap_or_default())
    }

    /// Takes pictures of the whole page, by day and by night, where somebody wants to look at them.
    pub async fn picture(&self, name: &str) -> Result<()> {
        let Some(folder) = std::env::var_os("ROTATOR_PICTURES") else {
            return Ok(());
        };
        std::fs::create_dir_all(&folder)?;
        for scheme in ["light", "dark"] {
            let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
            self.devtools("Emulation.setEmulatedMedia", media).await?;
            let whole = json!({"captureBeyondViewport": true});
            let taken = self.devtools("Page.captureScreenshot", whole).await?;
            let picture = STANDARD.decode(text(&taken["data"]))?;
            let file = Path::new(&folder).join(format!("{name}-{scheme}.png"));
            std::fs::write(file, picture)?;
        }
        Ok(())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(group) = self.process.id().and_then(|id| i32::try_from(id).ok()) {
            // SAFETY: kill only sends a signal, to the group of a child of ours that was not waited for yet.
            unsafe { libc::kill(-group, libc::SIGKILL) };
        }
        // The last of them may still be writing.
        for _ in 0..200 {
            match std::fs::remove_dir_all(self.folder.path()) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                _ => return,
            }
        }
    }
}

/// The address that chromedriver says it listens at; somebody reads on, so that it can go on talking.
async fn listening(output: tokio::process::ChildStdout) -> Result<String> {
    let mut lines = BufReader::new(output).lines();
    while let Some(line) = lines.next_line().await? {
        if let Some((_, port)) = line.split_once("started successfully on port ") {
            let address = format!("http://127.0.0.1:{}", port.trim_end_matches('.'));
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok(address);
        }
    }
    bail!("chromedriver ended")
}

async fn ask(method: Method, url: &str, body: &Value) -> Result<Value> {
    let request = http().request(method, url).timeout(STARTED).json(body);
    let mut answer: Value = request.send().await?.json().await?;
    let value = answer["value"].take();
    if let Some(error) = value["error"].as_str() {
        let message = text(&value["message"]);
        bail!("{error}: {}", message.lines().next().unwrap_or_default());
    }
    Ok(value)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
