//! The server under a router: its connections, their limits, and what it answers by itself.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tidemark_kernel::error::{ErrorKind, explained};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::codegen::Service;

use super::{HEALTH, METRICS, READY, RETRY_AFTER, refusal, status};
use crate::connections::{Connections, Exchange, Guarded, Held, Received, Slot};

/// How long the header of a request may be, and how much of an answer waits in memory to be sent beside what is sent.
const BUFFER: usize = 64 << 10;

/// Serves `router` on `listener`, within the limits of `connections`, until `shutdown` resolves, then lets the calls under way
/// end. A method that a path does not have is answered in the form of errors, whichever part of the process the path belongs
/// to.
pub async fn serve(
    router: Router,
    listener: TcpListener,
    connections: Connections,
    shutdown: impl Future<Output = ()> + Send,
) {
    let router = Router::new().fallback_service(router).layer(middleware::from_fn(name_methods));
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = tasks.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                if let Some(stream) = connections.admit(stream) {
                    tasks.spawn(converse(stream, router.clone(), stopped.clone()));
                }
            }
            Err(error) => connections.not_accepted(&error).await,
        }
    }
    drop(listener);
    stop.send_replace(true);
    connections.close_waiting();
    while tasks.join_next().await.is_some() {}
}

/// Answers the requests of a connection, one after the other. Where the client has hung up, the call under way is dropped.
async fn converse(stream: Guarded, router: Router, mut stopped: watch::Receiver<bool>) {
    let slot = Arc::clone(stream.slot());
    let answer = service_fn(move |request| exchange(router.clone(), Arc::clone(&slot), request));
    let mut http = http1::Builder::new();
    // The stream has limits of time for every part of a request, not for the header alone.
    http.header_read_timeout(None).max_buf_size(BUFFER);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), answer));
    let stop = async { drop(stopped.wait_for(|stop| *stop).await) };
    tokio::select! {
        biased;
        // It has failed, or the client has closed it.
        _ = connection.as_mut() => return,
        () = stop => {}
    }
    connection.as_mut().graceful_shutdown();
    drop(connection.await);
}

type Answer = Response<Held<Body, Arc<Exchange>>>;

/// One request and its answer.
async fn exchange(
    mut router: Router,
    slot: Arc<Slot>,
    request: hyper::Request<Incoming>,
) -> Result<Answer, Infallible> {
    let exchange = Slot::exchange(&slot);
    let mut response = if slot.is_reserved() && !is_answered_always(request.uri().path()) {
        let reason = format!("all of {} connections have a request under way", exchange.connections_max());
        overloaded(&reason)
    } else {
        let received = Arc::clone(&exchange);
        let request = request.map(|body| Body::new(Received::new(body, received)));
        router.call(request).await?
    };
    if exchange.is_refused() {
        let reason = format!("the requests under way have {} MiB", exchange.bytes_max() >> 20);
        response = overloaded(&reason);
    }
    if slot.is_reserved() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| Held::new(body, exchange)))
}

/// What orchestrators and monitoring ask, which must not take a busy process for a dead one.
fn is_answered_always(path: &str) -> bool {
    [HEALTH, READY, METRICS].iter().any(|route| route.path == path)
}

fn overloaded(reason: &str) -> Response {
    let kind = ErrorKind::Overloaded;
    let refusal = refusal(status(kind), kind, &explained(reason, Some("try again in a second")));
    ([(header::RETRY_AFTER, RETRY_AFTER)], refusal).into_response()
}

/// Gives the answer to a method that a path does not have the body of an error. This is done around the router: it
/// adds the header that names the methods of the path last, after its own layers and fallbacks.
async fn name_methods(request: Request, next: Next) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let response = next.run(request).await;
    if response.status() != StatusCode::METHOD_NOT_ALLOWED {
        return response;
    }
    let Some(allowed) = response.headers().get(header::ALLOW).cloned() else { return response };
    let methods = allowed.to_str().unwrap_or_default().replace(',', " or ");
    let message = format!("`{method}` is no method of `{}`", uri.path());
    let message = explained(&message, Some(&format!("use {methods}")));
    let refusal = refusal(StatusCode::METHOD_NOT_ALLOWED, ErrorKind::Invalid, &message);
    ([(header::ALLOW, allowed)], refusal).into_response()
}
