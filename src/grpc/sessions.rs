//! SessionService: create, look, watch, change, end.

use super::Settings;
use super::auth::caller;
use super::convert::{answers, requests};
use super::pb;
use crate::services::lifecycle::Handle;
use crate::services::sessions::Sessions;
use crate::services::{Error, api};
use futures::StreamExt;
use futures::stream::BoxStream;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The service.
#[derive(Clone)]
pub struct SessionService {
    pub(super) lifecycle: Handle,
    pub(super) sessions: Sessions,
    pub(super) settings: Arc<Settings>,
}

impl SessionService {
    async fn command(&self, caller: api::Caller, asked: requests::Asked) -> Result<api::Commanded, Error> {
        let requests::Asked { id, command, idempotency, validate_only } = asked;
        self.lifecycle.command(caller, id, command, idempotency, validate_only).await
    }
}

#[tonic::async_trait]
impl pb::session_service_server::SessionService for SessionService {
    type WatchSessionStream = BoxStream<'static, Result<pb::WatchSessionResponse, Status>>;
    type WatchSessionsStream = BoxStream<'static, Result<pb::WatchSessionsResponse, Status>>;

    async fn create_session(&self, request: Request<pb::CreateSessionRequest>) -> Result<Response<pb::CreateSessionResponse>, Status> {
        let caller = caller(request.extensions())?;
        let create = requests::create(&requests::of_caller(request.into_inner(), &caller), &self.settings)?;
        let created = self.lifecycle.create(caller, create).await?;
        Ok(Response::new(answers::created(created, &self.settings)))
    }

    async fn get_session(&self, request: Request<pb::GetSessionRequest>) -> Result<Response<pb::GetSessionResponse>, Status> {
        let id = requests::session_id(&request.get_ref().session_id)?;
        let session = self.sessions.get(&caller(request.extensions())?, id).await?;
        Ok(Response::new(answers::found(&session, &self.settings)))
    }

    async fn list_sessions(&self, request: Request<pb::ListSessionsRequest>) -> Result<Response<pb::ListSessionsResponse>, Status> {
        let (filter, size) = requests::sessions(request.get_ref(), &self.settings)?;
        let caller = caller(request.extensions())?;
        let page = self.sessions.list(&caller, filter, size, &request.get_ref().page_token).await?;
        Ok(Response::new(answers::sessions(page, &self.settings)))
    }

    async fn wait_session(&self, request: Request<pb::WaitSessionRequest>) -> Result<Response<pb::WaitSessionResponse>, Status> {
        let (id, until, timeout) = requests::wait(request.get_ref())?;
        let (session, reached) = self.sessions.wait(&caller(request.extensions())?, id, &until, timeout).await?;
        Ok(Response::new(pb::WaitSessionResponse { session: Some(answers::session(&session, &self.settings)), reached }))
    }

    async fn watch_session(&self, request: Request<pb::WatchSessionRequest>) -> Result<Response<Self::WatchSessionStream>, Status> {
        let watch = requests::watch(request.get_ref(), &self.settings)?;
        let messages = self.sessions.watch(&caller(request.extensions())?, watch).await?;
        let settings = Arc::clone(&self.settings);
        let told = messages.map(move |m| m.map(|m| answers::watched(m, &settings)).map_err(Status::from));
        Ok(Response::new(told.boxed()))
    }

    async fn watch_sessions(&self, request: Request<pb::WatchSessionsRequest>) -> Result<Response<Self::WatchSessionsStream>, Status> {
        let watch = requests::watch_all(request.get_ref(), &self.settings)?;
        let messages = self.sessions.watch(&caller(request.extensions())?, watch).await?;
        let settings = Arc::clone(&self.settings);
        let told = messages.map(move |m| m.map(|m| answers::watched_all(m, &settings)).map_err(Status::from));
        Ok(Response::new(told.boxed()))
    }

    async fn list_session_events(&self, request: Request<pb::ListSessionEventsRequest>) -> Result<Response<pb::ListSessionEventsResponse>, Status> {
        let (id, size) = requests::events(request.get_ref())?;
        let page = self.sessions.events(&caller(request.extensions())?, id, size, &request.get_ref().page_token).await?;
        Ok(Response::new(answers::events(page, &self.settings)))
    }

    async fn extend_session(&self, request: Request<pb::ExtendSessionRequest>) -> Result<Response<pb::ExtendSessionResponse>, Status> {
        let done = self.command(caller(request.extensions())?, requests::extend(request.get_ref())?).await?;
        Ok(Response::new(answers::extended(done, &self.settings)))
    }

    async fn update_session(&self, request: Request<pb::UpdateSessionRequest>) -> Result<Response<pb::UpdateSessionResponse>, Status> {
        let done = self.command(caller(request.extensions())?, requests::update(request.get_ref())?).await?;
        Ok(Response::new(answers::updated(done, &self.settings)))
    }

    async fn keep_alive(&self, request: Request<pb::KeepAliveRequest>) -> Result<Response<pb::KeepAliveResponse>, Status> {
        let done = self.command(caller(request.extensions())?, requests::keep_alive(request.get_ref())?).await?;
        Ok(Response::new(answers::kept_alive(done, &self.settings)))
    }

    async fn rotate_session_key(&self, request: Request<pb::RotateSessionKeyRequest>) -> Result<Response<pb::RotateSessionKeyResponse>, Status> {
        let done = self.command(caller(request.extensions())?, requests::rotate(request.get_ref(), &self.settings)?).await?;
        Ok(Response::new(answers::rotated(done, &self.settings)))
    }

    async fn complete_session(&self, request: Request<pb::CompleteSessionRequest>) -> Result<Response<pb::CompleteSessionResponse>, Status> {
        let done = self.command(caller(request.extensions())?, requests::complete(request.get_ref())?).await?;
        Ok(Response::new(answers::completed(done, &self.settings)))
    }

    async fn destroy_session(&self, request: Request<pb::DestroySessionRequest>) -> Result<Response<pb::DestroySessionResponse>, Status> {
        let done = self.command(caller(request.extensions())?, requests::destroy(request.get_ref())?).await?;
        Ok(Response::new(answers::destroyed(done, &self.settings)))
    }

    async fn get_session_diagnostics(
        &self,
        request: Request<pb::GetSessionDiagnosticsRequest>,
    ) -> Result<Response<pb::GetSessionDiagnosticsResponse>, Status> {
        let id = requests::session_id(&request.get_ref().session_id)?;
        let known = self.sessions.diagnostics(&caller(request.extensions())?, id).await?;
        Ok(Response::new(answers::diagnostics(known, &self.settings)))
    }
}
