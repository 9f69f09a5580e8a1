//! `aral mcp`: capabilities as tools for a client of MCP that starts this program. Standard output is the client's.

use std::sync::Arc;
use std::time::Duration;

use aral_host::protocol::{Bounds, standard_streams};
use aral_host::{Host, ServerLogSink};

use super::arguments::Mcp;
use super::configured::Configured;
use super::exit::Exit;
use super::output::{Done, Output};
use super::serve::{Ending, Warner, leave_behind};
use super::{runtime, session, stderr, trail};

/// How long this process waits for a read of standard input that cannot be given up.
const LEAVE: Duration = Duration::from_millis(100);

pub(crate) fn run(arguments: &Mcp, configured: &Configured, output: &Output) -> Done {
    stderr::hand_over()?;
    configured.check_manifests()?;
    let mut config = configured.config.clone();
    trail::for_a_verb(&mut config);
    let bounds = config
        .serve
        .as_ref()
        .map_or_else(Bounds::default, |serve| serve.bounds.clone());
    let host = Host::builder()
        .config(config)
        .sink(Arc::new(ServerLogSink::default()))
        .sink(Arc::new(Warner(*output)))
        .compiler(session::compiler())
        .build()?;
    session::register_all(&host, &arguments.session, output)?;
    let session = session::open(&host, &arguments.session)?;
    let runtime = runtime::on_all_processors()?;
    let served = runtime.block_on(async {
        let ending = Ending::new()?;
        host.mcp(session, bounds, standard_streams(), ending.ended()).await
    });
    leave_behind(runtime, &host, LEAVE);
    served?;
    Ok(Exit::Success)
}
