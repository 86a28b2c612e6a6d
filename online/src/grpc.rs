//! Lookups over gRPC: `tidemark.serving.v1`, with health and reflection.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tidemark_kernel::Explain;
use tidemark_proto::FILE_DESCRIPTOR_SET;
use tidemark_proto::codes::grpc_code;
use tidemark_proto::serving::v1;
use tidemark_proto::serving::v1::serving_server::{Serving, ServingServer};
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status};
use tonic_health::server::HealthReporter;

use crate::describe;
use crate::error::{LookupError, REQUEST_MIB_MAX};
use crate::listen::ServeError;
use crate::lookups::Lookups;
use crate::wire;

/// How often health looks whether every view can be looked up.
const HEALTH_PERIOD: Duration = Duration::from_secs(1);

/// Serves lookups on `listener` until `shutdown` resolves, then lets the calls under way end.
///
/// The health of `tidemark.serving.v1.Serving` is SERVING while every view of every service can be looked up; that
/// of the server as a whole is always SERVING.
///
/// # Errors
/// Fails where the server cannot go on.
pub async fn serve(
    lookups: Arc<Lookups>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let (mut reporter, health) = tonic_health::server::health_reporter();
    report_health(&lookups, &reporter).await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let serving = ServingServer::new(Grpc { lookups: Arc::clone(&lookups) });
    let serving = serving.max_decoding_message_size(REQUEST_MIB_MAX << 20);
    let stopped = async {
        tokio::select! {
            biased;
            () = shutdown => {}
            () = keep_reporting(&lookups, &reporter) => {}
        }
        end_watches(&mut reporter).await;
    };
    let server = Server::builder()
        .add_service(health)
        .add_service(reflection)
        .add_service(Limited { serving, lookups: Arc::clone(&lookups) });
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Ok(server.serve_with_incoming_shutdown(incoming, stopped).await?)
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

/// The service, with an answer of ours to a request that is too large. tonic refuses it before it is read, with
/// `OUT_OF_RANGE`: nothing else here has that code, which for clients means that an instant is too early.
#[derive(Clone)]
struct Limited {
    serving: ServingServer<Grpc>,
    lookups: Arc<Lookups>,
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
        let (lookups, answer) = (Arc::clone(&self.lookups), self.serving.call(request));
        Box::pin(async move {
            let answer = answer.await?;
            // An error has nothing but headers.
            let refused = Status::from_header_map(answer.headers());
            if refused.is_none_or(|refused| refused.code() != Code::OutOfRange) {
                return Ok(answer);
            }
            let error = LookupError::TooLarge { limit_mib: REQUEST_MIB_MAX };
            let error = if is_lookup { lookups.failed(error) } else { error };
            Ok(status(error).into_http())
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
        self.answer(request.into_inner()).await.map(Response::new).map_err(status)
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
    async fn answer(&self, request: v1::LookupRequest) -> Result<v1::LookupResponse, LookupError> {
        let read = || {
            let served = self.lookups.service(&request.service)?;
            Ok((served, wire::rows(request.rows)?, wire::at(request.at)?))
        };
        let (served, rows, at) = read().map_err(|error| self.lookups.failed(error))?;
        let results = self.lookups.answer(&served, rows, at).await?;
        Ok(wire::response(&served, results))
    }
}

fn status(error: LookupError) -> Status {
    Status::new(grpc_code(error.kind()), error.explained())
}
