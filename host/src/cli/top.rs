//! `aral top`: what a running server does, seen live. It only asks.

mod figures;
mod live;
mod samples;
mod source;
mod view;

use std::io::IsTerminal as _;
use std::time::Duration;

use aral_contract::{Clock as _, Code, Failure};
use aral_runtime::SystemClock;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use serde_json::json;

use super::arguments::Top;
use super::configured::Configured;
use super::desk;
use super::exit::Exit;
use super::output::{Done, Output};
use figures::Figures;
use live::Live;
use source::Source;

pub(crate) fn run(arguments: &Top, configured: &Configured, output: &Output) -> Done {
    let named = arguments.socket.clone();
    let socket = named.or_else(|| desk::socket(&configured.config)).ok_or_else(|| {
        Failure::new(
            Code::ConfigInvalid,
            "the configuration does not say where a server is managed",
        )
        .with_hint("aral.toml, [serve.admin]: socket = \"…\", or `aral top --socket SOCKET`")
    })?;
    let source = Source::new(&socket);
    let interval = Duration::from_millis(arguments.interval_ms);
    if arguments.once || output.json {
        return told(&source, interval, arguments.once, output);
    }
    if !std::io::stdout().is_terminal() {
        return Err(Failure::new(Code::ConfigInvalid, "standard output is no terminal")
            .with_hint("`aral top --once` prints what is seen once, and `aral top --json` an object for each interval")
            .into());
    }
    let mut terminal = ratatui::try_init().map_err(Failure::internal)?;
    let ended = watch(source, interval, &mut terminal);
    let restored = ratatui::try_restore().map_err(Failure::internal);
    ended?;
    restored?;
    Ok(Exit::Success)
}

/// For scripts: the figures of one interval, or of each.
fn told(source: &Source, interval: Duration, once: bool, output: &Output) -> Done {
    let clock = SystemClock::new();
    let mut before = source.ask()?;
    loop {
        let begun = clock.elapsed();
        std::thread::sleep(interval);
        let now = source.ask()?;
        let figures = Figures::between(&before, &now, clock.elapsed().saturating_sub(begun));
        output.answer(&view::text(&figures), &json!(figures))?;
        if once {
            return Ok(Exit::Success);
        }
        before = now;
    }
}

/// Until somebody presses q, escape or ctrl-c. Only the first question must be answered: a server may be started anew.
fn watch(source: Source, interval: Duration, terminal: &mut ratatui::DefaultTerminal) -> Result<(), Failure> {
    let mut live = Live::begin(source, interval)?;
    loop {
        let silence = live.silence();
        terminal
            .draw(|frame| view::draw(live.figures(), silence.as_deref(), frame))
            .map_err(Failure::internal)?;
        if event::poll(live.wait()).map_err(Failure::internal)? && is_end(&event::read().map_err(Failure::internal)?) {
            return Ok(());
        }
        live.go_on()?;
    }
}

fn is_end(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let is_interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press && (is_interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
}
