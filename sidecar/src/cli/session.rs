//! A command's connection. Each call is one short transaction that first says who we are (`application_name`, which the
//! audit log records as source `cli`), which tenant is meant, and that dates are meant in its time zone. So a pooler in
//! transaction mode may stand between.
//!
//! Every argument is bound as text and cast in SQL. Errors of the database keep its message; the hint is replaced where
//! the database can only speak of SQL and the command line has a shorter way. Connecting itself: `db/`.

use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Client, IsolationLevel, Row, Transaction};

use super::Place;
use crate::db::DbError;
use crate::failure::{Exit, Failure, warn};
use crate::import::Item;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Why a call gave nothing. Ends a command as a [`Failure`]; `doctor` lists it and goes on.
#[derive(Debug)]
pub struct Refusal {
    exit: Exit,
    pub message: String,
    pub hint: Option<String>,
    /// As the database gave it.
    pub sqlstate: Option<String>,
}

impl Refusal {
    fn new(exit: Exit, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            hint: Some(hint.into()),
            sqlstate: None,
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let failure = Self::new(refusal.exit, refusal.message);
        match refusal.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<DbError> for Refusal {
    fn from(error: DbError) -> Self {
        let hint = error.hint().map(str::to_owned);
        Self {
            message: error.to_string(),
            hint,
            sqlstate: error.sqlstate().map(str::to_owned),
            exit: Failure::from(error).exit(),
        }
    }
}

/// A connection to a database that has the extension in a version this program fits.
pub struct Session {
    client: Client,
    tenant: Option<String>,
}

impl Session {
    /// Connects and checks the extension's version.
    ///
    /// # Errors
    /// As [`crate::db::connect`]; [`Exit::Extension`] when it is missing or doesn't fit.
    pub async fn open(place: &Place) -> Result<Self, Refusal> {
        let mut session = Self::connect(place).await?;
        session.extension_version().await?;
        Ok(session)
    }

    /// As [`Session::open`], for commands that need a tenant; says so before anything else is tried.
    ///
    /// # Errors
    /// As [`Session::open`], and when the login role has no tenant or several and none was named.
    pub async fn open_in_tenant(place: &Place) -> Result<Self, Refusal> {
        let mut session = Self::open(place).await?;
        let rows = session
            .call(
                "select rotator.current_tenant() is not null, session_user::text",
                &[],
            )
            .await?;
        let (chosen, login): (bool, String) = (only(&rows, 0)?, only(&rows, 1)?);
        if chosen {
            return Ok(session);
        }
        let message =
            format!("no tenant is chosen, and login role {login} belongs to none or to several");
        Err(Refusal::new(
            Exit::Failed,
            message,
            "Add --tenant SLUG, or set ROTATOR_TENANT.",
        ))
    }

    /// Connects without asking for the extension; for `doctor`, which reports that itself.
    ///
    /// # Errors
    /// As [`crate::db::connect`].
    pub async fn connect(place: &Place) -> Result<Self, Refusal> {
        let client = crate::db::connect(&place.database()?, warn).await?;
        Ok(Self {
            client,
            tenant: place.tenant().map(str::to_owned),
        })
    }

    /// The version of the extension in this database.
    ///
    /// # Errors
    /// [`Exit::Extension`] when it is missing, or of another major or minor version than this program.
    pub async fn extension_version(&mut self) -> Result<String, Refusal> {
        let sql = "select current_database()::text, (select extversion from pg_catalog.pg_extension where extname = 'rotator')";
        let rows = self.plain(sql, &[]).await?;
        let (database, version): (String, Option<String>) = (only(&rows, 0)?, only(&rows, 1)?);
        let Some(version) = version else {
            let message = format!("database {database} has no extension rotator");
            let hint =
                "Connect to the database that has it, or run there: create extension rotator;";
            return Err(Refusal::new(Exit::Extension, message, hint));
        };
        match misfit(&version, VERSION) {
            None => Ok(version),
            Some((message, hint)) => Err(Refusal::new(Exit::Extension, message, hint)),
        }
    }

    /// Runs one statement in the chosen tenant, in its own transaction. Parameters are text.
    ///
    /// # Errors
    /// What the database says, with a hint.
    pub async fn call(
        &mut self,
        sql: &str,
        parameters: &[Option<&str>],
    ) -> Result<Vec<Row>, Refusal> {
        let named = self.tenant.is_some();
        self.transact(true, sql, parameters)
            .await
            .map_err(|error| explain(error, named))
    }

    /// As [`Session::call`], for statements that give JSON objects.
    ///
    /// # Errors
    /// As [`Session::call`].
    pub async fn items(
        &mut self,
        sql: &str,
        parameters: &[Option<&str>],
    ) -> Result<Vec<Item>, Refusal> {
        let rows = self.call(sql, parameters).await?;
        rows.iter()
            .map(|row| match field(row, 0)? {
                serde_json::Value::Object(item) => Ok(item),
                _ => Err(misunderstood("no object")),
            })
            .collect()
    }

    /// From now on in no tenant, whichever was named.
    pub fn of_all_tenants(self) -> Self {
        let client = self.client;
        Self {
            client,
            tenant: None,
        }
    }

    /// Runs one statement without choosing a tenant; needs nothing of the extension.
    ///
    /// # Errors
    /// As [`Session::call`].
    pub async fn plain(
        &mut self,
        sql: &str,
        parameters: &[Option<&str>],
    ) -> Result<Vec<Row>, Refusal> {
        self.transact(false, sql, parameters)
            .await
            .map_err(|error| explain(error, false))
    }

    async fn transact(
        &mut self,
        in_tenant: bool,
        sql: &str,
        parameters: &[Option<&str>],
    ) -> Result<Vec<Row>, DbError> {
        let transaction = self.client.transaction().await?;
        let tenant = self.tenant.as_deref();
        prepare(&transaction, in_tenant, tenant).await?;
        let rows = query(&transaction, sql, parameters).await?;
        transaction.commit().await?;
        Ok(rows)
    }

    /// Several statements that see the database as it is now, whatever is changed meanwhile.
    ///
    /// # Errors
    /// As [`Session::call`].
    pub async fn snapshot(&mut self) -> Result<Snapshot<'_>, Refusal> {
        let named = self.tenant.is_some();
        let tenant = self.tenant.as_deref();
        let begin = async {
            let transaction = self
                .client
                .build_transaction()
                .isolation_level(IsolationLevel::RepeatableRead)
                .read_only(true)
                .start()
                .await?;
            prepare(&transaction, true, tenant).await?;
            Ok(transaction)
        };
        let begun: Result<_, DbError> = begin.await;
        Ok(Snapshot {
            transaction: begun.map_err(|error| explain(error, named))?,
            named,
        })
    }
}

/// One moment of the chosen tenant; see [`Session::snapshot`].
pub struct Snapshot<'a> {
    transaction: Transaction<'a>,
    named: bool,
}

