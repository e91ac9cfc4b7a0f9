//! The admin address: `/metrics` for Prometheus, `/healthz` (the process works) and `/readyz` (it accepts logins, a disk
//! works, and the cluster can be reached).

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus::{Registry, TEXT_FORMAT, TextEncoder};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections served at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 64;

/// A connection, which is for one request, lasts no longer than this: clients that send nothing keep nobody out for long.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// What the admin address serves.
pub(crate) struct Admin {
    registry: Registry,
    readiness: Box<dyn Fn() -> Readiness + Send + Sync>,
}

/// Whether initiators can work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// They can.
    Ready {
        /// The directories of disks that failed or are missing: commands that need them are answered by an error.
        failed_disks: Vec<String>,
    },
    /// Not yet, or not any more.
    NoLogins,
    /// The cluster cannot be reached: initiators are sent away.
    NoCluster,
    /// No disk serves: every command is answered by an error.
    DisksFailed,
}

impl Admin {
    /// Serves the metrics in `registry`, and what `readiness` says.
    pub(crate) fn new(registry: Registry, readiness: impl Fn() -> Readiness + Send + Sync + 'static) -> Self {
        Self { registry, readiness: Box::new(readiness) }
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
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        if let Ok(Err(error)) = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await {
            tracing::debug!(%peer, %error, "admin connection ended");
        }
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response =
                text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served here\n".into());
            response.headers_mut().insert(ALLOW, "GET, HEAD".parse().expect("a valid header value"));
            return response;
        }
        match request.uri().path() {
            "/metrics" => self.metrics(),
            "/healthz" => text(StatusCode::OK, "ok\n".into()),
            "/readyz" => self.readiness(),
            _ => text(StatusCode::NOT_FOUND, "try /metrics, /healthz or /readyz\n".into()),
        }
    }

    fn readiness(&self) -> Response<Full<Bytes>> {
        let unavailable = |reason: &str| text(StatusCode::SERVICE_UNAVAILABLE, reason.into());
        match (self.readiness)() {
            Readiness::Ready { failed_disks } => {
                let degraded =
                    |disk: String| format!("degraded: disk {disk} has failed or is missing: see the log\n");
                let lines =
                    std::iter::once("ready\n".to_owned()).chain(failed_disks.into_iter().map(degraded));
                text(StatusCode::OK, lines.collect())
            }
            Readiness::NoLogins => unavailable("not accepting logins\n"),
            Readiness::NoCluster => unavailable("the cluster cannot be reached: see the log\n"),
            Readiness::DisksFailed => unavailable("no disk works: see the log\n"),
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use http_body_util::BodyExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn ready<const FAILED: usize>(failed_disks: [&str; FAILED]) -> Readiness {
        Readiness::Ready { failed_disks: failed_disks.map(str::to_owned).into() }
    }

    async fn get(readiness: Readiness, path: &str) -> (StatusCode, String) {
        let admin = Admin::new(Registry::new(), move || readiness.clone());
        let response = admin.answer(&Request::get(path).body(()).unwrap());
        let status = response.status();
        (status, String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().into()).unwrap())
    }

    #[tokio::test]
    async fn a_failed_disk_is_not_ready_though_the_process_is_healthy() {
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        let failed = (unavailable, "no disk works: see the log\n".into());
        assert_eq!(get(Readiness::DisksFailed, "/readyz").await, failed);
        assert_eq!(get(Readiness::DisksFailed, "/healthz").await.0, StatusCode::OK);
        assert_eq!(get(Readiness::NoLogins, "/readyz").await.0, unavailable);
        assert_eq!(get(ready([]), "/readyz").await, (StatusCode::OK, "ready\n".into()));
    }

    #[tokio::test]
    async fn one_disk_of_several_may_fail_and_is_named() {
        let (status, text) = get(ready(["/srv/disk2"]), "/readyz").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.starts_with("ready\n") && text.contains("disk /srv/disk2 has failed"), "{text}");
    }

    #[tokio::test]
    async fn a_connection_is_for_one_request() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(Admin::new(Registry::new(), || ready([])).serve(listener));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        let read = tokio::time::timeout(CONNECTION_TIMEOUT / 2, stream.read_to_string(&mut answer)).await;
        read.expect("the server closes the connection").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("ok\n"), "{answer}");
        server.abort();
    }
}
