//! A load with a model beside it: writers, each of whom knows what it has committed, and readers that check what they
//! see. A write that was under way when the connection broke may have happened or not; nothing else is open.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result, bail, ensure};
use rotator_tests::{Chance, Cluster, Role, TestDb};
use tokio_postgres::{Client, Error};

/// A table of the host's, registered, whose rows belong to one tenant.
pub const HOST_TABLE: &str = "create schema shop;
    create table shop.note (key text primary key, title text, body bytea) with (fillfactor = 50);
    grant usage on schema shop to rotator_user;
    grant select, insert, update, delete on shop.note to rotator_user;
    select rotator.register_encrypted_column('shop.note', 'body', 'note.body', 'key')";

/// Ciphertexts, of all places, that are not under the active key.
pub const UNDER_OLDER_KEYS: &str = "with field as (
        select name as c from rotator_internal.secret
        union all select provider_ref from rotator_internal.secret
        union all select purpose from rotator_internal.secret
        union all select address from rotator_internal.recipient
        union all select changed from rotator_internal.audit_value
        union all select body from shop.note)
    select count(*) from field where c is not null and rotator_internal.ciphertext_key(c) is distinct from (
        select id from rotator_internal.encryption_key where purpose = 'data' and status = 'active')";

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    Host,
    Secret,
}

impl Place {
    /// Takes a key and a value.
    pub fn insert(self) -> &'static str {
        match self {
            Self::Host => {
                "insert into shop.note (key, body) values ($1, rotator.encrypt($2, 'note.body', $1))"
            }
            Self::Secret => {
                "select rotator.register_secret($2, rotation_interval => '90 days', purpose => $2, external_id => $1)"
            }
        }
    }

    fn update(self) -> &'static str {
        match self {
            Self::Host => {
                "update shop.note set body = rotator.encrypt($2, 'note.body', $1) where key = $1"
            }
            Self::Secret => {
                "update rotator.secrets set name = $2, purpose = $2 where external_id = $1"
            }
        }
    }

    fn read(self) -> &'static str {
        match self {
            Self::Host => {
                "select key, rotator.decrypt(body, 'note.body', key) from shop.note where key like $1 || '%'"
            }
            Self::Secret => {
                "select external_id, case when name = purpose then name else 'torn' end from rotator.secrets
                 where external_id like $1 || '%'"
            }
        }
    }
}

/// Whose session, and where.
#[derive(Clone)]
pub struct Access {
    pub cluster: Arc<Cluster>,
    pub database: String,
    pub role: Role,
}

impl Access {
    pub fn new(db: &TestDb, role: &Role) -> Self {
        Self {
            cluster: db.cluster.clone(),
            database: db.name.clone(),
            role: role.clone(),
        }
    }

    /// A session, as soon as there is one to be had.
    pub async fn session(&self) -> Result<Client> {
        self.cluster
            .connect_when_it_works(&self.role.name, &self.database)
            .await
    }
}

/// The server went, and not: it refused.
pub fn is_lost(error: &Error) -> bool {
    error.as_db_error().is_none_or(|refusal| {
        refusal.code().code().starts_with("57P") || refusal.code().code().starts_with("08")
    })
}

/// What rows may hold now, by key: one value, or two while a write is in doubt; none is a row that is not there.
type Model = BTreeMap<String, Vec<Option<String>>>;

pub async fn read_all(
    session: &Client,
    place: Place,
    prefix: &str,
) -> Result<BTreeMap<String, String>, Error> {
    let rows = session.query(place.read(), &[&prefix]).await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}

/// Fails unless every row is there with a value that it may have, and no other row is; then all is certain again.
fn settle(model: &mut Model, found: &BTreeMap<String, String>) -> Result<()> {
    for key in found.keys() {
        ensure!(
            model.contains_key(key),
            "row {key} was never written, or is there twice"
        );
    }
    for (key, possible) in model {
        let value = found.get(key).cloned();
        ensure!(
            possible.contains(&value),
            "row {key} holds {value:?}, not one of {possible:?}"
        );
        *possible = vec![value];
    }
    Ok(())
}

pub struct Writer {
    pub place: Place,
    /// The keys of its rows begin with it.
    pub name: String,
    pub access: Access,
    pub chance: Chance,
    model: Model,
    count: usize,
}

impl Writer {
    pub fn new(place: Place, name: &str, access: Access, chance: Chance) -> Self {
        Self {
            place,
            name: format!("{name}-"),
            access,
            chance,
            model: Model::new(),
            count: 0,
        }
    }

