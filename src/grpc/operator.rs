//! OperatorService: what an operator looks at.

use super::Settings;
use super::auth::caller;
use super::convert::{answers, market};
use super::pb;
use crate::services::api::Caller;
use crate::services::drain::Drain;
use crate::services::operator::Operator;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The service.
#[derive(Clone)]
pub struct OperatorService {
    pub(super) operator: Operator,
    pub(super) drain: Drain,
    pub(super) settings: Arc<Settings>,
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
        Ok(Response::new(answers::unconfirmed(self.operator.unconfirmed_destroys().await?)))
    }

    async fn drain_sessions(&self, request: Request<pb::DrainSessionsRequest>) -> Result<Response<pb::DrainSessionsResponse>, Status> {
        let caller = caller(request.metadata());
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
