//! The sandbox on a socket: the same requests and outcomes, and webhooks that really travel.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{Request as HttpRequest, State as Shared};
use axum::response::Response as HttpResponse;
use axum::serve::{IncomingStream, Listener};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::http::{Answer, Request, Response};
use super::{Sandbox, post};

/// Limit: larger bodies than any request or list of customers has.
const BODY_BYTES_MAX: usize = 16 << 20;

/// Limit: a late answer is waited for at most so long.
const LATENCY_MAX: Duration = Duration::from_secs(120);

/// How often webhooks are looked for when no request comes.
const WEBHOOKS_EVERY: Duration = Duration::from_millis(100);

#[derive(Clone)]
struct App {
    sandbox: Sandbox,
    /// Something may have happened that webhooks tell.
    news: Arc<Notify>,
}

impl Sandbox {
    /// Serves API, pages, control endpoints and webhooks until `shutdown` is done.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let app = App { sandbox: self, news: Arc::new(Notify::new()) };
        let webhooks = tokio::spawn(deliver(app.clone()));
        let service =
            Router::new().fallback(answer).with_state(app).into_make_service_with_connect_info::<Scissors>();
        let served = axum::serve(Lines(listener), service).with_graceful_shutdown(shutdown).await;
        webhooks.abort();
        served
    }
}

async fn answer(
    Shared(app): Shared<App>,
    ConnectInfo(scissors): ConnectInfo<Scissors>,
    request: HttpRequest,
) -> HttpResponse {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_BYTES_MAX).await else {
        return whole(Response::new(413, "text/plain; charset=utf-8", "The body is too large.\n"));
    };
    let path_and_query = parts.uri.path_and_query().map_or("/", |text| text.as_str()).to_owned();
    let outcome =
        app.sandbox.handle(&Request { method: parts.method, path_and_query, headers: parts.headers, body });
    app.news.notify_one();
    if !outcome.latency.is_zero() {
        wait(outcome.latency.min(LATENCY_MAX)).await;
    }
    match outcome.answer {
        Answer::Response(response) => whole(response),
        Answer::NotSent | Answer::NoAnswer => {
            scissors.0.store(true, Ordering::SeqCst);
            HttpResponse::default()
        }
        Answer::CutAfter { response, bytes } => cut(response, bytes),
    }
}

#[expect(clippy::disallowed_methods, reason = "a late answer over HTTP is really late")]
async fn wait(pause: Duration) {
    tokio::time::sleep(pause).await;
}

fn whole(response: Response) -> HttpResponse {
    let mut answer = HttpResponse::new(Body::from(response.body));
    *answer.status_mut() = axum::http::StatusCode::from_u16(response.status).unwrap_or_default();
    *answer.headers_mut() = response.headers;
    answer
}

/// Promises the whole body, sends a part of it, and breaks off.
fn cut(mut response: Response, bytes: usize) -> HttpResponse {
    let all = std::mem::take(&mut response.body);
    let part: Result<Bytes, io::Error> = Ok(all.slice(..bytes.min(all.len())));
    let end = async {
        // A pause, so that what comes before it is really sent.
        tokio::task::yield_now().await;
        Err(io::Error::from(io::ErrorKind::ConnectionReset))
    };
    let stream = futures::stream::iter([part]).chain(futures::stream::once(end));
    let mut answer = whole(response);
    answer.headers_mut().insert(axum::http::header::CONTENT_LENGTH, all.len().into());
    *answer.body_mut() = Body::from_stream(stream);
    answer
}

/// Sends events to their endpoints, one after another, until it is aborted.
async fn deliver(app: App) {
    loop {
        let _ = tokio::time::timeout(WEBHOOKS_EVERY, app.news.notified()).await;
        for delivery in app.sandbox.due_deliveries() {
            match post::send(&delivery).await {
                Ok(status) if (200..300).contains(&status) => app.sandbox.delivery_succeeded(&delivery),
                Ok(status) => {
                    tracing::warn!(url = %delivery.url, event = %delivery.event_id, status, "Webhook was not taken");
                    app.sandbox.delivery_failed(&delivery);
                }
                Err(error) => {
                    tracing::warn!(url = %delivery.url, event = %delivery.event_id, %error, "Webhook did not arrive");
                    app.sandbox.delivery_failed(&delivery);
                }
            }
        }
    }
}

/// Connections that can be cut while a request is answered.
struct Lines(TcpListener);

impl Listener for Lines {
    type Io = Line;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Line, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        // Small answers should not wait for more to send; that it fails on odd sockets does no harm.
        let _ = stream.set_nodelay(true);
        (Line { stream, scissors: Scissors::default() }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Set to true, the connection breaks before its next byte.
#[derive(Clone, Default)]
struct Scissors(Arc<AtomicBool>);

impl Connected<IncomingStream<'_, Lines>> for Scissors {
    fn connect_info(stream: IncomingStream<'_, Lines>) -> Self {
        stream.io().scissors.clone()
    }
}

struct Line {
    stream: TcpStream,
    scissors: Scissors,
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.scissors.0.load(Ordering::SeqCst) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
