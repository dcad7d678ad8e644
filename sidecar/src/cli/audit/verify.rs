//! `rotator audit verify`: whether the log is what was sealed and signed. From an export it needs no database; else it reads
//! the log as an export would, without leaving a trace of its own.

use std::fs::File;
use std::io::{BufRead, BufReader, stdin};
use std::path::Path;

use rotator_audit::hex;
use serde_json::json;

use super::walk::{Scope, walk};
use crate::audit::export::{ExportError, read};
use crate::audit::{Bad, Copies, Findings, KeyError, PublicKey, Verifier};
use crate::cli::Place;
use crate::cli::args::{VerdictFormat, VerifyAudit};
use crate::cli::output::print;
use crate::failure::{Exit, Failure};

/// So many problems are printed; the first is what counts.
const SHOWN: usize = 20;

pub async fn run(place: &Place, args: VerifyAudit) -> Result<Exit, Failure> {
    let keys = args
        .keys
        .iter()
        .map(|key| public_keys(key))
        .collect::<Result<Vec<_>, _>>()?
        .concat();
    let mut copies = Copies::default();
    for path in &args.copies {
        copies.add(path, &keys).map_err(|error| {
            Failure::new(Exit::Failed, error.to_string())
                .hint("Name the file of ROTATOR_AUDIT_FILE, or a folder with objects from S3.")
        })?;
    }
    if !args.copies.is_empty() && copies.is_empty() && copies.problems.is_empty() {
        return Err(Failure::new(Exit::Failed, "the copies hold no block")
            .hint("Name the file of ROTATOR_AUDIT_FILE, or a folder with objects from S3."));
    }
    let mut verifier = Verifier::new(keys, copies, args.allow_unsigned);
    match &args.export {
        Some(path) => offline(path, &mut verifier)?,
        None => {
            let (mut session, scope) = Scope::open(place).await?;
            walk(&mut session, &scope, &mut |item| {
                verifier.take(item);
                Ok(())
            })
            .await?;
        }
    }
    tell(&verifier.finish(), args)
}

fn offline(path: &Path, verifier: &mut Verifier) -> Result<(), Failure> {
    let unreadable = |error: ExportError| {
        Failure::new(
            Exit::Failed,
            format!("can't verify {}: {error}", path.display()),
        )
        .hint("Name what `rotator audit export` wrote, whole and unpacked.")
    };
    let from: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(BufReader::with_capacity(1 << 18, stdin().lock()))
    } else {
        let file = File::open(path).map_err(|error| unreadable(error.into()))?;
        Box::new(BufReader::with_capacity(1 << 18, file))
    };
    let result: Result<(), ExportError> = read(from, |item| {
        verifier.take(item);
        Ok(())
    });
    result.map_err(unreadable)
}

/// A line, or the lines of a file.
fn public_keys(given: &str) -> Result<Vec<PublicKey>, Failure> {
    let wrong = |problem: &str| {
        Failure::new(Exit::Usage, format!("--key is no public key: {problem}"))
            .hint("Give the public line that `rotator audit new-key` printed, or a file with it.")
    };
    match PublicKey::parse(given) {
        Ok(key) => return Ok(vec![key]),
        // Not the name of a file, and not to be shown.
        Err(error @ KeyError::Private) => return Err(wrong(&error.to_string())),
        Err(_) => {}
    }
    let text = std::fs::read_to_string(given)
        .map_err(|error| wrong(&format!("{given}: {}", error.kind())))?;
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys: Result<Vec<_>, _> = lines.map(PublicKey::parse).collect();
    match keys {
        Ok(keys) if !keys.is_empty() => Ok(keys),
        Ok(_) => Err(wrong("the file is empty")),
        Err(error) => Err(wrong(&error.to_string())),
    }
}

fn tell(found: &Findings, args: VerifyAudit) -> Result<Exit, Failure> {
    let counts = counts(found, !args.keys.is_empty());
    if args.format == VerdictFormat::Json {
        let bad: Vec<_> = found.bad.iter().map(as_json).collect();
        let verdict = json!({
            "ok": bad.is_empty(),
            "checked": found.checked,
            "unsealed": found.unsealed,
            "blocks": found.blocks,
            "signed": found.signed,
            "tenants": found.tenants,
            "bad": bad,
            "notes": found.notes,
        });
        print(&format!("{verdict:#}\n"))?;
        return Ok(if found.bad.is_empty() {
            Exit::Ok
        } else {
            Exit::Failed
        });
    }
    for note in &found.notes {
        eprintln!("note: {note}");
    }
    let Some(first) = found.bad.first() else {
        print(&format!("ok: {counts}\n"))?;
        return Ok(Exit::Ok);
    };
    for bad in found.bad.iter().skip(1).take(SHOWN) {
        print(&format!("also: {bad}\n"))?;
    }
    if found.bad.len() > SHOWN + 1 {
        print("and more\n")?;
    }
    print(&format!("{counts}\n"))?;
    Err(Failure::new(Exit::Failed, first.to_string()).hint(
        "Keep the database, its backups and the copies as they are, and see docs/audit.md: what to do when it doesn't verify.",
    ))
}

fn counts(found: &Findings, keys: bool) -> String {
    let signed = match (keys, found.signed) {
        (true, signed) => format!("{signed} signed"),
        (false, signed) => format!("{signed} with a signature, which is not checked without --key"),
    };
    format!(
        "{} checked, {} not sealed yet; {}, {signed}; {}",
        many(found.checked, "event"),
        found.unsealed,
        many(found.blocks, "block"),
        many(found.tenants, "tenant")
    )
}

fn many(count: u64, of: &str) -> String {
    format!("{count} {of}{}", if count == 1 { "" } else { "s" })
}

fn as_json(bad: &Bad) -> serde_json::Value {
    json!({
        "tenant_id": bad.tenant.as_ref().map(hex::uuid),
        "event": bad.event,
        "block": bad.block,
        "what": bad.what,
    })
}
