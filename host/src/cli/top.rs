//! `aral top`: what a running server does, seen live. It only asks.

mod figures;
mod live;
mod samples;
mod source;
mod view;

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aral_contract::{Clock as _, Code, Failure};
use aral_runtime::SystemClock;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::terminal::disable_raw_mode;
use serde_json::json;
use tokio::signal::unix::SignalKind;

use super::arguments::Top;
use super::configured::Configured;
use super::exit::Exit;
use super::output::{Done, Output, Stop};
use super::serve::listen;
use super::{desk, runtime};
use figures::Figures;
use live::Live;
use source::Source;

/// How long a signal that asks for the end waits until the terminal is as it was. Stops a terminal that is gone, or that takes nothing,
/// from keeping this process: no read from the one and no write to the other ever comes back.
const PUT_BACK: Duration = Duration::from_secs(1);

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
        return told(&source, interval, |figures| {
            output.one_of_many(&view::text(figures), &json!(figures))?;
            Ok(!arguments.once)
        });
    }
    if !std::io::stdout().is_terminal() {
        return Err(Failure::new(Code::ConfigInvalid, "standard output is no terminal")
            .with_hint("`aral top --once` prints what is seen once, and `aral top --json` an object for each interval")
            .into());
    }
    // Only the first question must be answered: a server may be started anew.
    let live = Live::begin(source, interval)?;
    let is_over = told_to_end()?;
    let init = ratatui::try_init().map_err(Failure::internal);
    let ended = init.and_then(|mut terminal| watch(live, &is_over, &mut terminal));
    // Also where only a part of it was changed.
    let restored = ratatui::try_restore().map_err(Failure::internal);
    ended?;
    restored?;
    Ok(Exit::Success)
}

/// Becomes true at a signal that asks for the end. From now on such a signal ends nothing at once: it would leave the terminal as only
/// this program can use it. It ends the process where the terminal is not put back in time.
fn told_to_end() -> Result<Arc<AtomicBool>, Failure> {
    let runtime = runtime::on_this_thread()?;
    let inside = runtime.enter();
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hangup = listen(SignalKind::hangup())?;
    drop(inside);
    let is_told = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&is_told);
    let work = move || {
        let kind = runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => SignalKind::terminate(),
                _ = interrupt.recv() => SignalKind::interrupt(),
                _ = hangup.recv() => SignalKind::hangup(),
            }
        });
        told.store(true, Ordering::Release);
        std::thread::sleep(PUT_BACK);
        // The process is still there. Keys can be told to work as before, also where the terminal takes nothing.
        let _as_far_as_it_goes = disable_raw_mode();
        // What shells say of a program that a signal ended.
        std::process::exit(kind.as_raw_value().saturating_add(128));
    };
    std::thread::Builder::new()
        .name("aral-signals".to_owned())
        .spawn(work)
        .map_err(Failure::internal)?;
    Ok(is_told)
}

/// For scripts: the figures of one interval after the other, as long as `show` wants more. They are of the time between two answers, which is
/// longer than the interval where the server takes its time, or whoever reads what is shown.
fn told(source: &Source, interval: Duration, mut show: impl FnMut(&Figures) -> Result<bool, Stop>) -> Done {
    let clock = SystemClock::new();
    let mut before = source.ask()?;
    let mut before_at = clock.elapsed();
    loop {
        std::thread::sleep(interval);
        let now = source.ask()?;
        let at = clock.elapsed();
        let figures = Figures::between(&before, &now, at.saturating_sub(before_at));
        if !show(&figures)? {
            return Ok(Exit::Success);
        }
        (before, before_at) = (now, at);
    }
}

/// Until somebody presses q, escape or ctrl-c, or a signal says that it is over.
fn watch(mut live: Live, is_over: &AtomicBool, terminal: &mut ratatui::DefaultTerminal) -> Result<(), Failure> {
    while !is_over.load(Ordering::Acquire) {
        let silence = live.silence();
        terminal
            .draw(|frame| view::draw(live.figures(), silence.as_deref(), frame))
            .map_err(Failure::internal)?;
        if event::poll(live.wait()).map_err(Failure::internal)? && is_end(&event::read().map_err(Failure::internal)?) {
            return Ok(());
        }
        live.go_on()?;
    }
    Ok(())
}

fn is_end(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let is_interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press && (is_interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::cli::top::figures::tests::{BEFORE, NOW};
    use crate::cli::top::source::REQUEST;

    #[test]
    fn a_reader_who_takes_long_does_not_make_the_rates_higher() {
        const TAKES: Duration = Duration::from_millis(50);
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = std::thread::spawn(move || {
            for answer in [BEFORE, BEFORE, NOW] {
                let (mut stream, _) = listener.accept().unwrap();
                stream.read_exact(&mut [0; REQUEST.len()]).unwrap();
                let answer = format!("HTTP/1.1 200 OK\r\n\r\n{answer}");
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let mut seen = Vec::new();
        let interval = Duration::from_millis(1);
        let done = told(&Source::new(&socket), interval, |figures| {
            seen.push(figures.clone());
            std::thread::sleep(TAKES);
            Ok(seen.len() < 2)
        });
        assert!(matches!(done, Ok(Exit::Success)), "{done:?}");
        server.join().unwrap();
        // Between the second answer and the third the reader took its time.
        let time = Duration::from_millis(seen[1].interval_ms);
        assert!(time >= TAKES + interval, "{time:?}");
        let calls = 11.0;
        let most = calls / (TAKES + interval).as_secs_f64();
        let rate = seen[1].calls_per_second;
        assert!(rate > 0.0 && rate <= most, "{rate} is more than {most}");
    }
}
