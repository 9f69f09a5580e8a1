//! Calls a host function as often as the input says, or forever if it says `null`.

use aral_test_guests::imports::aral::capability::context;
use aral_test_guests::marker_log;

aral_test_guests::tool!(serve);

fn serve(input: &str) -> Result<String, Error> {
    marker_log("calling the host");
    let rounds = input.parse().unwrap_or(u64::MAX);
    let mut last = 0;
    for _ in 0..rounds {
        last = context::remaining_ms();
    }
    Ok(last.to_string())
}
