//! `aral serve` as a client meets it: the program, a port, and bytes.

mod admin;
mod admin_verbs;
mod calls;
mod denials;
mod limits;
mod receipts;
mod reload;
mod signatures;
mod start;
mod tokens;
mod wire;
