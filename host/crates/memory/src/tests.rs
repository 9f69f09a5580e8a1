//! Tests that need the inside of this crate and belong to no one file of it. What can be tested from outside is in the
//! crate's folder `tests`.

mod contract;
mod wycheproof;
