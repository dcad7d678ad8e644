//! `rotator.encrypt()` and `rotator.decrypt()` for the host's own values: they open for the same tenant, label and row key
//! and nowhere else, whatever is done to their bytes; and who may call them. What re-encrypts them: `reseal`.

use anyhow::{Result, ensure};
use rotator_tests::standby::standby_of;
use rotator_tests::{Cluster, Options, TestDb, until};
use tokio_postgres::Client;

use crate::fixture::{refusal, text, texts, verdict};

/// How each `decrypt` of the given ciphertexts ends, as `count sqlstate`; `ok` would be one that opened.
async fn endings(client: &Client, ciphertexts: &str) -> Result<Vec<String>> {
    client
        .batch_execute(
            "create or replace function pg_temp.ending(c bytea) returns text language plpgsql as $$
             begin perform rotator.decrypt(c, 'payload', '1'); return 'ok'; exception when others then return sqlstate; end $$",
        )
        .await?;
    texts(
        client,
        &format!("select count(*) || ' ' || pg_temp.ending(c) from ({ciphertexts}) as t (c) group by pg_temp.ending(c) order by 1"),
    )
    .await
}

async fn sealed(session: &Client, plaintext: &str) -> Result<String> {
    text(
        session,
        &format!("select rotator.encrypt('{plaintext}', 'payload', '1')"),
    )
    .await
}

#[tokio::test]
async fn a_value_opens_for_its_tenant_label_and_row_alone() -> Result<()> {
    let db = TestDb::new().await?;
    let tenant = db.tenant("acme").await?;
    db.tenant("beta").await?;
    let (acme, beta) = (
        db.session("acme", "viewer").await?,
        db.session("beta", "admin").await?,
    );
    for plaintext in ["", "x", "Übergröße € 🔑", &"long ".repeat(20_000)] {
        let value = sealed(&acme, plaintext).await?;
        ensure!(
            value != sealed(&acme, plaintext).await?,
            "never the same twice"
        );
        let opened = text(
            &acme,
            &format!("select rotator.decrypt('{value}', 'payload', '1')"),
        )
        .await?;
        ensure!(opened == plaintext, "{opened} is not {plaintext}");
    }

    let value = sealed(&acme, "the plaintext").await?;
    for (session, label, row) in [
        (&acme, "payload", "2"),
        (&acme, "payload", "1 "),
        (&acme, "payloa", "d1"),
        (&acme, "other", "1"),
        (&beta, "payload", "1"),
    ] {
        let answer = refusal(
            session,
            &format!("select rotator.decrypt('{value}', '{label}', '{row}')"),
        )
        .await?;
        ensure!(
            answer.starts_with("RT011") && !answer.contains("plaintext"),
            "{answer}"
        );
    }

    // rotator's own domain, both ways: same tenant, label and bytes of the row.
    let id = "00112233-4455-6677-8899-aabbccddeeff";
    let own = text(
        &db.admin,
        &format!("select rotator_internal.seal_field('{tenant}', 'payload', '{id}', 'own')"),
    )
    .await?;
    for row in [id, "\u{1}\u{2}"] {
        let answer = refusal(
            &acme,
            &format!("select rotator.decrypt('{own}', 'payload', '{row}')"),
        )
        .await?;
        ensure!(answer.starts_with("RT011"), "{answer}");
    }
    let host = text(
        &acme,
        &format!("select rotator.encrypt('host', 'payload', '{id}')"),
    )
    .await?;
    let answer = refusal(
        &db.admin,
        &format!("select rotator_internal.open_field('{tenant}', 'payload', '{id}', '{host}')"),
    )
    .await?;
    ensure!(answer.starts_with("RT011"), "{answer}");

    // The header is authentic: another version of the same tenant's key is no way in.
    db.session("acme", "admin")
        .await?
        .batch_execute("select rotator.rotate_key()")
        .await?;
    let (old, new) = (value, sealed(&acme, "the plaintext").await?);
    ensure!(
        text(
            &acme,
            &format!("select rotator.decrypt('{old}', 'payload', '1')")
        )
        .await?
            == "the plaintext"
    );
    ensure!(old[..20] != new[..20], "format and key id differ");
    for swapped in [
        format!("{}{}", &old[..20], &new[20..]),
        format!("{}{}", &new[..20], &old[20..]),
    ] {
        let answer = refusal(
            &acme,
            &format!("select rotator.decrypt('{swapped}', 'payload', '1')"),
        )
        .await?;
        ensure!(answer.starts_with("RT011"), "{answer}");
    }
    Ok(())
}

