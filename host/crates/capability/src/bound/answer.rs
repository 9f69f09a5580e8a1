//! What goes into a guest and what may come out of it: sizes, strict JSON, schemas. What is quick is done where it is asked for,
//! and the rest in threads that may block, few of them at once and within a time of its own: no fuel bounds it, and who waits for
//! others has not used up the time of its guest.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aral_contract::document::json;
use aral_contract::{Code, Failure};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use wasmtime_wasi::runtime::spawn_blocking;

use crate::call::CallRecord;
use crate::fault;
use crate::places::Places;
use crate::schema::{Schema, Schemas, Violation};

/// A text from this length on is not even parsed by the threads of the executor, in bytes. Stops texts from holding up whoever else
/// needs those.
const QUICK_BYTES_MAX: usize = 64 << 10;
/// The guests of one persona may have one in so many of the threads that check, of which there are as many as processors, and at
/// least two. Stops those of one from having everybody else wait.
const CHECKS_SHARE: usize = 2;
/// For how long at most an input waits for a place and a thread, and is checked from then on. Stops callers from hanging behind others
/// whose texts take long: nothing was done yet.
const INPUT_CHECK_MAX: Duration = Duration::from_secs(5);
/// For how long at most an answer is: longer, as what the guest did is done, and without its answer nobody knows of it.
const ANSWER_CHECK_MAX: Duration = Duration::from_secs(30);

/// The threads that check. The processors are those of the process, whatever hosts are in it.
static CHECKS: LazyLock<Places> = LazyLock::new(|| {
    let processors = std::thread::available_parallelism().map_or(1, usize::from).max(2);
    Places::new(processors, processors / CHECKS_SHARE)
});

/// Which of the two texts of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// What the guest gets.
    Input,
    /// What it answers.
    Output,
}

impl Side {
    fn check_max(self) -> Duration {
        match self {
            Self::Input => INPUT_CHECK_MAX,
            Self::Output => ANSWER_CHECK_MAX,
        }
    }
}

/// What a text of a call must satisfy.
pub(super) struct Check {
    side: Side,
    bytes_max: u64,
    schemas: Arc<Schemas>,
    places: &'static Places,
}

impl Check {
    pub(super) fn new(side: Side, bytes_max: u64, schemas: &Arc<Schemas>) -> Self {
        Self {
            side,
            bytes_max,
            schemas: Arc::clone(schemas),
            places: &CHECKS,
        }
    }

    /// The text, parsed strictly, checked against the schema and written again: so that the guest's parser sees nothing that ours did
    /// not, and the caller's neither. Who checks may wait for a place and a thread for it, for as long as there is for a check, and as
    /// anybody waits for the call; where nobody does any more, what has not begun does not begin.
    ///
    /// # Errors
    /// What is wrong with the text, also that it takes too long to check; `host.unavailable` if the check did not begin in time;
    /// `limit.wall` if nobody waits any longer for an input whose check has begun.
    pub(super) async fn text(
        self,
        text: impl AsRef<[u8]> + Into<Vec<u8>>,
        call: &CallRecord,
    ) -> Result<String, Failure> {
        if let Some(done) = self.quickly(text.as_ref()) {
            return done;
        }
        self.in_thread(text.into(), call, Self::whole).await
    }

    /// The same, by `whole`, in a thread that may block.
    async fn in_thread(
        self,
        text: Vec<u8>,
        call: &CallRecord,
        whole: impl FnOnce(&Self, &[u8]) -> Result<String, Failure> + Send + 'static,
    ) -> Result<String, Failure> {
        let side = self.side;
        let awaited = |by: Instant| call.until.map_or(by, |until| until.min(by));
        let by = awaited(Instant::now() + side.check_max());
        let place = call.waiting(timeout_at(by, self.places.take(&call.frame.grant.persona)));
        let Ok(Some(place)) = place.await else {
            return Err(unchecked(side, NO_ROOM));
        };
        let (begins, begun) = oneshot::channel();
        let mut done = spawn_blocking(move || {
            // As long as the thread is at it, also where nobody waits any more.
            let _place = place;
            let _told = begins.send(());
            whole(&self, &text)
        });
        // It waits for a thread as it does for a place.
        if call.waiting(timeout_at(by, begun)).await.is_err() {
            return Err(unchecked(side, NO_ROOM));
        }
        // From here on it has its time, however long it has waited: where many wait, each would else begin when it has none left.
        let most = Instant::now() + side.check_max();
        let by = awaited(most);
        match timeout_at(by, &mut *done).await {
            Ok(Ok(checked)) => checked,
            Ok(Err(panicked)) => Err(Failure::internal(panicked)),
            Err(_) if by < most => Err(match side {
                // Its caller has had the thread, which goes on to its end: that is not for nothing.
                Side::Input => fault::too_late(),
                Side::Output => unchecked(side, "nobody waits for the call any longer"),
            }),
            Err(_) => {
                let (trace, grant) = (&call.context.trace, &call.frame.grant);
                let (capability, persona) = (&grant.capability, &grant.persona);
                tracing::warn!(%trace, %capability, %persona, ?side, "a text takes too long to check: its schema or its length");
                Err(too_long(side))
            }
        }
    }

