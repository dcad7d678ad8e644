//! Input that must not get in: each refusal has one SQLSTATE, a message and a hint, quotes no secret, and nothing at
//! all is stored, through the function and through the view.

use anyhow::{Result, ensure};
use rotator_tests::refused;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use crate::seed::Acme;

/// Refused by the function, and by the view where it can say the same.
async fn all_refused(code: &str, cases: &[(&str, &str)]) -> Result<()> {
    let acme = Acme::new().await?;
    acme.register(
        "taken",
        "rotation_interval => '90 days', external_id => 'x-1'",
    )
    .await?;
    let before = acme.fingerprint().await?;
    for (columns, values) in cases {
        let named: Vec<String> = columns
            .split(", ")
            .zip(values.split("; "))
            .map(|(column, value)| format!("{column} => {value}"))
            .collect();
        let call = format!("select rotator.register_secret({})", named.join(", "));
        refused(acme.editor.query(&call, &[]).await, code).map_err(|error| error.context(call))?;
        let insert = format!(
            "insert into rotator.secrets ({columns}) values ({})",
            values.replace("; ", ", ")
        );
        refused(acme.editor.execute(&insert, &[]).await, code)
            .map_err(|error| error.context(insert))?;
    }
    assert_eq!(acme.fingerprint().await?, before, "nothing was stored");
    Ok(())
}

#[tokio::test]
async fn impossible_dates_and_intervals() -> Result<()> {
    all_refused(
        "22023",
        &[
            ("name", "'x'"),
            ("name, rotation_interval", "'x'; '0'"),
            ("name, rotation_interval", "'x'; '0 days'"),
            ("name, rotation_interval", "'x'; '-90 days'"),
            ("name, rotation_interval", "'x'; '1 month -31 days'"),
            ("name, rotation_interval", "'x'; '-1 month 60 days'"),
            ("name, rotation_interval", "'x'; '1 day -1 second'"),
            ("name, rotation_interval", "'x'; '101 years'"),
            ("name, rotation_interval", "'x'; '1000000 years'"),
            ("name, rotation_interval", "'x'; '2000000000 days'"),
            ("name, expiry_date", "'x'; '99999-01-01'"),
            ("name, expiry_date", "'x'; '10000-01-01'"),
            ("name, expiry_date", "'x'; '0001-01-01 BC'"),
            ("name, expiry_date", "'x'; '1969-01-01'"),
            ("name, expiry_date", "'x'; 'infinity'"),
            ("name, expiry_date", "'x'; '-infinity'"),
            (
                "name, expiry_date, rotation_interval",
                "'x'; '99999-01-01'; '90 days'",
            ),
            (
                "name, expiry_date, rotation_interval",
                "'x'; '2027-01-01'; '-90 days'",
            ),
        ],
    )
    .await
}

