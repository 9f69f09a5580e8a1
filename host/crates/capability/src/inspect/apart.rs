//! Looking at a component in the compiler's child, and what the two say to each other. The child walks over the bytes and says what
//! names there are; what they mean, and the digest, is worked out by who asked. Its answer is read as if a stranger had sent it.

use aral_contract::{Code, Digest, Failure};
use aral_runtime::compile::{LookError, LookLimits, look};
use aral_runtime::{CompilerKind, Looker};
use serde::{Deserialize, Serialize};

use super::read::{self, Found};
use super::{InspectError, Inspection};
use crate::registry::compile_failure;

/// What an answer has besides names that stand in the component, in bytes: kinds, members, producers.
const ANSWER_BYTES_MORE: u64 = 1 << 20;

/// The form of [`Answer`], and what finds it: what another version kept is not read. A change of either is one here, too.
const FORM: &str = concat!(
    "found/1, aral ",
    env!("CARGO_PKG_VERSION"),
    ", wasmparser 0.254.2, wasm-metadata 0.254.2"
);

/// What the child says.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Answer {
    Found(Found),
    Refused(InspectError),
}

/// The far end of [`inspect_by`], for [`aral_runtime::compile::child_main`].
pub fn answer(component: &[u8]) -> Vec<u8> {
    let answer = match read::find(component) {
        Ok(found) => Answer::Found(found),
        Err(error) => Answer::Refused(error),
    };
    // All of it can be written; nothing is no answer.
    serde_json::to_vec(&answer).unwrap_or_default()
}

/// As [`super::inspect`], in the child that compiles, where there is one: then a component that takes whoever looks at it too long or
/// too much memory ends that child. Where there is a cache, it is asked before, and keeps what was found; it keeps no refusal. Holds up
/// the thread that calls it, and works on any.
///
/// # Errors
/// What is wrong with the component; `component.too_large` for one that takes too much to look at.
pub fn inspect_by(looker: &Looker, bytes: &[u8]) -> Result<Inspection, Failure> {
    match looker.compiler() {
        CompilerKind::InProcess => super::inspect(bytes),
        CompilerKind::Child {
            program,
            args,
            timeout_ms,
        } => {
            // No process is needed to see that a file is something else.
            read::check_front(bytes)?;
            let (digest, size) = (Digest::of(bytes), bytes.len());
            if let Some(kept) = looker.kept(digest, FORM)
                && let Ok(inspection) = understand(&kept, digest, size)
            {
                return Ok(inspection);
            }
            let limits = LookLimits::default();
            let limits = LookLimits {
                timeout_ms: limits.timeout_ms.min(*timeout_ms),
                // A name takes two bytes for one at most, but for a few that nobody writes.
                answer_bytes: (size as u64).saturating_mul(2).saturating_add(ANSWER_BYTES_MORE),
                ..limits
            };
            let answer = look(program, args, limits, bytes).map_err(|error| look_failure(&error))?;
            let inspection = understand(&answer, digest, size)?;
            looker.keep(digest, FORM, &answer);
            Ok(inspection)
        }
    }
}

/// What the child said of the component with this digest and size.
fn understand(answer: &[u8], digest: Digest, size: usize) -> Result<Inspection, Failure> {
    match serde_json::from_slice(answer) {
        Ok(Answer::Found(found)) if found.is_possible(size) => Ok(found.meaning(digest, size)),
        Ok(Answer::Refused(error)) if is_possible(&error) => Err(error.into()),
        Ok(Answer::Found(_) | Answer::Refused(_)) | Err(_) => Err(Failure::internal(
            "the compiler process says of a component what cannot be",
        )),
    }
}

/// Whether a walk can end with this, after the front was checked.
fn is_possible(error: &InspectError) -> bool {
    match error {
        InspectError::TooLarge { .. }
        | InspectError::Empty
        | InspectError::Precompiled
        | InspectError::Text
        | InspectError::NotWasm => false,
        InspectError::Invalid { detail, .. } => read::is_plain(detail, read::DETAIL_CHARS_MAX),
        _ => true,
    }
}

