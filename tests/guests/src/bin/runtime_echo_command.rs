//! Answers its input, as a plain program.

use aral_test_guests::run;

fn main() {
    run(|input| input);
}
