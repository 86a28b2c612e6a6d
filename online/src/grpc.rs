//! Lookups over gRPC: `tidemark.serving.v1`, with health and reflection.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tidemark_kernel::{Explain, Time};
use tidemark_proto::FILE_DESCRIPTOR_SET;
use tidemark_proto::codes::grpc_code;
use tidemark_proto::serving::v1;
use tidemark_proto::serving::v1::serving_server::{Serving, ServingServer};
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};
use tonic_health::server::HealthReporter;

use crate::admission::Admitted;
use crate::connections::{Connections, Guarded, Held, Received};
use crate::describe;
use crate::error::{LookupError, REQUEST_MIB_MAX};
use crate::listen::ServeError;
use crate::lookups::{Lookups, Row};
use crate::served::Served;
use crate::wire;

/// How often health looks whether every view can be looked up.
const HEALTH_PERIOD: Duration = Duration::from_secs(1);

/// How many calls a connection may have under way. Further ones wait.
const CALLS: usize = 64;

/// How long a call may take as a whole: to receive it, to wait for others and to answer it.
const CALL_TIME: Duration = Duration::from_secs(120);

/// How often a client is asked whether it is still there, and how long it has to say so. A connection without a byte from the
/// client is closed after [`Limits::idle`](crate::Limits::idle), which is longer than both.
const PING_PERIOD: Duration = Duration::from_secs(20);
const PING_TIME: Duration = Duration::from_secs(10);

/// How many bytes the headers of a call may have.
const HEADER_BYTES: u32 = 16 << 10;

/// Serves lookups on `listener`, within the limits of `connections`, until `shutdown` resolves, then lets the calls under way
/// end.
///
/// The health of `tidemark.serving.v1.Serving` is SERVING while every view of every service can be looked up; that
/// of the server as a whole is always SERVING.
///
/// # Errors
/// Fails where the server cannot go on.
pub async fn serve(
    lookups: Arc<Lookups>,
    listener: TcpListener,
    connections: Connections,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let (mut reporter, health) = tonic_health::server::health_reporter();
    report_health(&lookups, &reporter).await;
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // Older clients know the draft alone.
    let (reflection, draft) = (described().build_v1()?, described().build_v1alpha()?);
    let serving = ServingServer::new(Grpc { lookups: Arc::clone(&lookups) });
    let serving = serving.max_decoding_message_size(REQUEST_MIB_MAX << 20);
    let waiting = connections.clone();
    let stopped = async {
        tokio::select! {
            biased;
            () = shutdown => {}
            () = keep_reporting(&lookups, &reporter) => {}
        }
        waiting.close_waiting();
        end_watches(&mut reporter).await;
    };
    let limited = Limited { serving, lookups: Arc::clone(&lookups), connections: connections.clone() };
    let server = Server::builder()
        .timeout(CALL_TIME)
        .concurrency_limit_per_connection(CALLS)
        .max_concurrent_streams(CALLS as u32)
        .http2_keepalive_interval(Some(PING_PERIOD))
        .http2_keepalive_timeout(Some(PING_TIME))
        .http2_max_header_list_size(HEADER_BYTES)
        .add_service(health)
        .add_service(reflection)
        .add_service(draft)
        .add_service(limited);
    let incoming = incoming(listener, connections);
    Ok(server.serve_with_incoming_shutdown(incoming, stopped).await?)
}

/// The connections that are let in.
fn incoming(
    listener: TcpListener,
    connections: Connections,
) -> impl Stream<Item = Result<Guarded, io::Error>> {
    let next = async |(listener, connections): (TcpListener, Connections)| loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if let Some(stream) = connections.admit(stream) {
                    return Some((Ok(stream), (listener, connections)));
                }
            }
            Err(error) => connections.not_accepted(&error).await,
        }
    };
    futures::stream::unfold((listener, connections), next)
}

/// Never ends.
async fn keep_reporting(lookups: &Lookups, reporter: &HealthReporter) {
    let mut ticks = lookups.host().ticks(HEALTH_PERIOD);
    loop {
        ticks.tick().await;
        report_health(lookups, reporter).await;
    }
}

/// A watched health is a call that never ends, and the server waits for the calls under way.
async fn end_watches(reporter: &mut HealthReporter) {
    reporter.set_not_serving::<ServingServer<Grpc>>().await;
    for service in [<ServingServer<Grpc> as NamedService>::NAME, ""] {
        reporter.clear_service_status(service).await;
    }
}

async fn report_health(lookups: &Lookups, reporter: &HealthReporter) {
    match lookups.ready().await {
        Ok(()) => reporter.set_serving::<ServingServer<Grpc>>().await,
        Err(_) => reporter.set_not_serving::<ServingServer<Grpc>>().await,
    }
}