    /// None: that may take long.
    fn quickly(&self, text: &[u8]) -> Option<Result<String, Failure>> {
        if let Err(failure) = self.fits(text.len()) {
            return Some(Err(failure));
        }
        if text.len() >= QUICK_BYTES_MAX {
            return None;
        }
        let value = match self.parse(text) {
            Ok(value) => value,
            Err(failure) => return Some(Err(failure)),
        };
        let checked = self.schema().check_quickly(&value)?;
        Some(self.written(&value, text.len(), checked))
    }

    fn whole(&self, text: &[u8]) -> Result<String, Failure> {
        let value = self.parse(text)?;
        let checked = self.schema().check(&value);
        self.written(&value, text.len(), checked)
    }

    fn schema(&self) -> &Schema {
        match self.side {
            Side::Input => &self.schemas.input,
            Side::Output => &self.schemas.output,
        }
    }

    fn fits(&self, length: usize) -> Result<(), Failure> {
        let bytes_max = self.bytes_max;
        if u64::try_from(length).unwrap_or(u64::MAX) <= bytes_max {
            return Ok(());
        }
        Err(match self.side {
            Side::Input => Failure::new(
                Code::InputTooLarge,
                format!("the input has {length} bytes, more than `input_bytes`, {bytes_max}"),
            ),
            Side::Output => too_large(bytes_max),
        })
    }

    fn parse(&self, text: &[u8]) -> Result<Value, Failure> {
        json::parse(text).map_err(|error| match self.side {
            Side::Input => Failure::new(Code::InputInvalid, format!("the input is {error}")),
            Side::Output => Failure::new(Code::OutputInvalid, format!("the answer is {error}")),
        })
    }

    /// Into a text that is seldom longer than the one that was read: `1e15` is, and counts as it is written.
    fn written(&self, value: &Value, length: usize, checked: Result<(), Violation>) -> Result<String, Failure> {
        checked.map_err(|violation| match self.side {
            Side::Input => Failure::new(Code::InputInvalid, format!("the input breaks the schema {violation}")),
            Side::Output => Failure::new(Code::OutputInvalid, format!("the answer breaks the schema {violation}")),
        })?;
        let mut text = Vec::with_capacity(length);
        serde_json::to_writer(&mut text, value).map_err(Failure::internal)?;
        let text = String::from_utf8(text).map_err(Failure::internal)?;
        self.fits(text.len())?;
        Ok(text)
    }
}

/// The answer is longer than the limit.
pub(super) fn too_large(bytes_max: u64) -> Failure {
    Failure::new(
        Code::OutputTooLarge,
        format!("the answer is longer than `output_bytes`, {bytes_max} bytes"),
    )
    .with_hint("raise `output_bytes` under [limits] in capability.toml, and in the policy if it is the ceiling")
}

/// There was no place to check it, or no thread, for too long.
const NO_ROOM: &str = "more long texts are to be checked than this host has room for";

/// The check did not begin in time, or was not waited for. That is nobody's fault: not the caller's, nor the guest's.
fn unchecked(side: Side, because: &str) -> Failure {
    match side {
        Side::Input => Failure::new(
            Code::Unavailable,
            format!("the input was not checked in time: {because}"),
        )
        .with_hint("call again later"),
        Side::Output => Failure::new(
            Code::Unavailable,
            format!("the guest has answered, and its answer was not checked in time: {because}"),
        )
        .with_hint("see what it did before you call again"),
    }
}

