//! `rotator audit export`: the log as lines, as of one moment. That it is exported is an event, which is committed before
//! anything is read, and so is in the export itself.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write, stdout};
use std::os::unix::fs::OpenOptionsExt;

use super::walk::{Scope, walk};
use crate::audit::export::Writer;
use crate::cli::Place;
use crate::cli::args::ExportAudit;
use crate::failure::{Exit, Failure};

pub async fn run(place: &Place, args: ExportAudit) -> Result<Exit, Failure> {
    let (mut session, mut scope) = Scope::open(place).await?;
    let (out, file): (Box<dyn Write>, Option<File>) = match &args.out {
        None => (Box::new(stdout().lock()), None),
        Some(path) => {
            let made = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path);
            let file = made.and_then(|file| Ok((file.try_clone()?, file)));
            let (one, other) = file.map_err(|error| {
                Failure::new(
                    Exit::Failed,
                    format!("can't write {}: {error}", path.display()),
                )
                .hint("Name a file that isn't there yet, in a folder that you may write.")
            })?;
            (Box::new(one), Some(other))
        }
    };
    scope.record(&mut session).await?;
    let mut writer = Writer::new(BufWriter::with_capacity(1 << 18, out));
    let unwritable = |error: std::io::Error| {
        Failure::new(Exit::Failed, format!("can't write the export: {error}")).hint(
            "Check where it goes, and whether there is room; what is there now is not complete.",
        )
    };
    walk(&mut session, &scope, &mut |item| {
        writer.write(&item).map_err(unwritable)
    })
    .await?;
    if let Some(file) = file {
        file.sync_all().map_err(unwritable)?;
    }
    let (events, blocks) = writer.counts();
    eprintln!("note: {events} events and {blocks} blocks exported");
    Ok(Exit::Ok)
}
