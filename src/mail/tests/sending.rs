use std::os::unix::fs::PermissionsExt;

use super::scripted::{Answer, Script, Server};
use super::*;

async fn mailer(script: Script, options: &str) -> (Mailer, Server) {
    let server = Server::start(script).await;
    let url = format!("smtp://127.0.0.1:{}{options}", server.port);
    (Mailer::from_url(&url, None, clock()).unwrap(), server)
}

async fn send_with(script: Script) -> SendError {
    let (mailer, _server) = mailer(script, "").await;
    mailer.send(&mail_to(Some("Jane"), "jane@customer.example")).await.unwrap_err()
}

#[tokio::test]
async fn an_accepted_mail_comes_with_the_servers_words() {
    let (mailer, server) = mailer(&[], "?helo=billing.acme.example").await;
    let accepted = mailer.send(&mail_to(Some("Jane"), "jane@customer.example")).await.unwrap();
    assert_eq!(accepted, Accepted { at: clock().now(), note: "2.0.0 queued as 4F1Z".to_owned() });
    assert_eq!(
        server.heard(),
        [
            "(connected)",
            "EHLO billing.acme.example",
            "MAIL FROM:<billing@acme.example>",
            "RCPT TO:<jane@customer.example>",
            "DATA",
            "."
        ]
    );
}

#[tokio::test]
async fn mails_share_a_connection_until_it_is_old() {
    let clock = clock();
    let server = Server::start(&[]).await;
    let url = format!("smtp://127.0.0.1:{}", server.port);
    let mailer = Mailer::from_url(&url, None, clock.clone()).unwrap();
    let mail = mail_to(None, "jane@customer.example");
    mailer.send(&mail).await.unwrap();
    mailer.send(&mail).await.unwrap();
    assert_eq!(server.commands(), "(connected) EHLO MAIL RCPT DATA . MAIL RCPT DATA .");
    clock.advance(std::time::Duration::from_secs(60));
    mailer.send(&mail).await.unwrap();
    assert_eq!(server.heard().iter().filter(|heard| *heard == "(connected)").count(), 2);
}

#[tokio::test]
async fn greylisting_is_temporary() {
    let error = send_with(&[("RCPT", Answer::Say("451 4.7.1 <jane@customer.example> greylisted"))]).await;
    assert!(matches!(error, SendError::Temporary(_)));
    assert_eq!(error.to_string(), "not sent, try again: naming the recipient: 4.7.1 [address] greylisted");
    assert_eq!(error.failure().code, Some(451));
    assert!(!error.failure().needs_operator);
}

#[tokio::test]
async fn an_unknown_mailbox_is_permanent_and_dead() {
    let error = send_with(&[("RCPT", Answer::Say("550 5.1.1 no such user"))]).await;
    assert!(matches!(error, SendError::Permanent(_)));
    assert!(error.failure().address_is_dead);
    assert_eq!(error.failure().enhanced, Some((5, 1, 1)));
}

#[tokio::test]
async fn a_full_mailbox_is_refused_but_not_dead() {
    let error = send_with(&[("RCPT", Answer::Say("552 5.2.2 mailbox full"))]).await;
    assert!(matches!(error, SendError::Permanent(_)));
    assert!(!error.failure().address_is_dead);
}

#[tokio::test]
async fn a_mail_refused_for_its_content_says_nothing_about_the_address() {
    let error = send_with(&[(".", Answer::Say("554 5.6.0 message refused"))]).await;
    assert!(matches!(error, SendError::Permanent(_)));
    assert!(!error.failure().address_is_dead);
}

/// Our own fault must not mark every customer's address as dead.
#[tokio::test]
async fn our_own_fault_is_temporary_and_for_the_operator() {
    let faults: [Script; 5] = [
        &[("RCPT", Answer::Say("554 5.7.1 relay access denied"))],
        &[("RCPT", Answer::Say("550 relay not permitted"))],
        &[("MAIL", Answer::Say("553 5.7.1 sender address rejected: not owned by user"))],
        &[("MAIL", Answer::Say("530 authentication required"))],
        &[("CONNECT", Answer::Say("554 5.7.1 your address is on a list"))],
    ];
    for script in faults {
        let error = send_with(script).await;
        assert!(matches!(error, SendError::Temporary(_)), "{error:?}");
        assert!(error.failure().needs_operator && !error.failure().address_is_dead, "{error:?}");
    }
}

#[tokio::test]
async fn a_connection_lost_after_the_final_dot_is_unknown() {
    let error = send_with(&[(".", Answer::Hang)]).await;
    assert!(matches!(error, SendError::Unknown(_)), "{error:?}");
    let error = send_with(&[(".", Answer::Say("what?"))]).await;
    assert!(matches!(error, SendError::Unknown(_)), "{error:?}");
}

#[tokio::test]
async fn a_connection_lost_before_the_text_is_temporary() {
    for script in [
        &[("CONNECT", Answer::Hang)] as Script,
        &[("EHLO", Answer::Hang)],
        &[("MAIL", Answer::Hang)],
        &[("RCPT", Answer::Hang)],
        &[("DATA", Answer::Hang)],
        &[(".", Answer::Say("451 4.3.0 later"))],
    ] {
        let error = send_with(script).await;
        assert!(matches!(error, SendError::Temporary(_)), "{error:?}");
        assert!(!error.failure().needs_operator);
    }
}

