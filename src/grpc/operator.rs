//! OperatorService: what an operator looks at and orders.

use super::Settings;
use super::auth::caller;
use super::convert::{answers, market, operations, tokens};
use super::pb;
use crate::services::access::Access;
use crate::services::api::Caller;
use crate::services::drain::Drain;
use crate::services::lifecycle::{Done, Order};
use crate::services::operator::Operator;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The service.
#[derive(Clone)]
pub struct OperatorService {
    pub(super) operator: Operator,
    pub(super) drain: Drain,
    pub(super) access: Access,
    pub(super) settings: Arc<Settings>,
}

impl OperatorService {
    async fn order(&self, caller: Caller, order: Order) -> Result<Done, Status> {
        Ok(self.operator.order(caller, order).await?)
    }
}

#[tonic::async_trait]
impl pb::operator_service_server::OperatorService for OperatorService {
    async fn list_providers(&self, _: Request<pb::ListProvidersRequest>) -> Result<Response<pb::ListProvidersResponse>, Status> {
        let providers = self.operator.providers().await?.into_iter().map(answers::provider).collect();
        Ok(Response::new(pb::ListProvidersResponse { providers }))
    }

    async fn list_unconfirmed_destroys(
        &self,
        _: Request<pb::ListUnconfirmedDestroysRequest>,
    ) -> Result<Response<pb::ListUnconfirmedDestroysResponse>, Status> {
        Ok(Response::new(operations::unconfirmed(self.operator.unconfirmed_destroys().await?)))
    }

    async fn retry_destroy(&self, request: Request<pb::RetryDestroyRequest>) -> Result<Response<pb::RetryDestroyResponse>, Status> {
        let done = self.order(caller(request.extensions())?, operations::retry(request.get_ref())?).await?;
        Ok(Response::new(pb::RetryDestroyResponse { session: operations::concerned(&done, &self.settings) }))
    }

    async fn settle_instance(&self, request: Request<pb::SettleInstanceRequest>) -> Result<Response<pb::SettleInstanceResponse>, Status> {
        let done = self.order(caller(request.extensions())?, operations::settle(request.get_ref())?).await?;
        Ok(Response::new(pb::SettleInstanceResponse { session: operations::concerned(&done, &self.settings) }))
    }

    async fn list_stray_instances(
        &self,
        request: Request<pb::ListStrayInstancesRequest>,
    ) -> Result<Response<pb::ListStrayInstancesResponse>, Status> {
        let provider = operations::provider(request.get_ref().provider.as_deref(), &self.settings)?;
        let found = self.operator.strays(&self.operator.findings(), provider.as_ref());
        Ok(Response::new(operations::strays(&found)))
    }

    async fn list_foreign_instances(
        &self,
        request: Request<pb::ListForeignInstancesRequest>,
    ) -> Result<Response<pb::ListForeignInstancesResponse>, Status> {
        let provider = operations::provider(request.get_ref().provider.as_deref(), &self.settings)?;
        let found = self.operator.foreign(&self.operator.findings(), provider.as_ref());
        Ok(Response::new(operations::foreign(&found)))
    }

    async fn adopt_instance(&self, request: Request<pb::AdoptInstanceRequest>) -> Result<Response<pb::AdoptInstanceResponse>, Status> {
        let done = self.order(caller(request.extensions())?, operations::adopt(request.get_ref(), &self.settings)?).await?;
        Ok(Response::new(pb::AdoptInstanceResponse { session: operations::concerned(&done, &self.settings) }))
    }

    async fn destroy_instance(&self, request: Request<pb::DestroyInstanceRequest>) -> Result<Response<pb::DestroyInstanceResponse>, Status> {
        let done = self.order(caller(request.extensions())?, operations::destroy(request.get_ref(), &self.settings)?).await?;
        Ok(Response::new(pb::DestroyInstanceResponse { session: operations::concerned(&done, &self.settings) }))
    }

    async fn sweep_now(&self, request: Request<pb::SweepNowRequest>) -> Result<Response<pb::SweepNowResponse>, Status> {
        let provider = operations::provider(request.get_ref().provider.as_deref(), &self.settings)?;
        let swept = self.operator.sweep_now(provider.as_ref()).await?;
        let (strays, foreign) = (self.operator.strays(&swept.findings, None), self.operator.foreign(&swept.findings, None));
        Ok(Response::new(operations::swept(&swept, &strays, &foreign)))
    }

    async fn set_hold(&self, request: Request<pb::SetHoldRequest>) -> Result<Response<pb::SetHoldResponse>, Status> {
        let order = operations::hold(request.get_ref(), &self.settings, self.operator.clock().now())?;
        let done = self.order(caller(request.extensions())?, order).await?;
        Ok(Response::new(operations::held(&done)))
    }

    async fn get_hold(&self, request: Request<pb::GetHoldRequest>) -> Result<Response<pb::GetHoldResponse>, Status> {
        let provider = operations::provider(request.get_ref().provider.as_deref(), &self.settings)?;
        Ok(Response::new(operations::holds(self.operator.findings(), provider.as_ref(), self.operator.clock().now())))
    }

    async fn accept_database(&self, request: Request<pb::AcceptDatabaseRequest>) -> Result<Response<pb::AcceptDatabaseResponse>, Status> {
        self.order(caller(request.extensions())?, Order::Accept).await?;
        Ok(Response::new(pb::AcceptDatabaseResponse {}))
    }

    async fn list_audit_entries(&self, request: Request<pb::ListAuditEntriesRequest>) -> Result<Response<pb::ListAuditEntriesResponse>, Status> {
        let size = operations::audit_size(request.get_ref())?;
        let page = self.operator.audit_page(size, &request.get_ref().page_token).await?;
        Ok(Response::new(operations::audit(page)))
    }

    async fn create_token(&self, request: Request<pb::CreateTokenRequest>) -> Result<Response<pb::CreateTokenResponse>, Status> {
        let caller = caller(request.extensions())?;
        let (token, text) = self.access.create(&caller, tokens::create(request.get_ref())?).await?;
        Ok(Response::new(tokens::created(&token, &text)))
    }

    async fn list_tokens(&self, _: Request<pb::ListTokensRequest>) -> Result<Response<pb::ListTokensResponse>, Status> {
        Ok(Response::new(tokens::listed(&self.access.list().await?)))
    }

    async fn revoke_token(&self, request: Request<pb::RevokeTokenRequest>) -> Result<Response<pb::RevokeTokenResponse>, Status> {
        let caller = caller(request.extensions())?;
        let token = self.access.revoke(&caller, &tokens::revoke(request.get_ref())?).await?;
        Ok(Response::new(tokens::revoked(&token)))
    }

    async fn drain_sessions(&self, request: Request<pb::DrainSessionsRequest>) -> Result<Response<pb::DrainSessionsResponse>, Status> {
        let caller = caller(request.extensions())?;
        // Without authentication it is an operator all the same who asks this of everybody's sessions.
        let principal = if caller.principal.is_empty() { "operator".to_owned() } else { caller.principal };
        let drained = self.drain.end_all(&Caller { principal, ..caller }, request.get_ref().validate_only).await?;
        Ok(Response::new(answers::drained(&drained, &self.settings)))
    }

    async fn list_offer_health(&self, request: Request<pb::ListOfferHealthRequest>) -> Result<Response<pb::ListOfferHealthResponse>, Status> {
        let query = market::health_query(request.get_ref(), &self.settings)?;
        Ok(Response::new(market::health(self.operator.offer_health(&query).await?)))
    }
}
