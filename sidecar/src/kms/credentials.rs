//! Who we are to AWS. The usual places in the usual order: the environment, the profile of the shared files, web identity
//! (IRSA), the container's role (ECS, EKS Pod Identity), the EC2 instance's role (IMDSv2).
//!
//! Unlike the library's own chain this one stops at a source that is set up and doesn't work: whoever configured a role
//! wants to hear that it is refused, and not to be somebody else.

use std::collections::HashMap;
use std::error::Error as _;
use std::path::PathBuf;
use std::process::Stdio;

use reqsign_aws_v4::{
    AssumeRoleWithWebIdentityCredentialProvider, Credential, ECSCredentialProvider,
    EnvCredentialProvider, IMDSv2CredentialProvider, ProcessCredentialProvider,
    ProfileCredentialProvider,
};
use reqsign_core::{
    CommandExecute, CommandOutput, Context, Env, Error, ErrorKind, FileRead, OsEnv,
    ProvideCredentialDyn,
};

use super::arn::Place;
use super::error::KmsError;
use super::patience::{Again, Patience, Trouble};
use super::web::Web;
use crate::import::text::printable;

/// No file of AWS's tools comes near this.
const LARGEST_FILE: u64 = 1024 * 1024;
/// How often the address where an EC2 instance would get its role is asked, when there may be nobody there.
const METADATA_ATTEMPTS: u32 = 3;
/// How much of a library's message is passed on, in characters.
const SAID: usize = 120;

const METADATA: &str = "the EC2 instance's role";
const PROCESS: &str = "the credential_process of the profile";

type Source = Box<dyn ProvideCredentialDyn<Credential = Credential>>;

/// Everything a source may use.
pub fn context(web: &Web) -> Context {
    Context::new()
        .with_env(Environment)
        .with_file_read(Files)
        .with_http_send(web.clone())
        .with_command_execute(Programs)
}

/// The credentials of the first source that is set up.
///
/// # Errors
/// That source doesn't give any; or none is set up.
pub async fn load(
    context: &Context,
    place: &Place,
    patience: &Patience,
) -> Result<Credential, KmsError> {
    let web_identity = AssumeRoleWithWebIdentityCredentialProvider::new()
        .with_region(place.region().to_owned())
        .with_regional_sts_endpoint()
        .with_role_session_name(session_name());
    let profile: [(&str, Source); 2] = [
        ("the profile", Box::new(ProfileCredentialProvider::new())),
        (PROCESS, Box::new(ProcessCredentialProvider::new())),
    ];
    let roles: [(&str, Source); 3] = [
        ("web identity", Box::new(web_identity)),
        (
            "the container's role",
            Box::new(ECSCredentialProvider::new()),
        ),
        (METADATA, Box::new(IMDSv2CredentialProvider::new())),
    ];
    let environment: Source = Box::new(EnvCredentialProvider::new());
    if let Some(found) = ask("the environment", &environment, context, patience).await? {
        return Ok(found);
    }
    for (name, source) in &profile {
        if let Some(found) = ask(name, source, context, patience).await? {
            return Ok(found);
        }
    }
    if Environment.var("AWS_PROFILE").is_some() {
        return Err(KmsError::EmptyProfile);
    }
    for (name, source) in &roles {
        if let Some(found) = ask(name, source, context, patience).await? {
            return Ok(found);
        }
    }
    Err(KmsError::NoCredentials)
}

/// `AWS_ROLE_SESSION_NAME`, or our name: it stands in CloudTrail.
fn session_name() -> String {
    let chosen = Environment.var("AWS_ROLE_SESSION_NAME");
    chosen.unwrap_or_else(|| "rotator-kms".to_owned())
}

async fn ask(
    name: &'static str,
    source: &Source,
    context: &Context,
    patience: &Patience,
) -> Result<Option<Credential>, KmsError> {
    let who = format!("{name}, asked for AWS credentials,");
    let mut attempts = 0;
    patience
        .keep_trying(&who, async || {
            attempts += 1;
            let error = match source.provide_credential_dyn(context).await {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            let nobody_there = error.source().is_some() && error.is_retryable();
            if name == METADATA && nobody_there && attempts >= METADATA_ATTEMPTS {
                return Ok(None); // not on EC2, most likely
            }
            let problem = problem(name, &error);
            if error.is_retryable() || error.kind() == ErrorKind::RateLimited {
                return Err(Trouble::Again(Again {
                    throttled: error.kind() == ErrorKind::RateLimited,
                    ..Again::new(&who, format!("failed: {problem}"))
                }));
            }
            Err(KmsError::Credentials {
                source_name: name,
                problem,
            }
            .into())
        })
        .await
}

/// What a library says, and of what caused it only our own words: a parser's may quote what it read.
fn problem(name: &str, error: &Error) -> String {
    if name == PROCESS {
        return "run it by hand to see what it says".to_owned();
    }
    let cause = error
        .source()
        .and_then(|cause| cause.downcast_ref::<Error>())
        .map(|cause| format!(": it {cause}"));
    let said = format!("{error}{}", cause.unwrap_or_default());
    printable(&said).chars().take(SAID).collect()
}

/// The process's environment; an empty variable is none.
#[derive(Debug)]
struct Environment;

impl Env for Environment {
    fn var(&self, key: &str) -> Option<String> {
        OsEnv.var(key).filter(|value| !value.is_empty())
    }

    fn vars(&self) -> HashMap<String, String> {
        std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(_, value)| !value.is_empty())
            .collect()
    }

    fn home_dir(&self) -> Option<PathBuf> {
        OsEnv.home_dir()
    }
}

#[derive(Debug)]
struct Files;

impl FileRead for Files {
    async fn file_read(&self, path: &str) -> reqsign_core::Result<Vec<u8>> {
        use std::io::Read;
        // Small local files: not worth a thread.
        let mut contents = Vec::new();
        std::fs::File::open(path)?
            .take(LARGEST_FILE)
            .read_to_end(&mut contents)?;
        Ok(contents)
    }
}

#[derive(Debug)]
struct Programs;

impl CommandExecute for Programs {
    async fn command_execute(
        &self,
        program: &str,
        arguments: &[&str],
    ) -> reqsign_core::Result<CommandOutput> {
        let output = tokio::process::Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await?;
        Ok(CommandOutput {
            status: output.status.code().unwrap_or(-1),
            stdout: output.stdout,
            stderr: output.stderr,
        })
    }
}
