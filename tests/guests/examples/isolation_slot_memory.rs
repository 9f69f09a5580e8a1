//! Fills its memory with a pattern (`"fill"`), or looks for that pattern and for memory that is not fresh (`"scan"`).

use std::sync::atomic::{AtomicU64, Ordering};

use aral_test_guests::marker_log;
use serde_json::json;

aral_test_guests::tool!(serve);

/// Would survive if the next call saw this call's globals.
static CALLS: AtomicU64 = AtomicU64::new(0);
const PAGES: usize = 256;
const PAGE_BYTES: usize = 64 << 10;

/// The pattern is computed, so that no copy of it lies in the program itself.
fn pattern(index: u64) -> u64 {
    (index | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}

fn serve(input: &str) -> Result<String, Error> {
    let calls = CALLS.fetch_add(1, Ordering::Relaxed);
    if input.contains("fill") {
        marker_log("filling memory");
        let words: Vec<u64> = (0..(PAGES * PAGE_BYTES / 8) as u64).map(pattern).collect();
        let sum = words.iter().fold(0_u64, |sum, word| sum.wrapping_add(*word));
        return Ok(json!({ "calls": calls, "filled": words.len(), "sum": sum.to_string() }).to_string());
    }
    marker_log("scanning memory");
    // The highest words first: they lie in pages that this call has not touched before it asks for them.
    let grown_from = core::arch::wasm32::memory_grow::<0>(PAGES) * PAGE_BYTES;
    let end = core::arch::wasm32::memory_size::<0>() * PAGE_BYTES;
    let word = |at: usize| {
        // SAFETY: `at` is a multiple of eight below the size of linear memory, all of which is readable; the read is
        // volatile because this program never wrote there, as far as the compiler knows.
        unsafe { core::ptr::read_volatile(at as *const u64) }
    };
    let not_zero = (grown_from..end).step_by(8).filter(|at| word(*at) != 0).count();
    // Two neighbouring words of the pattern, anywhere in memory, are no accident.
    let left = (8..end - 8)
        .step_by(8)
        .filter(|at| {
            (0..4).any(|index| word(*at) == pattern(1000 + index * 2) && word(*at + 8) == pattern(1001 + index * 2))
        })
        .count();
    Ok(json!({ "calls": calls, "scanned": end, "not_zero": not_zero, "left": left }).to_string())
}
