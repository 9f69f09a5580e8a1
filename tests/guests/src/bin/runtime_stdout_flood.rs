//! Writes a JSON string of as many bytes as the input says to standard output, or one without end.

use std::io::Write;

use aral_test_guests::marker;

fn main() {
    let text = std::io::read_to_string(std::io::stdin()).expect("the input is readable");
    let bytes: usize = text.trim().parse().unwrap_or(usize::MAX);
    marker("flooding");
    let mut output = std::io::stdout().lock();
    output.write_all(b"\"").expect("standard output is open");
    let mut left = bytes;
    while left > 0 {
        let chunk = [b'x'; 4096];
        let size = left.min(chunk.len());
        output.write_all(&chunk[..size]).expect("standard output is open");
        left -= size;
    }
    output.write_all(b"\"").expect("standard output is open");
}
