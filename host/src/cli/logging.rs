//! The log on standard error: how much of it, and in which form. What to log is said where it happens.

mod json;
mod plain;

use std::io::{self, Write};

use aral_contract::{Code, Failure};
use aral_host::RELOAD_TARGET;
use aral_host::telemetry::{SPAN_TARGET, Spans};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::arguments::LogFormat;
use super::stderr;

/// Warns of what only development allows. The same comes as an event, which `watch` shows whatever the level is.
const SHOWN_BY_WATCH: &str = "aral_orchestration::dispatch::run";
/// How the names of all parts of Aral begin. Every other part is a library.
const OWN: &str = "aral";
/// The library for MCP says what clients say, inputs too, and calls each of their mistakes an error.
const OF_CLIENTS: &str = "rmcp";

/// How the log is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogOptions<'a> {
    /// Counts `-v`.
    pub(crate) verbose: u8,
    pub(crate) quiet: bool,
    pub(crate) color: bool,
    pub(crate) format: LogFormat,
    /// The value of `ARAL_LOG`; it yields to `-v` and `--quiet`.
    pub(crate) variable: Option<&'a str>,
}

/// Starts the log, and the layer that hands spans out once somebody wants them.
pub(crate) fn start(options: LogOptions<'_>) -> Result<Spans, Failure> {
    let filter = filter(options.verbose, options.quiet, options.variable)?;
    let spans = Spans::default();
    let registry = tracing_subscriber::registry().with(spans.layer());
    match options.format {
        LogFormat::Text => {
            let layer = tracing_subscriber::fmt::layer()
                .with_writer(|| Stderr)
                .with_ansi(options.color)
                .without_time()
                .fmt_fields(plain::Fields);
            registry.with(layer.with_filter(filter)).init();
        }
        LogFormat::Json => {
            // A line says to which call it belongs, whatever the level is.
            let filter = filter.with_target(SPAN_TARGET, LevelFilter::INFO);
            let layer = tracing_subscriber::fmt::layer()
                .with_writer(|| Stderr)
                .fmt_fields(json::Fields)
                .event_format(json::Lines::default());
            registry.with(layer.with_filter(filter)).init();
        }
    }
    Ok(spans)
}

