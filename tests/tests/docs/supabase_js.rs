//! What supabase-js asks PostgREST for, and PostgREST the database, for the calls that the Supabase guide shows: chains of
//! `from`, `select`, `insert`, `update`, `delete`, filters, `order`, `limit`, `single`, and `rpc`. The client itself would
//! need a PostgREST, which has no package here.

use anyhow::{Context, Result, bail, ensure};
use rotator_tests::TestDb;
use rotator_tests::postgrest::{self, literal};
use serde_json::{Map, Value};
use tokio_postgres::SimpleQueryMessage;

/// One call as the page writes it, and what the database answers: rows as JSON, or the SQLSTATE.
pub async fn call(
    db: &TestDb,
    claims: &Value,
    line: &str,
) -> Result<std::result::Result<Value, String>> {
    let chain = chain(line).with_context(|| line.to_owned())?;
    let (statement, reads) = statement(&chain).with_context(|| line.to_owned())?;
    let session = db.cluster.connect("authenticator", &db.name).await?;
    postgrest::begin(&session, claims, reads).await?;
    let answer = session.simple_query(&statement).await;
    match answer {
        Ok(messages) => {
            session.batch_execute("commit").await?;
            let row = messages.iter().find_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            });
            Ok(Ok(serde_json::from_str(row.unwrap_or("null"))?))
        }
        Err(error) => {
            let code = error
                .as_db_error()
                .context("no answer")?
                .code()
                .code()
                .to_owned();
            ensure!(
                postgrest::blames_the_caller(&code),
                "{line}: {code}: {error:?}"
            );
            Ok(Err(code))
        }
    }
}

type Call = (String, Vec<Value>);

/// `await api.a(…).b(…)` as its calls.
fn chain(line: &str) -> Result<Vec<Call>> {
    let mut rest = line
        .trim()
        .strip_prefix("await api")
        .context("a line begins with await api")?;
    let mut calls = Vec::new();
    while let Some(after) = rest.strip_prefix('.') {
        let (name, after) = after.split_once('(').context("a method is called")?;
        let mut reader = Reader(after);
        let mut arguments = Vec::new();
        loop {
            reader.blanks();
            match reader.peek() {
                Some(')') => break,
                Some(',') => reader.skip(),
                _ => arguments.push(reader.value()?),
            }
        }
        reader.skip();
        rest = reader.0;
        calls.push((name.to_owned(), arguments));
    }
    ensure!(rest.trim().is_empty(), "what is {rest:?}?");
    Ok(calls)
}

/// Reads literals of JavaScript: as JSON, but for quotes and for names of properties.
struct Reader<'a>(&'a str);

impl Reader<'_> {
    fn blanks(&mut self) {
        self.0 = self.0.trim_start();
    }

    fn peek(&self) -> Option<char> {
        self.0.chars().next()
    }

    fn skip(&mut self) {
        self.0 = self.0.get(1..).unwrap_or_default();
    }

    fn value(&mut self) -> Result<Value> {
        self.blanks();
        match self.peek().context("a value is missing")? {
            '\'' => {
                let (text, rest) = self.0[1..].split_once('\'').context("a quote is missing")?;
                self.0 = rest;
                Ok(text.into())
            }
            '[' => {
                self.skip();
                let mut items = Vec::new();
                loop {
                    self.blanks();
                    match self.peek().context("a bracket is missing")? {
                        ']' => break,
                        ',' => self.skip(),
                        _ => items.push(self.value()?),
                    }
                }
                self.skip();
                Ok(Value::Array(items))
            }
            '{' => {
                self.skip();
                let mut fields = Map::new();
                loop {
                    self.blanks();
                    match self.peek().context("a brace is missing")? {
                        '}' => break,
                        ',' => self.skip(),
                        _ => {
                            let (name, rest) =
                                self.0.split_once(':').context("a colon is missing")?;
                            self.0 = rest;
                            let value = self.value()?;
                            fields.insert(name.trim().to_owned(), value);
                        }
                    }
                }
                self.skip();
                Ok(Value::Object(fields))
            }
            _ => {
                let end = self
                    .0
                    .find(|c: char| " ,)]}".contains(c))
                    .unwrap_or(self.0.len());
                let (word, rest) = self.0.split_at(end);
                self.0 = rest;
                Ok(serde_json::from_str(word)?)
            }
        }
    }
}

