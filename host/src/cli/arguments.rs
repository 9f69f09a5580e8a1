//! The command line as clap reads it: names, help and nothing else.

pub(crate) mod audit;
pub(crate) mod persona;
pub(crate) mod policy;
pub(crate) mod storage;
mod written;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, ValueHint};

use super::{allow, exit};

const ENVIRONMENT: &str = "\
Environment:
  ARAL_CONFIG  the configuration, where --config names none
  ARAL_LOG     level of the log on standard error: off, error, warn (default), info, debug, trace,
               or levels of parts: warn,aral_runtime=debug
  NO_COLOR     no colour, unless it is empty
  XDG_STATE_HOME, HOME
               where state is kept, if the configuration does not say: $XDG_STATE_HOME/aral, else
               $HOME/.local/state/aral";

/// Runs WebAssembly capabilities for AI agents, each with exactly the rights that its manifest, the persona and the
/// operator's policy all allow.
#[derive(Debug, Parser)]
#[command(name = "aral", version, propagate_version = true, after_long_help = format!("{}\n\n{ENVIRONMENT}", exit::TABLE))]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Options that every verb takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "For every verb")]
pub(crate) struct Global {
    /// The operator's configuration; without it $ARAL_CONFIG, then `./aral.toml`, then defaults that allow nothing
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// Print one JSON object on standard output; a failure is `{"error":{"code","message","hint","retry_after_ms","trace_id"}}`
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print nothing on standard error but warnings and failures
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// How the log on standard error is written: for people, or a JSON object a line with the trace id of its call
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// Log more on standard error; twice for details, three times for everything
    #[arg(long, short, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

// Without a text for each: it would stretch the help of every verb.
/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make an Ed25519 key pair for signing
    Keygen(Keygen),
    /// Write the skeleton of a capability that builds and passes its test
    New(New),
    /// Build a capability for wasm32-wasip2, check its imports and print what it needs
    Build(Build),
    /// Show what a component imports, exports and needs, without running it
    Inspect(Inspect),
    /// Compare two components or manifests; exit code 10 if the new one may do more
    Diff(Diff),
    /// Build, sign and verify manifests
    #[command(subcommand)]
    Manifest(Manifest),
    /// Write, sign, verify and show personas
    #[command(subcommand)]
    Persona(persona::Persona),
    /// Call a capability
    Invoke(Invoke),
    /// Run a component that has no manifest, with exactly what --allow gives (development only)
    #[command(after_long_help = allow::GRAMMAR)]
    Run(Run),
    /// Answer calls over HTTP, as the section serve of the configuration says, until told to end (SIGTERM, ctrl-c)
    Serve(Serve),
    /// Offer what a persona may call as tools to a client of MCP on standard input and output, until it ends its input
    Mcp(Mcp),
    /// Have the server that runs read its configuration again: as a whole, or nothing of it
    Reload,
    /// Register a signed manifest in the server that runs, until that ends
    Register(Register),
    /// Withdraw a version of a capability from the server that runs
    Withdraw(Withdraw),
    /// Say how the server that runs is: what was checked, what holds, where it listens
    Status,
    /// Watch a running server: calls, latency, refusals, what is in use
    Top(Top),
    /// Show the three yeses for a capability: who asked, who allowed, what came out
    Explain(Explain),
    /// Keep records: read, write, list, back up, change the key
    #[command(subcommand)]
    Memory(storage::Memory),
    /// Keep secrets: store them, see where they are
    #[command(subcommand)]
    Secret(storage::Secret),
    /// Show the policy that a running server goes by, and try others out
    #[command(subcommand)]
    Policy(policy::Policy),
    /// Read the audit log: verify it, prove and check records, find them
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Check configuration, keys, cache and machine, and say what to fix
    Doctor,
    /// Print the completions of a shell
    Completions(Completions),
    /// Compiles one component from standard input; the host starts this as a child that it can kill.
    #[command(name = "__compile", hide = true)]
    Compile,
}

/// Make an Ed25519 key pair.
#[derive(Debug, Args)]
pub(crate) struct Keygen {
    /// The private key goes to `NAME.pem` (mode 0600), the public key to `NAME.pub.pem`; neither may exist
    #[arg(value_name = "NAME", value_hint = ValueHint::FilePath)]
    pub(crate) name: PathBuf,
    /// Encrypt the private key with a passphrase, from a prompt unless one of the next two says where it is
    #[arg(long)]
    pub(crate) encrypt: bool,
    #[command(flatten)]
    pub(crate) passphrase: Passphrase,
}

