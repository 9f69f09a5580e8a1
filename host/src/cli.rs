//! The command line: thin over the library. It reads arguments and files, shows what comes back, and decides nothing
//! that the library could decide.

// In reading order: the arguments, what every verb uses, the verbs.
mod arguments;
mod configured;
mod desk;
mod exit;
mod files;
mod logging;
mod notify;
mod output;
mod passphrase;
mod progress;
mod prompt;
mod runtime;
mod session;
mod stderr;
mod text;
mod trail;
mod usage;
mod value;
mod watch;

mod allow;
mod audit;
mod build;
mod completions;
mod diff;
mod doctor;
mod explain;
mod inspect;
mod invoke;
mod keygen;
mod manifest;
mod mcp;
mod memory;
mod new;
mod observe;
mod persona;
mod policy;
mod register;
mod reload;
mod report;
mod run;
mod secret;
mod serve;
mod status;
mod top;
mod withdraw;

use aral_contract::Failure;
use aral_host::Config;
use aral_host::environment;
use aral_host::telemetry::Spans;
use clap::Parser as _;
use serde_json::json;

use arguments::{Arguments, Verb};
use configured::{Configured, Located};
pub(crate) use exit::Exit;
use output::{Done, Output, Stop, failure_object};

/// The whole program.
pub(crate) fn main() -> Exit {
    let _waits_for_the_last_lines = stderr::Farewell;
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error),
    };
    let global = &arguments.global;
    let output = Output::new(global.json, global.quiet, environment::no_color());
    let variable = environment::log_filter();
    let log = logging::start(logging::LogOptions {
        verbose: global.verbose,
        quiet: global.quiet,
        color: output.color,
        format: global.log_format,
        variable: variable.as_deref(),
    });
    let done = log
        .map_err(Stop::from)
        .and_then(|spans| run(&arguments, &output, &spans));
    let failed = match done {
        Ok(exit) => return exit,
        Err(Stop::Closed) => return Exit::Success,
        Err(Stop::Failure(failure)) => failure,
    };
    // What only the operator may read goes to the log: here operator and user are one person.
    if let Some(detail) = &failed.internal {
        tracing::error!(%detail, "failed");
    }
    let object = json!({"error": failure_object(&failed)});
    match output.failure(&failed, &object) {
        Ok(_) | Err(Stop::Closed | Stop::Failure(_)) => Exit::of(failed.code),
    }
}

/// What clap refuses, and the help that it prints. A script that asked for JSON gets JSON here too.
fn refuse(error: &clap::Error) -> Exit {
    if !error.use_stderr() {
        let _nobody_to_tell = error.print();
        return Exit::Success;
    }
    if std::env::args_os().any(|argument| argument == "--json") {
        let failure = usage::failure(error, std::env::args_os().skip(1));
        let object = json!({"error": failure_object(&failure)});
        let _nobody_to_tell = Output::new(true, true, true).failure(&failure, &object);
    } else {
        let _nobody_to_tell = error.print();
    }
    Exit::Usage
}

fn compile() -> Exit {
    match aral_runtime::compile::child_main(aral_capability::inspect::answer) {
        code if code == std::process::ExitCode::SUCCESS => Exit::Success,
        _refused => Exit::HostFault,
    }
}

fn run(arguments: &Arguments, output: &Output, spans: &Spans) -> Done {
    let located = Located::new(arguments.global.config.as_deref());
    // Limits before anything is read that a core dump could show (verbs that start cargo do without: a limit of this process would be
    // one of the compiler too), and both before anything starts a thread: then the variables that the configuration names can be taken.
    let configured = || -> Result<Configured, Failure> {
        let mut configured = Configured::load(&located)?;
        configured.config.limit_process()?;
        configured.config.take_variables()?;
        Ok(configured)
    };
    match &arguments.verb {
        Verb::Keygen(arguments) => {
            Config::closed()?.limit_process()?;
            keygen::run(arguments, &located, output)
        }
        Verb::New(arguments) => new::run(arguments, output),
        Verb::Build(arguments) => build::run(arguments, output),
        Verb::Inspect(arguments) => inspect::run(arguments, output),
        Verb::Diff(arguments) => diff::run(arguments, output),
        Verb::Manifest(arguments::Manifest::Build(arguments)) => manifest::build::run(arguments, output),
        Verb::Manifest(arguments::Manifest::Sign(arguments)) => {
            Config::closed()?.limit_process()?;
            manifest::sign::run(arguments, output)
        }
        Verb::Manifest(arguments::Manifest::Verify(arguments)) => {
            manifest::verify::run(arguments, &configured()?, output)
        }
        Verb::Persona(verb) => match verb {
            arguments::persona::Persona::New(arguments) => persona::new::run(arguments, output),
            arguments::persona::Persona::Sign(arguments) => {
                Config::closed()?.limit_process()?;
                persona::sign::run(arguments, output)
            }
            arguments::persona::Persona::Verify(arguments) => persona::verify::run(arguments, &configured()?, output),
            arguments::persona::Persona::Show(arguments) => persona::show::run(arguments, &configured()?, output),
        },
        Verb::Invoke(arguments) => invoke::run(arguments, &configured()?, output),
        Verb::Run(arguments) => run::run(arguments, &configured()?, output),
        Verb::Reload => of_file(configured(), |configured| reload::run(configured, output)),
        Verb::Register(arguments) => of_file(configured(), |configured| register::run(arguments, configured, output)),
        Verb::Withdraw(arguments) => of_file(configured(), |configured| withdraw::run(arguments, configured, output)),
        Verb::Status => of_file(configured(), |configured| status::run(configured, output)),
        Verb::Serve(arguments) => {
            // Before anything that may take long: whoever renews a certificate does not know whether the server has started.
            let hangup = serve::hangups()?;
            of_file(configured(), |configured| {
                serve::run(arguments, configured, output, spans, hangup)
            })
        }
        Verb::Top(arguments) if arguments.socket.is_some() => top::run(arguments, &configured()?, output),
        Verb::Top(arguments) => of_file(configured(), |configured| top::run(arguments, configured, output)),
        Verb::Mcp(arguments) => mcp::run(arguments, &configured()?, output),
        Verb::Explain(arguments) => explain::run(arguments, &configured()?, output),
        Verb::Memory(arguments::storage::Memory::Keygen(arguments)) => {
            Config::closed()?.limit_process()?;
            memory::keygen(arguments, &located, output)
        }
        Verb::Memory(verb) => of_file(configured(), |configured| memory::run(verb, configured, output)),
        Verb::Secret(verb) => of_file(configured(), |configured| secret::run(verb, configured, output)),
        Verb::Policy(verb @ arguments::policy::Policy::Show) => {
            of_file(configured(), |configured| policy::run(verb, configured, output))
        }
        Verb::Policy(verb) => policy::run(verb, &configured()?, output),
        Verb::Audit(verb) => audit::run(verb, &configured()?, output),
        Verb::Doctor => doctor::run(configured(), output),
        Verb::Completions(arguments) => completions::run(arguments, output),
        Verb::Compile => Ok(compile()),
    }
}

/// A verb for which the configuration says where everything is.
fn of_file(configured: Result<Configured, Failure>, verb: impl FnOnce(&Configured) -> Done) -> Done {
    let configured = configured?;
    verb(&configured).map_err(|stop| match stop {
        Stop::Failure(failure) => configured.told_of_no_file(failure).into(),
        Stop::Closed => Stop::Closed,
    })
}