fn word(arguments: &[Value], at: usize) -> Result<&str> {
    arguments
        .get(at)
        .and_then(Value::as_str)
        .context("a text is missing")
}

/// The statement, and whether it came by GET and so reads only.
fn statement(chain: &[Call]) -> Result<(String, bool)> {
    let (first, rest) = chain.split_first().context("a call")?;
    if first.0 == "rpc" {
        let given = first
            .1
            .get(1)
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        let by_get = first.1.get(2).is_some_and(|options| options["get"] == true);
        let arguments: Vec<String> = given
            .iter()
            .map(|(name, value)| format!("\"{name}\" := {}", literal(value)))
            .collect();
        let call = format!(
            "rotator.\"{}\"({})",
            word(&first.1, 0)?,
            arguments.join(", ")
        );
        return Ok((
            format!("select coalesce(json_agg(t), '[]') from {call} as t"),
            by_get,
        ));
    }
    ensure!(first.0 == "from", "a chain begins with from or rpc");
    let view = format!("rotator.\"{}\"", word(&first.1, 0)?);
    let (mut columns, mut filters, mut tail) =
        ("*".to_owned(), vec!["true".to_owned()], String::new());
    let mut change = None;
    for (method, arguments) in rest {
        match method.as_str() {
            "select" => columns = word(arguments, 0)?.to_owned(),
            "insert" | "update" | "delete" => change = Some((method.as_str(), arguments.first())),
            "order" => tail.push_str(&format!(" order by {}", word(arguments, 0)?)),
            "limit" => tail.push_str(&format!(" limit {}", arguments[0])),
            "single" => tail.push_str(" limit 2"),
            "in" => {
                let values = arguments
                    .get(1)
                    .and_then(Value::as_array)
                    .context("an array")?;
                let values: Vec<String> = values.iter().map(literal).collect();
                filters.push(format!(
                    "{} in ({})",
                    word(arguments, 0)?,
                    values.join(", ")
                ));
            }
            comparison => {
                let sign = match comparison {
                    "eq" => "=",
                    "neq" => "<>",
                    "lt" => "<",
                    "lte" => "<=",
                    "gt" => ">",
                    "gte" => ">=",
                    other => bail!("{other} is not known here"),
                };
                filters.push(format!(
                    "{} {sign} {}",
                    word(arguments, 0)?,
                    literal(&arguments[1])
                ));
            }
        }
    }
    let filters = filters.join(" and ");
    let fields = |given: Option<&Value>| -> Vec<(String, String)> {
        let given = given
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        given
            .iter()
            .map(|(name, value)| (name.clone(), literal(value)))
            .collect()
    };
    let (sql, reads) = match change {
        None => (
            format!("select {columns} from {view} where {filters}{tail}"),
            true,
        ),
        Some(("insert", given)) => {
            let (names, values): (Vec<String>, Vec<String>) = fields(given).into_iter().unzip();
            (
                format!(
                    "insert into {view} ({}) values ({}) returning {columns}",
                    names.join(", "),
                    values.join(", ")
                ),
                false,
            )
        }
        Some(("update", given)) => {
            let changes: Vec<String> = fields(given)
                .iter()
                .map(|(name, value)| format!("{name} = {value}"))
                .collect();
            (
                format!(
                    "update {view} set {} where {filters} returning {columns}",
                    changes.join(", ")
                ),
                false,
            )
        }
        Some(_) => (
            format!("delete from {view} where {filters} returning {columns}"),
            false,
        ),
    };
    Ok((
        format!("with t as ({sql}) select coalesce(json_agg(t), '[]') from t"),
        reads,
    ))
}
