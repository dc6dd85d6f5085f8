//! The JSON face: the same services as the gRPC face, asked by the same requests, told by the same answers, under names
//! that suit JSON. A handler reads a request of the contract from the URL and the body, has it checked where gRPC has it
//! checked ([`convert`](crate::grpc::convert)), asks the service, and writes the answer's message as JSON. It decides
//! nothing.
//!
//! * [`route`]: the list of all routes, from which the router and the OpenAPI document are made.
//! * [`asked`]: what a request brings, as fields of the contract's messages.
//! * [`params`]: parameters and other names of fields, with their units.
//! * [`shapes`]: names in JSON, and what objects have beside their message's fields.
//! * [`reply`]: answers and how errors name fields.
//! * [`openapi`]: the document.
//! * one file per area.

pub mod asked;
mod costs;
mod events;
mod inventory;
pub mod openapi;
mod operator;
pub mod params;
mod reply;
pub mod route;
mod sessions;
pub mod shapes;

use crate::grpc::{Services, Settings};
use axum::Router;
use axum::body::Bytes;
use axum::response::IntoResponse;
use axum::routing::get;
use http::header;
use std::sync::Arc;

/// What handlers work with.
#[derive(Clone)]
pub struct Api {
    services: Arc<Services>,
    settings: Arc<Settings>,
}

/// All JSON routes, and `/openapi.json`.
pub fn routes(services: Services, settings: Settings) -> Router {
    let all = route::all();
    let document = Bytes::from(openapi::document(&all).to_string());
    let api = Api { services: Arc::new(services), settings: Arc::new(settings) };
    let told = move || async move { ([(header::CONTENT_TYPE, "application/json")], document).into_response() };
    let router = all.into_iter().fold(Router::new(), |router, route| router.route(route.path, route.handler));
    router.route(openapi::PATH, get(told)).with_state(api)
}
