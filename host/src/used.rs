//! Keeps what agents have used up, a second at the latest after it was used, and when the host ends. What a process that is
//! killed had not kept by then is forgotten: one second's worth.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use aral_contract::Failure;
use aral_orchestration::dispatch::Keeper;

use crate::host::Parts;

/// How long what was used may wait to be kept. Stops a busy host from writing a file for every call.
const KEEP_AFTER: Duration = Duration::from_secs(1);

impl Keeper for Parts {
    fn used(self: Arc<Self>) {
        if self.serials.is_none() || self.keeping.swap(true, Ordering::AcqRel) {
            return;
        }
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(keep_later(Arc::downgrade(&self)))),
            // Nobody to do it later: the next call, or the end of the host.
            Err(_) => self.keeping.store(false, Ordering::Release),
        }
    }
}

/// Holds no host: one that ends meanwhile keeps it itself. What cannot be kept is tried again each time: an agent that has used up
/// what it may makes no call that would have it kept.
async fn keep_later(host: Weak<Parts>) {
    // A runtime that ends before the second is over must not leave the host waiting for ever.
    let mut next = Some(Pending(host));
    while let Some(pending) = next {
        tokio::time::sleep(KEEP_AFTER).await;
        let tried = tokio::task::spawn_blocking(move || {
            let host = pending.0.upgrade();
            // Whatever is used from here on is kept the next time, which must not be forgotten once this time is over.
            drop(pending);
            let host = host?;
            let outcome = host.try_keep();
            let is_news = host.unkept.is_news(&outcome);
            match outcome {
                Err(failure) => {
                    if is_news {
                        unkept(&failure);
                    }
                    Pending::again(&host)
                }
                Ok(()) => {
                    if is_news {
                        tracing::info!("what agents have used up is kept again");
                    }
                    None
                }
            }
        });
        next = tried.await.unwrap_or_else(|error| {
            tracing::error!(%error, "what agents have used up was not kept");
            None
        });
    }
}

/// As long as this is there, somebody is going to keep what is used.
struct Pending(Weak<Parts>);

impl Pending {
    /// None: somebody else is going to already.
    fn again(host: &Arc<Parts>) -> Option<Self> {
        let is_pending = host.keeping.swap(true, Ordering::AcqRel);
        (!is_pending).then(|| Self(Arc::downgrade(host)))
    }
}

/// Why what was used could not be kept the last time; none: it was. Each reason is said when it begins, and not each second.
#[derive(Debug, Default)]
pub(crate) struct Unkept(Mutex<Option<String>>);

impl Unkept {
    /// Whether it is another answer than the last time.
    fn is_news(&self, outcome: &Result<(), Failure>) -> bool {
        let now = outcome.as_ref().err().map(ToString::to_string);
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = *last != now;
        *last = now;
        is_news
    }

    #[cfg(test)]
    pub(crate) fn reason(&self) -> String {
        self.0.lock().unwrap().clone().unwrap_or_default()
    }
}

fn unkept(failure: &Failure) {
    tracing::warn!(%failure, "what agents have used up could not be kept");
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(host) = self.0.upgrade() {
            host.keeping.store(false, Ordering::Release);
        }
    }
}

impl Parts {
    /// Adds what was used to what is kept, and takes over what other processes have added.
    pub(crate) fn keep_used(&self) {
        if let Err(failure) = self.try_keep() {
            unkept(&failure);
        }
    }

    fn try_keep(&self) -> Result<(), Failure> {
        if self.dispatcher.load().sessions().is_empty() {
            return Ok(());
        }
        self.keep()
    }

    /// Taken only under the lock: whoever reads what is kept in between must not find it in neither place. What cannot be
    /// kept now is not lost: the next time has it too.
    fn keep(&self) -> Result<(), Failure> {
        let Some(file) = &self.serials else { return Ok(()) };
        let locked = file.lock_used(&*self.clock)?;
        let mut used = locked.used()?;
        let spent = self.dispatcher.load().take_unsaved();
        if !spent.personas.is_empty() {
            used.add(spent.clone(), self.clock.now().as_millisecond());
            locked
                .write_used(&used)
                .inspect_err(|_| self.dispatcher.load().give_back(&spent))?;
        }
        self.dispatcher.load().load_used(&used);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use aral_contract::Code;

    use super::*;

    #[test]
    fn each_reason_is_said_when_it_begins_and_that_it_is_over() {
        let unkept = Unkept::default();
        let failed = |why: &str| Err(Failure::new(Code::Unavailable, why));
        for (outcome, expected) in [
            (Ok(()), false),
            (failed("it is locked"), true),
            (failed("it is locked"), false),
            (failed("it is damaged"), true),
            (failed("it is damaged"), false),
            (Ok(()), true),
            (Ok(()), false),
            (failed("it is locked"), true),
        ] {
            assert_eq!(unkept.is_news(&outcome), expected, "{outcome:?}");
        }
    }
}
