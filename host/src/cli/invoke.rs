//! `aral invoke`: one call through the one path.

use aral_orchestration::Request;

use super::arguments::Invoke;
use super::configured::Configured;
use super::output::{Done, Output};
use super::watch::Watch;
use super::{files, report, session};

pub(crate) fn run(arguments: &Invoke, configured: &Configured, output: &Output) -> Done {
    let input = files::input(&arguments.input)?;
    let (capability, version) = session::capability(&arguments.capability)?;
    let watch = Watch::new(output);
    let host = session::host(configured, &arguments.session, &watch, output)?;
    let session = session::open(&host, &arguments.session)?;
    let request = Request {
        capability: &capability,
        version: version.as_ref(),
        input: &input,
        trace: None,
    };
    let outcome = session::block_on(session::patiently(output, host.invoke(&session, request)))?;
    report::outcome(&outcome, &watch.take(), output)
}
