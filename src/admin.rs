//! The admin address: `/metrics` for Prometheus, `/healthz` (the process works) and `/readyz` (it accepts logins).

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{Registry, TEXT_FORMAT, TextEncoder};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections served at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 64;

/// A client that has not sent its request by then is cut off.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A whole connection lasts no longer than this.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);

/// What the admin address serves.
pub(crate) struct Admin {
    registry: Registry,
    ready: Arc<AtomicBool>,
}

impl Admin {
    /// Serves the metrics in `registry`; ready while `ready` says so.
    pub(crate) fn new(registry: Registry, ready: Arc<AtomicBool>) -> Self {
        Self { registry, ready }
    }

    /// Serves connections until the task is dropped.
    pub(crate) async fn serve(self, listener: TcpListener) {
        let admin = Arc::new(self);
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let permit = Arc::clone(&permits).acquire_owned().await;
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let admin = Arc::clone(&admin);
                    tokio::spawn(async move {
                        let _permit = permit;
                        admin.serve_connection(stream, peer).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "admin address: cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn serve_connection(&self, stream: TcpStream, peer: SocketAddr) {
        let service = service_fn(|request| async move { Ok::<_, Infallible>(self.answer(&request)) });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(REQUEST_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        if let Ok(Err(error)) = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await {
            tracing::debug!(%peer, %error, "admin connection ended");
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response =
                text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served here\n".into());
            response.headers_mut().insert(ALLOW, "GET, HEAD".parse().expect("a valid header value"));
            return response;
        }
        match request.uri().path() {
            "/metrics" => self.metrics(),
            "/healthz" => text(StatusCode::OK, "ok\n".into()),
            "/readyz" if self.ready.load(Ordering::Acquire) => text(StatusCode::OK, "ready\n".into()),
            "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "not accepting logins\n".into()),
            _ => text(StatusCode::NOT_FOUND, "try /metrics, /healthz or /readyz\n".into()),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        match TextEncoder::new().encode_to_string(&self.registry.gather()) {
            Ok(metrics) => {
                let mut response = text(StatusCode::OK, metrics);
                response
                    .headers_mut()
                    .insert(CONTENT_TYPE, TEXT_FORMAT.parse().expect("a valid header value"));
                response
            }
            Err(error) => {
                text(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot encode the metrics: {error}\n"))
            }
        }
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, "text/plain; charset=utf-8".parse().expect("a valid header value"));
    response
}
