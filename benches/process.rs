//! How long does a person wait for `aral invoke`? The whole process, with a capability that was compiled before; and
//! within it, what making a host and registering from the cache of compiled code takes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use aral_benches::INPUT;
use aral_benches::governed::{Documents, Governed};
use criterion::{BatchSize, Criterion};

/// The `aral` binary of the same build, which `cargo xtask bench` makes first.
fn aral() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own
        .ancestors()
        .nth(2)
        .context("this program lies in no target folder")?;
    let aral = folder.join("aral");
    ensure!(
        aral.is_file(),
        "`{}` is not there: run `cargo build --release -p aral-host`",
        aral.display()
    );
    Ok(aral)
}

fn invoke(aral: &Path, folder: &Path) -> Command {
    let mut command = Command::new(aral);
    command.current_dir(folder).args(["--quiet", "invoke", "measured"]);
    command.args(["--persona", "persona.json", "--input", INPUT]);
    command
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let folder = tempfile::tempdir()?;
    let documents = Documents::echo()?;
    documents.write(folder.path())?;
    let aral = aral()?;
    let output = invoke(&aral, folder.path()).output()?;
    ensure!(
        output.status.success(),
        "`aral invoke` failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let state = tempfile::tempdir()?;
    let governed = runtime.block_on(Governed::new(&documents, &state.path().join("state"), INPUT))?;

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("process");
    group.sample_size(50);
    group.bench_function("floor-true", |bencher| {
        bencher.iter(|| Command::new("/bin/true").output().map(|output| output.status));
    });
    group.bench_function("aral-invoke", |bencher| {
        bencher.iter(|| invoke(&aral, folder.path()).output().map(|output| output.status));
    });
    group.bench_function("register-from-cache", |bencher| {
        // Each time anew: the manifest is verified, the component hashed, inspected, loaded from the cache and linked.
        bencher.iter_batched(
            || governed.forget(),
            |()| runtime.block_on(governed.register(&documents)),
            BatchSize::PerIteration,
        );
    });
    group.finish();
    criterion.final_summary();
    Ok(())
}
