//! Does what it is told, step by step, with whatever handles and names come to hand: a program without any plan, for a test or a
//! fuzzer to have one. Its input is the steps as hex digits; each byte decides something, and the end of them is the end. Beside them
//! it is told where things lie that it was not granted: `root`, a folder, and the `ports` of this machine of a host that it may ask
//! and of one that it may not.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use aral_test_guests::imports::aral::capability::{
    context, exec, log, memory_read, memory_write, secret_read, secret_write,
};
use aral_test_guests::imports::wasi::http::types::{Fields, Method, OutgoingRequest};
use aral_test_guests::run;
use serde_json::{Value, json};

mod wasi_files {
    wit_bindgen::generate!({
        path: "../../wit/1.0.0",
        inline: r#"
            package aral:test-script;
            world files {
                import wasi:filesystem/types@0.2.12;
                import wasi:filesystem/preopens@0.2.12;
                import wasi:clocks/monotonic-clock@0.2.12;
                import wasi:random/random@0.2.12;
            }
        "#,
        world: "aral:test-script/files",
        generate_all,
    });
}

use wasi_files::wasi::clocks::monotonic_clock;
use wasi_files::wasi::filesystem::preopens;
use wasi_files::wasi::filesystem::types::{Advice, Descriptor, DescriptorFlags, NewTimestamp, OpenFlags, PathFlags};
use wasi_files::wasi::random::random;

/// Handles that are kept at once.
const HANDLES_MAX: usize = 16;
/// What stands in everything that was not granted, or is its name; and in a file of every system.
const CANARIES: [&[u8]; 2] = [b"CANARY", b"root:x:0:"];
/// Longest method, authority and path that a request which is never sent may have, in bytes.
const METHOD_BYTES_MAX: usize = 128;
const AUTHORITY_BYTES_MAX: usize = 269;
const PATH_BYTES_MAX: usize = 32768;

/// Whether something was read that was not granted, or something kept that is too long.
static LEAKED: AtomicBool = AtomicBool::new(false);

/// What was read, looked at.
fn seen<E>(read: Result<Vec<u8>, E>) -> bool {
    let has = |bytes: &Vec<u8>, canary: &[u8]| bytes.windows(canary.len()).any(|window| window == canary);
    let is_canary = |bytes: &Vec<u8>| CANARIES.iter().any(|canary| has(bytes, canary));
    LEAKED.fetch_or(read.as_ref().is_ok_and(is_canary), Relaxed);
    read.is_ok()
}

/// A text that the host took, or not: no longer than it may be.
fn taken(result: Result<(), ()>, length: usize, max: usize) -> bool {
    LEAKED.fetch_or(result.is_ok() && length > max, Relaxed);
    result.is_ok()
}

/// What the guest is told of the world around it.
struct Told {
    root: String,
    ports: [u64; 2],
}

/// What the host has given.
struct Held {
    files: Vec<Descriptor>,
    requests: Vec<OutgoingRequest>,
}

/// The bytes that are left of the script.
struct Script(std::vec::IntoIter<u8>);

impl Script {
    fn byte(&mut self) -> u8 {
        self.0.next().unwrap_or(0)
    }

    /// Mostly small, now and then as large as a number gets.
    fn number(&mut self) -> u64 {
        match self.byte() {
            255 => u64::MAX,
            254 => u64::from(self.byte()) << 56,
            253 => i64::MAX as u64,
            252 => 1 << 32,
            251 => u64::from(self.byte()) << 20,
            small => u64::from(small),
        }
    }

    fn bytes(&mut self) -> Vec<u8> {
        match self.byte() {
            255 => vec![7; 2 << 20],
            254 => vec![7; 70_000],
            few => vec![few; usize::from(few)],
        }
    }

