//! How far rotations have come, as `rotator.key_rotations` shows it: of one tenant, or of all there are to be seen.

use serde_json::Value;

use crate::cli::Place;
use crate::cli::session::{Refusal, Session, only};
use crate::failure::{Exit, Failure};
use crate::import::Item;
use crate::import::text::printable;

const RUNNING: &str =
    "select count(*), coalesce(sum(greatest(r.total - r.done - r.failed, 0)), 0)::bigint,
        min(coalesce(r.error, '')) filter (where r.error is not null)
    from rotator.key_rotations as r
    where r.status = 'running' and ($1::bool or r.tenant_id = (select rotator.current_tenant()))";

const LAST: &str = "select to_jsonb(r)
    from (
        select distinct on (k.tenant_id) k.*
        from rotator.key_rotations as k
        where $1::bool or k.tenant_id = (select rotator.current_tenant())
        order by k.tenant_id, k.id desc
    ) as r
    order by r.tenant_id";

const MAY_DRIVE: &str =
    "select pg_catalog.has_function_privilege('rotator.reencrypt_step(integer)', 'execute')";

/// Whose rotations are meant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All that the login role sees.
    All,
    /// Those of the tenant that the session chose.
    Tenant,
}

impl Scope {
    /// With a tenant chosen only its, also for those who see all.
    pub fn of(place: &Place) -> Self {
        if place.tenant().is_none() {
            Self::All
        } else {
            Self::Tenant
        }
    }

    /// As a parameter.
    pub fn all(self) -> &'static str {
        match self {
            Self::All => "true",
            Self::Tenant => "false",
        }
    }
}

/// What the runs that are not finished come to.
pub struct Standing {
    pub running: i64,
    /// Rows known to be left.
    pub left: u64,
    /// What one of them waits for, or stumbled over.
    pub trouble: Option<String>,
}

/// The runs under way.
///
/// # Errors
/// As [`Session::call`].
pub async fn look(session: &mut Session, scope: Scope) -> Result<Standing, Refusal> {
    let rows = session.call(RUNNING, &[Some(scope.all())]).await?;
    let left: i64 = only(&rows, 1)?;
    Ok(Standing {
        running: only(&rows, 0)?,
        left: u64::try_from(left).unwrap_or_default(),
        trouble: only::<Option<String>>(&rows, 2)?.map(|text| printable(&text)),
    })
}

/// The rotation of each tenant that runs or ran last.
///
/// # Errors
/// As [`Session::call`].
pub async fn last(session: &mut Session, scope: Scope) -> Result<Vec<Item>, Refusal> {
    session.items(LAST, &[Some(scope.all())]).await
}

/// Whether this login role may re-encrypt, or can only watch.
///
/// # Errors
/// As [`Session::call`].
pub async fn may_drive(session: &mut Session) -> Result<bool, Refusal> {
    let rows = session.call(MAY_DRIVE, &[]).await?;
    only(&rows, 0)
}

/// What to say if the last rotation of a tenant failed.
pub fn failure(last: &[Item]) -> Option<Failure> {
    let failed: Vec<&Item> = last
        .iter()
        .filter(|row| row.get("status").and_then(Value::as_str) == Some("failed"))
        .collect();
    let first = failed.first()?;
    let id = first.get("id").map_or_else(String::new, Value::to_string);
    let error = first
        .get("error")
        .and_then(Value::as_str)
        .map_or_else(|| "no reason was recorded".to_owned(), printable);
    let others = match failed.len() {
        1 => String::new(),
        count => format!(" ({} of other tenants failed as well)", count - 1),
    };
    Some(
        Failure::new(
            Exit::Failed,
            format!("rotation {id} failed: {error}{others}"),
        )
        .hint(format!(
            "Mend the rows it names, then run `rotator keys reencrypt --retry {id}`."
        )),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_rotation_that_failed_is_a_failure() {
        let row = |value: Value| value.as_object().cloned().unwrap();
        let fine = row(json!({"id": 7, "status": "completed", "error": null}));
        assert!(failure(std::slice::from_ref(&fine)).is_none());
        let failed = row(json!({"id": 8, "status": "failed", "error": "two rows"}));
        let shown = failure(&[fine, failed.clone()]).unwrap().to_string();
        assert_eq!(shown, "rotation 8 failed: two rows");
        let shown = failure(&[failed.clone(), failed]).unwrap().to_string();
        assert!(
            shown.ends_with("(1 of other tenants failed as well)"),
            "{shown}"
        );
    }
}