#[tokio::test]
async fn impossible_names_and_texts() -> Result<()> {
    let due = "'90 days'";
    let mut cases = Vec::new();
    for name in [
        "null",
        "''",
        "'   '",
        "repeat('x', 257)",
        "repeat('x', 10000)",
        "repeat('ä', 257)",
        "E'two\\nlines'",
        "E'tab\\there'",
        "E'bell\\x07'",
        "E'escape\\x1b[31m'",
        "E'delete\\x7f'",
        "E'c1\\u0085'",
        "E'zero\\u200bwidth'",
        "E'joiner\\u200d'",
        "E'right\\u202eleft'",
        "E'isolate\\u2066'",
        "E'mark\\ufeff'",
        "E'soft\\u00adhyphen'",
        "E'filler\\u3164'",
        "E'\\u3164'",
        "E'\\u00a0'",
        "E'\\u3000\\u2003'",
        "E'\\u2800'",
        "E'tag\\U000e0041'",
        "E'line\\u2028'",
    ] {
        cases.push(("name, rotation_interval", format!("{name}; {due}")));
    }
    for (column, value) in [
        ("provider_type", "repeat('a', 64)"),
        ("provider_type", "'two words'"),
        ("provider_type", "'a/b'"),
        ("provider_type", "'-'"),
        ("provider_type", "''"),
        ("environment", "repeat('a', 64)"),
        ("environment", "E'a\\nb'"),
        ("priority", "'P5'"),
        ("priority", "'urgent'"),
        ("priority", "''"),
        ("labels", "'[]'::jsonb"),
        ("labels", "'3'::jsonb"),
        ("labels", "jsonb_build_object('a', repeat('x', 10000))"),
        ("owner_id", "''"),
        ("owner_id", "repeat('a', 256)"),
        ("secondary_owner_id", "E'a\\nb'"),
        ("team_lead_id", "repeat('a', 256)"),
        ("external_id", "repeat('a', 256)"),
        ("external_id", "''"),
        ("purpose", "repeat('x', 10001)"),
        ("provider_ref", "repeat('x', 10001)"),
        ("provider_ref", "E'a\\x01b'"),
    ] {
        cases.push((
            match column {
                "provider_type" => "name, rotation_interval, provider_type",
                "environment" => "name, rotation_interval, environment",
                "priority" => "name, rotation_interval, priority",
                "labels" => "name, rotation_interval, labels",
                "owner_id" => "name, rotation_interval, owner_id",
                "secondary_owner_id" => "name, rotation_interval, secondary_owner_id",
                "team_lead_id" => "name, rotation_interval, team_lead_id",
                "external_id" => "name, rotation_interval, external_id",
                "purpose" => "name, rotation_interval, purpose",
                _ => "name, rotation_interval, provider_ref",
            },
            format!("'x'; {due}; {value}"),
        ));
    }
    let cases: Vec<(&str, &str)> = cases
        .iter()
        .map(|(columns, values)| (*columns, values.as_str()))
        .collect();
    all_refused("22023", &cases).await
}

#[tokio::test]
async fn duplicates() -> Result<()> {
    all_refused(
        "23505",
        &[
            ("name, rotation_interval", "'taken'; '90 days'"),
            ("name, rotation_interval", "' TAKEN '; '90 days'"),
            (
                "name, rotation_interval, external_id",
                "'free'; '90 days'; 'x-1'",
            ),
        ],
    )
    .await
}

#[tokio::test]
async fn secret_values_where_a_name_belongs() -> Result<()> {
    let acme = Acme::new().await?;
    acme.register("taken", "rotation_interval => '90 days'")
        .await?;
    let before = acme.fingerprint().await?;
    let random = "Zx8Kq2Lw9Vb4Nc7M";
    let values = [
        format!("ghp_{random}{random}Ab12"),
        format!("token=ghp_{random}{random}Ab12"),
        format!("sk_live_{random}{random}"),
        "AKIAZ7QK4WMN2XPLT5RB".to_owned(),
        format!("xoxb-123456789012-123456789012-{random}Abcdef12"),
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAu1SU1LfVLPHCozMxH2Mo\n-----END RSA PRIVATE KEY-----".to_owned(),
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAE\n-----END OPENSSH PRIVATE KEY-----".to_owned(),
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U".to_owned(),
    ];
    for value in &values {
        for field in [
            "name",
            "purpose",
            "provider_ref",
            "owner_id",
            "secondary_owner_id",
            "team_lead_id",
            "environment",
            "external_id",
            "provider_type",
            "priority",
        ] {
            let name = if field == "name" { "" } else { "name => 'x', " };
            let sql = format!(
                "select rotator.register_secret({name}rotation_interval => '90 days', {field} => $1)"
            );
            let refusal = refused(acme.editor.query(&sql, &[value]).await, "RT001")
                .map_err(|error| error.context(format!("{field} {value}")))?;
            ensure!(
                refusal.message().contains(field),
                "it names the field {field}: {}",
                refusal.message()
            );
            for part in [
                Some(refusal.message()),
                refusal.detail(),
                refusal.hint(),
                refusal.where_(),
            ]
            .into_iter()
            .flatten()
            {
                ensure!(!part.contains(&value[..16]), "it quotes the value: {part}");
            }
        }
        for sql in [
            "select rotator.register_secret('x', rotation_interval => '90 days', labels => jsonb_build_object('note', $1::text))",
            "select rotator.register_secret('x', rotation_interval => '90 days', labels => jsonb_build_object($1::text, 'note'))",
            "insert into rotator.secrets (name, interval_days) values ($1, 90) returning id",
            "update rotator.secrets set purpose = $1 returning id",
            "select rotator.mark_rotated(id, note => $1) from rotator.secrets",
            "select rotator.retire_secret(id, reason => $1) from rotator.secrets",
        ] {
            refused(acme.editor.query(sql, &[value]).await, "RT001")
                .map_err(|error| error.context(sql))?;
        }
    }
    assert_eq!(acme.fingerprint().await?, before, "nothing was stored");
    let log = acme.db.cluster.log()?;
    for value in &values {
        let core = value.lines().nth(1).unwrap_or(value);
        ensure!(!log.contains(core), "the server's log has {core}");
    }
    Ok(())
}

