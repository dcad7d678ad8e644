//! An application of two tenants with encrypted columns in tables of its own: how the tests of encrypted columns fill a
//! table, register it, rotate all keys, and see under which version its values are and that both tenants read theirs.

use anyhow::{Result, ensure};
use rotator_tests::{TestDb, scalar};
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::key_rotation::reencrypt_all;
use crate::seed::rows;

/// An application with two tenants; `owner` owns schema app and is an operator, like whoever sets an application up.
pub struct Host {
    pub db: TestDb,
    pub owner: Client,
    pub acme: Client,
    pub beta: Client,
}

impl Host {
    pub async fn new() -> Result<Self> {
        let db = TestDb::new().await?;
        db.tenant("acme").await?;
        db.tenant("beta").await?;
        let role = db.login_role("host", &["rotator_admin"]).await?;
        db.admin
            .batch_execute(&format!(
                "create schema app authorization {0}; grant usage on schema app to rotator_user",
                role.name
            ))
            .await?;
        let owner = db.connect_as(&role).await?;
        let acme = db.session("acme", "editor").await?;
        let beta = db.session("beta", "editor").await?;
        owner
            .batch_execute("select rotator.use_tenant('acme')")
            .await?;
        Ok(Host {
            db,
            owner,
            acme,
            beta,
        })
    }

    /// Twenty rows of acme and five of beta, in a table with columns id, tenant and secret.
    pub async fn fill(&self, table: &str, id: &str, tenant: &str) -> Result<()> {
        self.owner
            .batch_execute(&format!(
                "grant select, insert, update on {table} to rotator_user"
            ))
            .await?;
        for (session, slug, count) in [(&self.acme, "acme", 20), (&self.beta, "beta", 5)] {
            session
                .batch_execute(&format!(
                    "with fresh as materialized (select {id} as id, n from generate_series(1, {count}) as n)
                     insert into {table} (id, tenant, secret)
                     select id, {tenant}, rotator.encrypt('{slug} ' || n, 'label', id::text) from fresh",
                ))
                .await?;
        }
        Ok(())
    }

    pub async fn register(&self, table: &str) -> Result<()> {
        Ok(self
            .owner
            .batch_execute(&format!(
                "select rotator.register_encrypted_column('{table}', 'secret', 'label', 'id', 'tenant')"
            ))
            .await?)
    }

    pub async fn rotate_all(&self) -> Result<()> {
        scalar::<i32>(&self.owner, "select rotator.rotate_all_keys()", &[]).await?;
        reencrypt_all(&self.owner, 7).await?;
        let runs = rows(
            &self.owner,
            "select status, error from rotator.key_rotations where status not in ('completed', 'superseded')",
        )
        .await?;
        ensure!(runs == json!([]), "{runs}");
        Ok(())
    }

    /// Key versions in use in a table, counted by a superuser, and whether both tenants read theirs.
    pub async fn expect_version(&self, table: &str, version: i32) -> Result<()> {
        let in_use: Value = scalar(
            &self.db.admin,
            &format!(
                "select jsonb_agg(distinct k.version) from {table} as t
                 join rotator_internal.encryption_key as k on k.id = rotator_internal.ciphertext_key(t.secret)"
            ),
            &[],
        )
        .await?;
        ensure!(in_use == json!([version]), "{table}: {in_use}");
        for (session, slug, count) in [(&self.acme, "acme", 20_i64), (&self.beta, "beta", 5)] {
            let read: i64 = scalar(
                session,
                &format!(
                    "select count(*) from {table} where tenant::text in ('{slug}', (select rotator.current_tenant()::text))
                     and rotator.decrypt(secret, 'label', id::text) like '{slug} %'"
                ),
                &[],
            )
            .await?;
            ensure!(read == count, "{table}: {slug} reads {read}");
        }
        Ok(())
    }
}
