//! Whatever a page names exists: the targets of its links, functions, views, tables, settings, files and tests. And the
//! other way round: the reference and the guides leave out none of the functions, settings and checks there are.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use rotator_tests::scratch::root;
use rotator_tests::{Cli, TestDb};

use crate::markdown::{Page, page, pages};

/// `rotator.so` and its like are files.
const FILE_ENDINGS: [&str; 6] = ["control", "example", "service", "so", "sql", "toml"];
/// Not shown to anybody; ARCHITECTURE explains it.
const HIDDEN_SETTINGS: [&str; 1] = ["session"];
/// What a webhook's `type` may be, in the sidecar's guide and among the changes.
const WEBHOOK_TYPES: [&str; 5] = [
    "reminder",
    "key_rotation",
    "contact_gone",
    "summary",
    "test",
];

#[test]
fn relative_links_resolve() -> Result<()> {
    let mut broken = Vec::new();
    for from in pages()? {
        for target in from.links() {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let path = match path {
                "" => from.path.clone(),
                path => from.path.parent().unwrap_or(&from.path).join(path),
            };
            let file = root().join(&path);
            let found = file.exists()
                && (anchor.is_empty() || {
                    let there = Page {
                        text: std::fs::read_to_string(&file)?,
                        path,
                    };
                    there.anchors().iter().any(|known| known == anchor)
                });
            if !found {
                broken.push(format!("{}: {target}", from.path.display()));
            }
        }
    }
    ensure!(broken.is_empty(), "{broken:#?}");
    Ok(())
}

#[tokio::test]
async fn every_name_of_the_database_exists() -> Result<()> {
    let db = TestDb::new().await?;
    let mut unknown = Vec::new();
    for schema in ["rotator", "rotator_internal"] {
        let known = names_in(&db, schema).await?;
        for page in pages()? {
            for name in page.names_after(schema) {
                let file = FILE_ENDINGS.contains(&name.as_str())
                    || HIDDEN_SETTINGS.contains(&name.as_str());
                let kind = WEBHOOK_TYPES.contains(&name.as_str())
                    && ["docs/sidecar.md", "CHANGELOG.md"]
                        .iter()
                        .any(|place| page.path.ends_with(place));
                if !known.contains(&name) && !file && !kind {
                    unknown.push(format!("{}: {schema}.{name}", page.path.display()));
                }
            }
        }
    }
    ensure!(unknown.is_empty(), "{unknown:#?}");
    Ok(())
}

#[tokio::test]
async fn the_reference_is_complete() -> Result<()> {
    let db = TestDb::new().await?;
    let reference = page("docs/reference.md")?;
    let spans: BTreeSet<&str> = reference
        .code_spans()
        .into_iter()
        .map(|span| span.split(['(', ' ']).next().unwrap_or(span))
        .map(|name| name.strip_prefix("rotator.").unwrap_or(name))
        .collect();
    let missing: Vec<String> = names_in(&db, "rotator")
        .await?
        .into_iter()
        .filter(|name| !spans.contains(name.as_str()))
        .collect();
    ensure!(missing.is_empty(), "docs/reference.md lacks {missing:?}");
    Ok(())
}

#[tokio::test]
async fn the_runbook_explains_every_check_of_doctor() -> Result<()> {
    let db = TestDb::new().await?;
    let runbook = page("docs/runbook.md")?;
    for row in db
        .admin
        .query("select check_name from rotator.doctor()", &[])
        .await?
    {
        let check: String = row.get(0);
        ensure!(
            runbook.code_spans().contains(&check.as_str()),
            "docs/runbook.md lacks `{check}`"
        );
    }
    Ok(())
}

/// The sidecar lists its settings itself when it meets one that it doesn't know.
#[tokio::test]
async fn the_sidecar_guide_names_every_setting() -> Result<()> {
    let printed = Cli::offline(&["keys", "new-master"])?
        .file(".env", b"ROTATOR_NO_SUCH_SETTING_AT_ALL=1\n")?
        .run()
        .await?;
    let (_, known) = printed
        .stderr
        .split_once("known settings: ")
        .with_context(|| printed.stderr.clone())?;
    let guide = page("docs/sidecar.md")?;
    for setting in known.split(',').map(str::trim) {
        ensure!(
            guide.code_spans().contains(&setting),
            "docs/sidecar.md lacks `{setting}`"
        );
    }
    Ok(())
}

/// `sql/api/tick.sql` must be there, and in `tests/tests/….rs::name` so must the test.
#[test]
fn files_and_tests_that_pages_name_exist() -> Result<()> {
    const FOLDERS: [&str; 6] = [
        "docs/",
        "extension/",
        "scripts/",
        "sidecar/",
        "sql/",
        "tests/",
    ];
    let mut unknown = Vec::new();
    for page in pages()? {
        for span in page.code_spans() {
            let is_path = FOLDERS.iter().any(|folder| span.starts_with(folder));
            if !is_path || span.contains(|c: char| "<>{}*… ".contains(c)) {
                continue;
            }
            let (path, test) = span.split_once("::").unwrap_or((span, ""));
            let file = root().join(path);
            let found = if test.is_empty() {
                file.exists()
            } else {
                std::fs::read_to_string(&file)
                    .is_ok_and(|text| text.contains(&format!("fn {test}(")))
            };
            if !found {
                unknown.push(format!("{}: {span}", page.path.display()));
            }
        }
    }
    ensure!(unknown.is_empty(), "{unknown:#?}");
    Ok(())
}

/// Functions, procedures, views, tables, sequences and types of a schema, and the settings that begin like it.
async fn names_in(db: &TestDb, schema: &str) -> Result<BTreeSet<String>> {
    let rows = db
        .admin
        .query(
            "select p.proname::text from pg_proc p where p.pronamespace = $1::text::regnamespace
             union select c.relname::text from pg_class c
             where c.relnamespace = $1::text::regnamespace and c.relkind in ('r', 'v', 'S')
             union select split_part(s.name, '.', 2) from pg_settings s where split_part(s.name, '.', 1) = $1",
            &[&schema],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