    /// A step of a path, or what somebody hopes is taken for one.
    fn name(&mut self) -> String {
        let names = [
            "a",
            "b",
            "folder",
            "link",
            "file.txt",
            "..",
            ".",
            "",
            "/",
            "//",
            "out",
            "dangling",
            "é",
            "\u{0}",
            "a\u{0}b",
            "A",
            "secret.txt",
            "inner",
            "%2e%2e",
            "..\\",
            "\u{202e}",
            "con",
            " ",
            "...",
            "outside",
            "abs",
            "loop",
        ];
        match self.byte() {
            255 => "n".repeat(300),
            254 => "d/".repeat(3000),
            which => names[usize::from(which) % names.len()].to_owned(),
        }
    }

    /// The same as a text of one letter.
    fn text(&mut self) -> String {
        "n".repeat(self.bytes().len())
    }

    fn path(&mut self) -> String {
        let steps = self.byte() % 4;
        (0..=steps).map(|_| self.name()).collect::<Vec<_>>().join("/")
    }

    /// Where a link leads that the guest makes.
    fn target(&mut self) -> String {
        match self.byte() % 5 {
            0 => "../outside/secret.txt".to_owned(),
            1 => "/etc/passwd".to_owned(),
            2 => "..".to_owned(),
            3 => "loop".to_owned(),
            _ => self.path(),
        }
    }

    fn follows(&mut self) -> PathFlags {
        PathFlags::from_bits_retain(self.byte() & 1)
    }

    fn time(&mut self) -> NewTimestamp {
        match self.byte() % 3 {
            0 => NewTimestamp::NoChange,
            1 => NewTimestamp::Now,
            _ => NewTimestamp::Timestamp(wasi_files::wasi::clocks::wall_clock::Datetime {
                seconds: self.number(),
                nanoseconds: self.number() as u32,
            }),
        }
    }
}

fn main() {
    run(|input| {
        let digits = input["script"].as_str().expect("a script").as_bytes();
        let digit = |digit: u8| (digit as char).to_digit(16).expect("hex digits") as u8;
        let bytes: Vec<u8> = digits
            .chunks_exact(2)
            .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
            .collect();
        let port = |port: &Value| port.as_u64().expect("a port");
        let told = Told {
            root: input["root"].as_str().expect("a folder").to_owned(),
            ports: [port(&input["ports"][0]), port(&input["ports"][1])],
        };
        let mut script = Script(bytes.into_iter());
        let mut held = Held {
            files: preopens::get_directories()
                .into_iter()
                .map(|(handle, _)| handle)
                .collect(),
            requests: Vec::new(),
        };
        let (mut steps, mut done) = (0_u64, 0_u64);
        while script.0.len() > 0 {
            steps += 1;
            done += u64::from(step(&mut script, &mut held, &told));
        }
        json!({ "steps": steps, "done": done, "leaked": LEAKED.load(Relaxed) })
    });
}

