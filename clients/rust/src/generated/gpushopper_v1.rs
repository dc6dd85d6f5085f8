//! Generated from `proto/` by `make clients`; changes by hand are lost.

/// An hourly price by component. Inside the server rates are finer than a nano-dollar; here each part is rounded on its
/// own (half to even), so the parts may differ from the total by some nano-dollars.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Price {
    /// The whole machine with its disk, US dollars per hour.
    #[prost(message, optional, tag = "1")]
    pub total_per_hour: ::core::option::Option<crate::google_type::Money>,
    /// The total for people, at most four decimals: `$0.2467/h`. Output only.
    #[prost(string, tag = "2")]
    pub total_text: ::prost::alloc::string::String,
    /// All GPUs together, US dollars per hour.
    #[prost(message, optional, tag = "3")]
    pub gpu_per_hour: ::core::option::Option<crate::google_type::Money>,
    /// CPU cores, US dollars per hour; zero where they are included.
    #[prost(message, optional, tag = "4")]
    pub cpu_per_hour: ::core::option::Option<crate::google_type::Money>,
    /// Main memory, US dollars per hour; zero where it is included.
    #[prost(message, optional, tag = "5")]
    pub memory_per_hour: ::core::option::Option<crate::google_type::Money>,
    /// The disk, US dollars per hour.
    #[prost(message, optional, tag = "6")]
    pub disk_per_hour: ::core::option::Option<crate::google_type::Money>,
}
/// What something has cost. We learn when a vendor's meter starts and stops by looking, so each boundary is an interval:
/// the vendor's true bill, traffic excluded, lies in \[low, high\].
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct CostAmount {
    /// What is surely owed, in US dollars. All reports add up in this.
    #[prost(message, optional, tag = "1")]
    pub cost: ::core::option::Option<crate::google_type::Money>,
    /// The cost as exact decimal text: `$0.246666667`. Output only.
    #[prost(string, tag = "2")]
    pub text: ::prost::alloc::string::String,
    /// The true bill is at least this, US dollars.
    #[prost(message, optional, tag = "3")]
    pub low: ::core::option::Option<crate::google_type::Money>,
    /// The true bill is at most this, US dollars.
    #[prost(message, optional, tag = "4")]
    pub high: ::core::option::Option<crate::google_type::Money>,
    /// The bounds differ by more than a second's worth.
    #[prost(bool, tag = "5")]
    pub estimated: bool,
}
/// A priced part of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum CostComponent {
    /// Never sent.
    Unspecified = 0,
    /// The GPUs.
    Gpu = 1,
    /// CPU cores, where they are priced apart.
    Cpu = 2,
    /// Main memory, where it is priced apart.
    Memory = 3,
    /// The disk.
    Disk = 4,
}
impl CostComponent {
    /// String value of the enum field names used in the ProtoBuf definition.
    ///
    /// The values are not transformed in any way and thus are considered stable
    /// (if the ProtoBuf definition does not change) and safe for programmatic use.
    pub fn as_str_name(&self) -> &'static str {
        match self {
            Self::Unspecified => "COST_COMPONENT_UNSPECIFIED",
            Self::Gpu => "COST_COMPONENT_GPU",
            Self::Cpu => "COST_COMPONENT_CPU",
            Self::Memory => "COST_COMPONENT_MEMORY",
            Self::Disk => "COST_COMPONENT_DISK",
        }
    }
    /// Creates an enum from field names used in the ProtoBuf definition.
    pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
        match value {
            "COST_COMPONENT_UNSPECIFIED" => Some(Self::Unspecified),
            "COST_COMPONENT_GPU" => Some(Self::Gpu),
            "COST_COMPONENT_CPU" => Some(Self::Cpu),
            "COST_COMPONENT_MEMORY" => Some(Self::Memory),
            "COST_COMPONENT_DISK" => Some(Self::Disk),
            _ => None,
        }
    }
}
/// Asks for a session's cost.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct GetSessionCostRequest {
    /// The session. Required. Example: `{"sessionId": "01kaphz700fay8vvr14d2pf2db"}`
    #[prost(string, tag = "1")]
    pub session_id: ::prost::alloc::string::String,
}
/// A session's cost.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct GetSessionCostResponse {
    /// The session.
    #[prost(string, tag = "1")]
    pub session_id: ::prost::alloc::string::String,
    /// In all.
    #[prost(message, optional, tag = "2")]
    pub total: ::core::option::Option<CostAmount>,
    /// By component; adds up to the total.
    #[prost(message, repeated, tag = "3")]
    pub components: ::prost::alloc::vec::Vec<ComponentCost>,
    /// By attempt; adds up to the total.
    #[prost(message, repeated, tag = "4")]
    pub attempts: ::prost::alloc::vec::Vec<AttemptCost>,
    /// Nothing can change any more.
    #[prost(bool, tag = "5")]
    pub r#final: bool,
    /// What it costs now, US dollars per hour; zero when nothing runs.
    #[prost(message, optional, tag = "6")]
    pub rate_per_hour: ::core::option::Option<crate::google_type::Money>,
    /// The same for people: `$0.2467/h`. Output only.
    #[prost(string, tag = "7")]
    pub rate_text: ::prost::alloc::string::String,
}
/// The cost of one component.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ComponentCost {
    /// The component.
    #[prost(enumeration = "CostComponent", tag = "1")]
    pub component: i32,
    /// Its cost.
    #[prost(message, optional, tag = "2")]
    pub amount: ::core::option::Option<CostAmount>,
}
/// The cost of one attempt.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct AttemptCost {
    /// The attempt's number, from 1.
    #[prost(int32, tag = "1")]
    pub attempt: i32,
    /// Its cost.
    #[prost(message, optional, tag = "2")]
    pub amount: ::core::option::Option<CostAmount>,
}
/// Whose costs. Absent fields don't filter.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct CostFilter {
    /// Of this consumer. Default: all that the caller may see. Example: `{"consumerId": "alice"}`
    #[prost(string, optional, tag = "1")]
    pub consumer_id: ::core::option::Option<::prost::alloc::string::String>,
    /// At this provider. Default: any. Example: `{"provider": "vastai"}`
    #[prost(string, optional, tag = "2")]
    pub provider: ::core::option::Option<::prost::alloc::string::String>,
    /// With this GPU model, in any usual spelling. Default: any. Example: `{"gpuModel": "RTX 4090"}`
    #[prost(string, optional, tag = "3")]
    pub gpu_model: ::core::option::Option<::prost::alloc::string::String>,
    /// Of this session. Default: any. Example: `{"sessionId": "01kaphz700fay8vvr14d2pf2db"}`
    #[prost(string, optional, tag = "4")]
    pub session_id: ::core::option::Option<::prost::alloc::string::String>,
    /// With all these labels. Default: any. Example: `{"labels": {"team": "vision"}}`
    #[prost(map = "string, string", tag = "5")]
    pub labels: ::std::collections::HashMap<
        ::prost::alloc::string::String,
        ::prost::alloc::string::String,
    >,
}
/// Asks for a report.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct GetCostReportRequest {
    /// From then, included. Default: from the beginning. Example: `{"startTime": "2026-11-01T00:00:00Z"}`
    #[prost(message, optional, tag = "1")]
    pub start_time: ::core::option::Option<::prost_types::Timestamp>,
    /// Until then, excluded; not before `start_time`. Default: now. Example: `{"endTime": "2026-12-01T00:00:00Z"}`
    #[prost(message, optional, tag = "2")]
    pub end_time: ::core::option::Option<::prost_types::Timestamp>,
    /// Whose costs. Default: all. Example: `{"filter": {"consumerId": "alice"}}`
    #[prost(message, optional, tag = "3")]
    pub filter: ::core::option::Option<CostFilter>,
    /// Group by these, in order, each once: `consumer`, `provider`, `gpu`, `day`, `month` (both UTC), `session`,
    /// `end_reason`, `label:<key>`; at most 8. Default: one group of all. Example: `{"groupBy": \["consumer", "label:team"\]}`
    #[prost(string, repeated, tag = "4")]
    pub group_by: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
}
/// A report. Its groups add up to the total, to the nano-dollar.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct GetCostReportResponse {
    /// From then, included.
    #[prost(message, optional, tag = "1")]
    pub start_time: ::core::option::Option<::prost_types::Timestamp>,
    /// Until then, excluded.
    #[prost(message, optional, tag = "2")]
    pub end_time: ::core::option::Option<::prost_types::Timestamp>,
    /// The sum.
    #[prost(message, optional, tag = "3")]
    pub total: ::core::option::Option<CostAmount>,
    /// The groups, ordered by their keys.
    #[prost(message, repeated, tag = "4")]
    pub groups: ::prost::alloc::vec::Vec<CostGroup>,
    /// Sessions in it.
    #[prost(int32, tag = "5")]
    pub session_count: i32,
    /// Nothing in it can change any more.
    #[prost(bool, tag = "6")]
    pub r#final: bool,
    /// What is not metered.
    #[prost(string, repeated, tag = "7")]
    pub unmetered: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
}
/// One group of a report.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct CostGroup {
    /// The values of the `group_by` keys, in their order.
    #[prost(string, repeated, tag = "1")]
    pub keys: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// Its cost.
    #[prost(message, optional, tag = "2")]
    pub amount: ::core::option::Option<CostAmount>,
    /// Sessions in it.
    #[prost(int32, tag = "3")]
    pub session_count: i32,
    /// Metered time of its GPU components.
    #[prost(message, optional, tag = "4")]
    pub gpu_time: ::core::option::Option<::prost_types::Duration>,
}
/// Asks for ledger entries.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ListLedgerEntriesRequest {
    /// From then, included: amounts count from there. Default: from the beginning.
    /// Example: `{"startTime": "2026-11-01T00:00:00Z"}`
    #[prost(message, optional, tag = "1")]
    pub start_time: ::core::option::Option<::prost_types::Timestamp>,
    /// Until then, excluded; not before `start_time`. Default: now. Example: `{"endTime": "2026-12-01T00:00:00Z"}`
    #[prost(message, optional, tag = "2")]
    pub end_time: ::core::option::Option<::prost_types::Timestamp>,
    /// Whose costs. Default: all. Example: `{"filter": {"sessionId": "01kaphz700fay8vvr14d2pf2db"}}`
    #[prost(message, optional, tag = "3")]
    pub filter: ::core::option::Option<CostFilter>,
    /// At most this many, 0 to 1000; more is taken as 1000. Default: 50. Example: `{"pageSize": 20}`
    #[prost(int32, tag = "4")]
    pub page_size: i32,
    /// Where to go on: `next_page_token` of the page before, with the same range and filter. Default: from the start.
    /// Example: `{"pageToken": "djEuNDI"}`
    #[prost(string, tag = "5")]
    pub page_token: ::prost::alloc::string::String,
}
/// A page of the ledger.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ListLedgerEntriesResponse {
    /// The entries.
    #[prost(message, repeated, tag = "1")]
    pub entries: ::prost::alloc::vec::Vec<LedgerEntry>,
    /// Where the next page starts; empty at the end, and only there.
    #[prost(string, tag = "2")]
    pub next_page_token: ::prost::alloc::string::String,
}
/// A stretch of metered time of one component at one rate.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct LedgerEntry {
    /// The session.
    #[prost(string, tag = "1")]
    pub session_id: ::prost::alloc::string::String,
    /// Which attempt's machine, from 1.
    #[prost(int32, tag = "2")]
    pub attempt: i32,
    /// Number within the machine, from 0.
    #[prost(int32, tag = "3")]
    pub ordinal: i32,
    /// What is billed.
    #[prost(enumeration = "CostComponent", tag = "4")]
    pub component: i32,
    /// At which rate, US dollars per hour, rounded to nano-dollars.
    #[prost(message, optional, tag = "5")]
    pub rate_per_hour: ::core::option::Option<crate::google_type::Money>,
    /// The rate as exact decimal text: `$0.246666666667/h`. Output only.
    #[prost(string, tag = "6")]
    pub rate_text: ::prost::alloc::string::String,
    /// Last moment known off before it.
    #[prost(message, optional, tag = "7")]
    pub start_low_time: ::core::option::Option<::prost_types::Timestamp>,
    /// First moment known on: it is charged from here.
    #[prost(message, optional, tag = "8")]
    pub start_time: ::core::option::Option<::prost_types::Timestamp>,
    /// Last moment known on: it is charged until here.
    #[prost(message, optional, tag = "9")]
    pub end_time: ::core::option::Option<::prost_types::Timestamp>,
    /// First moment known off after it; absent while it runs.
    #[prost(message, optional, tag = "10")]
    pub end_high_time: ::core::option::Option<::prost_types::Timestamp>,
    /// Its cost within the range asked for.
    #[prost(message, optional, tag = "11")]
    pub amount: ::core::option::Option<CostAmount>,
    /// It is still running.
    #[prost(bool, tag = "12")]
    pub running: bool,
    /// Whose.
    #[prost(string, tag = "13")]
    pub consumer_id: ::prost::alloc::string::String,
    /// Where.
    #[prost(string, tag = "14")]
    pub provider: ::prost::alloc::string::String,
    /// On which GPU model.
    #[prost(string, tag = "15")]
    pub gpu_model: ::prost::alloc::string::String,
    /// Nobody looked meanwhile (the service was down): the machine was on before and after, so the time is charged; the
    /// amount's lower bound leaves it out.
    #[prost(bool, tag = "16")]
    pub presumed: bool,
}
/// Asks for what is spent now.
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct GetSpendRateRequest {}
/// What is spent now.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct GetSpendRateResponse {
    /// At each enabled provider.
    #[prost(message, repeated, tag = "1")]
    pub providers: ::prost::alloc::vec::Vec<ProviderSpend>,
    /// At all of them.
    #[prost(message, optional, tag = "2")]
    pub total: ::core::option::Option<SpendRate>,
}
/// What is spent now at one provider.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ProviderSpend {
    /// Where.
    #[prost(string, tag = "1")]
    pub provider: ::prost::alloc::string::String,
    /// How much per hour.
    #[prost(message, optional, tag = "2")]
    pub rate: ::core::option::Option<SpendRate>,
    /// What is left on the account, US dollars; absent where the vendor does not tell.
    #[prost(message, optional, tag = "3")]
    pub balance: ::core::option::Option<crate::google_type::Money>,
    /// The same for people: `$12.34`; empty where the vendor does not tell. Output only.
    #[prost(string, tag = "4")]
    pub balance_text: ::prost::alloc::string::String,
    /// How long that lasts at this rate; absent where the balance is not told or nothing is spent.
    #[prost(message, optional, tag = "5")]
    pub lasts: ::core::option::Option<::prost_types::Duration>,
}
/// What is spent per hour, US dollars.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SpendRate {
    /// Machines that sessions use or wait for.
    #[prost(message, optional, tag = "1")]
    pub running_per_hour: ::core::option::Option<crate::google_type::Money>,
    /// Machines that should be gone and are not proven so: OperatorService.ListUnconfirmedDestroys.
    #[prost(message, optional, tag = "2")]
    pub stopping_per_hour: ::core::option::Option<crate::google_type::Money>,
    /// Machines of this deployment that no record wants: OperatorService.ListStrayInstances.
    #[prost(message, optional, tag = "3")]
    pub stray_per_hour: ::core::option::Option<crate::google_type::Money>,
    /// Other machines on the accounts: OperatorService.ListForeignInstances.
    #[prost(message, optional, tag = "4")]
    pub foreign_per_hour: ::core::option::Option<crate::google_type::Money>,
    /// All of it.
    #[prost(message, optional, tag = "5")]
    pub total_per_hour: ::core::option::Option<crate::google_type::Money>,
    /// The same for people: `$0.2467/h`. Output only.
    #[prost(string, tag = "6")]
    pub total_text: ::prost::alloc::string::String,
    /// Strays and foreign machines whose price no list tells: what they cost is missing above.
    #[prost(int32, tag = "7")]
    pub unpriced_count: i32,
}
/// Generated client implementations.
pub mod cost_service_client {
    #![allow(
        unused_variables,
        dead_code,
        missing_docs,
        clippy::wildcard_imports,
        clippy::let_unit_value,
    )]
    use tonic::codegen::*;
    use tonic::codegen::http::Uri;
    /// Costs, drawn from metered time: every split by day, label or component adds up to the total, to the nano-dollar.
    /// Traffic is not metered.
    ///
    /// A whole session with grpcurl; put the ids of the answers in place of OFFER and SESSION:
    ///
    /// ```text,text
    /// grpcurl -plaintext localhost:8080 list
    /// grpcurl -plaintext localhost:8080 grpc.health.v1.Health/Check
    /// grpcurl -plaintext -d '{"pageSize": 5, "orderBy": "price"}' localhost:8080 gpushopper.v1.InventoryService/ListOffers
    /// grpcurl -plaintext -d '{"offerId": "OFFER"}' localhost:8080 gpushopper.v1.InventoryService/GetOffer
    /// grpcurl -plaintext -d '{"offerId": "OFFER", "reservation": "3600s"}' localhost:8080 gpushopper.v1.SessionService/CreateSession
    /// grpcurl -plaintext -d '{"sessionId": "SESSION"}' localhost:8080 gpushopper.v1.SessionService/WatchSession
    /// grpcurl -plaintext -d '{"sessionId": "SESSION", "additionalDuration": "1800s"}' localhost:8080 gpushopper.v1.SessionService/ExtendSession
    /// grpcurl -plaintext -d '{"sessionId": "SESSION"}' localhost:8080 gpushopper.v1.SessionService/CompleteSession
    /// grpcurl -plaintext -d '{"sessionId": "SESSION"}' localhost:8080 gpushopper.v1.CostService/GetSessionCost
    /// ```
    #[derive(Debug, Clone)]
    pub struct CostServiceClient<T> {
        inner: tonic::client::Grpc<T>,
    }
    impl CostServiceClient<tonic::transport::Channel> {
        /// Attempt to create a new client by connecting to a given endpoint.
        pub async fn connect<D>(dst: D) -> Result<Self, tonic::transport::Error>
        where
            D: TryInto<tonic::transport::Endpoint>,
            D::Error: Into<StdError>,
        {
            let conn = tonic::transport::Endpoint::new(dst)?.connect().await?;
            Ok(Self::new(conn))
        }
    }
    impl<T> CostServiceClient<T>
    where
        T: tonic::client::GrpcService<tonic::body::Body>,
        T::Error: Into<StdError>,
        T::ResponseBody: Body<Data = Bytes> + std::marker::Send + 'static,
        <T::ResponseBody as Body>::Error: Into<StdError> + std::marker::Send,
    {
        pub fn new(inner: T) -> Self {
            let inner = tonic::client::Grpc::new(inner);
            Self { inner }
        }
        pub fn with_origin(inner: T, origin: Uri) -> Self {
            let inner = tonic::client::Grpc::with_origin(inner, origin);
            Self { inner }
        }
        pub fn with_interceptor<F>(
            inner: T,
            interceptor: F,
        ) -> CostServiceClient<InterceptedService<T, F>>
        where
            F: tonic::service::Interceptor,
            T::ResponseBody: Default,
            T: tonic::codegen::Service<
                http::Request<tonic::body::Body>,
                Response = http::Response<
                    <T as tonic::client::GrpcService<tonic::body::Body>>::ResponseBody,
                >,
            >,
            <T as tonic::codegen::Service<
                http::Request<tonic::body::Body>,
            >>::Error: Into<StdError> + std::marker::Send + std::marker::Sync,
        {
            CostServiceClient::new(InterceptedService::new(inner, interceptor))
        }
        /// Compress requests with the given encoding.
        ///
        /// This requires the server to support it otherwise it might respond with an
        /// error.
        #[must_use]
        pub fn send_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.inner = self.inner.send_compressed(encoding);
            self
        }
        /// Enable decompressing responses.
        #[must_use]
        pub fn accept_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.inner = self.inner.accept_compressed(encoding);
            self
        }
        /// Limits the maximum size of a decoded message.
        ///
        /// Default: `4MB`
        #[must_use]
        pub fn max_decoding_message_size(mut self, limit: usize) -> Self {
            self.inner = self.inner.max_decoding_message_size(limit);
            self
        }
        /// Limits the maximum size of an encoded message.
        ///
        /// Default: `usize::MAX`
        #[must_use]
        pub fn max_encoding_message_size(mut self, limit: usize) -> Self {
            self.inner = self.inner.max_encoding_message_size(limit);
            self
        }
        /// What one session has cost.
        ///
        /// Errors: INVALID_ARGUMENT, NOT_FOUND.
        pub async fn get_session_cost(
            &mut self,
            request: impl tonic::IntoRequest<super::GetSessionCostRequest>,
        ) -> std::result::Result<
            tonic::Response<super::GetSessionCostResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.CostService/GetSessionCost",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("gpushopper.v1.CostService", "GetSessionCost"));
            self.inner.unary(req, path, codec).await
        }
        /// What sessions cost in a range of time, in groups.
        ///
        /// Errors: INVALID_ARGUMENT; NOT_FOUND when the filter names a session that does not exist.
        pub async fn get_cost_report(
            &mut self,
            request: impl tonic::IntoRequest<super::GetCostReportRequest>,
        ) -> std::result::Result<
            tonic::Response<super::GetCostReportResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.CostService/GetCostReport",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("gpushopper.v1.CostService", "GetCostReport"));
            self.inner.unary(req, path, codec).await
        }
        /// The metered segments behind the reports, one by one.
        ///
        /// Errors: INVALID_ARGUMENT; NOT_FOUND when the filter names a session that does not exist.
        pub async fn list_ledger_entries(
            &mut self,
            request: impl tonic::IntoRequest<super::ListLedgerEntriesRequest>,
        ) -> std::result::Result<
            tonic::Response<super::ListLedgerEntriesResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.CostService/ListLedgerEntries",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new("gpushopper.v1.CostService", "ListLedgerEntries"),
                );
            self.inner.unary(req, path, codec).await
        }
        /// What is spent per hour now, by provider and in all: what sessions use, what should be gone, what no record wants, what
        /// is not ours.
        pub async fn get_spend_rate(
            &mut self,
            request: impl tonic::IntoRequest<super::GetSpendRateRequest>,
        ) -> std::result::Result<
            tonic::Response<super::GetSpendRateResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.CostService/GetSpendRate",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("gpushopper.v1.CostService", "GetSpendRate"));
            self.inner.unary(req, path, codec).await
        }
    }
}
/// One thing that can be rented, with its all-in price.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Offer {
    /// The id to rent it by. Opaque.
    #[prost(string, tag = "1")]
    pub offer_id: ::prost::alloc::string::String,
    /// Who offers it: `vastai`, `tensordock`.
    #[prost(string, tag = "2")]
    pub provider: ::prost::alloc::string::String,
    /// The physical machine or the place behind it. No session tries one twice, and filters can exclude it. Opaque.
    #[prost(string, tag = "3")]
    pub machine_id: ::prost::alloc::string::String,
    /// Canonical GPU model: `RTX 4090`, `H100 SXM`.
    #[prost(string, tag = "4")]
    pub gpu_model: ::prost::alloc::string::String,
    /// The vendor's own name of the GPU.
    #[prost(string, tag = "5")]
    pub gpu_model_raw: ::prost::alloc::string::String,
    /// Number of GPUs.
    #[prost(int32, tag = "6")]
    pub gpu_count: i32,
    /// Memory of one GPU in MiB, snapped to its nominal size (24 GiB = 24576).
    #[prost(int32, tag = "7")]
    pub gpu_memory_mib: i32,
    /// Where it stands.
    #[prost(message, optional, tag = "8")]
    pub region: ::core::option::Option<Region>,
    /// On demand or by a bid.
    #[prost(enumeration = "RentalKind", tag = "9")]
    pub rental_kind: i32,
    /// The lowest bid that would win now, for the whole machine, US dollars per hour. Interruptible offers only.
    #[prost(message, optional, tag = "10")]
    pub min_bid_per_hour: ::core::option::Option<crate::google_type::Money>,
    /// That bid for people: `$0.1234/h`. Output only.
    #[prost(string, tag = "11")]
    pub min_bid_text: ::prost::alloc::string::String,
    /// The all-in price with `rented_disk_gb` of disk.
    #[prost(message, optional, tag = "12")]
    pub price: ::core::option::Option<Price>,
    /// The price divided by the number of GPUs, US dollars per GPU and hour.
    #[prost(message, optional, tag = "13")]
    pub price_per_gpu_hour: ::core::option::Option<crate::google_type::Money>,
    /// The price per GPU for people: `$0.2467/h`. Output only.
    #[prost(string, tag = "14")]
    pub price_per_gpu_text: ::prost::alloc::string::String,
    /// What an hour of a usable machine is expected to cost, US dollars: the price, and what failed launches are paid for on
    /// average, divided by `confidence`.
    #[prost(message, optional, tag = "15")]
    pub expected_cost_per_hour: ::core::option::Option<crate::google_type::Money>,
    /// The expected cost for people: `$0.2741/h`. Output only.
    #[prost(string, tag = "16")]
    pub expected_cost_text: ::prost::alloc::string::String,
    /// The disk in the price, GB: what was asked for, rounded up to what can be rented, or the provider's default.
    #[prost(int32, tag = "17")]
    pub rented_disk_gb: i32,
    /// Sizes and price of disks.
    #[prost(message, optional, tag = "18")]
    pub disk: ::core::option::Option<DiskTerms>,
    /// Traffic prices. Shown as rates, never metered: vendors bill traffic by the byte.
    #[prost(message, optional, tag = "19")]
    pub traffic: ::core::option::Option<Traffic>,
    /// The vendor's measure of the host's reliability, 0 to 1; absent when untold.
    #[prost(double, optional, tag = "20")]
    pub reliability: ::core::option::Option<f64>,
    /// Whether the vendor has verified the host; absent when untold.
    #[prost(bool, optional, tag = "21")]
    pub verified: ::core::option::Option<bool>,
    /// Highest CUDA version of the driver: `12.4`; empty when untold.
    #[prost(string, tag = "22")]
    pub max_cuda_version: ::prost::alloc::string::String,
    /// CPU cores; fractions are shares of a core. Absent when untold.
    #[prost(double, optional, tag = "23")]
    pub cpu_cores: ::core::option::Option<f64>,
    /// Main memory in MiB; absent when untold.
    #[prost(int32, optional, tag = "24")]
    pub memory_mib: ::core::option::Option<i32>,
    /// Whether ports can be reached directly rather than through the vendor's proxy; absent when untold.
    #[prost(bool, optional, tag = "25")]
    pub direct_ports: ::core::option::Option<bool>,
    /// When the host takes the machine off the market. A rental can't outlive it.
    #[prost(message, optional, tag = "26")]
    pub host_end_time: ::core::option::Option<::prost_types::Timestamp>,
    /// How many rentals it takes: 1 for one machine; absent for a place where any number may be tried.
    #[prost(int32, optional, tag = "27")]
    pub slots: ::core::option::Option<i32>,
    /// The probability that a launch of it comes to a usable machine, 0 to 1: estimated from what the vendor tells about the
    /// host, and from how launches of its machine, host and provider went before.
    #[prost(double, tag = "28")]
    pub confidence: f64,
    /// When the provider told us of it.
    #[prost(message, optional, tag = "29")]
    pub fetch_time: ::core::option::Option<::prost_types::Timestamp>,
}
/// Where a machine stands.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Region {
    /// ISO 3166-1 alpha-2 code in capitals: `US`; empty when the vendor's text names no country we know.
    #[prost(string, tag = "1")]
    pub country_code: ::prost::alloc::string::String,
    /// State, province or city; empty when untold.
    #[prost(string, tag = "2")]
    pub area: ::prost::alloc::string::String,
    /// The vendor's own text.
    #[prost(string, tag = "3")]
    pub text: ::prost::alloc::string::String,
}
/// Which disks can be rented at an offer, and what they cost.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct DiskTerms {
    /// US dollars per GB and hour, rounded to nano-dollars.
    #[prost(message, optional, tag = "1")]
    pub price_per_gb_hour: ::core::option::Option<crate::google_type::Money>,
    /// The same as exact decimal text, finer than nano-dollars: `$0.000092592593`. Output only.
    #[prost(string, tag = "2")]
    pub price_text: ::prost::alloc::string::String,
    /// The smallest disk, GB.
    #[prost(int32, tag = "3")]
    pub min_gb: i32,
    /// Sizes are multiples of this many GB.
    #[prost(int32, tag = "4")]
    pub step_gb: i32,
    /// The largest disk, GB; 0 = untold.
    #[prost(int32, tag = "5")]
    pub max_gb: i32,
    /// The disk taken when nobody asks for a size, GB.
    #[prost(int32, tag = "6")]
    pub default_gb: i32,
}
/// What traffic costs. Not part of prices and amounts here.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Traffic {
    /// US dollars per GB sent by the machine.
    #[prost(message, optional, tag = "1")]
    pub up_per_gb: ::core::option::Option<crate::google_type::Money>,
    /// US dollars per GB received by the machine.
    #[prost(message, optional, tag = "2")]
    pub down_per_gb: ::core::option::Option<crate::google_type::Money>,
    /// Both for people: `up $0.01/GB, down $0.005/GB`. Output only.
    #[prost(string, tag = "3")]
    pub text: ::prost::alloc::string::String,
}
/// Which offers somebody wants. Absent fields don't filter; nothing is filtered by default. An offer that does not tell a
/// value that is asked for does not pass.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct OfferFilter {
    /// Only these providers, by name. Default: all. Unknown names are refused. Example: `{"providers": \["vastai"\]}`
    #[prost(string, repeated, tag = "1")]
    pub providers: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// Only these GPU models, in any usual spelling; a family name (`A100`) takes all its form factors. A memory size in the
    /// name (`A100 80GB`) asks for that memory, where neither bound below says otherwise; all names must then say the same
    /// size. Default: all.
    /// Example: `{"gpuModels": \["RTX 4090", "h100_sxm"\]}`
    #[prost(string, repeated, tag = "2")]
    pub gpu_models: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// At least this much memory per GPU, MiB, 1 to 1048576. Default: any. Example: `{"minGpuMemoryMib": 24576}`
    #[prost(int32, optional, tag = "3")]
    pub min_gpu_memory_mib: ::core::option::Option<i32>,
    /// At most this much memory per GPU, MiB, 1 to 1048576. Default: any. Example: `{"maxGpuMemoryMib": 81920}`
    #[prost(int32, optional, tag = "4")]
    pub max_gpu_memory_mib: ::core::option::Option<i32>,
    /// Exactly this many GPUs, 1 to 1024. Default: any. Example: `{"gpuCount": 2}`
    #[prost(int32, optional, tag = "5")]
    pub gpu_count: ::core::option::Option<i32>,
    /// At least this many GPUs, 1 to 1024. Default: any. Example: `{"minGpuCount": 4}`
    #[prost(int32, optional, tag = "6")]
    pub min_gpu_count: ::core::option::Option<i32>,
    /// At most this all-in price of the whole machine, US dollars per hour, above 0 and at most 1000000. Default: any.
    /// Example: `{"maxPricePerHour": {"units": "0", "nanos": 360000000}}`
    #[prost(message, optional, tag = "7")]
    pub max_price_per_hour: ::core::option::Option<crate::google_type::Money>,
    /// At most this all-in price per GPU, US dollars per hour, above 0 and at most 1000000. Default: any.
    /// Example: `{"maxPricePerGpuHour": {"units": "0", "nanos": 360000000}}`
    #[prost(message, optional, tag = "8")]
    pub max_price_per_gpu_hour: ::core::option::Option<crate::google_type::Money>,
    /// Only these places: a country by its two letters or its name (`UK` and `USA` are understood), `Europe`, `EU` (its members), or
    /// three or more letters of the vendor's text (of a country's name all of the word: `India` is not in Indiana); in any case.
    /// Default: all. Example: `{"regions": \["US", "Quebec", "EU"\]}`
    #[prost(string, repeated, tag = "9")]
    pub regions: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// At least this reliability, 0 to 1. Default: any. Example: `{"minReliability": 0.98}`
    #[prost(double, optional, tag = "10")]
    pub min_reliability: ::core::option::Option<f64>,
    /// At least this CUDA version, `major.minor`. Default: any. Example: `{"minCuda": "12.4"}`
    #[prost(string, optional, tag = "11")]
    pub min_cuda: ::core::option::Option<::prost::alloc::string::String>,
    /// Room for a disk of this many GB, 1 to 100000; prices are then with that disk. Default: the provider's disk.
    /// Example: `{"diskGb": 100}`
    #[prost(int32, optional, tag = "12")]
    pub disk_gb: ::core::option::Option<i32>,
    /// Only this kind of rental. Default: any kind in ListOffers, on demand in CreateSession.
    /// Example: `{"rentalKind": "RENTAL_KIND_ON_DEMAND"}`
    #[prost(enumeration = "RentalKind", tag = "13")]
    pub rental_kind: i32,
    /// Only hosts that the vendor has verified. Default: false. Example: `{"verifiedOnly": true}`
    #[prost(bool, tag = "14")]
    pub verified_only: bool,
    /// At least this chance of becoming usable, 0 to 1. Default: any. Example: `{"minConfidence": 0.5}`
    #[prost(double, optional, tag = "15")]
    pub min_confidence: ::core::option::Option<f64>,
    /// Not these machines, by `Offer.machine_id`. Default: none. Example: `{"excludedMachines": \["vastai:19162"\]}`
    #[prost(string, repeated, tag = "16")]
    pub excluded_machines: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// Only machines whose host keeps them on the market at least until then. Default: any; CreateSession itself asks for
    /// the reservation's end. Example: `{"minHostEndTime": "2026-12-01T00:00:00Z"}`
    #[prost(message, optional, tag = "17")]
    pub min_host_end_time: ::core::option::Option<::prost_types::Timestamp>,
    /// Only what this template can run on, by its hash; see ListTemplates. Default: any.
    /// Example: `{"templateHashId": "1b2c3d4e5f60718293a4b5c6d7e8f90a"}`
    #[prost(string, optional, tag = "18")]
    pub template_hash_id: ::core::option::Option<::prost::alloc::string::String>,
}
/// How one provider's part of the offers stands.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ProviderFreshness {
    /// The provider's name.
    #[prost(string, tag = "1")]
    pub provider: ::prost::alloc::string::String,
    /// When its offers were last fetched well; absent when never.
    #[prost(message, optional, tag = "2")]
    pub fetch_time: ::core::option::Option<::prost_types::Timestamp>,
    /// Its offers in the snapshot.
    #[prost(int32, tag = "3")]
    pub offer_count: i32,
    /// Why the last fetch failed; empty when it did not.
    #[prost(string, tag = "4")]
    pub error: ::prost::alloc::string::String,
    /// When it failed.
    #[prost(message, optional, tag = "5")]
    pub error_time: ::core::option::Option<::prost_types::Timestamp>,
    /// The vendor had more rows than it was asked for.
    #[prost(bool, tag = "6")]
    pub truncated: bool,
    /// Rows that made no sense and were left out.
    #[prost(int32, tag = "7")]
    pub skipped_rows: i32,
}
/// How a machine is rented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum RentalKind {
    /// Not said: any kind in a filter of ListOffers, on demand in CreateSession.
    Unspecified = 0,
    /// At a fixed price until it is given back.
    OnDemand = 1,
    /// By a bid: somebody who bids more takes it away.
    Interruptible = 2,
}
impl RentalKind {
    /// String value of the enum field names used in the ProtoBuf definition.
    ///
    /// The values are not transformed in any way and thus are considered stable
    /// (if the ProtoBuf definition does not change) and safe for programmatic use.
    pub fn as_str_name(&self) -> &'static str {
        match self {
            Self::Unspecified => "RENTAL_KIND_UNSPECIFIED",
            Self::OnDemand => "RENTAL_KIND_ON_DEMAND",
            Self::Interruptible => "RENTAL_KIND_INTERRUPTIBLE",
        }
    }
    /// Creates an enum from field names used in the ProtoBuf definition.
    pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
        match value {
            "RENTAL_KIND_UNSPECIFIED" => Some(Self::Unspecified),
            "RENTAL_KIND_ON_DEMAND" => Some(Self::OnDemand),
            "RENTAL_KIND_INTERRUPTIBLE" => Some(Self::Interruptible),
            _ => None,
        }
    }
}
/// A rented machine from wish to proven end. One id survives failover.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Session {
    /// Its id: 26 characters of 0-9 a-z without i, l, o, u. Sorts by creation time.
    #[prost(string, tag = "1")]
    pub session_id: ::prost::alloc::string::String,
    /// Who uses it.
    #[prost(string, tag = "2")]
    pub consumer_id: ::prost::alloc::string::String,
    /// Where it stands.
    #[prost(enumeration = "session::State", tag = "3")]
    pub state: i32,
    /// Since when.
    #[prost(message, optional, tag = "4")]
    pub state_time: ::core::option::Option<::prost_types::Timestamp>,
    /// How far the current attempt is.
    #[prost(enumeration = "Stage", tag = "5")]
    pub stage: i32,
    /// Since when.
    #[prost(message, optional, tag = "6")]
    pub stage_time: ::core::option::Option<::prost_types::Timestamp>,
    /// Why it ends; from STATE_STOPPING on.
    #[prost(enumeration = "EndReason", tag = "7")]
    pub end_reason: i32,
    /// What goes on, a sentence for people.
    #[prost(string, tag = "8")]
    pub status_message: ::prost::alloc::string::String,
    /// What went wrong; from STATE_STOPPING on, when it ends against its user's will.
    #[prost(string, tag = "9")]
    pub error: ::prost::alloc::string::String,
    /// What holds, does not hold or is unknown about it.
    #[prost(message, repeated, tag = "10")]
    pub conditions: ::prost::alloc::vec::Vec<Condition>,
    /// Each offer tried, oldest first.
    #[prost(message, repeated, tag = "11")]
    pub attempts: ::prost::alloc::vec::Vec<Attempt>,
    /// Provider of the current or last attempt; empty before the first.
    #[prost(string, tag = "12")]
    pub provider: ::prost::alloc::string::String,
    /// Offer of the current or last attempt; empty before the first.
    #[prost(string, tag = "13")]
    pub offer_id: ::prost::alloc::string::String,
    /// Canonical GPU model of that offer.
    #[prost(string, tag = "14")]
    pub gpu_model: ::prost::alloc::string::String,
    /// GPUs of that offer.
    #[prost(int32, tag = "15")]
    pub gpu_count: i32,
    /// Memory of one GPU of that offer, MiB.
    #[prost(int32, tag = "16")]
    pub gpu_memory_mib: i32,
    /// How it is rented.
    #[prost(enumeration = "RentalKind", tag = "17")]
    pub rental_kind: i32,
    /// What the current or last attempt's offer promised, with its disk.
    #[prost(message, optional, tag = "18")]
    pub offered_price: ::core::option::Option<Price>,
    /// What it costs per hour: the provider's actual price, or the offered one while that is unknown.
    #[prost(message, optional, tag = "19")]
    pub price: ::core::option::Option<Price>,
    /// Where to log in: host name or address; empty until known. Handed over for use only when STATE_RUNNING.
    #[prost(string, tag = "20")]
    pub ssh_host: ::prost::alloc::string::String,
    /// Port; 0 until known.
    #[prost(int32, tag = "21")]
    pub ssh_port: i32,
    /// User; empty until known.
    #[prost(string, tag = "22")]
    pub ssh_user: ::prost::alloc::string::String,
    /// The address is the vendor's proxy rather than the machine itself.
    #[prost(bool, tag = "23")]
    pub ssh_proxied: bool,
    /// A command to paste: `ssh -p 41022 root@203.0.113.7`; empty until the address is known.
    #[prost(string, tag = "24")]
    pub ssh_command: ::prost::alloc::string::String,
    /// SHA-256 fingerprint of the machine's host key, `SHA256:…`; empty before the first login.
    #[prost(string, tag = "25")]
    pub host_key_fingerprint: ::prost::alloc::string::String,
    /// A line for `known_hosts`; empty before the first login.
    #[prost(string, tag = "26")]
    pub known_hosts_line: ::prost::alloc::string::String,
    /// Mapped ports.
    #[prost(message, repeated, tag = "27")]
    pub ports: ::prost::alloc::vec::Vec<PortMapping>,
    /// What the GPUs showed at verification.
    #[prost(message, optional, tag = "28")]
    pub gpu_report: ::core::option::Option<GpuReport>,
    /// When it was created.
    #[prost(message, optional, tag = "29")]
    pub create_time: ::core::option::Option<::prost_types::Timestamp>,
    /// When it ends by itself. Counted anew from the first STATE_RUNNING.
    #[prost(message, optional, tag = "30")]
    pub expire_time: ::core::option::Option<::prost_types::Timestamp>,
    /// It never runs beyond this.
    #[prost(message, optional, tag = "31")]
    pub hard_max_time: ::core::option::Option<::prost_types::Timestamp>,
    /// When it first was STATE_RUNNING.
    #[prost(message, optional, tag = "32")]
    pub running_time: ::core::option::Option<::prost_types::Timestamp>,
    /// When it became STATE_STOPPED or STATE_FAILED.
    #[prost(message, optional, tag = "33")]
    pub end_time: ::core::option::Option<::prost_types::Timestamp>,
    /// What it has cost up to the last event or change.
    #[prost(message, optional, tag = "34")]
    pub cost: ::core::option::Option<CostAmount>,
    /// The cost can't change any more.
    #[prost(bool, tag = "35")]
    pub cost_final: bool,
    /// Number of its last event in the whole store's order.
    #[prost(int64, tag = "36")]
    pub revision: i64,
    /// How many events it has had.
    #[prost(int64, tag = "37")]
    pub sequence: i64,
    /// Its user's key-value pairs.
    #[prost(map = "string, string", tag = "38")]
    pub labels: ::std::collections::HashMap<
        ::prost::alloc::string::String,
        ::prost::alloc::string::String,
    >,
    /// What was asked for.
    #[prost(message, optional, tag = "39")]
    pub spec: ::core::option::Option<SessionSpec>,
    /// Since when nobody uses the machine, without the time in which nobody looked; absent while it is used, while nobody
    /// knows, and without an `idle_threshold`.
    #[prost(message, optional, tag = "40")]
    pub idle_time: ::core::option::Option<::prost_types::Timestamp>,
    /// Where mapped ports are reached: host name or address; empty until known.
    #[prost(string, tag = "41")]
    pub public_host: ::prost::alloc::string::String,
    /// Where the API of a machine with `LAUNCH_MODE_ENTRYPOINT` is reached: `<http://203.0.113.7:33526`;> empty until known. It
    /// answers when the condition TYPE_API_READY holds. Its traffic does not pass through the server.
    #[prost(string, tag = "42")]
    pub api_endpoint: ::prost::alloc::string::String,
}
/// Nested message and enum types in `Session`.
pub mod session {
    /// Where a session stands. Every ending passes STATE_STOPPING.
    #[derive(
        Clone,
        Copy,
        Debug,
        PartialEq,
        Eq,
        Hash,
        PartialOrd,
        Ord,
        ::prost::Enumeration
    )]
    #[repr(i32)]
    pub enum State {
        /// Not said.
        Unspecified = 0,
        /// Durable; nothing rented yet.
        Pending = 1,
        /// An attempt is under way.
        Provisioning = 2,
        /// Verified and handed over.
        Running = 3,
        /// Ending: machines are being destroyed and their absence proven. They may still cost money.
        Stopping = 4,
        /// Ended as its user or the rules wanted; every machine is proven gone. Final.
        Stopped = 5,
        /// Ended against its user's will; every machine is proven gone. Final.
        Failed = 6,
    }
    impl State {
        /// String value of the enum field names used in the ProtoBuf definition.
        ///
        /// The values are not transformed in any way and thus are considered stable
        /// (if the ProtoBuf definition does not change) and safe for programmatic use.
        pub fn as_str_name(&self) -> &'static str {
            match self {
                Self::Unspecified => "STATE_UNSPECIFIED",
                Self::Pending => "STATE_PENDING",
                Self::Provisioning => "STATE_PROVISIONING",
                Self::Running => "STATE_RUNNING",
                Self::Stopping => "STATE_STOPPING",
                Self::Stopped => "STATE_STOPPED",
                Self::Failed => "STATE_FAILED",
            }
        }
        /// Creates an enum from field names used in the ProtoBuf definition.
        pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
            match value {
                "STATE_UNSPECIFIED" => Some(Self::Unspecified),
                "STATE_PENDING" => Some(Self::Pending),
                "STATE_PROVISIONING" => Some(Self::Provisioning),
                "STATE_RUNNING" => Some(Self::Running),
                "STATE_STOPPING" => Some(Self::Stopping),
                "STATE_STOPPED" => Some(Self::Stopped),
                "STATE_FAILED" => Some(Self::Failed),
                _ => None,
            }
        }
    }
}
/// What a session was created with, defaults filled in. Values of environment variables and start commands may hold
/// secrets and are not told.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct SessionSpec {
    /// For what work.
    #[prost(enumeration = "WorkloadType", tag = "3")]
    pub workload_type: i32,
    /// How long, from the first STATE_RUNNING.
    #[prost(message, optional, tag = "4")]
    pub reservation: ::core::option::Option<::prost_types::Duration>,
    /// The disk's fate.
    #[prost(enumeration = "StoragePolicy", tag = "5")]
    pub storage_policy: i32,
    /// The image, as asked for or from the template; empty = the provider's default.
    #[prost(string, tag = "6")]
    pub docker_image: ::prost::alloc::string::String,
    /// The disk asked for, GB; absent = what the model needs, else the template's, else the provider's default.
    #[prost(int32, optional, tag = "7")]
    pub disk_gb: ::core::option::Option<i32>,
    /// SHA-256 of the start commands, in hex; empty when there are none.
    #[prost(string, tag = "8")]
    pub on_start_cmd_sha256: ::prost::alloc::string::String,
    /// Names of the environment variables, without their values.
    #[prost(string, repeated, tag = "9")]
    pub env_names: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// The public key that can log in, OpenSSH format.
    #[prost(string, tag = "10")]
    pub ssh_public_key: ::prost::alloc::string::String,
    /// The login stage's budget; absent = the provider's.
    #[prost(message, optional, tag = "11")]
    pub ssh_timeout: ::core::option::Option<::prost_types::Duration>,
    /// What is proven before STATE_RUNNING.
    #[prost(enumeration = "VerifyLevel", tag = "12")]
    pub verify: i32,
    /// The bid for interruptible offers, US dollars per hour; absent = the lowest that wins.
    #[prost(message, optional, tag = "13")]
    pub bid: ::core::option::Option<crate::google_type::Money>,
    /// What happens when an attempt fails.
    #[prost(message, optional, tag = "14")]
    pub failover: ::core::option::Option<Failover>,
    /// No attempt above this price, US dollars per hour; absent = no limit.
    #[prost(message, optional, tag = "15")]
    pub max_price_per_hour: ::core::option::Option<crate::google_type::Money>,
    /// The whole session may not cost more, US dollars; absent = no limit.
    #[prost(message, optional, tag = "16")]
    pub max_total_cost: ::core::option::Option<crate::google_type::Money>,
    /// A second session on the same offer was allowed.
    #[prost(bool, tag = "17")]
    pub allow_same_offer: bool,
    /// It ends when nobody used its machine for so long; 0 = never.
    #[prost(message, optional, tag = "18")]
    pub idle_threshold: ::core::option::Option<::prost_types::Duration>,
    /// The template that what was not asked for was taken from; empty = none.
    #[prost(string, tag = "19")]
    pub template_hash_id: ::prost::alloc::string::String,
    /// What the machine does when it is up.
    #[prost(enumeration = "LaunchMode", tag = "20")]
    pub launch_mode: i32,
    /// The model that runs on it; empty = none was named.
    #[prost(string, tag = "21")]
    pub model_id: ::prost::alloc::string::String,
    /// How the model's weights are stored, as said.
    #[prost(enumeration = "Quantization", tag = "22")]
    pub quantization: i32,
    /// Ports inside the machine that are mapped, beside SSH and the template's.
    #[prost(int32, repeated, tag = "23")]
    pub exposed_ports: ::prost::alloc::vec::Vec<i32>,
    /// Names of the secret environment variables.
    #[prost(string, repeated, tag = "24")]
    pub secret_env_names: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// Host of the registry that the image is fetched from with a login; empty = without, or the usual one.
    #[prost(string, tag = "25")]
    pub registry_server: ::prost::alloc::string::String,
    /// What was to be rented.
    #[prost(oneof = "session_spec::Target", tags = "1, 2")]
    pub target: ::core::option::Option<session_spec::Target>,
}
/// Nested message and enum types in `SessionSpec`.
pub mod session_spec {
    /// What was to be rented.
    #[derive(Clone, PartialEq, ::prost::Oneof)]
    pub enum Target {
        /// This offer.
        #[prost(string, tag = "1")]
        OfferId(::prost::alloc::string::String),
        /// The best that fits.
        #[prost(message, tag = "2")]
        Requirements(super::Requirements),
    }
}
/// What to rent, when any offer that fits will do.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Requirements {
    /// What fits. Default: everything on demand. Example: `{"filter": {"gpuModels": \["H100"\], "gpuCount": 1}}`
    #[prost(message, optional, tag = "1")]
    pub filter: ::core::option::Option<OfferFilter>,
    /// What is best: `expected_cost`, `price`, `price_per_gpu`, `reliability` or `gpu_memory`. Default: `expected_cost`.
    /// Example: `{"orderBy": "price"}`
    #[prost(string, tag = "2")]
    pub order_by: ::prost::alloc::string::String,
}
/// When and how to try another offer after a failed attempt.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Failover {
    /// How widely to look. Default: `FAILOVER_SCOPE_NONE` with `offer_id`, `FAILOVER_SCOPE_ANY` with `requirements`.
    /// Example: `{"scope": "FAILOVER_SCOPE_SAME_GPU"}`
    #[prost(enumeration = "FailoverScope", tag = "1")]
    pub scope: i32,
    /// At most this many attempts whose machine came to be, the first included, 1 to 20. Default: 8.
    /// Example: `{"maxAttempts": 3}`
    #[prost(int32, optional, tag = "2")]
    pub max_attempts: ::core::option::Option<i32>,
    /// No next offer above this price, US dollars per hour, above 0 and at most 1000000. Default: the session's `max_price_per_hour`.
    /// Example: `{"maxPricePerHour": {"units": "0", "nanos": 360000000}}`
    #[prost(message, optional, tag = "3")]
    pub max_price_per_hour: ::core::option::Option<crate::google_type::Money>,
}
/// Something that holds, does not hold or is unknown about a session.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Condition {
    /// What it speaks of.
    #[prost(enumeration = "condition::Type", tag = "1")]
    pub r#type: i32,
    /// Whether it holds.
    #[prost(enumeration = "condition::Status", tag = "2")]
    pub status: i32,
    /// Why, in one word.
    #[prost(string, tag = "3")]
    pub reason: ::prost::alloc::string::String,
    /// Since when.
    #[prost(message, optional, tag = "4")]
    pub time: ::core::option::Option<::prost_types::Timestamp>,
}
/// Nested message and enum types in `Condition`.
pub mod condition {
    /// What a condition speaks of.
    #[derive(
        Clone,
        Copy,
        Debug,
        PartialEq,
        Eq,
        Hash,
        PartialOrd,
        Ord,
        ::prost::Enumeration
    )]
    #[repr(i32)]
    pub enum Type {
        /// Never sent.
        Unspecified = 0,
        /// The machine takes our login; looked at every 10 minutes while STATE_RUNNING. Its reason tells a silent host
        /// (`host_silent`), a lost key (`key_refused`) and another host key (`host_key_changed`) apart.
        SshReachable = 1,
        /// The GPUs are what was asked for.
        GpuVerified = 2,
        /// The price is the offered one, within tolerance.
        PriceOk = 3,
        /// The provider answers and shows the machine.
        ProviderReachable = 4,
        /// The machine is on and at its provider.
        InstancePresent = 5,
        /// Every machine of the session is proven gone.
        DestroyConfirmed = 6,
        /// Nobody uses the machine; only with an `idle_threshold`. The reason is the signal that decides: `ssh_connections`,
        /// `gpu_processes`, `gpu_memory`, `gpu_utilization`, `provider_utilization` or `keep_alive` when it is used or that
        /// can't be told, a failed login's kind, or `no_activity`.
        Idle = 7,
        /// The consumer's key that was asked for last is on the machine; only after RotateSessionKey.
        KeyInstalled = 8,
        /// The API at `api_endpoint` answers; only with `LAUNCH_MODE_ENTRYPOINT`.
        ApiReady = 9,
    }
    impl Type {
        /// String value of the enum field names used in the ProtoBuf definition.
        ///
        /// The values are not transformed in any way and thus are considered stable
        /// (if the ProtoBuf definition does not change) and safe for programmatic use.
        pub fn as_str_name(&self) -> &'static str {
            match self {
                Self::Unspecified => "TYPE_UNSPECIFIED",
                Self::SshReachable => "TYPE_SSH_REACHABLE",
                Self::GpuVerified => "TYPE_GPU_VERIFIED",
                Self::PriceOk => "TYPE_PRICE_OK",
                Self::ProviderReachable => "TYPE_PROVIDER_REACHABLE",
                Self::InstancePresent => "TYPE_INSTANCE_PRESENT",
                Self::DestroyConfirmed => "TYPE_DESTROY_CONFIRMED",
                Self::Idle => "TYPE_IDLE",
                Self::KeyInstalled => "TYPE_KEY_INSTALLED",
                Self::ApiReady => "TYPE_API_READY",
            }
        }
        /// Creates an enum from field names used in the ProtoBuf definition.
        pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
            match value {
                "TYPE_UNSPECIFIED" => Some(Self::Unspecified),
                "TYPE_SSH_REACHABLE" => Some(Self::SshReachable),
                "TYPE_GPU_VERIFIED" => Some(Self::GpuVerified),
                "TYPE_PRICE_OK" => Some(Self::PriceOk),
                "TYPE_PROVIDER_REACHABLE" => Some(Self::ProviderReachable),
                "TYPE_INSTANCE_PRESENT" => Some(Self::InstancePresent),
                "TYPE_DESTROY_CONFIRMED" => Some(Self::DestroyConfirmed),
                "TYPE_IDLE" => Some(Self::Idle),
                "TYPE_KEY_INSTALLED" => Some(Self::KeyInstalled),
                "TYPE_API_READY" => Some(Self::ApiReady),
                _ => None,
            }
        }
    }
    /// A three-valued answer.
    #[derive(
        Clone,
        Copy,
        Debug,
        PartialEq,
        Eq,
        Hash,
        PartialOrd,
        Ord,
        ::prost::Enumeration
    )]
    #[repr(i32)]
    pub enum Status {
        /// Never sent.
        Unspecified = 0,
        /// It holds.
        True = 1,
        /// It does not hold.
        False = 2,
        /// Nobody knows.
        Unknown = 3,
    }
    impl Status {
        /// String value of the enum field names used in the ProtoBuf definition.
        ///
        /// The values are not transformed in any way and thus are considered stable
        /// (if the ProtoBuf definition does not change) and safe for programmatic use.
        pub fn as_str_name(&self) -> &'static str {
            match self {
                Self::Unspecified => "STATUS_UNSPECIFIED",
                Self::True => "STATUS_TRUE",
                Self::False => "STATUS_FALSE",
                Self::Unknown => "STATUS_UNKNOWN",
            }
        }
        /// Creates an enum from field names used in the ProtoBuf definition.
        pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
            match value {
                "STATUS_UNSPECIFIED" => Some(Self::Unspecified),
                "STATUS_TRUE" => Some(Self::True),
                "STATUS_FALSE" => Some(Self::False),
                "STATUS_UNKNOWN" => Some(Self::Unknown),
                _ => None,
            }
        }
    }
}
/// One offer tried.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Attempt {
    /// 1 to 99, in order.
    #[prost(int32, tag = "1")]
    pub number: i32,
    /// The offer.
    #[prost(string, tag = "2")]
    pub offer_id: ::prost::alloc::string::String,
    /// Its provider.
    #[prost(string, tag = "3")]
    pub provider: ::prost::alloc::string::String,
    /// Its machine or place.
    #[prost(string, tag = "4")]
    pub machine_id: ::prost::alloc::string::String,
    /// Its canonical GPU model.
    #[prost(string, tag = "5")]
    pub gpu_model: ::prost::alloc::string::String,
    /// Its GPUs.
    #[prost(int32, tag = "6")]
    pub gpu_count: i32,
    /// Memory of one GPU, MiB.
    #[prost(int32, tag = "7")]
    pub gpu_memory_mib: i32,
    /// Where it stands.
    #[prost(message, optional, tag = "8")]
    pub region: ::core::option::Option<Region>,
    /// How it is rented.
    #[prost(enumeration = "RentalKind", tag = "9")]
    pub rental_kind: i32,
    /// What the offer promised, with this disk.
    #[prost(message, optional, tag = "10")]
    pub offered_price: ::core::option::Option<Price>,
    /// The disk rented, GB.
    #[prost(int32, tag = "11")]
    pub disk_gb: i32,
    /// When it began.
    #[prost(message, optional, tag = "12")]
    pub start_time: ::core::option::Option<::prost_types::Timestamp>,
    /// When it ended; absent while it is under way.
    #[prost(message, optional, tag = "13")]
    pub end_time: ::core::option::Option<::prost_types::Timestamp>,
    /// How far it came.
    #[prost(enumeration = "Stage", tag = "14")]
    pub stage: i32,
    /// A machine came to be.
    #[prost(bool, tag = "15")]
    pub came_to_be: bool,
    /// Why it failed.
    #[prost(enumeration = "AttemptFailure", tag = "16")]
    pub failure: i32,
    /// The provider's or our own words about it.
    #[prost(string, tag = "17")]
    pub text: ::prost::alloc::string::String,
    /// What it has cost, US dollars.
    #[prost(message, optional, tag = "18")]
    pub cost: ::core::option::Option<crate::google_type::Money>,
    /// The cost as exact decimal text: `$0.0123`. Output only.
    #[prost(string, tag = "19")]
    pub cost_text: ::prost::alloc::string::String,
}
/// A port of the machine and where it can be reached.
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct PortMapping {
    /// The port inside the machine.
    #[prost(int32, tag = "1")]
    pub inside: i32,
    /// The port at `Session.public_host` that leads to it.
    #[prost(int32, tag = "2")]
    pub outside: i32,
}
/// What `nvidia-smi` told.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct GpuReport {
    /// Each GPU.
    #[prost(message, repeated, tag = "1")]
    pub gpus: ::prost::alloc::vec::Vec<ReportedGpu>,
    /// The driver's version: `550.54.15`; empty when untold.
    #[prost(string, tag = "2")]
    pub driver_version: ::prost::alloc::string::String,
    /// Highest CUDA version of the driver: `12.4`; empty when untold.
    #[prost(string, tag = "3")]
    pub cuda_version: ::prost::alloc::string::String,
}
/// One GPU as its machine reports it.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ReportedGpu {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: ::prost::alloc::string::String,
    /// Its memory, MiB.
    #[prost(int32, tag = "2")]
    pub memory_mib: i32,
}
/// A login at an image registry. Kept sealed, never told.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
#[prost(skip_debug)]
pub struct RegistryLogin {
    /// The registry's host. Default: the usual one (Docker Hub). Example: `{"server": "ghcr.io"}`
    #[prost(string, tag = "1")]
    pub server: ::prost::alloc::string::String,
    /// The user. Required. Example: `{"username": "alice"}`
    #[prost(string, tag = "2")]
    pub username: ::prost::alloc::string::String,
    /// The password or token. Required. Secret. Example: `{"password": "token"}`
    #[prost(string, tag = "3")]
    pub password: ::prost::alloc::string::String,
}
/// Which sessions. Absent fields don't filter.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct SessionFilter {
    /// Of this consumer. Default: all that the caller may see. Example: `{"consumerId": "alice"}`
    #[prost(string, optional, tag = "1")]
    pub consumer_id: ::core::option::Option<::prost::alloc::string::String>,
    /// Whose current or last attempt is at this provider. Default: any. Example: `{"provider": "vastai"}`
    #[prost(string, optional, tag = "2")]
    pub provider: ::core::option::Option<::prost::alloc::string::String>,
    /// In one of these states. Default: any in ListSessions; in WatchSessions the open ones for the snapshot and any for
    /// events. Example: `{"states": \["STATE_RUNNING", "STATE_STOPPING"\]}`
    #[prost(enumeration = "session::State", repeated, tag = "3")]
    pub states: ::prost::alloc::vec::Vec<i32>,
    /// With all these labels. Default: any. Example: `{"labels": {"team": "vision"}}`
    #[prost(map = "string, string", tag = "4")]
    pub labels: ::std::collections::HashMap<
        ::prost::alloc::string::String,
        ::prost::alloc::string::String,
    >,
}
/// One attempt's machine at its provider: a debt, until it is proven gone.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Instance {
    /// The label (or name) it carries at its vendor.
    #[prost(string, tag = "1")]
    pub label: ::prost::alloc::string::String,
    /// The session it belongs to.
    #[prost(string, tag = "2")]
    pub session_id: ::prost::alloc::string::String,
    /// Which attempt's it is.
    #[prost(int32, tag = "3")]
    pub attempt: i32,
    /// Its provider.
    #[prost(string, tag = "4")]
    pub provider: ::prost::alloc::string::String,
    /// The account it is on; empty until known.
    #[prost(string, tag = "5")]
    pub account: ::prost::alloc::string::String,
    /// The offer taken.
    #[prost(string, tag = "6")]
    pub offer_id: ::prost::alloc::string::String,
    /// The machine behind it.
    #[prost(string, tag = "7")]
    pub machine_id: ::prost::alloc::string::String,
    /// The vendor's id; empty until known.
    #[prost(string, tag = "8")]
    pub native_id: ::prost::alloc::string::String,
    /// What became of the launch.
    #[prost(enumeration = "instance::Launch", tag = "9")]
    pub launch: i32,
    /// Whether we want it.
    #[prost(enumeration = "instance::Desired", tag = "10")]
    pub desired: i32,
    /// When the intent was written.
    #[prost(message, optional, tag = "11")]
    pub intend_time: ::core::option::Option<::prost_types::Timestamp>,
    /// When the launch was answered.
    #[prost(message, optional, tag = "12")]
    pub launch_time: ::core::option::Option<::prost_types::Timestamp>,
    /// What it costs per hour, as far as known.
    #[prost(message, optional, tag = "13")]
    pub price: ::core::option::Option<Price>,
    /// What it did when it was last seen.
    #[prost(enumeration = "instance::Status", tag = "14")]
    pub status: i32,
    /// The vendor's own words for that.
    #[prost(string, tag = "15")]
    pub raw_status: ::prost::alloc::string::String,
    /// When it was last seen.
    #[prost(message, optional, tag = "16")]
    pub seen_time: ::core::option::Option<::prost_types::Timestamp>,
    /// Destroy calls made.
    #[prost(int32, tag = "17")]
    pub destroy_tries: i32,
    /// When the next destroy call is due.
    #[prost(message, optional, tag = "18")]
    pub next_destroy_time: ::core::option::Option<::prost_types::Timestamp>,
    /// When the vendor last accepted the destroy or said that it is not there.
    #[prost(message, optional, tag = "19")]
    pub destroy_answer_time: ::core::option::Option<::prost_types::Timestamp>,
    /// The vendor refuses to destroy until then.
    #[prost(message, optional, tag = "20")]
    pub destroy_refused_until_time: ::core::option::Option<::prost_types::Timestamp>,
    /// What the last failed destroy call said.
    #[prost(string, tag = "21")]
    pub destroy_error: ::prost::alloc::string::String,
    /// On what evidence the debt is settled.
    #[prost(enumeration = "instance::Evidence", tag = "22")]
    pub evidence: i32,
    /// When it was settled; absent while it is open.
    #[prost(message, optional, tag = "23")]
    pub settle_time: ::core::option::Option<::prost_types::Timestamp>,
}
/// Nested message and enum types in `Instance`.
pub mod instance {
    /// What became of the launch call.
    #[derive(
        Clone,
        Copy,
        Debug,
        PartialEq,
        Eq,
        Hash,
        PartialOrd,
        Ord,
        ::prost::Enumeration
    )]
    #[repr(i32)]
    pub enum Launch {
        /// Never sent.
        Unspecified = 0,
        /// The call is out or about to be.
        Intended = 1,
        /// The vendor gave an id.
        Accepted = 2,
        /// Nobody knows. Resolved by looking, never by launching again.
        Unknown = 3,
        /// The vendor refused.
        Refused = 4,
    }
    impl Launch {
        /// String value of the enum field names used in the ProtoBuf definition.
        ///
        /// The values are not transformed in any way and thus are considered stable
        /// (if the ProtoBuf definition does not change) and safe for programmatic use.
        pub fn as_str_name(&self) -> &'static str {
            match self {
                Self::Unspecified => "LAUNCH_UNSPECIFIED",
                Self::Intended => "LAUNCH_INTENDED",
                Self::Accepted => "LAUNCH_ACCEPTED",
                Self::Unknown => "LAUNCH_UNKNOWN",
                Self::Refused => "LAUNCH_REFUSED",
            }
        }
        /// Creates an enum from field names used in the ProtoBuf definition.
        pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
            match value {
                "LAUNCH_UNSPECIFIED" => Some(Self::Unspecified),
                "LAUNCH_INTENDED" => Some(Self::Intended),
                "LAUNCH_ACCEPTED" => Some(Self::Accepted),
                "LAUNCH_UNKNOWN" => Some(Self::Unknown),
                "LAUNCH_REFUSED" => Some(Self::Refused),
                _ => None,
            }
        }
    }
    /// Whether we want it to exist.
    #[derive(
        Clone,
        Copy,
        Debug,
        PartialEq,
        Eq,
        Hash,
        PartialOrd,
        Ord,
        ::prost::Enumeration
    )]
    #[repr(i32)]
    pub enum Desired {
        /// Never sent.
        Unspecified = 0,
        /// It should be there.
        Present = 1,
        /// It should be gone.
        Gone = 2,
    }
    impl Desired {
        /// String value of the enum field names used in the ProtoBuf definition.
        ///
        /// The values are not transformed in any way and thus are considered stable
        /// (if the ProtoBuf definition does not change) and safe for programmatic use.
        pub fn as_str_name(&self) -> &'static str {
            match self {
                Self::Unspecified => "DESIRED_UNSPECIFIED",
                Self::Present => "DESIRED_PRESENT",
                Self::Gone => "DESIRED_GONE",
            }
        }
        /// Creates an enum from field names used in the ProtoBuf definition.
        pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
            match value {
                "DESIRED_UNSPECIFIED" => Some(Self::Unspecified),
                "DESIRED_PRESENT" => Some(Self::Present),
                "DESIRED_GONE" => Some(Self::Gone),
                _ => None,
            }
        }
    }
    /// What it does, in our words.
    #[derive(
        Clone,
        Copy,
        Debug,
        PartialEq,
        Eq,
        Hash,
        PartialOrd,
        Ord,
        ::prost::Enumeration
    )]
    #[repr(i32)]
    pub enum Status {
        /// It has not been seen.
        Unspecified = 0,
        /// Accepted, nothing started yet.
        Scheduled = 1,
        /// Image being fetched, or booting.
        Starting = 2,
        /// Up, which is not yet usable.
        Running = 3,
        /// Paused, outbid, out of credit, or never started.
        Stopped = 4,
        /// It crashed or could not be started.
        Failed = 5,
        /// The host has lost contact with the vendor.
        Offline = 6,
        /// Being deleted.
        Deleting = 7,
        /// The vendor says that it is gone.
        Gone = 8,
        /// The vendor used a word we don't know.
        Unknown = 9,
    }
    impl Status {
        /// String value of the enum field names used in the ProtoBuf definition.
        ///
        /// The values are not transformed in any way and thus are considered stable
        /// (if the ProtoBuf definition does not change) and safe for programmatic use.
        pub fn as_str_name(&self) -> &'static str {
            match self {
                Self::Unspecified => "STATUS_UNSPECIFIED",
                Self::Scheduled => "STATUS_SCHEDULED",
                Self::Starting => "STATUS_STARTING",
                Self::Running => "STATUS_RUNNING",
                Self::Stopped => "STATUS_STOPPED",
                Self::Failed => "STATUS_FAILED",
                Self::Offline => "STATUS_OFFLINE",
                Self::Deleting => "STATUS_DELETING",
                Self::Gone => "STATUS_GONE",
                Self::Unknown => "STATUS_UNKNOWN",
            }
        }
        /// Creates an enum from field names used in the ProtoBuf definition.
        pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
            match value {
                "STATUS_UNSPECIFIED" => Some(Self::Unspecified),
                "STATUS_SCHEDULED" => Some(Self::Scheduled),
                "STATUS_STARTING" => Some(Self::Starting),
                "STATUS_RUNNING" => Some(Self::Running),
                "STATUS_STOPPED" => Some(Self::Stopped),
                "STATUS_FAILED" => Some(Self::Failed),
                "STATUS_OFFLINE" => Some(Self::Offline),
                "STATUS_DELETING" => Some(Self::Deleting),
                "STATUS_GONE" => Some(Self::Gone),
                "STATUS_UNKNOWN" => Some(Self::Unknown),
                _ => None,
            }
        }
    }
    /// Why the debt is settled.
    #[derive(
        Clone,
        Copy,
        Debug,
        PartialEq,
        Eq,
        Hash,
        PartialOrd,
        Ord,
        ::prost::Enumeration
    )]
    #[repr(i32)]
    pub enum Evidence {
        /// It is not settled.
        Unspecified = 0,
        /// The vendor refused the launch in so many words.
        LaunchRefused = 1,
        /// It was never launched.
        NeverLaunched = 2,
        /// Several complete lists did not have it.
        NeverAppeared = 3,
        /// Two not-founds by id, apart, after the destroy was answered.
        NotFoundTwice = 4,
        /// Absent from several complete lists and not found by id, without our having asked for it.
        Vanished = 5,
        /// An operator said so (SettleInstance).
        Operator = 6,
    }
    impl Evidence {
        /// String value of the enum field names used in the ProtoBuf definition.
        ///
        /// The values are not transformed in any way and thus are considered stable
        /// (if the ProtoBuf definition does not change) and safe for programmatic use.
        pub fn as_str_name(&self) -> &'static str {
            match self {
                Self::Unspecified => "EVIDENCE_UNSPECIFIED",
                Self::LaunchRefused => "EVIDENCE_LAUNCH_REFUSED",
                Self::NeverLaunched => "EVIDENCE_NEVER_LAUNCHED",
                Self::NeverAppeared => "EVIDENCE_NEVER_APPEARED",
                Self::NotFoundTwice => "EVIDENCE_NOT_FOUND_TWICE",
                Self::Vanished => "EVIDENCE_VANISHED",
                Self::Operator => "EVIDENCE_OPERATOR",
            }
        }
        /// Creates an enum from field names used in the ProtoBuf definition.
        pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
            match value {
                "EVIDENCE_UNSPECIFIED" => Some(Self::Unspecified),
                "EVIDENCE_LAUNCH_REFUSED" => Some(Self::LaunchRefused),
                "EVIDENCE_NEVER_LAUNCHED" => Some(Self::NeverLaunched),
                "EVIDENCE_NEVER_APPEARED" => Some(Self::NeverAppeared),
                "EVIDENCE_NOT_FOUND_TWICE" => Some(Self::NotFoundTwice),
                "EVIDENCE_VANISHED" => Some(Self::Vanished),
                "EVIDENCE_OPERATOR" => Some(Self::Operator),
                _ => None,
            }
        }
    }
}
/// What a machine is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum WorkloadType {
    /// Not said: `WORKLOAD_TYPE_SSH`.
    Unspecified = 0,
    /// A language model.
    Llm = 1,
    /// A language model served by vLLM.
    LlmVllm = 2,
    /// A language model served by TGI.
    LlmTgi = 3,
    /// Training.
    Training = 4,
    /// A batch job.
    Batch = 5,
    /// Interactive work.
    Interactive = 6,
    /// Inference.
    Inference = 7,
    /// A shell.
    Ssh = 8,
    /// A benchmark.
    Benchmark = 9,
}
impl WorkloadType {
    /// String value of the enum field names used in the ProtoBuf definition.
    ///
    /// The values are not transformed in any way and thus are considered stable
    /// (if the ProtoBuf definition does not change) and safe for programmatic use.
    pub fn as_str_name(&self) -> &'static str {
        match self {
            Self::Unspecified => "WORKLOAD_TYPE_UNSPECIFIED",
            Self::Llm => "WORKLOAD_TYPE_LLM",
            Self::LlmVllm => "WORKLOAD_TYPE_LLM_VLLM",
            Self::LlmTgi => "WORKLOAD_TYPE_LLM_TGI",
            Self::Training => "WORKLOAD_TYPE_TRAINING",
            Self::Batch => "WORKLOAD_TYPE_BATCH",
            Self::Interactive => "WORKLOAD_TYPE_INTERACTIVE",
            Self::Inference => "WORKLOAD_TYPE_INFERENCE",
            Self::Ssh => "WORKLOAD_TYPE_SSH",
            Self::Benchmark => "WORKLOAD_TYPE_BENCHMARK",
        }
    }
    /// Creates an enum from field names used in the ProtoBuf definition.
    pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
        match value {
            "WORKLOAD_TYPE_UNSPECIFIED" => Some(Self::Unspecified),
            "WORKLOAD_TYPE_LLM" => Some(Self::Llm),
            "WORKLOAD_TYPE_LLM_VLLM" => Some(Self::LlmVllm),
            "WORKLOAD_TYPE_LLM_TGI" => Some(Self::LlmTgi),
            "WORKLOAD_TYPE_TRAINING" => Some(Self::Training),
            "WORKLOAD_TYPE_BATCH" => Some(Self::Batch),
            "WORKLOAD_TYPE_INTERACTIVE" => Some(Self::Interactive),
            "WORKLOAD_TYPE_INFERENCE" => Some(Self::Inference),
            "WORKLOAD_TYPE_SSH" => Some(Self::Ssh),
            "WORKLOAD_TYPE_BENCHMARK" => Some(Self::Benchmark),
            _ => None,
        }
    }
}
/// What a machine does when it is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum LaunchMode {
    /// Not said: `LAUNCH_MODE_SSH`.
    Unspecified = 0,
    /// It waits for logins.
    Ssh = 1,
    /// It starts a server program by itself, and takes logins as well.
    Entrypoint = 2,
}
impl LaunchMode {
    /// String value of the enum field names used in the ProtoBuf definition.
    ///
    /// The values are not transformed in any way and thus are considered stable
    /// (if the ProtoBuf definition does not change) and safe for programmatic use.
    pub fn as_str_name(&self) -> &'static str {
        match self {
            Self::Unspecified => "LAUNCH_MODE_UNSPECIFIED",
            Self::Ssh => "LAUNCH_MODE_SSH",
            Self::Entrypoint => "LAUNCH_MODE_ENTRYPOINT",
        }
    }
    /// Creates an enum from field names used in the ProtoBuf definition.
    pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
        match value {
            "LAUNCH_MODE_UNSPECIFIED" => Some(Self::Unspecified),
            "LAUNCH_MODE_SSH" => Some(Self::Ssh),
            "LAUNCH_MODE_ENTRYPOINT" => Some(Self::Entrypoint),
            _ => None,
        }
    }
}
/// How a model's weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum Quantization {
    /// Not said: as the model's name tells, else 16 bits.
    Unspecified = 0,
    /// 32 bits a parameter.
    Fp32 = 1,
    /// 16 bits.
    Fp16 = 2,
    /// 16 bits, with the exponent of 32.
    Bf16 = 3,
    /// 8 bits, floating.
    Fp8 = 4,
    /// 8 bits.
    Int8 = 5,
    /// 4 bits and scales, by AWQ.
    Awq = 6,
    /// 4 bits and scales, by GPTQ.
    Gptq = 7,
    /// 4 bits.
    Int4 = 8,
    /// 4 bits, in a GGUF file.
    GgufQ4 = 9,
}
impl Quantization {
    /// String value of the enum field names used in the ProtoBuf definition.
    ///
    /// The values are not transformed in any way and thus are considered stable
    /// (if the ProtoBuf definition does not change) and safe for programmatic use.
    pub fn as_str_name(&self) -> &'static str {
        match self {
            Self::Unspecified => "QUANTIZATION_UNSPECIFIED",
            Self::Fp32 => "QUANTIZATION_FP32",
            Self::Fp16 => "QUANTIZATION_FP16",
            Self::Bf16 => "QUANTIZATION_BF16",
            Self::Fp8 => "QUANTIZATION_FP8",
            Self::Int8 => "QUANTIZATION_INT8",
            Self::Awq => "QUANTIZATION_AWQ",
            Self::Gptq => "QUANTIZATION_GPTQ",
            Self::Int4 => "QUANTIZATION_INT4",
            Self::GgufQ4 => "QUANTIZATION_GGUF_Q4",
        }
    }
    /// Creates an enum from field names used in the ProtoBuf definition.
    pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
        match value {
            "QUANTIZATION_UNSPECIFIED" => Some(Self::Unspecified),
            "QUANTIZATION_FP32" => Some(Self::Fp32),
            "QUANTIZATION_FP16" => Some(Self::Fp16),
            "QUANTIZATION_BF16" => Some(Self::Bf16),
            "QUANTIZATION_FP8" => Some(Self::Fp8),
            "QUANTIZATION_INT8" => Some(Self::Int8),
            "QUANTIZATION_AWQ" => Some(Self::Awq),
            "QUANTIZATION_GPTQ" => Some(Self::Gptq),
            "QUANTIZATION_INT4" => Some(Self::Int4),
            "QUANTIZATION_GGUF_Q4" => Some(Self::GgufQ4),
            _ => None,
        }
    }
}
/// What happens to the disk at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum StoragePolicy {
    /// Not said: `STORAGE_POLICY_DESTROY`.
    Unspecified = 0,
    /// It goes with the machine.
    Destroy = 1,
    /// It should outlive the machine where the provider can. None can today: accepted with a warning, and destroyed.
    Preserve = 2,
}
impl StoragePolicy {
    /// String value of the enum field names used in the ProtoBuf definition.
    ///
    /// The values are not transformed in any way and thus are considered stable
    /// (if the ProtoBuf definition does not change) and safe for programmatic use.
    pub fn as_str_name(&self) -> &'static str {
        match self {
            Self::Unspecified => "STORAGE_POLICY_UNSPECIFIED",
            Self::Destroy => "STORAGE_POLICY_DESTROY",
            Self::Preserve => "STORAGE_POLICY_PRESERVE",
        }
    }
    /// Creates an enum from field names used in the ProtoBuf definition.
    pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
        match value {
            "STORAGE_POLICY_UNSPECIFIED" => Some(Self::Unspecified),
            "STORAGE_POLICY_DESTROY" => Some(Self::Destroy),
            "STORAGE_POLICY_PRESERVE" => Some(Self::Preserve),
            _ => None,
        }
    }
}
/// How much is proven before a session is RUNNING.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum VerifyLevel {
    /// Not said: `VERIFY_LEVEL_GPU`.
    Unspecified = 0,
    /// A login is enough.
    Ssh = 1,
    /// A login, then `nvidia-smi`: number, model and memory of the GPUs are the offer's, and CUDA is what the filter, the template
    /// or an offer that was named tells. No answer leaves the condition GPU_VERIFIED unknown.
    Gpu = 2,
    /// Only with everything proven, the CUDA version of whatever offer was chosen included.
    Strict = 3,
}
impl VerifyLevel {
    /// String value of the enum field names used in the ProtoBuf definition.
    ///
    /// The values are not transformed in any way and thus are considered stable
    /// (if the ProtoBuf definition does not change) and safe for programmatic use.
    pub fn as_str_name(&self) -> &'static str {
        match self {
            Self::Unspecified => "VERIFY_LEVEL_UNSPECIFIED",
            Self::Ssh => "VERIFY_LEVEL_SSH",
            Self::Gpu => "VERIFY_LEVEL_GPU",
            Self::Strict => "VERIFY_LEVEL_STRICT",
        }
    }
    /// Creates an enum from field names used in the ProtoBuf definition.
    pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
        match value {
            "VERIFY_LEVEL_UNSPECIFIED" => Some(Self::Unspecified),
            "VERIFY_LEVEL_SSH" => Some(Self::Ssh),
            "VERIFY_LEVEL_GPU" => Some(Self::Gpu),
            "VERIFY_LEVEL_STRICT" => Some(Self::Strict),
            _ => None,
        }
    }
}
/// How widely the next attempt may look when one fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum FailoverScope {
    /// Not said: `FAILOVER_SCOPE_NONE` with `offer_id`, `FAILOVER_SCOPE_ANY` with `requirements`.
    Unspecified = 0,
    /// No further attempt.
    None = 1,
    /// The same GPU model and count and at least the same memory.
    SameGpu = 2,
    /// At least the same memory and count, any model.
    SameMemory = 3,
    /// Anything that meets the request.
    Any = 4,
}
impl FailoverScope {
    /// String value of the enum field names used in the ProtoBuf definition.
    ///
    /// The values are not transformed in any way and thus are considered stable
    /// (if the ProtoBuf definition does not change) and safe for programmatic use.
    pub fn as_str_name(&self) -> &'static str {
        match self {
            Self::Unspecified => "FAILOVER_SCOPE_UNSPECIFIED",
            Self::None => "FAILOVER_SCOPE_NONE",
            Self::SameGpu => "FAILOVER_SCOPE_SAME_GPU",
            Self::SameMemory => "FAILOVER_SCOPE_SAME_MEMORY",
            Self::Any => "FAILOVER_SCOPE_ANY",
        }
    }
    /// Creates an enum from field names used in the ProtoBuf definition.
    pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
        match value {
            "FAILOVER_SCOPE_UNSPECIFIED" => Some(Self::Unspecified),
            "FAILOVER_SCOPE_NONE" => Some(Self::None),
            "FAILOVER_SCOPE_SAME_GPU" => Some(Self::SameGpu),
            "FAILOVER_SCOPE_SAME_MEMORY" => Some(Self::SameMemory),
            "FAILOVER_SCOPE_ANY" => Some(Self::Any),
            _ => None,
        }
    }
}
/// How far an attempt has come. Goes back only with a new attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum Stage {
    /// Never sent.
    Unspecified = 0,
    /// The intent is on record; no answer from the provider yet.
    Requested = 1,
    /// The provider accepted.
    Accepted = 2,
    /// A machine is assigned.
    Scheduled = 3,
    /// The image is being fetched.
    ImagePulling = 4,
    /// Booting, or up without an answer by SSH yet.
    Booting = 5,
    /// Login works.
    SshReachable = 6,
    /// The GPU answered as asked.
    GpuVerified = 7,
}
impl Stage {
    /// String value of the enum field names used in the ProtoBuf definition.
    ///
    /// The values are not transformed in any way and thus are considered stable
    /// (if the ProtoBuf definition does not change) and safe for programmatic use.
    pub fn as_str_name(&self) -> &'static str {
        match self {
            Self::Unspecified => "STAGE_UNSPECIFIED",
            Self::Requested => "STAGE_REQUESTED",
            Self::Accepted => "STAGE_ACCEPTED",
            Self::Scheduled => "STAGE_SCHEDULED",
            Self::ImagePulling => "STAGE_IMAGE_PULLING",
            Self::Booting => "STAGE_BOOTING",
            Self::SshReachable => "STAGE_SSH_REACHABLE",
            Self::GpuVerified => "STAGE_GPU_VERIFIED",
        }
    }
    /// Creates an enum from field names used in the ProtoBuf definition.
    pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
        match value {
            "STAGE_UNSPECIFIED" => Some(Self::Unspecified),
            "STAGE_REQUESTED" => Some(Self::Requested),
            "STAGE_ACCEPTED" => Some(Self::Accepted),
            "STAGE_SCHEDULED" => Some(Self::Scheduled),
            "STAGE_IMAGE_PULLING" => Some(Self::ImagePulling),
            "STAGE_BOOTING" => Some(Self::Booting),
            "STAGE_SSH_REACHABLE" => Some(Self::SshReachable),
            "STAGE_GPU_VERIFIED" => Some(Self::GpuVerified),
            _ => None,
        }
    }
}
/// Why a session ends. Set when it enters STATE_STOPPING and never changed after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum EndReason {
    /// It does not end yet.
    Unspecified = 0,
    /// Its user was done. Leads to STATE_STOPPED.
    Completed = 1,
    /// Its user had it destroyed. Leads to STATE_STOPPED.
    DestroyedByUser = 2,
    /// The reservation ran out. Leads to STATE_STOPPED.
    Expired = 3,
    /// The hard limit was reached. Leads to STATE_STOPPED.
    HardMax = 4,
    /// `max_total_cost` was reached. Leads to STATE_STOPPED.
    CostLimit = 5,
    /// An operator ended it. Leads to STATE_STOPPED.
    Admin = 6,
    /// Nothing (more) to rent. Leads to STATE_FAILED.
    NoCapacity = 7,
    /// The last attempt did not become usable. Leads to STATE_FAILED.
    ProvisionFailed = 8,
    /// The machine was not what was asked for. Leads to STATE_FAILED.
    VerifyFailed = 9,
    /// The provider charged more than it had offered. Leads to STATE_FAILED.
    PriceChanged = 10,
    /// The provider refuses the server's credentials. Leads to STATE_FAILED.
    ProviderAuth = 11,
    /// The provider account is out of credit. Leads to STATE_FAILED.
    ProviderCredit = 12,
    /// A higher bid took the machine. Leads to STATE_FAILED.
    Preempted = 13,
    /// The host went away. Leads to STATE_FAILED.
    HostLost = 14,
    /// The provider stopped the machine. Leads to STATE_FAILED.
    ProviderTerminated = 15,
    /// Nobody used the machine for as long as `idle_threshold`. Leads to STATE_STOPPED.
    Idle = 16,
    /// It was a stray (a machine of this deployment that no record knew) and an operator had it destroyed: the session
    /// exists so that its end and its cost are on record. Leads to STATE_FAILED.
    Orphan = 17,
}
impl EndReason {
    /// String value of the enum field names used in the ProtoBuf definition.
    ///
    /// The values are not transformed in any way and thus are considered stable
    /// (if the ProtoBuf definition does not change) and safe for programmatic use.
    pub fn as_str_name(&self) -> &'static str {
        match self {
            Self::Unspecified => "END_REASON_UNSPECIFIED",
            Self::Completed => "END_REASON_COMPLETED",
            Self::DestroyedByUser => "END_REASON_DESTROYED_BY_USER",
            Self::Expired => "END_REASON_EXPIRED",
            Self::HardMax => "END_REASON_HARD_MAX",
            Self::CostLimit => "END_REASON_COST_LIMIT",
            Self::Admin => "END_REASON_ADMIN",
            Self::NoCapacity => "END_REASON_NO_CAPACITY",
            Self::ProvisionFailed => "END_REASON_PROVISION_FAILED",
            Self::VerifyFailed => "END_REASON_VERIFY_FAILED",
            Self::PriceChanged => "END_REASON_PRICE_CHANGED",
            Self::ProviderAuth => "END_REASON_PROVIDER_AUTH",
            Self::ProviderCredit => "END_REASON_PROVIDER_CREDIT",
            Self::Preempted => "END_REASON_PREEMPTED",
            Self::HostLost => "END_REASON_HOST_LOST",
            Self::ProviderTerminated => "END_REASON_PROVIDER_TERMINATED",
            Self::Idle => "END_REASON_IDLE",
            Self::Orphan => "END_REASON_ORPHAN",
        }
    }
    /// Creates an enum from field names used in the ProtoBuf definition.
    pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
        match value {
            "END_REASON_UNSPECIFIED" => Some(Self::Unspecified),
            "END_REASON_COMPLETED" => Some(Self::Completed),
            "END_REASON_DESTROYED_BY_USER" => Some(Self::DestroyedByUser),
            "END_REASON_EXPIRED" => Some(Self::Expired),
            "END_REASON_HARD_MAX" => Some(Self::HardMax),
            "END_REASON_COST_LIMIT" => Some(Self::CostLimit),
            "END_REASON_ADMIN" => Some(Self::Admin),
            "END_REASON_NO_CAPACITY" => Some(Self::NoCapacity),
            "END_REASON_PROVISION_FAILED" => Some(Self::ProvisionFailed),
            "END_REASON_VERIFY_FAILED" => Some(Self::VerifyFailed),
            "END_REASON_PRICE_CHANGED" => Some(Self::PriceChanged),
            "END_REASON_PROVIDER_AUTH" => Some(Self::ProviderAuth),
            "END_REASON_PROVIDER_CREDIT" => Some(Self::ProviderCredit),
            "END_REASON_PREEMPTED" => Some(Self::Preempted),
            "END_REASON_HOST_LOST" => Some(Self::HostLost),
            "END_REASON_PROVIDER_TERMINATED" => Some(Self::ProviderTerminated),
            "END_REASON_IDLE" => Some(Self::Idle),
            "END_REASON_ORPHAN" => Some(Self::Orphan),
            _ => None,
        }
    }
}
/// Why an attempt ended without becoming usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum AttemptFailure {
    /// It has not failed.
    Unspecified = 0,
    /// The offer was gone or the place had no capacity.
    OfferGone = 1,
    /// The provider limits the server's calls.
    RateLimited = 2,
    /// The provider refuses the server's credentials.
    ProviderAuth = 3,
    /// The provider account is out of credit.
    ProviderCredit = 4,
    /// The provider finds the request wrong.
    InvalidRequest = 5,
    /// The provider was unreachable before the call was sent.
    ProviderUnavailable = 6,
    /// The launch's outcome was unknown, and no machine ever appeared.
    NeverAppeared = 7,
    /// It stood still in a stage beyond the stage's budget.
    StageTimeout = 8,
    /// The whole attempt took too long.
    AttemptTimeout = 9,
    /// The vendor stopped the machine, or it never started.
    InstanceStopped = 10,
    /// The vendor reports that the machine failed.
    InstanceFailed = 11,
    /// The machine vanished.
    InstanceVanished = 12,
    /// The machine takes none of the keys.
    AuthFailed = 13,
    /// The machine's SSH server and ours have no algorithm in common.
    SshAlgorithmMismatch = 14,
    /// The GPUs are not what was offered.
    GpuMismatch = 15,
    /// The GPU or its driver does not work.
    GpuBroken = 16,
    /// It costs more than offered.
    PriceChanged = 17,
    /// The session was ended meanwhile.
    SessionEnded = 18,
    /// What the machine was to be started with was sealed with a secret that the server no longer has.
    SecretLost = 19,
    /// A machine on a bid that was too low when it came: it never started.
    Outbid = 20,
}
impl AttemptFailure {
    /// String value of the enum field names used in the ProtoBuf definition.
    ///
    /// The values are not transformed in any way and thus are considered stable
    /// (if the ProtoBuf definition does not change) and safe for programmatic use.
    pub fn as_str_name(&self) -> &'static str {
        match self {
            Self::Unspecified => "ATTEMPT_FAILURE_UNSPECIFIED",
            Self::OfferGone => "ATTEMPT_FAILURE_OFFER_GONE",
            Self::RateLimited => "ATTEMPT_FAILURE_RATE_LIMITED",
            Self::ProviderAuth => "ATTEMPT_FAILURE_PROVIDER_AUTH",
            Self::ProviderCredit => "ATTEMPT_FAILURE_PROVIDER_CREDIT",
            Self::InvalidRequest => "ATTEMPT_FAILURE_INVALID_REQUEST",
            Self::ProviderUnavailable => "ATTEMPT_FAILURE_PROVIDER_UNAVAILABLE",
            Self::NeverAppeared => "ATTEMPT_FAILURE_NEVER_APPEARED",
            Self::StageTimeout => "ATTEMPT_FAILURE_STAGE_TIMEOUT",
            Self::AttemptTimeout => "ATTEMPT_FAILURE_ATTEMPT_TIMEOUT",
            Self::InstanceStopped => "ATTEMPT_FAILURE_INSTANCE_STOPPED",
            Self::InstanceFailed => "ATTEMPT_FAILURE_INSTANCE_FAILED",
            Self::InstanceVanished => "ATTEMPT_FAILURE_INSTANCE_VANISHED",
            Self::AuthFailed => "ATTEMPT_FAILURE_AUTH_FAILED",
            Self::SshAlgorithmMismatch => "ATTEMPT_FAILURE_SSH_ALGORITHM_MISMATCH",
            Self::GpuMismatch => "ATTEMPT_FAILURE_GPU_MISMATCH",
            Self::GpuBroken => "ATTEMPT_FAILURE_GPU_BROKEN",
            Self::PriceChanged => "ATTEMPT_FAILURE_PRICE_CHANGED",
            Self::SessionEnded => "ATTEMPT_FAILURE_SESSION_ENDED",
            Self::SecretLost => "ATTEMPT_FAILURE_SECRET_LOST",
            Self::Outbid => "ATTEMPT_FAILURE_OUTBID",
        }
    }
    /// Creates an enum from field names used in the ProtoBuf definition.
    pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
        match value {
            "ATTEMPT_FAILURE_UNSPECIFIED" => Some(Self::Unspecified),
            "ATTEMPT_FAILURE_OFFER_GONE" => Some(Self::OfferGone),
            "ATTEMPT_FAILURE_RATE_LIMITED" => Some(Self::RateLimited),
            "ATTEMPT_FAILURE_PROVIDER_AUTH" => Some(Self::ProviderAuth),
            "ATTEMPT_FAILURE_PROVIDER_CREDIT" => Some(Self::ProviderCredit),
            "ATTEMPT_FAILURE_INVALID_REQUEST" => Some(Self::InvalidRequest),
            "ATTEMPT_FAILURE_PROVIDER_UNAVAILABLE" => Some(Self::ProviderUnavailable),
            "ATTEMPT_FAILURE_NEVER_APPEARED" => Some(Self::NeverAppeared),
            "ATTEMPT_FAILURE_STAGE_TIMEOUT" => Some(Self::StageTimeout),
            "ATTEMPT_FAILURE_ATTEMPT_TIMEOUT" => Some(Self::AttemptTimeout),
            "ATTEMPT_FAILURE_INSTANCE_STOPPED" => Some(Self::InstanceStopped),
            "ATTEMPT_FAILURE_INSTANCE_FAILED" => Some(Self::InstanceFailed),
            "ATTEMPT_FAILURE_INSTANCE_VANISHED" => Some(Self::InstanceVanished),
            "ATTEMPT_FAILURE_AUTH_FAILED" => Some(Self::AuthFailed),
            "ATTEMPT_FAILURE_SSH_ALGORITHM_MISMATCH" => Some(Self::SshAlgorithmMismatch),
            "ATTEMPT_FAILURE_GPU_MISMATCH" => Some(Self::GpuMismatch),
            "ATTEMPT_FAILURE_GPU_BROKEN" => Some(Self::GpuBroken),
            "ATTEMPT_FAILURE_PRICE_CHANGED" => Some(Self::PriceChanged),
            "ATTEMPT_FAILURE_SESSION_ENDED" => Some(Self::SessionEnded),
            "ATTEMPT_FAILURE_SECRET_LOST" => Some(Self::SecretLost),
            "ATTEMPT_FAILURE_OUTBID" => Some(Self::Outbid),
            _ => None,
        }
    }
}
/// Something that happened to a session. Never coalesced, dropped or repeated.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct SessionEvent {
    /// Number in the whole store's commit order; without gaps.
    #[prost(int64, tag = "1")]
    pub revision: i64,
    /// 1 to n within the session, over all types; without gaps.
    #[prost(int64, tag = "2")]
    pub sequence: i64,
    /// The session.
    #[prost(string, tag = "3")]
    pub session_id: ::prost::alloc::string::String,
    /// What happened.
    #[prost(enumeration = "session_event::Type", tag = "4")]
    pub r#type: i32,
    /// State before.
    #[prost(enumeration = "session::State", tag = "5")]
    pub from_state: i32,
    /// State after; the same as before when the state stays.
    #[prost(enumeration = "session::State", tag = "6")]
    pub to_state: i32,
    /// Stage after.
    #[prost(enumeration = "Stage", tag = "7")]
    pub stage: i32,
    /// Why it ends; from STATE_STOPPING on.
    #[prost(enumeration = "EndReason", tag = "8")]
    pub end_reason: i32,
    /// Who caused it: `service`, `user:<name>`, `operator:<name>`, `provider`.
    #[prost(string, tag = "9")]
    pub actor: ::prost::alloc::string::String,
    /// When.
    #[prost(message, optional, tag = "10")]
    pub occur_time: ::core::option::Option<::prost_types::Timestamp>,
    /// What happened, for people.
    #[prost(string, tag = "11")]
    pub message: ::prost::alloc::string::String,
    /// What the session has cost so far.
    #[prost(message, optional, tag = "12")]
    pub cost: ::core::option::Option<CostAmount>,
    /// The whole session after the change.
    #[prost(message, optional, tag = "13")]
    pub session: ::core::option::Option<Session>,
}
/// Nested message and enum types in `SessionEvent`.
pub mod session_event {
    /// What kind of thing happened. More kinds may come.
    #[derive(
        Clone,
        Copy,
        Debug,
        PartialEq,
        Eq,
        Hash,
        PartialOrd,
        Ord,
        ::prost::Enumeration
    )]
    #[repr(i32)]
    pub enum Type {
        /// Never sent.
        Unspecified = 0,
        /// The session was accepted.
        Created = 1,
        /// Its state changed.
        StateChanged = 2,
        /// Its stage changed within the state.
        StageChanged = 3,
        /// An attempt failed; another one may follow.
        AttemptEnded = 4,
        /// Its expiry was moved by its user, or counted anew at the first STATE_RUNNING.
        Extended = 5,
        /// It expires in 15 minutes or less.
        Expiring = 6,
        /// The provider's price changed.
        PriceChanged = 7,
        /// A condition changed.
        ConditionChanged = 8,
        /// Labels or other settings were changed.
        Updated = 9,
        /// A machine that appeared after the end is being destroyed.
        LatecomerDestroyed = 10,
        /// The cost changed after the end.
        CostAmended = 11,
        /// It ends soon, with END_REASON_IDLE, unless somebody uses its machine or calls KeepAlive.
        IdleWarning = 12,
        /// It has cost 90 % of `max_total_cost`, at which it ends.
        CostWarning = 13,
        /// The machine takes another key of its consumer, and the one before no more.
        KeyRotated = 14,
    }
    impl Type {
        /// String value of the enum field names used in the ProtoBuf definition.
        ///
        /// The values are not transformed in any way and thus are considered stable
        /// (if the ProtoBuf definition does not change) and safe for programmatic use.
        pub fn as_str_name(&self) -> &'static str {
            match self {
                Self::Unspecified => "TYPE_UNSPECIFIED",
                Self::Created => "TYPE_CREATED",
                Self::StateChanged => "TYPE_STATE_CHANGED",
                Self::StageChanged => "TYPE_STAGE_CHANGED",
                Self::AttemptEnded => "TYPE_ATTEMPT_ENDED",
                Self::Extended => "TYPE_EXTENDED",
                Self::Expiring => "TYPE_EXPIRING",
                Self::PriceChanged => "TYPE_PRICE_CHANGED",
                Self::ConditionChanged => "TYPE_CONDITION_CHANGED",
                Self::Updated => "TYPE_UPDATED",
                Self::LatecomerDestroyed => "TYPE_LATECOMER_DESTROYED",
                Self::CostAmended => "TYPE_COST_AMENDED",
                Self::IdleWarning => "TYPE_IDLE_WARNING",
                Self::CostWarning => "TYPE_COST_WARNING",
                Self::KeyRotated => "TYPE_KEY_ROTATED",
            }
        }
        /// Creates an enum from field names used in the ProtoBuf definition.
        pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
            match value {
                "TYPE_UNSPECIFIED" => Some(Self::Unspecified),
                "TYPE_CREATED" => Some(Self::Created),
                "TYPE_STATE_CHANGED" => Some(Self::StateChanged),
                "TYPE_STAGE_CHANGED" => Some(Self::StageChanged),
                "TYPE_ATTEMPT_ENDED" => Some(Self::AttemptEnded),
                "TYPE_EXTENDED" => Some(Self::Extended),
                "TYPE_EXPIRING" => Some(Self::Expiring),
                "TYPE_PRICE_CHANGED" => Some(Self::PriceChanged),
                "TYPE_CONDITION_CHANGED" => Some(Self::ConditionChanged),
                "TYPE_UPDATED" => Some(Self::Updated),
                "TYPE_LATECOMER_DESTROYED" => Some(Self::LatecomerDestroyed),
                "TYPE_COST_AMENDED" => Some(Self::CostAmended),
                "TYPE_IDLE_WARNING" => Some(Self::IdleWarning),
                "TYPE_COST_WARNING" => Some(Self::CostWarning),
                "TYPE_KEY_ROTATED" => Some(Self::KeyRotated),
                _ => None,
            }
        }
    }
}
/// All sessions that matched at the start of a watch have been told.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct SnapshotEnd {
    /// The snapshot holds everything up to this revision.
    #[prost(int64, tag = "1")]
    pub revision: i64,
    /// How many sessions were told, by state.
    #[prost(message, repeated, tag = "2")]
    pub counts: ::prost::alloc::vec::Vec<StateCount>,
    /// What the told sessions cost now, US dollars per hour.
    #[prost(message, optional, tag = "3")]
    pub spend_per_hour: ::core::option::Option<crate::google_type::Money>,
    /// The same for people: `$1.2345/h`. Output only.
    #[prost(string, tag = "4")]
    pub spend_text: ::prost::alloc::string::String,
}
/// A number of sessions in one state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct StateCount {
    /// The state.
    #[prost(enumeration = "session::State", tag = "1")]
    pub state: i32,
    /// How many.
    #[prost(int32, tag = "2")]
    pub count: i32,
}
/// A sign of life after a silence: everything up to here has been told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Bookmark {
    /// Everything up to this revision has been told.
    #[prost(int64, tag = "1")]
    pub revision: i64,
}
/// Asks for offers.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ListOffersRequest {
    /// Which offers. Default: all. Example: `{"filter": {"gpuModels": \["RTX 4090"\], "minReliability": 0.98}}`
    #[prost(message, optional, tag = "1")]
    pub filter: ::core::option::Option<OfferFilter>,
    /// The order, best first: `price`, `price_per_gpu`, `expected_cost`, `reliability` or `gpu_memory`; ties by price, then
    /// id. Default: `price`. Example: `{"orderBy": "expected_cost"}`
    #[prost(string, tag = "2")]
    pub order_by: ::prost::alloc::string::String,
    /// At most this many offers, 0 to 1000; more is taken as 1000. Default: 50. Example: `{"pageSize": 20}`
    #[prost(int32, tag = "3")]
    pub page_size: i32,
    /// Where to go on: `next_page_token` of the page before, with the same filter and order. Default: from the start.
    /// Example: `{"pageToken": "djEuNDI"}`
    #[prost(string, tag = "4")]
    pub page_token: ::prost::alloc::string::String,
}
/// A page of offers.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ListOffersResponse {
    /// The offers, in the order asked for.
    #[prost(message, repeated, tag = "1")]
    pub offers: ::prost::alloc::vec::Vec<Offer>,
    /// Where the next page starts; empty at the end, and only there.
    #[prost(string, tag = "2")]
    pub next_page_token: ::prost::alloc::string::String,
    /// How many offers match, over all pages.
    #[prost(int32, tag = "3")]
    pub total_size: i32,
    /// When the snapshot was put together.
    #[prost(message, optional, tag = "4")]
    pub snapshot_time: ::core::option::Option<::prost_types::Timestamp>,
    /// How each provider's part of the snapshot stands.
    #[prost(message, repeated, tag = "5")]
    pub providers: ::prost::alloc::vec::Vec<ProviderFreshness>,
    /// Providers that could not be reached at the last try; their last known offers may be in the list.
    #[prost(string, repeated, tag = "6")]
    pub unreachable: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// Defaults that were applied, as `field=value`.
    #[prost(string, repeated, tag = "7")]
    pub applied_defaults: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
}
/// Asks for one offer.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct GetOfferRequest {
    /// The offer. Required. Example: `{"offerId": "vastai-12345678"}`
    #[prost(string, tag = "1")]
    pub offer_id: ::prost::alloc::string::String,
    /// Price it with a disk of this many GB, 1 to 100000. Default: the provider's disk. Example: `{"diskGb": 100}`
    #[prost(int32, optional, tag = "2")]
    pub disk_gb: ::core::option::Option<i32>,
}
/// One offer.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct GetOfferResponse {
    /// The offer.
    #[prost(message, optional, tag = "1")]
    pub offer: ::core::option::Option<Offer>,
}
/// Asks for templates.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ListTemplatesRequest {
    /// Whose name contains this, in any case; 1 to 200 characters. Default: any. Example: `{"name": "vllm"}`
    #[prost(string, optional, tag = "1")]
    pub name: ::core::option::Option<::prost::alloc::string::String>,
    /// Whose image contains this, in any case; 1 to 200 characters. Default: any. Example: `{"image": "pytorch"}`
    #[prost(string, optional, tag = "2")]
    pub image: ::core::option::Option<::prost::alloc::string::String>,
    /// Only those made for logging in by SSH. Default: false. Example: `{"sshOnly": true}`
    #[prost(bool, tag = "3")]
    pub ssh_only: bool,
    /// Only those that can run on this offer. Default: any. Example: `{"offerId": "vastai-12345678"}`
    #[prost(string, optional, tag = "4")]
    pub offer_id: ::core::option::Option<::prost::alloc::string::String>,
}
/// Templates, by name.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ListTemplatesResponse {
    /// The templates.
    #[prost(message, repeated, tag = "1")]
    pub templates: ::prost::alloc::vec::Vec<Template>,
}
/// Asks for one template.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct GetTemplateRequest {
    /// The template. Required. Example: `{"templateHashId": "1b2c3d4e5f60718293a4b5c6d7e8f90a"}`
    #[prost(string, tag = "1")]
    pub template_hash_id: ::prost::alloc::string::String,
}
/// One template.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct GetTemplateResponse {
    /// The template.
    #[prost(message, optional, tag = "1")]
    pub template: ::core::option::Option<Template>,
}
/// A ready-made description of what runs on a machine, kept by a vendor.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Template {
    /// What it is named by; changes when its vendor changes the template.
    #[prost(string, tag = "1")]
    pub template_hash_id: ::prost::alloc::string::String,
    /// Whose it is.
    #[prost(string, tag = "2")]
    pub provider: ::prost::alloc::string::String,
    /// Its name.
    #[prost(string, tag = "3")]
    pub name: ::prost::alloc::string::String,
    /// What it is good for; may be empty.
    #[prost(string, tag = "4")]
    pub description: ::prost::alloc::string::String,
    /// The image, with its tag.
    #[prost(string, tag = "5")]
    pub image: ::prost::alloc::string::String,
    /// Names of the variables that it sets.
    #[prost(string, repeated, tag = "6")]
    pub env_names: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// Ports inside the machine that it maps, beside SSH.
    #[prost(int32, repeated, tag = "7")]
    pub ports: ::prost::alloc::vec::Vec<i32>,
    /// It runs commands at start.
    #[prost(bool, tag = "8")]
    pub has_on_start_cmd: bool,
    /// The disk that it recommends, GB; absent when it does not.
    #[prost(int32, optional, tag = "9")]
    pub disk_gb: ::core::option::Option<i32>,
    /// It is made for logging in by SSH. Sessions are run the SSH way in any case.
    #[prost(bool, tag = "10")]
    pub ssh: bool,
    /// Its vendor recommends it.
    #[prost(bool, tag = "11")]
    pub recommended: bool,
    /// At least this CUDA version: `12.4`; empty when any will do.
    #[prost(string, tag = "12")]
    pub min_cuda_version: ::prost::alloc::string::String,
    /// At least this much memory of one GPU, MiB.
    #[prost(int32, optional, tag = "13")]
    pub min_gpu_memory_mib: ::core::option::Option<i32>,
    /// At least this much memory of all GPUs together, MiB.
    #[prost(int32, optional, tag = "14")]
    pub min_total_gpu_memory_mib: ::core::option::Option<i32>,
    /// At least this many GPUs.
    #[prost(int32, optional, tag = "15")]
    pub min_gpu_count: ::core::option::Option<i32>,
    /// Room for a disk of this many GB.
    #[prost(int32, optional, tag = "16")]
    pub min_disk_gb: ::core::option::Option<i32>,
}
/// Asks why a filter leaves what it leaves.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ExplainOffersRequest {
    /// The filter. Default: none, which every offer passes. Example: `{"filter": {"gpuModels": \["H100"\], "minCuda": "12.8"}}`
    #[prost(message, optional, tag = "1")]
    pub filter: ::core::option::Option<OfferFilter>,
}
/// Why a filter leaves what it leaves.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ExplainOffersResponse {
    /// Offers looked at.
    #[prost(int32, tag = "1")]
    pub total_offer_count: i32,
    /// Offers that pass.
    #[prost(int32, tag = "2")]
    pub matching_offer_count: i32,
    /// Fields that turn offers away, in the order in which they are applied.
    #[prost(message, repeated, tag = "3")]
    pub effects: ::prost::alloc::vec::Vec<FilterEffect>,
    /// Changes of a single field by which more offers pass, the smallest first. Empty when no single one helps.
    #[prost(message, repeated, tag = "4")]
    pub relaxations: ::prost::alloc::vec::Vec<Relaxation>,
    /// When nothing passes and no single change helps: the offer that fails the fewest fields; otherwise empty.
    #[prost(string, tag = "5")]
    pub closest_offer_id: ::prost::alloc::string::String,
    /// The fields that this one fails.
    #[prost(string, repeated, tag = "6")]
    pub closest_fails: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// Offers that would pass and are hidden for a while, because of what happened there; see
    /// `OperatorService.ListOfferHealth`.
    #[prost(int32, tag = "7")]
    pub set_aside_count: i32,
    /// When the first of those is shown again; absent when there is none.
    #[prost(message, optional, tag = "8")]
    pub set_aside_until_time: ::core::option::Option<::prost_types::Timestamp>,
    /// All of it in one sentence.
    #[prost(string, tag = "9")]
    pub summary: ::prost::alloc::string::String,
    /// When the snapshot was put together.
    #[prost(message, optional, tag = "10")]
    pub snapshot_time: ::core::option::Option<::prost_types::Timestamp>,
    /// How each provider's part of the snapshot stands.
    #[prost(message, repeated, tag = "11")]
    pub providers: ::prost::alloc::vec::Vec<ProviderFreshness>,
}
/// What one field of a filter does.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct FilterEffect {
    /// The field, by its name in `OfferFilter`; `host_end` is the time until which hosts keep their machines on the market.
    #[prost(string, tag = "1")]
    pub field: ::prost::alloc::string::String,
    /// Offers that it turns away after the fields before it. Over all fields they add up to what does not pass.
    #[prost(int32, tag = "2")]
    pub removed_count: i32,
    /// Offers that it turns away when it stands alone.
    #[prost(int32, tag = "3")]
    pub removed_alone_count: i32,
    /// Offers that would pass if it were dropped and all others kept.
    #[prost(int32, tag = "4")]
    pub matching_without_count: i32,
}
/// A change of one field by which more offers pass.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Relaxation {
    /// The field, by its name in `OfferFilter`.
    #[prost(string, tag = "1")]
    pub field: ::prost::alloc::string::String,
    /// What to set it to, for people: `$0.2467/h`; of a list, what to add or take away: `and RTX 4090`.
    #[prost(string, tag = "2")]
    pub value: ::prost::alloc::string::String,
    /// The whole filter with that change, to send as it is.
    #[prost(message, optional, tag = "3")]
    pub filter: ::core::option::Option<OfferFilter>,
    /// Offers that pass then.
    #[prost(int32, tag = "4")]
    pub matching_offer_count: i32,
    /// The cheapest of them, all in, US dollars per hour.
    #[prost(message, optional, tag = "5")]
    pub from_price_per_hour: ::core::option::Option<crate::google_type::Money>,
    /// That price for people: `$0.2467/h`. Output only.
    #[prost(string, tag = "6")]
    pub from_price_text: ::prost::alloc::string::String,
    /// How large the change is, thousandths of what was asked; 1000 where it can't be measured: another model, place,
    /// provider, or a condition dropped.
    #[prost(int64, tag = "7")]
    pub change_permille: i64,
}
/// Asks for the GPU models on offer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ListGpuModelsRequest {}
/// The GPU models on offer.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ListGpuModelsResponse {
    /// One row per model and memory size, ordered by model, then memory.
    #[prost(message, repeated, tag = "1")]
    pub gpu_models: ::prost::alloc::vec::Vec<GpuModel>,
    /// How each provider's part of the snapshot stands.
    #[prost(message, repeated, tag = "2")]
    pub providers: ::prost::alloc::vec::Vec<ProviderFreshness>,
}
/// What is on offer of one GPU model and memory size.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct GpuModel {
    /// Canonical model: `RTX 4090`.
    #[prost(string, tag = "1")]
    pub model: ::prost::alloc::string::String,
    /// Memory of one GPU, MiB.
    #[prost(int32, tag = "2")]
    pub gpu_memory_mib: i32,
    /// Offers with it.
    #[prost(int32, tag = "3")]
    pub offer_count: i32,
    /// GPUs in those offers.
    #[prost(int64, tag = "4")]
    pub gpu_count: i64,
    /// The lowest all-in price, US dollars per GPU and hour.
    #[prost(message, optional, tag = "5")]
    pub min_price_per_gpu_hour: ::core::option::Option<crate::google_type::Money>,
    /// That price for people: `$0.2467/h`. Output only.
    #[prost(string, tag = "6")]
    pub min_price_text: ::prost::alloc::string::String,
    /// Providers that have it.
    #[prost(string, repeated, tag = "7")]
    pub providers: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
}
/// Generated client implementations.
pub mod inventory_service_client {
    #![allow(
        unused_variables,
        dead_code,
        missing_docs,
        clippy::wildcard_imports,
        clippy::let_unit_value,
    )]
    use tonic::codegen::*;
    use tonic::codegen::http::Uri;
    /// Offers of all providers, from a snapshot in memory that is refreshed in the background.
    ///
    /// A whole session with grpcurl; put the ids of the answers in place of OFFER and SESSION:
    ///
    /// ```text,text
    /// grpcurl -plaintext localhost:8080 list
    /// grpcurl -plaintext localhost:8080 grpc.health.v1.Health/Check
    /// grpcurl -plaintext -d '{"pageSize": 5, "orderBy": "price"}' localhost:8080 gpushopper.v1.InventoryService/ListOffers
    /// grpcurl -plaintext -d '{"offerId": "OFFER"}' localhost:8080 gpushopper.v1.InventoryService/GetOffer
    /// grpcurl -plaintext -d '{"offerId": "OFFER", "reservation": "3600s"}' localhost:8080 gpushopper.v1.SessionService/CreateSession
    /// grpcurl -plaintext -d '{"sessionId": "SESSION"}' localhost:8080 gpushopper.v1.SessionService/WatchSession
    /// grpcurl -plaintext -d '{"sessionId": "SESSION", "additionalDuration": "1800s"}' localhost:8080 gpushopper.v1.SessionService/ExtendSession
    /// grpcurl -plaintext -d '{"sessionId": "SESSION"}' localhost:8080 gpushopper.v1.SessionService/CompleteSession
    /// grpcurl -plaintext -d '{"sessionId": "SESSION"}' localhost:8080 gpushopper.v1.CostService/GetSessionCost
    /// ```
    #[derive(Debug, Clone)]
    pub struct InventoryServiceClient<T> {
        inner: tonic::client::Grpc<T>,
    }
    impl InventoryServiceClient<tonic::transport::Channel> {
        /// Attempt to create a new client by connecting to a given endpoint.
        pub async fn connect<D>(dst: D) -> Result<Self, tonic::transport::Error>
        where
            D: TryInto<tonic::transport::Endpoint>,
            D::Error: Into<StdError>,
        {
            let conn = tonic::transport::Endpoint::new(dst)?.connect().await?;
            Ok(Self::new(conn))
        }
    }
    impl<T> InventoryServiceClient<T>
    where
        T: tonic::client::GrpcService<tonic::body::Body>,
        T::Error: Into<StdError>,
        T::ResponseBody: Body<Data = Bytes> + std::marker::Send + 'static,
        <T::ResponseBody as Body>::Error: Into<StdError> + std::marker::Send,
    {
        pub fn new(inner: T) -> Self {
            let inner = tonic::client::Grpc::new(inner);
            Self { inner }
        }
        pub fn with_origin(inner: T, origin: Uri) -> Self {
            let inner = tonic::client::Grpc::with_origin(inner, origin);
            Self { inner }
        }
        pub fn with_interceptor<F>(
            inner: T,
            interceptor: F,
        ) -> InventoryServiceClient<InterceptedService<T, F>>
        where
            F: tonic::service::Interceptor,
            T::ResponseBody: Default,
            T: tonic::codegen::Service<
                http::Request<tonic::body::Body>,
                Response = http::Response<
                    <T as tonic::client::GrpcService<tonic::body::Body>>::ResponseBody,
                >,
            >,
            <T as tonic::codegen::Service<
                http::Request<tonic::body::Body>,
            >>::Error: Into<StdError> + std::marker::Send + std::marker::Sync,
        {
            InventoryServiceClient::new(InterceptedService::new(inner, interceptor))
        }
        /// Compress requests with the given encoding.
        ///
        /// This requires the server to support it otherwise it might respond with an
        /// error.
        #[must_use]
        pub fn send_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.inner = self.inner.send_compressed(encoding);
            self
        }
        /// Enable decompressing responses.
        #[must_use]
        pub fn accept_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.inner = self.inner.accept_compressed(encoding);
            self
        }
        /// Limits the maximum size of a decoded message.
        ///
        /// Default: `4MB`
        #[must_use]
        pub fn max_decoding_message_size(mut self, limit: usize) -> Self {
            self.inner = self.inner.max_decoding_message_size(limit);
            self
        }
        /// Limits the maximum size of an encoded message.
        ///
        /// Default: `usize::MAX`
        #[must_use]
        pub fn max_encoding_message_size(mut self, limit: usize) -> Self {
            self.inner = self.inner.max_encoding_message_size(limit);
            self
        }
        /// Lists what can be rented now. All pages come from one snapshot.
        ///
        /// Errors: INVALID_ARGUMENT `INVALID_FIELD` naming every wrong field; INVALID_ARGUMENT `PAGE_TOKEN_EXPIRED` when the
        /// token's snapshot is no longer kept: start again without it; while no provider's offers are known, UNAVAILABLE
        /// `PROVIDER_UNREACHABLE`, or FAILED_PRECONDITION `PROVIDER_AUTH` when all of them refuse the server's credentials.
        pub async fn list_offers(
            &mut self,
            request: impl tonic::IntoRequest<super::ListOffersRequest>,
        ) -> std::result::Result<
            tonic::Response<super::ListOffersResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.InventoryService/ListOffers",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("gpushopper.v1.InventoryService", "ListOffers"));
            self.inner.unary(req, path, codec).await
        }
        /// One offer by its id.
        ///
        /// Errors: INVALID_ARGUMENT when the text is no offer id of any provider; NOT_FOUND `OFFER_NOT_FOUND` when it is not on
        /// offer now.
        pub async fn get_offer(
            &mut self,
            request: impl tonic::IntoRequest<super::GetOfferRequest>,
        ) -> std::result::Result<
            tonic::Response<super::GetOfferResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.InventoryService/GetOffer",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("gpushopper.v1.InventoryService", "GetOffer"));
            self.inner.unary(req, path, codec).await
        }
        /// Why a filter leaves so few offers, and the least that has to give: what each field turns away, in order and on its own,
        /// and for each field the smallest change of it alone by which offers pass.
        ///
        /// Errors: INVALID_ARGUMENT `INVALID_FIELD` naming every wrong field.
        pub async fn explain_offers(
            &mut self,
            request: impl tonic::IntoRequest<super::ExplainOffersRequest>,
        ) -> std::result::Result<
            tonic::Response<super::ExplainOffersResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.InventoryService/ExplainOffers",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new("gpushopper.v1.InventoryService", "ExplainOffers"),
                );
            self.inner.unary(req, path, codec).await
        }
        /// Lists the templates that vendors recommend (Vast.ai's; others have none), by name; at most an hour old.
        ///
        /// Errors: INVALID_ARGUMENT, NOT_FOUND `OFFER_NOT_FOUND`; UNAVAILABLE `PROVIDER_UNREACHABLE`, FAILED_PRECONDITION
        /// `PROVIDER_AUTH`.
        pub async fn list_templates(
            &mut self,
            request: impl tonic::IntoRequest<super::ListTemplatesRequest>,
        ) -> std::result::Result<
            tonic::Response<super::ListTemplatesResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.InventoryService/ListTemplates",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new("gpushopper.v1.InventoryService", "ListTemplates"),
                );
            self.inner.unary(req, path, codec).await
        }
        /// One template by its hash, recommended or not.
        ///
        /// Errors: INVALID_ARGUMENT, NOT_FOUND `TEMPLATE_NOT_FOUND`; UNAVAILABLE `PROVIDER_UNREACHABLE`, FAILED_PRECONDITION
        /// `PROVIDER_AUTH`.
        pub async fn get_template(
            &mut self,
            request: impl tonic::IntoRequest<super::GetTemplateRequest>,
        ) -> std::result::Result<
            tonic::Response<super::GetTemplateResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.InventoryService/GetTemplate",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new("gpushopper.v1.InventoryService", "GetTemplate"),
                );
            self.inner.unary(req, path, codec).await
        }
        /// Which GPU models are on offer, how many, and from which price.
        pub async fn list_gpu_models(
            &mut self,
            request: impl tonic::IntoRequest<super::ListGpuModelsRequest>,
        ) -> std::result::Result<
            tonic::Response<super::ListGpuModelsResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.InventoryService/ListGpuModels",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new("gpushopper.v1.InventoryService", "ListGpuModels"),
                );
            self.inner.unary(req, path, codec).await
        }
    }
}
/// Asks for the providers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ListProvidersRequest {}
/// The providers.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ListProvidersResponse {
    /// Each enabled provider.
    #[prost(message, repeated, tag = "1")]
    pub providers: ::prost::alloc::vec::Vec<ProviderStatus>,
}
/// A provider as an operator sees it.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ProviderStatus {
    /// Its name: `vastai`.
    #[prost(string, tag = "1")]
    pub provider: ::prost::alloc::string::String,
    /// Its name for people: `Vast.ai`.
    #[prost(string, tag = "2")]
    pub title: ::prost::alloc::string::String,
    /// The credentials are proven.
    #[prost(bool, tag = "3")]
    pub credentials_ok: bool,
    /// Why they are not; empty when they are.
    #[prost(string, tag = "4")]
    pub credentials_error: ::prost::alloc::string::String,
    /// Whose account they open: the vendor's user id or a fingerprint, never the key. Empty until proven.
    #[prost(string, tag = "5")]
    pub account: ::prost::alloc::string::String,
    /// What is left on it, US dollars; absent where the vendor does not tell.
    #[prost(message, optional, tag = "6")]
    pub balance: ::core::option::Option<crate::google_type::Money>,
    /// The same for people: `$12.34`. Output only.
    #[prost(string, tag = "7")]
    pub balance_text: ::prost::alloc::string::String,
    /// Its part of the offers.
    #[prost(message, optional, tag = "8")]
    pub freshness: ::core::option::Option<ProviderFreshness>,
    /// The circuit breaker.
    #[prost(enumeration = "provider_status::Breaker", tag = "9")]
    pub breaker: i32,
    /// Calls that failed since the last that did not.
    #[prost(int32, tag = "10")]
    pub consecutive_failures: i32,
    /// The last failure, cleaned of secrets; empty when there was none.
    #[prost(string, tag = "11")]
    pub last_error: ::prost::alloc::string::String,
    /// When it was.
    #[prost(message, optional, tag = "12")]
    pub last_error_time: ::core::option::Option<::prost_types::Timestamp>,
    /// The last call that worked.
    #[prost(message, optional, tag = "13")]
    pub last_ok_time: ::core::option::Option<::prost_types::Timestamp>,
    /// No ordinary call is made before then.
    #[prost(message, optional, tag = "14")]
    pub throttled_until_time: ::core::option::Option<::prost_types::Timestamp>,
    /// Open sessions there.
    #[prost(int32, tag = "15")]
    pub open_session_count: i32,
    /// When all its instances were last listed completely.
    #[prost(message, optional, tag = "16")]
    pub list_time: ::core::option::Option<::prost_types::Timestamp>,
    /// The account is out of credit, in the provider's words, and nothing is launched there. It is asked again every 30 seconds; where
    /// it tells no balance, a launch is tried again within five minutes. Empty when that is not so.
    #[prost(string, tag = "17")]
    pub credit_error: ::prost::alloc::string::String,
}
/// Nested message and enum types in `ProviderStatus`.
pub mod provider_status {
    /// Position of the circuit breaker.
    #[derive(
        Clone,
        Copy,
        Debug,
        PartialEq,
        Eq,
        Hash,
        PartialOrd,
        Ord,
        ::prost::Enumeration
    )]
    #[repr(i32)]
    pub enum Breaker {
        /// Never sent.
        Unspecified = 0,
        /// Calls go out.
        Closed = 1,
        /// Calls are refused at once, destroys and their confirmation excepted.
        Open = 2,
        /// One call is let through to see.
        HalfOpen = 3,
    }
    impl Breaker {
        /// String value of the enum field names used in the ProtoBuf definition.
        ///
        /// The values are not transformed in any way and thus are considered stable
        /// (if the ProtoBuf definition does not change) and safe for programmatic use.
        pub fn as_str_name(&self) -> &'static str {
            match self {
                Self::Unspecified => "BREAKER_UNSPECIFIED",
                Self::Closed => "BREAKER_CLOSED",
                Self::Open => "BREAKER_OPEN",
                Self::HalfOpen => "BREAKER_HALF_OPEN",
            }
        }
        /// Creates an enum from field names used in the ProtoBuf definition.
        pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
            match value {
                "BREAKER_UNSPECIFIED" => Some(Self::Unspecified),
                "BREAKER_CLOSED" => Some(Self::Closed),
                "BREAKER_OPEN" => Some(Self::Open),
                "BREAKER_HALF_OPEN" => Some(Self::HalfOpen),
                _ => None,
            }
        }
    }
}
/// Asks for unconfirmed destroys.
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ListUnconfirmedDestroysRequest {}
/// Unconfirmed destroys.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ListUnconfirmedDestroysResponse {
    /// Each of them, the dearest per hour first.
    #[prost(message, repeated, tag = "1")]
    pub destroys: ::prost::alloc::vec::Vec<UnconfirmedDestroy>,
    /// What all of them together may cost, US dollars per hour.
    #[prost(message, optional, tag = "2")]
    pub at_risk_per_hour: ::core::option::Option<crate::google_type::Money>,
    /// The same for people: `$0.2467/h`. Output only.
    #[prost(string, tag = "3")]
    pub at_risk_text: ::prost::alloc::string::String,
}
/// Asks for the failure memory.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ListOfferHealthRequest {
    /// Only of this provider. Default: all. Example: `{"provider": "vastai"}`
    #[prost(string, optional, tag = "1")]
    pub provider: ::core::option::Option<::prost::alloc::string::String>,
    /// Only these kinds. Default: all. Example: `{"kinds": \["KIND_MACHINE"\]}`
    #[prost(enumeration = "offer_health::Kind", repeated, tag = "2")]
    pub kinds: ::prost::alloc::vec::Vec<i32>,
    /// Only what is set aside now. Default: false. Example: `{"setAsideOnly": true}`
    #[prost(bool, tag = "3")]
    pub set_aside_only: bool,
    /// At most this many entries, 0 to 1000; more is taken as 1000. Default: 50. Example: `{"pageSize": 20}`
    #[prost(int32, tag = "4")]
    pub page_size: i32,
    /// Where to go on: `next_page_token` of the page before, with the other fields as they were. Default: from the start.
    /// Example: `{"pageToken": "aDEuMC4w"}`
    #[prost(string, tag = "5")]
    pub page_token: ::prost::alloc::string::String,
    /// Only where GPUs of these models were launched, whatever they are called. Default: all. Example: `{"gpuModels": \["RTX 4090"\]}`
    #[prost(string, repeated, tag = "6")]
    pub gpu_models: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
}
/// A page of the failure memory.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ListOfferHealthResponse {
    /// Providers, hosts, machines, offers, in this order, each by name.
    #[prost(message, repeated, tag = "1")]
    pub entries: ::prost::alloc::vec::Vec<OfferHealth>,
    /// Where the next page starts; empty at the end, and only there.
    #[prost(string, tag = "2")]
    pub next_page_token: ::prost::alloc::string::String,
    /// How many entries match, over all pages.
    #[prost(int32, tag = "3")]
    pub total_size: i32,
    /// The memory only observes (`inventory.failure_memory = observe`): nothing of this hides offers or changes confidences.
    #[prost(bool, tag = "4")]
    pub observes_only: bool,
}
/// How launches went somewhere, over the last 30 days.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct OfferHealth {
    /// What it is.
    #[prost(enumeration = "offer_health::Kind", tag = "1")]
    pub kind: i32,
    /// Its name: `vastai`, a host's id, `Offer.machine_id`, `Offer.offer_id`.
    #[prost(string, tag = "2")]
    pub name: ::prost::alloc::string::String,
    /// At which provider.
    #[prost(string, tag = "3")]
    pub provider: ::prost::alloc::string::String,
    /// Launches that ended, well or not. Limits on our calls, refused credentials and ends from outside count as none.
    #[prost(int32, tag = "4")]
    pub launch_count: i32,
    /// Those of them that came to a usable machine.
    #[prost(int32, tag = "5")]
    pub usable_count: i32,
    /// The others by reason, and complaints after the handover (`lost`, `bad_machine`): as in `Attempt.failure`, in lower case.
    #[prost(map = "string, int32", tag = "6")]
    pub failure_counts: ::std::collections::HashMap<::prost::alloc::string::String, i32>,
    /// What was learnt last: `usable`, or a reason as above.
    #[prost(string, tag = "7")]
    pub last_outcome: ::prost::alloc::string::String,
    /// When.
    #[prost(message, optional, tag = "8")]
    pub last_time: ::core::option::Option<::prost_types::Timestamp>,
    /// It in words, cleaned; empty for a success.
    #[prost(string, tag = "9")]
    pub last_message: ::prost::alloc::string::String,
    /// Hidden from everybody until then; absent when it is not. Where the memory only observes, until when it would be.
    #[prost(message, optional, tag = "10")]
    pub set_aside_until_time: ::core::option::Option<::prost_types::Timestamp>,
    /// For which reason it is hidden.
    #[prost(string, tag = "11")]
    pub set_aside_reason: ::prost::alloc::string::String,
    /// The chance that the next launch there comes to a usable machine, 0 to 1: that of an ordinary offer of it.
    #[prost(double, tag = "12")]
    pub confidence: f64,
    /// The GPU models that were launched there.
    #[prost(string, repeated, tag = "13")]
    pub gpu_models: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
}
/// Nested message and enum types in `OfferHealth`.
pub mod offer_health {
    /// What is remembered.
    #[derive(
        Clone,
        Copy,
        Debug,
        PartialEq,
        Eq,
        Hash,
        PartialOrd,
        Ord,
        ::prost::Enumeration
    )]
    #[repr(i32)]
    pub enum Kind {
        /// Not said.
        Unspecified = 0,
        /// A provider.
        Provider = 1,
        /// Who runs machines, or a place.
        Host = 2,
        /// A machine, or a place's GPUs of one model.
        Machine = 3,
        /// An offer, together with its twin by a bid.
        Offer = 4,
    }
    impl Kind {
        /// String value of the enum field names used in the ProtoBuf definition.
        ///
        /// The values are not transformed in any way and thus are considered stable
        /// (if the ProtoBuf definition does not change) and safe for programmatic use.
        pub fn as_str_name(&self) -> &'static str {
            match self {
                Self::Unspecified => "KIND_UNSPECIFIED",
                Self::Provider => "KIND_PROVIDER",
                Self::Host => "KIND_HOST",
                Self::Machine => "KIND_MACHINE",
                Self::Offer => "KIND_OFFER",
            }
        }
        /// Creates an enum from field names used in the ProtoBuf definition.
        pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
            match value {
                "KIND_UNSPECIFIED" => Some(Self::Unspecified),
                "KIND_PROVIDER" => Some(Self::Provider),
                "KIND_HOST" => Some(Self::Host),
                "KIND_MACHINE" => Some(Self::Machine),
                "KIND_OFFER" => Some(Self::Offer),
                _ => None,
            }
        }
    }
}
/// A machine that should be gone and is not proven so.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct UnconfirmedDestroy {
    /// The debt: label, account, the vendor's id, tries, the next try, until when the vendor refuses, the last error.
    #[prost(message, optional, tag = "1")]
    pub instance: ::core::option::Option<Instance>,
    /// Since when it should be gone.
    #[prost(message, optional, tag = "2")]
    pub since_time: ::core::option::Option<::prost_types::Timestamp>,
    /// What it may cost, US dollars per hour.
    #[prost(message, optional, tag = "3")]
    pub at_risk_per_hour: ::core::option::Option<crate::google_type::Money>,
    /// The same for people: `$0.2467/h`. Output only.
    #[prost(string, tag = "4")]
    pub at_risk_text: ::prost::alloc::string::String,
    /// A call to paste that ends it at its vendor, without the key.
    #[prost(string, tag = "5")]
    pub vendor_call: ::prost::alloc::string::String,
    /// For how long it should have been gone.
    #[prost(message, optional, tag = "6")]
    pub age: ::core::option::Option<::prost_types::Duration>,
}
/// Tries a destroy at once.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RetryDestroyRequest {
    /// The machine's label, as in ListUnconfirmedDestroys. Required.
    /// Example: `{"label": "gs-5abn2v1n-01kaphz700fay8vvr14d2pf2db-1"}`
    #[prost(string, tag = "1")]
    pub label: ::prost::alloc::string::String,
}
/// A destroy that is tried.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct RetryDestroyResponse {
    /// The session concerned.
    #[prost(message, optional, tag = "1")]
    pub session: ::core::option::Option<Session>,
}
/// Ends a debt by the operator's word.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SettleInstanceRequest {
    /// The machine's label, as in ListUnconfirmedDestroys. Required.
    /// Example: `{"label": "gs-5abn2v1n-01kaphz700fay8vvr14d2pf2db-1"}`
    #[prost(string, tag = "1")]
    pub label: ::prost::alloc::string::String,
    /// Why the operator is sure that it is gone, 1 to 500 characters; it is written down. Required.
    /// Example: `{"reason": "not in the vendor's console any more"}`
    #[prost(string, tag = "2")]
    pub reason: ::prost::alloc::string::String,
}
/// A debt that is over.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct SettleInstanceResponse {
    /// The session concerned.
    #[prost(message, optional, tag = "1")]
    pub session: ::core::option::Option<Session>,
}
/// Asks for strays.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ListStrayInstancesRequest {
    /// Only at this provider. Default: at all. Example: `{"provider": "vastai"}`
    #[prost(string, optional, tag = "1")]
    pub provider: ::core::option::Option<::prost::alloc::string::String>,
}
/// Strays and orphans.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ListStrayInstancesResponse {
    /// Each of them, the dearest per hour first.
    #[prost(message, repeated, tag = "1")]
    pub instances: ::prost::alloc::vec::Vec<StrayInstance>,
    /// What all of them together cost where their lists tell it, US dollars per hour.
    #[prost(message, optional, tag = "2")]
    pub price_per_hour: ::core::option::Option<crate::google_type::Money>,
    /// The same for people: `$0.2467/h`. Output only.
    #[prost(string, tag = "3")]
    pub price_text: ::prost::alloc::string::String,
    /// How many of them have no price in their list.
    #[prost(int32, tag = "4")]
    pub unpriced_count: i32,
}
/// A machine with a label of this deployment that no record wants.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct StrayInstance {
    /// Where it is.
    #[prost(string, tag = "1")]
    pub provider: ::prost::alloc::string::String,
    /// On which account.
    #[prost(string, tag = "2")]
    pub account: ::prost::alloc::string::String,
    /// The vendor's id of it.
    #[prost(string, tag = "3")]
    pub native_id: ::prost::alloc::string::String,
    /// The label that it carries.
    #[prost(string, tag = "4")]
    pub label: ::prost::alloc::string::String,
    /// The session in the label.
    #[prost(string, tag = "5")]
    pub session_id: ::prost::alloc::string::String,
    /// What it is.
    #[prost(enumeration = "stray_instance::Kind", tag = "6")]
    pub kind: i32,
    /// What the provider says of it.
    #[prost(enumeration = "instance::Status", tag = "7")]
    pub status: i32,
    /// The same in the vendor's words.
    #[prost(string, tag = "8")]
    pub raw_status: ::prost::alloc::string::String,
    /// What it costs, US dollars per hour; absent where the list does not tell.
    #[prost(message, optional, tag = "9")]
    pub price_per_hour: ::core::option::Option<crate::google_type::Money>,
    /// The same for people: `$0.2467/h`; empty where the list does not tell. Output only.
    #[prost(string, tag = "10")]
    pub price_text: ::prost::alloc::string::String,
    /// When it was first seen; a stray, restarts of the server included.
    #[prost(message, optional, tag = "11")]
    pub first_seen_time: ::core::option::Option<::prost_types::Timestamp>,
    /// When it was last seen.
    #[prost(message, optional, tag = "12")]
    pub last_seen_time: ::core::option::Option<::prost_types::Timestamp>,
    /// In how many complete lists.
    #[prost(int32, tag = "13")]
    pub list_count: i32,
    /// It has been there for longer than `lifecycle.orphan_grace_period`.
    #[prost(bool, tag = "14")]
    pub alarmed: bool,
    /// What the destroy of an orphan waits for; empty for a stray.
    #[prost(string, tag = "15")]
    pub waits_for: ::prost::alloc::string::String,
    /// A call to paste that ends it at its vendor, without the key; empty where none is known.
    #[prost(string, tag = "16")]
    pub vendor_call: ::prost::alloc::string::String,
    /// The command line that keeps it; empty for an orphan, and for a stray whose session is on record with other machines.
    #[prost(string, tag = "17")]
    pub adopt_command: ::prost::alloc::string::String,
    /// The command line that destroys it.
    #[prost(string, tag = "18")]
    pub destroy_command: ::prost::alloc::string::String,
}
/// Nested message and enum types in `StrayInstance`.
pub mod stray_instance {
    /// What it is.
    #[derive(
        Clone,
        Copy,
        Debug,
        PartialEq,
        Eq,
        Hash,
        PartialOrd,
        Ord,
        ::prost::Enumeration
    )]
    #[repr(i32)]
    pub enum Kind {
        /// Never sent.
        Unspecified = 0,
        /// No record knows its label: another server with the same deployment id made it, or a database that was lost.
        Stray = 1,
        /// Its record says that it is gone, or belongs to another machine. It is destroyed unasked, when `waits_for` is over.
        Orphan = 2,
    }
    impl Kind {
        /// String value of the enum field names used in the ProtoBuf definition.
        ///
        /// The values are not transformed in any way and thus are considered stable
        /// (if the ProtoBuf definition does not change) and safe for programmatic use.
        pub fn as_str_name(&self) -> &'static str {
            match self {
                Self::Unspecified => "KIND_UNSPECIFIED",
                Self::Stray => "KIND_STRAY",
                Self::Orphan => "KIND_ORPHAN",
            }
        }
        /// Creates an enum from field names used in the ProtoBuf definition.
        pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
            match value {
                "KIND_UNSPECIFIED" => Some(Self::Unspecified),
                "KIND_STRAY" => Some(Self::Stray),
                "KIND_ORPHAN" => Some(Self::Orphan),
                _ => None,
            }
        }
    }
}
/// Asks for foreign machines.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ListForeignInstancesRequest {
    /// Only at this provider. Default: at all. Example: `{"provider": "vastai"}`
    #[prost(string, optional, tag = "1")]
    pub provider: ::core::option::Option<::prost::alloc::string::String>,
}
/// Foreign machines.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ListForeignInstancesResponse {
    /// Each of them, the dearest per hour first.
    #[prost(message, repeated, tag = "1")]
    pub instances: ::prost::alloc::vec::Vec<ForeignInstance>,
    /// What all of them together cost where their lists tell it, US dollars per hour.
    #[prost(message, optional, tag = "2")]
    pub price_per_hour: ::core::option::Option<crate::google_type::Money>,
    /// The same for people: `$0.2467/h`. Output only.
    #[prost(string, tag = "3")]
    pub price_text: ::prost::alloc::string::String,
    /// How many of them have no price in their list.
    #[prost(int32, tag = "4")]
    pub unpriced_count: i32,
}
/// A machine on one of our accounts that is not of this deployment.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ForeignInstance {
    /// Where it is.
    #[prost(string, tag = "1")]
    pub provider: ::prost::alloc::string::String,
    /// On which account.
    #[prost(string, tag = "2")]
    pub account: ::prost::alloc::string::String,
    /// The vendor's id of it.
    #[prost(string, tag = "3")]
    pub native_id: ::prost::alloc::string::String,
    /// The label or name that it carries; empty without one.
    #[prost(string, tag = "4")]
    pub label: ::prost::alloc::string::String,
    /// The tag of the other deployment whose label it carries; empty when the label is no such one.
    #[prost(string, tag = "5")]
    pub other_deployment: ::prost::alloc::string::String,
    /// What the provider says of it.
    #[prost(enumeration = "instance::Status", tag = "6")]
    pub status: i32,
    /// The same in the vendor's words.
    #[prost(string, tag = "7")]
    pub raw_status: ::prost::alloc::string::String,
    /// What it costs, US dollars per hour; absent where the list does not tell.
    #[prost(message, optional, tag = "8")]
    pub price_per_hour: ::core::option::Option<crate::google_type::Money>,
    /// The same for people: `$0.2467/h`; empty where the list does not tell. Output only.
    #[prost(string, tag = "9")]
    pub price_text: ::prost::alloc::string::String,
    /// When it was first seen since the server started.
    #[prost(message, optional, tag = "10")]
    pub first_seen_time: ::core::option::Option<::prost_types::Timestamp>,
    /// When it was last seen.
    #[prost(message, optional, tag = "11")]
    pub last_seen_time: ::core::option::Option<::prost_types::Timestamp>,
    /// In how many complete lists.
    #[prost(int32, tag = "12")]
    pub list_count: i32,
}
/// Keeps a stray.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct AdoptInstanceRequest {
    /// Where it is. Required. Example: `{"provider": "vastai"}`
    #[prost(string, tag = "1")]
    pub provider: ::prost::alloc::string::String,
    /// The vendor's id of it, as in ListStrayInstances. Required. Example: `{"nativeId": "17294410"}`
    #[prost(string, tag = "2")]
    pub native_id: ::prost::alloc::string::String,
    /// Whose session it becomes, 1 to 128 characters. Default: `default`. Example: `{"consumerId": "alice"}`
    #[prost(string, optional, tag = "3")]
    pub consumer_id: ::core::option::Option<::prost::alloc::string::String>,
    /// For how long from now, at least 60 s and at most the hard limit. Default: 1 hour. Example: `{"reservation": "7200s"}`
    #[prost(message, optional, tag = "4")]
    pub reservation: ::core::option::Option<::prost_types::Duration>,
}
/// A stray that is kept.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct AdoptInstanceResponse {
    /// Its session.
    #[prost(message, optional, tag = "1")]
    pub session: ::core::option::Option<Session>,
}
/// Destroys a stray or an orphan.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct DestroyInstanceRequest {
    /// Where it is. Required. Example: `{"provider": "vastai"}`
    #[prost(string, tag = "1")]
    pub provider: ::prost::alloc::string::String,
    /// The vendor's id of it, as in ListStrayInstances. Required. Example: `{"nativeId": "17294410"}`
    #[prost(string, tag = "2")]
    pub native_id: ::prost::alloc::string::String,
}
/// A stray or an orphan that is destroyed.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct DestroyInstanceResponse {
    /// Its session: over when the machine is proven gone.
    #[prost(message, optional, tag = "1")]
    pub session: ::core::option::Option<Session>,
}
/// Asks for a look at the machines.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SweepNowRequest {
    /// Only at this provider. Default: at all. Example: `{"provider": "vastai"}`
    #[prost(string, optional, tag = "1")]
    pub provider: ::core::option::Option<::prost::alloc::string::String>,
}
/// What a look at the machines came to.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct SweepNowResponse {
    /// Providers that answered with a complete list.
    #[prost(string, repeated, tag = "1")]
    pub complete_providers: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// Providers that did not.
    #[prost(message, repeated, tag = "2")]
    pub failures: ::prost::alloc::vec::Vec<SweepFailure>,
    /// Strays and orphans there, the dearest per hour first; of a provider that failed, those of its last complete list.
    #[prost(message, repeated, tag = "3")]
    pub strays: ::prost::alloc::vec::Vec<StrayInstance>,
    /// Foreign machines there, likewise.
    #[prost(message, repeated, tag = "4")]
    pub foreign: ::prost::alloc::vec::Vec<ForeignInstance>,
}
/// A provider without a complete list.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SweepFailure {
    /// Which.
    #[prost(string, tag = "1")]
    pub provider: ::prost::alloc::string::String,
    /// Why.
    #[prost(string, tag = "2")]
    pub error: ::prost::alloc::string::String,
}
/// Sets or lifts a hold.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SetHoldRequest {
    /// Where. Required. Example: `{"provider": "vastai"}`
    #[prost(string, tag = "1")]
    pub provider: ::prost::alloc::string::String,
    /// What is held. Required. Example: `{"kind": "HOLD_KIND_LAUNCHES"}`
    #[prost(enumeration = "HoldKind", tag = "2")]
    pub kind: i32,
    /// Why, 1 to 500 characters; it is written down. Required, but to lift a hold. Example: `{"reason": "the vendor migrates"}`
    #[prost(string, tag = "5")]
    pub reason: ::prost::alloc::string::String,
    /// Lift the hold of this kind instead; no end goes with it. Default: false. Example: `{"lift": true}`
    #[prost(bool, tag = "6")]
    pub lift: bool,
    /// How long it lasts. Default: until it is lifted.
    #[prost(oneof = "set_hold_request::End", tags = "3, 4")]
    pub end: ::core::option::Option<set_hold_request::End>,
}
/// Nested message and enum types in `SetHoldRequest`.
pub mod set_hold_request {
    /// How long it lasts. Default: until it is lifted.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Oneof)]
    pub enum End {
        /// Until then; not before now. Default: until it is lifted. Example: `{"untilTime": "2026-11-23T22:00:00Z"}`
        #[prost(message, tag = "3")]
        UntilTime(::prost_types::Timestamp),
        /// For so long from now, 1 s to 366 days. Default: until it is lifted. Example: `{"duration": "7200s"}`
        #[prost(message, tag = "4")]
        Duration(::prost_types::Duration),
    }
}
/// The holds after the order.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct SetHoldResponse {
    /// Those in force, at all providers.
    #[prost(message, repeated, tag = "1")]
    pub holds: ::prost::alloc::vec::Vec<Hold>,
}
/// Asks for holds.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct GetHoldRequest {
    /// Only at this provider. Default: at all. Example: `{"provider": "vastai"}`
    #[prost(string, optional, tag = "1")]
    pub provider: ::core::option::Option<::prost::alloc::string::String>,
}
/// Holds.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct GetHoldResponse {
    /// Those in force.
    #[prost(message, repeated, tag = "1")]
    pub holds: ::prost::alloc::vec::Vec<Hold>,
    /// Nothing automatic happens until an operator accepts the database: no launch, no end by the clock, no destroy but those
    /// that users and operators ask for.
    #[prost(bool, tag = "2")]
    pub database_frozen: bool,
    /// Why; empty when it is not frozen.
    #[prost(string, tag = "3")]
    pub frozen_reason: ::prost::alloc::string::String,
}
/// A hold.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Hold {
    /// Where.
    #[prost(string, tag = "1")]
    pub provider: ::prost::alloc::string::String,
    /// What is held.
    #[prost(enumeration = "HoldKind", tag = "2")]
    pub kind: i32,
    /// Until when; absent = until it is lifted.
    #[prost(message, optional, tag = "3")]
    pub until_time: ::core::option::Option<::prost_types::Timestamp>,
    /// Why.
    #[prost(string, tag = "4")]
    pub reason: ::prost::alloc::string::String,
    /// Who set it: an operator, or `sweeper`.
    #[prost(string, tag = "5")]
    pub set_by: ::prost::alloc::string::String,
    /// When.
    #[prost(message, optional, tag = "6")]
    pub set_time: ::core::option::Option<::prost_types::Timestamp>,
}
/// Accepts the database.
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct AcceptDatabaseRequest {}
/// The database is accepted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct AcceptDatabaseResponse {}
/// Asks for the audit's entries.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ListAuditEntriesRequest {
    /// At most this many, 0 to 1000; more is taken as 1000. Default: 50. Example: `{"pageSize": 20}`
    #[prost(int32, tag = "1")]
    pub page_size: i32,
    /// Where to go on: `next_page_token` of the page before. Default: from the latest. Example: `{"pageToken": "YTEuNDI"}`
    #[prost(string, tag = "2")]
    pub page_token: ::prost::alloc::string::String,
}
/// A page of the audit, the latest entry first.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ListAuditEntriesResponse {
    /// The entries.
    #[prost(message, repeated, tag = "1")]
    pub entries: ::prost::alloc::vec::Vec<AuditEntry>,
    /// Where the next page starts; empty at the end, and only there.
    #[prost(string, tag = "2")]
    pub next_page_token: ::prost::alloc::string::String,
}
/// One thing that somebody ordered.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct AuditEntry {
    /// Its number: later ones have larger numbers.
    #[prost(int64, tag = "1")]
    pub number: i64,
    /// When.
    #[prost(message, optional, tag = "2")]
    pub time: ::core::option::Option<::prost_types::Timestamp>,
    /// Who: the name of a token; without authentication the consumer of the session, or `operator`.
    #[prost(string, tag = "3")]
    pub actor: ::prost::alloc::string::String,
    /// What: `create_session`, `destroy_session`, `settle_instance`, `set_hold`, `create_token` and so on.
    #[prost(string, tag = "4")]
    pub action: ::prost::alloc::string::String,
    /// On what: a session, a label, a token, or a provider and what is there.
    #[prost(string, tag = "5")]
    pub target: ::prost::alloc::string::String,
    /// Why, or with which values.
    #[prost(string, tag = "6")]
    pub detail: ::prost::alloc::string::String,
}
/// Asks for the end of every session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct DrainSessionsRequest {
    /// Only tell which sessions it would end. Default: false. Example: `{"validateOnly": true}`
    #[prost(bool, tag = "1")]
    pub validate_only: bool,
}
/// The sessions that end.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct DrainSessionsResponse {
    /// Each that was not over, as it is after the call; those that were ending already are among them.
    #[prost(message, repeated, tag = "1")]
    pub sessions: ::prost::alloc::vec::Vec<Session>,
    /// What their machines may cost together until they are proven gone, US dollars per hour.
    #[prost(message, optional, tag = "2")]
    pub at_risk_per_hour: ::core::option::Option<crate::google_type::Money>,
    /// The same for people: `$0.2467/h`. Output only.
    #[prost(string, tag = "3")]
    pub at_risk_text: ::prost::alloc::string::String,
}
/// Asks for a token.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct CreateTokenRequest {
    /// Its name, which stands for its bearer in events and in the audit: 1 to 64 characters of `a-z`, `0-9`, `.`, `_` and `-`, the
    /// first a letter or a digit. Each name is given once. Required. Example: `{"name": "ci"}`
    #[prost(string, tag = "1")]
    pub name: ::prost::alloc::string::String,
    /// What its bearer may do. Required. Example: `{"role": "TOKEN_ROLE_CONSUMER"}`
    #[prost(enumeration = "TokenRole", tag = "2")]
    pub role: i32,
    /// The consumer whose sessions, costs and events alone its bearer sees and touches, and who is meant where a request names
    /// none; not with the role admin. Default: all consumers. Example: `{"consumerId": "alice"}`
    #[prost(string, optional, tag = "3")]
    pub consumer_id: ::core::option::Option<::prost::alloc::string::String>,
    /// How long it is good, one minute to ten years. Default: until it is revoked. Example: `{"lifetime": "2592000s"}`
    #[prost(message, optional, tag = "4")]
    pub lifetime: ::core::option::Option<::prost_types::Duration>,
}
/// The new token.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct CreateTokenResponse {
    /// What is known of it.
    #[prost(message, optional, tag = "1")]
    pub token: ::core::option::Option<Token>,
    /// Its text, to be sent as the header `Authorization: Bearer TEXT`. It is never told again.
    #[prost(string, tag = "2")]
    pub token_text: ::prost::alloc::string::String,
}
/// Asks for the tokens.
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ListTokensRequest {}
/// The tokens.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ListTokensResponse {
    /// Those of settings and files first, then by name; revoked and expired ones are among them.
    #[prost(message, repeated, tag = "1")]
    pub tokens: ::prost::alloc::vec::Vec<Token>,
}
/// A token, without its text.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Token {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: ::prost::alloc::string::String,
    /// What its bearer may do.
    #[prost(enumeration = "TokenRole", tag = "2")]
    pub role: i32,
    /// The consumer whose sessions alone its bearer sees and touches; absent = all.
    #[prost(string, optional, tag = "3")]
    pub consumer_id: ::core::option::Option<::prost::alloc::string::String>,
    /// When it was made; of one from a setting or a file, when the server was started.
    #[prost(message, optional, tag = "4")]
    pub create_time: ::core::option::Option<::prost_types::Timestamp>,
    /// Who made it: the name of a token, `operator` without authentication, or where it was configured.
    #[prost(string, tag = "5")]
    pub created_by: ::prost::alloc::string::String,
    /// Until when it is good; absent = until it is revoked.
    #[prost(message, optional, tag = "6")]
    pub expire_time: ::core::option::Option<::prost_types::Timestamp>,
    /// Since when it is revoked.
    #[prost(message, optional, tag = "7")]
    pub revoke_time: ::core::option::Option<::prost_types::Timestamp>,
    /// Who revoked it.
    #[prost(string, tag = "8")]
    pub revoked_by: ::prost::alloc::string::String,
    /// When it was last used since the server was started.
    #[prost(message, optional, tag = "9")]
    pub last_used_time: ::core::option::Option<::prost_types::Timestamp>,
    /// Where it comes from: `database`, a setting or a file.
    #[prost(string, tag = "10")]
    pub origin: ::prost::alloc::string::String,
}
/// Asks for the end of a token.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RevokeTokenRequest {
    /// Its name. Required. Example: `{"name": "ci"}`
    #[prost(string, tag = "1")]
    pub name: ::prost::alloc::string::String,
}
/// The token that has ended.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RevokeTokenResponse {
    /// What is known of it.
    #[prost(message, optional, tag = "1")]
    pub token: ::core::option::Option<Token>,
}
/// What the bearer of a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum TokenRole {
    /// Never sent.
    Unspecified = 0,
    /// Everything.
    Admin = 1,
    /// Rent, use and end sessions, and look at them, their costs and the offers.
    Consumer = 2,
    /// Look at sessions, costs and offers; without a consumer at everything that an operator looks at, and the metrics, too.
    ReadOnly = 3,
}
impl TokenRole {
    /// String value of the enum field names used in the ProtoBuf definition.
    ///
    /// The values are not transformed in any way and thus are considered stable
    /// (if the ProtoBuf definition does not change) and safe for programmatic use.
    pub fn as_str_name(&self) -> &'static str {
        match self {
            Self::Unspecified => "TOKEN_ROLE_UNSPECIFIED",
            Self::Admin => "TOKEN_ROLE_ADMIN",
            Self::Consumer => "TOKEN_ROLE_CONSUMER",
            Self::ReadOnly => "TOKEN_ROLE_READ_ONLY",
        }
    }
    /// Creates an enum from field names used in the ProtoBuf definition.
    pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
        match value {
            "TOKEN_ROLE_UNSPECIFIED" => Some(Self::Unspecified),
            "TOKEN_ROLE_ADMIN" => Some(Self::Admin),
            "TOKEN_ROLE_CONSUMER" => Some(Self::Consumer),
            "TOKEN_ROLE_READ_ONLY" => Some(Self::ReadOnly),
            _ => None,
        }
    }
}
/// What can be held at a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum HoldKind {
    /// Never sent.
    Unspecified = 0,
    /// No new machines: creates and further attempts go elsewhere or are refused with `LAUNCHES_HELD`.
    Launches = 1,
    /// Nothing is destroyed that nobody asked to destroy: orphans and, where that is the policy, strays. The sweeper sets it
    /// itself when it would destroy too large a share at one look.
    Sweeper = 2,
    /// Nothing ends by the clock: expiry, the hard limit.
    Expiry = 3,
}
impl HoldKind {
    /// String value of the enum field names used in the ProtoBuf definition.
    ///
    /// The values are not transformed in any way and thus are considered stable
    /// (if the ProtoBuf definition does not change) and safe for programmatic use.
    pub fn as_str_name(&self) -> &'static str {
        match self {
            Self::Unspecified => "HOLD_KIND_UNSPECIFIED",
            Self::Launches => "HOLD_KIND_LAUNCHES",
            Self::Sweeper => "HOLD_KIND_SWEEPER",
            Self::Expiry => "HOLD_KIND_EXPIRY",
        }
    }
    /// Creates an enum from field names used in the ProtoBuf definition.
    pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
        match value {
            "HOLD_KIND_UNSPECIFIED" => Some(Self::Unspecified),
            "HOLD_KIND_LAUNCHES" => Some(Self::Launches),
            "HOLD_KIND_SWEEPER" => Some(Self::Sweeper),
            "HOLD_KIND_EXPIRY" => Some(Self::Expiry),
            _ => None,
        }
    }
}
/// Generated client implementations.
pub mod operator_service_client {
    #![allow(
        unused_variables,
        dead_code,
        missing_docs,
        clippy::wildcard_imports,
        clippy::let_unit_value,
    )]
    use tonic::codegen::*;
    use tonic::codegen::http::Uri;
    /// How the providers do, which machines may still cost money though they should be gone or though no record wants them,
    /// and what an operator orders about them.
    ///
    /// Orders are for admins only (PERMISSION_DENIED `ROLE_REQUIRED`), looks also for read-only tokens without a consumer. Who
    /// ordered what is written down before it is done: ListAuditEntries. Orders take no `request_id`, since each names the state
    /// that shall be: a repeated SetHold or RetryDestroy comes to the same once more, and what was done already is refused with the
    /// reason that says so (`STRAY_NOT_FOUND`, `DEBT_SETTLED`, `HOLD_NOT_FOUND`, `DATABASE_ACCEPTED`, `TOKEN_EXISTS`,
    /// `TOKEN_NOT_FOUND`). None rents a machine.
    ///
    /// A whole session with grpcurl; put the ids of the answers in place of OFFER and SESSION:
    ///
    /// ```text,text
    /// grpcurl -plaintext localhost:8080 list
    /// grpcurl -plaintext localhost:8080 grpc.health.v1.Health/Check
    /// grpcurl -plaintext -d '{"pageSize": 5, "orderBy": "price"}' localhost:8080 gpushopper.v1.InventoryService/ListOffers
    /// grpcurl -plaintext -d '{"offerId": "OFFER"}' localhost:8080 gpushopper.v1.InventoryService/GetOffer
    /// grpcurl -plaintext -d '{"offerId": "OFFER", "reservation": "3600s"}' localhost:8080 gpushopper.v1.SessionService/CreateSession
    /// grpcurl -plaintext -d '{"sessionId": "SESSION"}' localhost:8080 gpushopper.v1.SessionService/WatchSession
    /// grpcurl -plaintext -d '{"sessionId": "SESSION", "additionalDuration": "1800s"}' localhost:8080 gpushopper.v1.SessionService/ExtendSession
    /// grpcurl -plaintext -d '{"sessionId": "SESSION"}' localhost:8080 gpushopper.v1.SessionService/CompleteSession
    /// grpcurl -plaintext -d '{"sessionId": "SESSION"}' localhost:8080 gpushopper.v1.CostService/GetSessionCost
    /// ```
    #[derive(Debug, Clone)]
    pub struct OperatorServiceClient<T> {
        inner: tonic::client::Grpc<T>,
    }
    impl OperatorServiceClient<tonic::transport::Channel> {
        /// Attempt to create a new client by connecting to a given endpoint.
        pub async fn connect<D>(dst: D) -> Result<Self, tonic::transport::Error>
        where
            D: TryInto<tonic::transport::Endpoint>,
            D::Error: Into<StdError>,
        {
            let conn = tonic::transport::Endpoint::new(dst)?.connect().await?;
            Ok(Self::new(conn))
        }
    }
    impl<T> OperatorServiceClient<T>
    where
        T: tonic::client::GrpcService<tonic::body::Body>,
        T::Error: Into<StdError>,
        T::ResponseBody: Body<Data = Bytes> + std::marker::Send + 'static,
        <T::ResponseBody as Body>::Error: Into<StdError> + std::marker::Send,
    {
        pub fn new(inner: T) -> Self {
            let inner = tonic::client::Grpc::new(inner);
            Self { inner }
        }
        pub fn with_origin(inner: T, origin: Uri) -> Self {
            let inner = tonic::client::Grpc::with_origin(inner, origin);
            Self { inner }
        }
        pub fn with_interceptor<F>(
            inner: T,
            interceptor: F,
        ) -> OperatorServiceClient<InterceptedService<T, F>>
        where
            F: tonic::service::Interceptor,
            T::ResponseBody: Default,
            T: tonic::codegen::Service<
                http::Request<tonic::body::Body>,
                Response = http::Response<
                    <T as tonic::client::GrpcService<tonic::body::Body>>::ResponseBody,
                >,
            >,
            <T as tonic::codegen::Service<
                http::Request<tonic::body::Body>,
            >>::Error: Into<StdError> + std::marker::Send + std::marker::Sync,
        {
            OperatorServiceClient::new(InterceptedService::new(inner, interceptor))
        }
        /// Compress requests with the given encoding.
        ///
        /// This requires the server to support it otherwise it might respond with an
        /// error.
        #[must_use]
        pub fn send_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.inner = self.inner.send_compressed(encoding);
            self
        }
        /// Enable decompressing responses.
        #[must_use]
        pub fn accept_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.inner = self.inner.accept_compressed(encoding);
            self
        }
        /// Limits the maximum size of a decoded message.
        ///
        /// Default: `4MB`
        #[must_use]
        pub fn max_decoding_message_size(mut self, limit: usize) -> Self {
            self.inner = self.inner.max_decoding_message_size(limit);
            self
        }
        /// Limits the maximum size of an encoded message.
        ///
        /// Default: `usize::MAX`
        #[must_use]
        pub fn max_encoding_message_size(mut self, limit: usize) -> Self {
            self.inner = self.inner.max_encoding_message_size(limit);
            self
        }
        /// Each provider's credentials, connection and offers.
        pub async fn list_providers(
            &mut self,
            request: impl tonic::IntoRequest<super::ListProvidersRequest>,
        ) -> std::result::Result<
            tonic::Response<super::ListProvidersResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.OperatorService/ListProviders",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new("gpushopper.v1.OperatorService", "ListProviders"),
                );
            self.inner.unary(req, path, codec).await
        }
        /// Machines that should be gone and are not proven so, with what they may cost per hour and the call that ends them at
        /// their vendor.
        pub async fn list_unconfirmed_destroys(
            &mut self,
            request: impl tonic::IntoRequest<super::ListUnconfirmedDestroysRequest>,
        ) -> std::result::Result<
            tonic::Response<super::ListUnconfirmedDestroysResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.OperatorService/ListUnconfirmedDestroys",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new(
                        "gpushopper.v1.OperatorService",
                        "ListUnconfirmedDestroys",
                    ),
                );
            self.inner.unary(req, path, codec).await
        }
        /// Tries one of them again at once, without waiting for its next turn.
        ///
        /// Errors: INVALID_ARGUMENT; NOT_FOUND `INSTANCE_NOT_FOUND`; FAILED_PRECONDITION `DEBT_SETTLED`, `INSTANCE_IN_USE`.
        pub async fn retry_destroy(
            &mut self,
            request: impl tonic::IntoRequest<super::RetryDestroyRequest>,
        ) -> std::result::Result<
            tonic::Response<super::RetryDestroyResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.OperatorService/RetryDestroy",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new("gpushopper.v1.OperatorService", "RetryDestroy"),
                );
            self.inner.unary(req, path, codec).await
        }
        /// Ends one of them by the operator's word: the last way out, when the machine is surely gone and no list can show it. A
        /// machine that is seen again all the same is destroyed, since its record says gone.
        ///
        /// Errors: as RetryDestroy.
        pub async fn settle_instance(
            &mut self,
            request: impl tonic::IntoRequest<super::SettleInstanceRequest>,
        ) -> std::result::Result<
            tonic::Response<super::SettleInstanceResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.OperatorService/SettleInstance",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new("gpushopper.v1.OperatorService", "SettleInstance"),
                );
            self.inner.unary(req, path, codec).await
        }
        /// Machines with a label of this deployment that no record wants: strays, which no record knows, and orphans, whose record
        /// says that they are gone and whose destroy waits for its turn or for a hold.
        ///
        /// Errors: INVALID_ARGUMENT.
        pub async fn list_stray_instances(
            &mut self,
            request: impl tonic::IntoRequest<super::ListStrayInstancesRequest>,
        ) -> std::result::Result<
            tonic::Response<super::ListStrayInstancesResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.OperatorService/ListStrayInstances",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new(
                        "gpushopper.v1.OperatorService",
                        "ListStrayInstances",
                    ),
                );
            self.inner.unary(req, path, codec).await
        }
        /// Machines on the accounts that are not of this deployment. They are reported and never touched.
        ///
        /// Errors: INVALID_ARGUMENT.
        pub async fn list_foreign_instances(
            &mut self,
            request: impl tonic::IntoRequest<super::ListForeignInstancesRequest>,
        ) -> std::result::Result<
            tonic::Response<super::ListForeignInstancesResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.OperatorService/ListForeignInstances",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new(
                        "gpushopper.v1.OperatorService",
                        "ListForeignInstances",
                    ),
                );
            self.inner.unary(req, path, codec).await
        }
        /// Keeps a stray: it becomes a running session of a consumer.
        ///
        /// Errors: INVALID_ARGUMENT; OUT_OF_RANGE `HARD_MAX_EXCEEDED`; NOT_FOUND `STRAY_NOT_FOUND`; FAILED_PRECONDITION `NOT_OURS`;
        /// ALREADY_EXISTS `SESSION_EXISTS`.
        pub async fn adopt_instance(
            &mut self,
            request: impl tonic::IntoRequest<super::AdoptInstanceRequest>,
        ) -> std::result::Result<
            tonic::Response<super::AdoptInstanceResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.OperatorService/AdoptInstance",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new("gpushopper.v1.OperatorService", "AdoptInstance"),
                );
            self.inner.unary(req, path, codec).await
        }
        /// Destroys a stray or an orphan, past holds and pace. It gets a record first, so that it is tried until it is proven gone,
        /// and paid: see ListUnconfirmedDestroys.
        ///
        /// Errors: INVALID_ARGUMENT; NOT_FOUND `STRAY_NOT_FOUND`; FAILED_PRECONDITION `NOT_OURS`.
        pub async fn destroy_instance(
            &mut self,
            request: impl tonic::IntoRequest<super::DestroyInstanceRequest>,
        ) -> std::result::Result<
            tonic::Response<super::DestroyInstanceResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.OperatorService/DestroyInstance",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new("gpushopper.v1.OperatorService", "DestroyInstance"),
                );
            self.inner.unary(req, path, codec).await
        }
        /// Lists the machines of one provider or of all now, and waits until that was looked at: a minute at most.
        ///
        /// Errors: INVALID_ARGUMENT.
        pub async fn sweep_now(
            &mut self,
            request: impl tonic::IntoRequest<super::SweepNowRequest>,
        ) -> std::result::Result<
            tonic::Response<super::SweepNowResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.OperatorService/SweepNow",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("gpushopper.v1.OperatorService", "SweepNow"));
            self.inner.unary(req, path, codec).await
        }
        /// Sets a hold at a provider, in place of one of the same kind there, or lifts it. Users' own destroys are never held.
        ///
        /// Errors: INVALID_ARGUMENT; NOT_FOUND `HOLD_NOT_FOUND` when there is none to lift.
        pub async fn set_hold(
            &mut self,
            request: impl tonic::IntoRequest<super::SetHoldRequest>,
        ) -> std::result::Result<
            tonic::Response<super::SetHoldResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.OperatorService/SetHold",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("gpushopper.v1.OperatorService", "SetHold"));
            self.inner.unary(req, path, codec).await
        }
        /// The holds in force, and whether the database is frozen.
        ///
        /// Errors: INVALID_ARGUMENT.
        pub async fn get_hold(
            &mut self,
            request: impl tonic::IntoRequest<super::GetHoldRequest>,
        ) -> std::result::Result<
            tonic::Response<super::GetHoldResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.OperatorService/GetHold",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("gpushopper.v1.OperatorService", "GetHold"));
            self.inner.unary(req, path, codec).await
        }
        /// The database is what it should be: everything automatic goes on, with all that is overdue by it, ends and destroys
        /// included. Look at sessions, strays and foreign machines before.
        ///
        /// Errors: FAILED_PRECONDITION `DATABASE_ACCEPTED` when it needs no acceptance, `EPOCH_NOT_WRITTEN` when the file beside the
        /// database that tells a copy from it can't be written: nothing was accepted.
        pub async fn accept_database(
            &mut self,
            request: impl tonic::IntoRequest<super::AcceptDatabaseRequest>,
        ) -> std::result::Result<
            tonic::Response<super::AcceptDatabaseResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.OperatorService/AcceptDatabase",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new("gpushopper.v1.OperatorService", "AcceptDatabase"),
                );
            self.inner.unary(req, path, codec).await
        }
        /// Who ordered what, the latest first: what operators order, and what users order about sessions (a KeepAlive excepted).
        /// Nothing of it is ever deleted.
        ///
        /// Errors: INVALID_ARGUMENT.
        pub async fn list_audit_entries(
            &mut self,
            request: impl tonic::IntoRequest<super::ListAuditEntriesRequest>,
        ) -> std::result::Result<
            tonic::Response<super::ListAuditEntriesResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.OperatorService/ListAuditEntries",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new("gpushopper.v1.OperatorService", "ListAuditEntries"),
                );
            self.inner.unary(req, path, codec).await
        }
        /// Ends every session that is not over, with the end reason ADMIN. Each is over when its machines are proven gone: wait for
        /// that with WaitSession. New sessions can be created meanwhile.
        pub async fn drain_sessions(
            &mut self,
            request: impl tonic::IntoRequest<super::DrainSessionsRequest>,
        ) -> std::result::Result<
            tonic::Response<super::DrainSessionsResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.OperatorService/DrainSessions",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new("gpushopper.v1.OperatorService", "DrainSessions"),
                );
            self.inner.unary(req, path, codec).await
        }
        /// The failure memory: how launches went by provider, host, machine and offer, and what is set aside until when.
        ///
        /// Errors: INVALID_ARGUMENT `INVALID_FIELD` naming every wrong field.
        pub async fn list_offer_health(
            &mut self,
            request: impl tonic::IntoRequest<super::ListOfferHealthRequest>,
        ) -> std::result::Result<
            tonic::Response<super::ListOfferHealthResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.OperatorService/ListOfferHealth",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new("gpushopper.v1.OperatorService", "ListOfferHealth"),
                );
            self.inner.unary(req, path, codec).await
        }
        /// Makes a token. Its text is told in this answer and never again; only a hash of it is kept.
        ///
        /// Errors: INVALID_ARGUMENT; ALREADY_EXISTS `TOKEN_EXISTS` when the name was ever given, also by a lost answer to this very
        /// call: take another name and revoke the first; RESOURCE_EXHAUSTED `TOO_MANY_TOKENS`.
        pub async fn create_token(
            &mut self,
            request: impl tonic::IntoRequest<super::CreateTokenRequest>,
        ) -> std::result::Result<
            tonic::Response<super::CreateTokenResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.OperatorService/CreateToken",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("gpushopper.v1.OperatorService", "CreateToken"));
            self.inner.unary(req, path, codec).await
        }
        /// Every token there is or was, without its text: those of settings and files first, then by name.
        pub async fn list_tokens(
            &mut self,
            request: impl tonic::IntoRequest<super::ListTokensRequest>,
        ) -> std::result::Result<
            tonic::Response<super::ListTokensResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.OperatorService/ListTokens",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("gpushopper.v1.OperatorService", "ListTokens"));
            self.inner.unary(req, path, codec).await
        }
        /// Ends a token at once: no call begins with it any more, and the streams that it has open are cut.
        ///
        /// Errors: INVALID_ARGUMENT; NOT_FOUND `TOKEN_NOT_FOUND`, also when it was revoked before; FAILED_PRECONDITION
        /// `TOKEN_CONFIGURED` when it comes from a setting or a file.
        pub async fn revoke_token(
            &mut self,
            request: impl tonic::IntoRequest<super::RevokeTokenRequest>,
        ) -> std::result::Result<
            tonic::Response<super::RevokeTokenResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.OperatorService/RevokeToken",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("gpushopper.v1.OperatorService", "RevokeToken"));
            self.inner.unary(req, path, codec).await
        }
    }
}
/// Asks for a session.
#[derive(Clone, PartialEq, ::prost::Message)]
#[prost(skip_debug)]
pub struct CreateSessionRequest {
    /// Who uses it: 1 to 128 characters without control characters. Default: the token's, else `default`. Example: `{"consumerId": "alice"}`
    #[prost(string, optional, tag = "1")]
    pub consumer_id: ::core::option::Option<::prost::alloc::string::String>,
    /// For what work. Default: `WORKLOAD_TYPE_SSH`. Example: `{"workloadType": "WORKLOAD_TYPE_SSH"}`
    #[prost(enumeration = "WorkloadType", tag = "4")]
    pub workload_type: i32,
    /// How long, from the first STATE_RUNNING: at least 1 minute, at most the server's hard limit (12 hours unless
    /// configured). Default: 1 hour. Example: `{"reservation": "7200s"}`
    #[prost(message, optional, tag = "5")]
    pub reservation: ::core::option::Option<::prost_types::Duration>,
    /// What happens to the disk at the end. Default: `STORAGE_POLICY_DESTROY`.
    /// Example: `{"storagePolicy": "STORAGE_POLICY_DESTROY"}`
    #[prost(enumeration = "StoragePolicy", tag = "6")]
    pub storage_policy: i32,
    /// Container or system image, 1 to 255 visible characters. Default: the template's, else the provider's image.
    /// Example: `{"dockerImage": "pytorch/pytorch:2.4.0-cuda12.4-cudnn9-runtime"}`
    #[prost(string, optional, tag = "7")]
    pub docker_image: ::core::option::Option<::prost::alloc::string::String>,
    /// Disk in GB, 1 to 100000; rounded up to what the offer can rent. Default: what `model_id` needs, else the template's, else
    /// the provider's disk (Vast.ai 50 GB, TensorDock 100 GB). Example: `{"diskGb": 100}`
    #[prost(int32, optional, tag = "8")]
    pub disk_gb: ::core::option::Option<i32>,
    /// Shell commands to run at start, at most 16384 bytes. Default: none. Example: `{"onStartCmd": "touch /root/ready"}`
    #[prost(string, optional, tag = "9")]
    pub on_start_cmd: ::core::option::Option<::prost::alloc::string::String>,
    /// Environment of the machine: at most 128 variables, names of letters, digits and `_`, not beginning with a digit,
    /// at most 128 characters; values at most 4096 bytes without line breaks. Default: none.
    /// Example: `{"env": {"HF_HOME": "/workspace/hf"}}`
    #[prost(map = "string, string", tag = "10")]
    pub env: ::std::collections::HashMap<
        ::prost::alloc::string::String,
        ::prost::alloc::string::String,
    >,
    /// The public key that may log in, one line in OpenSSH format, any type. Default: the server makes a pair and returns
    /// the private key once. Example: `{"sshPublicKey": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKq3 alice@laptop"}`
    #[prost(string, optional, tag = "11")]
    pub ssh_public_key: ::core::option::Option<::prost::alloc::string::String>,
    /// The login stage's budget, 1 to 30 minutes. Default: the provider's (Vast.ai 5 minutes, TensorDock 10 minutes).
    /// Example: `{"sshTimeout": "600s"}`
    #[prost(message, optional, tag = "12")]
    pub ssh_timeout: ::core::option::Option<::prost_types::Duration>,
    /// What is proven before STATE_RUNNING. Default: `VERIFY_LEVEL_GPU`. Example: `{"verify": "VERIFY_LEVEL_STRICT"}`
    #[prost(enumeration = "VerifyLevel", tag = "13")]
    pub verify: i32,
    /// How to rent, with `requirements`; an offer has its kind already. Default: `RENTAL_KIND_ON_DEMAND`.
    /// Example: `{"rentalKind": "RENTAL_KIND_INTERRUPTIBLE"}`
    #[prost(enumeration = "RentalKind", tag = "14")]
    pub rental_kind: i32,
    /// The bid for an interruptible offer, US dollars per hour for the whole machine, above 0 and at most 1000000. Default: the lowest that wins.
    /// Example: `{"bid": {"units": "0", "nanos": 210000000}}`
    #[prost(message, optional, tag = "15")]
    pub bid: ::core::option::Option<crate::google_type::Money>,
    /// What to do when an attempt fails. Default: as its fields say. Example: `{"failover": {"scope": "FAILOVER_SCOPE_ANY"}}`
    #[prost(message, optional, tag = "16")]
    pub failover: ::core::option::Option<Failover>,
    /// No attempt above this all-in price, US dollars per hour, above 0 and at most 1000000. Default: no limit.
    /// Example: `{"maxPricePerHour": {"units": "0", "nanos": 360000000}}`
    #[prost(message, optional, tag = "17")]
    pub max_price_per_hour: ::core::option::Option<crate::google_type::Money>,
    /// The whole session may not cost more, US dollars, above 0 and at most 1000000; it ends when it would. Default: no limit.
    /// Example: `{"maxTotalCost": {"units": "5", "nanos": 0}}`
    #[prost(message, optional, tag = "18")]
    pub max_total_cost: ::core::option::Option<crate::google_type::Money>,
    /// Allow a second session of this consumer on the same offer. Default: false. Example: `{"allowSameOffer": true}`
    #[prost(bool, tag = "19")]
    pub allow_same_offer: bool,
    /// Key-value pairs to find it by: at most 64; keys of 1 to 63 letters, digits and `._/-`, beginning with a letter or
    /// digit; values of at most 256 characters without control characters. Default: none.
    /// Example: `{"labels": {"team": "vision"}}`
    #[prost(map = "string, string", tag = "20")]
    pub labels: ::std::collections::HashMap<
        ::prost::alloc::string::String,
        ::prost::alloc::string::String,
    >,
    /// The caller's name for this request, 1 to 128 visible ASCII characters, a UUID is best: repeating the call with it
    /// does nothing new. Default: none. Example: `{"requestId": "5f0c7d6e-3b1f-4c57-9a52-2f6f6f2b6a11"}`
    #[prost(string, tag = "21")]
    pub request_id: ::prost::alloc::string::String,
    /// Only check: answer as if, create nothing. Default: false. Example: `{"validateOnly": true}`
    #[prost(bool, tag = "22")]
    pub validate_only: bool,
    /// Ends the session, with END_REASON_IDLE, when nobody used its machine for so long: no SSH connection but the server's
    /// own, nothing on the GPUs, no KeepAlive. What can't be told counts as use. 1 minute to 24 hours; 0 = never. An event
    /// TYPE_IDLE_WARNING comes before: 5 minutes or a tenth of it, at most half of it. Default: 0.
    /// Example: `{"idleThreshold": "1800s"}`
    #[prost(message, optional, tag = "23")]
    pub idle_threshold: ::core::option::Option<::prost_types::Duration>,
    /// Take from this template what the request does not say (image, environment, ports, start commands, disk, login budget),
    /// and rent only what it can run on; see ListTemplates. The machine is one to log in to by SSH in any case. Default: none.
    /// Example: `{"templateHashId": "1b2c3d4e5f60718293a4b5c6d7e8f90a"}`
    #[prost(string, optional, tag = "24")]
    pub template_hash_id: ::core::option::Option<::prost::alloc::string::String>,
    /// What the machine does when it is up. With `LAUNCH_MODE_ENTRYPOINT` it starts a server program: vLLM or TGI with the
    /// workloads `WORKLOAD_TYPE_LLM_VLLM` and `WORKLOAD_TYPE_LLM_TGI` (which need `model_id`), else `on_start_cmd` in
    /// `docker_image`. Default: `LAUNCH_MODE_SSH`. Example: `{"launchMode": "LAUNCH_MODE_ENTRYPOINT"}`
    #[prost(enumeration = "LaunchMode", tag = "25")]
    pub launch_mode: i32,
    /// The model that runs on it, 1 to 200 letters, digits and `._/:-`: what disk is rented and what GPU memory is warned about
    /// follow from the size in its name. Default: none. Example: `{"modelId": "Qwen/Qwen2.5-7B-Instruct"}`
    #[prost(string, optional, tag = "26")]
    pub model_id: ::core::option::Option<::prost::alloc::string::String>,
    /// How the weights of `model_id` are stored; goes with it. Default: as the model's name tells, else 16 bits.
    /// Example: `{"quantization": "QUANTIZATION_AWQ"}`
    #[prost(enumeration = "Quantization", tag = "27")]
    pub quantization: i32,
    /// Ports inside the machine to be reachable from outside, beside SSH: at most 32, 1 to 65535 without 22; the API's first.
    /// Default: the program's own with `LAUNCH_MODE_ENTRYPOINT` (vLLM 8000, TGI 80), else none. Example: `{"exposedPorts": \[8000\]}`
    #[prost(int32, repeated, tag = "28")]
    pub exposed_ports: ::prost::alloc::vec::Vec<i32>,
    /// More environment, limits as in `env`; like it, kept sealed and never told, not even in vendors' error texts.
    /// Default: none. Example: `{"secretEnv": {"HF_TOKEN": "hf_0123"}}`
    #[prost(map = "string, string", tag = "29")]
    pub secret_env: ::std::collections::HashMap<
        ::prost::alloc::string::String,
        ::prost::alloc::string::String,
    >,
    /// Who may fetch `docker_image`. Default: anybody. Example: `{"registryLogin": {"username": "alice", "password": "token"}}`
    #[prost(message, optional, tag = "30")]
    pub registry_login: ::core::option::Option<RegistryLogin>,
    /// What to rent. Required: one of them. Example: `{"offerId": "vastai-12345678"}`
    #[prost(oneof = "create_session_request::Target", tags = "2, 3")]
    pub target: ::core::option::Option<create_session_request::Target>,
}
/// Nested message and enum types in `CreateSessionRequest`.
pub mod create_session_request {
    /// What to rent. Required: one of them. Example: `{"offerId": "vastai-12345678"}`
    #[derive(Clone, PartialEq, ::prost::Oneof)]
    #[prost(skip_debug)]
    pub enum Target {
        /// This offer. Required unless `requirements` is given. Example: `{"offerId": "vastai-12345678"}`
        #[prost(string, tag = "2")]
        OfferId(::prost::alloc::string::String),
        /// The best that fits. Required unless `offer_id` is given.
        /// Example: `{"requirements": {"filter": {"gpuModels": \["RTX 4090"\]}, "orderBy": "expected_cost"}}`
        #[prost(message, tag = "3")]
        Requirements(super::Requirements),
    }
}
/// A created session.
#[derive(Clone, PartialEq, ::prost::Message)]
#[prost(skip_debug)]
pub struct CreateSessionResponse {
    /// The session as it is now.
    #[prost(message, optional, tag = "1")]
    pub session: ::core::option::Option<Session>,
    /// The private key, OpenSSH format, when the server made the pair. Told once, and to a repeated call until the first
    /// STATE_RUNNING and at least for 10 minutes: keep it. Secret.
    #[prost(string, tag = "2")]
    pub ssh_private_key: ::prost::alloc::string::String,
    /// Watch from here to see every event of the session, the first included.
    #[prost(string, tag = "3")]
    pub resume_token: ::prost::alloc::string::String,
    /// This call repeated an earlier one with the same `request_id`.
    #[prost(bool, tag = "4")]
    pub replayed: bool,
    /// What was accepted and yet can't be done.
    #[prost(string, repeated, tag = "5")]
    pub warnings: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
}
/// Asks for one session.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct GetSessionRequest {
    /// The session. Required. Example: `{"sessionId": "01kaphz700fay8vvr14d2pf2db"}`
    #[prost(string, tag = "1")]
    pub session_id: ::prost::alloc::string::String,
}
/// One session.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct GetSessionResponse {
    /// The session.
    #[prost(message, optional, tag = "1")]
    pub session: ::core::option::Option<Session>,
}
/// Asks for sessions.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ListSessionsRequest {
    /// Which. Default: all. Example: `{"filter": {"consumerId": "alice", "states": \["STATE_RUNNING"\]}}`
    #[prost(message, optional, tag = "1")]
    pub filter: ::core::option::Option<SessionFilter>,
    /// At most this many, 0 to 1000; more is taken as 1000. Default: 50. Example: `{"pageSize": 20}`
    #[prost(int32, tag = "2")]
    pub page_size: i32,
    /// Where to go on: `next_page_token` of the page before, with the same filter. Default: from the start.
    /// Example: `{"pageToken": "djEuNDI"}`
    #[prost(string, tag = "3")]
    pub page_token: ::prost::alloc::string::String,
}
/// A page of sessions, newest first.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ListSessionsResponse {
    /// The sessions.
    #[prost(message, repeated, tag = "1")]
    pub sessions: ::prost::alloc::vec::Vec<Session>,
    /// Where the next page starts; empty at the end, and only there.
    #[prost(string, tag = "2")]
    pub next_page_token: ::prost::alloc::string::String,
}
/// Waits for a session.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct WaitSessionRequest {
    /// The session. Required. Example: `{"sessionId": "01kaphz700fay8vvr14d2pf2db"}`
    #[prost(string, tag = "1")]
    pub session_id: ::prost::alloc::string::String,
    /// Until it is in one of these. STATE_STOPPED and STATE_FAILED always end the wait: nothing follows them.
    /// Default: `STATE_RUNNING`. Example: `{"until": \["STATE_RUNNING"\]}`
    #[prost(enumeration = "session::State", repeated, tag = "2")]
    pub until: ::prost::alloc::vec::Vec<i32>,
    /// At most this long, 0 to 10 minutes. Default: 30 seconds. Example: `{"timeout": "120s"}`
    #[prost(message, optional, tag = "3")]
    pub timeout: ::core::option::Option<::prost_types::Duration>,
}
/// The session after a wait.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct WaitSessionResponse {
    /// The session as it is now.
    #[prost(message, optional, tag = "1")]
    pub session: ::core::option::Option<Session>,
    /// It is in one of the states; otherwise time was up.
    #[prost(bool, tag = "2")]
    pub reached: bool,
}
/// Watches one session.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct WatchSessionRequest {
    /// The session. Required. Example: `{"sessionId": "01kaphz700fay8vvr14d2pf2db"}`
    #[prost(string, tag = "1")]
    pub session_id: ::prost::alloc::string::String,
    /// A bookmark after this much silence, 5 to 60 seconds. Default: 15 seconds. Example: `{"bookmarkInterval": "30s"}`
    #[prost(message, optional, tag = "4")]
    pub bookmark_interval: ::core::option::Option<::prost_types::Duration>,
    /// Where to begin. Default: with the session as it is now, then every later event.
    /// Example: `{"resumeToken": "AQAAAZqtH5wAAAAq"}`
    #[prost(oneof = "watch_session_request::Start", tags = "2, 3")]
    pub start: ::core::option::Option<watch_session_request::Start>,
}
/// Nested message and enum types in `WatchSessionRequest`.
pub mod watch_session_request {
    /// Where to begin. Default: with the session as it is now, then every later event.
    /// Example: `{"resumeToken": "AQAAAZqtH5wAAAAq"}`
    #[derive(Clone, PartialEq, Eq, Hash, ::prost::Oneof)]
    pub enum Start {
        /// With the next event, without snapshot; a bookmark comes first, for its token. Default: false. Example: `{"fromNow": true}`
        #[prost(bool, tag = "2")]
        FromNow(bool),
        /// Strictly after this token of an earlier message or create answer. Default: none; empty is none.
        /// Example: `{"resumeToken": "AQAAAZqtH5wAAAAq"}`
        #[prost(string, tag = "3")]
        ResumeToken(::prost::alloc::string::String),
    }
}
/// One message of a watch.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct WatchSessionResponse {
    /// Resume strictly after this message with it. Empty with `snapshot`: resume there from the start.
    #[prost(string, tag = "5")]
    pub resume_token: ::prost::alloc::string::String,
    /// What it tells.
    #[prost(oneof = "watch_session_response::Message", tags = "1, 2, 3, 4")]
    pub message: ::core::option::Option<watch_session_response::Message>,
}
/// Nested message and enum types in `WatchSessionResponse`.
pub mod watch_session_response {
    /// What it tells.
    #[derive(Clone, PartialEq, ::prost::Oneof)]
    pub enum Message {
        /// The session as it stands, at the beginning.
        #[prost(message, tag = "1")]
        Snapshot(super::Session),
        /// The snapshot is complete.
        #[prost(message, tag = "2")]
        SnapshotEnd(super::SnapshotEnd),
        /// Something happened.
        #[prost(message, tag = "3")]
        Event(super::SessionEvent),
        /// Nothing happened.
        #[prost(message, tag = "4")]
        Bookmark(super::Bookmark),
    }
}
/// Watches all sessions that match.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct WatchSessionsRequest {
    /// Which. Default: all. Example: `{"filter": {"consumerId": "alice"}}`
    #[prost(message, optional, tag = "1")]
    pub filter: ::core::option::Option<SessionFilter>,
    /// A bookmark after this much silence, 5 to 60 seconds. Default: 15 seconds. Example: `{"bookmarkInterval": "30s"}`
    #[prost(message, optional, tag = "5")]
    pub bookmark_interval: ::core::option::Option<::prost_types::Duration>,
    /// Where to begin. Default: with the matching open sessions, then every later event.
    /// Example: `{"endedSince": "2026-11-23T00:00:00Z"}`
    #[prost(oneof = "watch_sessions_request::Start", tags = "2, 3, 4")]
    pub start: ::core::option::Option<watch_sessions_request::Start>,
}
/// Nested message and enum types in `WatchSessionsRequest`.
pub mod watch_sessions_request {
    /// Where to begin. Default: with the matching open sessions, then every later event.
    /// Example: `{"endedSince": "2026-11-23T00:00:00Z"}`
    #[derive(Clone, PartialEq, Eq, Hash, ::prost::Oneof)]
    pub enum Start {
        /// With the matching open sessions and those that ended since then. Default: none of the ended ones.
        /// Example: `{"endedSince": "2026-11-23T00:00:00Z"}`
        #[prost(message, tag = "2")]
        EndedSince(::prost_types::Timestamp),
        /// With the next event, without snapshot; a bookmark comes first, for its token. Default: false. Example: `{"fromNow": true}`
        #[prost(bool, tag = "3")]
        FromNow(bool),
        /// Strictly after this token of an earlier message with the same filter. Default: none; empty is none.
        /// Example: `{"resumeToken": "AQAAAZqtH5wAAAAq"}`
        #[prost(string, tag = "4")]
        ResumeToken(::prost::alloc::string::String),
    }
}
/// One message of a watch over sessions.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct WatchSessionsResponse {
    /// Resume strictly after this message with it. Empty with `snapshot`: resume there from the start.
    #[prost(string, tag = "5")]
    pub resume_token: ::prost::alloc::string::String,
    /// What it tells.
    #[prost(oneof = "watch_sessions_response::Message", tags = "1, 2, 3, 4")]
    pub message: ::core::option::Option<watch_sessions_response::Message>,
}
/// Nested message and enum types in `WatchSessionsResponse`.
pub mod watch_sessions_response {
    /// What it tells.
    #[derive(Clone, PartialEq, ::prost::Oneof)]
    pub enum Message {
        /// A session as it stands, at the beginning.
        #[prost(message, tag = "1")]
        Snapshot(super::Session),
        /// All matching sessions have been told.
        #[prost(message, tag = "2")]
        SnapshotEnd(super::SnapshotEnd),
        /// Something happened.
        #[prost(message, tag = "3")]
        Event(super::SessionEvent),
        /// Nothing happened.
        #[prost(message, tag = "4")]
        Bookmark(super::Bookmark),
    }
}
/// Asks what happened to a session.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ListSessionEventsRequest {
    /// The session. Required. Example: `{"sessionId": "01kaphz700fay8vvr14d2pf2db"}`
    #[prost(string, tag = "1")]
    pub session_id: ::prost::alloc::string::String,
    /// At most this many, 0 to 1000; more is taken as 1000. Default: 50. Example: `{"pageSize": 20}`
    #[prost(int32, tag = "2")]
    pub page_size: i32,
    /// Where to go on: `next_page_token` of the page before. Default: from the first event kept.
    /// Example: `{"pageToken": "djEuNDI"}`
    #[prost(string, tag = "3")]
    pub page_token: ::prost::alloc::string::String,
}
/// A page of events, oldest first.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ListSessionEventsResponse {
    /// The events.
    #[prost(message, repeated, tag = "1")]
    pub events: ::prost::alloc::vec::Vec<SessionEvent>,
    /// Where the next page starts; empty at the end, and only there.
    #[prost(string, tag = "2")]
    pub next_page_token: ::prost::alloc::string::String,
}
/// Moves a session's expiry.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ExtendSessionRequest {
    /// The session. Required. Example: `{"sessionId": "01kaphz700fay8vvr14d2pf2db"}`
    #[prost(string, tag = "1")]
    pub session_id: ::prost::alloc::string::String,
    /// Go beyond the hard limit; operators only. Default: false. Example: `{"overrideHardMax": true}`
    #[prost(bool, tag = "4")]
    pub override_hard_max: bool,
    /// The caller's name for this request, 1 to 128 visible ASCII characters. Default: none.
    /// Example: `{"requestId": "5f0c7d6e-3b1f-4c57-9a52-2f6f6f2b6a11"}`
    #[prost(string, tag = "5")]
    pub request_id: ::prost::alloc::string::String,
    /// Only check: answer as if, change nothing. Default: false. Example: `{"validateOnly": true}`
    #[prost(bool, tag = "6")]
    pub validate_only: bool,
    /// By how much or until when. Required: one of them. Example: `{"additionalDuration": "3600s"}`
    #[prost(oneof = "extend_session_request::Extension", tags = "2, 3")]
    pub extension: ::core::option::Option<extend_session_request::Extension>,
}
/// Nested message and enum types in `ExtendSessionRequest`.
pub mod extend_session_request {
    /// By how much or until when. Required: one of them. Example: `{"additionalDuration": "3600s"}`
    #[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Oneof)]
    pub enum Extension {
        /// Later by this much, 1 second to 366 days; the resulting end is what the hard limit is checked against. Required unless `expire_time` is given. Example: `{"additionalDuration": "3600s"}`
        #[prost(message, tag = "2")]
        AdditionalDuration(::prost_types::Duration),
        /// Exactly then. Required unless `additional_duration` is given. Example: `{"expireTime": "2026-11-23T22:00:00Z"}`
        #[prost(message, tag = "3")]
        ExpireTime(::prost_types::Timestamp),
    }
}
/// A session after its expiry was moved.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ExtendSessionResponse {
    /// The session as it is now.
    #[prost(message, optional, tag = "1")]
    pub session: ::core::option::Option<Session>,
    /// Watch from here to see every event of this change.
    #[prost(string, tag = "2")]
    pub resume_token: ::prost::alloc::string::String,
    /// This call repeated an earlier one with the same `request_id`.
    #[prost(bool, tag = "3")]
    pub replayed: bool,
}
/// Changes a session's labels or its idle threshold.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct UpdateSessionRequest {
    /// The session. Required. Example: `{"sessionId": "01kaphz700fay8vvr14d2pf2db"}`
    #[prost(string, tag = "1")]
    pub session_id: ::prost::alloc::string::String,
    /// All labels after the change; limits as in CreateSession. To remove all, leave it out and name it in `update_mask`.
    /// Default: as they are. Example: `{"labels": {"team": "vision"}}`
    #[prost(map = "string, string", tag = "2")]
    pub labels: ::std::collections::HashMap<
        ::prost::alloc::string::String,
        ::prost::alloc::string::String,
    >,
    /// What is changed: `labels`, `idle_threshold` or both. Default: the fields that are given, at least one.
    /// Example: `{"updateMask": "labels"}`
    #[prost(message, optional, tag = "3")]
    pub update_mask: ::core::option::Option<::prost_types::FieldMask>,
    /// The caller's name for this request, 1 to 128 visible ASCII characters. Default: none.
    /// Example: `{"requestId": "5f0c7d6e-3b1f-4c57-9a52-2f6f6f2b6a11"}`
    #[prost(string, tag = "4")]
    pub request_id: ::prost::alloc::string::String,
    /// Only check: answer as if, change nothing. Default: false. Example: `{"validateOnly": true}`
    #[prost(bool, tag = "5")]
    pub validate_only: bool,
    /// The idle threshold after the change, 1 minute to 24 hours; 0 = never ends for idleness. Default: as it is.
    /// Example: `{"idleThreshold": "1800s"}`
    #[prost(message, optional, tag = "6")]
    pub idle_threshold: ::core::option::Option<::prost_types::Duration>,
}
/// A changed session.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct UpdateSessionResponse {
    /// The session as it is now.
    #[prost(message, optional, tag = "1")]
    pub session: ::core::option::Option<Session>,
    /// Watch from here to see every event of this change.
    #[prost(string, tag = "2")]
    pub resume_token: ::prost::alloc::string::String,
    /// This call repeated an earlier one with the same `request_id`.
    #[prost(bool, tag = "3")]
    pub replayed: bool,
}
/// Says that a machine is in use.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct KeepAliveRequest {
    /// The session. Required. Example: `{"sessionId": "01kaphz700fay8vvr14d2pf2db"}`
    #[prost(string, tag = "1")]
    pub session_id: ::prost::alloc::string::String,
    /// The caller's name for this request, 1 to 128 visible ASCII characters: repeating the call with it does nothing new,
    /// so that each sign of life needs its own or none. Default: none.
    /// Example: `{"requestId": "5f0c7d6e-3b1f-4c57-9a52-2f6f6f2b6a11"}`
    #[prost(string, tag = "2")]
    pub request_id: ::prost::alloc::string::String,
    /// Only check: answer as if, change nothing. Default: false. Example: `{"validateOnly": true}`
    #[prost(bool, tag = "3")]
    pub validate_only: bool,
}
/// A session that is in use.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct KeepAliveResponse {
    /// The session as it is now.
    #[prost(message, optional, tag = "1")]
    pub session: ::core::option::Option<Session>,
    /// Watch from here to see every event of this change.
    #[prost(string, tag = "2")]
    pub resume_token: ::prost::alloc::string::String,
    /// This call repeated an earlier one with the same `request_id`.
    #[prost(bool, tag = "3")]
    pub replayed: bool,
}
/// Changes the key that its consumer logs in with.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RotateSessionKeyRequest {
    /// The session. Required. Example: `{"sessionId": "01kaphz700fay8vvr14d2pf2db"}`
    #[prost(string, tag = "1")]
    pub session_id: ::prost::alloc::string::String,
    /// The public key that may log in from now on, one line in OpenSSH format, any type. Default: the server makes a pair and
    /// returns the private key. Example: `{"sshPublicKey": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKq3 alice@laptop"}`
    #[prost(string, optional, tag = "2")]
    pub ssh_public_key: ::core::option::Option<::prost::alloc::string::String>,
    /// The caller's name for this request, 1 to 128 visible ASCII characters: repeating the call with it gives the same private
    /// key, for 10 minutes. Default: none. Example: `{"requestId": "5f0c7d6e-3b1f-4c57-9a52-2f6f6f2b6a11"}`
    #[prost(string, tag = "3")]
    pub request_id: ::prost::alloc::string::String,
    /// Only check: answer as if, change nothing. Default: false. Example: `{"validateOnly": true}`
    #[prost(bool, tag = "4")]
    pub validate_only: bool,
}
/// A session whose key is being changed.
#[derive(Clone, PartialEq, ::prost::Message)]
#[prost(skip_debug)]
pub struct RotateSessionKeyResponse {
    /// The session as it is now.
    #[prost(message, optional, tag = "1")]
    pub session: ::core::option::Option<Session>,
    /// Watch from here to see every event of this change.
    #[prost(string, tag = "2")]
    pub resume_token: ::prost::alloc::string::String,
    /// This call repeated an earlier one with the same `request_id`.
    #[prost(bool, tag = "3")]
    pub replayed: bool,
    /// The private key, OpenSSH format, when the server made the pair. Keep it. Secret.
    #[prost(string, tag = "4")]
    pub ssh_private_key: ::prost::alloc::string::String,
}
/// Ends a session whose work is done.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct CompleteSessionRequest {
    /// The session. Required. Example: `{"sessionId": "01kaphz700fay8vvr14d2pf2db"}`
    #[prost(string, tag = "1")]
    pub session_id: ::prost::alloc::string::String,
    /// How the machine was. Default: `OUTCOME_OK`. Example: `{"outcome": "OUTCOME_BAD_MACHINE"}`
    #[prost(enumeration = "complete_session_request::Outcome", tag = "2")]
    pub outcome: i32,
    /// The caller's name for this request, 1 to 128 visible ASCII characters. Default: none.
    /// Example: `{"requestId": "5f0c7d6e-3b1f-4c57-9a52-2f6f6f2b6a11"}`
    #[prost(string, tag = "3")]
    pub request_id: ::prost::alloc::string::String,
    /// Only check: answer as if, change nothing. Default: false. Example: `{"validateOnly": true}`
    #[prost(bool, tag = "4")]
    pub validate_only: bool,
}
/// Nested message and enum types in `CompleteSessionRequest`.
pub mod complete_session_request {
    /// How the machine was.
    #[derive(
        Clone,
        Copy,
        Debug,
        PartialEq,
        Eq,
        Hash,
        PartialOrd,
        Ord,
        ::prost::Enumeration
    )]
    #[repr(i32)]
    pub enum Outcome {
        /// Not said: `OUTCOME_OK`.
        Unspecified = 0,
        /// It was fine.
        Ok = 1,
        /// It was bad: its offers are set aside, for everybody, for 24 hours.
        BadMachine = 2,
    }
    impl Outcome {
        /// String value of the enum field names used in the ProtoBuf definition.
        ///
        /// The values are not transformed in any way and thus are considered stable
        /// (if the ProtoBuf definition does not change) and safe for programmatic use.
        pub fn as_str_name(&self) -> &'static str {
            match self {
                Self::Unspecified => "OUTCOME_UNSPECIFIED",
                Self::Ok => "OUTCOME_OK",
                Self::BadMachine => "OUTCOME_BAD_MACHINE",
            }
        }
        /// Creates an enum from field names used in the ProtoBuf definition.
        pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
            match value {
                "OUTCOME_UNSPECIFIED" => Some(Self::Unspecified),
                "OUTCOME_OK" => Some(Self::Ok),
                "OUTCOME_BAD_MACHINE" => Some(Self::BadMachine),
                _ => None,
            }
        }
    }
}
/// A session that is ending or has ended.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct CompleteSessionResponse {
    /// The session as it is now.
    #[prost(message, optional, tag = "1")]
    pub session: ::core::option::Option<Session>,
    /// Watch from here to see every event of its ending.
    #[prost(string, tag = "2")]
    pub resume_token: ::prost::alloc::string::String,
    /// This call repeated an earlier one with the same `request_id`.
    #[prost(bool, tag = "3")]
    pub replayed: bool,
}
/// Ends a session at once.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct DestroySessionRequest {
    /// The session. Required. Example: `{"sessionId": "01kaphz700fay8vvr14d2pf2db"}`
    #[prost(string, tag = "1")]
    pub session_id: ::prost::alloc::string::String,
    /// The caller's name for this request, 1 to 128 visible ASCII characters. Default: none.
    /// Example: `{"requestId": "5f0c7d6e-3b1f-4c57-9a52-2f6f6f2b6a11"}`
    #[prost(string, tag = "2")]
    pub request_id: ::prost::alloc::string::String,
    /// Only check: answer as if, change nothing. Default: false. Example: `{"validateOnly": true}`
    #[prost(bool, tag = "3")]
    pub validate_only: bool,
}
/// A session that is ending or has ended.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct DestroySessionResponse {
    /// The session as it is now.
    #[prost(message, optional, tag = "1")]
    pub session: ::core::option::Option<Session>,
    /// Watch from here to see every event of its ending.
    #[prost(string, tag = "2")]
    pub resume_token: ::prost::alloc::string::String,
    /// This call repeated an earlier one with the same `request_id`.
    #[prost(bool, tag = "3")]
    pub replayed: bool,
}
/// Asks what is known about a session.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct GetSessionDiagnosticsRequest {
    /// The session. Required. Example: `{"sessionId": "01kaphz700fay8vvr14d2pf2db"}`
    #[prost(string, tag = "1")]
    pub session_id: ::prost::alloc::string::String,
}
/// What is known about a session's machines and clocks.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct GetSessionDiagnosticsResponse {
    /// The session as it is now.
    #[prost(message, optional, tag = "1")]
    pub session: ::core::option::Option<Session>,
    /// Its machines, each with its provider's last words.
    #[prost(message, repeated, tag = "2")]
    pub instances: ::prost::alloc::vec::Vec<Instance>,
    /// Since when it is in its stage.
    #[prost(message, optional, tag = "3")]
    pub stage_time: ::core::option::Option<::prost_types::Timestamp>,
    /// When the stage's budget runs out; while provisioning.
    #[prost(message, optional, tag = "4")]
    pub stage_deadline_time: ::core::option::Option<::prost_types::Timestamp>,
    /// Time since the first STATE_RUNNING, until now or the end.
    #[prost(message, optional, tag = "5")]
    pub uptime: ::core::option::Option<::prost_types::Duration>,
    /// Time until expiry, while open.
    #[prost(message, optional, tag = "6")]
    pub time_to_expiry: ::core::option::Option<::prost_types::Duration>,
    /// Logins tried in the current attempt.
    #[prost(int32, tag = "7")]
    pub probes: i32,
    /// Why the last login failed; empty when none did.
    #[prost(string, tag = "8")]
    pub last_probe_error: ::prost::alloc::string::String,
    /// When this was put together.
    #[prost(message, optional, tag = "11")]
    pub read_time: ::core::option::Option<::prost_types::Timestamp>,
    /// A fresh look at whether anybody uses the machine, when STATE_RUNNING: one reading for each signal.
    #[prost(message, repeated, tag = "12")]
    pub fresh_use: ::prost::alloc::vec::Vec<UseReading>,
    /// Why there is no such look; empty when there is one, and when it does not run.
    #[prost(string, tag = "13")]
    pub fresh_use_error: ::prost::alloc::string::String,
    /// How idleness stands; when STATE_RUNNING with an `idle_threshold`.
    #[prost(message, optional, tag = "14")]
    pub idleness: ::core::option::Option<Idleness>,
    /// A fresh look at the GPUs, when STATE_RUNNING.
    #[prost(oneof = "get_session_diagnostics_response::FreshGpu", tags = "9, 10")]
    pub fresh_gpu: ::core::option::Option<get_session_diagnostics_response::FreshGpu>,
}
/// Nested message and enum types in `GetSessionDiagnosticsResponse`.
pub mod get_session_diagnostics_response {
    /// A fresh look at the GPUs, when STATE_RUNNING.
    #[derive(Clone, PartialEq, ::prost::Oneof)]
    pub enum FreshGpu {
        /// What `nvidia-smi` told just now.
        #[prost(message, tag = "9")]
        FreshGpuReport(super::GpuReport),
        /// Why it told nothing.
        #[prost(string, tag = "10")]
        FreshGpuError(::prost::alloc::string::String),
    }
}
/// How a session's idleness stands.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Idleness {
    /// The threshold in force.
    #[prost(message, optional, tag = "1")]
    pub threshold: ::core::option::Option<::prost_types::Duration>,
    /// Since when nobody uses the machine; absent while it is used or nobody knows.
    #[prost(message, optional, tag = "2")]
    pub idle_time: ::core::option::Option<::prost_types::Timestamp>,
    /// When it ends if nobody uses it; while idle.
    #[prost(message, optional, tag = "3")]
    pub end_time: ::core::option::Option<::prost_types::Timestamp>,
    /// The TYPE_IDLE_WARNING event was told for this idleness.
    #[prost(bool, tag = "4")]
    pub warned: bool,
    /// The signal that decides, or that did until the idleness began: as the condition's reason, `look` for a look that
    /// failed, `handed_over` when nobody used it yet.
    #[prost(string, tag = "5")]
    pub last_signal: ::prost::alloc::string::String,
    /// Since when that signal has decided, or did until the idleness began.
    #[prost(message, optional, tag = "6")]
    pub last_signal_time: ::core::option::Option<::prost_types::Timestamp>,
    /// The last look at the machine.
    #[prost(message, optional, tag = "7")]
    pub look_time: ::core::option::Option<::prost_types::Timestamp>,
    /// When the next look is due.
    #[prost(message, optional, tag = "8")]
    pub next_look_time: ::core::option::Option<::prost_types::Timestamp>,
    /// When KeepAlive was last called.
    #[prost(message, optional, tag = "9")]
    pub keep_alive_time: ::core::option::Option<::prost_types::Timestamp>,
}
/// What one signal says about whether anybody uses a machine.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct UseReading {
    /// Which: `ssh_connections`, `gpu_processes`, `gpu_memory`, `gpu_utilization`, `provider_utilization`.
    #[prost(string, tag = "1")]
    pub signal: ::prost::alloc::string::String,
    /// Whether it speaks of idleness: STATUS_TRUE nobody, STATUS_FALSE somebody, STATUS_UNKNOWN it can't be told.
    #[prost(enumeration = "condition::Status", tag = "2")]
    pub idle: i32,
    /// Its value: a count, MiB or percent; absent when it can't be told.
    #[prost(int32, optional, tag = "3")]
    pub value: ::core::option::Option<i32>,
}
/// Generated client implementations.
pub mod session_service_client {
    #![allow(
        unused_variables,
        dead_code,
        missing_docs,
        clippy::wildcard_imports,
        clippy::let_unit_value,
    )]
    use tonic::codegen::*;
    use tonic::codegen::http::Uri;
    /// Sessions: rented machines, handed over by SSH. Nothing here waits for a vendor but WaitSession and the watches.
    ///
    /// Every error carries one `google.rpc.ErrorInfo` (domain `gpushopper`), wrong fields all at once in a
    /// `google.rpc.BadRequest`, and a `google.rpc.RetryInfo` where trying again helps. An id that does not exist or is not the
    /// caller's is NOT_FOUND `SESSION_NOT_FOUND`.
    ///
    /// A whole session with grpcurl; put the ids of the answers in place of OFFER and SESSION:
    ///
    /// ```text,text
    /// grpcurl -plaintext localhost:8080 list
    /// grpcurl -plaintext localhost:8080 grpc.health.v1.Health/Check
    /// grpcurl -plaintext -d '{"pageSize": 5, "orderBy": "price"}' localhost:8080 gpushopper.v1.InventoryService/ListOffers
    /// grpcurl -plaintext -d '{"offerId": "OFFER"}' localhost:8080 gpushopper.v1.InventoryService/GetOffer
    /// grpcurl -plaintext -d '{"offerId": "OFFER", "reservation": "3600s"}' localhost:8080 gpushopper.v1.SessionService/CreateSession
    /// grpcurl -plaintext -d '{"sessionId": "SESSION"}' localhost:8080 gpushopper.v1.SessionService/WatchSession
    /// grpcurl -plaintext -d '{"sessionId": "SESSION", "additionalDuration": "1800s"}' localhost:8080 gpushopper.v1.SessionService/ExtendSession
    /// grpcurl -plaintext -d '{"sessionId": "SESSION"}' localhost:8080 gpushopper.v1.SessionService/CompleteSession
    /// grpcurl -plaintext -d '{"sessionId": "SESSION"}' localhost:8080 gpushopper.v1.CostService/GetSessionCost
    /// ```
    #[derive(Debug, Clone)]
    pub struct SessionServiceClient<T> {
        inner: tonic::client::Grpc<T>,
    }
    impl SessionServiceClient<tonic::transport::Channel> {
        /// Attempt to create a new client by connecting to a given endpoint.
        pub async fn connect<D>(dst: D) -> Result<Self, tonic::transport::Error>
        where
            D: TryInto<tonic::transport::Endpoint>,
            D::Error: Into<StdError>,
        {
            let conn = tonic::transport::Endpoint::new(dst)?.connect().await?;
            Ok(Self::new(conn))
        }
    }
    impl<T> SessionServiceClient<T>
    where
        T: tonic::client::GrpcService<tonic::body::Body>,
        T::Error: Into<StdError>,
        T::ResponseBody: Body<Data = Bytes> + std::marker::Send + 'static,
        <T::ResponseBody as Body>::Error: Into<StdError> + std::marker::Send,
    {
        pub fn new(inner: T) -> Self {
            let inner = tonic::client::Grpc::new(inner);
            Self { inner }
        }
        pub fn with_origin(inner: T, origin: Uri) -> Self {
            let inner = tonic::client::Grpc::with_origin(inner, origin);
            Self { inner }
        }
        pub fn with_interceptor<F>(
            inner: T,
            interceptor: F,
        ) -> SessionServiceClient<InterceptedService<T, F>>
        where
            F: tonic::service::Interceptor,
            T::ResponseBody: Default,
            T: tonic::codegen::Service<
                http::Request<tonic::body::Body>,
                Response = http::Response<
                    <T as tonic::client::GrpcService<tonic::body::Body>>::ResponseBody,
                >,
            >,
            <T as tonic::codegen::Service<
                http::Request<tonic::body::Body>,
            >>::Error: Into<StdError> + std::marker::Send + std::marker::Sync,
        {
            SessionServiceClient::new(InterceptedService::new(inner, interceptor))
        }
        /// Compress requests with the given encoding.
        ///
        /// This requires the server to support it otherwise it might respond with an
        /// error.
        #[must_use]
        pub fn send_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.inner = self.inner.send_compressed(encoding);
            self
        }
        /// Enable decompressing responses.
        #[must_use]
        pub fn accept_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.inner = self.inner.accept_compressed(encoding);
            self
        }
        /// Limits the maximum size of a decoded message.
        ///
        /// Default: `4MB`
        #[must_use]
        pub fn max_decoding_message_size(mut self, limit: usize) -> Self {
            self.inner = self.inner.max_decoding_message_size(limit);
            self
        }
        /// Limits the maximum size of an encoded message.
        ///
        /// Default: `usize::MAX`
        #[must_use]
        pub fn max_encoding_message_size(mut self, limit: usize) -> Self {
            self.inner = self.inner.max_encoding_message_size(limit);
            self
        }
        /// Creates a session and answers as soon as it is durable; renting goes on in the background and is told by states and
        /// events, never by this call's error.
        ///
        /// Errors: INVALID_ARGUMENT `INVALID_FIELD`, `REQUEST_ID_REUSED`, `INSUFFICIENT_DISK` with what the model needs as metadata;
        /// NOT_FOUND `OFFER_NOT_FOUND`, `TEMPLATE_NOT_FOUND`; OUT_OF_RANGE
        /// `HARD_MAX_EXCEEDED`; ALREADY_EXISTS `SESSION_EXISTS` for a second session of one consumer on one offer;
        /// FAILED_PRECONDITION `PROVIDER_AUTH`, `PROVIDER_CREDIT`, `PRICE_ABOVE_LIMIT`; RESOURCE_EXHAUSTED `NO_CAPACITY`;
        /// UNAVAILABLE `SERVER_DRAINING`, and `RESTARTING` when it may have been taken: repeat it with the same `request_id`.
        pub async fn create_session(
            &mut self,
            request: impl tonic::IntoRequest<super::CreateSessionRequest>,
        ) -> std::result::Result<
            tonic::Response<super::CreateSessionResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.SessionService/CreateSession",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new("gpushopper.v1.SessionService", "CreateSession"),
                );
            self.inner.unary(req, path, codec).await
        }
        /// One session as it is now.
        ///
        /// Errors: INVALID_ARGUMENT, NOT_FOUND.
        pub async fn get_session(
            &mut self,
            request: impl tonic::IntoRequest<super::GetSessionRequest>,
        ) -> std::result::Result<
            tonic::Response<super::GetSessionResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.SessionService/GetSession",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("gpushopper.v1.SessionService", "GetSession"));
            self.inner.unary(req, path, codec).await
        }
        /// Lists sessions, newest first.
        ///
        /// Errors: INVALID_ARGUMENT.
        pub async fn list_sessions(
            &mut self,
            request: impl tonic::IntoRequest<super::ListSessionsRequest>,
        ) -> std::result::Result<
            tonic::Response<super::ListSessionsResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.SessionService/ListSessions",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("gpushopper.v1.SessionService", "ListSessions"));
            self.inner.unary(req, path, codec).await
        }
        /// Waits until a session is in one of some states, or time is up, which is no error.
        ///
        /// Errors: INVALID_ARGUMENT, NOT_FOUND; UNAVAILABLE `SERVER_DRAINING`.
        pub async fn wait_session(
            &mut self,
            request: impl tonic::IntoRequest<super::WaitSessionRequest>,
        ) -> std::result::Result<
            tonic::Response<super::WaitSessionResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.SessionService/WaitSession",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("gpushopper.v1.SessionService", "WaitSession"));
            self.inner.unary(req, path, codec).await
        }
        /// Streams every event of one session; ends with OK after its last one.
        ///
        /// Errors: INVALID_ARGUMENT, NOT_FOUND; OUT_OF_RANGE `WATCH_COMPACTED` (the token is older than what is kept) and
        /// `WATCH_STORE_REPLACED` (the token is from another life of the database): watch again without token; UNAVAILABLE
        /// `SERVER_DRAINING`: resume with the last token.
        pub async fn watch_session(
            &mut self,
            request: impl tonic::IntoRequest<super::WatchSessionRequest>,
        ) -> std::result::Result<
            tonic::Response<tonic::codec::Streaming<super::WatchSessionResponse>>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.SessionService/WatchSession",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("gpushopper.v1.SessionService", "WatchSession"));
            self.inner.server_streaming(req, path, codec).await
        }
        /// Streams every event of all sessions that match a filter before or after the event. Never ends by itself.
        ///
        /// Errors: as WatchSession.
        pub async fn watch_sessions(
            &mut self,
            request: impl tonic::IntoRequest<super::WatchSessionsRequest>,
        ) -> std::result::Result<
            tonic::Response<tonic::codec::Streaming<super::WatchSessionsResponse>>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.SessionService/WatchSessions",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new("gpushopper.v1.SessionService", "WatchSessions"),
                );
            self.inner.server_streaming(req, path, codec).await
        }
        /// Lists what happened to a session, oldest first.
        ///
        /// Errors: INVALID_ARGUMENT, NOT_FOUND.
        pub async fn list_session_events(
            &mut self,
            request: impl tonic::IntoRequest<super::ListSessionEventsRequest>,
        ) -> std::result::Result<
            tonic::Response<super::ListSessionEventsResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.SessionService/ListSessionEvents",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new("gpushopper.v1.SessionService", "ListSessionEvents"),
                );
            self.inner.unary(req, path, codec).await
        }
        /// Moves a session's expiry.
        ///
        /// Errors: INVALID_ARGUMENT, NOT_FOUND; OUT_OF_RANGE `HARD_MAX_EXCEEDED`; FAILED_PRECONDITION `SESSION_ENDED`, `COST_LIMIT`.
        pub async fn extend_session(
            &mut self,
            request: impl tonic::IntoRequest<super::ExtendSessionRequest>,
        ) -> std::result::Result<
            tonic::Response<super::ExtendSessionResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.SessionService/ExtendSession",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new("gpushopper.v1.SessionService", "ExtendSession"),
                );
            self.inner.unary(req, path, codec).await
        }
        /// Changes a session's labels or its idle threshold.
        ///
        /// Errors: INVALID_ARGUMENT, NOT_FOUND; FAILED_PRECONDITION `SESSION_ENDED` for the idle threshold.
        pub async fn update_session(
            &mut self,
            request: impl tonic::IntoRequest<super::UpdateSessionRequest>,
        ) -> std::result::Result<
            tonic::Response<super::UpdateSessionResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.SessionService/UpdateSession",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new("gpushopper.v1.SessionService", "UpdateSession"),
                );
            self.inner.unary(req, path, codec).await
        }
        /// Puts another key of the consumer on a running session's machine and takes the one before off. Answers as soon as the
        /// wish is durable; an event of TYPE_KEY_ROTATED tells that it is done, and until then the condition TYPE_KEY_INSTALLED
        /// why not. The server's own key stays.
        ///
        /// Errors: INVALID_ARGUMENT, NOT_FOUND; FAILED_PRECONDITION `SESSION_NOT_RUNNING`, `SESSION_ENDED`, and
        /// `KEY_NO_LONGER_AVAILABLE` for a repeated call whose private key is not told any more.
        pub async fn rotate_session_key(
            &mut self,
            request: impl tonic::IntoRequest<super::RotateSessionKeyRequest>,
        ) -> std::result::Result<
            tonic::Response<super::RotateSessionKeyResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.SessionService/RotateSessionKey",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new("gpushopper.v1.SessionService", "RotateSessionKey"),
                );
            self.inner.unary(req, path, codec).await
        }
        /// Says that a session's machine is in use: idleness is counted anew. Without an `idle_threshold`, and before it runs,
        /// it changes nothing.
        ///
        /// Errors: INVALID_ARGUMENT, NOT_FOUND; FAILED_PRECONDITION `SESSION_ENDED`.
        pub async fn keep_alive(
            &mut self,
            request: impl tonic::IntoRequest<super::KeepAliveRequest>,
        ) -> std::result::Result<
            tonic::Response<super::KeepAliveResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.SessionService/KeepAlive",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("gpushopper.v1.SessionService", "KeepAlive"));
            self.inner.unary(req, path, codec).await
        }
        /// Done: ends a session. On an ended one it is OK and changes nothing.
        ///
        /// Errors: INVALID_ARGUMENT, NOT_FOUND.
        pub async fn complete_session(
            &mut self,
            request: impl tonic::IntoRequest<super::CompleteSessionRequest>,
        ) -> std::result::Result<
            tonic::Response<super::CompleteSessionResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.SessionService/CompleteSession",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new("gpushopper.v1.SessionService", "CompleteSession"),
                );
            self.inner.unary(req, path, codec).await
        }
        /// Ends a session at once, from any state. On an ended one it is OK and changes nothing.
        ///
        /// Errors: INVALID_ARGUMENT, NOT_FOUND.
        pub async fn destroy_session(
            &mut self,
            request: impl tonic::IntoRequest<super::DestroySessionRequest>,
        ) -> std::result::Result<
            tonic::Response<super::DestroySessionResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.SessionService/DestroySession",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new("gpushopper.v1.SessionService", "DestroySession"),
                );
            self.inner.unary(req, path, codec).await
        }
        /// What is known about a session's machines and clocks; when STATE_RUNNING with a fresh look at its GPUs.
        ///
        /// Errors: INVALID_ARGUMENT, NOT_FOUND.
        pub async fn get_session_diagnostics(
            &mut self,
            request: impl tonic::IntoRequest<super::GetSessionDiagnosticsRequest>,
        ) -> std::result::Result<
            tonic::Response<super::GetSessionDiagnosticsResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/gpushopper.v1.SessionService/GetSessionDiagnostics",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new(
                        "gpushopper.v1.SessionService",
                        "GetSessionDiagnostics",
                    ),
                );
            self.inner.unary(req, path, codec).await
        }
    }
}