    /// Writes until told to stop, across any loss of its session; `done` counts its transactions.
    pub async fn work(mut self, stop: Arc<AtomicBool>, done: Arc<AtomicUsize>) -> Result<Self> {
        let mut session = self.access.session().await?;
        while !stop.load(Ordering::SeqCst) {
            match self.transaction(&session).await {
                Ok(()) => {
                    done.fetch_add(1, Ordering::SeqCst);
                }
                Err(error) if is_lost(&error) => session = self.come_back().await?,
                Err(error) => {
                    return Err(error).with_context(|| format!("writer {}", self.name));
                }
            }
        }
        Ok(self)
    }

    /// This many rows, one transaction.
    pub async fn fill(&mut self, rows: usize) -> Result<()> {
        let session = self.access.session().await?;
        session.batch_execute("begin").await?;
        for _ in 0..rows {
            let (key, value) = (self.new_key(), self.new_value());
            let value = format!("{key}{value}");
            session
                .execute(self.place.insert(), &[&key, &value])
                .await?;
            self.model.insert(key, vec![Some(value)]);
        }
        Ok(session.batch_execute("commit").await?)
    }

    /// Compares with what another session reads.
    pub async fn verify(&mut self, session: &Client) -> Result<usize> {
        let found = read_all(session, self.place, &self.name).await?;
        settle(&mut self.model, &found)?;
        Ok(found.len())
    }

    async fn come_back(&mut self) -> Result<Client> {
        loop {
            let session = self.access.session().await?;
            match read_all(&session, self.place, &self.name).await {
                Ok(found) => {
                    settle(&mut self.model, &found)?;
                    return Ok(session);
                }
                Err(error) if is_lost(&error) => {}
                Err(error) => bail!("reading after a crash: {error:?}"),
            }
        }
    }

    fn new_key(&mut self) -> String {
        self.count += 1;
        format!("{}{}", self.name, self.count)
    }

    fn new_value(&mut self) -> String {
        self.count += 1;
        format!(" v{}", self.count)
    }

    /// One to three writes, sometimes undone.
    async fn transaction(&mut self, session: &Client) -> Result<(), Error> {
        let undone = self.chance.once_in(5);
        let mut writes: Model = Model::new();
        session.batch_execute("begin").await?;
        for _ in 0..=self.chance.below(3) {
            let known: Vec<&String> = self
                .model
                .iter()
                .filter(|(key, value)| {
                    value.iter().all(Option::is_some) && !writes.contains_key(*key)
                })
                .map(|(key, _)| key)
                .collect();
            if known.len() < 20 || self.chance.once_in(10) {
                let key = self.new_key();
                let value = format!("{key}{}", self.new_value());
                session
                    .execute(self.place.insert(), &[&key, &value])
                    .await?;
                writes.insert(key, vec![Some(value)]);
                continue;
            }
            let key = (*self.chance.one_of(&known)).clone();
            if self.place == Place::Host && self.chance.once_in(10) {
                session
                    .execute("delete from shop.note where key = $1", &[&key])
                    .await?;
                writes.insert(key, vec![None]);
            } else {
                let value = format!("{key}{}", self.new_value());
                session
                    .execute(self.place.update(), &[&key, &value])
                    .await?;
                writes.insert(key, vec![Some(value)]);
            }
        }
        if undone {
            return session.batch_execute("rollback").await;
        }
        for (key, value) in &writes {
            // A row that is new may also be missing.
            self.model
                .entry(key.clone())
                .or_insert_with(|| vec![None])
                .extend(value.iter().cloned());
        }
        session.batch_execute("commit").await?;
        self.model.extend(writes);
        Ok(())
    }
}

/// Reads everything, again and again, across any loss of its session. Every value begins with its row's key.
pub async fn keep_reading(
    place: Place,
    access: Access,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
) -> Result<()> {
    let mut session = access.session().await?;
    while !stop.load(Ordering::SeqCst) {
        match read_all(&session, place, "").await {
            Ok(found) => {
                for (key, value) in found {
                    ensure!(
                        value.starts_with(&format!("{key} v")),
                        "row {key} reads {value}"
                    );
                }
                done.fetch_add(1, Ordering::SeqCst);
            }
            Err(error) if is_lost(&error) => session = access.session().await?,
            Err(error) => return Err(error).context("a reader"),
        }
    }
    Ok(())
}
