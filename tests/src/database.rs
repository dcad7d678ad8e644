//! A database of the test's own with rotator in it, tenants and login roles to act as, and small helpers around
//! queries. Roles belong to the whole cluster, so theirs are uniquely named; all is dropped with the test.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use tokio_postgres::error::DbError;
use tokio_postgres::types::{FromSqlOwned, ToSql};
use tokio_postgres::{Client, GenericClient};
use uuid::Uuid;

use crate::cluster::{Cluster, Options};
use crate::scratch::unique;

/// A login role of this test. Over TCP it needs its password; [`TestDb::connect_as`] needs none.
#[derive(Clone, Debug)]
pub struct Role {
    pub name: String,
    pub password: String,
}

impl Role {
    /// How the role is called as a member: `db:<login role>`.
    pub fn subject(&self) -> String {
        format!("db:{}", self.name)
    }
}

pub struct TestDb {
    pub cluster: Arc<Cluster>,
    pub name: String,
    /// A superuser's session, for seeds and for looking behind the views.
    pub admin: Client,
    roles: Mutex<Vec<String>>,
}

impl TestDb {
    /// A database of the run's shared cluster, copied from the template that has the extension.
    pub async fn new() -> Result<Self> {
        Self::create(
            Arc::new(Cluster::shared()?),
            unique("test"),
            Some("rotator_template"),
        )
        .await
    }

    /// A database of a cluster that the test started, with the extension created in it.
    pub async fn in_cluster(cluster: Arc<Cluster>) -> Result<Self> {
        let db = Self::create(cluster, unique("test"), None).await?;
        db.admin.batch_execute("create extension rotator").await?;
        Ok(db)
    }

    /// With pg_cron at work, which takes a cluster of its own: pg_cron serves one database a cluster.
    pub async fn with_pg_cron() -> Result<Self> {
        let name = unique("cron");
        let options = Options {
            cron_database: Some(name.clone()),
            ..Options::default()
        };
        let db = Self::create(Arc::new(Cluster::start(options).await?), name, None).await?;
        db.admin
            .batch_execute("create extension pg_cron; create extension rotator")
            .await?;
        Ok(db)
    }

    /// A database without the extension, for tests of what happens then.
    pub async fn bare() -> Result<Self> {
        Self::create(Arc::new(Cluster::shared()?), unique("bare"), None).await
    }

    /// The same in a cluster that the test started.
    pub async fn bare_in(cluster: Arc<Cluster>) -> Result<Self> {
        Self::create(cluster, unique("bare"), None).await
    }

    /// A copy, in the shared cluster, of a database that nobody is connected to.
    pub async fn copy_of(database: &str) -> Result<Self> {
        Self::create(Arc::new(Cluster::shared()?), unique("copy"), Some(database)).await
    }

    async fn create(cluster: Arc<Cluster>, name: String, template: Option<&str>) -> Result<Self> {
        let maintenance = cluster.connect("postgres", "postgres").await?;
        let template = template.unwrap_or("template1");
        maintenance
            .batch_execute(&format!("create database {name} template {template}"))
            .await
            .with_context(|| format!("copying {template}"))?;
        let admin = cluster.connect("postgres", &name).await?;
        Ok(Self {
            cluster,
            name,
            admin,
            roles: Mutex::default(),
        })
    }

    /// A tenant in UTC.
    pub async fn tenant(&self, slug: &str) -> Result<Uuid> {
        self.tenant_in(slug, "UTC").await
    }

    pub async fn tenant_in(&self, slug: &str, time_zone: &str) -> Result<Uuid> {
        scalar(
            &self.admin,
            "select rotator.create_tenant($1, $1, $2)",
            &[&slug, &time_zone],
        )
        .await
    }

    /// A login role with these roles granted, such as `rotator_admin`.
    pub async fn login_role(&self, label: &str, granted: &[&str]) -> Result<Role> {
        let role = Role {
            name: unique(label),
            password: unique("password"),
        };
        // Noted first: a role that was made by half is dropped as well.
        self.roles
            .lock()
            .map_err(|_| anyhow!("a test thread panicked"))?
            .push(role.name.clone());
        self.admin
            .batch_execute(&format!(
                "create role {} login password '{}'",
                role.name, role.password
            ))
            .await?;
        for granted in granted {
            self.admin
                .batch_execute(&format!("grant {granted} to {}", role.name))
                .await?;
        }
        Ok(role)
    }

