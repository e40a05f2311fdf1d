//! The body of a request, within its bounds.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Limits;
use crate::error::Refusal;

/// Bytes that a permit of the store stands for.
const UNIT: usize = 1024;

/// The memory that bodies may take together.
#[derive(Debug)]
pub(crate) struct Store {
    limits: Limits,
    units: Arc<Semaphore>,
}

/// A body that came whole. Its memory is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) bytes: Vec<u8>,
    _held: Option<OwnedSemaphorePermit>,
}

impl Store {
    pub(crate) fn new(limits: Limits) -> Self {
        let units = Semaphore::new((limits.bodies / UNIT).min(Semaphore::MAX_PERMITS));
        Self { limits, units: Arc::new(units) }
    }

    /// Receives a body.
    pub(crate) async fn receive(&self, headers: &HeaderMap, body: Body) -> Result<Received, Refusal> {
        let Limits { body: limit, body_time, .. } = self.limits;
        let length =
            headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if length.is_some_and(|length: usize| length > limit) {
            // Who asks first is told before it sends anything; others while they send, for a client whose connection is closed in
            // its face may not read why.
            if !headers.contains_key(header::EXPECT) {
                tokio::spawn(tokio::time::timeout(body_time, drain(body)));
            }
            return Err(Refusal::TooLarge { limit });
        }
        let received = tokio::time::timeout(body_time, self.take(body, limit));
        let received = received.await.unwrap_or_else(|_| Err(Refusal::Slow(body_time.as_secs_f64())))?;
        let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        // Some clients call any bytes x-www-form-urlencoded.
        if kind.get(..10).is_some_and(|own| own.eq_ignore_ascii_case(b"multipart/")) {
            return Err(Refusal::Form);
        }
        Ok(received)
    }

    async fn take(&self, mut body: Body, limit: usize) -> Result<Received, Refusal> {
        let (mut bytes, mut held) = (Vec::new(), None::<OwnedSemaphorePermit>);
        let mut refused = None;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Refusal::CutOff)?.into_data() else { continue };
            // What is refused is read to its end, as long as that may take: most clients listen only then.
            if refused.is_some() {
                continue;
            }
            if data.len() > limit - bytes.len() {
                refused = Some(Refusal::TooLarge { limit });
            } else {
                let units = (bytes.len() + data.len()).div_ceil(UNIT) - bytes.len().div_ceil(UNIT);
                let units = u32::try_from(units).unwrap_or(u32::MAX);
                match Arc::clone(&self.units).try_acquire_many_owned(units) {
                    Ok(more) => match &mut held {
                        Some(held) => held.merge(more),
                        none => *none = Some(more),
                    },
                    Err(_) => refused = Some(Refusal::Busy),
                }
            }
            if refused.is_some() {
                (bytes, held) = (Vec::new(), None);
            } else {
                bytes.extend_from_slice(&data);
            }
        }
        match refused {
            Some(refusal) => Err(refusal),
            None if bytes.is_empty() => Err(Refusal::Empty),
            None => Ok(Received { bytes, _held: held }),
        }
    }
}

/// Reads what nobody wants.
async fn drain(mut body: Body) {
    while let Some(Ok(_)) = body.frame().await {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_a_bound_together() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let limits = Limits { body: 3000, bodies: 4096, ..Limits::default() };
        let store = Store::new(limits);
        let receive =
            |size: usize| runtime.block_on(store.receive(&HeaderMap::new(), Body::from(vec![7; size])));
        let first = receive(3000).unwrap();
        assert_eq!(first.bytes, [7; 3000]);
        assert!(matches!(receive(1025), Err(Refusal::Busy)));
        assert!(matches!(receive(3001), Err(Refusal::TooLarge { limit: 3000 })));
        assert!(matches!(receive(0), Err(Refusal::Empty)));
        let second = receive(1024).unwrap();
        assert!(matches!(receive(1), Err(Refusal::Busy)));
        drop((first, second));
        assert_eq!(store.units.available_permits(), 4);
        receive(3000).unwrap();
    }
}
