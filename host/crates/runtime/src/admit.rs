//! What is checked of a component before anything compiles it. The cheap checks look at a few bytes and come first;
//! validation reads it all, against the same features as the engines have. It knows no import and no permission.

mod instances;
mod size;
mod slots;
mod type_sizes;

use std::panic::{AssertUnwindSafe, catch_unwind};

use aral_contract::limits::COMPONENT_BYTES_MAX;
use wasmparser::{Encoding, Parser, Payload, ValidPayload, Validator};

use crate::compile::CompileError;
use crate::engine::{FEATURES, MemoryLayout};
use crate::weight::{TooHeavy, Weight};
use instances::{Amount, Instances};

/// In process nobody can kill the compiler: only components up to this size, in bytes, are compiled there.
pub(crate) const IN_PROCESS_BYTES_MAX: usize = 4 << 20;
/// The same for its functions.
pub(crate) const IN_PROCESS_FUNCTIONS_MAX: u64 = 20_000;
/// The same for the code of one function, in bytes: the compiler takes more than linear time for one function.
pub(crate) const IN_PROCESS_FUNCTION_BYTES_MAX: u64 = 128 << 10;

/// Instances of modules and components that a component may make in all when it is instantiated. Real ones make some dozens.
pub(crate) const INSTANCES_MAX: u64 = 10_000;
/// Types, functions, imports, exports and names that these list, all instances together.
pub(crate) const ITEMS_MAX: u64 = 1_000_000;

/// Refuses what is too large, compiled already or no component, by its length and first bytes alone.
pub(crate) fn glance(bytes: &[u8]) -> Result<(), CompileError> {
    if bytes.len() > COMPONENT_BYTES_MAX {
        return Err(CompileError::TooLarge {
            bytes: bytes.len(),
            bytes_max: COMPONENT_BYTES_MAX,
        });
    }
    // Machine code from outside would run with the rights of the host.
    if wasmtime::Engine::detect_precompiled(bytes).is_some() {
        return Err(CompileError::Precompiled);
    }
    if Parser::is_core_wasm(bytes) {
        return Err(CompileError::CoreModule);
    }
    if !Parser::is_component(bytes) {
        return Err(CompileError::NotWasm);
    }
    Ok(())
}

/// Reads the whole component and refuses what is malformed, uses a feature that is off, makes too many instances, or takes more than
/// a pool has for one, if that is where instances with such memories come from.
pub(crate) fn validate(bytes: &[u8], layout: MemoryLayout) -> Result<(), CompileError> {
    walk(bytes, layout, |_, _| Ok(()))
}

/// As [`validate`], and refuses what could keep a compiler busy that nobody can kill.
pub(crate) fn validate_for_in_process(bytes: &[u8], layout: MemoryLayout) -> Result<(), CompileError> {
    if bytes.len() > IN_PROCESS_BYTES_MAX {
        return Err(CompileError::TooComplex {
            what: "bytes",
            found: bytes.len() as u64,
            found_max: IN_PROCESS_BYTES_MAX as u64,
        });
    }
    walk(bytes, layout, |functions, function_bytes| {
        if functions > IN_PROCESS_FUNCTIONS_MAX {
            return Err(CompileError::TooComplex {
                what: "functions",
                found: functions,
                found_max: IN_PROCESS_FUNCTIONS_MAX,
            });
        }
        if function_bytes > IN_PROCESS_FUNCTION_BYTES_MAX {
            return Err(CompileError::TooComplex {
                what: "bytes in one function",
                found: function_bytes,
                found_max: IN_PROCESS_FUNCTION_BYTES_MAX,
            });
        }
        Ok(())
    })
}

/// Validates; `check` sees the number of functions so far and the size of the newest.
fn walk(
    bytes: &[u8],
    layout: MemoryLayout,
    check: impl Fn(u64, u64) -> Result<(), CompileError>,
) -> Result<(), CompileError> {
    // The validator asserts what does not hold of every component.
    catch_unwind(AssertUnwindSafe(|| follow(bytes, layout, check))).unwrap_or_else(|_panic| {
        Err(CompileError::Refused {
            message: "the validator broke off while it followed its types".to_owned(),
        })
    })
}

fn follow(
    bytes: &[u8],
    layout: MemoryLayout,
    check: impl Fn(u64, u64) -> Result<(), CompileError>,
) -> Result<(), CompileError> {
    let mut validator = Validator::new_with_features(FEATURES);
    // Of itself a parser reads all features, and some are nobody else's to refuse.
    let mut parser = Parser::new(0);
    parser.set_features(FEATURES);
    let mut allocations = wasmparser::FuncValidatorAllocations::default();
    let mut functions: u64 = 0;
    let mut weight = Weight::new(bytes);
    let mut instances = Instances::new();
    for payload in parser.parse_all(bytes) {
        let payload = payload.map_err(invalid)?;
        if let Payload::Version {
            encoding: Encoding::Module,
            range,
            ..
        } = &payload
            && range.start == 0
        {
            return Err(CompileError::CoreModule);
        }
        weight.see(&payload).map_err(too_heavy)?;
        match validator.payload(&payload).map_err(invalid)? {
            ValidPayload::Func(function, body) => {
                functions = functions.saturating_add(1);
                check(functions, u64::try_from(body.as_bytes().len()).unwrap_or(u64::MAX))?;
                let mut function = function.into_validator(allocations);
                function.validate(&body).map_err(invalid)?;
                allocations = function.into_allocations();
            }
            ValidPayload::Ok | ValidPayload::Parser(_) | ValidPayload::End(_) => {}
        }
        instances.see(&payload, validator.types(0)).map_err(invalid)?;
        let amount = instances.amount();
        let beyond = match amount {
            Amount { instances, .. } if instances > INSTANCES_MAX => Some((INSTANCES_MAX, "instances")),
            Amount { items, .. } if items > ITEMS_MAX => Some((ITEMS_MAX, "items in its instances")),
            Amount { slots, .. } => match layout {
                MemoryLayout::Reserved => slots.beyond(),
                MemoryLayout::Checked => None,
            },
        };
        if let Some((most, what)) = beyond {
            return Err(CompileError::Refused {
                message: format!("it comes to more than {most} {what}, all levels together"),
            });
        }
    }
    Ok(())
}

fn too_heavy(error: TooHeavy) -> CompileError {
    match error {
        TooHeavy::Invalid(error) => invalid(error),
        TooHeavy::Sum | TooHeavy::Depth => CompileError::Refused {
            message: error.to_string(),
        },
    }
}

fn invalid(error: wasmparser::BinaryReaderError) -> CompileError {
    CompileError::Invalid {
        message: error.to_string(),
    }
}