/// Where the passphrase of a private key is. It is never an argument: others can see those.
#[derive(Debug, Args)]
pub(crate) struct Passphrase {
    /// File with the passphrase of the private key (mode 0600); one line end is taken off
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Variable with the passphrase of the private key; it is taken out of the environment
    #[arg(long, value_name = "NAME", conflicts_with = "passphrase_file")]
    pub(crate) passphrase_variable: Option<String>,
}

/// With what a document is signed.
#[derive(Debug, Args)]
pub(crate) struct Signing {
    /// The private key, as `aral keygen` writes it
    #[arg(long, value_name = "KEY.pem", value_hint = ValueHint::FilePath)]
    pub(crate) key: PathBuf,
    #[command(flatten)]
    pub(crate) passphrase: Passphrase,
    /// The serial, below 2^53; without it the time in seconds. A host refuses one lower than the last it admitted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..1 << 53))]
    pub(crate) serial: Option<u64>,
}

/// Whose signature under a document counts.
#[derive(Debug, Args)]
pub(crate) struct Trusting {
    /// A public key to trust; without it the keys of the configuration
    #[arg(long, value_name = "KEY.pub.pem", value_hint = ValueHint::FilePath)]
    pub(crate) trust: Vec<PathBuf>,
}

/// Which of the two shapes of component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NewShape {
    /// Typed functions through the guest SDK
    Tool,
    /// A plain program: JSON on standard input, JSON on standard output
    Command,
}

/// Write the skeleton of a capability.
#[derive(Debug, Args)]
pub(crate) struct New {
    /// Folder to create; its last part is the id: a letter, then up to 127 of a-z 0-9 _ -
    #[arg(value_name = "NAME", value_hint = ValueHint::DirPath)]
    pub(crate) name: PathBuf,
    /// What kind of component
    #[arg(long, value_enum, default_value_t = NewShape::Tool)]
    pub(crate) shape: NewShape,
    /// Folder of the guest SDK; without it the `guest-sdk` folder of the repository around NAME
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(crate) sdk: Option<PathBuf>,
}

/// Build a capability.
#[derive(Debug, Args)]
pub(crate) struct Build {
    /// Folder with `Cargo.toml` and `capability.toml`
    #[arg(value_name = "FOLDER", default_value = ".", value_hint = ValueHint::DirPath)]
    pub(crate) folder: PathBuf,
}

/// Show a component.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The component
    #[arg(value_name = "FILE.wasm", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
}

/// Compare two components or manifests.
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// A component or a manifest
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) old: PathBuf,
    /// The same kind of file
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) new: PathBuf,
}

/// What to do with a manifest.
#[derive(Debug, Subcommand)]
pub(crate) enum Manifest {
    /// Describe components in an empty sandbox and write an unsigned manifest, the components beside it
    Build(ManifestBuild),
    /// Sign a manifest in place
    Sign(ManifestSign),
    /// Check the signature, the time and the components of a manifest
    Verify(ManifestVerify),
}

/// Write an unsigned manifest.
#[derive(Debug, Args)]
pub(crate) struct ManifestBuild {
    /// Folders that hold a `capability.toml`, or such files
    #[arg(required = true, value_name = "FOLDER|capability.toml", value_hint = ValueHint::AnyPath)]
    pub(crate) sources: Vec<PathBuf>,
    /// Where the manifest goes; the components go to `components/<digest>.wasm` beside it. Only an unsigned manifest is
    /// written over
    #[arg(long, value_name = "FILE", default_value = "manifest.json", value_parser = written::file(), value_hint = ValueHint::FilePath)]
    pub(crate) out: PathBuf,
}

/// Sign a manifest.
#[derive(Debug, Args)]
pub(crate) struct ManifestSign {
    /// The manifest
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) signing: Signing,
    /// For how long the manifest is valid
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub(crate) valid_days: u32,
}

/// Check a manifest.
#[derive(Debug, Args)]
pub(crate) struct ManifestVerify {
    /// The manifest
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) trusting: Trusting,
}

