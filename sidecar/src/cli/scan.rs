//! `rotator doctor --scan`: asks the database, page by page, whether what is stored would be refused by the rules of this
//! version. The database decrypts and looks; what comes here are tenants, ids, fields and rules, never a value.

use serde_json::Value;

use super::progress::Progress;
use super::session::{Refusal, Session};
use crate::import::Item;

/// Records a page: about a tenth of a second.
const PAGE: &str = "1000";

/// What one stored text would be refused for.
pub struct Finding {
    pub place: String,
    pub rule: String,
}

/// Everything found, and among how many records.
pub struct Scanned {
    pub findings: Vec<Finding>,
    pub records: u64,
}

/// Looks through the texts of all tenants.
///
/// # Errors
/// What the database says: that takes rotator_admin.
pub async fn scan(session: Session) -> Result<Scanned, Refusal> {
    let mut session = session.of_all_tenants();
    let mut scanned = Scanned {
        findings: Vec::new(),
        records: 0,
    };
    let progress = Progress::new(None);
    let mut after: Option<String> = None;
    loop {
        let sql = "select rotator.scan_texts($1::jsonb, $2::int4)";
        let pages = session.items(sql, &[after.as_deref(), Some(PAGE)]).await?;
        let Some(page) = pages.into_iter().next() else {
            break;
        };
        scanned.records += page.get("scanned").and_then(Value::as_u64).unwrap_or(0);
        progress.show(scanned.records);
        scanned.findings.extend(findings(&page));
        match page.get("next") {
            None | Some(Value::Null) => break,
            Some(next) => after = Some(next.to_string()),
        }
    }
    progress.clear();
    Ok(scanned)
}

fn findings(page: &Item) -> impl Iterator<Item = Finding> {
    let rows = page.get("findings").and_then(Value::as_array);
    rows.into_iter().flatten().map(|row| {
        let part = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
        let id = match part("entity_id") {
            "" => String::new(),
            id => format!(" {id}"),
        };
        Finding {
            place: format!(
                "tenant {}, {}{id}, field {}",
                part("tenant"),
                part("entity").replace('_', " "),
                part("field")
            ),
            rule: part("rule").to_owned(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_names_the_place_and_the_rule() {
        let page = serde_json::json!({"findings": [
            {"tenant": "acme", "tenant_id": "t", "entity": "audit_event", "entity_id": "7", "field": "changes", "rule": "github-token"},
            {"tenant": "acme", "tenant_id": "t", "entity": "member", "entity_id": null, "field": "subject", "rule": "json-web-token"},
        ]});
        let Value::Object(page) = page else {
            panic!("an object")
        };
        let found: Vec<(String, String)> = findings(&page)
            .map(|finding| (finding.place, finding.rule))
            .collect();
        assert_eq!(
            found,
            [
                (
                    "tenant acme, audit event 7, field changes".to_owned(),
                    "github-token".to_owned()
                ),
                (
                    "tenant acme, member, field subject".to_owned(),
                    "json-web-token".to_owned()
                ),
            ]
        );
    }
}
