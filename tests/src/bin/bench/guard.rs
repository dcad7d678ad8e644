//! What the guard costs: 4 KB of text, as a note that is fine and so is looked at by every rule, of several kinds; the
//! slowest counts.

use anyhow::Result;
use rotator_tests::TestDb;
use rotator_tests::bench::{Bar, Record, cpu_seconds, median};
use tokio_postgres::Client;

const NAMES: [&str; 1] = ["guard_4kb_ms"];
/// Calls in one statement, so that sending it doesn't count.
const CALLS: usize = 200;
const ROUNDS: usize = 9;

/// Kinds of text: prose, identifiers, and what begins like a secret again and again.
const TEXTS: [(&str, &str); 7] = [
    (
        "prose",
        "The key of the payment service was rotated by the platform team on 2026-11-22, ticket OPS-4711. ",
    ),
    (
        "references",
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-AbCdEf kv/prod/stripe/live-key ",
    ),
    (
        "hashes",
        "commit 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b 0b5c1a4e-8a4e-4d9b-9d5f-2f4f0c1f7a11 ",
    ),
    (
        "wallet words",
        "abandon ability able about above absent absorb zoo ",
    ),
    ("one-time", "totp mfa 2fa code of the device "),
    (
        "prefixes",
        "sk_live_ ghp_ xoxb- eyJhbGciOi. AKIA password= host=db ",
    ),
    (
        "base64",
        "VGhlIGtleSBvZiB0aGUgcGF5bWVudCBzZXJ2aWNl/dGhlIHRlYW0gcm90YXRlZCBpdA ",
    ),
];

pub async fn run(record: &mut Record) -> Result<()> {
    if !record.wants(&NAMES) {
        return Ok(());
    }
    let db = TestDb::new().await?;
    let session = db.superuser().await?;
    let backend: i32 = session
        .query_one("select pg_backend_pid()", &[])
        .await?
        .get(0);
    let mut slowest = (0.0, "");
    let mut detail = Vec::new();
    for (kind, piece) in TEXTS {
        let milliseconds = measure(&session, backend, piece).await?;
        detail.push(format!("{kind} {milliseconds:.3}"));
        if milliseconds > slowest.0 {
            slowest = (milliseconds, kind);
        }
    }
    record.add(
        NAMES[0],
        slowest.0,
        "ms",
        Bar::AtMost(1.0),
        &format!("4,096 bytes through both classes of rules, median of {ROUNDS} rounds of {CALLS}; slowest: {}; {}", slowest.1, detail.join(", ")),
    )
}

/// Milliseconds of CPU for one text of 4 KB.
async fn measure(session: &Client, backend: i32, piece: &str) -> Result<f64> {
    let text = piece.replace('\'', "''");
    // The text is different in each call, so that nothing is done only once.
    let call = |check: &str| {
        format!(
            "select count({check}) from (select left(n || ' ' || repeat('{text}', 200), 4096) as value
             from generate_series(1, {CALLS}) as n offset 0) as t"
        )
    };
    let guarded = call(
        "coalesce(rotator_internal.secret_rule(value), rotator_internal.random_tokens(value), '')",
    );
    let plain = call("value");
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        with.push(cpu_seconds(session, backend, &guarded).await?);
        without.push(cpu_seconds(session, backend, &plain).await?);
    }
    Ok((median(&mut with) - median(&mut without)) * 1000.0 / CALLS as f64)
}
