;; A tool without any permission, written by hand so that nothing but this file is needed: it answers with its input.
;; With the SDK the same is ten lines of Rust; see `guest-sdk`.
(component
  (core module $module
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 1024))
    (data (i32.const 64) "EchoAnswers with its input.{}")

    ;; Gives out memory and never takes it back: an instance serves one call.
    (func (export "realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $at) (local.get $size)))
      (block $enough
        (loop $more
          (br_if $enough (i32.ge_u (i32.mul (memory.size) (i32.const 65536)) (global.get $next)))
          (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
          (br $more)))
      (local.get $at))

    ;; Four texts: title, description, input schema, output schema.
    (func (export "describe") (result i32)
      (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 4))
      (i32.store (i32.const 8) (i32.const 68)) (i32.store (i32.const 12) (i32.const 23))
      (i32.store (i32.const 16) (i32.const 91)) (i32.store (i32.const 20) (i32.const 2))
      (i32.store (i32.const 24) (i32.const 91)) (i32.store (i32.const 28) (i32.const 2))
      (i32.const 0))

    (func (export "invoke") (param $input i32) (param $length i32) (result i32)
      ;; BODY
      (i32.store8 (i32.const 32) (i32.const 0))
      (i32.store (i32.const 36) (local.get $input))
      (i32.store (i32.const 40) (local.get $length))
      (i32.const 32)))

  (core instance $instance (instantiate $module))

  (type $error (variant
    (case "invalid-input" string) (case "denied" string) (case "unavailable" string) (case "limit" string)
    (case "internal" string)))
  (type $descriptor (record
    (field "title" string) (field "description" string) (field "input-schema" string) (field "output-schema" string)))
  (func $describe (result $descriptor)
    (canon lift (core func $instance "describe") (memory $instance "memory") (realloc (func $instance "realloc"))))
  (func $invoke (param "input" string) (result (result string (error $error)))
    (canon lift (core func $instance "invoke") (memory $instance "memory") (realloc (func $instance "realloc"))))

  ;; Gives the types the names that they have in the interface.
  (component $named
    (type $error_shape (variant
      (case "invalid-input" string) (case "denied" string) (case "unavailable" string) (case "limit" string)
      (case "internal" string)))
    (import "error-in" (type $error_in (eq $error_shape)))
    (type $descriptor_shape (record
      (field "title" string) (field "description" string) (field "input-schema" string) (field "output-schema" string)))
    (import "descriptor-in" (type $descriptor_in (eq $descriptor_shape)))
    (import "describe-in" (func $describe_in (result $descriptor_in)))
    (import "invoke-in" (func $invoke_in (param "input" string) (result (result string (error $error_in)))))
    (export $error_out "error" (type $error_in))
    (export $descriptor_out "descriptor" (type $descriptor_in))
    (export "describe" (func $describe_in) (func (result $descriptor_out)))
    (export "invoke" (func $invoke_in) (func (param "input" string) (result (result string (error $error_out))))))

  (instance $tool (instantiate $named
    (with "error-in" (type $error)) (with "descriptor-in" (type $descriptor))
    (with "describe-in" (func $describe)) (with "invoke-in" (func $invoke))))
  (export "aral:capability/tool@1.0.0" (instance $tool)))