#[tokio::test]
async fn nothing_malformed_opens() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    let session = db.session("acme", "viewer").await?;
    let value = sealed(&session, "forty bytes of something worth keeping..").await?;
    let length = (value.len() - 2) / 2;
    ensure!(length == 40 + 37, "{length}");

    let flipped = |from: usize, to: usize| {
        format!(
            "select set_bit(v, n, 1 - get_bit(v, n)) from (values ('{value}'::bytea)) as t (v), generate_series({}, {}) as n",
            from * 8,
            to * 8 - 1
        )
    };
    let key_id = endings(&session, &flipped(1, 9)).await?;
    ensure!(
        key_id == ["64 RT012"]
            || (key_id.len() == 2
                && key_id
                    .iter()
                    .all(|e| e.ends_with("RT011") || e.ends_with("RT012"))),
        "{key_id:?}"
    );
    for (what, ciphertexts, expected) in [
        ("a flipped bit of the format", flipped(0, 1), 8),
        (
            "a flipped bit after the header",
            flipped(9, length),
            (length - 9) * 8,
        ),
        (
            "cut off",
            format!(
                "select substr('{value}'::bytea, 1, n) from generate_series(0, {}) as n",
                length - 1
            ),
            length,
        ),
        (
            "cut at the front",
            format!(
                "select substr('{value}'::bytea, n) from generate_series(2, {length}) as n where get_byte('{value}'::bytea, n - 1) <> 1"
            ),
            0,
        ),
        (
            "a truncated tag",
            format!(
                "select substr('{value}'::bytea, 1, {length} - n) from generate_series(1, 16) as n"
            ),
            16,
        ),
        (
            "longer",
            format!(
                "select '{value}'::bytea || substr('\\x00000000'::bytea, n) from generate_series(1, 4) as n"
            ),
            4,
        ),
        (
            "another format",
            format!(
                "select set_byte('{value}'::bytea, 0, n) from generate_series(0, 255) as n where n <> 1"
            ),
            255,
        ),
        (
            "no ciphertext at all",
            "select convert_to(repeat('x', n), 'UTF8') from generate_series(0, 100) as n"
                .to_owned(),
            101,
        ),
        (
            "twice",
            format!("select '{value}'::bytea || '{value}'::bytea"),
            1,
        ),
    ] {
        let found = endings(&session, &ciphertexts).await?;
        ensure!(
            found.len() == 1 && found[0].ends_with(" RT011"),
            "{what}: {found:?}"
        );
        ensure!(
            expected == 0 || found[0] == format!("{expected} RT011"),
            "{what}: {found:?}"
        );
    }
    let unknown = format!("select set_byte('{value}'::bytea, 4, 1)");
    ensure!(
        endings(&session, &unknown).await? == ["1 RT012"],
        "a key that isn't there"
    );
    ensure!(
        endings(&session, &format!("select '{value}'::bytea")).await? == ["1 ok"],
        "the check can tell"
    );
    Ok(())
}