#[tokio::test]
async fn names_that_only_resemble_a_secret_are_fine() -> Result<()> {
    let acme = Acme::new().await?;
    for name in [
        "stripe-prod-key-2026",
        "sk_live key for billing",
        "AKIA keys of the build account",
        "ghp_ token of the release bot",
        "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/db-Ab12Cd",
        "*.acme.example certificate, Let's Encrypt R11",
        "Schlüssel für die Zahlungen – Übergabe",
        "決済サービスの鍵",
        "0b5c1a4e-8a4e-4d9b-9d5f-2f4f0c1f7a11",
        "SHA-256 fingerprint 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    ] {
        acme.register(name, "rotation_interval => '90 days'")
            .await
            .map_err(|error| error.context(name))?;
    }
    Ok(())
}

#[tokio::test]
async fn longest_names_and_texts_are_kept_whole() -> Result<()> {
    let acme = Acme::new().await?;
    let (name, purpose) = ("ä".repeat(256), "line\nünd\n".repeat(1111));
    acme.editor
        .execute(
            "select rotator.register_secret($1, rotation_interval => '100 years', purpose => $2)",
            &[&name, &purpose],
        )
        .await?;
    let row = acme
        .editor
        .query_one("select name, purpose from rotator.secrets", &[])
        .await?;
    ensure!(row.get::<_, String>(0) == name && row.get::<_, String>(1).trim() == purpose.trim());
    Ok(())
}

/// Bytes as they are, as text.
#[derive(Debug)]
struct Raw(&'static [u8]);

impl ToSql for Raw {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

#[tokio::test]
async fn bytes_that_are_no_text_are_refused_by_the_server() -> Result<()> {
    let acme = Acme::new().await?;
    let before = acme.fingerprint().await?;
    for bytes in [
        &b"\xff"[..],
        b"stripe \xc3\x28",
        b"\xed\xa0\x80",
        b"nul\0inside",
    ] {
        let outcome = acme
            .editor
            .query(
                "select rotator.register_secret($1, rotation_interval => '90 days')",
                &[&Raw(bytes)],
            )
            .await;
        let error = outcome.expect_err("it is not UTF-8");
        ensure!(
            error.code().is_some_and(|code| code.code() == "22021"),
            "{bytes:?}: {error:?}"
        );
    }
    assert_eq!(acme.fingerprint().await?, before);
    Ok(())
}

#[tokio::test]
async fn unknown_ids_are_not_found_by_any_call() -> Result<()> {
    let acme = Acme::new().await?;
    let id = acme.due("stripe").await?;
    acme.tick().await?;
    acme.db.tenant("globex").await?;
    let other = acme.db.session("globex", "admin").await?;
    let before = acme.fingerprint().await?;
    for call in [
        "mark_rotated($1)",
        "acknowledge($1)",
        "retire_secret($1)",
        "add_notification_policy(3, secret_id => $1)",
    ] {
        let sql = format!("select rotator.{call}");
        for id in [id, uuid::Uuid::nil()] {
            refused(other.query(&sql, &[&id]).await, "PT404")
                .map_err(|error| error.context(sql.clone()))?;
        }
    }
    assert_eq!(acme.fingerprint().await?, before);
    Ok(())
}