impl Snapshot<'_> {
    /// Runs one statement that only reads.
    ///
    /// # Errors
    /// As [`Session::call`].
    pub async fn call(&self, sql: &str, parameters: &[Option<&str>]) -> Result<Vec<Row>, Refusal> {
        let rows = query(&self.transaction, sql, parameters).await;
        rows.map_err(|error| explain(error, self.named))
    }
}

/// Says who we are, which tenant is meant, and what dates mean.
async fn prepare(
    transaction: &Transaction<'_>,
    in_tenant: bool,
    tenant: Option<&str>,
) -> Result<(), DbError> {
    let who = "select pg_catalog.set_config('application_name', 'rotator-cli', true), \
               pg_catalog.set_config('TimeZone', 'UTC', true), \
               pg_catalog.set_config('DateStyle', 'ISO', true), \
               pg_catalog.set_config('IntervalStyle', 'postgres', true)";
    transaction.query_typed(who, &[]).await?;
    if let (true, Some(tenant)) = (in_tenant, tenant) {
        let choose = "select rotator.use_tenant($1, true)";
        transaction
            .query_typed(choose, &[(&tenant, Type::TEXT)])
            .await?;
    }
    if in_tenant {
        // What is typed as 2026-12-31 means that day where the tenant is, and is shown as that day again.
        let zone = "select pg_catalog.set_config('TimeZone', coalesce(rotator.current_time_zone(), 'UTC'), true)";
        transaction.query_typed(zone, &[]).await?;
    }
    Ok(())
}

