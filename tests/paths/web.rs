//! A browser without a window: the daemon's pages over a socket.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::scene::{Scene, session_in};

/// The daemon's pages, served until the test ends.
pub struct Web(SocketAddr);

/// A page as it arrived.
#[derive(Debug)]
pub struct Page {
    pub status: u16,
    /// Where a redirect leads.
    pub location: Option<String>,
    pub text: String,
}

impl Web {
    pub async fn open(scene: &Scene) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = recurd::http::router(scene.world.ctx.clone()).unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self(address)
    }

    pub async fn get(&self, path: &str) -> Page {
        self.ask("GET", path, "", b"").await
    }

    pub async fn post(&self, path: &str) -> Page {
        self.ask("POST", path, "", b"").await
    }

    /// Looks at a pay link.
    pub async fn look(&self, token: &str) -> Page {
        self.get(&format!("/pay/{token}")).await
    }

    /// Presses the button behind a pay link.
    pub async fn click(&self, token: &str) -> Page {
        self.post(&format!("/pay/{token}")).await
    }

    /// Delivers an event with this signature.
    pub async fn event(&self, body: &[u8], signature: &str) -> u16 {
        let header = format!("stripe-signature: {signature}\r\n");
        self.ask("POST", "/webhooks/stripe", &header, body).await.status
    }

    async fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Page {
        let mut stream = TcpStream::connect(self.0).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer);
        let (head, text) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let location = head.lines().find_map(|line| line.strip_prefix("location: ")).map(str::to_owned);
        Page { status, location, text: text.to_owned() }
    }
}

impl Page {
    /// The Session that the redirect leads to.
    pub fn session(&self) -> String {
        session_in(self.location.as_deref().unwrap_or_else(|| panic!("no redirect: {self:?}")))
    }
}
