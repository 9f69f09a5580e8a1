//! The environment variables that Aral reads, all of them, each with what it does. Nothing else in the host looks at the
//! environment, and no guest ever sees any of it.

use std::ffi::OsString;
use std::path::PathBuf;

/// The configuration file, where `--config` does not name one.
pub const ARAL_CONFIG: &str = "ARAL_CONFIG";
/// What is logged to standard error, in the words of `tracing_subscriber::EnvFilter`, such as `warn,aral_runtime=debug`.
pub const ARAL_LOG: &str = "ARAL_LOG";
/// Present and not empty: no colour, see <https://no-color.org>.
pub const NO_COLOR: &str = "NO_COLOR";
/// Where state is kept if the configuration names no `state_dir`: in the folder `aral` below this one.
pub const XDG_STATE_HOME: &str = "XDG_STATE_HOME";
/// Where state is kept if [`XDG_STATE_HOME`] is not set either: in `.local/state/aral` below this one.
pub const HOME: &str = "HOME";
/// The socket of a manager of services such as systemd, which `aral serve` tells how it stands, see sd_notify(3): an absolute path, or
/// `@` and a name.
pub const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// The file that [`ARAL_CONFIG`] names.
pub fn config_file() -> Option<PathBuf> {
    read(ARAL_CONFIG).map(PathBuf::from)
}

/// The filter that [`ARAL_LOG`] sets, if it is UTF-8.
pub fn log_filter() -> Option<String> {
    read(ARAL_LOG).and_then(|value| value.into_string().ok())
}

/// Whether [`NO_COLOR`] forbids colour.
pub fn no_color() -> bool {
    read(NO_COLOR).is_some()
}

/// The socket that [`NOTIFY_SOCKET`] names.
pub fn notify_socket() -> Option<OsString> {
    read(NOTIFY_SOCKET)
}

/// The folder for state, if the environment says where: [`XDG_STATE_HOME`] or [`HOME`], absolute paths alone.
pub fn state_dir() -> Option<PathBuf> {
    let absolute = |name: &str| read(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute(XDG_STATE_HOME).or_else(|| Some(absolute(HOME)?.join(".local/state")));
    Some(state?.join("aral"))
}

/// A variable that is set and not empty.
#[expect(clippy::disallowed_methods, reason = "this module reads the environment")]
fn read(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
