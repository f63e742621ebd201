;; A matrix times a vector, the one loop in which a model spends its time.
;;
;; A row is a run of numbers in memory, and the next row begins `stride` bytes later. Each kernel
;; takes four rows at once: a part of x is read once and meets four rows, and four sums grow side
;; by side, so that no addition waits for the one before it. `rows` is a multiple of 4, `columns`
;; of 16, see shared/model/packing.py; pointers and stride count bytes. matvec.js holds the same in
;; JavaScript, and a test holds the two equal.
;;
;; A v128 is 128 bits in one register: 4 float32 or 8 int16 that are added, or multiplied, in
;; one instruction.
(module
  (memory (import "engine" "memory") 1)

  ;; Four sums of four lanes each: a b c d -> [a0+a1+a2+a3, b.., c.., d..].
  ;; Numbers behind a shuffle name bytes: 0-15 of the first, 16-31 of the second.
  (func $evens_f32 (param $a v128) (param $b v128) (result v128) ;; [a0+a2, b0+b2, a1+a3, b1+b3]
    (f32x4.add
      (i8x16.shuffle 0 1 2 3 16 17 18 19 4 5 6 7 20 21 22 23 (local.get $a) (local.get $b))
      (i8x16.shuffle 8 9 10 11 24 25 26 27 12 13 14 15 28 29 30 31 (local.get $a) (local.get $b))))

  (func $sums_f32 (param $a v128) (param $b v128) (param $c v128) (param $d v128) (result v128)
    (local.set $a (call $evens_f32 (local.get $a) (local.get $b)))
    (local.set $c (call $evens_f32 (local.get $c) (local.get $d)))
    (f32x4.add
      (i8x16.shuffle 0 1 2 3 4 5 6 7 16 17 18 19 20 21 22 23 (local.get $a) (local.get $c))
      (i8x16.shuffle 8 9 10 11 12 13 14 15 24 25 26 27 28 29 30 31 (local.get $a) (local.get $c))))

  ;; The same on whole numbers.
  (func $evens_i32 (param $a v128) (param $b v128) (result v128)
    (i32x4.add
      (i8x16.shuffle 0 1 2 3 16 17 18 19 4 5 6 7 20 21 22 23 (local.get $a) (local.get $b))
      (i8x16.shuffle 8 9 10 11 24 25 26 27 12 13 14 15 28 29 30 31 (local.get $a) (local.get $b))))

  (func $sums_i32 (param $a v128) (param $b v128) (param $c v128) (param $d v128) (result v128)
    (local.set $a (call $evens_i32 (local.get $a) (local.get $b)))
    (local.set $c (call $evens_i32 (local.get $c) (local.get $d)))
    (i32x4.add
      (i8x16.shuffle 0 1 2 3 4 5 6 7 16 17 18 19 20 21 22 23 (local.get $a) (local.get $c))
      (i8x16.shuffle 8 9 10 11 12 13 14 15 24 25 26 27 28 29 30 31 (local.get $a) (local.get $c))))

  ;; Four numbers that stand `apart` bytes from each other, to and from memory.
  (func $store (param $to i32) (param $apart i32) (param $four v128)
    (v128.store32_lane 0 (local.get $to) (local.get $four))
    (v128.store32_lane 1 (local.tee $to (i32.add (local.get $to) (local.get $apart))) (local.get $four))
    (v128.store32_lane 2 (local.tee $to (i32.add (local.get $to) (local.get $apart))) (local.get $four))
    (v128.store32_lane 3 (i32.add (local.get $to) (local.get $apart)) (local.get $four)))

  (func $load (param $from i32) (param $apart i32) (result v128) (local $four v128)
    (local.set $four (v128.load32_zero (local.get $from)))
    (local.set $from (i32.add (local.get $from) (local.get $apart)))
    (local.set $four (v128.load32_lane 1 (local.get $from) (local.get $four)))
    (local.set $from (i32.add (local.get $from) (local.get $apart)))
    (local.set $four (v128.load32_lane 2 (local.get $from) (local.get $four)))
    (v128.load32_lane 3 (i32.add (local.get $from) (local.get $apart)) (local.get $four)))

  ;; out (rows) = matrix (rows, columns) times x (columns), all float32: 4 lanes, 8 numbers a turn.
  (func (export "float32") (param $out i32) (param $matrix i32) (param $x i32)
                           (param $rows i32) (param $columns i32) (param $stride i32)
    (local $a v128) (local $b v128) (local $c v128) (local $d v128) (local $part v128)
    (local $to_b i32) (local $to_c i32) (local $to_d i32) (local $at i32) (local $end i32)
    (local $quarter i32) (local $outs i32) ;; bytes from a quarter's first row, and sum, to the next's
    (local.set $outs (local.get $rows))
    (local.set $rows (i32.shr_u (local.get $rows) (i32.const 2)))
    (local.set $quarter (i32.mul (local.get $rows) (local.get $stride)))
    (local.set $end (i32.add (local.get $x) (i32.shl (local.get $columns) (i32.const 2))))
    (loop $four_rows
      (local.set $a (v128.const i32x4 0 0 0 0))
      (local.set $b (local.get $a))
      (local.set $c (local.get $a))
      (local.set $d (local.get $a))
      (local.set $to_b (i32.add (local.get $matrix) (local.get $quarter)))
      (local.set $to_c (i32.add (local.get $to_b) (local.get $quarter)))
      (local.set $to_d (i32.add (local.get $to_c) (local.get $quarter)))
      (local.set $at (local.get $x))
      (loop $eight_columns
        (local.set $part (v128.load (local.get $at)))
        (local.set $a (f32x4.add (local.get $a) (f32x4.mul (local.get $part) (v128.load (local.get $matrix)))))
        (local.set $b (f32x4.add (local.get $b) (f32x4.mul (local.get $part) (v128.load (local.get $to_b)))))
        (local.set $c (f32x4.add (local.get $c) (f32x4.mul (local.get $part) (v128.load (local.get $to_c)))))
        (local.set $d (f32x4.add (local.get $d) (f32x4.mul (local.get $part) (v128.load (local.get $to_d)))))
        (local.set $part (v128.load offset=16 (local.get $at)))
        (local.set $a (f32x4.add (local.get $a) (f32x4.mul (local.get $part) (v128.load offset=16 (local.get $matrix)))))
        (local.set $b (f32x4.add (local.get $b) (f32x4.mul (local.get $part) (v128.load offset=16 (local.get $to_b)))))
        (local.set $c (f32x4.add (local.get $c) (f32x4.mul (local.get $part) (v128.load offset=16 (local.get $to_c)))))
        (local.set $d (f32x4.add (local.get $d) (f32x4.mul (local.get $part) (v128.load offset=16 (local.get $to_d)))))
        (local.set $matrix (i32.add (local.get $matrix) (i32.const 32)))
        (local.set $to_b (i32.add (local.get $to_b) (i32.const 32)))
        (local.set $to_c (i32.add (local.get $to_c) (i32.const 32)))
        (local.set $to_d (i32.add (local.get $to_d) (i32.const 32)))
        (br_if $eight_columns
          (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 32))) (local.get $end))))
      (call $store (local.get $out) (local.get $outs)
        (call $sums_f32 (local.get $a) (local.get $b) (local.get $c) (local.get $d)))
      (local.set $out (i32.add (local.get $out) (i32.const 4)))
      ;; From the end of a row's numbers to the beginning of the next row.
      (local.set $matrix (i32.sub
        (i32.add (local.get $matrix) (local.get $stride)) (i32.shl (local.get $columns) (i32.const 2))))
      (br_if $four_rows (local.tee $rows (i32.sub (local.get $rows) (i32.const 1))))))

  ;; The same for rows of int8: x comes as int16, whole numbers times $x_scale. A load widens 8 int8
  ;; to int16, and `dot` multiplies 8 pairs and adds neighbours: 4 sums of int32. They are exact, and
  ;; only the end is rounded: sum times the row's scale times x's.
  (func (export "int8") (param $out i32) (param $matrix i32) (param $x i32)
                        (param $rows i32) (param $columns i32) (param $stride i32)
                        (param $scales i32) (param $x_scale f32)
    (local $a v128) (local $b v128) (local $c v128) (local $d v128) (local $part v128)
    (local $to_b i32) (local $to_c i32) (local $to_d i32) (local $at i32) (local $end i32)
    (local $quarter i32) (local $outs i32) ;; bytes from a quarter's first row, and sum, to the next's
    (local.set $outs (local.get $rows))
    (local.set $rows (i32.shr_u (local.get $rows) (i32.const 2)))
    (local.set $quarter (i32.mul (local.get $rows) (local.get $stride)))
    (local.set $end (i32.add (local.get $x) (i32.shl (local.get $columns) (i32.const 1))))
    (loop $four_rows
      (local.set $a (v128.const i32x4 0 0 0 0))
      (local.set $b (local.get $a))
      (local.set $c (local.get $a))
      (local.set $d (local.get $a))
      (local.set $to_b (i32.add (local.get $matrix) (local.get $quarter)))
      (local.set $to_c (i32.add (local.get $to_b) (local.get $quarter)))
      (local.set $to_d (i32.add (local.get $to_c) (local.get $quarter)))
      (local.set $at (local.get $x))
      (loop $sixteen_columns
        (local.set $part (v128.load (local.get $at)))
        (local.set $a (i32x4.add (local.get $a) (i32x4.dot_i16x8_s (local.get $part) (v128.load8x8_s (local.get $matrix)))))
        (local.set $b (i32x4.add (local.get $b) (i32x4.dot_i16x8_s (local.get $part) (v128.load8x8_s (local.get $to_b)))))
        (local.set $c (i32x4.add (local.get $c) (i32x4.dot_i16x8_s (local.get $part) (v128.load8x8_s (local.get $to_c)))))
        (local.set $d (i32x4.add (local.get $d) (i32x4.dot_i16x8_s (local.get $part) (v128.load8x8_s (local.get $to_d)))))
        (local.set $part (v128.load offset=16 (local.get $at)))
        (local.set $a (i32x4.add (local.get $a) (i32x4.dot_i16x8_s (local.get $part) (v128.load8x8_s offset=8 (local.get $matrix)))))
        (local.set $b (i32x4.add (local.get $b) (i32x4.dot_i16x8_s (local.get $part) (v128.load8x8_s offset=8 (local.get $to_b)))))
        (local.set $c (i32x4.add (local.get $c) (i32x4.dot_i16x8_s (local.get $part) (v128.load8x8_s offset=8 (local.get $to_c)))))
        (local.set $d (i32x4.add (local.get $d) (i32x4.dot_i16x8_s (local.get $part) (v128.load8x8_s offset=8 (local.get $to_d)))))
        (local.set $matrix (i32.add (local.get $matrix) (i32.const 16)))
        (local.set $to_b (i32.add (local.get $to_b) (i32.const 16)))
        (local.set $to_c (i32.add (local.get $to_c) (i32.const 16)))
        (local.set $to_d (i32.add (local.get $to_d) (i32.const 16)))
        (br_if $sixteen_columns
          (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 32))) (local.get $end))))
      (call $store (local.get $out) (local.get $outs)
        (f32x4.mul
          (f32x4.convert_i32x4_s (call $sums_i32 (local.get $a) (local.get $b) (local.get $c) (local.get $d)))
          (f32x4.mul (call $load (local.get $scales) (local.get $outs)) (f32x4.splat (local.get $x_scale)))))
      (local.set $out (i32.add (local.get $out) (i32.const 4)))
      (local.set $scales (i32.add (local.get $scales) (i32.const 4)))
      (local.set $matrix (i32.sub (i32.add (local.get $matrix) (local.get $stride)) (local.get $columns)))
      (br_if $four_rows (local.tee $rows (i32.sub (local.get $rows) (i32.const 1)))))))
