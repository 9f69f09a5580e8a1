//! Three yeses: each permission and each scope works only while manifest, persona and policy all say so, and each line
//! that is taken out closes it.

use aral_contract::{Code, Permission};
use serde_json::{Value, json};

use crate::network::Net;
use crate::support::guests::*;
use crate::support::lab::Lab;
use crate::support::outcome::Outcome;
use crate::support::setup::Setup;

/// A call that needs one permission.
struct Case {
    permission: Permission,
    guest: Guest,
    setup: Setup,
    permissions: Value,
    input: Value,
    /// Whether the guest reached what the permission opens.
    worked: fn(&Outcome) -> bool,
}

/// The result of one attempt, or of the first answer.
fn found(outcome: &Outcome, what: &str) -> String {
    let attempts = outcome.answer().as_array().expect("attempts");
    let named = attempts.iter().find(|attempt| attempt["what"] == what);
    let attempt = if what.is_empty() { attempts.first() } else { named };
    attempt.expect("it was made")["result"]
        .as_str()
        .expect("a result")
        .to_owned()
}

fn cases(net: &Net, folder: &std::path::Path) -> Vec<Case> {
    let host = folder
        .canonicalize()
        .expect("a folder")
        .to_str()
        .expect("UTF-8")
        .to_owned();
    std::fs::write(folder.join("file.txt"), "text").expect("a file");
    let hosts = json!({ "hosts": [net.origin()] });
    let memory = json!({
        "memory:read": { "namespaces": ["mine"] },
        "memory:write": { "namespaces": ["mine"], "bytes_max": 1000, "records_max": 10 },
    });
    let secrets = json!({
        "secret:read": { "secrets": [{ "name": "mine", "use": "inject", "hosts": ["https://api.example.test"], "header": "x-key" }] },
        "secret:write": { "names": ["mine"] },
    });
    let case = |permission, guest, permissions, input, worked| Case {
        permission,
        guest,
        setup: Setup::of(guest)
            .files(folder)
            .networks(&["127.0.0.1/32"])
            .nameserver(net.dns()),
        permissions,
        input,
        worked,
    };
    let request = |method: &str| json!({ "requests": [{ "method": method, "url": net.url("/") }] });
    let ok: fn(&Outcome) -> bool = |outcome| found(outcome, "") == "ok";
    let namespace = json!({ "namespace": "mine" });
    let names = json!({ "names": ["mine"] });
    let program = json!({ "runs": [{ "program": "/bin/echo", "arguments": ["x"] }] });
    let writable = json!({ "guest": "/data", "host": host, "bytes_max": 1000, "files_max": 10 });
    vec![
        case(
            Permission::NetworkRead,
            NETWORK_HTTP,
            json!({ "network:read": hosts }),
            request("GET"),
            ok,
        ),
        case(
            Permission::NetworkWrite,
            NETWORK_HTTP,
            json!({ "network:write": hosts }),
            request("POST"),
            ok,
        ),
        case(
            Permission::FileRead,
            FILESYSTEM_READ,
            json!({ "file:read": { "paths": [{ "guest": "/data", "host": host }] } }),
            json!({ "paths": ["/data/file.txt"] }),
            ok,
        ),
        case(
            Permission::FileWrite,
            FILESYSTEM_WRITE_QUOTA,
            json!({ "file:write": { "paths": [writable] } }),
            json!({ "base": "/data", "files": 1, "bytes": 1 }),
            |outcome| outcome.answer()["written"] == 1,
        ),
        case(
            Permission::SecretRead,
            ISOLATION_SECRET,
            secrets.clone(),
            names.clone(),
            |outcome| found(outcome, "open mine") == "ok",
        ),
        case(Permission::SecretWrite, ISOLATION_SECRET, secrets, names, |outcome| {
            !found(outcome, "put mine").contains("Denied")
        }),
        case(
            Permission::MemoryRead,
            ISOLATION_MEMORY,
            memory.clone(),
            namespace.clone(),
            |outcome| !found(outcome, "get").contains("Denied"),
        ),
        case(
            Permission::MemoryWrite,
            ISOLATION_MEMORY,
            memory,
            namespace,
            |outcome| !found(outcome, "put").contains("Denied"),
        ),
        case(
            Permission::Exec,
            ISOLATION_EXEC,
            json!({ "exec": { "programs": [{ "path": "/bin/echo", "args": ["x"] }] } }),
            program,
            ok,
        ),
    ]
}

/// Without the permission in its manifest, a guest that imports it is not admitted, and one that does not gets nowhere.
async fn closed_by_the_manifest(case: &Case) -> bool {
    let mut permissions = case.permissions.clone();
    permissions
        .as_object_mut()
        .expect("permissions")
        .remove(case.permission.as_str())
        .expect("it was there");
    match Lab::try_start(case.setup.clone().permissions(permissions)).await {
        Err(failure) => failure.code == Code::ImportUncovered,
        Ok(lab) => !(case.worked)(&lab.call(case.guest, case.input.clone()).await),
    }
}

