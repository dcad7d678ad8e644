//! Sessions of the property test: members by login role, one that belongs to several tenants, requests with claims, and
//! strangers; and running a statement in each of them in many ways.

use anyhow::Result;
use futures_util::{SinkExt, TryStreamExt};
use rotator_tests::{Chance, TestDb};
use tokio_postgres::{Client, SimpleQueryMessage};

use super::answer::Answer;
use super::world::{ROLES, TENANTS, mark};

/// Who asks.
pub enum Kind {
    /// A login role of this tenant.
    Member(usize),
    /// A login role of the first three, which chooses.
    Several,
    /// A trusted authenticator: who it is comes with each request.
    Gate,
    /// A login role of no tenant.
    Stranger,
}

pub struct Session {
    pub client: Client,
    pub kind: Kind,
    pub subject: String,
    /// Statements that it prepared, each with its text; they stay when the tenant changes.
    pub prepared: Vec<String>,
    pub chosen: Option<usize>,
}

/// Who a statement runs as: what `Gate` claims or `Several` chose.
pub struct As {
    pub tenant: Option<usize>,
    pub subject: String,
    pub claimed_role: Option<&'static str>,
    claims: Option<String>,
}

/// How a select is run; its rows must not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Plain,
    Prepared,
    Cursor,
    HeldCursor,
    CopyOut,
    TemporaryView,
    TemporaryTable,
    InParallel,
}

impl How {
    /// What a relation is made of needs a name for each column, and no name twice.
    pub fn form(self, select: &str) -> String {
        match self {
            Self::TemporaryView | Self::TemporaryTable => {
                format!("select q::text as row from ({select}) as q")
            }
            _ => select.to_owned(),
        }
    }
}

pub const WAYS: [How; 8] = [
    How::Plain,
    How::Prepared,
    How::Cursor,
    How::HeldCursor,
    How::CopyOut,
    How::TemporaryView,
    How::TemporaryTable,
    How::InParallel,
];

impl As {
    /// Without tenant, role and claims.
    pub fn superuser() -> Self {
        Self {
            tenant: None,
            subject: String::new(),
            claimed_role: None,
            claims: None,
        }
    }
}

impl Session {
    fn new(client: Client, kind: Kind, subject: String) -> Self {
        Self {
            client,
            kind,
            subject,
            prepared: Vec::new(),
            chosen: None,
        }
    }

    pub async fn superuser(db: &TestDb) -> Result<Self> {
        Ok(Self::new(
            db.superuser().await?,
            Kind::Stranger,
            String::new(),
        ))
    }

    pub async fn of_every_kind(db: &TestDb) -> Result<Vec<Self>> {
        let mut sessions = Vec::new();
        let mut add = |client, kind, subject| sessions.push(Self::new(client, kind, subject));
        for number in 0..TENANTS {
            let role = db.member(&mark(number), ROLES[number % 4]).await?;
            add(
                db.connect_as(&role).await?,
                Kind::Member(number),
                role.subject(),
            );
        }
        let several = db.login_role("several", &["rotator_user"]).await?;
        for (number, role) in ROLES.iter().enumerate().take(3) {
            db.admin
                .execute(
                    "select rotator.add_member($1, $2, $3)",
                    &[&several.subject(), role, &mark(number)],
                )
                .await?;
        }
        for granted in [vec!["rotator_user"], vec![]] {
            let stranger = db.login_role("stranger", &granted).await?;
            add(
                db.connect_as(&stranger).await?,
                Kind::Stranger,
                stranger.subject(),
            );
        }
        for _ in 0..4 {
            add(
                db.connect_as(&several).await?,
                Kind::Several,
                several.subject(),
            );
            add(
                db.cluster.connect("gate", &db.name).await?,
                Kind::Gate,
                String::new(),
            );
        }
        Ok(sessions)
    }

    /// Decides, and for [`Kind::Several`] chooses, whom the next statement runs as.
    pub async fn become_somebody(&mut self, chance: &mut Chance) -> Result<As> {
        let mut who = As {
            subject: self.subject.clone(),
            ..As::superuser()
        };
        match self.kind {
            Kind::Member(number) => who.tenant = Some(number),
            Kind::Stranger => {}
            Kind::Several => {
                if self.chosen.is_none() || chance.once_in(2) {
                    let number = chance.below(3);
                    self.client
                        .batch_execute(&format!("select rotator.use_tenant('{}')", mark(number)))
                        .await?;
                    self.chosen = Some(number);
                } else if chance.once_in(8) {
                    self.client.batch_execute("discard all").await?;
                    self.chosen = None;
                    self.prepared.clear();
                }
                who.tenant = self.chosen;
            }
            Kind::Gate => {
                let number = chance.below(TENANTS);
                let role = *chance.one_of(&ROLES);
                who.subject = format!("{}-user-{role}", mark(number));
                let claims = format!(
                    r#"{{"role":"authenticated","sub":"{}","tenant_id":"{}","rotator_role":"{role}"}}"#,
                    who.subject,
                    mark(number)
                );
                // One in five is malformed, and then nobody.
                who.claims = Some(match chance.below(15) {
                    0 => String::new(),
                    1 => claims.replace("tenant_id", "tenant"),
                    2 => claims.replace('}', ",\"sub\":\"x\"}"),
                    _ => {
                        who.tenant = Some(number);
                        who.claimed_role = Some(role);
                        claims
                    }
                });
            }
        }
        Ok(who)
    }

