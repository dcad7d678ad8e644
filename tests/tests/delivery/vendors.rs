//! Whatever a vendor answers, or fails to: one table for all channels that speak HTTP, in one sidecar at once. What each
//! answer means for one attempt is here; what follows (waits, the last attempt) is `outcome` in `behaviour/`. What is no
//! HTTP any more, and connections that break: `vendors_wire`; mail servers: the sidecar's `delivery/email_tests.rs`.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use rotator_tests::slack::{self, StandIn};
use rotator_tests::vendor::{Answer, Reply, Vendor};
use rotator_tests::{Sidecar, eventually, scalar};
use serde_json::json;

use crate::pagerduty::pagerduty;
use crate::seed::{Acme, SOON};
use crate::webhook::settings;

/// Three vendors that answer by case, and a sidecar that takes them for the real ones.
pub struct Vendors {
    pub acme: Acme,
    pagerduty: Vendor,
    hooks: Vendor,
    pub slack: StandIn,
    pub sidecar: Sidecar,
}

const CHANNELS: [&str; 3] = ["pagerduty", "webhook", "slack"];

impl Vendors {
    pub async fn new() -> Result<Self> {
        let acme = Acme::new().await?;
        let (pagerduty, slack) = (pagerduty().await?, StandIn::start().await?);
        let hooks = Vendor::start_with_tls(Answer::status(204)).await?;
        let mut all = settings(&hooks).to_vec();
        all.extend([
            ("ROTATOR_PAGERDUTY_URL", pagerduty.url()),
            ("ROTATOR_SLACK_URL", slack.url()),
            ("ROTATOR_SLACK_BOT_TOKEN", "xoxb-1".to_owned()),
        ]);
        let all: Vec<_> = all
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let mut sidecar = Sidecar::start(&acme.db, &all).await?;
        sidecar.shows_log = false;
        Ok(Self {
            acme,
            pagerduty,
            hooks,
            slack,
            sidecar,
        })
    }

    /// From now on this case's recipient is answered like this, on each channel.
    pub async fn case(&self, name: &str, answer: &Answer) -> Result<()> {
        let letters: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        let key = format!("{letters:x>32}");
        self.pagerduty.answer_when(&key, answer.clone());
        self.hooks.answer_when(&format!("/{name}/"), answer.clone());
        self.slack
            .answer_when(&format!("\"#{name}\""), slack::Answer::As(answer.clone()));
        for (channel, recipient) in [
            ("pagerduty", key),
            ("webhook", format!("{}/{name}/", self.hooks.url())),
            ("slack", format!("#{name}")),
        ] {
            self.acme.contact_of(name, channel, &recipient).await?;
        }
        self.acme.due_for(name, name).await?;
        Ok(())
    }

    async fn first(&self, name: &str, channel: &str, limit: Duration) -> Result<(String, String)> {
        first_attempt(&self.acme, name, channel, limit).await
    }

    pub async fn expect(&self, name: &str, outcomes: [&str; 3], limit: Duration) -> Result<()> {
        for (channel, expected) in CHANNELS.into_iter().zip(outcomes) {
            let (outcome, error) = self.first(name, channel, limit).await?;
            ensure!(
                outcome == expected,
                "{name} by {channel}: {outcome}, {error:?}"
            );
            ensure!(
                error.is_empty() == (outcome == "sent"),
                "{name} by {channel}: {error:?}"
            );
            ensure!(!error.contains("127.0.0.1") && error.len() < 200, "{error}");
        }
        Ok(())
    }

    /// Seconds from the first attempt to when the next may be.
    async fn wait(&self, name: &str, channel: &str) -> Result<f64> {
        let sql = "select extract(epoch from n.available_at - d.finished_at)::float8
            from rotator_internal.notification as n
            join rotator_internal.delivery_attempt as d on d.tenant_id = n.tenant_id and d.notification_id = n.id
            where n.addressee = $1 and n.channel = $2::text and n.attempts = 1";
        let wait = scalar(&self.acme.db.admin, sql, &[&name, &channel]).await;
        wait.with_context(|| format!("{name} by {channel} was tried once"))
    }

    /// `VmHWM`, in megabytes.
    pub fn peak_memory(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.sidecar.process()?))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .context("no VmHWM")?;
        let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kilobytes / 1024.0)
    }
}

/// Outcome and error of the first attempt to tell somebody on a channel.
pub async fn first_attempt(
    acme: &Acme,
    owner: &str,
    channel: &str,
    limit: Duration,
) -> Result<(String, String)> {
    let sql = "select d.outcome, coalesce(d.error, '')
        from rotator_internal.delivery_attempt as d
        join rotator_internal.notification as n on n.tenant_id = d.tenant_id and n.id = d.notification_id
        where n.addressee = $1 and n.channel = $2::text and d.attempt = 1 and d.finished_at is not null";
    let what = format!("an outcome of {owner} by {channel}");
    eventually(limit, &what, async || {
        let row = acme.db.admin.query_opt(sql, &[&owner, &channel]).await?;
        Ok(row.map(|row| (row.get(0), row.get(1))))
    })
    .await
}