    /// A login role that is a member of the tenant: `viewer`, `editor`, `auditor` or `admin`.
    pub async fn member(&self, tenant: &str, member_role: &str) -> Result<Role> {
        let role = self
            .login_role(
                &format!("{member_role}_{tenant}").replace('-', "_"),
                &["rotator_user"],
            )
            .await?;
        self.admin
            .execute(
                "select rotator.add_member($1, $2, $3)",
                &[&role.subject(), &member_role, &tenant],
            )
            .await?;
        Ok(role)
    }

    /// A session of that role.
    pub async fn connect_as(&self, role: &Role) -> Result<Client> {
        self.cluster.connect(&role.name, &self.name).await
    }

    /// A session of a fresh member of the tenant; see [`TestDb::member`].
    pub async fn session(&self, tenant: &str, member_role: &str) -> Result<Client> {
        self.connect_as(&self.member(tenant, member_role).await?)
            .await
    }

    /// One more superuser session, for what takes two.
    pub async fn superuser(&self) -> Result<Client> {
        self.cluster.connect("postgres", &self.name).await
    }

    /// The address of this database for that role, over TCP and with its password, as an operator would configure it.
    pub fn url(&self, role: &Role) -> String {
        format!(
            "postgres://{}:{}@127.0.0.1:{}/{}",
            role.name, role.password, self.cluster.port, self.name
        )
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        if std::env::var_os("ROTATOR_KEEP").is_some() {
            eprintln!("kept: database {} on port {}", self.name, self.cluster.port);
            return;
        }
        let dropped = self.cluster.psql(
            "postgres",
            &format!("drop database if exists {} with (force)", self.name),
        );
        let roles = self
            .roles
            .lock()
            .map(|roles| roles.join(", "))
            .unwrap_or_default();
        let dropped = match roles.as_str() {
            "" => dropped,
            roles => dropped.and_then(|_| {
                self.cluster
                    .psql("postgres", &format!("drop role if exists {roles}"))
            }),
        };
        if let Err(error) = dropped {
            eprintln!("database {} was not cleaned up: {error:#}", self.name);
        }
    }
}

/// The one value of the one row.
pub async fn scalar<T: FromSqlOwned>(
    client: &impl GenericClient,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<T> {
    let row = client
        .query_one(sql, parameters)
        .await
        .with_context(|| sql.to_owned())?;
    row.try_get(0).with_context(|| sql.to_owned())
}

/// Waits, half a second at most, until no other session of this database is in a transaction (it
/// takes a superuser to see them). PostgreSQL sends an error
/// before it lets go of the locks, and a tick passes over what is locked: without this, one right after a refusal in
/// another session may find the secret still taken, and leave it to the next tick.
pub async fn settled(client: &impl GenericClient) -> Result<()> {
    let deadline = Instant::now() + Duration::from_millis(500);
    let others = "select exists (select from pg_stat_activity where datname = current_database() \
        and pid <> pg_backend_pid() and backend_type = 'client backend' and xact_start is not null)";
    while scalar(client, others, &[]).await? && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Expects the server to have refused with this SQLSTATE and with a hint, as every error of rotator's must have one.
pub fn refused<T>(
    outcome: std::result::Result<T, tokio_postgres::Error>,
    sqlstate: &str,
) -> Result<DbError> {
    let Err(error) = outcome else {
        bail!("expected {sqlstate}, but it was accepted")
    };
    let Some(refusal) = error.as_db_error() else {
        bail!("expected {sqlstate}, got {error:?}")
    };
    if refusal.code().code() != sqlstate {
        bail!(
            "expected {sqlstate}, got {}: {}",
            refusal.code().code(),
            refusal.message()
        );
    }
    if refusal.hint().is_none_or(|hint| hint.trim().is_empty()) {
        bail!("{sqlstate} without a hint: {}", refusal.message());
    }
    Ok(refusal.clone())
}
