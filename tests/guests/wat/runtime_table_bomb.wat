;; Grows a table by as many elements as the input says, and traps if it is not given them.
(table $table 1 funcref)

(func (export "aral:capability/tool@1.0.0#invoke") (param i32 i32) (result i32)
  (call $marker)
  (if (i32.eq (table.grow $table (ref.null func) (call $number (local.get 0) (local.get 1))) (i32.const -1))
    (then (unreachable)))
  (call $answer (table.size $table)))