/// One step. Whether the host did it.
fn step(script: &mut Script, held: &mut Held, told: &Told) -> bool {
    let what = script.byte();
    if what >= 192 {
        return other(script, what - 192, &mut held.requests, told);
    }
    let handles = &mut held.files;
    if handles.is_empty() {
        return false;
    }
    let which = usize::from(script.byte()) % handles.len();
    let handle = &handles[which];
    match what % 26 {
        0..=2 => {
            let follows = script.follows();
            let path = script.path();
            let open = OpenFlags::from_bits_retain(script.byte() & 15);
            let flags = DescriptorFlags::from_bits_retain(script.byte() & 63);
            let opened = handle.open_at(follows, &path, open, flags);
            if handles.len() >= HANDLES_MAX {
                handles.truncate(HANDLES_MAX / 2);
            }
            opened.map(|opened| handles.push(opened)).is_ok()
        }
        3 => seen(handle.read(script.number(), script.number()).map(|(bytes, _)| bytes)),
        4 => handle.write(&script.bytes(), script.number()).is_ok(),
        5 => {
            let stream = match script.byte() % 2 {
                0 => handle.write_via_stream(script.number()),
                _ => handle.append_via_stream(),
            };
            let Ok(stream) = stream else { return false };
            for _ in 0..script.byte() % 4 {
                let bytes = script.bytes();
                let room = stream.check_write().unwrap_or(0).min(bytes.len() as u64);
                let _written = stream.write(&bytes[..room as usize]);
                if script.byte().is_multiple_of(2) {
                    let _flushed = stream.blocking_flush();
                }
            }
            true
        }
        6 => {
            let Ok(stream) = handle.read_via_stream(script.number()) else {
                return false;
            };
            seen(stream.read(script.number()));
            let _skipped = stream.blocking_skip(script.number() % 64);
            seen(stream.blocking_read(script.number()))
        }
        7 => handle.stat().is_ok(),
        8 => handle.stat_at(script.follows(), &script.path()).is_ok(),
        9 => {
            let Ok(entries) = handle.read_directory() else {
                return false;
            };
            for _ in 0..script.byte() {
                let Ok(Some(entry)) = entries.read_directory_entry() else {
                    break;
                };
                seen::<()>(Ok(entry.name.into_bytes()));
            }
            true
        }
        10 => handle.create_directory_at(&script.path()).is_ok(),
        11 => {
            let other = &handles[usize::from(script.byte()) % handles.len()];
            handle
                .link_at(script.follows(), &script.path(), other, &script.path())
                .is_ok()
        }
        12 => {
            let other = &handles[usize::from(script.byte()) % handles.len()];
            handle.rename_at(&script.path(), other, &script.path()).is_ok()
        }
        13 => handle.symlink_at(&script.target(), &script.path()).is_ok(),
        14 => handle.unlink_file_at(&script.path()).is_ok(),
        15 => handle.remove_directory_at(&script.path()).is_ok(),
        16 => seen(handle.readlink_at(&script.path()).map(String::into_bytes)),
        17 => handle.set_size(script.number()).is_ok(),
        18 => handle.set_times(script.time(), script.time()).is_ok(),
        19 => {
            let (follows, path) = (script.follows(), script.path());
            handle
                .set_times_at(follows, &path, script.time(), script.time())
                .is_ok()
        }
        20 => handle.metadata_hash().is_ok(),
        21 => handle.metadata_hash_at(script.follows(), &script.path()).is_ok(),
        22 => handle.sync().is_ok() && handle.sync_data().is_ok(),
        23 => handle.is_same_object(&handles[usize::from(script.byte()) % handles.len()]),
        24 => {
            let advised = handle.advise(script.number(), script.number(), Advice::WillNeed);
            advised.is_ok() && handle.get_flags().is_ok() && handle.get_type().is_ok()
        }
        _ => {
            drop(handles.swap_remove(which));
            true
        }
    }
}

