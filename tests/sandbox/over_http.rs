//! The same over a socket: cut and closed connections, and webhooks that travel.

use std::net::SocketAddr;

use recurd::sandbox::{NowSource, Options, Sandbox};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A served sandbox; it ends with the runtime of the test.
async fn served() -> (Sandbox, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let sandbox = Sandbox::new(Options::new(3, NowSource::manual(crate::START)));
    tokio::spawn(sandbox.clone().serve(listener, std::future::pending()));
    (sandbox, address)
}

/// Everything that arrives before the connection closes.
async fn exchange(address: SocketAddr, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let text = format!(
        "{head} HTTP/1.1\r\nhost: sandbox\r\nconnection: close\r\nauthorization: Bearer sk_test_1\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A reset connection is one of the things to see.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn it_answers_over_a_socket() {
    let (sandbox, address) = served().await;
    let answer = exchange(address, "POST /v1/customers", "email=a%40example.com").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("a@example.com"), "{answer}");
    assert_eq!(sandbox.books().customers.len(), 1);
    assert!(exchange(address, "GET /", "").await.contains("pm_card_sandbox_payday"));
}

#[tokio::test]
async fn a_lost_answer_closes_the_connection() {
    let (sandbox, address) = served().await;
    sandbox.add_fault(recurd::sandbox::Rule::once(
        "POST",
        "/v1/customers",
        recurd::sandbox::Effect::parse("no-answer").unwrap(),
    ));
    assert_eq!(exchange(address, "POST /v1/customers", "").await, "");
    assert_eq!(sandbox.books().customers.len(), 1);
}

#[tokio::test]
async fn a_cut_answer_promises_more_than_comes() {
    let (sandbox, address) = served().await;
    sandbox.add_fault(recurd::sandbox::Rule::once(
        "POST",
        "/v1/customers",
        recurd::sandbox::Effect::parse("cut 25").unwrap(),
    ));
    let answer = exchange(address, "POST /v1/customers", "").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    assert!(length.parse::<usize>().unwrap() > 300 && body.len() == 25, "{answer}");
}

#[tokio::test]
async fn webhooks_travel_and_come_again_when_they_are_refused() {
    let (sandbox, address) = served().await;
    let receiver = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", receiver.local_addr().unwrap());
    sandbox.add_webhook(&url, &["customer.created"], Some("whsec_test"));
    exchange(address, "POST /v1/customers", "").await;
    for (answer, pending) in [("HTTP/1.1 500 No\r\n\r\n", 1), ("HTTP/1.1 204 Yes\r\n\r\n", 0)] {
        let (mut stream, _) = receiver.accept().await.unwrap();
        let mut request = vec![0_u8; 64 * 1024];
        let size = stream.read(&mut request).await.unwrap();
        let text = String::from_utf8_lossy(&request[..size]).into_owned();
        assert!(
            text.starts_with("POST /hook HTTP/1.1\r\n") && text.contains("stripe-signature: t="),
            "{text}"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        drop(stream);
        let wanted = format!("\"pending_webhooks\":{pending}");
        while !exchange(address, "GET /v1/events", "").await.contains(&wanted) {
            tokio::task::yield_now().await;
        }
        sandbox.advance(3600);
    }
}
