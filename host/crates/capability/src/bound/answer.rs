//! What goes into a guest and what may come out of it: sizes, strict JSON, schemas. What is quick is done where it is asked for,
//! and the rest in threads that may block, few of them at once and within the time of the call: no fuel bounds it.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aral_contract::document::json;
use aral_contract::{Code, Failure};
use aral_runtime::Fault;
use serde_json::Value;
use tokio::time::{Instant, timeout};
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

/// What a text of a call must satisfy.
pub(super) struct Check {
    side: Side,
    bytes_max: u64,
    schemas: Arc<Schemas>,
}

impl Check {
    pub(super) fn new(side: Side, bytes_max: u64, schemas: &Arc<Schemas>) -> Self {
        Self {
            side,
            bytes_max,
            schemas: Arc::clone(schemas),
        }
    }

    /// The text, parsed strictly, checked against the schema and written again: so that the guest's parser sees nothing that ours did
    /// not, and the caller's neither. Who checks may wait for a place and a thread for it; where nobody waits any more, what has not
    /// begun does not begin.
    pub(super) async fn text(
        self,
        text: impl AsRef<[u8]> + Into<Vec<u8>>,
        call: &CallRecord,
    ) -> Result<String, Failure> {
        if let Some(done) = self.quickly(text.as_ref()) {
            return done;
        }
        let text: Vec<u8> = text.into();
        let checked = async {
            let place = CHECKS.take(&call.frame.grant.persona).await;
            let mut done = spawn_blocking(move || {
                // As long as the thread is at it, also where nobody waits any more.
                let _place = place;
                self.whole(&text)
            });
            (&mut *done).await
        };
        match timeout(Duration::from_millis(call.remaining_ms()), checked).await {
            Ok(Ok(checked)) => checked,
            Ok(Err(panicked)) => Err(Failure::internal(panicked)),
            Err(_) if call.until.is_some_and(|until| Instant::now() >= until) => Err(fault::too_late()),
            Err(_) => Err(fault::of_fault(Fault::Wall)),
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

#[cfg(test)]
mod tests {
    use aral_contract::Limits;
    use futures::FutureExt as _;
    use serde_json::json;

    use super::*;
    use crate::trial::{self, Trial, with_a_slow_disk};

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

    fn call_within(wall_ms: u64) -> Arc<CallRecord> {
        let limits = Limits {
            wall_ms,
            ..Limits::default()
        };
        Trial::new(trial::grant(json!({}), limits, &[])).call
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
            let call = call_within(60_000);
            let (schemas, texts) = slow();
            for side in [Side::Input, Side::Output] {
                let check = || Check::new(side, 1 << 20, &schemas);
                let quick = check().text(b"{\"a\":1}".as_slice(), &call).now_or_never();
                assert_eq!(quick.unwrap().as_deref(), Ok("{\"a\":1}"));
                for text in &texts {
                    let begun = check().text(text.as_bytes(), &call).now_or_never();
                    assert!(begun.is_none(), "the only thread that may block is taken");
                }
            }
            drop(disk);
            for text in texts {
                let check = Check::new(Side::Output, 1 << 20, &schemas);
                assert_eq!(check.text(text.clone(), &call).await, Ok(text));
            }
        });
    }

    #[test]
    fn a_check_ends_with_the_time_of_its_call() {
        with_a_slow_disk(|disk| async move {
            let (schemas, [text, _]) = slow();
            let check = || Check::new(Side::Output, 1 << 20, &schemas);
            let late = check().text(text.as_bytes(), &call_within(20)).await;
            assert_eq!(late.unwrap_err().code, Code::LimitWall);
            drop(disk);
            assert!(check().text(text.as_bytes(), &call_within(60_000)).await.is_ok());
        });
    }
}
