//! `rotator keys reencrypt`, and `keys rotate --wait`: every row under the new version, at a pace, with a bar at a
//! terminal; stopped and gone on with, waiting for others, failing with a reason. The rest of `keys`: `cli_keys_life.rs`.

use anyhow::{Context, Result, ensure};
use rotator_tests::{Cli, Role, scalar};
use serde_json::Value;

use crate::cli_secrets::refused as says;
use crate::seed::{Acme, SOON};

/// Rows of acme that are under this version of its key.
pub async fn rows_under(acme: &Acme, version: i32) -> Result<i64> {
    let sql = "select row_count from rotator.encryption_keys
        where tenant_id = rotator.current_tenant() and purpose = 'data' and version = $1";
    scalar(&acme.operator, sql, &[&version]).await
}

/// Status, total, done and failed of acme's last rotation.
pub async fn last_rotation(acme: &Acme) -> Result<(String, i64, i64, i64)> {
    let sql = "select status, total, done, failed from rotator.key_rotations
        where tenant_id = rotator.current_tenant() order by id desc limit 1";
    let row = acme.operator.query_one(sql, &[]).await?;
    Ok((row.get(0), row.get(1), row.get(2), row.get(3)))
}

/// acme with so many rows, half of them secrets that nobody has to be told of, half what the audit log keeps of these; and
/// its key rotated since.
pub async fn rotated(rows: usize) -> Result<Acme> {
    let acme = Acme::new().await?;
    let secrets = rows / 2;
    let register = format!(
        "select rotator.register_secret('key-' || i, expiry_date => now() + interval '1 year')
         from generate_series(1, {secrets}) as i"
    );
    acme.operator.batch_execute(&register).await?;
    acme.operator
        .execute("select rotator.rotate_key()", &[])
        .await?;
    Ok(acme)
}

/// That nobody lost a name, of so many rows as above.
pub async fn all_read(acme: &Acme, rows: usize) -> Result<()> {
    let sql = "select count(distinct name) from rotator.secrets where name like 'key-%'";
    let read: i64 = scalar(&acme.operator, sql, &[]).await?;
    ensure!(read == i64::try_from(rows / 2)?, "{read} names can be read");
    Ok(())
}

fn keys(acme: &Acme, role: &Role, arguments: &[&str]) -> Result<Cli> {
    let all: Vec<&str> = ["keys"].iter().chain(arguments).copied().collect();
    Ok(Cli::new(&acme.db, role, &all)?.env("ROTATOR_TENANT", "acme"))
}

#[tokio::test]
async fn every_row_goes_under_the_new_version_and_a_repeat_has_nothing_to_do() -> Result<()> {
    let acme = rotated(120).await?;
    ensure!(rows_under(&acme, 1).await? == 120);
    let reencrypt = ["reencrypt", "--batch", "50", "--pace", "100"];
    let said = keys(&acme, &acme.operator_role, &reencrypt)?.ok().await?;
    ensure!(said == "re-encrypted: 120 rows\n", "{said}");
    ensure!(rows_under(&acme, 1).await? == 0 && rows_under(&acme, 2).await? == 120);
    let (status, total, done, failed) = last_rotation(&acme).await?;
    ensure!((status.as_str(), total, done, failed) == ("completed", 120, 120, 0));
    all_read(&acme, 120).await?;
    let json = keys(
        &acme,
        &acme.operator_role,
        &["reencrypt", "--format", "json"],
    )?
    .ok()
    .await?;
    ensure!(
        serde_json::from_str::<Value>(&json)?["reencrypted"] == 0,
        "{json}"
    );

    let rotate = ["rotate", "--wait"];
    let printed = keys(&acme, &acme.operator_role, &rotate)?.run().await?;
    ensure!(printed.code == 0, "{printed:?}");
    printed.stdout.trim_end().parse::<i64>().context("its id")?;
    ensure!(printed.stderr.contains("120 rows"), "{printed:?}");
    ensure!(rows_under(&acme, 3).await? == 120);
    Ok(())
}

