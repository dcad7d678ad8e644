//! The house rules of the code, as a test: headers, lengths, the manifest, comments, search paths, view options.

use std::collections::BTreeSet;
use std::fs::read_to_string;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rotator_tests::TestDb;
use rotator_tests::scratch::root;

/// Every file below this folder of the checkout with that ending.
fn files(folder: &str, ending: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if entry.file_name().to_string_lossy().ends_with(ending) {
                found.push(entry.path());
            }
        }
    }
    ensure!(!found.is_empty(), "no {ending} below {folder}");
    Ok(found)
}

fn shown(file: &Path) -> String {
    file.strip_prefix(root())
        .unwrap_or(file)
        .display()
        .to_string()
}

/// The files that break a rule, with what is wrong.
fn offenders(files: &[PathBuf], rule: impl Fn(&str) -> Option<String>) -> Result<()> {
    let mut wrong = Vec::new();
    for file in files {
        let text = read_to_string(file).with_context(|| shown(file))?;
        if let Some(problem) = rule(&text) {
            wrong.push(format!("{}: {problem}", shown(file)));
        }
    }
    wrong.sort();
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

fn too_long(text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > 400).then(|| format!("{lines} lines; 400 at most: split it by noun"))
}

fn rust_files() -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for folder in ["extension/src", "sidecar/src", "tests/src", "tests/tests"] {
        all.extend(files(folder, ".rs")?);
    }
    Ok(all)
}

#[test]
fn sql_files_say_what_they_own_and_stay_short() -> Result<()> {
    offenders(&files("sql", ".sql")?, |text| {
        let header = text
            .lines()
            .take_while(|line| line.starts_with("--"))
            .count();
        let states_test = text
            .lines()
            .take(header)
            .any(|line| line.contains("overed by"));
        match header {
            0 => Some("no header comment".to_owned()),
            1 => Some("a header comment of one line".to_owned()),
            _ if !states_test => Some("the header doesn't say which test covers it".to_owned()),
            _ => too_long(text),
        }
    })
}

#[test]
fn rust_files_open_with_their_module_doc_and_stay_short() -> Result<()> {
    offenders(&rust_files()?, |text| {
        (!text.starts_with("//! "))
            .then(|| "no //! at the top".to_owned())
            .or_else(|| too_long(text))
    })
}

#[test]
fn lib_files_are_maps() -> Result<()> {
    let libs: Vec<PathBuf> = rust_files()?
        .into_iter()
        .filter(|file| file.ends_with("src/lib.rs"))
        .collect();
    ensure!(libs.len() == 3, "{libs:?}");
    offenders(&libs, |text| {
        (text.lines().count() >= 100).then(|| "lib.rs stays under 100 lines".to_owned())
    })
}

#[test]
fn no_module_is_named_after_nothing() -> Result<()> {
    let vague = [
        "util", "utils", "common", "helpers", "helper", "misc", "manager",
    ];
    let named: Vec<String> = rust_files()?
        .iter()
        .filter(|file| {
            file.components().any(|part| {
                vague.contains(&part.as_os_str().to_string_lossy().trim_end_matches(".rs"))
            })
        })
        .map(|file| shown(file))
        .collect();
    ensure!(named.is_empty(), "{named:?}");
    Ok(())
}

#[test]
fn the_manifest_lists_every_file_once() -> Result<()> {
    let manifest = read_to_string(root().join("sql/manifest"))?;
    let listed: Vec<&str> = manifest
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let names: BTreeSet<&str> = listed.iter().copied().collect();
    ensure!(names.len() == listed.len(), "a file is listed twice");
    let mut existing = BTreeSet::new();
    for folder in ["schema", "api"] {
        for file in files(&format!("sql/{folder}"), ".sql")? {
            existing.insert(format!(
                "{folder}/{}",
                file.file_name()
                    .context("a file has a name")?
                    .to_string_lossy()
            ));
        }
    }
    let existing: BTreeSet<&str> = existing.iter().map(String::as_str).collect();
    ensure!(
        names == existing,
        "listed {names:#?}\nexisting {existing:#?}"
    );
    Ok(())
}

#[test]
fn tests_that_headers_name_exist() -> Result<()> {
    let tests: BTreeSet<String> = files("tests/tests", ".rs")?
        .iter()
        .filter_map(|file| {
            file.strip_prefix(root())
                .ok()
                .map(|file| file.display().to_string())
        })
        .collect();
    offenders(&files("sql", ".sql")?, |text| {
        let header: String = text
            .lines()
            .take_while(|line| line.starts_with("--"))
            .map(|line| line.trim_start_matches("--"))
            .collect();
        let mut missing = Vec::new();
        for start in header.match_indices("tests/tests/").map(|found| found.0) {
            let rest = &header[start..];
            let end = rest.find(".rs").map_or(rest.len(), |end| end + 3);
            let named = &rest[..end];
            match named.split_once('{').and_then(|(folder, rest)| {
                rest.split_once('}')
                    .map(|(names, ending)| (folder, names, ending))
            }) {
                Some((folder, names, ending)) => missing.extend(
                    names
                        .split(',')
                        .map(|name| format!("{folder}{name}{ending}")),
                ),
                None => missing.push(named.to_owned()),
            }
        }
        missing.retain(|name| !tests.contains(name));
        (!missing.is_empty()).then(|| format!("no such test: {}", missing.join(", ")))
    })
}

