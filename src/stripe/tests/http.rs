//! The real transport against small servers on the own machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use jiff::{SignedDuration, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::clock::Clock;
use crate::stripe::{HttpOptions, HttpTransport, Request, Response, Transport, TransportError};

const OK: &str = "HTTP/1.1 200 OK\r\nRequest-Id: req_1\r\nContent-Length: 2\r\n\r\n{}";

/// What a server does with a request once it has read it.
#[derive(Clone)]
enum Behaviour {
    /// Answers with these bytes and keeps the connection.
    Say(String),
    /// Answers with these bytes and closes.
    SayAndClose(String),
    /// Answers the first request with these bytes and closes when it has read the second.
    SayOnce(String),
    /// Never answers.
    Hang,
}

struct Server {
    base_url: String,
    requests: Arc<AtomicUsize>,
    bytes: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let server =
            Self { base_url, requests: Arc::default(), bytes: Arc::default(), connections: Arc::default() };
        let (requests, bytes, connections) =
            (server.requests.clone(), server.bytes.clone(), server.connections.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, behaviour.clone(), requests.clone(), bytes.clone()));
            }
        });
        server
    }

    fn transport(&self) -> HttpTransport {
        transport(&self.base_url, Clock::system())
    }

    fn seen(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn serve(
    mut stream: TcpStream,
    behaviour: Behaviour,
    requests: Arc<AtomicUsize>,
    bytes: Arc<AtomicUsize>,
) {
    let mut unread = Vec::new();
    let mut said = false;
    loop {
        let mut chunk = [0; 4096];
        let Ok(length @ 1..) = stream.read(&mut chunk).await else { return };
        bytes.fetch_add(length, Ordering::SeqCst);
        unread.extend_from_slice(&chunk[..length]);
        let text = String::from_utf8_lossy(&unread);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        if head.starts_with("POST") && body.len() < BODY.len() {
            continue;
        }
        requests.fetch_add(1, Ordering::SeqCst);
        unread.clear();
        match &behaviour {
            Behaviour::Say(answer) => stream.write_all(answer.as_bytes()).await.unwrap(),
            Behaviour::SayAndClose(answer) => {
                let _ = stream.write_all(answer.as_bytes()).await;
                return;
            }
            Behaviour::SayOnce(answer) if !said => {
                stream.write_all(answer.as_bytes()).await.unwrap();
                said = true;
            }
            Behaviour::SayOnce(_) => return,
            Behaviour::Hang => {}
        }
    }
}

fn transport(base_url: &str, clock: Clock) -> HttpTransport {
    let options =
        HttpOptions { base_url: base_url.to_owned(), timeout: Duration::from_millis(300), concurrency: 4 };
    HttpTransport::new(&options, clock).unwrap()
}

const BODY: &str = "amount=1099";

fn post() -> Request {
    Request {
        method: Method::POST,
        path: "/v1/payment_intents".to_owned(),
        headers: HeaderMap::new(),
        body: Some(Bytes::from_static(BODY.as_bytes())),
        not_after: None,
    }
}

fn not_sent(sent: Result<Response, TransportError>) -> bool {
    matches!(sent, Err(TransportError::NotSent(_)))
}

fn no_answer(sent: Result<Response, TransportError>) -> bool {
    matches!(sent, Err(TransportError::NoAnswer(_)))
}

#[tokio::test]
async fn an_answer_comes_whole_and_connections_are_kept() {
    let server = Server::start(Behaviour::Say(OK.to_owned())).await;
    let transport = server.transport();
    for _ in 0..5 {
        let response = transport.send(post()).await.unwrap();
        assert_eq!(
            (response.status, response.request_id(), &response.body[..]),
            (200, Some("req_1"), &b"{}"[..])
        );
    }
    assert_eq!((server.seen(), server.connections.load(Ordering::SeqCst)), (5, 1));
}

#[tokio::test]
async fn refused_is_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    assert!(not_sent(transport(&base_url, Clock::system()).send(post()).await));
}

#[tokio::test]
async fn no_address_is_not_sent() {
    // Too long for a name, so the lookup fails without asking the network.
    let nowhere = format!("https://{}.invalid", "a".repeat(64));
    assert!(not_sent(transport(&nowhere, Clock::system()).send(post()).await));
}

#[tokio::test]
async fn no_tls_is_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 This is no TLS\r\n\r\n").await.unwrap();
    });
    assert!(not_sent(transport(&base_url, Clock::system()).send(post()).await));
}