/// The service, within the limits, and with answers of ours where tonic has codes that mean something else here:
///
/// * `OUT_OF_RANGE`, which tells clients that an instant is too early, for a request that is too large;
/// * `INTERNAL`, which is a defect of the server, for a request that is no message.
#[derive(Clone)]
struct Limited {
    serving: ServingServer<Grpc>,
    lookups: Arc<Lookups>,
    connections: Connections,
}

/// How the reason begins for which a request is no message.
const UNDECODABLE: &str = "failed to decode Protobuf message";

impl Limited {
    /// Our error in the place of one of tonic.
    fn instead(refused: &Status) -> Option<LookupError> {
        match refused.code() {
            Code::OutOfRange => Some(LookupError::TooLarge { limit_mib: REQUEST_MIB_MAX }),
            Code::Internal if refused.message().starts_with(UNDECODABLE) => {
                let help = Some("send a message of tidemark.serving.v1, which reflection describes");
                Some(LookupError::Malformed { reason: refused.message().to_owned(), help })
            }
            _ => None,
        }
    }
}

impl NamedService for Limited {
    const NAME: &'static str = <ServingServer<Grpc> as NamedService>::NAME;
}

impl Service<http::Request<Body>> for Limited {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::<http::Request<Body>>::poll_ready(&mut self.serving, context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let is_lookup = request.uri().path().ends_with("/Lookup");
        let (lookups, exchange) = (Arc::clone(&self.lookups), self.connections.exchange());
        let received = Arc::clone(&exchange);
        let request = request.map(|body| Body::new(Received::new(body, received)));
        let answer = self.serving.call(request);
        Box::pin(async move {
            let mut answer = answer.await?;
            // An error has nothing but headers.
            let refused = Status::from_header_map(answer.headers());
            let error = match refused {
                Some(_) if exchange.is_refused() => {
                    Some(LookupError::BodiesTooLarge { limit_mib: exchange.bytes_max() >> 20 })
                }
                refused => refused.as_ref().and_then(Self::instead),
            };
            if let Some(error) = error {
                let error = if is_lookup { lookups.failed(error) } else { error };
                return Ok(status(error).into_http());
            }
            let admitted = answer.extensions_mut().remove::<Arc<Admitted>>();
            Ok(answer.map(|body| Body::new(Held::new(body, (exchange, admitted)))))
        })
    }
}

struct Grpc {
    lookups: Arc<Lookups>,
}

#[tonic::async_trait]
impl Serving for Grpc {
    async fn lookup(
        &self,
        request: Request<v1::LookupRequest>,
    ) -> Result<Response<v1::LookupResponse>, Status> {
        let (answer, admitted) = self.answer(request.into_inner()).await.map_err(status)?;
        let mut response = Response::new(answer);
        // Kept until the answer is sent.
        response.extensions_mut().insert(Arc::new(admitted));
        Ok(response)
    }

    async fn get_service(
        &self,
        request: Request<v1::GetServiceRequest>,
    ) -> Result<Response<v1::GetServiceResponse>, Status> {
        let served = self.lookups.service(&request.into_inner().service).map_err(status)?;
        Ok(Response::new(v1::GetServiceResponse { service: Some(describe::service(&served)) }))
    }

    async fn list_services(
        &self,
        _: Request<v1::ListServicesRequest>,
    ) -> Result<Response<v1::ListServicesResponse>, Status> {
        let services = self.lookups.services();
        let services = services.iter().map(|served| describe::service(served)).collect();
        Ok(Response::new(v1::ListServicesResponse { services }))
    }
}

impl Grpc {
    async fn answer(
        &self,
        request: v1::LookupRequest,
    ) -> Result<(v1::LookupResponse, Admitted), LookupError> {
        let asked = self.asked(request).await;
        let (served, rows, at, admitted) = asked.map_err(|error| self.lookups.failed(error))?;
        let results = self.lookups.answer(&served, rows, at).await?;
        Ok((wire::response(&served, results).await, admitted))
    }

    /// What a call asks, with room for its rows.
    async fn asked(
        &self,
        request: v1::LookupRequest,
    ) -> Result<(Arc<Served>, Vec<Row>, Option<Time>, Admitted), LookupError> {
        let served = self.lookups.service(&request.service)?;
        let admitted = self.lookups.admit(request.rows.len()).await?;
        Ok((served, wire::rows(request.rows)?, wire::at(request.at)?, admitted))
    }
}

fn status(error: LookupError) -> Status {
    Status::new(grpc_code(error.kind()), error.explained())
}
