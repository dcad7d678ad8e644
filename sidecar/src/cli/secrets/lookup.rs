//! Finds the secret that somebody means: by id, or by its name without regard to case.

use uuid::Uuid;

use crate::cli::session::{Session, field};
use crate::failure::{Exit, Failure};
use crate::import::text::presentable;

/// Names in use come before retired ones, which may repeat them; the exact spelling comes first.
const BY_NAME: &str = "select s.id::text, s.name, s.status = 'retired'
    from rotator.secrets as s
    where lower(s.name) = lower(btrim($1))
    order by s.status = 'retired', s.name <> btrim($1), s.id
    limit 6";

const SIMILAR: &str = "select s.name from rotator.search_secrets(query => $1, max_rows => 3) as s";

/// A secret that was found.
pub struct Found {
    pub id: String,
    /// As registered, or as typed when that was the id.
    pub name: String,
}

/// The secret with this id or name. An id is taken as it is; whether it exists is said by what is done with it.
///
/// # Errors
/// No secret, or several, have that name.
pub async fn find(session: &mut Session, typed: &str) -> Result<Found, Failure> {
    let typed = typed.trim();
    if let Ok(id) = Uuid::try_parse(typed) {
        return Ok(Found {
            id: id.to_string(),
            name: typed.to_owned(),
        });
    }
    let rows = session.call(BY_NAME, &[Some(typed)]).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let retired: bool = field(row, 2)?;
        found.push((
            Found {
                id: field(row, 0)?,
                name: field(row, 1)?,
            },
            retired,
        ));
    }
    if found.iter().any(|(_, retired)| !retired) {
        found.retain(|(_, retired)| !retired);
    }
    match found.len() {
        0 => Err(unknown(session, typed).await?),
        1 => Ok(found.swap_remove(0).0),
        _ => {
            let ids: Vec<_> = found.into_iter().map(|(secret, _)| secret.id).collect();
            Err(Failure::new(
                Exit::Failed,
                format!("several secrets have the name{}", quoted(typed)),
            )
            .hint(format!("Give the id instead: {}", ids.join(", "))))
        }
    }
}

async fn unknown(session: &mut Session, typed: &str) -> Result<Failure, Failure> {
    let failure = Failure::new(
        Exit::Failed,
        format!("no secret has the name{}", quoted(typed)),
    );
    if typed.is_empty() {
        return Ok(
            failure.hint("Give the secret's name or id; `rotator secrets list` shows names.")
        );
    }
    let rows = session.call(SIMILAR, &[Some(typed)]).await?;
    let similar: Vec<String> = rows
        .iter()
        .map(|row| field(row, 0))
        .collect::<Result<_, _>>()?;
    let similar: Vec<String> = similar
        .iter()
        .filter_map(|name| presentable(name))
        .map(|name| format!("\"{name}\""))
        .collect();
    Ok(failure.hint(if similar.is_empty() {
        "See `rotator secrets list --query PART`; another tenant's secrets need --tenant."
            .to_owned()
    } else {
        format!("Did you mean {}?", similar.join(" or "))
    }))
}

/// The name as typed, unless it could be a value that was pasted by mistake.
fn quoted(typed: &str) -> String {
    presentable(typed).map_or_else(String::new, |name| format!(" \"{name}\""))
}
