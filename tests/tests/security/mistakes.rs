//! Every mistake of a caller is a 4xx in PostgREST's eyes: bad arguments, rows that aren't there or not his, wrong states,
//! missing rights. One line a mistake, with the status that the caller gets.

use anyhow::{Result, ensure};
use rotator_tests::postgrest::{blames_the_caller, status};

use crate::claims::{request, with_gate};
use crate::fixture::{populate, text, verdict};
use crate::postgrest::claims;

#[tokio::test]
async fn every_mistake_of_a_caller_is_a_4xx() -> Result<()> {
    let (db, gate) = with_gate(&[]).await?;
    populate(&db, "acme").await?;
    populate(&db, "beta").await?;
    let foreign = text(
        &db.admin,
        "select id from rotator_internal.secret where external_id = 'due' and tenant_id = (select tenant_id from rotator_internal.tenant where slug = 'beta')",
    )
    .await?;
    let own = text(
        &db.admin,
        "select id from rotator_internal.secret where external_id = 'due' and tenant_id = (select tenant_id from rotator_internal.tenant where slug = 'acme')",
    )
    .await?;
    for (role, statement, expected) in [
        ("editor", "select rotator.register_secret('')", 400),
        ("editor", "select rotator.register_secret(null)", 400),
        ("editor", "select rotator.register_secret('no dates')", 400),
        (
            "editor",
            "select rotator.register_secret('x', expiry_date => 'someday')",
            400,
        ),
        (
            "editor",
            "select rotator.register_secret('x', rotation_interval => '-1 day')",
            400,
        ),
        (
            "editor",
            "select rotator.register_secret('x', rotation_interval => '178000000 years')",
            400,
        ),
        (
            "editor",
            "select rotator.register_secret('x', expiry_date => 'infinity')",
            400,
        ),
        (
            "editor",
            "select rotator.register_secret('acme-due', rotation_interval => '1 day')",
            409,
        ),
        (
            "editor",
            "select rotator.register_secret('x', rotation_interval => '1 day', priority => 'P9')",
            400,
        ),
        (
            "editor",
            "select rotator.register_secret('x', rotation_interval => '1 day', labels => '[]')",
            400,
        ),
        (
            "editor",
            "select rotator.register_secret('AKIAIOSFODNN7EXAMPLE', rotation_interval => '1 day')",
            400,
        ),
        (
            "viewer",
            "select rotator.register_secret('x', rotation_interval => '1 day')",
            403,
        ),
        ("editor", "select rotator.rotate_key()", 403),
        (
            "editor",
            "insert into rotator.secrets (name) values ('x')",
            400,
        ),
        (
            "editor",
            "insert into rotator.secrets (name, interval_days) values ('x', -1)",
            400,
        ),
        (
            "editor",
            "insert into rotator.secrets (name, interval_days, cycle) values ('x', 1, 7)",
            400,
        ),
        (
            "editor",
            "insert into rotator.secrets (name, interval_days) values ('acme-due', 1)",
            409,
        ),
        ("editor", "update rotator.secrets set name = null", 400),
        (
            "editor",
            "update rotator.secrets set status = 'healthy' where id = '$own'",
            400,
        ),
        (
            "editor",
            "update rotator.secrets set expiry_date = null where id = '$own'",
            400,
        ),
        (
            "editor",
            "update rotator.secrets set name = repeat('x', 300) where id = '$own'",
            400,
        ),
        (
            "viewer",
            "delete from rotator.secrets where id = '$own'",
            403,
        ),
        ("editor", "select rotator.mark_rotated('$foreign')", 404),
        ("editor", "select rotator.mark_rotated(null)", 404),
        ("editor", "select rotator.mark_rotated('nonsense')", 400),
        ("editor", "select rotator.mark_rotated('$own')", 400),
        (
            "editor",
            "select rotator.mark_rotated('$own', rotated_at => now() + interval '1 day')",
            400,
        ),
        (
            "editor",
            "select rotator.mark_rotated('$own', next_expiry_date => now() - interval '1 day')",
            400,
        ),
        (
            "editor",
            "select rotator.mark_rotated('$own', next_expiry_date => now() + interval '1 day', evidence_url => 'ftp:x')",
            400,
        ),
        (
            "editor",
            "select rotator.acknowledge('$own', until => now() - interval '1 day')",
            400,
        ),
        (
            "editor",
            "select rotator.acknowledge((select id from rotator.secrets where external_id is null and cycle = 2))",
            409,
        ),
        ("editor", "select rotator.retire_secret('$foreign')", 404),
        (
            "editor",
            "select rotator.search_secrets(status => 'lost')",
            400,
        ),
        (
            "editor",
            "select rotator.search_secrets(max_rows => 0)",
            400,
        ),
        ("editor", "select rotator.import_secrets('{}')", 400),
        ("editor", "select rotator.import_secrets(null)", 400),
        ("editor", "select rotator.no_such_function()", 404),
        ("editor", "select * from rotator.no_such_view", 404),
        ("editor", "select no_such_column from rotator.secrets", 400),
        (
            "editor",
            "select * from rotator.secrets where expiry_date > 'x'",
            400,
        ),
        ("editor", "select * from rotator.encrypted_columns", 403),
        ("editor", "select rotator.tick()", 403),
        (
            "admin",
            "select rotator.set_contact('x', 'carrier pigeon', 'coo')",
            400,
        ),
        (
            "admin",
            "select rotator.set_contact('x', 'email', 'not an address')",
            400,
        ),
        (
            "admin",
            "select rotator.set_contact(null, 'email', 'a@example.com')",
            400,
        ),
        (
            "admin",
            "select rotator.add_notification_policy(99999)",
            400,
        ),
        ("admin", "select rotator.add_notification_policy(14)", 409),
        (
            "admin",
            "select rotator.add_notification_policy(2, secret_id => '$foreign')",
            404,
        ),
        (
            "admin",
            "select rotator.remove_notification_policy(gen_random_uuid())",
            404,
        ),
        ("admin", "select rotator.add_member('x', 'owner')", 400),
        (
            "admin",
            "select rotator.add_member('db:postgres', 'viewer')",
            403,
        ),
        (
            "admin",
            "select rotator.add_member('x', 'viewer', 'beta')",
            403,
        ),
        ("admin", "select rotator.retire_key(99)", 404),
        ("admin", "select rotator.retire_key(1)", 409),
        ("admin", "select rotator.destroy_key(1, 'yes')", 400),
        ("admin", "select rotator.rollback_key_rotation(0)", 404),
        ("admin", "select rotator.set_key_schedule('1 second')", 400),
        ("admin", "select rotator.decrypt('\\x00', 'l', 'k')", 400),
        ("admin", "select rotator.encrypt('x', '', 'k')", 400),
        ("admin", "select rotator.use_tenant('beta')", 403),
        ("admin", "select rotator.create_tenant('mine', 'Mine')", 403),
        (
            "nobody",
            "select rotator.register_secret('x', rotation_interval => '1 day')",
            400,
        ),
        ("nobody", "update rotator.secrets set name = 'x'", 0),
    ] {
        let claims = claims(role).replace("nobody", "");
        request(&gate, &claims, "").await?;
        let asked = statement
            .replace("$own", &own)
            .replace("$foreign", &foreign);
        let code = verdict(&gate, &asked).await?;
        gate.batch_execute("rollback").await?;
        let answered = if code == "ok" { 0 } else { status(&code) };
        ensure!(
            answered == expected,
            "{role}: {statement}: {code} is {answered}, not {expected}"
        );
        ensure!(
            code == "ok" || blames_the_caller(&code),
            "{statement}: {code}"
        );
    }
    Ok(())
}
