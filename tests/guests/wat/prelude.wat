;; What every guest in text shares; tests/build.rs puts it in front of the fields of each of them, wraps both in a
;; module, and makes a tool of that. It speaks the canonical ABI by hand: strings are a pointer and a length.
(import "aral:capability/log@1.0.0" "log" (func $log (param i32 i32 i32)))
(memory (export "memory") 2)
(global $next (mut i32) (i32.const 65536))

;; The descriptor: four strings, at 256. `true` is a schema.
(data (i32.const 256) "\20\01\00\00\07\00\00\00\20\01\00\00\07\00\00\00\30\01\00\00\04\00\00\00\30\01\00\00\04\00\00\00")
(data (i32.const 288) "a guest")
(data (i32.const 304) "true")
;; At 512: the line that says that the attack comes next.
(data (i32.const 512) "marker: attacking")

;; Memory for what the host passes in; nothing is ever freed, since nothing is ever called twice.
(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
  (local $at i32)
  (local.set $at (global.get $next))
  (global.set $next (i32.and (i32.add (i32.add (global.get $next) (local.get 3)) (i32.const 15)) (i32.const -16)))
  (local.get $at))

(func (export "aral:capability/tool@1.0.0#describe") (result i32)
  (i32.const 256))

(func $marker
  (call $log (i32.const 2) (i32.const 512) (i32.const 17)))

;; The first number in the input, or 0.
(func $number (param $at i32) (param $length i32) (result i32)
  (local $end i32) (local $digit i32) (local $value i32)
  (local.set $end (i32.add (local.get $at) (local.get $length)))
  (block $done
    (loop $each
      (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
      (local.set $digit (i32.sub (i32.load8_u (local.get $at)) (i32.const 48)))
      (if (i32.lt_u (local.get $digit) (i32.const 10))
        (then (local.set $value (i32.add (i32.mul (local.get $value) (i32.const 10)) (local.get $digit)))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br $each)))
  (local.get $value))

;; A result at 640 that holds the number as JSON, its digits written backwards from 704.
(func $answer (param $value i32) (result i32)
  (local $at i32)
  (local.set $at (i32.const 704))
  (loop $each
    (local.set $at (i32.sub (local.get $at) (i32.const 1)))
    (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.rem_u (local.get $value) (i32.const 10))))
    (local.set $value (i32.div_u (local.get $value) (i32.const 10)))
    (br_if $each (local.get $value)))
  (i32.store (i32.const 640) (i32.const 0))
  (i32.store (i32.const 644) (local.get $at))
  (i32.store (i32.const 648) (i32.sub (i32.const 704) (local.get $at)))
  (i32.const 640))
