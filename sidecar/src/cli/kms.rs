//! `rotator kms wrap` and `rotator kms unwrap`: master keys that only AWS KMS can open. What travels and how: `crate::kms`.
//! Tests: `tests/tests/delivery/kms*.rs`.

use std::fs::File;
use std::io::{IsTerminal, Read, stdin, stdout};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use zeroize::Zeroizing;

use super::Place as Where;
use super::args::{KmsCommand, UnwrapKey, WrapKey};
use super::keys::new_master_line;
use super::output::print;
use crate::failure::{Exit, Failure};
use crate::kms::{KmsError, LARGEST, Patience, Place, parse_plain, parse_wrapped, print_wrapped};

const WRITABLE_BY_OTHERS: u32 = 0o002;

/// Runs one of the two.
///
/// # Errors
/// What can't be read, and what KMS refuses or doesn't answer, with a hint.
pub async fn run(at: &Where, command: KmsCommand) -> Result<Exit, Failure> {
    match command {
        KmsCommand::Wrap(args) => wrap(at, args).await,
        KmsCommand::Unwrap(args) => unwrap(at, args).await,
    }
}

async fn wrap(at: &Where, args: WrapKey) -> Result<Exit, Failure> {
    let patience = Patience::new(Duration::from_secs(args.timeout));
    let place = region(&args)?;
    let text = if args.new {
        Zeroizing::new(new_master_line()?.as_bytes().to_vec())
    } else {
        read(args.input.as_deref(), "master keys, lines id:base64")?
    };
    let keys = parse_plain(&text).map_err(|problem| {
        unreadable(args.input.as_deref(), &problem.to_string()).hint(
            "Give it what `rotator keys new-master` prints, or use --new for a key that is nowhere in the clear.",
        )
    })?;
    let stand_in = at.settings.aws_endpoint_url.as_ref();
    let wrapped = crate::kms::wrap(&keys, &args.key_id, &place, stand_in, &patience).await?;
    print(&print_wrapped(&wrapped))?;
    Ok(Exit::Ok)
}

async fn unwrap(at: &Where, args: UnwrapKey) -> Result<Exit, Failure> {
    let patience = Patience::new(Duration::from_secs(args.timeout));
    if stdout().is_terminal() && !args.force {
        return Err(
            Failure::new(Exit::Usage, "this would print master keys on a terminal")
                .hint("Send it into a file or a pipe; --force prints them all the same."),
        );
    }
    let text = read(args.input.as_deref(), "what `rotator kms wrap` printed")?;
    let wrapped = parse_wrapped(&text).map_err(|problem| {
        unreadable(args.input.as_deref(), &problem.to_string())
            .hint("It should be what `rotator kms wrap` printed: lines id:kms:arn:base64.")
    })?;
    let stand_in = at.settings.aws_endpoint_url.as_ref();
    print(&crate::kms::unwrap(&wrapped, stand_in, &patience).await?)?;
    Ok(Exit::Ok)
}

/// Of the key's name, else as asked for, else of the environment.
fn region(args: &WrapKey) -> Result<Place, KmsError> {
    let asked = args.region.as_deref().map(Place::new).transpose()?;
    if let Some(place) = args.key_id.place() {
        return match asked {
            Some(asked) if asked != *place => Err(KmsError::OtherRegion {
                of_key: place.region().to_owned(),
                asked: asked.region().to_owned(),
            }),
            _ => Ok(place.clone()),
        };
    }
    let set = ["AWS_REGION", "AWS_DEFAULT_REGION"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    match (asked, set) {
        (Some(place), _) => Ok(place),
        (None, Some(region)) => Place::new(&region),
        (None, None) => Err(KmsError::NoRegion),
    }
}

/// A file, or standard input.
fn read(path: Option<&Path>, what: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    // Allocated once, so that growing leaves no copy behind.
    let mut text = Zeroizing::new(Vec::with_capacity(LARGEST + 1));
    let limit = LARGEST as u64 + 1;
    let done = match path.filter(|path| *path != Path::new("-")) {
        None if stdin().is_terminal() => {
            let problem = format!("standard input is a terminal; expected are {what}");
            return Err(Failure::new(Exit::Usage, problem).hint("Name a file with --in FILE."));
        }
        None => stdin().lock().take(limit).read_to_end(&mut text),
        Some(path) => open(path)?.take(limit).read_to_end(&mut text),
    };
    done.map_err(|error| {
        unreadable(path, &error.kind().to_string()).hint("Correct the path or its permissions.")
    })?;
    if text.len() > LARGEST {
        return Err(unreadable(path, "it is larger than 64 KiB")
            .hint("A line of keys has a few hundred bytes: is it that file?"));
    }
    Ok(text)
}

/// Whoever can write the file decides under which master key the database encrypts from now on.
fn open(path: &Path) -> Result<File, Failure> {
    let refused = |problem: &str| unreadable(Some(path), problem);
    let file = File::open(path).map_err(|error| {
        refused(&error.kind().to_string()).hint("Correct the path or its permissions.")
    })?;
    // Of the opened file, not of the path: nobody can swap them in between.
    let metadata = file
        .metadata()
        .map_err(|error| refused(&error.kind().to_string()))?;
    if metadata.is_dir() {
        return Err(refused("it is a directory").hint("Name the file in it."));
    }
    if metadata.is_file() && metadata.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(refused("everybody may write it").hint("chmod o-w, and see who did."));
    }
    Ok(file)
}

fn unreadable(path: Option<&Path>, problem: &str) -> Failure {
    let what = match path {
        Some(path) if path != Path::new("-") => path.display().to_string(),
        _ => "standard input".to_owned(),
    };
    Failure::new(Exit::Failed, format!("can't use {what}: {problem}"))
}