/// Denied, with a line to add that names the permission.
async fn assert_denied(case: &Case, setup: Setup, who: &str) {
    let lab = Lab::start(setup.permissions(case.permissions.clone())).await;
    let outcome = lab.call(case.guest, case.input.clone()).await;
    let failure = outcome.failure();
    let shown = format!("{failure} {}", failure.hint.as_deref().unwrap_or_default());
    assert_eq!(
        failure.code,
        Code::PermissionDenied,
        "{} without {who}: {shown}",
        case.permission
    );
    assert!(
        shown.contains(case.permission.as_str()),
        "{} without {who}: {shown}",
        case.permission
    );
    assert_eq!(outcome.logs(), <[&str; 0]>::default(), "the guest never ran");
    lab.neighbour_works().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_permission_takes_three_yeses() {
    let net = Net::start(&[]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let cases = cases(&net, folder.path());
    for permission in Permission::ALL {
        assert_eq!(
            cases.iter().filter(|case| case.permission == permission).count(),
            1,
            "cases for {permission}"
        );
    }
    for case in &cases {
        let lab = Lab::start(case.setup.clone().permissions(case.permissions.clone())).await;
        let outcome = lab.call(case.guest, case.input.clone()).await;
        assert!((case.worked)(&outcome), "{}: {}", case.permission, outcome.answer());
        assert!(
            closed_by_the_manifest(case).await,
            "{} without the manifest's word",
            case.permission
        );
        // One line less each, in which every other permission stays.
        let without = without(case.permission);
        assert_denied(case, case.setup.clone().persona(without.persona), "the persona's word").await;
        assert_denied(case, case.setup.clone().configure(without.policy), "the policy's word").await;
    }
}

/// What is done to a document.
type Change = fn(&mut Value);

/// How persona and policy lose one permission and keep the others.
struct Without {
    persona: Change,
    policy: Change,
}

fn others(permission: Permission) -> Value {
    json!(
        Permission::ALL
            .iter()
            .filter(|one| **one != permission)
            .map(|one| one.as_str())
            .collect::<Vec<_>>()
    )
}

macro_rules! without {
    ($permission:expr; $($variant:ident),*) => {
        match $permission {
            $(Permission::$variant => Without {
                persona: |body| body["constraints"]["allowed_permissions"] = others(Permission::$variant),
                policy: |config| config["policy"]["permissions"] = others(Permission::$variant),
            },)*
        }
    };
}

fn without(permission: Permission) -> Without {
    without!(permission; NetworkRead, NetworkWrite, FileRead, FileWrite, SecretRead, SecretWrite, MemoryRead, MemoryWrite, Exec)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_scope_ends_where_the_policy_or_the_persona_ends_it() {
    let net = Net::start(&[]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let cases = cases(&net, folder.path());
    let case = |permission: Permission| cases.iter().find(|case| case.permission == permission).expect("a case");
    let policies: [(Permission, Change); 9] = [
        (Permission::NetworkRead, |config| {
            config["policy"]["network"]["hosts"] = json!(["https://elsewhere.test"])
        }),
        (Permission::NetworkWrite, |config| {
            config["policy"]["network"]["hosts"] = json!([])
        }),
        (Permission::FileRead, |config| {
            config["policy"]["file"]["read_roots"] = json!(["/srv/elsewhere"])
        }),
        (Permission::FileWrite, |config| {
            config["policy"]["file"]["write_roots"] = json!([])
        }),
        (Permission::SecretRead, |config| {
            config["policy"]["secret"]["names"] = json!(["theirs"])
        }),
        (Permission::SecretWrite, |config| {
            config["policy"]["secret"]["names"] = json!([])
        }),
        (Permission::MemoryRead, |config| {
            config["policy"]["memory"]["namespaces"] = json!(["theirs"])
        }),
        (Permission::MemoryWrite, |config| {
            config["policy"]["memory"]["namespaces"] = json!([])
        }),
        (Permission::Exec, |config| {
            config["policy"]["exec"]["programs"] = json!([{ "path": "/bin/echo", "args": ["y"] }])
        }),
    ];
    for (permission, change) in policies {
        let case = case(permission);
        assert_denied(case, case.setup.clone().configure(change), "the policy's scope").await;
    }
    for permission in [Permission::NetworkRead, Permission::NetworkWrite] {
        let case = case(permission);
        let setup = case
            .setup
            .clone()
            .persona(|body| body["constraints"]["allowed_domains"] = json!(["https://elsewhere.test"]));
        assert_denied(case, setup, "the persona's domains").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_capability_runs_only_for_a_persona_and_a_policy_that_name_it() {
    let closed: [Setup; 4] = [
        Setup::of(RUNTIME_PANIC).configure(|config| config["policy"]["capabilities"] = json!(["runtime-echo-tool"])),
        Setup::of(RUNTIME_PANIC).configure(|config| {
            config["policy"]["capabilities"] = json!(["runtime-echo-tool", "runtime-panic@^2"]);
        }),
        Setup::of(RUNTIME_PANIC)
            .persona(|body| body["constraints"]["allowed_capabilities"] = json!(["runtime-echo-tool"])),
        Setup::of(RUNTIME_PANIC).persona(|body| {
            body["constraints"]["allowed_capabilities"] = json!(["runtime-echo-tool", "runtime-trap*"]);
        }),
    ];
    for setup in closed {
        let lab = Lab::start(setup).await;
        let failure = lab.call(RUNTIME_PANIC, json!("calm")).await.failure().clone();
        assert_eq!(failure.code, Code::PermissionDenied, "{failure}");
        lab.neighbour_works().await;
    }
    let open = Setup::of(RUNTIME_PANIC)
        .configure(|config| config["policy"]["capabilities"] = json!(["runtime-echo-tool", "runtime-panic@^1"]))
        .persona(|body| body["constraints"]["allowed_capabilities"] = json!(["runtime-*"]));
    let lab = Lab::start(open).await;
    assert_eq!(lab.call(RUNTIME_PANIC, json!("calm")).await.answer(), &json!("calm"));
}

/// One function of the ABI that needs a permission, and an attempt of a guest that is beyond what was granted.
struct Denial {
    function: &'static str,
    guest: Guest,
    input: Value,
    attempt: &'static str,
}

fn denials() -> Vec<Denial> {
    let denial = |function, guest, input: &Value, attempt| Denial {
        function,
        guest,
        input: input.clone(),
        attempt,
    };
    let namespace = json!({ "namespace": "theirs" });
    let names = json!({ "names": ["theirs", "injected", "shown"] });
    let program = json!({ "runs": [{ "program": "/bin/sh", "arguments": ["-c", "id"] }] });
    vec![
        denial("memory-read.get", ISOLATION_MEMORY, &namespace, "get"),
        denial("memory-read.list", ISOLATION_MEMORY, &namespace, "list"),
        denial("memory-write.put", ISOLATION_MEMORY, &namespace, "put"),
        denial("memory-write.delete", ISOLATION_MEMORY, &namespace, "delete"),
        denial("memory-write.batch", ISOLATION_MEMORY, &namespace, "batch"),
        denial("secret-read.open", ISOLATION_SECRET, &names, "open theirs"),
        denial(
            "secret-read.[method]secret.attach",
            ISOLATION_SECRET,
            &names,
            "attach shown",
        ),
        denial(
            "secret-read.[method]secret.reveal",
            ISOLATION_SECRET,
            &names,
            "reveal injected",
        ),
        denial("secret-write.put", ISOLATION_SECRET, &names, "put theirs"),
        denial("exec.run", ISOLATION_EXEC, &program, ""),
    ]
}

/// The functions of every interface of the ABI that needs a permission, as its WIT has them.
fn governed_functions() -> Vec<String> {
    let mut resolve = wit_parser::Resolve::default();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit/1.0.0");
    let (package, _) = resolve.push_dir(folder).expect("WIT");
    let interfaces = resolve.packages[package].interfaces.iter();
    let governed = interfaces.filter(|(name, _)| !["types", "log", "context", "tool"].contains(&name.as_str()));
    let functions = governed.flat_map(|(name, id)| {
        resolve.interfaces[*id]
            .functions
            .keys()
            .map(move |function| format!("{name}.{function}"))
    });
    functions.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_function_that_needs_a_permission_can_say_no() {
    let denials = denials();
    let covered: Vec<&str> = denials.iter().map(|denial| denial.function).collect();
    let uncovered: Vec<String> = governed_functions()
        .into_iter()
        .filter(|name| !covered.contains(&name.as_str()))
        .collect();
    assert_eq!(uncovered, <[String; 0]>::default(), "functions without a denial test");
    assert_eq!(covered.len(), governed_functions().len());
    for denial in denials {
        // Everything is granted, but not this.
        let permissions = json!({
            "memory:read": { "namespaces": ["mine"] },
            "memory:write": { "namespaces": ["mine"], "bytes_max": 1000, "records_max": 10 },
            "secret:read": { "secrets": [
                { "name": "injected", "use": "inject", "hosts": ["https://api.example.test"], "header": "x-key" },
                { "name": "shown", "use": "reveal" },
            ] },
            "secret:write": { "names": ["injected"] },
            "exec": { "programs": [{ "path": "/bin/echo", "args": ["x"] }] },
        });
        let lab = Lab::start(Setup::of(denial.guest).permissions(permissions)).await;
        let outcome = lab.call(denial.guest, denial.input).await;
        let result = found(&outcome, denial.attempt);
        assert!(result.starts_with("Error::Denied("), "{}: {result}", denial.function);
        lab.neighbour_works().await;
    }
}
