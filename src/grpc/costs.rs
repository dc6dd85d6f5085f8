//! CostService: what sessions cost.

use super::Settings;
use super::auth::caller;
use super::convert::{answers, requests};
use super::pb;
use crate::services::costs::Costs;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The service.
#[derive(Clone)]
pub struct CostService {
    pub(super) costs: Costs,
    pub(super) settings: Arc<Settings>,
}

#[tonic::async_trait]
impl pb::cost_service_server::CostService for CostService {
    async fn get_session_cost(&self, request: Request<pb::GetSessionCostRequest>) -> Result<Response<pb::GetSessionCostResponse>, Status> {
        let id = requests::session_id(&request.get_ref().session_id)?;
        let cost = self.costs.session(&caller(request.metadata()), id).await?;
        Ok(Response::new(answers::session_cost(&cost)))
    }

    async fn get_cost_report(&self, request: Request<pb::GetCostReportRequest>) -> Result<Response<pb::GetCostReportResponse>, Status> {
        let query = requests::cost_report(request.get_ref(), &self.settings)?;
        let report = self.costs.report(&caller(request.metadata()), query).await?;
        Ok(Response::new(answers::cost_report(report)))
    }

    async fn list_ledger_entries(&self, request: Request<pb::ListLedgerEntriesRequest>) -> Result<Response<pb::ListLedgerEntriesResponse>, Status> {
        let (query, size) = requests::ledger(request.get_ref(), &self.settings)?;
        let page = self.costs.ledger(&caller(request.metadata()), query, size, &request.get_ref().page_token).await?;
        Ok(Response::new(answers::ledger(page)))
    }
}
