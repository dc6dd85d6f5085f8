//! InventoryService: offers and templates.

use super::Settings;
use super::convert::{answers, market, requests};
use super::pb;
use crate::services::inventory::Inventory;
use crate::services::templates::Templates;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The service.
#[derive(Clone)]
pub struct InventoryService {
    pub(super) inventory: Inventory,
    pub(super) templates: Templates,
    pub(super) settings: Arc<Settings>,
}

#[tonic::async_trait]
impl pb::inventory_service_server::InventoryService for InventoryService {
    async fn list_offers(&self, request: Request<pb::ListOffersRequest>) -> Result<Response<pb::ListOffersResponse>, Status> {
        let mut query = requests::offers(request.get_ref(), &self.settings)?;
        self.templates.resolve(&mut query.filter).await?;
        let mut page = self.inventory.list(&query)?;
        if request.get_ref().order_by.is_empty() {
            page.applied_defaults.push("order_by=price".to_owned());
        }
        Ok(Response::new(answers::offers(page, query.filter.disk_gb)))
    }

    async fn get_offer(&self, request: Request<pb::GetOfferRequest>) -> Result<Response<pb::GetOfferResponse>, Status> {
        let (id, disk_gb) = requests::offer(request.get_ref(), &self.settings)?;
        let offer = self.inventory.get_with_disk(&id, disk_gb)?;
        Ok(Response::new(answers::found_offer(&offer, disk_gb)))
    }

    async fn list_templates(&self, request: Request<pb::ListTemplatesRequest>) -> Result<Response<pb::ListTemplatesResponse>, Status> {
        let found = self.templates.list(&requests::templates(request.get_ref(), &self.settings)?).await?;
        Ok(Response::new(pb::ListTemplatesResponse { templates: found.iter().map(|t| answers::template(t)).collect() }))
    }

    async fn get_template(&self, request: Request<pb::GetTemplateRequest>) -> Result<Response<pb::GetTemplateResponse>, Status> {
        let template = self.templates.get(&request.get_ref().template_hash_id).await?;
        Ok(Response::new(pb::GetTemplateResponse { template: Some(answers::template(&template)) }))
    }

    async fn explain_offers(&self, request: Request<pb::ExplainOffersRequest>) -> Result<Response<pb::ExplainOffersResponse>, Status> {
        let mut filter = market::explain(request.get_ref(), &self.settings)?;
        self.templates.resolve(&mut filter).await?;
        Ok(Response::new(market::explained(self.inventory.explain(&filter)?)))
    }

    async fn list_gpu_models(&self, _: Request<pb::ListGpuModelsRequest>) -> Result<Response<pb::ListGpuModelsResponse>, Status> {
        Ok(Response::new(answers::gpu_models(&self.inventory.snapshot())))
    }
}