/// Rows of a catalog query, one text each: what breaks the rule.
async fn none(what: &str, sql: &str) -> Result<()> {
    let db = TestDb::new().await?;
    let found: Vec<String> = db
        .admin
        .query(sql, &[])
        .await?
        .iter()
        .map(|row| row.get(0))
        .collect();
    ensure!(found.is_empty(), "{what}: {found:#?}");
    Ok(())
}

const OURS: &str = "('rotator', 'rotator_internal')";

#[tokio::test]
async fn every_function_has_a_pinned_search_path() -> Result<()> {
    // C functions resolve no names by it, a BEGIN ATOMIC body is bound when it is made, and a procedure that commits
    // can't have one: it must qualify every name instead.
    none(
        "functions without a pinned search_path",
        &format!(
            "select p.oid::regprocedure::text from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
             join pg_language as l on l.oid = p.prolang
             where n.nspname in {OURS} and l.lanname <> 'c' and p.prosqlbody is null
               and not (p.prokind = 'p' and p.prosrc like '%commit%')
               and not coalesce(p.proconfig && array['search_path=pg_catalog, pg_temp', 'search_path=\"\"'], false)"
        ),
    )
    .await
}

#[tokio::test]
async fn everything_has_a_comment() -> Result<()> {
    none(
        "without a comment",
        &format!(
            "select p.oid::regprocedure::text from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
             where n.nspname in {OURS} and obj_description(p.oid, 'pg_proc') is null
             union all
             select c.oid::regclass::text from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
             where n.nspname in {OURS} and c.relkind in ('r', 'v') and obj_description(c.oid, 'pg_class') is null
             union all
             select n.nspname::text from pg_namespace as n where n.nspname in {OURS} and obj_description(n.oid, 'pg_namespace') is null"
        ),
    )
    .await
}

#[tokio::test]
async fn every_view_is_a_security_invoker() -> Result<()> {
    none(
        "views without security_invoker",
        &format!(
            "select c.oid::regclass::text from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
             where n.nspname in {OURS} and c.relkind = 'v' and not coalesce(c.reloptions @> array['security_invoker=true'], false)"
        ),
    )
    .await
}

#[tokio::test]
async fn definers_are_no_superusers_and_c_functions_belong_to_one() -> Result<()> {
    none(
        "functions with the wrong owner",
        &format!(
            "select p.oid::regprocedure::text from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
             join pg_language as l on l.oid = p.prolang join pg_roles as r on r.oid = p.proowner
             where n.nspname in {OURS} and ((l.lanname = 'c') <> r.rolsuper or (p.prosecdef and r.rolsuper) or r.rolcanlogin and l.lanname <> 'c')"
        ),
    )
    .await
}

#[tokio::test]
async fn no_function_is_overloaded_and_every_argument_has_a_name() -> Result<()> {
    none(
        "functions that PostgREST can't choose or call",
        &format!(
            "select min(p.oid::regprocedure::text) from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
             where n.nspname in {OURS} group by n.nspname, p.proname having count(*) > 1
             union all
             select p.oid::regprocedure::text from pg_proc as p
             where p.pronamespace = 'rotator'::regnamespace and p.pronargs > 0
               and (p.proargnames is null or '' = any (p.proargnames[1:p.pronargs]))"
        ),
    )
    .await
}

#[tokio::test]
async fn every_table_with_a_tenant_has_forced_row_security() -> Result<()> {
    none(
        "tables without it",
        "select c.oid::regclass::text from pg_class as c join pg_attribute as a on a.attrelid = c.oid and a.attname = 'tenant_id'
         where c.relnamespace = 'rotator_internal'::regnamespace and c.relkind = 'r'
           and not (c.relrowsecurity and c.relforcerowsecurity and exists (select from pg_policy as p where p.polrelid = c.oid))",
    )
    .await
}

#[test]
fn the_readme_names_the_two_commands() -> Result<()> {
    let readme = read_to_string(root().join("README.md")).context("README.md")?;
    for command in ["make demo", "make test"] {
        ensure!(
            readme.contains(command),
            "README.md doesn't mention {command}"
        );
    }
    Ok(())
}

#[test]
fn no_file_of_ours_names_the_machine_it_was_made_on() -> Result<()> {
    // Put together here, so that this file doesn't contain them.
    let workshop = ["/", "work", "/"].concat();
    let mut all = rust_files()?;
    for (folder, ending) in [("sql", ""), ("scripts", ""), ("tests/data", "")] {
        all.extend(files(folder, ending)?);
    }
    for file in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "SECURITY.md",
        "Makefile",
    ] {
        all.extend(Some(root().join(file)).filter(|file| file.exists()));
    }
    offenders(&all, |text| {
        text.contains(&workshop)
            .then(|| "a path of one machine".to_owned())
    })
}
