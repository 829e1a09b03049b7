//! Webhook deliveries over plain HTTP: one POST, one status.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::webhooks::Delivery;

/// Limit: a receiver that is slower has failed.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends one delivery and returns the status of the answer.
pub(super) async fn send(delivery: &Delivery) -> io::Result<u16> {
    tokio::time::timeout(TIMEOUT, exchange(delivery)).await.map_err(io::Error::other)?
}

async fn exchange(delivery: &Delivery) -> io::Result<u16> {
    let (host, path) = target(&delivery.url)?;
    let address = if host.rsplit(']').next().is_some_and(|end| end.contains(':')) {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    let mut stream = TcpStream::connect(address).await?;
    let mut head = format!("POST {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    for (name, value) in &delivery.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", delivery.body.len()));
    stream.write_all(&[head.as_bytes(), &delivery.body].concat()).await?;
    let mut start = [0_u8; 12];
    stream.read_exact(&mut start).await?;
    let status = std::str::from_utf8(&start[9..]).ok().and_then(|text| text.parse().ok());
    status.filter(|_| start.starts_with(b"HTTP/1.")).ok_or_else(|| io::Error::other("the answer is not HTTP"))
}

/// Host (with port) and path of a URL.
fn target(url: &str) -> io::Result<(&str, &str)> {
    let refuse = || io::Error::other("the sandbox delivers to http:// URLs only");
    let rest = url.strip_prefix("http://").ok_or_else(refuse)?;
    let slash = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at(slash);
    let clean = !rest.bytes().any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control());
    if host.is_empty() || !clean {
        return Err(refuse());
    }
    Ok((host, if path.is_empty() { "/" } else { path }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_split() {
        assert_eq!(target("http://127.0.0.1:8080/hook?a=1").unwrap(), ("127.0.0.1:8080", "/hook?a=1"));
        assert_eq!(target("http://localhost").unwrap(), ("localhost", "/"));
        assert!(target("https://localhost/").is_err() && target("http://a/\r\nx: y").is_err());
    }
}
