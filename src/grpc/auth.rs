//! Who calls. There is no authentication yet, so that everybody may do everything, under the name they give.

use super::convert::requests::DEFAULT_CONSUMER;
use crate::services::api::Caller;
use tonic::metadata::MetadataMap;

/// The caller of a request: named by the consumer it speaks for, unlimited in what it sees and does.
///
/// The metadata is where a token will be; none is read today.
#[must_use]
pub fn caller(_metadata: &MetadataMap, consumer: Option<&str>) -> Caller {
    let principal = consumer.filter(|name| !name.is_empty()).unwrap_or(DEFAULT_CONSUMER).to_owned();
    Caller { principal, scope: None, admin: true }
}
