//! The sockets: accepting under a limit, TLS, one HTTP/1.1 connection after another, and stopping so that what is
//! under way is finished.

use crate::router::{Server, router};
use crate::unstuck::Unstuck;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;

/// The most that is buffered of a connection: more than the longest header that is taken.
const BUFFER_BYTES_MAX: usize = 32 << 10;
/// The most headers of a request.
const HEADERS_MAX: usize = 64;

/// Serves connections until `stop` is ready, then until what is under way is done or takes too long.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    server: Arc<Server>,
    stop: impl Future<Output = ()>,
) {
    let connections = Arc::new(Semaphore::new(server.limits.connections));
    let graceful = GracefulShutdown::new();
    let service = router(Arc::clone(&server));
    let mut stop = std::pin::pin!(stop);
    loop {
        // Nobody is accepted whom there is no place for: the others wait in the system's queue.
        let accepted = async {
            let place = Arc::clone(&connections).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stop => break,
        };
        let Ok(place) = place else { break };
        match accepted {
            Ok((stream, _)) => {
                server.metrics.accepted.fetch_add(1, Ordering::Relaxed);
                let open = Open::new(Arc::clone(&server), place);
                tokio::spawn(connection(stream, tls.clone(), service.clone(), graceful.watcher(), open));
            }
            Err(error) => {
                // Out of descriptors, most likely: what ends meanwhile gives some back.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    let limit = server.limits.stop_timeout;
    if tokio::time::timeout(limit, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were under way for too long and were cut off");
    }
}

/// A place among the connections, counted while it is taken.
struct Open {
    server: Arc<Server>,
    _place: OwnedSemaphorePermit,
}

impl Open {
    fn new(server: Arc<Server>, place: OwnedSemaphorePermit) -> Self {
        server.metrics.connections.fetch_add(1, Ordering::Relaxed);
        Self { server, _place: place }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.server.metrics.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    service: axum::Router,
    watcher: hyper_util::server::graceful::Watcher,
    open: Open,
) {
    // Answers are small and waited for.
    let _ = stream.set_nodelay(true);
    let limits = &open.server.limits;
    let timeout = limits.header_timeout;
    // Below TLS: what is not taken by the other side is not taken, whatever it is.
    let stream = Unstuck::new(stream, limits.write_timeout);
    match tls {
        None => http(stream, service, watcher, timeout).await,
        Some(tls) => match tokio::time::timeout(timeout, tls.accept(stream)).await {
            Ok(Ok(stream)) => http(stream, service, watcher, timeout).await,
            Ok(Err(error)) => tracing::debug!(%error, "no TLS came about"),
            Err(_) => tracing::debug!("no TLS came about in time"),
        },
    }
    drop(open);
}

async fn http<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    service: axum::Router,
    watcher: hyper_util::server::graceful::Watcher,
    header_timeout: Duration,
) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(BUFFER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection ended early");
    }
}
