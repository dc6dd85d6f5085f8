//! The limit for a call: a plain tonic server that answers `GetOffer`, `ListOffers` and `ListGpuModels` with the same bytes each time. No access
//! rules, no inventory, no trace; the same messages, the same client. `benches/measure` loads it and the real server one after
//! the other: `cargo bench --bench bench -- hello-server PORT` starts it.

use crate::bodies;
use gpu_shopper::domain::shelf::Shelf;
use gpu_shopper::grpc::convert::answers;
use gpu_shopper::grpc::pb;
use gpu_shopper::grpc::pb::inventory_service_server::{InventoryService, InventoryServiceServer};
use prost::Message;
use prost::bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use tonic::{Request, Response, Status};

struct Hello {
    offer: Bytes,
    page: pb::ListOffersResponse,
    models: pb::ListGpuModelsResponse,
}

/// Serves on this port of 127.0.0.1 until it is killed.
pub fn serve(port: u16) {
    let offers: Vec<pb::Offer> = bodies::offers(50).iter().map(|offer| answers::offer(offer, None)).collect();
    let page = pb::ListOffersResponse { offers: offers.iter().map(|o| o.encode_to_vec().into()).collect(), total_size: 50, ..Default::default() };
    let shelf = Shelf::new(bodies::offers(20_000).into_iter().map(Arc::new).collect());
    let gpu_models = shelf.models().iter().map(|row| answers::gpu_model(row).encode_to_vec().into()).collect();
    let models = pb::ListGpuModelsResponse { gpu_models, ..Default::default() };
    let hello = Hello { offer: offers[0].encode_to_vec().into(), page, models };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    println!("hello-server listens on http://{address}, process {}", std::process::id());
    runtime.block_on(tonic::transport::Server::builder().add_service(InventoryServiceServer::new(hello)).serve(address)).unwrap();
}

fn not_here<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("this server only says hello"))
}

#[tonic::async_trait]
impl InventoryService for Hello {
    async fn list_offers(&self, _: Request<pb::ListOffersRequest>) -> Result<Response<pb::ListOffersResponse>, Status> {
        Ok(Response::new(self.page.clone()))
    }

    async fn get_offer(&self, _: Request<pb::GetOfferRequest>) -> Result<Response<pb::GetOfferResponse>, Status> {
        Ok(Response::new(pb::GetOfferResponse { offer: self.offer.clone() }))
    }

    async fn list_templates(&self, _: Request<pb::ListTemplatesRequest>) -> Result<Response<pb::ListTemplatesResponse>, Status> {
        not_here()
    }

    async fn get_template(&self, _: Request<pb::GetTemplateRequest>) -> Result<Response<pb::GetTemplateResponse>, Status> {
        not_here()
    }

    async fn explain_offers(&self, _: Request<pb::ExplainOffersRequest>) -> Result<Response<pb::ExplainOffersResponse>, Status> {
        not_here()
    }

    async fn list_gpu_models(&self, _: Request<pb::ListGpuModelsRequest>) -> Result<Response<pb::ListGpuModelsResponse>, Status> {
        Ok(Response::new(self.models.clone()))
    }
}
