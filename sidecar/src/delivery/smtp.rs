//! The dialogue with the mail server: who connects, how many at once, and which connection is used again. One on which
//! anything was left open, because our time was over or it broke off, is closed: a late reply would be taken for the one to
//! the next mail. Elsewhere: what is heard (`smtp_stream.rs`), where it is (`smtp_url.rs`), what replies mean (`email.rs`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lettre::address::Envelope;
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt, Rset};
use lettre::transport::smtp::extension::{ClientId, MailParameter};
use lettre::transport::smtp::response::{Response, Severity};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::smtp_stream::Turns;
use super::smtp_url::{Mode, Server, invalid};
use super::web;
use crate::config::{ConfigError, Secret};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Mail servers count connections per client; mails take turns on these.
const CONNECTIONS: usize = 8;
/// Servers close what is idle; RFC 5321, 4.5.3.2.7, asks for five minutes, and many don't wait so long.
const KEPT: Duration = Duration::from_secs(30);

/// Why a mail was not taken.
#[derive(Debug)]
pub enum Failure {
    /// As the library tells it: a reply, or the lack of one.
    Smtp(SmtpError),
    /// The same, to the recipient or to the mail.
    Mailbox(SmtpError),
    /// Nobody there.
    Connect,
    /// Nobody there in time.
    ConnectTimeout,
    Tls,
    /// It doesn't speak SMTP.
    Nonsense,
}

impl From<SmtpError> for Failure {
    fn from(error: SmtpError) -> Self {
        Self::Smtp(error)
    }
}

/// Ways to one mail server.
pub struct Connections {
    server: Server,
    hello: ClientId,
    credentials: Option<Credentials>,
    security: Security,
    turns: Semaphore,
    idle: Mutex<Vec<Idle>>,
}

enum Security {
    Plain,
    Opportunistic(TlsParameters),
    Required(TlsParameters),
    Wrapped(TlsConnector, ServerName<'static>),
}

struct Idle {
    connection: AsyncSmtpConnection,
    since: Instant,
}

impl Connections {
    /// None is opened yet.
    ///
    /// # Errors
    /// The URL is not of its form, or there are no usable TLS roots on this machine.
    pub fn new(url: &Secret) -> Result<Self, ConfigError> {
        web::install_tls_provider();
        let mut server = Server::parse(url)?;
        let starttls = || {
            TlsParameters::new(server.host.clone())
                .map_err(|error| invalid(&format!("TLS: {error}")))
        };
        let security = match server.mode {
            Mode::Plain => Security::Plain,
            Mode::Opportunistic => Security::Opportunistic(starttls()?),
            Mode::Required => Security::Required(starttls()?),
            Mode::Wrapped => {
                let name = ServerName::try_from(server.host.clone())
                    .map_err(|_| invalid("its host can't be in a certificate"))?;
                Security::Wrapped(connector(), name)
            }
        };
        let login = server.login.take();
        Ok(Self {
            server,
            hello: ClientId::default(),
            credentials: login.map(|(user, password)| Credentials::new(user, password)),
            security,
            turns: Semaphore::new(CONNECTIONS),
            idle: Mutex::default(),
        })
    }

    /// Hands one mail over. Whoever stops waiting for this leaves no connection behind.
    ///
    /// # Errors
    /// The server didn't take it, or nobody knows whether it did.
    pub async fn send(&self, envelope: &Envelope, mail: &[u8]) -> Result<(), Failure> {
        // It is never closed.
        let _turn = self.turns.acquire().await;
        let mut connection = self.take().await?;
        let outcome = converse(&mut connection, envelope, mail).await;
        // A refusal is an answer: both sides know where they are.
        if match &outcome {
            Ok(()) => true,
            Err(Failure::Smtp(error) | Failure::Mailbox(error)) => error.status().is_some(),
            Err(_) => false,
        } {
            let mut idle = self.idle();
            idle.retain(|idle| idle.since.elapsed() < KEPT);
            idle.push(Idle {
                connection,
                since: Instant::now(),
            });
        }
        outcome
    }

    /// One that is there, or a new one.
    async fn take(&self) -> Result<AsyncSmtpConnection, Failure> {
        loop {
            let idle = self.idle().pop();
            let Some(Idle {
                mut connection,
                since,
            }) = idle
            else {
                return self.open().await;
            };
            // Also out of a mail that was refused half way.
            if since.elapsed() < KEPT && connection.command(Rset).await.is_ok() {
                return Ok(connection);
            }
        }
    }

    async fn open(&self) -> Result<AsyncSmtpConnection, Failure> {
        let address = (self.server.host.as_str(), self.server.port);
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
            .await
            .map_err(|_| Failure::ConnectTimeout)?
            .map_err(|_| Failure::Connect)?;
        let peer = stream.peer_addr().map_err(|_| Failure::Connect)?;
        // Commands are short, and each is waited for.
        stream.set_nodelay(true).map_err(|_| Failure::Connect)?;
        let stream: Box<dyn AsyncTokioStream> = match &self.security {
            Security::Wrapped(connector, name) => {
                let sealed = connector.connect(name.clone(), stream).await;
                Box::new(Turns::new(sealed.map_err(|_| Failure::Tls)?, peer))
            }
            Security::Plain | Security::Opportunistic(_) | Security::Required(_) => {
                Box::new(Turns::new(stream, peer))
            }
        };
        let mut connection =
            AsyncSmtpConnection::connect_with_transport(stream, &self.hello).await?;
        match &self.security {
            Security::Opportunistic(_) if !connection.can_starttls() => {}
            Security::Required(parameters) | Security::Opportunistic(parameters) => {
                let agreed = connection.starttls(parameters.clone(), &self.hello).await;
                agreed.map_err(|error| match error.status() {
                    None if !error.is_client() => Failure::Tls,
                    _ => Failure::Smtp(error),
                })?;
            }
            Security::Plain | Security::Wrapped(..) => {}
        }
        if let Some(credentials) = &self.credentials {
            let mechanisms = [Mechanism::Plain, Mechanism::Login];
            connection.auth(&mechanisms, credentials).await?;
        }
        Ok(connection)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Not the library's own: after a refusal that would wait for a reply to QUIT, while the answer is known.
async fn converse(
    connection: &mut AsyncSmtpConnection,
    envelope: &Envelope,
    mail: &[u8],
) -> Result<(), Failure> {
    let mut addresses = envelope.from().into_iter().chain(envelope.to());
    let parameters = if addresses.all(|address| address.to_string().is_ascii()) {
        Vec::new()
    } else {
        vec![MailParameter::SmtpUtfEight]
    };
    let sender = Mail::new(envelope.from().cloned(), parameters);
    expect(
        &connection.command(sender).await?,
        Severity::PositiveCompletion,
    )?;
    for recipient in envelope.to() {
        let recipient = Rcpt::new(recipient.clone(), Vec::new());
        let reply = connection.command(recipient).await;
        expect(
            &reply.map_err(Failure::Mailbox)?,
            Severity::PositiveCompletion,
        )?;
    }
    expect(
        &connection.command(Data).await?,
        Severity::PositiveIntermediate,
    )?;
    let reply = connection.message(mail).await;
    expect(
        &reply.map_err(Failure::Mailbox)?,
        Severity::PositiveCompletion,
    )
}

/// The library is content with any reply that is good news.
fn expect(reply: &Response, severity: Severity) -> Result<(), Failure> {
    if reply.code().severity == severity {
        Ok(())
    } else {
        Err(Failure::Nonsense)
    }
}

fn connector() -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}
