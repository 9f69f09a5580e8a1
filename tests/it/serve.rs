//! `aral serve` as a client meets it: the program, a port, and bytes.

mod calls;
mod denials;
mod limits;
mod start;
mod wire;