#[tokio::test]
async fn every_answer_has_its_outcome_on_every_channel() -> Result<()> {
    let page = Reply::text(
        200,
        "text/html",
        "<!doctype html><title>Captive portal</title>",
    );
    let taken = Reply::json(202, &json!({"status": "success", "ok": true}));
    let cases = [
        (
            "s202",
            Answer::Reply(taken.clone()),
            ["sent", "sent", "transient"],
        ),
        (
            "s302",
            Answer::with_header(302, "location", "https://example.com"),
            ["transient", "permanent", "transient"],
        ),
        ("s400", Answer::status(400), ["permanent"; 3]),
        ("s401", Answer::status(401), ["permanent"; 3]),
        ("s403", Answer::status(403), ["permanent"; 3]),
        ("s404", Answer::status(404), ["permanent"; 3]),
        (
            "s410",
            Answer::status(410),
            ["permanent", "recipient_gone", "permanent"],
        ),
        ("s413", Answer::status(413), ["permanent"; 3]),
        ("s429", Answer::status(429), ["rate_limited"; 3]),
        ("s500", Answer::status(500), ["transient"; 3]),
        (
            "s503",
            Answer::with_header(503, "retry-after", "x".repeat(5000).as_str()),
            ["transient"; 3],
        ),
        (
            "garbage",
            Answer::Reply(page),
            ["transient", "sent", "transient"],
        ),
        (
            "binary",
            Answer::Reply(Reply::text(200, "application/json", "\0\u{1}{{{")),
            ["transient", "sent", "transient"],
        ),
        ("nothttp", Answer::NotHttp, ["transient"; 3]),
        // A receipt that is cut off, or too long to be read: it was taken all the same, where the status says so.
        ("cutfirst", Answer::CutBeforeHeaders, ["transient"; 3]),
        ("cutheaders", Answer::CutInHeaders(202), ["transient"; 3]),
        (
            "cutbody",
            Answer::CutInBody(taken.clone()),
            ["sent", "sent", "transient"],
        ),
        (
            "huge",
            Answer::Huge(202, 10 << 20),
            ["sent", "sent", "transient"],
        ),
        ("hugeerror", Answer::Huge(500, 10 << 20), ["transient"; 3]),
    ];
    let vendors = Vendors::new().await?;
    for (name, answer, _) in &cases {
        vendors.case(name, answer).await?;
    }
    vendors.acme.tick().await?;
    for (name, _, outcomes) in cases {
        vendors.expect(name, outcomes, 2 * SOON).await?;
    }
    let peak = vendors.peak_memory()?;
    ensure!(peak < 60.0, "60 MB of answers were read into {peak} MB");
    let log = vendors.sidecar.log()?;
    ensure!(
        !log.contains("panicked") && !log.contains("hugeerrorx"),
        "{log}"
    );
    Ok(())
}

#[tokio::test]
async fn retry_after_is_kept_within_reason_however_it_is_written() -> Result<()> {
    let date = |seconds: u64| -> Result<String> {
        let at = SystemTime::now() + Duration::from_secs(seconds);
        let at = at
            .duration_since(SystemTime::UNIX_EPOCH)?
            .as_secs()
            .to_string();
        let output = std::process::Command::new("date")
            .args([
                "--utc",
                "--date",
                &format!("@{at}"),
                "+%a, %d %b %Y %H:%M:%S GMT",
            ])
            .env("LC_ALL", "C")
            .output()?;
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    let backoff = 1.0..=11.0;
    let cases = [
        ("seconds", "120".to_owned(), 119.0..=131.0),
        ("date", date(1800)?, 1700.0..=1811.0),
        (
            "past",
            "Sun, 06 Nov 1994 08:49:37 GMT".to_owned(),
            backoff.clone(),
        ),
        ("negative", "-5".to_owned(), backoff.clone()),
        ("absurd", "99999999999999999999".to_owned(), 3590.0..=3601.0),
        (
            "never",
            "Sun, 06 Nov 2994 08:49:37 GMT".to_owned(),
            3590.0..=3601.0,
        ),
        ("words", "soon, 💤".to_owned(), backoff),
    ];
    let vendors = Vendors::new().await?;
    for (name, value, _) in &cases {
        let reply = Reply::status(429).header("retry-after", value);
        vendors.case(name, &Answer::Reply(reply)).await?;
    }
    vendors.acme.tick().await?;
    for (name, _, seconds) in cases {
        vendors.expect(name, ["rate_limited"; 3], SOON).await?;
        if *seconds.start() < 60.0 {
            continue; // it may have been tried again by now; the table of `retry_after.rs` says the rest
        }
        for channel in CHANNELS {
            let wait = vendors.wait(name, channel).await?;
            ensure!(seconds.contains(&wait), "{name} by {channel}: {wait}");
        }
    }
    Ok(())
}

/// The only test that waits for the limit of 20 seconds, for all channels at once.
#[tokio::test]
async fn a_vendor_that_takes_forever_is_given_up_after_twenty_seconds() -> Result<()> {
    let slowly = Duration::from_millis(700); // a status line and headers take half a minute
    let reply = Reply::json(202, &json!({"ok": true, "ts": "1700000000.000001"}));
    let vendors = Vendors::new().await?;
    for (name, answer) in [
        ("silent", Answer::Never),
        ("trickle", Answer::Trickle(slowly, reply.clone())),
        ("trickledbody", Answer::TrickleBody(slowly, reply)),
    ] {
        vendors.case(name, &answer).await?;
    }
    vendors.acme.due("unrelated").await?;
    vendors.acme.tick().await?;
    let limit = Duration::from_secs(35);
    vendors
        .expect("trickledbody", ["sent", "sent", "timeout"], limit)
        .await?;
    for name in ["silent", "trickle"] {
        vendors.expect(name, ["timeout"; 3], limit).await?;
        for channel in CHANNELS {
            let (_, error) = vendors.first(name, channel, limit).await?;
            assert_eq!(error, "no answer within 20 s", "{name} by {channel}");
        }
    }
    let sql = "select max(extract(epoch from finished_at - started_at))::float8 from rotator_internal.delivery_attempt";
    let longest: f64 = scalar(&vendors.acme.db.admin, sql, &[]).await?;
    ensure!((19.0..25.0).contains(&longest), "{longest}");
    Ok(())
}
