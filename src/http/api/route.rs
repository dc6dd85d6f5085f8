//! The list of all routes: what each is called, takes and answers, and what answers it. The router and the OpenAPI document
//! are both made from it, so that neither knows a route that the other does not.

use super::asked::Asked;
use super::params::Param;
use super::shapes::{Shape, spoken};
use super::{Api, costs, events, inventory, operator, sessions};
use crate::http::access::Who;
use crate::http::json;
use crate::services::Error;
use crate::services::api::Caller;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};
use std::future::Future;

/// A way to ask.
pub struct Route {
    /// `GET`, `POST`, `PATCH` or `DELETE`.
    pub method: &'static str,
    /// Its path, variables in braces.
    pub path: &'static str,
    /// The RPC of the contract that it stands for: `SessionService/CreateSession`.
    pub rpc: &'static str,
    /// What it does, where that is not what the RPC's comment says.
    pub about: &'static str,
    /// The parameters that its URL takes.
    pub query: Vec<Param>,
    /// The body that it takes.
    pub body: Option<Body>,
    /// What it answers when all is well.
    pub answers: Vec<(u16, Shape)>,
    /// How it refuses, beyond what every route may say.
    pub refusals: &'static [u16],
    /// What answers it.
    pub handler: MethodRouter<Api>,
}

/// A body: a message of the contract.
pub struct Body {
    /// The message.
    pub message: &'static str,
    /// Fields of it that are given elsewhere.
    pub hidden: &'static [&'static str],
    /// Other names that it takes.
    pub also: Vec<Param>,
    /// It can't be left out.
    pub required: bool,
    /// One that does something, as JSON; empty = none.
    pub example: &'static str,
}

impl Route {
    fn new<F, Fut>(method: &'static str, filter: MethodFilter, path: &'static str, rpc: &'static str, call: F) -> Self
    where
        F: Fn(Api, Caller, Asked) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Response, Error>> + Send + 'static,
    {
        let handler = move |State(api): State<Api>, Who(caller): Who, asked: Asked| {
            let (call, id) = (call.clone(), asked.request.clone());
            async move {
                call(api, caller, asked).await.unwrap_or_else(|mut error| {
                    error.message = spoken(&error.message);
                    json::error(&error, &id)
                })
            }
        };
        Self { method, path, rpc, about: "", query: Vec::new(), body: None, answers: Vec::new(), refusals: &[], handler: on(filter, handler) }
    }

    /// A look.
    pub fn get<F, Fut>(path: &'static str, rpc: &'static str, call: F) -> Self
    where
        F: Fn(Api, Caller, Asked) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Response, Error>> + Send + 'static,
    {
        Self::new("GET", MethodFilter::GET, path, rpc, call)
    }

    /// An order.
    pub fn post<F, Fut>(path: &'static str, rpc: &'static str, call: F) -> Self
    where
        F: Fn(Api, Caller, Asked) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Response, Error>> + Send + 'static,
    {
        Self::new("POST", MethodFilter::POST, path, rpc, call)
    }

    /// A change of some fields.
    pub fn patch<F, Fut>(path: &'static str, rpc: &'static str, call: F) -> Self
    where
        F: Fn(Api, Caller, Asked) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Response, Error>> + Send + 'static,
    {
        Self::new("PATCH", MethodFilter::PATCH, path, rpc, call)
    }

    /// An end.
    pub fn delete<F, Fut>(path: &'static str, rpc: &'static str, call: F) -> Self
    where
        F: Fn(Api, Caller, Asked) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Response, Error>> + Send + 'static,
    {
        Self::new("DELETE", MethodFilter::DELETE, path, rpc, call)
    }

    /// What it does, in other words than the RPC's.
    #[must_use]
    pub fn about(self, about: &'static str) -> Self {
        Self { about, ..self }
    }

    /// The parameters of its URL.
    #[must_use]
    pub fn query(mut self, params: Vec<Param>) -> Self {
        self.query.extend(params);
        self
    }

    /// A body, with other names that it takes.
    #[must_use]
    pub fn body(self, message: &'static str, required: bool, also: Vec<Param>) -> Self {
        // A path names these.
        let hidden: &[&str] = if self.path.contains("{session_id}") {
            &["session_id", "update_mask"]
        } else if self.path.contains("{label}") {
            &["label"]
        } else {
            &[]
        };
        Self { body: Some(Body { message, hidden, also, required, example: "" }), ..self }
    }

    /// An example of its body.
    #[must_use]
    pub fn example(mut self, example: &'static str) -> Self {
        if let Some(body) = &mut self.body {
            body.example = example;
        }
        self
    }

    /// What it answers.
    #[must_use]
    pub fn answers(mut self, status: u16, shape: Shape) -> Self {
        self.answers.push((status, shape));
        self
    }

    /// How it refuses, beyond 400, 401, 403, 404 of paths with variables, 408 of those with a body, 429, 500 and 503.
    #[must_use]
    pub fn refuses(self, refusals: &'static [u16]) -> Self {
        Self { refusals, ..self }
    }
}

/// Every route below `/api/v1`.
#[must_use]
pub fn all() -> Vec<Route> {
    [inventory::routes(), sessions::routes(), events::routes(), costs::routes(), operator::routes()].into_iter().flatten().collect()
}

/// The RPC of the contract that a request stands for, by its method and the route that it matched
/// (`/api/v1/sessions/{session_id}`): `SessionService/GetSession`. HEAD is a GET.
#[must_use]
pub fn rpc(method: &http::Method, path: &str) -> Option<&'static str> {
    use std::collections::BTreeMap;
    use std::sync::OnceLock;
    static ALL: OnceLock<BTreeMap<(&'static str, &'static str), &'static str>> = OnceLock::new();
    let known = ALL.get_or_init(|| all().into_iter().map(|route| ((route.method, route.path), route.rpc)).collect());
    let method = if method == http::Method::HEAD { "GET" } else { method.as_str() };
    known.iter().find(|((m, p), _)| *m == method && *p == path).map(|(_, rpc)| *rpc)
}
