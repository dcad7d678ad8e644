//! The sessions a year is lived through: members and operators of each tenant, those who tick (in several time zones, which
//! must not matter) and a worker. And the clock of the server.

use anyhow::{Context, Result};
use jiff::Timestamp;
use rotator_tests::{Role, TestDb, scalar};
use std::time::SystemTime;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use super::acts::Between;
use super::ledger::COLUMNS;
use super::zone::Instant;

const ZONES: [&str; 3] = ["UTC", "Europe/Berlin", "America/New_York"];

pub struct Hands {
    pub db: TestDb,
    roles: Roles,
    pub editors: Vec<Client>,
    pub operators: Vec<Client>,
    pub tickers: Vec<Client>,
    pub worker: Client,
    /// Rows of the outbox by tenants and lowest id, and by ids: asked many times a step, so prepared.
    pub rows_since: Statement,
    pub rows_of: Statement,
}

struct Roles {
    slugs: Vec<String>,
    editors: Vec<Role>,
    operator: Role,
    worker: Role,
}

pub fn system(at: Instant) -> SystemTime {
    at.into()
}

pub fn instant(at: SystemTime) -> Result<Instant> {
    Ok(Timestamp::try_from(at)?)
}

async fn rows(admin: &Client) -> Result<[Statement; 2]> {
    let from = format!("select {COLUMNS} from rotator_internal.notification where");
    Ok([
        admin
            .prepare(&format!("{from} tenant_id = any ($1) and id > $2"))
            .await?,
        admin.prepare(&format!("{from} id = any ($1)")).await?,
    ])
}

impl Hands {
    pub async fn new(db: TestDb, slugs: Vec<String>) -> Result<Self> {
        let mut editors = Vec::new();
        for slug in &slugs {
            editors.push(db.member(slug, "editor").await?);
        }
        let roles = Roles {
            editors,
            operator: db.login_role("operator", &["rotator_admin"]).await?,
            worker: db.login_role("worker", &["rotator_sidecar"]).await?,
            slugs,
        };
        let worker = db.connect_as(&roles.worker).await?;
        let [rows_since, rows_of] = rows(&db.admin).await?;
        let mut hands = Self {
            db,
            roles,
            editors: Vec::new(),
            operators: Vec::new(),
            tickers: Vec::new(),
            worker,
            rows_since,
            rows_of,
        };
        hands.connect().await?;
        Ok(hands)
    }

    /// Every session anew, as after a restart of the server.
    pub async fn connect(&mut self) -> Result<()> {
        self.db.admin = self.db.superuser().await?;
        let settings = "set jit = off; set plan_cache_mode = force_custom_plan";
        self.db.admin.batch_execute(settings).await?;
        [self.rows_since, self.rows_of] = rows(&self.db.admin).await?;
        self.worker = self.db.connect_as(&self.roles.worker).await?;
        (self.editors, self.operators, self.tickers) = Default::default();
        for (role, slug) in self.roles.editors.iter().zip(&self.roles.slugs) {
            self.editors.push(self.db.connect_as(role).await?);
            let operator = self.db.connect_as(&self.roles.operator).await?;
            operator
                .execute("select rotator.use_tenant($1)", &[slug])
                .await?;
            self.operators.push(operator);
        }
        for (number, zone) in ZONES.iter().enumerate() {
            // As pg_cron's job does, and as a sidecar does.
            let role = [&self.roles.operator, &self.roles.worker][number % 2];
            let ticker = self.db.connect_as(role).await?;
            ticker
                .batch_execute(&format!("set time zone '{zone}'"))
                .await?;
            self.tickers.push(ticker);
        }
        for (session, zone) in self
            .editors
            .iter()
            .chain(&self.operators)
            .zip(ZONES.iter().cycle())
        {
            session
                .batch_execute(&format!("set time zone '{zone}'"))
                .await?;
        }
        Ok(())
    }

    /// The server goes down as by a power cut, and comes back.
    pub async fn crash(&mut self) -> Result<()> {
        self.db.cluster.crash().await?;
        self.db.cluster.start_again().await?;
        self.connect().await
    }

    /// From now on the server's clock is there, and runs on.
    pub fn set_clock(&self, to: Instant) -> Result<()> {
        let offset = to.duration_since(Timestamp::now());
        self.db
            .cluster
            .move_clock(&format!("{:+.6}", offset.as_secs_f64()))
    }

    pub async fn now(&self) -> Result<Instant> {
        instant(scalar(&self.db.admin, "select clock_timestamp()", &[]).await?)
    }

    /// Calls a function of the product, in a session of this tenant, between two looks at the server's clock.
    pub async fn between(
        &self,
        session: &Client,
        call: &str,
        with: &[&(dyn ToSql + Sync)],
    ) -> Result<(Between, Option<SystemTime>)> {
        let before = self.now().await?;
        let row = session
            .query_one(&format!("select {call}"), with)
            .await
            .with_context(|| call.to_owned())?;
        let answer = row.try_get(0).ok();
        Ok((Between(before, self.now().await?), answer))
    }
}
