//! Floor 3: the gRPC face. Words of the wire; no decisions, no store, no provider.
//!
//! * [`pb`]: what is generated from `proto/`.
//! * [`convert`]: the only place that knows both the wire's and the domain's words.
//! * [`json`]: messages as JSON, for the JSON face and the command line.
//! * [`status`]: the only place that makes a `tonic::Status`.
//! * [`auth`]: who calls.
//! * one file per service: convert, call, convert.

pub mod auth;
pub mod codec;
pub mod convert;
mod costs;
mod inventory;
pub mod json;
mod operator;
pub mod pb;
mod sessions;
pub mod status;

use crate::domain::ids::ProviderId;
use crate::services::Error;
use crate::services::access::Access;
use crate::services::costs::Costs;
use crate::services::drain::Drain;
use crate::services::inventory::Inventory;
use crate::services::lifecycle::Handle;
use crate::services::operator::Operator;
use crate::services::sessions::Sessions;
use crate::services::templates::Templates;
use axum::Router;
use axum::body::Body;
use futures::TryFutureExt;
use futures::future::BoxFuture;
use http::header::CONTENT_TYPE;
use secrecy::SecretString;
use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tonic_web::GrpcWebLayer;
use tower::{Layer, Service, service_fn};

/// The services behind the RPCs.
#[derive(Clone)]
pub struct Services {
    /// Offers.
    pub inventory: Inventory,
    /// Templates.
    pub templates: Templates,
    /// The one writer of sessions.
    pub lifecycle: Handle,
    /// The reading side of sessions.
    pub sessions: Sessions,
    /// Costs.
    pub costs: Costs,
    /// What an operator looks at and orders.
    pub operator: Operator,
    /// Ends everything.
    pub drain: Drain,
    /// Who may call.
    pub access: Access,
}

/// A pair of keys that the server makes for a consumer.
pub struct KeyPair {
    /// The public half, one OpenSSH line.
    pub public_key: String,
    /// The private half, OpenSSH format.
    pub private_key: SecretString,
}

/// Makes a pair of keys; the argument is the public half's comment.
pub type MakeKeyPair = Arc<dyn Fn(&str) -> Result<KeyPair, Error> + Send + Sync>;

/// What conversions need to know of the rest of the house.
#[derive(Clone)]
pub struct Settings {
    /// No reservation is longer.
    pub hard_max: Duration,
    /// Machines tried when a request does not say how many.
    pub default_max_attempts: u8,
    /// Silence after which a watch is given a bookmark when it does not say.
    pub bookmark: Duration,
    /// The providers that are enabled, by name.
    pub providers: Vec<ProviderId>,
    /// Says whether a text is an offer's id, by its form alone; one for each provider there is.
    pub offer_ids: Vec<fn(&str) -> bool>,
    /// Checks a consumer's public key and gives it in canonical form, or says what is wrong with it.
    pub parse_public_key: fn(&str) -> Result<String, String>,
    /// Makes a pair for a consumer that brings no key.
    pub make_key_pair: MakeKeyPair,
    /// The fingerprint of a host key line: `SHA256:…`.
    pub fingerprint: fn(&str) -> Option<String>,
    /// The `known_hosts` line for a host, a port and a host key line.
    pub known_hosts_line: fn(&str, u16, &str) -> String,
    /// No request is larger than this, bytes.
    pub largest_request: usize,
}

/// The names of our services, as in the proto.
pub const SERVICE_NAMES: [&str; 4] = [
    pb::inventory_service_server::SERVICE_NAME,
    pb::session_service_server::SERVICE_NAME,
    pb::cost_service_server::SERVICE_NAME,
    pb::operator_service_server::SERVICE_NAME,
];

/// What `grpc.health.v1` tells: for the server as a whole (`""`) and for each service.
#[derive(Clone, Debug)]
pub struct Health(HealthReporter);

impl Health {
    /// NOT_SERVING, until [`Health::set`] says otherwise.
    pub async fn new() -> Self {
        let health = Self(HealthReporter::new());
        health.set(false).await;
        health
    }

    /// SERVING or NOT_SERVING, for all names.
    pub async fn set(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in [""].into_iter().chain(SERVICE_NAMES) {
            self.0.set_service_status(name, status).await;
        }
    }

    /// Ends every open `Watch`, so that a shutdown need not wait for them. Say NOT_SERVING before; nothing can be said after.
    pub async fn close(&self) {
        let mut reporter = self.0.clone();
        for name in [""].into_iter().chain(SERVICE_NAMES) {
            reporter.clear_service_status(name).await;
        }
    }
}

/// All RPCs: our services, health and reflection (v1 and v1alpha), also for browsers (gRPC-Web). A call of ours goes to its
/// service straight: it takes no router to tell four of them apart.
#[derive(Clone)]
pub struct Rpcs(Arc<Servers>);

