//! The calls of the contract that everybody makes: each repeated where that is safe, with typed errors.

use crate::client::Client;
use crate::error::Error;
use crate::insist::insist;
use crate::pb;
use uuid::Uuid;

/// A named change gets a request id when it has none; a read is repeated as it is.
macro_rules! calls {
    ($($(#[$doc:meta])* $service:ident $kind:ident $name:ident($request:ident) -> $answer:ident;)*) => {
        impl Client {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// [`Error::Refused`]; the contract names the reasons.
                pub async fn $name(&self, request: pb::$request) -> Result<pb::$answer, Error> {
                    let request = calls!($kind request);
                    insist(&self.patience, request, |request| {
                        let mut service = self.$service();
                        async move { service.$name(request).await }
                    })
                    .await
                }
            )*
        }
    };
    (read $request:ident) => { $request };
    (named $request:ident) => {{
        let mut request = $request;
        if request.request_id.is_empty() {
            request.request_id = Uuid::new_v4().to_string();
        }
        request
    }};
}

calls! {
    /// One page of what can be rented now; see [`Client::offers`] for all of it.
    inventory read list_offers(ListOffersRequest) -> ListOffersResponse;
    /// One offer by its id.
    inventory read get_offer(GetOfferRequest) -> GetOfferResponse;
    /// Why a filter leaves so few offers, and the least that has to give.
    inventory read explain_offers(ExplainOffersRequest) -> ExplainOffersResponse;
    /// The templates that vendors recommend.
    inventory read list_templates(ListTemplatesRequest) -> ListTemplatesResponse;
    /// One template by its hash.
    inventory read get_template(GetTemplateRequest) -> GetTemplateResponse;
    /// Which GPU models are on offer, how many, and from which price.
    inventory read list_gpu_models(ListGpuModelsRequest) -> ListGpuModelsResponse;

    /// Creates a session and answers as soon as it is durable; renting goes on and is told by states and events.
    sessions named create_session(CreateSessionRequest) -> CreateSessionResponse;
    /// One session as it is now.
    sessions read get_session(GetSessionRequest) -> GetSessionResponse;
    /// One page of sessions, newest first; see [`Client::all_sessions`].
    sessions read list_sessions(ListSessionsRequest) -> ListSessionsResponse;
    /// One page of what happened to a session, oldest first; see [`Client::events`].
    sessions read list_session_events(ListSessionEventsRequest) -> ListSessionEventsResponse;
    /// Moves a session's expiry.
    sessions named extend_session(ExtendSessionRequest) -> ExtendSessionResponse;
    /// Changes a session's labels or its idle threshold.
    sessions named update_session(UpdateSessionRequest) -> UpdateSessionResponse;
    /// Puts another key of the consumer on a running session's machine.
    sessions named rotate_session_key(RotateSessionKeyRequest) -> RotateSessionKeyResponse;
    /// Says that a session's machine is in use.
    sessions named keep_alive(KeepAliveRequest) -> KeepAliveResponse;
    /// Done: ends a session.
    sessions named complete_session(CompleteSessionRequest) -> CompleteSessionResponse;
    /// Ends a session at once, from any state.
    sessions named destroy_session(DestroySessionRequest) -> DestroySessionResponse;
    /// What is known about a session's machines and clocks.
    sessions read get_session_diagnostics(GetSessionDiagnosticsRequest) -> GetSessionDiagnosticsResponse;

    /// What one session has cost.
    costs read get_session_cost(GetSessionCostRequest) -> GetSessionCostResponse;
    /// What sessions cost in a range of time, in groups.
    costs read get_cost_report(GetCostReportRequest) -> GetCostReportResponse;
    /// The metered segments behind the reports, one by one.
    costs read list_ledger_entries(ListLedgerEntriesRequest) -> ListLedgerEntriesResponse;
    /// What is spent per hour now.
    costs read get_spend_rate(GetSpendRateRequest) -> GetSpendRateResponse;
}
