//! Which call needs what: one table of the RPCs and one of the routes. A route that is in neither needs an admin's token, so
//! that what somebody adds and forgets here is open to nobody; a test holds both tables to what there is. Where there is
//! nothing any token will do: whoever finds nothing says so.
//!
//! Whether a token is good, and what is its consumer's, is not known here.

use crate::domain::access::Need::{self, Admin, Consumer, Nothing, Overview, Token};
use axum::extract::Query;
use http::{Method, Uri};

/// What a call needs, and whether it may last: a stream, or a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What its caller needs.
    pub need: Need,
    /// It is counted among its caller's streams.
    pub lasts: bool,
}

/// A method, what it needs, and whether it lasts.
pub type Rpc = (&'static str, Need, bool);

/// The RPCs by service and method, what each needs and whether it lasts.
///
/// Health stays open: it is what load balancers ask, and says nothing but whether the server works; strangers' watches of it
/// have a bound in common. Reflection tells only
/// the contract, but a stream that strangers could hold open costs more than a header that `grpcurl -H` sends along anyway.
pub const RPCS: &[(&str, &[Rpc])] = &[
    (
        "gpushopper.v1.InventoryService",
        &[
            ("ListOffers", Token, false),
            ("GetOffer", Token, false),
            ("ExplainOffers", Token, false),
            ("ListGpuModels", Token, false),
            ("ListTemplates", Token, false),
            ("GetTemplate", Token, false),
        ],
    ),
    (
        "gpushopper.v1.SessionService",
        &[
            ("CreateSession", Consumer, false),
            ("GetSession", Token, false),
            ("ListSessions", Token, false),
            ("WaitSession", Token, true),
            ("WatchSession", Token, true),
            ("WatchSessions", Token, true),
            ("ListSessionEvents", Token, false),
            ("ExtendSession", Consumer, false),
            ("UpdateSession", Consumer, false),
            ("KeepAlive", Consumer, false),
            ("RotateSessionKey", Consumer, false),
            ("CompleteSession", Consumer, false),
            ("DestroySession", Consumer, false),
            ("GetSessionDiagnostics", Token, false),
        ],
    ),
    (
        "gpushopper.v1.CostService",
        &[
            ("GetSessionCost", Token, false),
            ("GetCostReport", Token, false),
            ("ListLedgerEntries", Token, false),
            // Of the whole server, with the accounts' balances.
            ("GetSpendRate", Overview, false),
        ],
    ),
    (
        "gpushopper.v1.OperatorService",
        &[
            ("ListProviders", Overview, false),
            ("ListUnconfirmedDestroys", Overview, false),
            ("RetryDestroy", Admin, false),
            ("SettleInstance", Admin, false),
            ("ListStrayInstances", Overview, false),
            ("ListForeignInstances", Overview, false),
            ("AdoptInstance", Admin, false),
            ("DestroyInstance", Admin, false),
            ("SweepNow", Admin, false),
            ("SetHold", Admin, false),
            ("GetHold", Overview, false),
            ("AcceptDatabase", Admin, false),
            ("ListAuditEntries", Overview, false),
            ("DrainSessions", Admin, false),
            ("ListOfferHealth", Overview, false),
            ("CreateToken", Admin, false),
            ("ListTokens", Overview, false),
            ("RevokeToken", Admin, false),
        ],
    ),
    ("grpc.health.v1.Health", &[("Check", Nothing, false), ("Watch", Nothing, true)]),
    ("grpc.reflection.v1.ServerReflection", &[("ServerReflectionInfo", Token, true)]),
    ("grpc.reflection.v1alpha.ServerReflection", &[("ServerReflectionInfo", Token, true)]),
];

/// The routes by prefix, the longest that fits counts; and what looking (GET, HEAD) and changing (all other methods) there
/// needs. Where nothing can be changed any token will do, to be told so.
pub const ROUTES: &[(&str, Need, Need)] = &[
    ("/health", Nothing, Nothing),
    ("/ready", Nothing, Nothing),
    ("/metrics", Overview, Token),
    ("/openapi.json", Token, Token),
    ("/api/v1/inventory", Token, Token),
    ("/api/v1/gpu-models", Token, Token),
    ("/api/v1/templates", Token, Token),
    ("/api/v1/sessions", Token, Consumer),
    ("/api/v1/events", Token, Token),
    ("/api/v1/costs", Token, Token),
    ("/api/v1/ledger", Token, Token),
    ("/api/v1/spend-rate", Overview, Token),
    ("/api/v1/offer-health", Overview, Admin),
    ("/api/v1/operator", Overview, Admin),
    ("/api/v1/ops", Overview, Admin),
];

/// What a request needs that is of no service. `routed`: its path is that of a route.
#[must_use]
pub fn rule(method: &Method, path: &str, query: Option<&str>, routed: bool) -> Rule {
    listed(method, path, query).unwrap_or(Rule { need: if routed { Admin } else { Token }, lasts: false })
}

/// What a path names that is of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Called {
    /// What the call needs: any token will do where the service has no such method, to be told so.
    pub rule: Rule,
    /// Whether the service has the method.
    pub known: bool,
}

