//! Typed fields: what a name is, and the forms that references have, by provider. Generous to what people write: each
//! provider's own forms, the short ones too; strict to what can't be a reference of it.

use anyhow::{Result, ensure};
use rotator_tests::{TestDb, refused};

const REFERENCES: &[(&str, &[&str])] = &[
    (
        "aws",
        &[
            "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/db-Ab12Cd",
            "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/db-Ab12Cd:password::",
            "arn:aws-cn:iam::123456789012:user/backup",
            "arn:aws-us-gov:ssm:us-gov-west-1:123456789012:parameter/prod/db",
            "arn:aws:s3:::acme-bucket",
            "prod/db",
            "/prod/db/password",
            "backup-user",
            "https://eu-west-1.console.aws.amazon.com/secretsmanager/secret?name=prod",
        ],
    ),
    (
        "aws_sm",
        &[
            "prod/db",
            "arn:aws:acm:eu-west-1:123456789012:certificate/0b5c1a4e-8a4e-4d9b-9d5f-2f4f0c1f7a11",
        ],
    ),
    (
        "gcp",
        &[
            "projects/my-project/secrets/stripe/versions/7",
            "projects/123456789012/locations/eu/secrets/stripe",
            "//secretmanager.googleapis.com/projects/p/secrets/s/versions/latest",
            "backup@my-project.iam.gserviceaccount.com",
            "stripe-key",
        ],
    ),
    (
        "azure_key_vault",
        &[
            "https://kv-prod.vault.azure.net/secrets/db-password",
            "https://kv-prod.vault.azure.net/secrets/db-password/0123456789abcdef0123456789abcdef",
            "/subscriptions/0b5c1a4e-8a4e-4d9b-9d5f-2f4f0c1f7a11/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/kv",
            "0b5c1a4e-8a4e-4d9b-9d5f-2f4f0c1f7a11",
            "kv-prod/db-password",
            "Payments API",
        ],
    ),
    (
        "vault",
        &[
            "team/service-1",
            "kv/stripe",
            "secret/data/prod/db#password",
            "/secret/prod/db",
            "vault:secret/data/prod#key",
            "https://vault.acme.com:8200/v1/secret/data/prod",
            "x",
        ],
    ),
    (
        "kubernetes",
        &[
            "payments/db-credentials",
            "payments/db-credentials/password",
            "db",
            "prod-eu/payments/secret/db",
            "ns/tls.key",
        ],
    ),
    ("k8s", &["default/registry.pull-secret"]),
    (
        "1password",
        &[
            "op://Production/Stripe/live key",
            "op://Prod/Stripe/section/field",
            "op://vault/item",
            "Production/Stripe",
            "https://start.1password.com/open/i?a=1",
        ],
    ),
    (
        "stripe",
        &["acct_1", "anything a person writes, really: (at) all"],
    ),
];

const REFUSED: &[(&str, &[&str])] = &[
    (
        "aws",
        &[
            "arn:aws:secretsmanager",
            "arn:azure:x:y:123456789012:z",
            "two words",
            "arn:aws:iam::12345:user/x",
            "https://example.com/x",
        ],
    ),
    (
        "gcp",
        &[
            "projects/",
            "two words",
            "/etc/passwd",
            "https://example.com/x",
        ],
    ),
    (
        "azure",
        &[
            "https://example.com/secrets/x",
            "https://kv.vault.azure.net/other/x",
            "a\u{e4}b{}",
        ],
    ),
    (
        "vault",
        &["secret//x#", "kv/päth", "https://u:p@vault/v1/x", "kv/a?b"],
    ),
    ("kubernetes", &["a/b/c/d/e/f", "name space/x", "-x", "x/"]),
    (
        "1password",
        &[
            "op://",
            "op://vault",
            "https://example.com/open",
            "op://a/b/c/d/e",
        ],
    ),
];

#[tokio::test]
async fn references_have_the_forms_of_their_provider() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    let editor = db.session("acme", "editor").await?;
    let call = "select rotator.register_secret('r' || clock_timestamp(), $1, rotation_interval => '90 days', provider_ref => $2)";
    for (provider, references) in REFERENCES {
        for reference in *references {
            editor
                .query(call, &[provider, reference])
                .await
                .map_err(|error| {
                    anyhow::Error::from(error).context(format!("{provider}: {reference}"))
                })?;
        }
    }
    for (provider, references) in REFUSED {
        for reference in *references {
            let answer = editor.query(call, &[provider, reference]).await;
            ensure!(answer.is_err(), "{provider} took {reference}");
            if let Ok(refusal) = refused(answer, "22023") {
                ensure!(
                    refusal.message()
                        == format!("provider_ref is no reference of provider {provider}"),
                    "{refusal:?}"
                );
                ensure!(
                    refusal.hint().is_some_and(|hint| hint.starts_with("Like ")),
                    "{refusal:?}"
                );
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_reference_that_was_stored_before_may_stay() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    let editor = db.session("acme", "editor").await?;
    editor
        .batch_execute("select rotator.register_secret('old', 'own', rotation_interval => '90 days', provider_ref => 'two words')")
        .await?;
    // As if the provider had had no grammar when it was registered.
    db.admin
        .batch_execute("update rotator_internal.secret set provider_type = 'aws'")
        .await?;
    editor
        .batch_execute("update rotator.secrets set priority = 'P1', purpose = 'changed'")
        .await?;
    refused(
        editor
            .execute(
                "update rotator.secrets set provider_ref = 'three more words'",
                &[],
            )
            .await,
        "22023",
    )?;
    editor
        .batch_execute("update rotator.secrets set provider_ref = 'prod/db'")
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_name_has_a_letter_or_a_digit() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    let editor = db.session("acme", "editor").await?;
    let call = "select rotator.register_secret($1, rotation_interval => '90 days')";
    for name in ["***", "-", "…", "(?)", "🔑"] {
        refused(editor.query(call, &[&name]).await, "22023")
            .map_err(|error| error.context(name))?;
    }
    for name in ["7", "é", "鍵", "*.acme.com", "🔑 root", "[prod] key"] {
        editor.execute(call, &[&name]).await?;
    }
    Ok(())
}
