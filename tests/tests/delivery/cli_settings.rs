//! Where settings come from: the environment, a `.env`, a TOML file, or a file for each secret; and what is said about
//! one that can't be.

use anyhow::{Result, ensure};
use rotator_tests::Cli;

use crate::cli_secrets::refused;
use crate::seed::Acme;

const LIST: [&str; 2] = ["secrets", "list"];

#[tokio::test]
async fn each_source_works_and_the_environment_wins() -> Result<()> {
    let acme = Acme::new().await?;
    acme.due("stripe-live").await?;
    let url = acme.db.url(&acme.operator_role);
    let dotenv = format!("# ours\nROTATOR_DATABASE_URL={url}\nROTATOR_TENANT=acme\n");
    let toml = format!("database_url = \"{url}\"\ntenant = \"acme\"\n");
    for cli in [
        Cli::offline(&LIST)?.file(".env", dotenv.as_bytes())?,
        Cli::offline(&LIST)?.file("rotator.toml", toml.as_bytes())?,
        Cli::offline(&LIST)?
            .file("other.toml", toml.as_bytes())?
            .env("ROTATOR_CONFIG", "other.toml"),
        Cli::offline(&LIST)?
            .file("url", format!("{url}\n").as_bytes())?
            .env("ROTATOR_DATABASE_URL_FILE", "url")
            .env("ROTATOR_TENANT", "acme"),
        Cli::offline(&LIST)?
            .file(".env", dotenv.replace("=acme", "=nosuch").as_bytes())?
            .env("ROTATOR_TENANT", "acme"),
        Cli::offline(&[
            "secrets",
            "list",
            "--tenant",
            "acme",
            "--database-url",
            &url,
        ])?,
    ] {
        let list = cli.ok().await?;
        ensure!(list.contains("stripe-live"), "{list}");
    }
    Ok(())
}

#[tokio::test]
async fn a_mistake_in_a_file_is_named_without_its_value() -> Result<()> {
    for (file, content, message) in [
        (
            ".env",
            "ROTATOR_DATABSE_URL=hunter2hunter2\n",
            "ROTATOR_DATABSE_URL",
        ),
        (
            "rotator.toml",
            "databse_url = \"hunter2hunter2\"\n",
            "databse_url",
        ),
        (
            "rotator.toml",
            "database_url = \"hunter2hunter2\n",
            "rotator.toml",
        ),
        (
            "rotator.toml",
            "database_url = { password = \"hunter2hunter2\" }\n",
            "database_url",
        ),
    ] {
        let printed = Cli::offline(&LIST)?
            .file(file, content.as_bytes())?
            .run()
            .await?;
        refused(&printed, 4, message, "")?;
        ensure!(!printed.stderr.contains("hunter2"), "{printed:?}");
    }
    Ok(())
}