/// What a path names, if it is of a service.
#[must_use]
pub fn called(path: &str) -> Option<Called> {
    let (methods, called) = service(path)?;
    let rule = methods.iter().find(|(name, ..)| *name == called).map(|(_, need, lasts)| Rule { need: *need, lasts: *lasts });
    Some(Called { rule: rule.unwrap_or(Rule { need: Token, lasts: false }), known: rule.is_some() })
}

/// The methods of the service that a path is of, and what is called there.
fn service(path: &str) -> Option<(&'static [Rpc], &str)> {
    let (service, called) = path.strip_prefix('/')?.split_once('/')?;
    RPCS.iter().find(|(name, _)| *name == service).map(|(_, methods)| (*methods, called))
}

/// Whether a path is that of an RPC whose request is a stream, which may be silent: those of reflection. The request of every
/// other one is a message and its end.
#[must_use]
pub fn takes_a_stream(path: &str) -> bool {
    ["/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"].contains(&path)
}

/// What a request needs by the tables; `None` when nothing there fits.
#[must_use]
pub fn listed(method: &Method, path: &str, query: Option<&str>) -> Option<Rule> {
    if let Some(called) = called(path) {
        return called.known.then_some(called.rule);
    }
    let below = |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let (prefix, look, change) = ROUTES.iter().filter(|(prefix, ..)| below(prefix)).max_by_key(|(prefix, ..)| prefix.len())?;
    let looks = matches!(*method, Method::GET | Method::HEAD);
    let of_sessions = ["/api/v1/sessions", "/api/v1/events"].contains(prefix);
    let waits = query.is_some_and(waits);
    let lasts = of_sessions && (waits || path.ends_with("/events") || path.ends_with("/wait"));
    Some(Rule { need: if looks { *look } else { *change }, lasts })
}

/// Whether a query asks to wait, however it writes that. One that can't be read counts as if it did.
fn waits(query: &str) -> bool {
    let uri = format!("/?{query}").parse::<Uri>().ok();
    let pairs = uri.and_then(|uri| Query::<Vec<(String, String)>>::try_from_uri(&uri).ok());
    pairs.is_none_or(|Query(pairs)| pairs.iter().any(|(name, _)| name == "wait"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(method: Method, path: &str) -> Option<Need> {
        listed(&method, path, None).map(|rule| rule.need)
    }

    #[test]
    fn routes_go_by_whole_segments_and_the_longest_prefix() {
        assert_eq!(need(Method::GET, "/api/v1/sessions"), Some(Token));
        assert_eq!(need(Method::DELETE, "/api/v1/sessions/x"), Some(Consumer));
        assert_eq!(need(Method::POST, "/api/v1/sessions/x/done"), Some(Consumer));
        assert_eq!(need(Method::HEAD, "/api/v1/operator/holds"), Some(Overview));
        assert_eq!(need(Method::PATCH, "/api/v1/operator/holds"), Some(Admin));
        assert_eq!(need(Method::GET, "/gpushopper.v1.CostService/GetSpendRate"), Some(Overview));
        for unlisted in ["/api/v1/sessionsx", "/api/v1/new", "/api", "/healthy", "/", "//health", "/gpushopper.v1.CostService/New", "/Health"] {
            assert_eq!(need(Method::GET, unlisted), None, "{unlisted}");
            // A route that was forgotten is open to admins alone; where nothing is, who has a token is told so.
            assert_eq!(rule(&Method::GET, unlisted, None, true).need, Admin, "{unlisted}");
            assert_eq!(rule(&Method::GET, unlisted, None, false).need, Token);
        }
        let unknown = Called { rule: Rule { need: Token, lasts: false }, known: false };
        assert_eq!(
            (called("/gpushopper.v1.CostService/New"), called("/gpushopper.v1.New/GetSpendRate"), called("/health")),
            (Some(unknown), None, None)
        );
        assert_eq!(need(Method::POST, "/api/v1/inventory"), Some(Token), "it is told that nothing can be changed there");
    }

    #[test]
    fn what_lasts_is_counted() {
        let lasts = |path: &str, query: Option<&str>| listed(&Method::GET, path, query).unwrap().lasts;
        assert!(lasts("/api/v1/sessions/x/events", None) && lasts("/api/v1/events", None) && lasts("/api/v1/sessions/x/wait", None));
        assert!(lasts("/api/v1/sessions/x", Some("a=b&wait=60s")) && lasts("/api/v1/sessions/x", Some("%77ait=60s")));
        assert!(!lasts("/api/v1/sessions/x", Some("await=60s")) && !lasts("/api/v1/costs/events", None));
        assert!(lasts("/gpushopper.v1.SessionService/WatchSessions", None));
        assert!(lasts("/grpc.health.v1.Health/Watch", None) && !lasts("/grpc.health.v1.Health/Check", None));
    }

    #[test]
    fn only_reflection_takes_streams() {
        let all = RPCS.iter().flat_map(|(service, methods)| methods.iter().map(move |(method, ..)| format!("/{service}/{method}")));
        let streams: Vec<String> = all.filter(|path| takes_a_stream(path)).collect();
        assert!(streams.len() == 2 && streams.iter().all(|path| path.contains("reflection")), "{streams:?}");
        let pool = prost_reflect::DescriptorPool::decode(crate::grpc::pb::DESCRIPTOR_SET).unwrap();
        assert!(pool.services().flat_map(|s| s.methods().collect::<Vec<_>>()).all(|method| !method.is_client_streaming()));
    }
}
