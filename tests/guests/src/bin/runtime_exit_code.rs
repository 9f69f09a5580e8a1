//! A command that answers and then ends itself with the code of the input.

use aral_test_guests::{marker, run};

fn main() {
    let mut code = 0;
    run(|input| {
        code = input["code"].as_i64().unwrap_or(0) as i32;
        marker("about to exit");
        input
    });
    std::process::exit(code);
}
