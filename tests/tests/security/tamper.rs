//! A database owner who edits ciphertexts and key rows behind rotator's back gets errors, never another value: moving a
//! ciphertext to another row, column or tenant, changing any part of it, and changing or swapping wrapped keys.

use anyhow::{Context, Result, ensure};
use rotator_tests::TestDb;
use tokio_postgres::Client;

use crate::fixture::{refusal, text, texts};

async fn two_tenants() -> Result<TestDb> {
    let db = TestDb::new().await?;
    for tenant in ["acme", "beta"] {
        db.tenant(tenant).await?;
        db.admin
            .batch_execute(&format!(
                "select rotator.use_tenant('{tenant}', true);
                 select rotator.register_secret('first', rotation_interval => '1 day', purpose => 'first purpose', provider_ref => 'first/ref', external_id => '1');
                 select rotator.register_secret('second', rotation_interval => '1 day', purpose => 'second purpose', provider_ref => 'second/ref', external_id => '2');
                 select rotator.set_contact('x', 'email', 'x@example.com'), rotator.set_contact('y', 'email', 'y@example.com')"
            ))
            .await?;
    }
    Ok(db)
}

/// Reads everything of acme in a fresh session, after the superuser did this, which is then undone.
async fn after(db: &TestDb, tampering: &str, reading: &str) -> Result<String> {
    let saved = "create temp table if not exists saved_secret as table rotator_internal.secret; create temp table if not exists saved_key as table rotator_internal.encryption_key;
        create temp table if not exists saved_recipient as table rotator_internal.recipient";
    db.admin.batch_execute(saved).await?;
    db.admin
        .batch_execute(tampering)
        .await
        .with_context(|| tampering.to_owned())?;
    let session = db.session("acme", "viewer").await?;
    let answer = refusal(&session, reading).await;
    db.admin
        .batch_execute(
            "update rotator_internal.secret s set name = o.name, purpose = o.purpose, provider_ref = o.provider_ref from saved_secret o where o.id = s.id and o.tenant_id = s.tenant_id;
             update rotator_internal.recipient s set address = o.address from saved_recipient o where o.id = s.id and o.tenant_id = s.tenant_id;
             update rotator_internal.encryption_key k set wrapped_key = o.wrapped_key, check_value = o.check_value, master_key_id = o.master_key_id, status = o.status, destroyed_at = o.destroyed_at
                from saved_key o where o.id = k.id",
        )
        .await?;
    answer
}

const ACME: &str =
    "tenant_id = (select tenant_id from rotator_internal.tenant where slug = 'acme')";
const READ: &str = "select name, purpose, provider_ref from rotator.secrets";

#[tokio::test]
async fn a_ciphertext_opens_in_its_own_place_only() -> Result<()> {
    let db = two_tenants().await?;
    let of = |column: &str, tenant: &str, id: &str| {
        format!(
            "(select o.{column} from rotator_internal.secret o join rotator_internal.tenant t using (tenant_id) where t.slug = '{tenant}' and external_id = '{id}')"
        )
    };
    let set = |column: &str, value: &str| {
        format!(
            "update rotator_internal.secret set {column} = {value} where {ACME} and external_id = '1'"
        )
    };
    for (what, tampering) in [
        ("another row", set("name", &of("name", "acme", "2"))),
        (
            "another row's purpose",
            set("purpose", &of("purpose", "acme", "2")),
        ),
        ("another column", set("name", &of("purpose", "acme", "1"))),
        (
            "another column back",
            set("provider_ref", &of("purpose", "acme", "1")),
        ),
        ("another tenant", set("name", &of("name", "beta", "1"))),
        (
            "another table",
            set(
                "name",
                &format!("(select address from rotator_internal.recipient where {ACME} limit 1)"),
            ),
        ),
        (
            "another tenant under its key",
            format!(
                "update rotator_internal.secret set name = {} where {ACME}",
                of("name", "beta", "2")
            ),
        ),
        ("nothing", set("name", "''")),
        ("the format alone", set("name", "'\\x01'")),
        (
            "cut off",
            set("name", "substr(name, 1, octet_length(name) - 1)"),
        ),
        ("longer", set("name", "name || '\\x00'")),
        ("another format", set("name", "set_byte(name, 0, 2)")),
        ("zeroes", set("name", "decode(repeat('00', 64), 'hex')")),
    ] {
        let answer = after(&db, &tampering, READ).await?;
        // Bytes that name a key which isn't there are told apart, which helps after a bad restore.
        ensure!(
            answer.starts_with("RT011") || (what == "zeroes" && answer.starts_with("RT0")),
            "{what}: {answer}"
        );
        ensure!(
            !answer.contains("first") && !answer.contains("second"),
            "{what}: {answer}"
        );
    }
    let moved = after(&db, &format!("update rotator_internal.recipient r set address = o.address from rotator_internal.recipient o where r.{ACME} and o.tenant_id = r.tenant_id and o.id <> r.id"), "select * from rotator.contacts").await?;
    ensure!(moved.starts_with("RT011"), "{moved}");
    ensure!(
        texts(&db.session("acme", "viewer").await?, READ)
            .await?
            .len()
            == 2,
        "all is as it was"
    );
    Ok(())
}

