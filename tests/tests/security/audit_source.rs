//! Who and through what: actor, source, entity and what changed, for SQL, the command line, links and the engine (for
//! claims see `claims`); and no event holds the plaintext of an encrypted field.

use anyhow::{Result, ensure};
use rotator_tests::TestDb;

use crate::fixture::{text, texts};

const LATEST: &str = "select concat_ws(' ', actor, source, action, entity, entity_id) from rotator_internal.audit_event order by id desc limit 1";
/// One word for every field that is encrypted, so that any of them is found.
const CANARY: &str = "zanzibarnachtigall";

#[tokio::test]
async fn actor_and_source_are_those_of_the_session() -> Result<()> {
    let db = TestDb::new().await?;
    let tenant = db.tenant("acme").await?;
    let role = db.member("acme", "admin").await?;
    let session = db.connect_as(&role).await?;
    let id = text(
        &session,
        "select rotator.register_secret('one', expiry_date => now() + interval '3 days')",
    )
    .await?;
    let me = role.subject();
    ensure!(text(&db.admin, LATEST).await? == format!("{me} sql secret.registered secret {id}"));
    session
        .batch_execute("set application_name = 'rotator-cli'")
        .await?;
    session
        .batch_execute(&format!(
            "update rotator.secrets set environment = 'prod' where id = '{id}'"
        ))
        .await?;
    ensure!(text(&db.admin, LATEST).await? == format!("{me} cli secret.updated secret {id}"));
    // Whatever a login calls itself, it is the actor.
    session.batch_execute("set role rotator_user; set request.jwt.claims = '{\"sub\":\"mallory\",\"tenant_id\":\"acme\"}'; set application_name = 'engine'").await?;
    session
        .batch_execute(&format!(
            "update rotator.secrets set environment = 'test' where id = '{id}'"
        ))
        .await?;
    ensure!(text(&db.admin, LATEST).await? == format!("{me} sql secret.updated secret {id}"));
    let changes = text(
        &db.admin,
        "select changes from rotator_internal.audit_event order by id desc limit 1",
    )
    .await?;
    ensure!(
        changes == r#"{"environment": {"new": "test", "old": "prod"}}"#,
        "{changes}"
    );

    let operator = db.login_role("operator", &["rotator_admin"]).await?;
    db.connect_as(&operator)
        .await?
        .batch_execute(
            "select rotator.use_tenant('acme', true); select rotator.add_member('u1', 'editor')",
        )
        .await?;
    ensure!(
        text(&db.admin, LATEST).await?
            == format!("{} sql member.added member u1", operator.subject()),
        "an operator is audited as himself"
    );
    db.admin
        .batch_execute("select rotator.create_tenant('beta', 'Beta')")
        .await?;
    ensure!(
        text(&db.admin, LATEST)
            .await?
            .starts_with("db:postgres sql tenant.created tenant ")
    );
    let own = text(
        &db.admin,
        &format!("select count(*) from rotator_internal.audit_event where tenant_id = '{tenant}'"),
    )
    .await?;
    ensure!(own == "6", "events lie with their tenant: {own}");
    Ok(())
}

#[tokio::test]
async fn a_link_acts_as_whom_it_was_sent_to() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    crate::fixture::populate(&db, "acme").await?;
    let sidecar = db
        .connect_as(&db.login_role("sidecar", &["rotator_sidecar"]).await?)
        .await?;
    let id = text(
        &db.admin,
        "select id from rotator_internal.secret where external_id = 'due'",
    )
    .await?;
    let token = text(
        &sidecar,
        "select link_token from rotator.claim_notifications('w')",
    )
    .await?;
    for (action, via, event) in [
        ("acknowledge", "slack", "slack alert.acknowledged"),
        ("rotated", "link", "link secret.rotated"),
    ] {
        sidecar
            .batch_execute(&format!("select rotator.redeem_link('{token}', '{action}', via => '{via}', next_expiry_date => now() + interval '1 year')"))
            .await?;
        ensure!(
            text(&db.admin, LATEST).await? == format!("db:postgres {event} secret {id}"),
            "{}",
            text(&db.admin, LATEST).await?
        );
    }
    let before = text(&db.admin, LATEST).await?;
    let again = text(
        &sidecar,
        &format!("select rotator.redeem_link('{token}', 'rotated')"),
    )
    .await?;
    ensure!(
        again.contains("already") && text(&db.admin, LATEST).await? == before,
        "a repeat is no event: {again}"
    );
    let stored = texts(&db.admin, &format!("select l::text from rotator_internal.delivery_attempt l where l::text like '%{token}%' or encode(token_hash, 'escape') like '%{token}%'")).await?;
    ensure!(stored.is_empty(), "the token itself is kept");
    Ok(())
}

#[tokio::test]
async fn no_event_holds_plaintext_of_an_encrypted_field() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    let session = db.session("acme", "admin").await?;
    let id = text(&session, &format!("select rotator.register_secret('{CANARY}', expiry_date => now() + interval '3 days', purpose => '{CANARY}', provider_ref => '{CANARY}/x')")).await?;
    session
        .batch_execute(&format!(
            "select rotator.set_contact(rotator.current_actor(), 'email', '{CANARY}@example.com');
             select rotator.set_contact('manager', 'slack', '#{CANARY}');
             select rotator.add_notification_policy(3, 'webhook', 'https://{CANARY}.example.com/x');
             select rotator.add_notification_policy(2, 'console', '{CANARY}', '{id}');
             update rotator.secrets set name = '{CANARY} 2', purpose = '{CANARY} 2', provider_ref = '{CANARY}/y' where id = '{id}';
             select rotator.import_secrets('[{{\"name\": \"{CANARY} 3\", \"purpose\": \"{CANARY}\", \"external_id\": \"e\", \"rotation_interval\": \"1 day\"}}]');
             select rotator.import_secrets('[{{\"name\": \"{CANARY} 4\", \"external_id\": \"e\"}}]');
             select rotator.mark_rotated('{id}', next_expiry_date => now() + interval '3 days', note => 'done');
             delete from rotator.secrets where name like '{CANARY} 4'"
        ))
        .await?;
    db.admin.batch_execute("select rotator.tick(); select rotator.complete_notification(id, claim_id, 'm') from rotator.claim_notifications('w')").await?;
    let events = texts(
        &db.admin,
        "select e::text from rotator_internal.audit_event e",
    )
    .await?;
    ensure!(events.len() >= 12, "{}", events.len());
    let telling: Vec<_> = events
        .iter()
        .filter(|event| event.contains(CANARY))
        .collect();
    ensure!(telling.is_empty(), "{telling:#?}");
    // Nor does any other table, in any column, show it as text.
    for table in texts(&db.admin, "select relname from pg_class where relnamespace = 'rotator_internal'::regnamespace and relkind = 'r'").await? {
        let telling = texts(&db.admin, &format!("select t::text from rotator_internal.{table} t where t::text like '%{CANARY}%' or t::text like '%' || encode('{CANARY}', 'hex') || '%'")).await?;
        ensure!(telling.is_empty(), "{table}: {telling:?}");
    }
    Ok(())
}
