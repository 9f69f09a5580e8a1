//! The arguments of `aral persona`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::{Signing, Trusting, written};

/// What to do with a persona.
#[derive(Debug, Subcommand)]
pub(crate) enum Persona {
    /// Write an unsigned persona
    New(Box<PersonaNew>),
    /// Sign a persona in place
    Sign(PersonaSign),
    /// Check the signature, the time and the members of a persona
    Verify(PersonaVerify),
    /// Show every member of a persona, what the policy makes of it, and whether it may be believed
    Show(PersonaShow),
}

/// Write an unsigned persona. What is not listed is not allowed.
#[derive(Debug, Args)]
pub(crate) struct PersonaNew {
    /// Id of the persona: 1 to 128 of a-z 0-9 . _ -
    #[arg(long)]
    pub(crate) id: String,
    /// Name for people; without it the id
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// What the agent is for
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) description: String,
    /// File with what a model is told before anything else
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) system_prompt: Option<PathBuf>,
    /// Tier whose numbers of the policy hold: [policy.tier.NAME] of aral.toml
    #[arg(long, value_name = "NAME")]
    pub(crate) tier: Option<String>,
    /// The most sensitive values that capabilities may be handed or store: public, internal, confidential or secret
    #[arg(long, value_name = "WORD", default_value = "public")]
    pub(crate) clearance: String,
    /// A permission that the persona may use, such as `file:read`, or `*` for all
    #[arg(long = "allow-permission", value_name = "PERMISSION")]
    pub(crate) permissions: Vec<String>,
    /// A capability that the persona may call, such as `text-grep`, `notes-*` or `notes@^1.2`, or `*` for all
    #[arg(long = "allow-capability", value_name = "ID")]
    pub(crate) capabilities: Vec<String>,
    /// A host that the persona may reach, such as `https://*.example.org`, or `*` for all
    #[arg(long = "allow-domain", value_name = "HOST")]
    pub(crate) domains: Vec<String>,
    /// An agent that the persona may call, or `*` for all
    #[arg(long = "allow-agent", value_name = "ID")]
    pub(crate) agents: Vec<String>,
    /// How deep calls may be made: 0 is a call of the agent's own. Without it what the policy says
    #[arg(long, value_name = "N")]
    pub(crate) max_reasoning_depth: Option<u32>,
    /// What all calls of an hour may cost together, in millionths. Without it what the policy says
    #[arg(long, value_name = "MICRO", value_parser = clap::value_parser!(u64).range(..1 << 53))]
    pub(crate) max_cost_per_hour: Option<u64>,
    /// Calls in any 60 seconds. Without it what the policy says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..1 << 53))]
    pub(crate) requests_per_minute: Option<u64>,
    /// Calls in any 3,600 seconds. Without it what the policy says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..1 << 53))]
    pub(crate) requests_per_hour: Option<u64>,
    /// For how long the persona is valid
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub(crate) valid_days: u32,
    /// Where the persona goes; the file must not exist
    #[arg(long, value_name = "FILE", default_value = "persona.json", value_parser = written::file(), value_hint = ValueHint::FilePath)]
    pub(crate) out: PathBuf,
}

/// Sign a persona.
#[derive(Debug, Args)]
pub(crate) struct PersonaSign {
    /// The persona
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) signing: Signing,
    /// For how long the persona is valid
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub(crate) valid_days: u32,
}

/// Check a persona.
#[derive(Debug, Args)]
pub(crate) struct PersonaVerify {
    /// The persona
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) trusting: Trusting,
}

/// Show a persona.
#[derive(Debug, Args)]
pub(crate) struct PersonaShow {
    /// The persona
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
}