/// Standard error. It gets each line as a whole.
pub(super) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        stderr::write(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn filter(verbose: u8, quiet: bool, variable: Option<&str>) -> Result<Targets, Failure> {
    // Whoever sends a signal is told nothing else: no level keeps back how the reading of the configuration ended.
    let told = match (verbose, quiet) {
        (0, true) => LevelFilter::WARN,
        (_, _) => LevelFilter::INFO,
    };
    let targets = levels(verbose, quiet, variable)?;
    // Nor does one keep back what is wrong with the program itself.
    Ok(targets
        .with_target(RELOAD_TARGET, told)
        .with_target(stderr::PANIC_TARGET, LevelFilter::ERROR))
}

fn levels(verbose: u8, quiet: bool, variable: Option<&str>) -> Result<Targets, Failure> {
    let level = match (verbose, variable) {
        // What is quiet is what happens as it should: a server says in warnings alone that a file of TLS was not taken.
        (0, Some(text)) if !quiet => return parse(text),
        (0, _) => LevelFilter::WARN,
        (1, _) => LevelFilter::INFO,
        (2, _) => LevelFilter::DEBUG,
        (_, _) => LevelFilter::TRACE,
    };
    Ok(unnamed(level).with_target(SHOWN_BY_WATCH, level.min(LevelFilter::ERROR)))
}

/// The levels of parts that nobody names. Libraries warn of what strangers write into handshakes, frames and answers, a line for each, so
/// that a stranger could fill the disk of the log: only their errors are shown.
fn unnamed(level: LevelFilter) -> Targets {
    Targets::new()
        .with_default(level.min(LevelFilter::ERROR))
        .with_target(OWN, level)
        .with_target(OF_CLIENTS, LevelFilter::OFF)
}

/// A word alone is a level here. `Targets` would take a misspelt one as the name of a part, and log nothing.
fn parse(text: &str) -> Result<Targets, Failure> {
    let is_level = |word: &str| word.contains('=') || word.parse::<LevelFilter>().is_ok();
    let wrong = || {
        Failure::new(
            Code::ConfigInvalid,
            format!("`{}` in ARAL_LOG is no log level", text.escape_debug()),
        )
        .with_hint("write off, error, warn, info, debug or trace, or levels of parts: `warn,aral_runtime=debug`")
    };
    if !text.split(',').all(is_level) {
        return Err(wrong());
    }
    let named: Targets = text.parse().map_err(|_| wrong())?;
    let others = named.default_level().unwrap_or(LevelFilter::OFF);
    Ok(unnamed(others).with_targets(named.iter()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn the_options_are_stronger_than_the_variable() {
        let shows = |verbose, quiet, variable| {
            let filter = filter(verbose, quiet, variable).unwrap();
            let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
            levels
                .into_iter()
                .filter(|level| filter.would_enable("aral_runtime", level))
                .count()
        };
        assert_eq!(shows(0, false, None), 2);
        assert_eq!(shows(0, false, Some("off")), 0);
        assert_eq!(shows(0, false, Some("error,aral_runtime=debug")), 4);
        // Warnings and failures, whatever the variable says.
        for variable in [None, Some("off"), Some("debug"), Some("error,aral_runtime=debug")] {
            assert_eq!(shows(0, true, variable), 2, "{variable:?}");
        }
        assert_eq!(shows(3, true, Some("off")), 5);
        assert_eq!(shows(1, false, Some("off")), 3);
        assert_eq!(shows(2, false, None), 4);
        assert!(
            !filter(9, false, None)
                .unwrap()
                .would_enable("rmcp::service", &Level::ERROR)
        );
        assert_eq!(shows(9, false, None), 5);
        // What clients say is shown to whoever names who says it.
        for quiet in [
            "trace",
            "debug",
            "info,aral_runtime=debug",
            "debug,rmcp::transport=debug",
        ] {
            let filter = filter(0, false, Some(quiet)).unwrap();
            assert!(!filter.would_enable("rmcp::service", &Level::ERROR), "{quiet}");
        }
        for named in ["warn,rmcp=debug", "warn,rmcp::service=debug", "rmcp=debug"] {
            let filter = filter(0, false, Some(named)).unwrap();
            assert!(filter.would_enable("rmcp::service", &Level::DEBUG), "{named}");
        }
        for bad in ["loud", "aral=loud", "warn,loud"] {
            assert_eq!(
                filter(0, false, Some(bad)).unwrap_err().code,
                Code::ConfigInvalid,
                "{bad}"
            );
        }
    }

    #[test]
    fn of_libraries_errors_alone_are_shown_unless_they_are_named() {
        let parts = [
            "rustls::msgs::handshake",
            "h2::proto::ping_pong",
            "hickory_net::udp::udp_client_stream",
            "wasmtime_wasi_http::p2::error",
        ];
        let shows = |verbose, variable: Option<&str>, part: &str, level: &Level| {
            let filter = filter(verbose, false, variable).unwrap();
            filter.would_enable(part, level)
        };
        for part in parts {
            for (verbose, variable) in [
                (0, None),
                (0, Some("warn")),
                (0, Some("trace,aral_runtime=trace")),
                (3, None),
            ] {
                assert!(!shows(verbose, variable, part, &Level::WARN), "{part} {variable:?}");
                assert!(shows(verbose, variable, part, &Level::ERROR), "{part} {variable:?}");
            }
            for silent in ["off", "aral_runtime=debug", "aral=debug"] {
                assert!(!shows(0, Some(silent), part, &Level::ERROR), "{part} {silent}");
            }
            let named = format!("warn,{}=debug", part.split(':').next().unwrap());
            assert!(shows(0, Some(&named), part, &Level::DEBUG), "{named}");
        }
        // Crates of Aral, and targets that are no crate.
        for own in [
            "aral",
            "aral::call",
            "aral::cli::serve",
            "aral_host::serve",
            "aral_protocol::http2",
        ] {
            assert!(shows(0, Some("debug"), own, &Level::DEBUG), "{own}");
            assert!(shows(2, None, own, &Level::DEBUG), "{own}");
            assert!(shows(0, Some("warn,aral=debug"), own, &Level::DEBUG), "{own}");
        }
    }

    #[test]
    fn what_guests_warn_of_is_shown_until_somebody_turns_it_off() {
        let shows = |variable, level: &Level| {
            let filter = filter(0, false, variable).unwrap();
            filter.would_enable("aral::guest", level)
        };
        for variable in [None, Some("warn"), Some("warn,aral_host=off")] {
            assert!(shows(variable, &Level::WARN), "{variable:?}");
        }
        for variable in ["off", "error", "warn,aral::guest=off"] {
            assert!(!shows(Some(variable), &Level::WARN), "{variable}");
        }
    }

    #[test]
    fn no_level_keeps_back_a_panic() {
        for (quiet, variable) in [(false, Some("off")), (true, None), (false, Some("off,aral::panic=off"))] {
            let filter = filter(0, quiet, variable).unwrap();
            assert!(filter.would_enable(stderr::PANIC_TARGET, &Level::ERROR), "{variable:?}");
        }
    }

    #[test]
    fn no_level_keeps_back_how_a_reading_of_the_configuration_ended() {
        let tells = |verbose, quiet, variable, level: &Level| {
            let filter = filter(verbose, quiet, variable).unwrap();
            filter.would_enable(RELOAD_TARGET, level)
        };
        for variable in [
            None,
            Some("off"),
            Some("error"),
            Some("off,aral_host=error"),
            Some("debug"),
        ] {
            assert!(tells(0, false, variable, &Level::INFO), "{variable:?}");
            assert!(tells(0, true, variable, &Level::WARN), "{variable:?}");
            assert!(!tells(0, true, variable, &Level::INFO), "{variable:?}");
        }
        assert!(tells(1, true, None, &Level::INFO));
    }
}
