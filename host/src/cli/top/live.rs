//! The figures of a server that is asked again and again, by a thread of its own: whoever shows them reads keys meanwhile, and
//! goes on where the server does not answer for a while, as while it is started anew.

use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError};
use std::time::Duration;

use aral_contract::{Clock as _, Failure};
use aral_runtime::SystemClock;

use super::figures::Figures;
use super::samples::Samples;
use super::source::Source;

/// How often it is looked whether an answer has come, and whether this is over.
const LOOK: Duration = Duration::from_millis(50);

/// What is seen.
pub(super) struct Live {
    interval: Duration,
    clock: SystemClock,
    questions: SyncSender<()>,
    answers: Receiver<Result<Samples, Failure>>,
    /// Whether an answer is to come.
    is_asked: bool,
    asked_at: Duration,
    /// The newest answer, and when it came.
    before: Samples,
    before_at: Duration,
    figures: Figures,
    /// Why there was none since.
    silence: Option<Failure>,
}

impl Live {
    /// Asks for the first time, and waits for that.
    ///
    /// # Errors
    /// Nobody answers: then there is nothing to go on with.
    pub(super) fn begin(source: Source, interval: Duration) -> Result<Self, Failure> {
        let clock = SystemClock::new();
        let before = source.ask()?;
        let before_at = clock.elapsed();
        let (questions, asked) = mpsc::sync_channel(1);
        let (answer, answers) = mpsc::sync_channel(1);
        let work = move || {
            while asked.recv().is_ok() && answer.send(source.ask()).is_ok() {}
        };
        std::thread::Builder::new()
            .name("aral-top".to_owned())
            .spawn(work)
            .map_err(Failure::internal)?;
        Ok(Self {
            figures: Figures::between(&before, &before, interval),
            interval,
            clock,
            questions,
            answers,
            is_asked: false,
            asked_at: before_at,
            before,
            before_at,
            silence: None,
        })
    }

    /// The newest figures that there are.
    pub(super) fn figures(&self) -> &Figures {
        &self.figures
    }

    /// In words, that they are old; none: they are not.
    pub(super) fn silence(&self) -> Option<String> {
        let failure = self.silence.as_ref()?;
        let seconds = self.clock.elapsed().saturating_sub(self.before_at).as_secs();
        Some(format!("no answer for {seconds} s: {}", failure.message))
    }

    /// How long there is nothing to do here.
    pub(super) fn wait(&self) -> Duration {
        if self.is_asked {
            return LOOK;
        }
        let passed = self.clock.elapsed().saturating_sub(self.asked_at);
        self.interval.saturating_sub(passed).min(LOOK)
    }

    /// Takes an answer that has come, and asks again where it is time. Does not wait.
    ///
    /// # Errors
    /// Nobody asks any more.
    pub(super) fn go_on(&mut self) -> Result<(), Failure> {
        let gone = || Failure::internal("the thread that asks the server has ended");
        if self.is_asked {
            match self.answers.try_recv() {
                Ok(answer) => self.take(answer),
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err(gone()),
            }
        }
        if self.wait().is_zero() {
            self.questions.try_send(()).map_err(|_| gone())?;
            (self.is_asked, self.asked_at) = (true, self.clock.elapsed());
        }
        Ok(())
    }

    fn take(&mut self, answer: Result<Samples, Failure>) {
        self.is_asked = false;
        match answer {
            Ok(now) => {
                let at = self.clock.elapsed();
                self.figures = Figures::between(&self.before, &now, at.saturating_sub(self.before_at));
                (self.before, self.before_at, self.silence) = (now, at, None);
            }
            Err(failure) => self.silence = Some(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::cli::top::figures::tests::{BEFORE, NOW};
    use crate::cli::top::source::REQUEST;

    #[test]
    fn a_server_that_is_gone_for_a_while_is_asked_again() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let ok = |text: &str| format!("HTTP/1.1 200 OK\r\n\r\n{text}");
        let answers = [ok(BEFORE), String::new(), ok(NOW)];
        let server = std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                stream.read_exact(&mut [0_u8; REQUEST.len()]).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let mut live = Live::begin(Source::new(&socket), Duration::from_millis(1)).unwrap();
        let first = live.figures().calls;
        let mut silent = None;
        for _ in 0..1_000 {
            std::thread::sleep(live.wait());
            live.go_on().unwrap();
            silent = silent.or_else(|| live.silence().map(|words| (words, live.figures().calls)));
            if live.figures().calls != first {
                break;
            }
        }
        let (words, calls) = silent.expect("it was silent for a while");
        assert!(
            words.starts_with("no answer for ") && words.contains("does not speak HTTP"),
            "{words}"
        );
        assert_eq!((first, calls), (10, 10), "what is known is shown meanwhile");
        assert_eq!((live.figures().calls, live.silence()), (21, None));
        server.join().unwrap();
        assert!(
            Live::begin(Source::new(&socket), Duration::ZERO).is_err(),
            "nobody is there"
        );
    }
}
