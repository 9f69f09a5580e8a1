//! `aral memory`: the operator's hand in the store, here or in the server that has it. It decides nothing and shows what
//! comes back.

mod backup;
mod check;
mod keys;
mod records;
mod salvage;
mod stats;

use super::arguments::storage::Memory;
use super::configured::Configured;
use super::desk::{Desk, Opens};
use super::output::{Done, Output};

pub(crate) use keys::keygen;

/// Every verb but `keygen`, which needs no configuration.
pub(crate) fn run(verb: &Memory, configured: &Configured, output: &Output) -> Done {
    let read = || Desk::open(configured, Opens::ToRead);
    let write = || Desk::open(configured, Opens::ToWrite);
    match verb {
        Memory::Keygen(arguments) => keygen(arguments, configured.located(), output),
        Memory::Get(arguments) => records::get(arguments, &mut read()?, output),
        Memory::Put(arguments) => {
            // Before the store: nobody waits for it while a person types.
            let value = records::value(arguments)?;
            records::put(arguments, value, &mut write()?, output)
        }
        Memory::Delete(arguments) => records::delete(arguments, &mut write()?, output),
        Memory::List(arguments) => records::list(arguments, &mut read()?, output),
        Memory::Stats => stats::run(&mut read()?, output),
        Memory::Check(arguments) => check::run(arguments, &mut read()?, output),
        Memory::RotateKey(arguments) => keys::rotate(arguments, configured.located(), &mut write()?, output),
        Memory::RotateEpoch => keys::rotate_epoch(configured, output),
        Memory::Export(arguments) if arguments.salvage => salvage::run(arguments, configured, output),
        Memory::Export(arguments) => backup::export(arguments, configured, output),
        Memory::Import(arguments) => backup::import(arguments, configured, output),
    }
}
