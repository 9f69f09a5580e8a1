//! Guests written as text: a core module each, made into a component by the same tools that compilers use.

use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

const WORLDS: &str = "
    package test:guests;
    world tool {
        include aral:capability/capability@1.0.0;
        import wasi:cli/exit@0.2.12;
        import wasi:cli/environment@0.2.12;
        import wasi:cli/stderr@0.2.12;
        import wasi:filesystem/preopens@0.2.12;
        import wasi:filesystem/types@0.2.12;
        import wasi:random/random@0.2.12;
        import wasi:sockets/tcp-create-socket@0.2.12;
    }
    world program {
        import wasi:cli/exit@0.2.12;
        import wasi:cli/stdin@0.2.12;
        import wasi:cli/stdout@0.2.12;
        import wasi:cli/stderr@0.2.12;
        import wasi:io/streams@0.2.12;
        export wasi:cli/run@0.2.12;
    }
";

fn component(world: &str, module: &str) -> Vec<u8> {
    let mut module = wat::parse_str(module).unwrap();
    let mut resolve = Resolve::default();
    resolve
        .push_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../wit/1.0.0"))
        .unwrap();
    let package = resolve.push_str("guests.wit", WORLDS).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default()
        .module(&module)
        .unwrap()
        .validate(true)
        .encode()
        .unwrap()
}

/// A tool. `body` is that of `invoke`: locals `$in` and `$len` hold the input, and it leaves the address of its result on
/// the stack. `imports` and `data` go into the module as they stand. Data may lie from 1024 to 32767.
pub(super) fn tool(imports: &str, data: &str, body: &str) -> Vec<u8> {
    component(
        "tool",
        &format!(
            r#"(module {imports}
            (memory (export "memory") 2)
            (global $calls (mut i32) (i32.const 0))
            (global $top (mut i32) (i32.const 32768))
            (table $table 1 10000000 funcref)
            {data}
            (data (i32.const 900) "Title")
            (data (i32.const 910) "true")
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (local $at i32)
                (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
                (global.set $top (i32.add (local.get $at) (local.get 3)))
                (block $fits
                    (br_if $fits (i32.le_u (global.get $top) (i32.mul (memory.size) (i32.const 65536))))
                    (drop (memory.grow (i32.add (i32.const 1) (i32.div_u (local.get 3) (i32.const 65536))))))
                (local.get $at))
            (func $ok (param i32 i32) (result i32)
                (i32.store8 (i32.const 800) (i32.const 0))
                (i32.store (i32.const 804) (local.get 0))
                (i32.store (i32.const 808) (local.get 1))
                (i32.const 800))
            (func $error (param $case i32) (param i32 i32) (result i32)
                (i32.store8 (i32.const 800) (i32.const 1))
                (i32.store8 (i32.const 804) (local.get $case))
                (i32.store (i32.const 808) (local.get 1))
                (i32.store (i32.const 812) (local.get 2))
                (i32.const 800))
            (func (export "aral:capability/tool@1.0.0#describe") (result i32)
                (i32.store (i32.const 700) (i32.const 900)) (i32.store (i32.const 704) (i32.const 5))
                (i32.store (i32.const 708) (i32.const 900)) (i32.store (i32.const 712) (i32.const 5))
                (i32.store (i32.const 716) (i32.const 910)) (i32.store (i32.const 720) (i32.const 4))
                (i32.store (i32.const 724) (i32.const 910)) (i32.store (i32.const 728) (i32.const 4))
                (i32.const 700))
            (func $recurse (param i32) (result i32) (i32.add (call $recurse (local.get 0)) (i32.const 1)))
            (func (export "aral:capability/tool@1.0.0#invoke") (param $in i32) (param $len i32) (result i32)
                {body}))"#
        ),
    )
}

/// A program. `body` is that of `run`, and leaves 0 (done) or 1 (failed) on the stack. `$write` writes the data at 1024
/// to standard output.
pub(super) fn program(text: &str, body: &str) -> Vec<u8> {
    component(
        "program",
        &format!(
            r#"(module
            (import "wasi:cli/exit@0.2.12" "exit" (func $exit (param i32)))
            (import "wasi:cli/stdin@0.2.12" "get-stdin" (func $stdin (result i32)))
            (import "wasi:cli/stdout@0.2.12" "get-stdout" (func $stdout (result i32)))
            (import "wasi:cli/stderr@0.2.12" "get-stderr" (func $stderr (result i32)))
            (import "wasi:io/streams@0.2.12" "[method]output-stream.blocking-write-and-flush"
                (func $write_to (param i32 i32 i32 i32)))
            (import "wasi:io/streams@0.2.12" "[method]input-stream.blocking-read"
                (func $read_from (param i32 i64 i32)))
            (memory (export "memory") 2)
            (data (i32.const 1024) "{text}")
            (global $top (mut i32) (i32.const 32768))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (global.set $top (i32.add (global.get $top) (local.get 3)))
                (i32.sub (global.get $top) (local.get 3)))
            (func $write (param $length i32)
                (call $write_to (call $stdout) (i32.const 1024) (local.get $length) (i32.const 600)))
            (func $echo
                (call $read_from (call $stdin) (i64.const 1000) (i32.const 600))
                (call $write_to (call $stdout) (i32.load (i32.const 604)) (i32.load (i32.const 608)) (i32.const 620)))
            (func $complain (param $length i32)
                (call $write_to (call $stderr) (i32.const 1024) (local.get $length) (i32.const 600)))
            (func (export "wasi:cli/run@0.2.12#run") (result i32) {body}))"#,
            text = text.replace('\\', "\\\\").replace('"', "\\22").replace('\n', "\\0a")
        ),
    )
}