    /// Begins what a request is wrapped in: a transaction with its role and claims. Others have none.
    async fn begin(&self, who: &As) -> Result<()> {
        if let Some(claims) = &who.claims {
            self.client
                .batch_execute(&format!(
                    "begin; set local role authenticated; set local request.jwt.claims = '{claims}'"
                ))
                .await?;
        }
        Ok(())
    }

    async fn end(&self, who: &As, answer: &Answer) -> Result<()> {
        if answer.error.is_some() {
            self.client.batch_execute("rollback").await?;
        } else if who.claims.is_some() {
            self.client.batch_execute("commit").await?;
        }
        Ok(())
    }

    /// Runs statements one after the other; the rows of the last ones count.
    pub async fn run(&self, who: &As, statements: &[String]) -> Result<Answer> {
        self.begin(who).await?;
        let mut answer = Answer::default();
        for statement in statements {
            match self.client.simple_query(statement).await {
                Ok(messages) => {
                    for message in messages {
                        if let SimpleQueryMessage::Row(row) = message {
                            let cells: Vec<&str> =
                                (0..row.len()).map(|n| row.get(n).unwrap_or("∅")).collect();
                            answer.rows.push(cells.join("¦"));
                        }
                    }
                }
                Err(error) => {
                    answer.fail(&error)?;
                    break;
                }
            }
        }
        self.end(who, &answer).await?;
        Ok(answer.finished())
    }

    /// Runs a select in this way.
    pub async fn select(&mut self, who: &As, sql: &str, how: How) -> Result<Answer> {
        // A request is in a transaction already.
        let wrapped = who.claims.is_none();
        let block = |inside: &[String]| -> Vec<String> {
            let mut all = Vec::new();
            if wrapped {
                all.push("begin".to_owned());
            }
            all.extend(inside.iter().cloned());
            if wrapped {
                all.push("commit".to_owned());
            }
            all
        };
        let statements = match how {
            How::Plain => vec![sql.to_owned()],
            How::Prepared => {
                let name = self.prepared.len();
                self.prepared.push(sql.to_owned());
                // The sixth would be the first generic plan, were it not forced.
                vec![
                    format!("set plan_cache_mode = {}", ["auto", "force_generic_plan"][name % 2]),
                    format!("prepare p{name} as {sql}"),
                    format!("execute p{name}"),
                ]
            }
            How::Cursor => block(&[
                format!("declare c cursor for {sql}"),
                "fetch 2 from c".to_owned(),
                "fetch all from c".to_owned(),
                "close c".to_owned(),
            ]),
            How::HeldCursor if wrapped => vec![
                format!("declare h cursor with hold for {sql}"),
                "fetch all from h".to_owned(),
                "close h".to_owned(),
            ],
            How::HeldCursor => vec![sql.to_owned()],
            How::CopyOut => return self.copy_out(who, sql).await,
            How::TemporaryView => block(&[
                format!("create temporary view v as {sql}"),
                "select * from v".to_owned(),
                "drop view v".to_owned(),
            ]),
            How::TemporaryTable => block(&[
                format!("create temporary table t as {sql}"),
                "select * from t".to_owned(),
                "drop table t".to_owned(),
            ]),
            How::InParallel => block(&[
                "set local parallel_setup_cost = 0; set local parallel_tuple_cost = 0; set local min_parallel_table_scan_size = 0; \
                 set local enable_indexscan = off; set local enable_bitmapscan = off; set local jit = off"
                    .to_owned(),
                sql.to_owned(),
            ]),
        };
        let answer = self.run(who, &statements).await?;
        if answer.error.is_some() && how == How::Prepared {
            self.client
                .batch_execute(&format!("deallocate p{}", self.prepared.len() - 1))
                .await
                .ok(); // it was not made if it was refused when it was parsed
            self.prepared.pop();
        }
        Ok(answer)
    }

    async fn copy_out(&self, who: &As, sql: &str) -> Result<Answer> {
        self.begin(who).await?;
        let copied = async {
            let stream = self
                .client
                .copy_out(&format!("copy ({sql}) to stdout"))
                .await?;
            stream.try_collect::<Vec<_>>().await
        };
        let mut answer = Answer::default();
        match copied.await {
            Ok(lines) => {
                for line in lines {
                    answer.rows.push(String::from_utf8(line.to_vec())?);
                }
            }
            Err(error) => answer.fail(&error)?,
        }
        self.end(who, &answer).await?;
        Ok(answer.finished())
    }

    /// The lines of a whole `copy … to stdout`, as a superuser.
    pub async fn copied(&self, statement: &str) -> Result<Answer> {
        let lines: Vec<_> = self.client.copy_out(statement).await?.try_collect().await?;
        let mut answer = Answer::default();
        for line in lines {
            answer.rows.push(String::from_utf8(line.to_vec())?);
        }
        Ok(answer.finished())
    }

    /// A call that chose a tenant by itself: what it chose is given up, or it is a member's only one.
    pub async fn forget_choice(&mut self, asked: &str) -> Result<()> {
        if asked.contains("use_tenant") && !matches!(self.kind, Kind::Gate) {
            self.client.batch_execute("discard all").await?;
            self.chosen = None;
            self.prepared.clear();
        }
        Ok(())
    }

    pub async fn copy_in(&self, who: &As, statement: &str, lines: &str) -> Result<Answer> {
        self.begin(who).await?;
        let copied = async {
            let sink = self.client.copy_in(statement).await?;
            futures_util::pin_mut!(sink);
            sink.send(std::io::Cursor::new(lines.as_bytes().to_vec()))
                .await?;
            sink.finish().await
        };
        let mut answer = Answer::default();
        if let Err(error) = copied.await {
            answer.fail(&error)?;
        }
        self.end(who, &answer).await?;
        Ok(answer.finished())
    }
}
