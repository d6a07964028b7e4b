//! Handing one mail to the mail server: connect, TLS as configured, sign in, envelope, content.
//!
//! Which step failed decides what becomes of the mail: what only the operator can mend, and what may be better in a while,
//! is tried again; a recipient or content the server refuses for good is not.

use std::time::Duration;

use lettre::Address;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters, TlsVersion,
};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};

use super::config::{MailTls, SmtpConfig};

/// Waiting for the connection and its TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// From the connection to the last answer. Servers that look at content take their time before they answer to it.
const SEND_TIMEOUT: Duration = Duration::from_mins(1);

/// The last line of a certificate in PEM.
const END: &str = "-----END CERTIFICATE-----";

/// Waiting for the answer to a good-bye, which changes nothing any more.
const QUIT_TIMEOUT: Duration = Duration::from_secs(2);

/// A mail as it goes to the server.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) from: Address,
    pub(super) to: Address,
    pub(super) content: Vec<u8>,
}

/// Why a mail was not handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    /// No server there, or it hung up: it may be back soon, for all mails alike.
    #[error("the mail server cannot be reached: {0}")]
    Unreachable(String),
    /// The server does not want us, whoever the mail is for: TLS, user, password or sender. An operator can mend it.
    #[error("the mail server refuses us: {0}")]
    Setup(String),
    /// The server says: not now.
    #[error("the mail server puts it off: {0}")]
    Later(String),
    /// The server will never take this one, or it cannot be written as a mail.
    #[error("{0}")]
    Never(String),
}

/// Knows the mail server.
pub(super) struct Smtp {
    config: SmtpConfig,
    hello: ClientId,
    tls: Option<TlsParameters>,
}

impl std::fmt::Debug for Smtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Smtp({})", self.config)
    }
}

/// Reads authorities in PEM.
///
/// # Errors
/// What is wrong with them.
pub(super) fn roots(pem: &[u8]) -> Result<Vec<Certificate>, String> {
    if pem.is_empty() {
        return Ok(Vec::new());
    }
    let text = std::str::from_utf8(pem).map_err(|_| "it is not text".to_owned())?;
    let read = text.split_inclusive(END).filter(|part| part.contains(END));
    let read: Result<Vec<_>, _> = read.map(|part| Certificate::from_pem(part.trim().as_bytes())).collect();
    let read = read.map_err(|why| why.to_string())?;
    if read.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(read) }
}

impl Smtp {
    /// For the server of `config`; `hello` is what this client calls itself.
    ///
    /// # Errors
    /// If the authorities cannot be read.
    pub(super) fn new(config: SmtpConfig, hello: String) -> Result<Self, String> {
        let tls = match config.tls {
            MailTls::Never => None,
            MailTls::Implicit | MailTls::Required | MailTls::Opportunistic => {
                let mut builder = TlsParameters::builder(config.host.clone())
                    .certificate_store(CertificateStore::Default)
                    .set_min_tls_version(TlsVersion::Tlsv12);
                for root in roots(&config.roots_pem)? {
                    builder = builder.add_root_certificate(root);
                }
                Some(builder.build_rustls().map_err(|why| why.to_string())?)
            }
        };
        Ok(Self { config, hello: ClientId::Domain(hello), tls })
    }

    /// Sends one mail on a connection of its own. Once this says `Ok` the mail is the server's.
    pub(super) async fn send(&self, mail: &Ready) -> Result<(), SendError> {
        let sent = tokio::time::timeout(SEND_TIMEOUT, self.send_in_time(mail)).await;
        sent.unwrap_or_else(|_| {
            Err(SendError::Unreachable(format!("no end after {} s", SEND_TIMEOUT.as_secs())))
        })
    }

    async fn send_in_time(&self, mail: &Ready) -> Result<(), SendError> {
        let mut connection = self.connect().await?;
        let sent = deliver(&mut connection, mail).await;
        // The mail's fate is known; a server that does not say good-bye changes nothing.
        let (Ok(()) | Err(_)) = tokio::time::timeout(QUIT_TIMEOUT, connection.abort()).await;
        sent
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, SendError> {
        let at = (self.config.host.as_str(), self.config.port);
        let implicit = (self.config.tls == MailTls::Implicit).then(|| self.tls.clone()).flatten();
        let connected =
            AsyncSmtpConnection::connect_tokio1(at, Some(CONNECT_TIMEOUT), &self.hello, implicit, None);
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connected).await;
        let silent = |_| SendError::Unreachable(format!("no greeting after {} s", CONNECT_TIMEOUT.as_secs()));
        let mut connection = connected.map_err(silent)?.map_err(|why| ours(&why))?;
        match (self.config.tls, &self.tls) {
            (MailTls::Required, Some(_)) if !connection.can_starttls() => {
                return Err(SendError::Setup(
                    "it offers no STARTTLS, and nothing is sent in the clear".to_owned(),
                ));
            }
            (MailTls::Required | MailTls::Opportunistic, Some(tls)) if connection.can_starttls() => {
                connection.starttls(tls.clone(), &self.hello).await.map_err(|why| ours(&why))?;
            }
            _ => {}
        }
        if let (Some(user), Some(password)) = (&self.config.user, &self.config.password) {
            let credentials = Credentials::new(user.clone(), password.expose().clone());
            let known = [Mechanism::Plain, Mechanism::Login];
            connection.auth(&known, &credentials).await.map_err(|why| match why.status() {
                Some(_) => SendError::Setup(format!("it does not take user and password: {}", said(&why))),
                None if why.is_client() => SendError::Setup(format!("user and password: {}", said(&why))),
                None => ours(&why),
            })?;
        }
        Ok(connection)
    }
}

async fn deliver(connection: &mut AsyncSmtpConnection, mail: &Ready) -> Result<(), SendError> {
    let mut parameters = Vec::new();
    if !mail.to.to_string().is_ascii() {
        if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
            return Err(SendError::Never(
                "the mail server takes no address with letters beyond ASCII (SMTPUTF8)".to_owned(),
            ));
        }
        parameters.push(MailParameter::SmtpUtfEight);
    }
    // Whoever the mail is for: a sender that is refused is the operator's to mend.
    connection.command(Mail::new(Some(mail.from.clone()), parameters)).await.map_err(|why| ours(&why))?;
    let to = connection.command(Rcpt::new(mail.to.clone(), Vec::new())).await;
    to.map_err(|why| theirs(&why, "the recipient"))?;
    connection.command(Data).await.map_err(|why| theirs(&why, "the mail"))?;
    connection.message(&mail.content).await.map_err(|why| theirs(&why, "the mail"))?;
    Ok(())
}

/// A failure that has nothing to do with this one mail.
fn ours(why: &Error) -> SendError {
    if why.is_permanent() || why.is_tls() || why.is_client() {
        SendError::Setup(said(why))
    } else if why.is_transient() {
        SendError::Later(said(why))
    } else {
        SendError::Unreachable(said(why))
    }
}

/// A failure that concerns this one mail.
fn theirs(why: &Error, what: &str) -> SendError {
    if why.is_permanent() {
        SendError::Never(format!("the mail server refuses {what}: {}", said(why)))
    } else {
        ours(why)
    }
}

/// What the server or the network said, as one line.
fn said(why: &Error) -> String {
    why.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
