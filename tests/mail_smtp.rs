//! Mails over real sockets: TLS against a small server in this file, and, when
//! `RECURD_TEST_SMTP_URL` is set, a mail server that was not written by us.
//!
//! `RECURD_TEST_SMTP_DIR`, when set, is where that server puts what it accepted: a directory of files, a Maildir too.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use recurd::clock::Clock;
use recurd::mail::{self, Mail, MailContext, MailName, Mailbox, Mailer, MessageId, SendError, Stage};
use recurd::template::{Templates, samples};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name)
}

fn sample_mail(id: &str) -> Mail {
    let mut context: MailContext = serde_json::from_value(samples("mail", "*")[3].clone()).unwrap();
    context.charges[1].description = "Sofa \u{201c}Oslo\u{201d}, Größe XL\n.".to_owned();
    let letter = mail::write(&Templates::load(None).unwrap(), MailName::PaymentFailed, &context).unwrap();
    let to = Mailbox::of_customer(Some("Jürgen Müller"), "jane@customer.example").unwrap();
    let from = "Acme Studio <billing@acme.example>".parse().unwrap();
    let date = "2025-11-21T09:05:00Z".parse().unwrap();
    Mail::new(MessageId::new(id).unwrap(), from, to, letter, date).unwrap()
}

/// A mail server that speaks TLS, at once or after STARTTLS, and takes every mail.
fn tls_server(wrapped: bool) -> u16 {
    let certificates = vec![CertificateDer::from_pem_file(fixture("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(fixture("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = Arc::new(config.unwrap().with_no_client_auth().with_single_cert(certificates, key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            if !wrapped {
                stream.write_all(b"220 test ESMTP\r\n").unwrap();
                if !converse(&mut stream, "250-test\r\n250 STARTTLS\r\n") {
                    continue;
                }
            }
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream);
            if wrapped && stream.write_all(b"220 test ESMTP\r\n").is_err() {
                continue;
            }
            converse(&mut stream, "250-test\r\n250 AUTH PLAIN\r\n");
        }
    });
    port
}

/// Answers commands until the client leaves; true when it asked for STARTTLS.
fn converse<S: Read + Write>(stream: &mut S, greeting: &str) -> bool {
    let mut stream = BufReader::with_capacity(1, stream);
    let mut in_mail = false;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).unwrap_or(0) == 0 {
            return false;
        }
        if in_mail && line != ".\r\n" {
            continue;
        }
        in_mail = line.starts_with("DATA");
        let answer = match line.get(..4).unwrap_or("") {
            "EHLO" => greeting,
            "STAR" => "220 go on\r\n",
            "AUTH" => "235 welcome\r\n",
            "DATA" => "354 go on\r\n",
            "QUIT" => "221 bye\r\n",
            _ => "250 ok\r\n",
        };
        if stream.get_mut().write_all(answer.as_bytes()).is_err() {
            return false;
        }
        if line.starts_with("STAR") {
            return true;
        }
    }
}

fn mailer(scheme: &str, host: &str, port: u16, options: &str) -> Mailer {
    let ca = fixture("ca.pem");
    let url = format!("{scheme}://user:secret@{host}:{port}?ca_file={}{options}", ca.display());
    Mailer::from_url(&url, None, Clock::system()).unwrap()
}

#[tokio::test]
async fn a_mail_leaves_over_tls_from_the_first_byte() {
    let mailer = mailer("smtps", "localhost", tls_server(true), "");
    mailer.send(&sample_mail("<a.1@acme.example>")).await.unwrap();
}

#[tokio::test]
async fn a_mail_leaves_over_starttls() {
    for mode in ["required", "opportunistic"] {
        let mailer = mailer("smtp", "127.0.0.1", tls_server(false), &format!("&tls={mode}"));
        mailer.check().await.unwrap();
        let mailer = self::mailer("smtp", "127.0.0.1", tls_server(false), &format!("&tls={mode}"));
        mailer.send(&sample_mail("<a.1@acme.example>")).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_nobody_vouches_for_gets_no_mail_and_no_password() {
    let other = fixture("other-ca.pem");
    for (wrapped, url) in [
        (true, format!("smtps://user:secret@localhost:PORT?ca_file={}", other.display())),
        (false, format!("smtp://user:secret@localhost:PORT?tls=required&ca_file={}", other.display())),
        (false, format!("smtp://user:secret@localhost:PORT?tls=opportunistic&ca_file={}", other.display())),
        (true, "smtps://user:secret@localhost:PORT".to_owned()),
    ] {
        let url = url.replace("PORT", &tls_server(wrapped).to_string());
        let mailer = Mailer::from_url(&url, None, Clock::system()).unwrap();
        let error = mailer.send(&sample_mail("<a.1@acme.example>")).await.unwrap_err();
        assert!(matches!(error, SendError::Temporary(_)), "{url}: {error:?}");
        assert!(matches!(error.failure().stage, Stage::Tls | Stage::Connect), "{error:?}");
        assert!(error.failure().needs_operator, "{error:?}");
    }
}

#[tokio::test]
async fn a_real_mail_server_takes_the_mail_as_it_was_written() {
    let Ok(url) = std::env::var("RECURD_TEST_SMTP_URL") else {
        eprintln!(
            "SKIPPED: no real mail server. Set RECURD_TEST_SMTP_URL, such as smtp://127.0.0.1:2525?tls=none"
        );
        return;
    };
    let mailer = Mailer::from_url(&url, None, Clock::system()).unwrap();
    mailer.check().await.unwrap();
    let id = format!("<test.{}@acme.example>", uuid::Uuid::new_v4().simple());
    let mail = sample_mail(&id);
    mailer.send(&mail).await.unwrap();
    mailer.send(&mail).await.unwrap();

    let Ok(dir) = std::env::var("RECURD_TEST_SMTP_DIR") else {
        eprintln!("SKIPPED: what arrived. Set RECURD_TEST_SMTP_DIR to where the server puts mails");
        return;
    };
    let arrived = wait_for(Path::new(&dir), &id, 2);
    for text in &arrived {
        let (head, body) = text.split_once("\n\n").unwrap();
        assert!(head.contains("From: \"Acme Studio\" <billing@acme.example>"), "{head}");
        assert!(head.contains("Auto-Submitted: auto-generated"), "{head}");
        let written = String::from_utf8(mail.to_bytes().unwrap()).unwrap().replace("\r\n", "\n");
        let (_, written) = written.split_once("\n\n").unwrap();
        assert_eq!(body.trim_end(), written.trim_end());
    }
}

/// The files below `dir` that contain `id`, once there are `count`; waits at most ten seconds.
fn wait_for(dir: &Path, id: &str, count: usize) -> Vec<String> {
    let start = Instant::now();
    loop {
        let mut found = Vec::new();
        read_below(dir, id, &mut found);
        if found.len() >= count {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{} of {count} mails arrived", found.len());
        std::thread::yield_now();
    }
}

fn read_below(dir: &Path, id: &str, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        if entry.path().is_dir() {
            read_below(&entry.path(), id, found);
        } else if let Ok(text) = std::fs::read_to_string(entry.path()) {
            let text = text.replace("\r\n", "\n");
            if text.contains(id) {
                found.push(text);
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_hangs_up_at_once_is_temporary() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        listener.incoming().for_each(|stream: std::io::Result<TcpStream>| drop(stream))
    });
    let mailer = Mailer::from_url(&format!("smtps://localhost:{port}"), None, Clock::system()).unwrap();
    assert!(matches!(mailer.check().await, Err(SendError::Temporary(_))));
}