fn look_failure(error: &LookError) -> Failure {
    match error {
        LookError::Timeout { .. } => Failure::new(Code::ComponentTooLarge, error.to_string())
            .with_hint("this host may have been busy: try again; if that is said again, build it again"),
        LookError::Starved { .. } | LookError::TooLarge { .. } => {
            Failure::new(Code::ComponentTooLarge, error.to_string())
                .with_hint("what compilers make takes a fraction of that: do not trust this one, or build it again")
        }
        LookError::Child(error) => compile_failure(error),
    }
}

#[cfg(test)]
mod tests {
    use aral_contract::limits::COMPONENT_BYTES_MAX;
    use aral_runtime::{Allocation, CacheOptions, Runtime, RuntimeOptions};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::{EXTERNS_MAX, PRODUCERS_MAX, Shape, inspect};
    use super::*;
    use crate::testing::{component, shown};

    /// What is said of these bytes by a child that says this.
    fn said_by_shell(script: &str, bytes: &[u8]) -> Result<Inspection, String> {
        let compiler = CompilerKind::child("/bin/sh".into(), vec!["-c".to_owned(), script.to_owned()]);
        inspect_by(&compiler.into(), bytes).map_err(|failure| shown(&failure))
    }

    fn tool() -> Vec<u8> {
        component(
            Shape::Tool,
            &["wasi:http/types@0.2.3", "aral:capability/secret-read@1.0.0"],
        )
    }

    fn twice(bytes: &[u8]) -> (Result<Inspection, Failure>, Result<Inspection, Failure>) {
        let apart = read::check_front(bytes).map_err(Failure::from);
        let apart = apart.and_then(|()| understand(&answer(bytes), Digest::of(bytes), bytes.len()));
        (apart, inspect(bytes))
    }

