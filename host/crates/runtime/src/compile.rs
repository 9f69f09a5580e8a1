//! From a component to code. The compiler is large and its input hostile: it runs in a child process with limits on
//! time, memory and processor, or, for embedders without such a program, in this process on small components only. The
//! child guards against exhaustion and crashes; the code that it returns is trusted like that of a compiler in process. The same child
//! looks at components that are not compiled yet.

mod child;
mod look;
mod looker;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use aral_contract::limits::COMPILE_MS_MAX;
use tokio::sync::OwnedSemaphorePermit;

pub(crate) use child::CODE_BYTES_MAX;
pub use child::{Inspector, child_main};
pub use look::{LookError, LookLimits, look};
pub use looker::Looker;

use crate::admit;
use crate::engine::{self, CodeSettings};
use crate::runtime::RuntimeError;

/// Where components are compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompilerKind {
    /// In a child process, which must call [`child_main`]: `aral __compile`.
    Child {
        /// The program, an absolute path.
        program: PathBuf,
        /// What makes it call [`child_main`].
        args: Vec<String>,
        /// After this many milliseconds it is killed; see `COMPILE_MS_MAX`.
        timeout_ms: u64,
    },
    /// In this process, which cannot stop it: only small components.
    InProcess,
}

/// The program of whoever asks: a child that was just forked is asked what it runs, and so gets that very file, also if another one
/// took its place since the host was started.
const THIS_PROGRAM: &str = "/proc/self/exe";

impl CompilerKind {
    /// A child process of this very program, never of one that was installed in its place in the meantime: code that another
    /// version compiled is not code of this one.
    pub fn this_program(args: Vec<String>) -> Self {
        Self::child(THIS_PROGRAM.into(), args)
    }

    /// A child process of a program that is looked up at each compilation. It must be of the version of this host.
    pub fn child(program: PathBuf, args: Vec<String>) -> Self {
        Self::Child {
            program,
            args,
            timeout_ms: COMPILE_MS_MAX,
        }
    }
}

/// A component was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// Checked before anything reads it.
    #[error("the component has {bytes} bytes, and at most {bytes_max} are taken")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The largest that is taken.
        bytes_max: usize,
    },
    /// Machine code from outside would run with the rights of the host.
    #[error("this is code that wasmtime compiled already; give the component that it was made from")]
    Precompiled,
    /// A module of the core language.
    #[error(
        "this is a core module and not a component; build for `wasm32-wasip2`, or wrap it with `wasm-tools component new`"
    )]
    CoreModule,
    /// Something else.
    #[error("this is not WebAssembly")]
    NotWasm,
    /// Malformed, truncated, or in need of a feature that is off.
    #[error("the component is not valid: {message}")]
    Invalid {
        /// What is wrong and at which offset.
        message: String,
    },
    /// Too much for a compiler that nobody can kill.
    #[error("the component has {found} {what}, and without a compiler process at most {found_max} are taken")]
    TooComplex {
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        found: u64,
        /// How much may be.
        found_max: u64,
    },
    /// Others are compiled, and go on.
    #[error("other components have been compiled for {timeout_ms} ms, and there was no room for this one")]
    Busy {
        /// How long was waited.
        timeout_ms: u64,
    },
    /// The compiler was killed.
    #[error("compiling took longer than {timeout_ms} ms")]
    Timeout {
        /// The limit.
        timeout_ms: u64,
    },
    /// Somebody ended the compiler, as whoever ends the host does: nobody's fault.
    #[error("somebody ended the compiler with signal {signal}")]
    Ended {
        /// The signal.
        signal: i32,
    },
    /// The compiler ran out of memory or processor time, or crashed: in any case the fault of what it compiled.
    #[error("the compiler was ended by signal {signal}: it needed more memory or time than allowed, or crashed")]
    Killed {
        /// The signal.
        signal: i32,
    },
    /// The code, or whatever else was asked for, is larger than any that is taken.
    #[error("the compiled code has more than {bytes_max} bytes")]
    CodeTooLarge {
        /// The largest that is taken.
        bytes_max: u64,
    },
    /// The compiler refused.
    #[error("the compiler refused the component: {message}")]
    Refused {
        /// What it said.
        message: String,
    },
    /// The compiler could not be run.
    #[error("cannot run the compiler")]
    Child(#[source] std::io::Error),
    /// The program that should compile does something else.
    #[error("the compiler process broke off: {message}")]
    Protocol {
        /// What it said.
        message: String,
    },
    /// The code takes more than the engine has for one component: the fault of what was compiled.
    #[error("the component takes more than there is for one: {message}")]
    Unfit {
        /// What wasmtime said: of what there is too much, and how much may be.
        message: String,
    },
    /// The engine would not load the code.
    #[error("cannot load the compiled code: {message}")]
    Load {
        /// What wasmtime said.
        message: String,
    },
    /// There is no engine.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

/// Compiles a component that [`admit::glance`] let pass. The permit is kept as long as something is compiled, also where nobody waits
/// for that any more, and then given back.
pub(crate) async fn compile(
    kind: &CompilerKind,
    settings: CodeSettings,
    component: &[u8],
    permit: Option<OwnedSemaphorePermit>,
) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), CompileError> {
    match kind {
        CompilerKind::Child {
            program,
            args,
            timeout_ms,
        } => {
            let code = child::compile(program, args, *timeout_ms, settings, component).await?;
            Ok((code, permit))
        }
        CompilerKind::InProcess => {
            let component = component.to_vec();
            tokio::task::spawn_blocking(move || -> Result<_, CompileError> {
                admit::validate_for_in_process(&component, settings.memory)?;
                Ok((precompile(settings, &component)?, permit))
            })
            .await
            .map_err(|error| CompileError::Protocol {
                message: error.to_string(),
            })?
        }
    }
}

/// Runs the compiler here.
fn precompile(settings: CodeSettings, component: &[u8]) -> Result<Vec<u8>, CompileError> {
    let refused = |error: wasmtime::Error| CompileError::Refused {
        message: format!("{error:#}"),
    };
    let engine = engine::compiler(settings).map_err(refused)?;
    engine.precompile_component(component).map_err(refused)
}
