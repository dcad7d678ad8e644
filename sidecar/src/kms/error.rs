//! What can go wrong with AWS KMS, in words, with what to do about it and how the process ends.
//!
//! The database server shows a client the first line alone, and nothing in it that is as long as a key, ids and AWS's
//! names of errors included: so the first line says it in plain words. What AWS said itself is in the hint, and never
//! anything of a key.

use crate::failure::{Exit, Failure};

/// Why a master key was not wrapped or not unwrapped.
#[derive(Debug, thiserror::Error)]
pub enum KmsError {
    #[error("no AWS region: the name of the KMS key doesn't say it")]
    NoRegion,
    #[error("\"{0}\" is no AWS region")]
    BadRegion(String),
    #[error("the KMS key is in {of_key}, and --region says {asked}")]
    OtherRegion { of_key: String, asked: String },
    #[error("the endpoint of AWS must begin with https://")]
    InsecureEndpoint,
    #[error("TLS can't be set up: {0}")]
    Tls(String),
    #[error("no AWS credentials found")]
    NoCredentials,
    #[error("the AWS profile has no usable credentials")]
    EmptyProfile,
    #[error("no AWS credentials from {source_name}: {problem}")]
    Credentials {
        source_name: &'static str,
        problem: String,
    },
    /// Tried until there was no time left; it may work later.
    #[error("{who} {why} ({attempts} attempts in {seconds:.1} s)")]
    GaveUp {
        who: String,
        throttled: bool,
        why: String,
        attempts: u32,
        seconds: f64,
    },
    /// KMS said no, and will say it again.
    #[error("{}", refusal.about(id))]
    Refused {
        id: String,
        refusal: Refusal,
        said: String,
    },
    #[error("what answers for AWS KMS isn't AWS KMS: {0}")]
    NotKms(String),
    #[error("what KMS opened for {0} isn't a master key of 32 bytes")]
    NotAMasterKey(String),
}

/// The refusals of KMS that differ in what to do.
/// <https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html#API_Decrypt_Errors>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Ciphertext,
    OtherKey,
    Denied,
    NotFound,
    Disabled,
    State,
    Usage,
    Credentials,
    Clock,
    Other,
}

impl Refusal {
    fn about(self, id: &str) -> String {
        match self {
            Self::Ciphertext => format!(
                "AWS KMS can't open {id}: its line was changed, or it was wrapped for another id"
            ),
            Self::OtherKey => {
                format!("AWS KMS can't open {id}: another KMS key wrapped it than its line says")
            }
            Self::Denied => {
                format!("AWS denies access to the KMS key, or there is no such key, for {id}")
            }
            Self::NotFound => format!("AWS KMS has no such key, for {id}"),
            Self::Disabled => format!("the KMS key is disabled, for {id}"),
            Self::State => {
                format!("the KMS key can't be used in the state it is in, for {id}")
            }
            Self::Usage => format!("the KMS key isn't one that encrypts, for {id}"),
            Self::Credentials => "AWS doesn't accept the credentials".to_owned(),
            Self::Clock => "AWS doesn't accept the signature because of its time".to_owned(),
            Self::Other => format!("AWS KMS refused, for {id}"),
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Ciphertext => {
                "A line opens only whole and under the id it was wrapped for: put the file back as `rotator kms wrap` printed it."
            }
            Self::OtherKey => "Put the file back as `rotator kms wrap` printed it, ARN included.",
            Self::Denied => {
                "Allow kms:Decrypt (to wrap: kms:Encrypt) on that key for these credentials, with the encryption context \
                 of rotator: docs/kms.md has the policy. Check account and region in the ARN."
            }
            Self::NotFound => {
                "Check account and region in the key's name. A KMS key that was deleted is gone for ever: use a copy of the master key."
            }
            Self::Disabled => "Enable it: aws kms enable-key --key-id ARN.",
            Self::State => {
                "See aws kms describe-key --key-id ARN; a deletion that is pending is stopped by aws kms cancel-key-deletion and then enable-key."
            }
            Self::Usage => {
                "Use a symmetric KMS key: aws kms create-key makes one unless told otherwise."
            }
            Self::Credentials => {
                "They are wrong, deleted, or have expired; aws sts get-caller-identity says whose they are."
            }
            Self::Clock => "Set this machine's clock: it may be off by five minutes at most.",
            Self::Other => "See what AWS says.",
        }
    }
}

impl KmsError {
    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::NoRegion | Self::BadRegion(_) => {
                "Give the key's ARN, which has the region, or --region, or set AWS_REGION, like eu-central-1.".to_owned()
            }
            Self::OtherRegion { .. } => "Leave --region out: the ARN says it.".to_owned(),
            Self::InsecureEndpoint => {
                "Master keys travel there: http:// is only taken for this machine itself (ROTATOR_AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_KMS).".to_owned()
            }
            Self::Tls(_) => {
                "Install the system's CA certificates (Debian: ca-certificates), or set SSL_CERT_FILE.".to_owned()
            }
            Self::NoCredentials => {
                "Looked in the environment, the shared files (AWS_PROFILE), web identity, the container's and the EC2 \
                 instance's role. The database server passes on AWS_… of its own environment: docs/kms.md."
                    .to_owned()
            }
            Self::EmptyProfile => {
                "Understood in it: aws_access_key_id with aws_secret_access_key, credential_process. \
                 For role_arn and SSO see docs/kms.md."
                    .to_owned()
            }
            Self::Credentials { .. } => "Mend that source; docs/kms.md says which are tried in which order.".to_owned(),
            Self::GaveUp { throttled: true, .. } => {
                "Try again in a moment. If it lasts: see the request quota of KMS in this account and region.".to_owned()
            }
            Self::GaveUp { .. } => {
                "Check network, DNS, HTTPS_PROXY and VPC endpoints. Sessions that hold their keys go on without KMS."
                    .to_owned()
            }
            Self::Refused { refusal, said, .. } if said.is_empty() => refusal.advice().to_owned(),
            Self::Refused { refusal, said, .. } => format!("{} AWS says: {said}", refusal.advice()),
            Self::NotKms(_) => {
                "Check ROTATOR_AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_KMS, HTTPS_PROXY, and who answers for that name.".to_owned()
            }
            Self::NotAMasterKey(_) => "Make the line with `rotator kms wrap`.".to_owned(),
        }
    }
}

impl From<KmsError> for Failure {
    fn from(error: KmsError) -> Self {
        let exit = match &error {
            KmsError::GaveUp { .. } => Exit::Unreachable,
            KmsError::NoRegion
            | KmsError::BadRegion(_)
            | KmsError::OtherRegion { .. }
            | KmsError::InsecureEndpoint
            | KmsError::Tls(_)
            | KmsError::NoCredentials
            | KmsError::EmptyProfile
            | KmsError::Credentials { .. }
            | KmsError::Refused {
                refusal: Refusal::Credentials | Refusal::Clock,
                ..
            } => Exit::Config,
            KmsError::Refused { .. } | KmsError::NotKms(_) | KmsError::NotAMasterKey(_) => {
                Exit::Failed
            }
        };
        Self::new(exit, error.to_string()).hint(error.hint())
    }
}