    #[test]
    fn what_is_found_apart_is_what_is_found_here() {
        let producers = {
            let mut producers = wasm_metadata::Producers::empty();
            producers.add("language", "Rust", "2024\u{1b}[31m");
            producers.add_to_wasm(&tool()).unwrap()
        };
        let kinds = r#"(component
            (import "frobnicate" (func)) (import "m" (core module)) (import "c" (component))
            (import "aral:capability/secret-read@1.0.0" (instance
                (export "secret" (type $s (sub resource)))
                (export "[method]secret.reveal" (func (param "self" (borrow $s)) (result (list u8))))))
            (type $u u32) (export "u" (type $u)))"#;
        for bytes in [tool(), producers, wat::parse_str(kinds).unwrap()] {
            let (apart, here) = twice(&bytes);
            assert_eq!(apart.unwrap(), here.unwrap());
        }
        let module = wat::parse_str("(module)").unwrap();
        let tool = tool();
        for bytes in [
            &tool[..tool.len() - 3],
            module.as_slice(),
            b"",
            b"hello",
            b"\0asm\x0d\0\x01\0\xff\xff\xff\xff",
        ] {
            let (apart, here) = twice(bytes);
            assert_eq!(apart.unwrap_err(), here.unwrap_err());
        }
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_the_same_apart_and_here(place in 0usize..200, value in any::<u8>()) {
            let mut bytes = tool();
            let place = place % bytes.len();
            bytes[place] = value;
            let (apart, here) = twice(&bytes);
            prop_assert_eq!(apart, here);
        }
    }

    #[test]
    fn what_is_no_component_by_its_front_starts_no_child() {
        let nobody: Looker = CompilerKind::child("/nonexistent/compiler".into(), Vec::new()).into();
        let refused = |bytes: &[u8]| shown(&inspect_by(&nobody, bytes).unwrap_err());
        assert!(refused(b"hello").starts_with("component.invalid: this is not WebAssembly"));
        let large = vec![0u8; COMPONENT_BYTES_MAX + 1];
        assert!(refused(&large).starts_with("component.too_large: the component is 33554433 bytes"));
        assert_eq!(inspect_by(&nobody, &tool()).unwrap_err().code, Code::Internal);
        assert!(inspect_by(&CompilerKind::InProcess.into(), &tool()).is_ok());
    }

    #[test]
    fn a_component_that_ends_who_looks_at_it_is_refused_and_nothing_else_ends() {
        let found = said_by_shell("kill -s ABRT $$", &tool()).unwrap_err();
        assert!(
            found.starts_with(
                "component.too_large: the component takes more than 1073741824 bytes of memory or 10 seconds of processor time to look at"
            ),
            "{found}"
        );
        let hangs = CompilerKind::Child {
            program: "/bin/sleep".into(),
            args: vec!["600".to_owned()],
            timeout_ms: 100,
        };
        let failure = inspect_by(&hangs.into(), &tool()).unwrap_err();
        assert_eq!(
            (failure.code, failure.message.as_str()),
            (
                Code::ComponentTooLarge,
                "the component takes longer than 100 ms to look at"
            )
        );
        let ended = said_by_shell("kill -s TERM $$", &tool()).unwrap_err();
        assert!(
            ended.starts_with("host.unavailable: somebody ended the compiler with signal 15"),
            "whoever ends the host: {ended}"
        );
    }

    #[test]
    fn a_child_that_says_much_is_not_listened_to() {
        let found = said_by_shell("exec /bin/cat /dev/zero", &tool()).unwrap_err();
        assert!(
            found.starts_with("component.too_large: what is found in the component has more than 1048"),
            "{found}"
        );
    }

    #[test]
    fn a_child_that_answers_nonsense_is_refused() {
        let broken = "host.internal: ";
        for script in [
            "exit 3",
            "true",
            "printf hello",
            "printf '!bad'",
            "printf -- '-bad'",
            "printf +",
            "printf '+{\"found\":{}}'",
        ] {
            let found = said_by_shell(script, &tool()).unwrap_err();
            assert!(found.starts_with(broken), "{script}: {found}");
        }
        let script = r#"printf '+{"found":{"imports":[],"exports":[],"producers":[]}}'"#;
        let believed = said_by_shell(script, &tool()).unwrap();
        assert_eq!((believed.imports.len(), believed.digest), (0, Digest::of(&tool())));
    }

    /// A cache in a folder of its own, and a child that leaves a file for each start in another one.
    struct Keeping(tempfile::TempDir, tempfile::TempDir);

    impl Keeping {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap())
        }

        /// A new process with this cache, whose child says this.
        fn looker(&self, answer: &str) -> Looker {
            let Self(home, starts) = self;
            let script = r#": > "$0/$$"; printf '+%s' "$1""#;
            let args = ["-c", script, starts.path().to_str().unwrap(), answer].map(str::to_owned);
            let runtime = Runtime::new(RuntimeOptions {
                allocation: Allocation::OnDemand,
                cache: Some(CacheOptions {
                    directory: home.path().join("cache"),
                    key_file: home.path().join("cache.key"),
                    bytes_max: 1 << 30,
                }),
                compiler: CompilerKind::child("/bin/sh".into(), args.to_vec()),
                ..RuntimeOptions::default()
            });
            runtime.unwrap().looker()
        }

        #[expect(clippy::disallowed_methods, reason = "counts what the children left behind")]
        fn starts(&self) -> usize {
            std::fs::read_dir(self.1.path()).unwrap().count()
        }
    }

    const NOTHING: &str = r#"{"found":{"imports":[],"exports":[],"producers":[]}}"#;

    #[test]
    fn what_is_in_the_cache_starts_no_child() {
        let keeping = Keeping::new();
        let other = component(Shape::Command, &[]);
        let look = |bytes: &[u8]| inspect_by(&keeping.looker(NOTHING), bytes).unwrap();
        let first = look(&tool());
        assert_eq!(keeping.starts(), 1);
        assert_eq!((look(&tool()), keeping.starts()), (first, 1));
        assert_eq!((look(&other).digest, keeping.starts()), (Digest::of(&other), 2));
    }

    #[test]
    fn what_another_version_kept_or_no_walk_ends_with_is_looked_at_anew_and_replaced() {
        let refused = r#"{"refused":"heavy"}"#;
        let impossible = NOTHING.replace("[]}}", r#"[{"field":"sdk","name":"\n","version":""}]}}"#);
        for (form, kept) in [
            ("found/0", NOTHING),
            (FORM, "{"),
            (FORM, refused),
            (FORM, impossible.as_str()),
        ] {
            let keeping = Keeping::new();
            let looker = keeping.looker(NOTHING);
            looker.keep(Digest::of(&tool()), form, kept.as_bytes());
            inspect_by(&looker, &tool()).unwrap();
            assert_eq!(keeping.starts(), 1, "{form}: {kept}");
            inspect_by(&looker, &tool()).unwrap();
            assert_eq!(keeping.starts(), 1, "{form}: {kept}");
        }
    }

    #[test]
    fn a_refusal_and_nonsense_are_not_kept() {
        let keeping = Keeping::new();
        for (answer, code) in [
            (r#"{"refused":"heavy"}"#, Code::ComponentInvalid),
            ("{", Code::Internal),
        ] {
            let failure = inspect_by(&keeping.looker(answer), &tool()).unwrap_err();
            assert_eq!(failure.code, code, "{answer}");
        }
        assert_eq!(looked_up(&keeping), None);
        inspect_by(&keeping.looker(NOTHING), &tool()).unwrap();
        assert_eq!(looked_up(&keeping), Some(NOTHING.as_bytes().to_vec()));
    }

    fn looked_up(keeping: &Keeping) -> Option<Vec<u8>> {
        keeping.looker(NOTHING).kept(Digest::of(&tool()), FORM)
    }

    #[test]
    fn the_form_names_the_versions_of_what_walks() {
        let lock = include_str!("../../../../../Cargo.lock");
        for part in FORM.split(", ").filter(|part| part.starts_with("wasm")) {
            let (name, version) = part.split_once(' ').unwrap();
            let locked = format!("name = \"{name}\"\nversion = \"{version}\"\n");
            assert!(lock.contains(&locked), "another {name} is built in: change FORM");
        }
        assert_eq!(FORM.matches(", wasm").count(), 2);
    }

    #[test]
    fn what_no_walk_ends_with_is_not_believed() {
        let import = |name: &str| json!({"name": name, "kind": "instance", "has_reveal": false});
        let producer = |name: &str| json!({"field": "sdk", "name": name, "version": ""});
        let numbered = |count: usize| (0..count).map(|n| producer(&n.to_string())).collect::<Vec<Value>>();
        let found = |imports: Vec<Value>, producers: Vec<Value>| json!({"found": {"imports": imports, "exports": [], "producers": producers}});
        let invalid = |detail: &str| json!({"refused": {"invalid": {"offset": 1, "detail": detail}}});
        let bytes = tool();
        let code = |answer: &Value| match understand(answer.to_string().as_bytes(), Digest::of(&bytes), bytes.len()) {
            Ok(_) => None,
            Err(failure) => Some(failure.code),
        };
        for (answer, expected) in [
            (found(vec![import("a"); EXTERNS_MAX], Vec::new()), None),
            (
                found(vec![import("a"); EXTERNS_MAX + 1], Vec::new()),
                Some(Code::Internal),
            ),
            (found(vec![import(&"a".repeat(bytes.len()))], Vec::new()), None),
            (
                found(vec![import(&"a".repeat(bytes.len() + 1))], Vec::new()),
                Some(Code::Internal),
            ),
            (found(Vec::new(), numbered(PRODUCERS_MAX)), None),
            (found(Vec::new(), numbered(PRODUCERS_MAX + 1)), Some(Code::Internal)),
            (found(Vec::new(), vec![producer("a\u{1b}b")]), Some(Code::Internal)),
            (
                found(Vec::new(), vec![producer(&"a".repeat(10_000))]),
                Some(Code::Internal),
            ),
            (invalid("it is wrong"), Some(Code::ComponentInvalid)),
            (invalid("it is\nwrong"), Some(Code::Internal)),
            (invalid(&"a".repeat(10_000)), Some(Code::Internal)),
            (json!({"refused": "heavy"}), Some(Code::ComponentInvalid)),
            (json!({"refused": "empty"}), Some(Code::Internal)),
            (json!({"refused": "strange"}), Some(Code::Internal)),
            (
                json!({"found": {"imports": [], "exports": [], "producers": [], "digest": "x"}}),
                Some(Code::Internal),
            ),
        ] {
            assert_eq!(code(&answer), expected, "{answer:.200}");
        }
    }
}
