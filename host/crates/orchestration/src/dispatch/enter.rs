//! From the grant to the guest: a call waits for a place and for its code, and runs.

use aral_capability::Bound;
use aral_contract::{Code, Digest, EventKind, Failure, PersonaId};
use tokio::time::timeout_at;
use tracing::Instrument as _;

use super::Dispatcher;
use super::breaking::Patience;
use super::ended::Asked;
use super::granted::{self, Granted};
use super::limits::Reservation;
use super::phase::{CallPhase, tell};
use crate::meters::Timed;

/// How often room is made for the folders of one call. Stops a call whose room others take each time from closing the folders of all.
const ROOM_ATTEMPTS_MAX: usize = 8;

impl Dispatcher {
    pub(super) async fn enter_and_invoke(
        &self,
        granted: &Granted,
        reservation: &mut Option<Reservation>,
        call: aral_capability::Call<'_>,
        asked: Asked<'_>,
        patience: &mut Patience,
    ) -> Result<aral_capability::Completion, Failure> {
        let ready = async {
            let begun = self.clock.elapsed();
            let wait = self
                .gate
                .enter()
                .instrument(tracing::info_span!(target: "aral::call", "wait"));
            let place = wait.await?;
            self.meters.stage(Timed::Wait, self.since(begun));
            tell(asked.told, CallPhase::Preparing);
            granted.compiled(&self.runtime).await?;
            // Others may have filled the log meanwhile, which says nothing of the capability.
            self.room().await?;
            // From here on it waits for its folders, and for its turn to open them, and for its guest.
            patience.begins();
            let bound = self.bound(granted).await?;
            Ok::<_, Failure>((place, bound))
        };
        let (_place, bound) = match call.until {
            Some(until) => timeout_at(until, ready).await.map_err(|_| too_late())??,
            None => ready.await?,
        };
        if let Some(session) = asked.session {
            self.check_beginning(session, granted.capability())?;
        }
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
        granted::invoke_unwinding(bound, call).await
    }

    /// The capability, with its folders open. Where there is no room for those, folders of grants that nobody uses are closed, and it is
    /// tried again: others may take the room that was made, and what was let go of may still be held by what a call of it left behind.
    pub(super) async fn bound<'a>(&self, granted: &'a Granted) -> Result<&'a Bound, Failure> {
        for _ in 0..ROOM_ATTEMPTS_MAX {
            match granted.bound(&self.runtime).await {
                Err(failure) if failure.code == Code::Unavailable && self.make_room(granted) => {}
                bound => return bound,
            }
        }
        granted.bound(&self.runtime).await
    }

    fn make_room(&self, granted: &Granted) -> bool {
        let (trust, now) = (self.trust.load(), self.clock.now());
        let is_over = |persona: &PersonaId, document: Digest| {
            let session = self.register.find(persona);
            session.is_none_or(|session| session.persona().digest != document || session.check(&trust, now).is_err())
        };
        self.ruling.load().make_room(granted, is_over)
    }
}

/// Nobody waits any longer, and the guest has not begun.
fn too_late() -> Failure {
    let message = "the call did not begin to run within the time that the server has for one";
    Failure::new(Code::LimitWall, message).with_hint("aral.toml, [serve.limits]: handler_ms = N, N above what it is")
}