/// The check had all the time that there is for one. Whoever made the text, or the schema, would have it so the next time.
fn too_long(side: Side) -> Failure {
    let seconds = side.check_max().as_secs();
    match side {
        Side::Input => Failure::new(
            Code::InputInvalid,
            format!("the input takes more than {seconds} s to check against its schema"),
        )
        .with_hint("send a smaller one"),
        Side::Output => Failure::new(
            Code::OutputInvalid,
            format!("the guest has answered, and its answer takes more than {seconds} s to check against its schema"),
        )
        .with_hint("see what it did before you call again"),
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use aral_contract::{Clock, Limits, TraceContext, TraceId};
    use futures::FutureExt as _;
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::testing::{self, Trial, with_a_slow_disk};

    /// What is checked under this schema, on either side.
    fn check_under(schema: &Value) -> impl Fn(Side, &[u8], u64) -> Result<String, Code> + use<> {
        let schemas = Arc::new(Schemas::compile(schema, schema).unwrap());
        move |side, text, bytes_max| {
            let check = Check::new(side, bytes_max, &schemas);
            let quickly = check.quickly(text).unwrap();
            if check.fits(text.len()).is_ok() {
                assert_eq!(check.whole(text), quickly);
            }
            quickly.map_err(|failure| failure.code)
        }
    }

    #[test]
    fn input_is_capped_parsed_checked_and_written_again() {
        let check = check_under(&json!({ "type": "object", "required": ["a"] }));
        let check = |text: &str| check(Side::Input, text.as_bytes(), 20);
        assert_eq!(check("{ \"a\" :\n1}").as_deref(), Ok("{\"a\":1}"));
        assert_eq!(
            check(&format!("{{\"a\":1}}{}", " ".repeat(14))),
            Err(Code::InputTooLarge)
        );
        for bad in ["{\"a\":1,\"a\":2}", "{\"b\":1}", "{\"a\":1", "", "[]", "{\"a\":1}x"] {
            assert_eq!(check(bad), Err(Code::InputInvalid), "{bad}");
        }
    }

    #[test]
    fn output_is_held_to_the_same() {
        let check = check_under(&json!({ "type": "integer" }));
        let check = |text: &str| check(Side::Output, text.as_bytes(), 5);
        assert_eq!(check(" 7 \n").as_deref(), Ok("7"));
        assert_eq!(check("123456"), Err(Code::OutputTooLarge));
        assert_eq!(check("\"7\""), Err(Code::OutputInvalid));
        assert_eq!(check("7 8"), Err(Code::OutputInvalid));
    }

    #[test]
    fn what_is_longer_once_it_is_written_again_counts_as_it_is_written() {
        let check = check_under(&json!({ "type": "array" }));
        let text = b"[1e15,1e15]";
        let written = check(Side::Input, text, 100).unwrap();
        assert!(written.len() > text.len(), "{written}");
        let most = written.len() as u64;
        for (bytes_max, input, output) in [
            (most, None, None),
            (most - 1, Some(Code::InputTooLarge), Some(Code::OutputTooLarge)),
        ] {
            assert_eq!(check(Side::Input, text, bytes_max).err(), input, "{bytes_max}");
            assert_eq!(check(Side::Output, text, bytes_max).err(), output, "{bytes_max}");
        }
    }

    /// A call whose own time is short.
    fn call() -> Arc<CallRecord> {
        let limits = Limits {
            wall_ms: 20,
            ..Limits::default()
        };
        Trial::new(testing::grant(json!({}), limits, &[])).call
    }

    /// The time that a test lets pass.
    #[derive(Debug)]
    struct Paused(Instant);

    impl Clock for Paused {
        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }

        fn elapsed(&self) -> Duration {
            self.0.elapsed()
        }
    }

    /// Places of a test's own: so many, all of which one persona may have.
    fn places(all: usize) -> &'static Places {
        Box::leak(Box::new(Places::new(all, all)))
    }

    fn check_in(places: &'static Places, side: Side, schemas: &Arc<Schemas>) -> Check {
        Check {
            places,
            ..Check::new(side, 1 << 20, schemas)
        }
    }

    const SIDES: [(Side, Duration, &str); 2] = [
        (Side::Input, INPUT_CHECK_MAX, "call again later"),
        (Side::Output, ANSWER_CHECK_MAX, "see what it did"),
    ];

    /// What becomes of a check that gets nowhere: it ends when so much has passed, and not before.
    async fn gets_nowhere(check: Check, text: &str, call: &CallRecord, passes: Duration) -> Failure {
        let mut check = pin!(check.text(text.as_bytes(), call));
        assert!(futures::poll!(check.as_mut()).is_pending());
        // A timer is right to a millisecond.
        let moment = Duration::from_millis(2);
        tokio::time::advance(passes.saturating_sub(moment)).await;
        assert!(futures::poll!(check.as_mut()).is_pending());
        tokio::time::advance(moment * 2).await;
        check.await.unwrap_err()
    }

    /// A text of a hundred bytes that takes long under a schema which looks at each level twice, and a long one.
    fn slow() -> (Arc<Schemas>, [String; 2]) {
        let schema = json!({ "properties": { "a": { "$ref": "#" } }, "additionalProperties": { "$ref": "#" } });
        let nested = (0..16).fold("1".to_owned(), |text, _| format!("{{\"a\":{text}}}"));
        let long = format!("\"{}\"", "x".repeat(QUICK_BYTES_MAX));
        (Arc::new(Schemas::compile(&schema, &schema).unwrap()), [nested, long])
    }

    #[test]
    fn what_takes_long_is_checked_off_the_executor() {
        with_a_slow_disk(|disk| async move {
            let (call, (schemas, texts)) = (call(), slow());
            for (side, ..) in SIDES {
                let check = || check_in(places(1), side, &schemas);
                let quick = check().text(b"{\"a\":1}".as_slice(), &call).now_or_never();
                assert_eq!(quick.unwrap().as_deref(), Ok("{\"a\":1}"));
                for text in &texts {
                    assert!(check().quickly(text.as_bytes()).is_none());
                    let begun = check().text(text.as_bytes(), &call).now_or_never();
                    assert!(begun.is_none(), "the only thread that may block is taken");
                }
            }
            drop(disk);
            for text in texts {
                let check = check_in(places(1), Side::Output, &schemas);
                assert_eq!(check.text(text.clone(), &call).await, Ok(text));
            }
        });
    }

    #[test]
    fn a_check_has_a_time_of_its_own_and_no_more() {
        with_a_slow_disk(|disk| async move {
            tokio::time::pause();
            let (mut call, (schemas, [text, _])) = (call(), slow());
            let frame = &mut Arc::get_mut(&mut call).unwrap().frame;
            let services = &mut Arc::get_mut(frame).unwrap().services;
            Arc::make_mut(services).clock = Arc::new(Paused(Instant::now()));
            let places = places(4);
            for (side, most, hint) in SIDES {
                let before = call.waited();
                let failure = gets_nowhere(check_in(places, side, &schemas), &text, &call, most).await;
                assert_eq!(failure.code, Code::Unavailable);
                assert!(failure.hint.unwrap().contains(hint));
                assert!(call.waited() >= before + most, "the wait for a thread is its own time");
            }
            // What waits for a thread when that is free is checked, whatever the call has had of its time.
            let mut check = pin!(check_in(places, Side::Output, &schemas).text(text.as_bytes(), &call));
            assert!(futures::poll!(check.as_mut()).is_pending());
            tokio::time::advance(ANSWER_CHECK_MAX / 2).await;
            drop(disk);
            assert!(check.await.is_ok());
        });
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_place_has_not_used_up_the_time_of_its_guest() {
        let (call, (schemas, [text, _])) = (call(), slow());
        let places = places(1);
        let taken = places.take_now(&call.frame.grant.persona).unwrap();
        for (side, most, hint) in SIDES {
            let before = call.waited();
            let failure = gets_nowhere(check_in(places, side, &schemas), &text, &call, most).await;
            assert_eq!(failure.code, Code::Unavailable);
            assert!(failure.hint.unwrap().contains(hint));
            assert!(call.waited() > before, "it is not counted");
        }
        drop(taken);
        let check = check_in(places, Side::Input, &schemas);
        assert!(check.text(text.as_bytes(), &call).await.is_ok());
    }

    /// What becomes of a check that begins when it has waited as long as it may, and then takes so long.
    async fn begun_late(
        side: Side,
        schemas: &Arc<Schemas>,
        call: &CallRecord,
        takes: Duration,
    ) -> Result<String, Failure> {
        // A timer is right to a millisecond.
        let moment = Duration::from_millis(2);
        let places = places(1);
        let taken = places.take_now(&call.frame.grant.persona).unwrap();
        let (begins, begun) = oneshot::channel();
        let (end, ends) = std::sync::mpsc::channel::<()>();
        let whole = move |_: &Check, _: &[u8]| {
            begins.send(()).unwrap();
            let _ended = ends.recv();
            Ok("1".to_owned())
        };
        let check = check_in(places, side, schemas);
        let mut check = pin!(check.in_thread(b"1".to_vec(), call, whole));
        assert!(futures::poll!(check.as_mut()).is_pending());
        tokio::time::advance(side.check_max().saturating_sub(moment)).await;
        drop(taken);
        tokio::select! {
            biased;
            ended = check.as_mut() => return ended,
            told = begun => told.unwrap(),
        }
        assert!(futures::poll!(check.as_mut()).is_pending());
        tokio::time::advance(takes.saturating_sub(moment)).await;
        assert!(futures::poll!(check.as_mut()).is_pending());
        tokio::time::advance(moment * 2).await;
        if takes < side.check_max() {
            end.send(()).unwrap();
        }
        let checked = check.await;
        drop(end);
        checked
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_begun_has_its_time_however_long_it_has_waited() {
        let (call, (schemas, _)) = (call(), slow());
        for (side, most, _) in SIDES {
            let checked = begun_late(side, &schemas, &call, most / 2).await;
            assert_eq!(checked.as_deref(), Ok("1"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_too_long_to_check_is_the_fault_of_who_made_it() {
        let (call, (schemas, _)) = (call(), slow());
        for ((side, most, _), code) in SIDES.into_iter().zip([Code::InputInvalid, Code::OutputInvalid]) {
            let failure = begun_late(side, &schemas, &call, most).await.unwrap_err();
            assert_eq!(failure.code, code);
            assert!(failure.message.contains("s to check"), "{failure}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_input_whose_check_has_begun_is_not_the_fault_of_the_host_where_nobody_waits_any_more() {
        let (own, (schemas, _)) = (call(), slow());
        let waits = Duration::from_secs(1);
        for ((side, ..), expected) in SIDES.into_iter().zip([Code::LimitWall, Code::Unavailable]) {
            let (frame, context) = (
                Arc::clone(&own.frame),
                TraceContext::begin(TraceId::from_bytes([7; 16])),
            );
            let call = CallRecord::listing(frame, context, None, None, Some(Instant::now() + waits));
            let (begins, begun) = oneshot::channel();
            let (end, ends) = std::sync::mpsc::channel::<()>();
            let whole = move |_: &Check, _: &[u8]| {
                begins.send(()).unwrap();
                let _ended = ends.recv();
                Ok("1".to_owned())
            };
            let check = check_in(places(1), side, &schemas);
            let mut check = pin!(check.in_thread(b"1".to_vec(), &call, whole));
            tokio::select! {
                biased;
                ended = check.as_mut() => panic!("{ended:?}"),
                told = begun => told.unwrap(),
            }
            assert!(futures::poll!(check.as_mut()).is_pending());
            tokio::time::advance(waits * 2).await;
            let failure = check.await.unwrap_err();
            drop(end);
            assert_eq!(failure.code, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_checked_for_whom_nobody_waits_any_more() {
        let (own, (schemas, [text, _])) = (call(), slow());
        let places = places(1);
        let _taken = places.take_now(&own.frame.grant.persona).unwrap();
        let waits = Duration::from_secs(1);
        for (side, ..) in SIDES {
            let (frame, context) = (
                Arc::clone(&own.frame),
                TraceContext::begin(TraceId::from_bytes([7; 16])),
            );
            let call = CallRecord::listing(frame, context, None, None, Some(Instant::now() + waits));
            let failure = gets_nowhere(check_in(places, side, &schemas), &text, &call, waits).await;
            assert_eq!(failure.code, Code::Unavailable);
        }
    }
}