struct Servers {
    inventory: pb::inventory_service_server::InventoryServiceServer<inventory::InventoryService>,
    sessions: pb::session_service_server::SessionServiceServer<sessions::SessionService>,
    costs: pb::cost_service_server::CostServiceServer<costs::CostService>,
    operator: pb::operator_service_server::OperatorServiceServer<operator::OperatorService>,
    others: Router,
}

/// Makes them.
///
/// # Errors
/// When the compiled descriptor sets can't be read, which a test rules out.
pub fn rpcs(services: Services, settings: Settings, health: &Health) -> Result<Rpcs, tonic_reflection::server::Error> {
    let largest = settings.largest_request;
    let settings = Arc::new(settings);
    macro_rules! tuned {
        ($module:ident :: $server:ident, $service:expr) => {
            // Answers are never compressed: see the README's decisions.
            pb::$module::$server::new($service).max_decoding_message_size(largest).accept_compressed(CompressionEncoding::Gzip)
        };
    }
    let inventory = inventory::InventoryService { inventory: services.inventory, templates: services.templates, settings: Arc::clone(&settings) };
    let sessions = sessions::SessionService { lifecycle: services.lifecycle, sessions: services.sessions, settings: Arc::clone(&settings) };
    let costs = costs::CostService { costs: services.costs, operator: services.operator.clone(), settings: Arc::clone(&settings) };
    let operator = operator::OperatorService { operator: services.operator, drain: services.drain, access: services.access, settings };
    let others = Routes::new(HealthServer::new(HealthService::from_health_reporter(health.0.clone())))
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .into_axum_router();
    Ok(Rpcs(Arc::new(Servers {
        inventory: tuned!(inventory_service_server::InventoryServiceServer, inventory),
        sessions: tuned!(session_service_server::SessionServiceServer, sessions),
        costs: tuned!(cost_service_server::CostServiceServer, costs),
        operator: tuned!(operator_service_server::OperatorServiceServer, operator),
        others,
    })))
}

type Answered = BoxFuture<'static, Result<http::Response<tonic::body::Body>, Infallible>>;

impl Service<http::Request<Body>> for Rpcs {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Answered;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answered {
        let web = request.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc-web"));
        if !web {
            return self.0.complete(request);
        }
        // Browsers' dialect outermost: it packs whatever the others have made.
        let servers = Arc::clone(&self.0);
        let whole = service_fn(move |request: http::Request<tonic::body::Body>| servers.complete(request.map(Body::new)));
        Box::pin(GrpcWebLayer::new().layer(whole).call(request))
    }
}

impl Servers {
    /// With [`status::complete`] for all answers.
    fn complete(&self, request: http::Request<Body>) -> Answered {
        let uri = request.uri().clone();
        let answer = self.answer(request);
        Box::pin(async move { answer.await.map(|answer| status::complete(uri.path(), answer)) })
    }

    /// What comes without a caller has not passed the port's gate, and is refused.
    fn answer(&self, request: http::Request<Body>) -> Answered {
        let service = request.uri().path().split('/').nth(1).unwrap_or_default();
        if SERVICE_NAMES.contains(&service)
            && let Err(status) = auth::caller(request.extensions())
        {
            return Box::pin(ready(Ok(status.into_http())));
        }
        match service {
            pb::inventory_service_server::SERVICE_NAME => self.inventory.clone().call(request),
            pb::session_service_server::SERVICE_NAME => self.sessions.clone().call(request),
            pb::cost_service_server::SERVICE_NAME => self.costs.clone().call(request),
            pb::operator_service_server::SERVICE_NAME => self.operator.clone().call(request),
            _ => Box::pin(self.others.clone().call(request).map_ok(|answer| answer.map(tonic::body::Body::new))),
        }
    }
}

/// Our files with comments and JSON names, and those of the error details, which no service names.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(pb::DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_server::Health as _;

    #[test]
    fn reflection_serves_what_was_compiled() {
        assert!(reflection().build_v1().is_ok() && reflection().build_v1alpha().is_ok());
    }

    #[tokio::test]
    async fn health_is_not_serving_until_told_and_speaks_for_each_service() {
        let health = Health::new().await;
        let told = HealthService::from_health_reporter(health.0.clone());
        let check = async |service: &str| {
            let asked = tonic::Request::new(HealthCheckRequest { service: service.to_owned() });
            told.check(asked).await.map(|answer| answer.into_inner().status())
        };
        use tonic_health::pb::health_check_response::ServingStatus as Wire;
        for name in [""].into_iter().chain(SERVICE_NAMES) {
            assert_eq!(check(name).await.unwrap(), Wire::NotServing, "{name}");
        }
        health.set(true).await;
        for name in [""].into_iter().chain(SERVICE_NAMES) {
            assert_eq!(check(name).await.unwrap(), Wire::Serving, "{name}");
        }
        assert_eq!(check("no.such.Service").await.unwrap_err().code(), tonic::Code::NotFound);
    }
}
