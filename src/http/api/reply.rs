//! Answers: a message of the contract, with more members where the route has them.

use super::asked::Part;
use super::shapes::{adorn, names};
use crate::domain::memo::Memo;
use crate::grpc::json::tree::{Json, Map};
use crate::grpc::json::write::write;
use crate::http::json;
use crate::services::Error;
use axum::response::Response;
use http::StatusCode;

/// A message of the contract as JSON.
///
/// # Errors
/// When it can't be written: a mistake in this program.
pub fn told<M: prost::Message>(name: &str, message: &M) -> Result<Json, Error> {
    write(name, message, names, adorn).map_err(|error| {
        tracing::error!(%error, "an answer can't be written");
        Error::internal("writing the answer")
    })
}

/// The members of a message of the contract.
///
/// # Errors
/// As [`told`].
pub fn members<M: prost::Message>(name: &str, message: &M) -> Result<Map, Error> {
    match told(name, message)? {
        Json::Map(members) => Ok(members),
        _ => Err(Error::internal("writing the answer")),
    }
}

/// A message that many ask for: its JSON is made once, in the memo of what it tells.
///
/// # Errors
/// As [`told`].
pub fn kept<M: prost::Message>(name: &str, memo: &Memo, make: impl Fn() -> M) -> Result<Json, Error> {
    let written = memo.get_or_make(|| told(name, &make()).ok().and_then(|json| json.written().ok()));
    written.map(Json::Written).ok_or_else(|| Error::internal("writing the answer"))
}

/// The members of an answer around a list whose entries are at hand as JSON. `answer` has that list empty.
///
/// # Errors
/// As [`told`].
pub fn around<M: prost::Message>(name: &str, answer: &M, list: &str, entries: Vec<Json>) -> Result<Map, Error> {
    let mut members = members(name, answer)?;
    let (_, place) = members.iter_mut().find(|(own, _)| own == list).ok_or_else(|| Error::internal("writing the answer"))?;
    *place = Json::List(entries);
    Ok(members)
}

/// An answer that is a message of the contract.
///
/// # Errors
/// As [`told`].
pub fn message<M: prost::Message>(name: &str, message: &M) -> Result<Response, Error> {
    Ok(json::answer(StatusCode::OK, &told(name, message)?))
}

/// An answer of these members.
#[must_use]
pub fn object(status: StatusCode, members: Map) -> Response {
    json::answer(status, &Json::Map(members))
}

/// One more member.
pub fn add(members: &mut Map, name: &str, value: Json) {
    members.push((name.to_owned(), value));
}

/// A part of a list that is at hand whole, as `wrap` makes a message of it, with what every page of a list has.
///
/// # Errors
/// As [`told`].
pub fn listed<T, M: prost::Message>(name: &str, part: &Part, all: Vec<T>, wrap: impl FnOnce(Vec<T>) -> M) -> Result<Response, Error> {
    let total = all.len();
    let cut = part.cut(all);
    let count = cut.len();
    let mut answer = members(name, &wrap(cut))?;
    part.tell(&mut answer, count, total);
    Ok(object(StatusCode::OK, answer))
}