#[tokio::test]
async fn no_byte_of_a_ciphertext_can_change() -> Result<()> {
    let db = two_tenants().await?;
    let length: usize = text(&db.admin, &format!("select octet_length(name) from rotator_internal.secret where {ACME} and external_id = '1'")).await?.parse()?;
    ensure!(
        length == 1 + 8 + 12 + "first".len() + 16,
        "format, key id, nonce, ciphertext, tag: {length}"
    );
    for byte in 0..length {
        let answer = after(&db, &format!("update rotator_internal.secret set name = set_byte(name, {byte}, get_byte(name, {byte}) # 64) where {ACME} and external_id = '1'"), READ).await?;
        let key_id = (1..9).contains(&byte);
        ensure!(
            answer.starts_with("RT011") || (key_id && answer.starts_with("RT012")),
            "byte {byte}: {answer}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_key_row_that_was_changed_opens_nothing() -> Result<()> {
    let db = two_tenants().await?;
    let data = format!("{ACME} and purpose = 'data'");
    let other = "(select {} from rotator_internal.encryption_key join rotator_internal.tenant t using (tenant_id) where t.slug = 'beta' and purpose = 'data')";
    for (what, change, expected) in [
        (
            "a byte of the wrapped key",
            "wrapped_key = set_byte(wrapped_key, 20, get_byte(wrapped_key, 20) # 1)".to_owned(),
            "RT010",
        ),
        (
            "a shorter wrapped key",
            "wrapped_key = substr(wrapped_key, 1, 30)".to_owned(),
            "RT010",
        ),
        (
            "another tenant's wrapped key",
            format!(
                "wrapped_key = {}, check_value = {}",
                other.replace("{}", "wrapped_key"),
                other.replace("{}", "check_value")
            ),
            "RT010",
        ),
        (
            "the index key's",
            format!(
                "wrapped_key = (select wrapped_key from rotator_internal.encryption_key where {ACME} and purpose = 'index')"
            ),
            "RT010",
        ),
        (
            "the check value",
            "check_value = set_byte(check_value, 0, get_byte(check_value, 0) # 1)".to_owned(),
            "RT010",
        ),
        (
            "the master key's name",
            "master_key_id = 'nobody'".to_owned(),
            "RT010",
        ),
        (
            "destroyed",
            "status = 'destroyed', wrapped_key = null, destroyed_at = now()".to_owned(),
            "RT012",
        ),
    ] {
        let answer = after(
            &db,
            &format!("update rotator_internal.encryption_key set {change} where {data}"),
            READ,
        )
        .await?;
        ensure!(
            answer.starts_with(expected) && answer.contains("Some("),
            "{what}: {answer}"
        );
    }
    ensure!(
        texts(&db.session("acme", "viewer").await?, READ)
            .await?
            .len()
            == 2,
        "all is as it was"
    );
    expect_nothing_written(&db).await
}

/// Without a usable key nothing is stored, not even an audit event.
async fn expect_nothing_written(db: &TestDb) -> Result<()> {
    let count = async |admin: &Client| {
        text(admin, "select concat_ws('/', (select count(*) from rotator_internal.secret), (select count(*) from rotator_internal.audit_event), (select count(*) from rotator_internal.calendar))").await
    };
    let editor = db.member("acme", "editor").await?;
    db.admin.batch_execute(&format!("update rotator_internal.encryption_key set check_value = decode(repeat('00', 16), 'hex') where {ACME} and purpose = 'data'")).await?;
    let before = count(&db.admin).await?;
    let session = db.connect_as(&editor).await?;
    let answer = refusal(
        &session,
        "select rotator.register_secret('new', rotation_interval => '1 day')",
    )
    .await?;
    ensure!(answer.starts_with("RT010"), "{answer}");
    ensure!(count(&db.admin).await? == before);
    Ok(())
}
