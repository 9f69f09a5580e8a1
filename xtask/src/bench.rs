//! Runs the benchmarks and prints them as ratios. Times differ between machines; a ratio inside one run says more.
//! A benchmark whose name starts with `floor` is one that the others of its group are compared with.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::{guests, process, repository};

/// Files of `benches/` that leave their times to criterion, which knows filters.
const WITH_CRITERION: [&str; 5] = ["call", "authorize", "process", "audit", "memory"];
/// Those that print what they measured themselves. They know no filter, and take minutes.
const BY_THEMSELVES: [&str; 4] = ["tail", "in_flight", "memory_million", "memory_sweep"];

/// The verb: guests, program, benchmarks, table.
pub(crate) fn run(filter: Option<&str>) -> Result<()> {
    guests::run()?;
    let root = repository::root()?;
    let results = repository::target_directory(&root)?.join("criterion");
    // What an older run left is no result of this one.
    if results.is_dir() {
        fs::remove_dir_all(&results).with_context(|| format!("could not remove {}", results.display()))?;
    }
    // One benchmark runs the program. Both packages are selected, so that no dependency compiles twice.
    let program = [
        "build",
        "--release",
        "--locked",
        "-p",
        "aral-host",
        "-p",
        "aral-benches",
        "--bin",
        "aral",
    ];
    process::run(process::cargo(&root).args(program))?;
    let mut command = process::cargo(&root);
    command.args(["bench", "--locked", "-p", "aral-benches"]);
    let (targets, filter) = choose(filter);
    for &target in &targets {
        command.args(["--bench", target]);
    }
    if let Some(filter) = filter {
        command.args(["--", filter]);
    }
    process::run(&mut command)?;
    let times = collect(&results)?;
    let leaves_times = targets.iter().any(|target| WITH_CRITERION.contains(target));
    ensure!(
        !times.is_empty() || !leaves_times,
        "the benchmarks left no result in {}",
        results.display()
    );
    for line in table(&times) {
        println!("{line}");
    }
    Ok(())
}

/// What runs, and the filter of criterion: one file alone, whose name was given, or what has a name that contains this.
fn choose(filter: Option<&str>) -> (Vec<&'static str>, Option<&str>) {
    let all = || WITH_CRITERION.into_iter().chain(BY_THEMSELVES);
    let Some(filter) = filter else {
        return (all().collect(), None);
    };
    match all().find(|target| *target == filter) {
        Some(target) => (vec![target], None),
        None => (WITH_CRITERION.to_vec(), Some(filter)),
    }
}

/// Time in nanoseconds, by full name: `group/benchmark`.
type Times = BTreeMap<String, f64>;

/// Where criterion measured nothing it made no folder.
fn collect(folder: &Path) -> Result<Times> {
    let mut times = Times::new();
    if folder.is_dir() {
        collect_into(&mut times, folder, "")?;
    }
    Ok(times)
}

fn collect_into(times: &mut Times, folder: &Path, name: &str) -> Result<()> {
    let estimates = folder.join("new/estimates.json");
    if estimates.is_file() {
        let text = fs::read_to_string(&estimates).with_context(|| format!("could not read {}", estimates.display()))?;
        times.insert(
            name.to_owned(),
            time(&text).with_context(|| format!("no time in {}", estimates.display()))?,
        );
        return Ok(());
    }
    for entry in fs::read_dir(folder).with_context(|| format!("could not list {}", folder.display()))? {
        let entry = entry?;
        if entry.path().is_dir() {
            let own = entry.file_name().to_string_lossy().into_owned();
            let full = if name.is_empty() { own } else { format!("{name}/{own}") };
            collect_into(times, &entry.path(), &full)?;
        }
    }
    Ok(())
}

/// What criterion prints as the time: the slope over samples of growing size, which outliers move less than the mean;
/// the mean where samples were of one size.
fn time(estimates: &str) -> Option<f64> {
    let estimates: serde_json::Value = serde_json::from_str(estimates).ok()?;
    let slope = estimates.get("slope").filter(|slope| !slope.is_null());
    slope.or_else(|| estimates.get("mean"))?.get("point_estimate")?.as_f64()
}