#[tokio::test]
async fn closed_after_reading_is_no_answer_and_is_not_repeated() {
    for half in ["", "HTTP/1.1 200 OK\r\nContent-Le", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{"] {
        let server = Server::start(Behaviour::SayAndClose(half.to_owned())).await;
        assert!(no_answer(server.transport().send(post()).await), "{half:?}");
        assert_eq!(server.seen(), 1, "{half:?}");
    }
}

#[tokio::test]
async fn closed_after_reading_on_a_kept_connection_is_not_repeated_either() {
    let server = Server::start(Behaviour::SayOnce(OK.to_owned())).await;
    let transport = server.transport();
    transport.send(post()).await.unwrap();
    assert!(no_answer(transport.send(post()).await));
    assert_eq!((server.seen(), server.connections.load(Ordering::SeqCst)), (2, 1));
}

#[tokio::test]
async fn slow_is_no_answer() {
    let server = Server::start(Behaviour::Hang).await;
    let sent = server.transport().send(post()).await;
    let Err(TransportError::NoAnswer(reason)) = sent else { panic!("{sent:?}") };
    assert!(reason.contains("timed out"), "{reason}");
    assert_eq!(server.seen(), 1);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = Server::start(Behaviour::Say(OK.to_owned())).await;
    for status in [301, 302, 303, 307, 308] {
        let answer =
            format!("HTTP/1.1 {status} X\r\nLocation: {}/v1/x\r\nContent-Length: 0\r\n\r\n", other.base_url);
        let server = Server::start(Behaviour::Say(answer)).await;
        assert_eq!(server.transport().send(post()).await.unwrap().status, status);
        assert_eq!(server.seen(), 1);
    }
    assert_eq!(other.seen(), 0);
}

#[tokio::test]
async fn an_endless_answer_is_no_answer() {
    let long = format!("HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n{}", "x".repeat(5_000_000));
    let server = Server::start(Behaviour::SayAndClose(long)).await;
    let options = HttpOptions { base_url: server.base_url.clone(), ..HttpOptions::default() };
    let sent = HttpTransport::new(&options, Clock::system()).unwrap().send(post()).await;
    let Err(TransportError::NoAnswer(reason)) = sent else { panic!("{sent:?}") };
    assert_eq!(reason, "the answer is longer than 4194304 bytes");
}

#[tokio::test]
async fn a_path_that_leads_elsewhere_is_not_sent() {
    let server = Server::start(Behaviour::Say(OK.to_owned())).await;
    let transport = server.transport();
    for path in ["//127.0.0.2/v1/x", "http://127.0.0.2/v1/x"] {
        let sent = transport.send(Request { path: path.to_owned(), ..post() }).await;
        let Err(TransportError::NotSent(reason)) = sent else { panic!("{sent:?}") };
        assert!(reason.ends_with("leads elsewhere"), "{reason}");
    }
    assert_eq!(server.seen(), 0);
}

#[tokio::test]
async fn in_time_is_sent_and_too_late_is_not() {
    let server = Server::start(Behaviour::Say(OK.to_owned())).await;
    let now = Timestamp::from_second(1_767_225_600).unwrap();
    let transport = transport(&server.base_url, Clock::manual(now));
    transport.send(Request { not_after: Some(now), ..post() }).await.unwrap();
    assert_eq!(server.seen(), 1);
    let late = Request { not_after: Some(now - SignedDuration::from_millis(1)), ..post() };
    assert!(not_sent(transport.send(late).await));
    assert_eq!(server.seen(), 1);
}

#[tokio::test]
async fn a_deadline_that_passes_while_connecting_stops_every_byte() {
    let server = Server::start(Behaviour::Say(OK.to_owned())).await;
    let now = Timestamp::from_second(1_767_225_600).unwrap();
    let clock = Clock::manual(now);
    let transport = transport(&server.base_url, clock.clone());
    let mut sending = transport.send(Request { not_after: Some(now), ..post() });
    // The first poll begins to connect; the machine then sleeps for an hour.
    assert!(futures::poll!(&mut sending).is_pending());
    clock.advance(Duration::from_secs(3600));
    let sent = sending.await;
    let Err(TransportError::NotSent(reason)) = &sent else { panic!("{sent:?}") };
    assert!(reason.starts_with("too late"), "{reason}");
    assert_eq!(server.connections.load(Ordering::SeqCst), 1, "the connection stood");
    assert_eq!(server.bytes.load(Ordering::SeqCst), 0, "not one byte was sent on it");
}
