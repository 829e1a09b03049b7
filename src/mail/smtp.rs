//! SMTP, command by command, so that it is always known how far a mail came.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use lettre::message::Message;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Noop, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use lettre::transport::smtp::response::Response;
use secrecy::ExposeSecret;
use tokio::sync::Mutex;

use super::error::{MailError, SendError, Stage, fit_for_logs, judge, refuse};
use super::target::{Server, TlsMode};
use crate::clock::Clock;

/// Limit: a server that does not answer a connection attempt in this time is down.
const CONNECT_SECS_MAX: u64 = 20;
/// Limit: a server may look up names and lists before it answers a command.
const COMMAND_SECS_MAX: u64 = 60;
/// Limit: after the final dot a server may scan the mail; giving up here leaves an unknown, so it is long.
const BODY_SECS_MAX: u64 = 300;
/// Limit: many servers take 100 mails a connection.
const MAILS_PER_CONNECTION_MAX: u32 = 50;
/// Limit: an idle connection is used again only this soon; most servers close it after a minute or more.
const IDLE_SECS_MAX: i64 = 20;

/// A client of one server. Keeps one connection open for the next mail.
pub(super) struct Smtp {
    server: Server,
    tls: TlsParameters,
    clock: Clock,
    idle: Mutex<Option<Idle>>,
}

struct Idle {
    connection: AsyncSmtpConnection,
    mails: u32,
    since: Timestamp,
}

impl fmt::Debug for Smtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Server { host, port, tls, .. } = &self.server;
        f.debug_struct("Smtp")
            .field("host", host)
            .field("port", port)
            .field("tls", tls)
            .finish_non_exhaustive()
    }
}

impl Smtp {
    pub fn new(server: Server, clock: Clock) -> Result<Self, MailError> {
        let tls = tls_parameters(&server)?;
        Ok(Self { server, tls, clock, idle: Mutex::new(None) })
    }

    /// Sends a message and returns the server's words.
    pub async fn send(&self, message: &Message) -> Result<String, SendError> {
        let bytes = message.formatted();
        let (mut connection, mails) = self.open_transaction(message, &bytes).await?;
        for to in message.envelope().to() {
            let rcpt = connection.command(Rcpt::new(to.clone(), vec![]));
            step(Stage::Recipient, COMMAND_SECS_MAX, rcpt).await?;
        }
        step(Stage::Data, COMMAND_SECS_MAX, connection.command(Data)).await?;
        let response = step(Stage::Body, BODY_SECS_MAX, connection.message(&bytes)).await?;
        self.keep(connection, mails + 1).await;
        Ok(fit_for_logs(response.first_line().unwrap_or("")))
    }

    /// Connects, encrypts, signs in, and takes leave.
    pub async fn check(&self) -> Result<(), SendError> {
        let mut connection = self.connect().await?;
        step(Stage::Connect, COMMAND_SECS_MAX, connection.command(Noop)).await?;
        // A server that does not say goodbye has still shown that it works.
        let _ = step(Stage::Connect, COMMAND_SECS_MAX, connection.quit()).await;
        Ok(())
    }

    /// MAIL FROM, on the open connection if that still lives, else on a new one.
    async fn open_transaction(
        &self,
        message: &Message,
        bytes: &[u8],
    ) -> Result<(AsyncSmtpConnection, u32), SendError> {
        if let Some(Idle { mut connection, mails, .. }) = self.take_idle().await {
            match mail_from(&mut connection, message, bytes).await {
                Ok(_) => return Ok((connection, mails)),
                // Nothing was sent yet: a connection that died while idle, or was closed with 421, costs nothing.
                Err(error) if matches!(error.failure().code, None | Some(421)) => {}
                Err(error) => return Err(error),
            }
        }
        let mut connection = self.connect().await?;
        mail_from(&mut connection, message, bytes).await?;
        Ok((connection, 0))
    }

    async fn take_idle(&self) -> Option<Idle> {
        let idle = self.idle.lock().await.take()?;
        let age_secs = self.clock.now().as_second() - idle.since.as_second();
        ((0..=IDLE_SECS_MAX).contains(&age_secs) && idle.mails < MAILS_PER_CONNECTION_MAX).then_some(idle)
    }