fn table(times: &Times) -> Vec<String> {
    let width = times.keys().map(String::len).max().unwrap_or(0);
    times
        .iter()
        .map(|(name, own)| format!("{name:<width$}  {:>12}{}", show(*own), ratios(times, name, *own)))
        .collect()
}

fn ratios(times: &Times, name: &str, own: f64) -> String {
    let Some((group, _)) = name.rsplit_once('/') else {
        return String::new();
    };
    let floors = times.iter().filter_map(|(other, floor)| {
        let short = other.strip_prefix(group)?.strip_prefix('/')?;
        (short.starts_with("floor") && other != name).then(|| format!("  {:.2}x {short}", own / floor))
    });
    floors.collect()
}

fn show(nanoseconds: f64) -> String {
    match nanoseconds {
        n if n < 1e3 => format!("{n:.1} ns"),
        n if n < 1e6 => format!("{:.2} µs", n / 1e3),
        n if n < 1e9 => format!("{:.2} ms", n / 1e6),
        n => format!("{:.2} s", n / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_become_ratios_to_the_floors_of_their_group() {
        let folder = tempfile::tempdir().unwrap();
        for (name, mean) in [
            ("call/floor-tuned", 20_000.0),
            ("call/governed", 25_000.0),
            ("other/alone", 2e6),
        ] {
            let place = folder.path().join(name).join("new");
            fs::create_dir_all(&place).unwrap();
            fs::write(
                place.join("estimates.json"),
                format!(r#"{{"mean":{{"point_estimate":{mean}}}}}"#),
            )
            .unwrap();
        }
        let outlying = r#"{"mean":{"point_estimate":9e9},"slope":{"point_estimate":25000.0}}"#;
        fs::write(folder.path().join("call/governed/new/estimates.json"), outlying).unwrap();
        fs::create_dir(folder.path().join("report")).unwrap();
        let lines = table(&collect(folder.path()).unwrap());
        assert_eq!(
            lines,
            [
                "call/floor-tuned      20.00 µs",
                "call/governed         25.00 µs  1.25x floor-tuned",
                "other/alone            2.00 ms",
            ]
        );
    }

    #[test]
    fn one_file_runs_alone_and_what_knows_no_filter_runs_for_none() {
        let all = [&WITH_CRITERION[..], &BY_THEMSELVES].concat();
        assert_eq!(choose(None), (all, None));
        assert_eq!(choose(Some("tail")), (vec!["tail"], None));
        assert_eq!(choose(Some("memory")), (vec!["memory"], None));
        for filter in ["memory_get", "sealed", "audit/append"] {
            assert_eq!(choose(Some(filter)), (WITH_CRITERION.to_vec(), Some(filter)));
        }
    }

    #[test]
    fn each_file_is_known_for_what_it_is() {
        let folder = repository::root().unwrap().join("benches");
        let manifest: toml::Value = toml::from_str(&fs::read_to_string(folder.join("Cargo.toml")).unwrap()).unwrap();
        let built = manifest["bench"].as_array().unwrap().iter();
        let mut built: Vec<&str> = built.map(|bench| bench["name"].as_str().unwrap()).collect();
        let (mut known, _) = choose(None);
        built.sort_unstable();
        known.sort_unstable();
        assert_eq!(known, built);
        for name in known {
            let text = fs::read_to_string(folder.join(name).with_extension("rs")).unwrap();
            assert_eq!(text.contains("criterion"), WITH_CRITERION.contains(&name), "{name}");
        }
    }

    #[test]
    fn nothing_is_collected_where_nothing_was_left() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(collect(&folder.path().join("criterion")).unwrap(), Times::new());
    }

    #[test]
    fn a_result_without_a_time_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("x/new")).unwrap();
        fs::write(folder.path().join("x/new/estimates.json"), "{}").unwrap();
        assert!(collect(folder.path()).is_err());
    }
}