#[tokio::test]
async fn with_a_tenant_it_ends_when_that_one_is_done() -> Result<()> {
    let acme = rotated(30).await?;
    acme.db.tenant("globex").await?;
    let all = Cli::new(
        &acme.db,
        &acme.operator_role,
        &["keys", "rotate", "--all", "--reason", "drill"],
    )?;
    ensure!(all.ok().await? == "2\n");
    // Nothing moves there while this is locked, and acme's doesn't care.
    let other = acme.db.superuser().await?;
    other
        .batch_execute(
            "begin; select from rotator_internal.key_rotation as r
             join rotator_internal.tenant as t on t.tenant_id = r.tenant_id where t.slug = 'globex' for update of r",
        )
        .await?;
    keys(&acme, &acme.operator_role, &["reencrypt"])?
        .ok()
        .await?;
    ensure!(last_rotation(&acme).await?.0 == "completed");
    other.batch_execute("rollback").await?;
    let everybody = ["keys", "reencrypt"];
    Cli::new(&acme.db, &acme.operator_role, &everybody)?
        .ok()
        .await?;
    let running: i64 = scalar(
        &acme.db.admin,
        "select count(*) from rotator.key_rotations where status = 'running'",
        &[],
    )
    .await?;
    ensure!(running == 0);
    Ok(())
}

#[tokio::test]
async fn at_a_terminal_a_bar_shows_how_far_it_is_and_ctrl_c_stops_between_batches() -> Result<()> {
    let acme = rotated(600).await?;
    let slow = ["reencrypt", "--batch", "20", "--pace", "2"];
    let mut terminal = keys(&acme, &acme.operator_role, &slow)?.at_terminal()?;
    for part in ["/600 rows, ", "/s, ", " left"] {
        terminal.shows(SOON, part).await?;
    }
    terminal.interrupt()?;
    let ended = terminal.ended(SOON).await?;
    let shown = terminal.shown();
    ensure!(ended.code() == Some(130), "{ended} {shown:?}");
    ensure!(
        shown.contains("error: stopped: ") && shown.contains("Run it again to go on"),
        "{shown:?}"
    );
    let (status, total, done, _) = last_rotation(&acme).await?;
    ensure!(status == "running" && total == 600 && done > 0 && done < 600);

    let rest = keys(&acme, &acme.operator_role, &["reencrypt"])?
        .ok()
        .await?;
    ensure!(
        rest == format!("re-encrypted: {} rows\n", 600 - done),
        "{rest} after {done}"
    );
    all_read(&acme, 600).await
}

#[tokio::test]
async fn a_transaction_that_began_before_is_waited_for() -> Result<()> {
    let acme = Acme::new().await?;
    acme.many_due(5).await?;
    let before = acme.db.session("acme", "editor").await?;
    before
        .batch_execute("begin; select rotator.encrypt('x', 'webhook.secret', '1')")
        .await?;
    acme.operator
        .execute("select rotator.rotate_key()", &[])
        .await?;
    let impatient = ["reencrypt", "--wait-for", "0"];
    let printed = keys(&acme, &acme.operator_role, &impatient)?.run().await?;
    says(
        &printed,
        1,
        "1 rotation is not completed yet: ",
        "Run it again",
    )?;
    ensure!(
        printed
            .stderr
            .contains("10 rows were re-encrypted before this"),
        "{printed:?}"
    );
    ensure!(last_rotation(&acme).await?.0 == "running");

    let mut patient = keys(&acme, &acme.operator_role, &["reencrypt"])?.at_terminal()?;
    patient.shows(SOON, "waiting for up to 60 s").await?;
    before.batch_execute("commit").await?;
    ensure!(
        patient.ended(SOON).await?.success(),
        "{:?}",
        patient.shown()
    );
    ensure!(last_rotation(&acme).await?.0 == "completed");
    all_read(&acme, 10).await
}

#[tokio::test]
async fn rows_that_others_have_locked_are_come_back_for() -> Result<()> {
    let acme = rotated(10).await?;
    let other = acme.db.superuser().await?;
    other
        .batch_execute("begin; select from rotator_internal.secret order by id limit 1 for update")
        .await?;
    let impatient = ["reencrypt", "--wait-for", "1"];
    let printed = keys(&acme, &acme.operator_role, &impatient)?.run().await?;
    says(
        &printed,
        1,
        "others have them locked; 1 are left",
        "Run it again",
    )?;
    ensure!(rows_under(&acme, 2).await? == 9);

    let mut patient = keys(&acme, &acme.operator_role, &["reencrypt"])?.at_terminal()?;
    patient.shows(SOON, "others have them locked").await?;
    other.batch_execute("commit").await?;
    ensure!(
        patient.ended(SOON).await?.success(),
        "{:?}",
        patient.shown()
    );
    ensure!(rows_under(&acme, 1).await? == 0 && last_rotation(&acme).await?.0 == "completed");
    all_read(&acme, 10).await
}