async fn query(
    transaction: &Transaction<'_>,
    sql: &str,
    parameters: &[Option<&str>],
) -> Result<Vec<Row>, DbError> {
    let typed: Vec<(&(dyn ToSql + Sync), Type)> = parameters
        .iter()
        .map(|value| (value as &(dyn ToSql + Sync), Type::TEXT))
        .collect();
    Ok(transaction.query_typed(sql, &typed).await?)
}

/// A column of the only row.
///
/// # Errors
/// The statement gave no row, or something else than was agreed.
pub fn only<'a, T: FromSql<'a>>(rows: &'a [Row], column: usize) -> Result<T, Refusal> {
    rows.first()
        .ok_or_else(|| misunderstood("no row"))
        .and_then(|row| field(row, column))
}

/// A column of a row.
///
/// # Errors
/// It is something else than was agreed.
pub fn field<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T, Refusal> {
    row.try_get(column)
        .map_err(|error| misunderstood(&error.to_string()))
}

/// The extension and this program don't speak of the same thing.
pub fn misunderstood(problem: &str) -> Refusal {
    let message = format!("the extension answered unexpectedly: {problem}");
    Refusal::new(
        Exit::Extension,
        message,
        "Run `rotator doctor`; program and extension should have the same version.",
    )
}

/// What to show for an error of the database.
fn explain(error: DbError, tenant_named: bool) -> Refusal {
    let hint = match error.sqlstate() {
        Some("RT002") if !tenant_named => Some("Add --tenant SLUG, or set ROTATOR_TENANT."),
        Some("42883" | "42P01" | "42703" | "3F000") => Some(
            "The extension lacks what this program calls: run `alter extension rotator update`, then `rotator doctor`.",
        ),
        Some("42501") if error.hint().is_none() => Some(
            "Grant the login role rotator_user (members of a tenant) or rotator_admin (operators).",
        ),
        Some("22007" | "22008" | "22015") if error.hint().is_none() => Some(
            "Write intervals like '90 days' or '1 year', dates like 2026-12-31 or 2026-12-31T08:00:00Z.",
        ),
        Some("25006") => Some("This server is a standby or read-only; connect to the primary."),
        _ => None,
    };
    let mut refusal = Refusal::from(error);
    if let Some(hint) = hint {
        refusal.hint = Some(hint.to_owned());
    }
    refusal
}

/// Why the two versions don't go together, and what to do; patch levels always do.
fn misfit(extension: &str, program: &str) -> Option<(String, String)> {
    fn series(version: &str) -> Option<(u32, u32)> {
        let mut parts = version.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }
    let (theirs, ours) = (series(extension)?, series(program)?);
    let older = format!("the extension in this database is {extension}, this program is {program}");
    match theirs.cmp(&ours) {
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Less => Some((
            format!("{older}: the extension is older"),
            format!(
                "Install the extension's {program} on the server and run: alter extension rotator update;"
            ),
        )),
        std::cmp::Ordering::Greater => Some((
            format!("{older}: the program is older"),
            format!(
                "Install rotator {extension} here, or use the one that came with the extension."
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(sqlstate: &str, hint: Option<&str>) -> DbError {
        DbError::Statement {
            sqlstate: sqlstate.to_owned(),
            message: "no".to_owned(),
            hint: hint.map(str::to_owned),
        }
    }

    #[test]
    fn versions_fit_by_major_and_minor() {
        assert!(misfit("0.1.0", "0.1.7").is_none());
        let (message, hint) = misfit("0.1.0", "0.2.0").unwrap();
        assert!(
            message.ends_with("the extension is older")
                && hint.contains("alter extension rotator update")
        );
        let (message, hint) = misfit("1.0.0", "0.9.0").unwrap();
        assert!(
            message.ends_with("the program is older") && hint.contains("Install rotator 1.0.0")
        );
    }

    #[test]
    fn hints_speak_of_the_command_line() {
        let shown = |error, named| explain(error, named).hint.unwrap();
        assert!(shown(refused("RT002", Some("use_tenant")), false).contains("--tenant SLUG"));
        assert!(shown(refused("RT002", Some("use_tenant")), true).contains("use_tenant"));
        assert!(shown(refused("42501", None), false).contains("rotator_user"));
        assert!(shown(refused("42501", Some("theirs")), false).contains("theirs"));
        assert!(shown(refused("22007", None), false).contains("90 days"));
    }
}