/// For whom, and with which documents.
#[derive(Debug, Args)]
pub(crate) struct Session {
    /// A manifest besides those of the configuration
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) manifest: Vec<PathBuf>,
    /// The persona that the call is made for
    #[arg(long, value_name = "FILE", default_value = "persona.json", value_hint = ValueHint::FilePath)]
    pub(crate) persona: PathBuf,
    /// Accept unsigned documents; warned about each time
    #[arg(long)]
    pub(crate) development: bool,
}

/// Call a capability.
#[derive(Debug, Args)]
pub(crate) struct Invoke {
    /// The capability, with a version requirement if it matters: `text-grep@^1.2`
    #[arg(value_name = "ID[@VERSION]")]
    pub(crate) capability: String,
    /// The input: JSON, `@FILE` for a file, `-` for standard input
    #[arg(long, short, value_name = "JSON|@FILE|-", default_value = "{}")]
    pub(crate) input: String,
    #[command(flatten)]
    pub(crate) session: Session,
}

/// Answer calls over HTTP.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Accept unsigned personas; warned about each time
    #[arg(long)]
    pub(crate) development: bool,
}

/// Offer tools to a client of MCP.
#[derive(Debug, Args)]
pub(crate) struct Mcp {
    #[command(flatten)]
    pub(crate) session: Session,
}

/// Register a manifest.
#[derive(Debug, Args)]
pub(crate) struct Register {
    /// The manifest, its components beside it
    #[arg(value_name = "MANIFEST", value_hint = ValueHint::FilePath)]
    pub(crate) manifest: PathBuf,
}

/// Withdraw a capability.
#[derive(Debug, Args)]
pub(crate) struct Withdraw {
    /// The capability and its version, as they were registered: `text-grep@1.0.0`
    #[arg(value_name = "ID@VERSION")]
    pub(crate) capability: String,
}

/// Watch a running server.
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// The server's socket for operators; without it that of the configuration
    #[arg(long, value_name = "SOCKET", value_hint = ValueHint::FilePath)]
    pub(crate) socket: Option<PathBuf>,
    /// How long one look lasts, in milliseconds: rates and quantiles are of that time
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(10..=3_600_000))]
    pub(crate) interval_ms: u64,
    /// Look once, print what was seen, and end
    #[arg(long)]
    pub(crate) once: bool,
}

/// Run a component without a manifest.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The component
    #[arg(value_name = "FILE.wasm", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// A permission with its scope; nothing is allowed without it. The grammar is below (`--help`)
    #[arg(long, value_name = "PERMISSION=SCOPE")]
    pub(crate) allow: Vec<String>,
    /// A network that is not public and may be reached nevertheless, such as `127.0.0.0/8`
    #[arg(long, value_name = "NETWORK")]
    pub(crate) allow_network: Vec<String>,
    /// A limit of the call, such as `fuel=1000000`
    #[arg(long, value_name = "NAME=NUMBER")]
    pub(crate) limit: Vec<String>,
    /// The input: JSON, `@FILE` for a file, `-` for standard input
    #[arg(long, short, value_name = "JSON|@FILE|-", default_value = "{}")]
    pub(crate) input: String,
    /// Record what the component reaches for, and write the least-privilege entry that covers it, for a person to read
    #[arg(long, value_name = "OUT.toml", value_parser = written::file(), value_hint = ValueHint::FilePath)]
    pub(crate) observe: Option<PathBuf>,
    /// Say that this is development: nobody signed for this component
    #[arg(long)]
    pub(crate) development: bool,
}

/// Show the three yeses.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The capability, with a version requirement if it matters; without it a list of all
    #[arg(value_name = "ID[@VERSION]")]
    pub(crate) capability: Option<String>,
    /// If it is denied, show the smallest change of manifest, persona and policy that would allow it. Nothing is changed
    #[arg(long, requires = "capability")]
    pub(crate) why_not: bool,
    /// With --why-not: what a call has to be able to do besides what the manifest asks for, as for `aral run`
    #[arg(long, value_name = "PERMISSION=SCOPE", requires = "why_not")]
    pub(crate) allow: Vec<String>,
    #[command(flatten)]
    pub(crate) session: Session,
}

/// Print completions.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Arguments::command().debug_assert();
    }
}
