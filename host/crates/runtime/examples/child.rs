//! The far end of this crate's tests that need a process of their own: the compiler's child, one that hangs, one that
//! takes too much memory, one that shows its limits, one that writes a large file, one that shares a cache, one that has a jailed child of its own, one whose program is replaced, one that takes a secret from its
//! environment.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program for tests, which reads what it prints"
)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use aral_contract::{Limits, Metering};
use aral_runtime::jail::PROGRAMS;
use aral_runtime::process::{self, ProcessLimits};
use aral_runtime::{
    Allocation, CacheOptions, CompilerKind, Guard, JailLimits, Runtime, RuntimeOptions, jailed_command,
};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["compile"] => aral_runtime::compile::child_main(seen),
        ["hang", marker] => {
            let _written = std::fs::File::create(marker);
            std::thread::sleep(Duration::from_secs(600));
            ExitCode::SUCCESS
        }
        ["devour"] => {
            let mut all = Vec::new();
            loop {
                all.push(Vec::<u8>::with_capacity(64 << 20));
            }
        }
        ["chatter"] => {
            use std::io::Write as _;
            let chunk = vec![b'+'; 1 << 20];
            while std::io::stdout().write_all(&chunk).is_ok() {}
            ExitCode::SUCCESS
        }
        ["replaced"] => replaced(),
        ["jailed"] => jailed(),
        ["limits", address_space_bytes] => limits(address_space_bytes.parse().ok()),
        ["large"] => large(),
        ["cache", directory, key_file, component] => cache(directory.into(), key_file.into(), component.into()),
        ["take"] => take("TAKEN_SECRET"),
        ["take", "name"] => take("TAKEN=SECRET"),
        ["take", "threads"] => {
            let (_keep, wait) = std::sync::mpsc::channel::<()>();
            let _thread = std::thread::spawn(move || wait.recv());
            take("TAKEN_SECRET")
        }
        _ => ExitCode::from(2),
    }
}

/// Looks at what is no component and says what to do.
fn seen(component: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(component);
    let (verb, number) = text.split_once(' ').unwrap_or((text.as_ref(), ""));
    let number: usize = number.parse().unwrap_or_default();
    match verb {
        "spin" => loop {
            std::hint::spin_loop();
        },
        "take" => {
            std::hint::black_box(Vec::<u8>::with_capacity(number << 20));
            b"taken".to_vec()
        }
        "say" => vec![b'x'; number],
        _ => format!("seen: {text}").into_bytes(),
    }
}

/// Starts a jailed child, prints its number, and waits to be killed.
#[tokio::main(flavor = "current_thread")]
async fn jailed() -> ExitCode {
    let limits = JailLimits {
        memory_bytes: 1 << 30,
        cpu_seconds: 10,
        open_files: 20,
        file_bytes: 0,
    };
    let mut command = jailed_command(Path::new("/bin/sleep"), limits);
    command.arg("600");
    match PROGRAMS.spawn(command).await {
        Ok(child) => {
            println!("{}", child.id().unwrap_or_default());
            tokio::time::sleep(Duration::from_secs(600)).await;
            ExitCode::SUCCESS
        }
        Err(_) => ExitCode::FAILURE,
    }
}

fn limits(address_space_bytes_max: Option<u64>) -> ExitCode {
    let limits = ProcessLimits {
        open_files_max: 123,
        address_space_bytes_max,
    };
    if let Err(error) = process::apply(&limits) {
        println!("{error}");
        return ExitCode::FAILURE;
    }
    println!("{}", std::fs::read_to_string("/proc/self/limits").unwrap_or_default());
    println!("{}", std::fs::read_to_string("/proc/self/status").unwrap_or_default());
    println!("open_files_max: {:?}", process::open_files_max());
    println!("dumpable: {:?}", rustix::process::dumpable_behavior());
    match calls() {
        Ok((pooled, worked)) => println!("pooled: {pooled}, calls that worked: {worked}"),
        Err(error) => println!("{error:?}"),
    }
    ExitCode::SUCCESS
}

/// Writes more than a file may have, and says what came of it.
fn large() -> ExitCode {
    let written = process::apply(&ProcessLimits::default())
        .map_err(|error| error.to_string())
        .and_then(|()| tempfile::tempfile().map_err(|error| error.to_string()));
    match written {
        Ok(mut file) => match file.write_all(&vec![0; 1 << 20]) {
            Ok(()) => println!("written"),
            Err(error) => println!("{:?}", error.kind()),
        },
        Err(error) => println!("{error}"),
    }
    ExitCode::SUCCESS
}