#[tokio::test]
async fn a_server_that_is_down_is_temporary() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtp://127.0.0.1:{}", listener.local_addr().unwrap().port());
    drop(listener);
    let mailer = Mailer::from_url(&url, None, clock()).unwrap();
    assert!(matches!(mailer.check().await, Err(SendError::Temporary(_))));
}

#[tokio::test]
async fn without_starttls_nothing_is_sent_when_it_is_required() {
    let (mailer, server) = mailer(&[], "?tls=required").await;
    let error = mailer.send(&mail_to(None, "jane@customer.example")).await.unwrap_err();
    assert!(matches!(error, SendError::Temporary(_)));
    assert!(error.failure().needs_operator);
    assert!(error.to_string().contains("does not offer STARTTLS"), "{error}");
    assert_eq!(server.commands(), "(connected) EHLO");
}

#[tokio::test]
async fn sign_in_happens_and_its_refusal_shows_no_password() {
    let server = Server::start(&[]).await;
    let url = format!("smtp://user%40acme:p%40ss+word@127.0.0.1:{}", server.port);
    let mailer = Mailer::from_url(&url, None, clock()).unwrap();
    mailer.check().await.unwrap();
    assert_eq!(server.commands(), "(connected) EHLO AUTH NOOP QUIT");
    // base64 of "\0user@acme\0p@ss+word"
    assert_eq!(server.heard()[2], "AUTH PLAIN AHVzZXJAYWNtZQBwQHNzK3dvcmQ=");
    assert!(!format!("{mailer:?}").contains("ss+word"));

    let server = Server::start(&[("AUTH", Answer::Say("535 5.7.8 bad credentials"))]).await;
    let url = format!("smtp://user@127.0.0.1:{}", server.port);
    let mailer = Mailer::from_url(&url, Some("hunter2".to_owned().into()), clock()).unwrap();
    let error = mailer.send(&mail_to(None, "jane@customer.example")).await.unwrap_err();
    assert!(matches!(error, SendError::Temporary(_)) && error.failure().needs_operator);
    assert!(!format!("{error:?} {error} {mailer:?}").contains("hunter2"));
}

#[tokio::test]
async fn opportunistic_tls_never_sends_a_password_in_clear() {
    let server = Server::start(&[]).await;
    let url = format!("smtp://user:secret@127.0.0.1:{}?tls=opportunistic", server.port);
    let mailer = Mailer::from_url(&url, None, clock()).unwrap();
    assert!(mailer.check().await.unwrap_err().to_string().contains("sends no password unencrypted"));
    assert_eq!(server.commands(), "(connected) EHLO");
}

#[test]
fn addresses_of_mailers_are_checked_and_never_repeated() {
    let long = |url: &str| Mailer::from_url(url, None, clock()).unwrap_err().to_string();
    for (url, problem) in [
        ("smtp://user:secret@host?tls=none", "would send the password unencrypted"),
        ("smtp://host?tsl=none", "does not exist; there are tls, ca_file and helo"),
        ("smtp://host?tls=yes", "takes required, opportunistic or none"),
        ("smtps://host?tls=none", "always encrypts"),
        ("smtp://host?helo=a%0d%0ab", "takes a host name"),
        ("smtp://user:secret@host/path", "has a path"),
        ("http://user:secret@host", "must start with smtp://"),
        ("smtp://user:sec%zzret@host", "not percent-encoded"),
        ("smtp://us%0d%0aer:secret@host", "control characters"),
        ("smtp://user:secret @host", "cannot be read"),
        ("file:", "names no directory"),
        ("smtp://host?ca_file=/nowhere.pem", "/nowhere.pem"),
    ] {
        let error = long(url);
        assert!(error.contains(problem), "{url}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn files_appear_whole_private_and_in_order() {
    let dir = std::env::temp_dir().join(format!("recurd-mail-{}", uuid::Uuid::new_v4()));
    let clock = clock();
    let mailer = Mailer::from_url(&format!("file:{}", dir.display()), None, clock.clone()).unwrap();
    mailer.check().await.unwrap();
    let mail = mail_to(Some("Jane"), "jane@customer.example");
    let accepted = mailer.send(&mail).await.unwrap();
    clock.advance(std::time::Duration::from_secs(1));
    mailer.send(&mail).await.unwrap();
    let mut names: Vec<_> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["1763715900-ch_7Q2M.1@acme.example.eml", "1763715901-ch_7Q2M.1@acme.example.eml"]);
    assert_eq!(accepted.note, names[0]);
    let path = dir.join(&names[0]);
    assert_eq!(std::fs::read(&path).unwrap(), mail.to_bytes().unwrap());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(matches!(mailer.send(&mail).await, Err(SendError::Temporary(_))));
}

#[tokio::test]
async fn memory_keeps_mails_and_fails_on_demand() {
    let (mailer, memory) = Mailer::memory(clock());
    let mail = mail_to(None, "jane@customer.example");
    for fault in [Fault::Temporary, Fault::Permanent, Fault::Unknown { arrived: false }] {
        memory.fail_next(fault);
        assert!(mailer.send(&mail).await.is_err());
    }
    assert!(memory.mails().is_empty());
    memory.fail_always(Some(Fault::Unknown { arrived: true }));
    assert!(matches!(mailer.send(&mail).await, Err(SendError::Unknown(_))));
    memory.fail_always(None);
    mailer.send(&mail).await.unwrap();
    assert_eq!(memory.drain(), [mail.clone(), mail]);
}
