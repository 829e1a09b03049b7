//! Reads the mailer's address from the configuration.

use std::net::IpAddr;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

use super::error::MailError;

const PORT_SMTP: u16 = 587;
const PORT_SMTPS: u16 = 465;

/// Where mails go.
#[derive(Debug)]
pub(super) enum Target {
    Smtp(Server),
    Files(PathBuf),
    Memory,
}

/// An SMTP server and how to speak to it.
#[derive(Debug)]
pub(super) struct Server {
    pub host: String,
    pub port: u16,
    pub tls: TlsMode,
    pub credentials: Option<(String, SecretString)>,
    pub ca_file: Option<PathBuf>,
    pub helo: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TlsMode {
    /// From the first byte.
    Wrapped,
    /// STARTTLS, or no mail.
    Required,
    /// STARTTLS where offered.
    Opportunistic,
    None,
}

/// Reads an address; see [`super::Mailer::from_url`].
pub(super) fn parse(url: &str, password: Option<SecretString>) -> Result<Target, MailError> {
    if url == "memory" || url == "memory:" {
        return Ok(Target::Memory);
    }
    if let Some(dir) = url.strip_prefix("file:") {
        let dir = dir.strip_prefix("//").unwrap_or(dir);
        return match dir {
            "" => Err(MailError::Url("names no directory; write file:/var/lib/recurd/mail")),
            dir => Ok(Target::Files(PathBuf::from(dir))),
        };
    }
    let uri: http::Uri = url.parse().map_err(|_| {
        MailError::Url("cannot be read; write smtp://user@host:587 and percent-encode special characters")
    })?;
    let wrapped = match uri.scheme_str() {
        Some("smtp") => false,
        Some("smtps") => true,
        _ => return Err(MailError::Url("must start with smtp://, smtps:// or file:")),
    };
    server(&uri, wrapped, password).map(Target::Smtp)
}

fn server(uri: &http::Uri, wrapped: bool, password: Option<SecretString>) -> Result<Server, MailError> {
    if !matches!(uri.path(), "" | "/") {
        return Err(MailError::Url("has a path after the host, which means nothing"));
    }
    let host = uri.host().unwrap_or("").trim_matches(['[', ']']).to_owned();
    if host.is_empty() {
        return Err(MailError::Url("names no host"));
    }
    let credentials = credentials(uri, password)?;
    let tls = if wrapped {
        TlsMode::Wrapped
    } else if is_loopback(&host) {
        TlsMode::None
    } else {
        TlsMode::Required
    };
    let port = uri.port_u16().unwrap_or(if wrapped { PORT_SMTPS } else { PORT_SMTP });
    let mut server = Server { host, port, tls, credentials, ca_file: None, helo: None };
    for (option, value) in form_urlencoded::parse(uri.query().unwrap_or("").as_bytes()) {
        set_option(&mut server, &option, &value)?;
    }
    if server.tls == TlsMode::None && server.credentials.is_some() && !is_loopback(&server.host) {
        return Err(MailError::Url("would send the password unencrypted; remove tls=none"));
    }
    Ok(server)
}

fn set_option(server: &mut Server, option: &str, value: &str) -> Result<(), MailError> {
    let refuse = |problem| Err(MailError::Option { option: option.to_owned(), problem });
    match (option, value) {
        ("tls", _) if server.tls == TlsMode::Wrapped => {
            return refuse("has no place with smtps://, which always encrypts");
        }
        ("tls", "required") => server.tls = TlsMode::Required,
        ("tls", "opportunistic") => server.tls = TlsMode::Opportunistic,
        ("tls", "none") => server.tls = TlsMode::None,
        ("tls", _) => return refuse("takes required, opportunistic or none"),
        ("ca_file", "") => return refuse("names no file"),
        ("ca_file", path) => server.ca_file = Some(PathBuf::from(path)),
        ("helo", name) if is_host_name(name) => server.helo = Some(name.to_owned()),
        ("helo", _) => return refuse("takes a host name"),
        _ => return refuse("does not exist; there are tls, ca_file and helo"),
    }
    Ok(())
}

fn credentials(
    uri: &http::Uri,
    password: Option<SecretString>,
) -> Result<Option<(String, SecretString)>, MailError> {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let Some((user_info, _)) = authority.rsplit_once('@') else {
        return match password {
            Some(_) => Err(MailError::Url("names no user for the password; write smtp://user@host")),
            None => Ok(None),
        };
    };
    let (user, in_url) = user_info.split_once(':').map_or((user_info, None), |(u, p)| (u, Some(p)));
    let user = decode(user)?;
    let password = match (password, in_url) {
        (Some(password), _) => password,
        (None, Some(in_url)) => SecretString::from(decode(in_url)?),
        (None, None) => SecretString::from(String::new()),
    };
    let printable = |text: &str| !text.chars().any(char::is_control);
    if user.is_empty() || !printable(&user) || !printable(password.expose_secret()) {
        return Err(MailError::Url("has an empty user, or control characters in user or password"));
    }
    Ok(Some((user, password)))
}

/// Undoes percent-encoding. Unlike in a form, `+` is a plus.
fn decode(text: &str) -> Result<String, MailError> {
    let wrong = || MailError::Url("has a user or password that is not percent-encoded correctly");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok()).ok_or_else(wrong)?;
        bytes.push(u8::from_str_radix(hex, 16).map_err(|_| wrong())?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn is_host_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-".contains(&b))
}