/// Twenty stores at once, each with a memory of 32 MiB that is used at its end.
#[tokio::main(flavor = "current_thread")]
async fn calls() -> wasmtime::Result<(bool, usize)> {
    let text = r#"(component
        (core module $m
            (memory 512)
            (func (export "run") (result i32)
                (i32.store (i32.const 33554428) (i32.const 7)) (i32.load (i32.const 33554428))))
        (core instance $i (instantiate $m))
        (func (export "run") (result u32) (canon lift (core func $i "run"))))"#;
    let runtime = Runtime::new(RuntimeOptions::default())?;
    let engine = runtime.engine(Metering::Metered)?;
    let component = runtime.compile(&wat::parse_str(text)?, Metering::Metered).await?;
    let limits = Limits::default();
    let linker = wasmtime::component::Linker::new(engine.wasmtime());
    let mut stores = Vec::new();
    for _ in 0..20 {
        let mut store = engine.store(Guard::new(&limits), &limits);
        let instance = linker.instantiate_async(&mut store, &component).await?;
        let run = instance.get_typed_func::<(), (u32,)>(&mut store, "run")?;
        stores.push((store, run));
    }
    let mut worked = 0;
    for (store, run) in &mut stores {
        worked += usize::from(run.call_async(store, ()).await?.0 == 7);
    }
    Ok((engine.is_pooled(), worked))
}

/// Waits for a line, and then has this program compile.
#[tokio::main(flavor = "current_thread")]
async fn replaced() -> ExitCode {
    println!(".");
    let _line = std::io::stdin().read_line(&mut String::new());
    let runtime = Runtime::new(RuntimeOptions {
        allocation: Allocation::OnDemand,
        compiler: CompilerKind::this_program(vec!["compile".to_owned()]),
        ..RuntimeOptions::default()
    });
    let compiled = match (&runtime, wat::parse_str("(component)")) {
        (Ok(runtime), Ok(bytes)) => runtime.compile(&bytes, Metering::Metered).await.map(drop),
        (runtime, bytes) => {
            println!("{:?} {:?}", runtime.as_ref().err(), bytes.err());
            return ExitCode::FAILURE;
        }
    };
    println!("{compiled:?}");
    ExitCode::SUCCESS
}

/// Compiles in process, with the cache that others share.
#[tokio::main(flavor = "current_thread")]
async fn cache(directory: PathBuf, key_file: PathBuf, component: PathBuf) -> ExitCode {
    let runtime = Runtime::new(RuntimeOptions {
        cache: Some(CacheOptions {
            directory,
            key_file,
            bytes_max: 1 << 30,
        }),
        compiler: CompilerKind::InProcess,
        concurrent_calls_max: 4,
        ..RuntimeOptions::default()
    });
    let bytes = std::fs::read(component).unwrap_or_default();
    let result = match &runtime {
        Ok(runtime) => runtime
            .compile(&bytes, Metering::Metered)
            .await
            .map(drop)
            .map_err(|error| error.to_string()),
        Err(error) => Err(format!("{error:?}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Takes a variable, says what can be seen of it, and waits for a line.
fn take(name: &str) -> ExitCode {
    println!("before: {}", std::env::var("TAKEN_SECRET").unwrap_or_default());
    match aral_runtime::take_variables([name]) {
        Ok(taken) => {
            for (name, value) in &taken {
                println!("taken: {name}={}", String::from_utf8_lossy(value.expose()));
            }
            println!("getenv: {:?}", std::env::var_os(name));
            let shown = "echo child: ${TAKEN_SECRET-unset} $KEPT $TAKEN_SECRET_NOT";
            let child = std::process::Command::new("/bin/sh").args(["-c", shown]).output();
            print!(
                "{}",
                child.map_or_else(
                    |error| error.to_string(),
                    |output| String::from_utf8_lossy(&output.stdout).into_owned()
                )
            );
            println!(
                "again: {}",
                aral_runtime::take_variables([name]).map_or(99, |taken| taken.len())
            );
        }
        Err(error) => println!("error: {error}"),
    }
    println!(".");
    let _line = std::io::stdin().read_line(&mut String::new());
    ExitCode::SUCCESS
}
