//! From the grant to the guest: a call waits for a place and for its code, and runs.

use aral_contract::{EventKind, Failure};
use tracing::Instrument as _;

use super::Dispatcher;
use super::breaking::Patience;
use super::granted::{self, Granted};
use super::limits::Reservation;
use super::stage::{Stage, Told, tell};
use crate::meters::Timed;

impl Dispatcher {
    pub(super) async fn enter_and_invoke(
        &self,
        granted: &Granted,
        reservation: &mut Option<Reservation>,
        call: aral_capability::Call<'_>,
        told: Told<'_>,
        patience: &mut Patience,
    ) -> Result<aral_capability::Completion, Failure> {
        let begun = self.clock.elapsed();
        let wait = self
            .gate
            .enter()
            .instrument(tracing::info_span!(target: "aral::call", "wait"));
        let _place = wait.await?;
        self.meters.stage(Timed::Wait, self.since(begun));
        tell(told, Stage::Preparing);
        let bound = granted.bound(&self.runtime).await?;
        let grant = granted.grant();
        self.record(Some(call.context.trace), || EventKind::InvocationStarted {
            capability: grant.capability.clone(),
            version: grant.version.clone(),
            persona: grant.persona.clone(),
            grant: grant.digest(),
        });
        if let Some(reservation) = reservation {
            reservation.begin();
        }
        patience.begins();
        granted::invoke_unwinding(bound, call).await
    }
}
