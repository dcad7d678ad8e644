//! Whatever is wrong with the claims means no tenant: no rows, RT002 on writes, and never another tenant or an error of
//! the reading itself. Also claims that are fine but for the subject or the role.

use anyhow::{Result, ensure};

use crate::claims::{request, with_gate};
use crate::fixture::{text, texts, verdict};

/// `$` stands for the rest of a document that would be fine with tenant acme.
const SHAPES: &[&str] = &[
    // no document at all
    "",
    " ",
    "null",
    "true",
    "0",
    "\"acme\"",
    "acme",
    "[]",
    "{}",
    "[{$}]",
    "\u{feff}{$}",
    "undefined",
    "NaN",
    "'{$}'",
    // not quite JSON
    "{$",
    "{$}}",
    "{$} x",
    "{$,}",
    "{$}{$}",
    "{,$}",
    "{$}\u{0b}",
    "/*c*/{$}",
    "{$ // c\n}",
    "{\"a\":01,$}",
    "{\"a\":+1,$}",
    "{\"a\":.5,$}",
    "{\"a\":tru,$}",
    "{\"a\":\"\u{1}\",$}",
    "{\"a\":\"\\x41\",$}",
    "{\"a\":\"\\ud800\",$}",
    "{a:1,$}",
    // a name that occurs twice, anywhere
    "{$,\"tenant_id\":\"beta\"}",
    "{\"tenant_id\":\"beta\",$}",
    "{$,\"tenant_id\":\"acme\"}",
    "{$,\"sub\":\"u2\"}",
    "{$,\"rotator_role\":\"admin\"}",
    "{$,\"tenant\\u005fid\":\"beta\"}",
    "{\"a\":{\"b\":1,\"b\":2},$}",
    "{\"a\":[{\"b\":1,\"b\":2}],$}",
    // a tenant that is none
    "{\"sub\":\"u1\",\"rotator_role\":\"admin\"}",
    "T:null",
    "T:1",
    "T:true",
    "T:[\"acme\"]",
    "T:{\"acme\":1}",
    "T:\"\"",
    "T:\" \"",
    "T:\"acme \"",
    "T:\" acme\"",
    "T:\"ACME\"",
    "T:\"acme\\n\"",
    "T:\"acme\\u0000\"",
    "T:\"acme,beta\"",
    "T:\"acme' or '1'='1\"",
    "T:\"%\"",
    "T:\"nobody\"",
    "T:\"аcme\"",
    "T:\"00000000-0000-0000-0000-000000000000\"",
    "T:\"ID{\"",
    "T:\"{ID}\"",
    "T:\"ID0\"",
    "T:\"ID\\u0000\"",
    "T:\"COMPACT\"",
    "T:\"urn:uuid:ID\"",
    // a subject or a role that is none
    "S:null",
    "S:1",
    "S:\"\"",
    "S:[\"u1\"]",
    "S:{\"a\":1}",
    "S:\"db:postgres\"",
    "S:\"db:gate\"",
    "S:\"u1\\u0000\"",
    "S:\"LONG\"",
    "R:null",
    "R:1",
    "R:\"\"",
    "R:\"owner\"",
    "R:\"Admin\"",
    "R:\"admin \"",
    "R:[\"admin\"]",
    "R:{\"admin\":true}",
    "R:\"rotator_admin\"",
];

fn document(shape: &str, id: &str) -> String {
    let base = |tenant: &str, subject: &str, role: &str| {
        format!("\"sub\":{subject},\"tenant_id\":{tenant},\"rotator_role\":{role}")
    };
    let value = shape
        .get(2..)
        .unwrap_or_default()
        .replace("ID", id)
        .replace("COMPACT", &id.replace('-', ""))
        .replace("LONG", &"u".repeat(256));
    match shape.get(..2) {
        Some("T:") => format!("{{{}}}", base(&value, "\"u1\"", "\"admin\"")),
        Some("S:") => format!("{{{}}}", base("\"acme\"", &value, "\"admin\"")),
        Some("R:") => format!("{{{}}}", base("\"acme\"", "\"u1\"", &value)),
        _ => shape.replace('$', &base("\"acme\"", "\"u1\"", "\"admin\"")),
    }
}

#[tokio::test]
async fn malformed_claims_mean_no_tenant() -> Result<()> {
    let (db, gate) = with_gate(&[]).await?;
    let id = text(
        &db.admin,
        "select tenant_id from rotator_internal.tenant where slug = 'acme'",
    )
    .await?;
    let mut documents: Vec<String> = SHAPES.iter().map(|shape| document(shape, &id)).collect();
    documents.push(document(
        &format!("{{\"pad\":\"{}\",$}}", "x".repeat(64 * 1024)),
        &id,
    ));
    documents.push(document(
        &format!("{{\"deep\":{}{},$}}", "[".repeat(5000), "]".repeat(5000)),
        &id,
    ));
    ensure!(documents.len() >= 80);

    // What all of them vary is good: otherwise this test couldn't fail.
    request(&gate, &document("{$}", &id), "read only").await?;
    ensure!(text(&gate, "select name from rotator.secrets").await? == "acme-key");
    gate.batch_execute("commit").await?;

    let before = text(
        &db.admin,
        "select count(*) from rotator_internal.audit_event",
    )
    .await?;
    for claims in documents {
        let shown: String = claims.chars().take(200).collect();
        request(&gate, &claims, "").await?;
        ensure!(
            texts(&gate, "select name from rotator.secrets")
                .await?
                .is_empty(),
            "{shown}"
        );
        let identity = text(
            &gate,
            "select concat(rotator.current_tenant(), rotator.current_member_role())",
        )
        .await?;
        ensure!(identity.is_empty(), "{shown}: {identity}");
        let written = verdict(
            &gate,
            "select rotator.register_secret('by-claims', rotation_interval => '1 day')",
        )
        .await?;
        ensure!(written == "RT002", "{shown}: {written}");
        gate.batch_execute("rollback").await?;
    }
    let after = text(
        &db.admin,
        "select count(*) from rotator_internal.audit_event",
    )
    .await?;
    ensure!(before == after, "something was written");
    Ok(())
}