#[tokio::test]
async fn who_may_and_with_which_arguments() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    db.tenant("beta").await?;
    for role in ["viewer", "editor", "auditor", "admin"] {
        let session = db.session("acme", role).await?;
        let opened = text(
            &session,
            "select rotator.decrypt(rotator.encrypt('x', 'l', 'k'), 'l', 'k')",
        )
        .await?;
        ensure!(opened == "x", "{role}");
    }
    let nobody = db.login_role("nobody", &["rotator_user"]).await?;
    let nobody = db.connect_as(&nobody).await?;
    for call in ["encrypt('secret', 'l', 'k')", "decrypt('\\x01', 'l', 'k')"] {
        let answer = refusal(&nobody, &format!("select rotator.{call}")).await?;
        ensure!(
            answer.starts_with("RT002")
                && answer.contains("use_tenant")
                && !answer.contains("secret"),
            "{answer}"
        );
    }
    let stranger = db.login_role("stranger", &[]).await?;
    let stranger = db.connect_as(&stranger).await?;
    ensure!(verdict(&stranger, "select rotator.encrypt('x', 'l', 'k')").await? == "42501");

    // The tenant is asked each time: no statement keeps the one before.
    let value = text(
        &db.admin,
        "select rotator.use_tenant('acme'); select rotator.encrypt('x', 'l', 'k')",
    )
    .await;
    ensure!(value.is_err(), "two rows: {value:?}");
    let switched = texts(&db.admin, "select convert_from('x', 'UTF8') from (select rotator.use_tenant('beta')) as t, lateral (select rotator.encrypt('x', 'l', 'k')) as e").await?;
    ensure!(switched.len() == 1);
    let value = text(&db.admin, "select rotator.encrypt('x', 'l', 'k')").await?;
    db.admin
        .batch_execute("select rotator.use_tenant('acme')")
        .await?;
    ensure!(
        verdict(
            &db.admin,
            &format!("select rotator.decrypt('{value}', 'l', 'k')")
        )
        .await?
            == "RT011"
    );

    let session = db.session("acme", "viewer").await?;
    for (label, row, expected) in [
        (0, 1, "22023"),
        (1, 0, "22023"),
        (1, 1, "ok"),
        (255, 1024, "ok"),
        (256, 1, "22023"),
        (1, 1025, "22023"),
    ] {
        for call in ["encrypt('canary-7d1', ", "decrypt('\\x02', "] {
            let sql = format!("select rotator.{call}repeat('l', {label}), repeat('k', {row}))");
            let expected = if expected == "ok" && call.starts_with('d') {
                "RT011"
            } else {
                expected
            };
            ensure!(
                verdict(&session, &sql).await? == expected,
                "{label} {row} {call}"
            );
        }
    }
    ensure!(
        !db.cluster.log()?.contains("canary-7d1"),
        "no failed statement is logged"
    );
    let nulls = texts(&session, "select num_nonnulls(rotator.encrypt(null, 'l', 'k'), rotator.encrypt('x', null, 'k'), rotator.encrypt('x', 'l', null), rotator.decrypt(null, 'l', 'k'))").await?;
    ensure!(nulls == ["0"]);
    Ok(())
}

#[tokio::test]
async fn a_parallel_query_reads_every_value() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    let member = db.login_role("app", &["rotator_user"]).await?;
    db.admin.batch_execute(&format!("select rotator.add_member('{}', 'viewer', 'acme'); create table host as select n as id, null::bytea as c from generate_series(1, 20000) as n; grant all on host to public; alter table host set (parallel_workers = 2)", member.subject())).await?;
    let session = db.connect_as(&member).await?;
    session.batch_execute("update host set c = rotator.encrypt('value ' || id, 'payload', id::text);
        set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0; set jit = off").await?;
    let query = "select count(*) filter (where rotator.decrypt(c, 'payload', id::text) = 'value ' || id) from host where id % 2 = 0";
    let plan = texts(&session, &format!("explain {query}"))
        .await?
        .join("\n");
    ensure!(plan.contains("Gather"), "{plan}");
    ensure!(text(&session, query).await? == "10000");
    let in_workers = "select sum((rotator_internal.ciphertext_key(c) is not null)::int) from host";
    ensure!(text(&db.admin, in_workers).await? == "20000");
    Ok(())
}

#[tokio::test]
async fn a_standby_reads_values_and_lends_a_block_of_uses() -> Result<()> {
    let cluster = std::sync::Arc::new(Cluster::start(Options::default()).await?);
    let db = TestDb::in_cluster(cluster).await?;
    db.tenant("acme").await?;
    let session = db.session("acme", "viewer").await?;
    let value = sealed(&session, "read me there").await?;
    let standby = standby_of(&db.cluster).await?;
    let there = standby.connect("postgres", &db.name).await?;
    let open = format!("select rotator.decrypt('{value}', 'payload', '1')");
    until(
        std::time::Duration::from_secs(30),
        "the standby to follow",
        async || {
            Ok(there
                .batch_execute("select rotator.use_tenant('acme')")
                .await
                .is_ok())
        },
    )
    .await?;
    ensure!(text(&there, &open).await? == "read me there");
    ensure!(
        text(
            &there,
            "select rotator.decrypt(rotator.encrypt('x', 'l', 'k'), 'l', 'k')"
        )
        .await?
            == "x"
    );
    let many = "select count(rotator.encrypt('x', 'l', 'k')) from generate_series(1, 70000)";
    let answer = refusal(&there, many).await?;
    ensure!(
        answer.starts_with("25006") && answer.contains("may write"),
        "{answer}"
    );
    ensure!(
        text(&there, &open).await? == "read me there",
        "reading goes on"
    );
    Ok(())
}