#[tokio::test]
async fn a_failed_rotation_is_an_error_until_its_rows_were_mended() -> Result<()> {
    let acme = rotated(12).await?;
    let damage = "update rotator_internal.secret as s
        set name = set_byte(s.name, octet_length(s.name) - 1, 255 - get_byte(s.name, octet_length(s.name) - 1))
        where s.id = (select min(id::text)::uuid from rotator_internal.secret)";
    acme.db.admin.batch_execute(damage).await?;
    let printed = keys(&acme, &acme.operator_role, &["reencrypt"])?
        .run()
        .await?;
    let id: i64 = scalar(
        &acme.operator,
        "select max(id) from rotator.key_rotations",
        &[],
    )
    .await?;
    says(
        &printed,
        1,
        &format!("rotation {id} failed: "),
        &format!("rotator keys reencrypt --retry {id}"),
    )?;
    let (status, total, done, failed) = last_rotation(&acme).await?;
    ensure!((status.as_str(), total, done, failed) == ("failed", 12, 11, 1));
    let table = keys(&acme, &acme.operator_role, &["status"])?.ok().await?;
    ensure!(
        table.contains(&format!("rotation {id}: 1 row(s) could not")),
        "{table}"
    );
    let again = keys(&acme, &acme.operator_role, &["reencrypt"])?
        .run()
        .await?;
    ensure!(again.code == 1, "{again:?}");

    acme.db.admin.batch_execute(damage).await?; // twice is never
    let retry = id.to_string();
    let said = keys(
        &acme,
        &acme.operator_role,
        &["reencrypt", "--retry", &retry],
    )?
    .ok()
    .await?;
    ensure!(said == "re-encrypted: 1 row\n", "{said}");
    ensure!(last_rotation(&acme).await?.0 == "completed");
    all_read(&acme, 12).await
}

#[tokio::test]
async fn who_may_not_re_encrypt_is_told_who_does_and_may_watch() -> Result<()> {
    let acme = rotated(10).await?;
    let admin = acme.db.member("acme", "admin").await?;
    let viewer = acme.db.member("acme", "viewer").await?;
    for role in [&admin, &viewer] {
        let printed = keys(&acme, role, &["reencrypt"])?.run().await?;
        says(&printed, 1, "permission denied", "rotator_admin")?;
    }
    let printed = keys(&acme, &viewer, &["reencrypt", "--retry", "1"])?
        .run()
        .await?;
    says(&printed, 1, "", "")?;

    let mut watching = keys(&acme, &admin, &["rotate", "--wait"])?.at_terminal()?;
    watching.shows(SOON, "watching").await?;
    keys(&acme, &acme.operator_role, &["reencrypt"])?
        .ok()
        .await?;
    ensure!(
        watching.ended(SOON).await?.success(),
        "{:?}",
        watching.shown()
    );
    ensure!(rows_under(&acme, 3).await? == 10);
    Ok(())
}

#[tokio::test]
async fn several_at_once_share_the_rows() -> Result<()> {
    let acme = rotated(400).await?;
    let one = || {
        keys(
            &acme,
            &acme.operator_role,
            &["reencrypt", "--batch", "20", "--format", "json"],
        )
    };
    let (first, second) = tokio::join!(one()?.ok(), one()?.ok());
    let rows = |json: String| -> Result<i64> {
        let document: Value = serde_json::from_str(&json)?;
        document["reencrypted"].as_i64().context("a number")
    };
    let (first, second) = (rows(first?)?, rows(second?)?);
    ensure!(first + second == 400, "{first} and {second}");
    let (status, total, done, failed) = last_rotation(&acme).await?;
    ensure!((status.as_str(), total, done, failed) == ("completed", 400, 400, 0));
    all_read(&acme, 400).await
}