    async fn keep(&self, connection: AsyncSmtpConnection, mails: u32) {
        let since = self.clock.now();
        *self.idle.lock().await = Some(Idle { connection, mails, since });
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, SendError> {
        let Server { host, port, tls, helo, .. } = &self.server;
        let helo = helo.clone().map_or_else(ClientId::default, ClientId::Domain);
        let wrapped = (*tls == TlsMode::Wrapped).then(|| self.tls.clone());
        let limit = Some(Duration::from_secs(CONNECT_SECS_MAX));
        let connecting =
            AsyncSmtpConnection::connect_tokio1((host.as_str(), *port), limit, &helo, wrapped, None);
        let mut connection = step(Stage::Connect, CONNECT_SECS_MAX * 2, connecting).await?;
        match tls {
            TlsMode::Required if !connection.can_starttls() => {
                let text = "the server does not offer STARTTLS, and recurd sends no mail unencrypted";
                return Err(refuse(Stage::Tls, text));
            }
            TlsMode::Required | TlsMode::Opportunistic if connection.can_starttls() => {
                let starting = connection.starttls(self.tls.clone(), &helo);
                step(Stage::Tls, COMMAND_SECS_MAX, starting).await?;
            }
            _ => {}
        }
        self.sign_in(&mut connection).await?;
        Ok(connection)
    }

    async fn sign_in(&self, connection: &mut AsyncSmtpConnection) -> Result<(), SendError> {
        let Some((user, password)) = &self.server.credentials else { return Ok(()) };
        if self.server.tls == TlsMode::Opportunistic && !connection.is_encrypted() {
            let text = "the server does not offer STARTTLS, and recurd sends no password unencrypted";
            return Err(refuse(Stage::Auth, text));
        }
        let credentials = Credentials::new(user.clone(), password.expose_secret().to_owned());
        step(Stage::Auth, COMMAND_SECS_MAX, connection.auth(DEFAULT_MECHANISMS, &credentials)).await?;
        Ok(())
    }
}

async fn mail_from(
    connection: &mut AsyncSmtpConnection,
    message: &Message,
    bytes: &[u8],
) -> Result<Response, SendError> {
    let mut options = Vec::new();
    // Only addresses with letters beyond ASCII leave such bytes in a message; everything else is encoded.
    if !bytes.is_ascii() {
        let info = connection.server_info();
        if !info.supports_feature(Extension::SmtpUtfEight) || !info.supports_feature(Extension::EightBitMime)
        {
            let text = "the mail server takes no addresses with letters beyond ASCII (SMTPUTF8)";
            return Err(super::error::local(true, text));
        }
        options.push(MailParameter::SmtpUtfEight);
        options.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    let from = message.envelope().from().cloned();
    step(Stage::Sender, COMMAND_SECS_MAX, connection.command(Mail::new(from, options))).await
}

/// Waits for one step, within its limit, and judges what went wrong in it.
async fn step<T>(
    stage: Stage,
    secs_max: u64,
    work: impl Future<Output = Result<T, lettre::transport::smtp::Error>>,
) -> Result<T, SendError> {
    match tokio::time::timeout(Duration::from_secs(secs_max), work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(judge_answer(stage, &error)),
        Err(_) => Err(judge(stage, None, &format!("no answer within {secs_max} seconds"))),
    }
}

fn judge_answer(stage: Stage, error: &lettre::transport::smtp::Error) -> SendError {
    let said = error.source().map(ToString::to_string).filter(|said| !said.is_empty());
    let text = said.unwrap_or_else(|| error.to_string());
    let code = error.status().map(u16::from);
    if is_about_tls(error) {
        return refuse(Stage::Tls, &text);
    }
    // The client library gives up by itself where no way of signing in is common to both sides.
    if error.is_client() && stage == Stage::Auth {
        return refuse(stage, &text);
    }
    judge(stage, code, &text)
}

/// A certificate nobody vouches for comes as an error of the connection when TLS starts with the first byte.
fn is_about_tls(error: &lettre::transport::smtp::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if error.is::<rustls::Error>() || inner.is_some_and(|inner| inner.is::<rustls::Error>()) {
            return true;
        }
        cause = error.source();
    }
    false
}

fn tls_parameters(server: &Server) -> Result<TlsParameters, MailError> {
    let unusable = |error: lettre::transport::smtp::Error| MailError::Certificates(error.to_string());
    let mut builder = TlsParameters::builder(server.host.clone());
    if let Some(path) = &server.ca_file {
        let pem = std::fs::read(path).map_err(|source| MailError::File { path: path.clone(), source })?;
        let certificate = Certificate::from_pem(&pem).map_err(unusable)?;
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(certificate);
    }
    builder.build_rustls().map_err(unusable)
}