/// A step that is about no file.
fn other(script: &mut Script, what: u8, requests: &mut Vec<OutgoingRequest>, told: &Told) -> bool {
    let namespace = ["notes", "other", "", "shared"][usize::from(script.byte()) % 4];
    let options = |script: &mut Script| memory_write::PutOptions {
        ttl_seconds: script.byte().is_multiple_of(2).then(|| script.number()),
        classification: [
            memory_write::Classification::Public,
            memory_write::Classification::Internal,
            memory_write::Classification::Confidential,
            memory_write::Classification::Secret,
        ][usize::from(script.byte()) % 4],
        precondition: match script.byte() % 3 {
            0 => memory_write::Precondition::Any,
            1 => memory_write::Precondition::Absent,
            _ => memory_write::Precondition::Version(script.number()),
        },
    };
    let write = |script: &mut Script| memory_write::Write {
        name: script.name(),
        value: script.bytes(),
        options: options(script),
    };
    match what % 14 {
        0 => {
            let found = memory_read::get(namespace, &script.name());
            seen(found.map(|entry| entry.map(|entry| entry.value).unwrap_or_default()))
        }
        1 => {
            let (prefix, cursor) = (script.name(), script.byte().is_multiple_of(2).then(|| script.name()));
            let page = memory_read::list(namespace, &prefix, cursor.as_deref(), script.number() as u32);
            page.is_ok_and(|page| {
                let next = page
                    .cursor
                    .map(|cursor| memory_read::list(namespace, &prefix, Some(&cursor), 1));
                next.is_none_or(|next| next.is_ok())
            })
        }
        2 => memory_write::put(namespace, &write(script)).is_ok(),
        3 => memory_write::delete(namespace, &script.name(), memory_write::Precondition::Any).is_ok(),
        4 => {
            let count = script.byte() % 5;
            let operation = |_| match script.byte() % 2 {
                0 => memory_write::Operation::Put(write(script)),
                _ => memory_write::Operation::Delete(script.name()),
            };
            let operations: Vec<_> = (0..count).map(operation).collect();
            memory_write::batch(namespace, &operations).is_ok()
        }
        5 => secret_read::open(&script.name()).is_ok_and(|secret| seen(secret.reveal())),
        6 => secret_write::put(&script.name(), &script.bytes()).is_ok(),
        7 => {
            let message = script.path().repeat(usize::from(script.byte()));
            log::log(log::Level::Warn, &message);
            true
        }
        8 => !random::get_random_bytes(script.number() % (1 << 16)).is_empty(),
        9 => {
            monotonic_clock::subscribe_duration(script.number() % 1_000_000).block();
            true
        }
        10 => {
            let programs = ["/usr/bin/true".to_owned(), "/usr/bin/touch".to_owned(), script.path()];
            let program = &programs[usize::from(script.byte()) % programs.len()];
            let arguments = match script.byte() % 3 {
                0 => Vec::new(),
                1 => vec![format!("{}/outside/made", told.root)],
                _ => vec![script.name()],
            };
            exec::run(program, &arguments, &script.bytes()).is_ok()
        }
        11 => !context::current().trace_id.is_empty() && context::remaining_ms() > 0,
        12 => {
            let [open, closed] = told.ports;
            let hosts = [
                format!("127.0.0.1:{open}"),
                format!("127.0.0.1:{closed}"),
                format!("[::ffff:127.0.0.1]:{closed}"),
                "127.0.0.1:1".to_owned(),
                "localhost".to_owned(),
                "169.254.169.254".to_owned(),
                String::new(),
                "a b".to_owned(),
            ];
            let methods = ["GET".to_owned(), "HEAD".to_owned(), "POST".to_owned(), script.name()];
            let method = &methods[usize::from(script.byte()) % methods.len()];
            let host = &hosts[usize::from(script.byte()) % hosts.len()];
            let url = format!("http://{host}/{}", script.path());
            let headers = match script.byte() % 2 {
                0 => json!([]),
                _ => json!([[script.name(), script.name()]]),
            };
            let body = match script.byte() % 2 {
                0 => String::new(),
                _ => script.name(),
            };
            let request = json!({ "method": method, "url": url, "headers": headers, "body": body, "timeout_ms": 200 });
            aral_test_guests::http::send(&request).is_ok()
        }
        _ => unsent(script, requests),
    }
}

/// A step that is about a request which is not sent.
fn unsent(script: &mut Script, requests: &mut Vec<OutgoingRequest>) -> bool {
    let what = script.byte() % 6;
    if what == 0 || requests.is_empty() {
        if requests.len() >= HANDLES_MAX {
            requests.truncate(HANDLES_MAX / 2);
        }
        requests.push(OutgoingRequest::new(Fields::new()));
        return true;
    }
    let which = usize::from(script.byte()) % requests.len();
    let request = &requests[which];
    match what {
        1 => {
            let text = script.text();
            let length = text.len();
            taken(request.set_method(&Method::Other(text)), length, METHOD_BYTES_MAX)
        }
        2 => {
            let text = script.text();
            taken(
                request.set_authority(Some(text.as_str())),
                text.len(),
                AUTHORITY_BYTES_MAX,
            )
        }
        3 => {
            let text = format!("/{}", script.text());
            taken(
                request.set_path_with_query(Some(text.as_str())),
                text.len(),
                PATH_BYTES_MAX,
            )
        }
        4 => {
            let Ok(body) = request.body() else { return false };
            let Ok(stream) = body.write() else { return false };
            let bytes = script.bytes();
            let room = stream.check_write().unwrap_or(0).min(bytes.len() as u64);
            stream.write(&bytes[..room as usize]).is_ok()
        }
        _ => {
            drop(requests.swap_remove(which));
            true
        }
    }
}
