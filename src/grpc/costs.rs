//! CostService: what sessions cost, and what is spent now.

use super::Settings;
use super::auth::caller;
use super::convert::{answers, operations, requests};
use super::pb;
use crate::services::costs::Costs;
use crate::services::operator::Operator;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The service.
#[derive(Clone)]
pub struct CostService {
    pub(super) costs: Costs,
    pub(super) operator: Operator,
    pub(super) settings: Arc<Settings>,
}

#[tonic::async_trait]
impl pb::cost_service_server::CostService for CostService {
    async fn get_session_cost(&self, request: Request<pb::GetSessionCostRequest>) -> Result<Response<pb::GetSessionCostResponse>, Status> {
        let id = requests::session_id(&request.get_ref().session_id)?;
        let cost = self.costs.session(&caller(request.extensions())?, id).await?;
        Ok(Response::new(answers::session_cost(&cost)))
    }

    async fn get_cost_report(&self, request: Request<pb::GetCostReportRequest>) -> Result<Response<pb::GetCostReportResponse>, Status> {
        let query = requests::cost_report(request.get_ref(), &self.settings)?;
        let report = self.costs.report(&caller(request.extensions())?, query).await?;
        Ok(Response::new(answers::cost_report(report)))
    }

    async fn list_ledger_entries(&self, request: Request<pb::ListLedgerEntriesRequest>) -> Result<Response<pb::ListLedgerEntriesResponse>, Status> {
        let (query, size) = requests::ledger(request.get_ref(), &self.settings)?;
        let page = self.costs.ledger(&caller(request.extensions())?, query, size, &request.get_ref().page_token).await?;
        Ok(Response::new(answers::ledger(page)))
    }

    async fn get_spend_rate(&self, _: Request<pb::GetSpendRateRequest>) -> Result<Response<pb::GetSpendRateResponse>, Status> {
        Ok(Response::new(operations::spend(&self.operator.spend_rate())))
    }
}
