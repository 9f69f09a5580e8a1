//! An exporter that panics has not delivered: its batch is sent again, as if the other end had been down, and no other sink notices.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

use aral_contract::LogId;

use super::{Delivery, DeliveryFuture, Exporter, Outgoing};

/// What is done of it where it panics is undone, or done twice: whoever takes records knows them by their numbers.
#[derive(Debug)]
pub(super) struct Unwinding(pub(super) Box<dyn Exporter>);

impl Unwinding {
    pub(super) async fn deliver(&self, log: LogId, batch: &[Outgoing]) -> Delivery {
        let mut delivering: Option<DeliveryFuture<'_>> = None;
        poll_fn(|context| {
            let poll = || {
                let delivering = delivering.get_or_insert_with(|| self.0.deliver(log, batch));
                delivering.as_mut().poll(context)
            };
            catch_unwind(AssertUnwindSafe(poll)).unwrap_or_else(|_panic| {
                let reason = "the sink panicked, which its log says more about";
                Poll::Ready(Delivery::again(batch, reason, None))
            })
        })
        .await
    }
}
