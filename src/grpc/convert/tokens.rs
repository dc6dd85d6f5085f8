//! Who may call: tokens to make and to end, and what is told of them.

use super::answers::time;
use super::fields::Fields;
use super::words::Word;
use crate::domain::access::Role;
use crate::grpc::pb;
use crate::services::Error;
use crate::services::access::{NewToken, TokenView};
use secrecy::{ExposeSecret, SecretString};
use std::time::Duration;

/// Characters of a name that is looked at; which ones are allowed the service says.
const LONGEST_NAME: usize = 64;
const LIFETIMES: std::ops::RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(10 * 366 * 86_400);

/// A token to make.
///
/// # Errors
/// `INVALID_FIELD` with every violation.
pub fn create(request: &pb::CreateTokenRequest) -> Result<NewToken, Error> {
    let mut fields = Fields::default();
    fields.given("name", &request.name, LONGEST_NAME);
    let new = NewToken {
        name: request.name.clone(),
        role: fields.required_word("role", request.role, Role::ReadOnly),
        consumer: fields.consumer("consumer_id", request.consumer_id.as_deref()),
        lifetime: fields.duration("lifetime", request.lifetime.as_ref(), LIFETIMES),
    };
    fields.done(new)
}

/// The name of a token to end.
///
/// # Errors
/// `INVALID_FIELD`.
pub fn revoke(request: &pb::RevokeTokenRequest) -> Result<String, Error> {
    let mut fields = Fields::default();
    fields.given("name", &request.name, LONGEST_NAME);
    fields.done(request.name.clone())
}

/// A new token, with its text.
#[must_use]
pub fn created(token: &TokenView, text: &SecretString) -> pb::CreateTokenResponse {
    pb::CreateTokenResponse { token: Some(told(token)), token_text: text.expose_secret().to_owned() }
}

/// All tokens.
#[must_use]
pub fn listed(tokens: &[TokenView]) -> pb::ListTokensResponse {
    pb::ListTokensResponse { tokens: tokens.iter().map(told).collect() }
}

/// A token that has ended.
#[must_use]
pub fn revoked(token: &TokenView) -> pb::RevokeTokenResponse {
    pb::RevokeTokenResponse { token: Some(told(token)) }
}

fn told(token: &TokenView) -> pb::Token {
    let record = &token.record;
    pb::Token {
        name: record.name.clone(),
        role: record.role.number(),
        consumer_id: record.consumer.as_ref().map(ToString::to_string),
        create_time: Some(time(record.created_at)),
        created_by: record.created_by.clone(),
        expire_time: record.expires_at.map(time),
        revoke_time: record.revoked_at.map(time),
        revoked_by: record.revoked_by.clone().unwrap_or_default(),
        last_used_time: token.last_used.map(time),
        origin: token.origin.clone(),
    }
}
