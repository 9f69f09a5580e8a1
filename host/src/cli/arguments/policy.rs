//! The command line of `aral policy`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::audit::{Place, When};

/// What to do with a policy.
#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Print the policy that the server that runs goes by
    Show,
    /// Ask a candidate policy about what was decided, and list the decisions that would change
    Simulate(PolicySimulate),
}

/// Ask a candidate.
#[derive(Debug, Args)]
pub(crate) struct PolicySimulate {
    /// The candidate: a file like aral.toml, of which the section policy alone counts
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) policy: PathBuf,
    /// Decisions since a time such as `2026-01-31T00:00:00Z`, or since so long ago, such as `7d`, `12h` or `30m`
    #[arg(long, value_name = "WHEN", default_value = "7d")]
    pub(crate) since: When,
    #[command(flatten)]
    pub(crate) place: Place,
    /// A manifest that was decided about, besides those of the configuration
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) manifest: Vec<PathBuf>,
    /// A persona that was decided about, besides those of the configuration; without it `persona.json`, if it is there
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) persona: Vec<PathBuf>,
    /// Take unsigned manifests and personas too
    #[arg(long)]
    pub(crate) development: bool,
}
