//! One server under a guard: a shell that ends it, by its number, as soon as this process is gone or wants it. An
//! interrupt or a kill of this process closes the pipe that the guard listens on, so that no way out leaves a server behind.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

/// What the server writes, in its folder.
pub(super) const LOG: &str = "log";

/// `$1` is the folder, the rest is the server's command. The guard outlives an interrupt of the whole group; it handles
/// the signals and does not ignore them, because what is ignored is ignored by the server too. A server that ends by
/// itself ends the guard.
const SCRIPT: &str = r#"
trap : INT TERM HUP
folder=$1; shift
exec 3<&0
"$@" <&- 3<&- &
server=$!
( cat <&3 >/dev/null; kill -TERM $server 2>/dev/null; sleep 5; kill -KILL $server 2>/dev/null ) >/dev/null 2>&1 &
watch=$!
while kill -0 $server 2>/dev/null; do wait $server; done
kill $watch 2>/dev/null
case $folder in */aral-services-*/*) rm -rf "$folder"; rmdir "${folder%/*}" 2>/dev/null ;; esac
"#;

/// A server that ends together with this value.
pub(super) struct Guard {
    shell: Mutex<Child>,
    shown: String,
}

impl Guard {
    /// Starts the command in the folder, where its output goes too.
    pub(super) fn start(command: &Command, folder: &Path) -> Result<Self> {
        let shown = super::process::show(command);
        let log = File::create(folder.join(LOG)).with_context(|| format!("could not write in {}", folder.display()))?;
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", SCRIPT, "guard"])
            .arg(folder)
            .arg(command.get_program())
            .args(command.get_args())
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let shell = shell.spawn().with_context(|| format!("could not start `{shown}`"))?;
        Ok(Self {
            shell: Mutex::new(shell),
            shown,
        })
    }

    /// An error when the server has ended.
    pub(super) fn check(&self) -> Result<()> {
        let mut shell = self.shell.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match shell.try_wait()? {
            None => Ok(()),
            Some(_) => bail!("`{}` has ended", self.shown),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let shell = self.shell.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        drop(shell.stdin.take());
        // It ends within seconds, and there is nobody to tell if it does not.
        let _ended = shell.wait();
    }
}
