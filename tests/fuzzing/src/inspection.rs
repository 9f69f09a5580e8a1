//! Components from anywhere, which are read before anything is asked of them.

use aral_capability::imports::Role;
use aral_capability::{check_imports, inspect};
use aral_contract::Permissions;
use wasmparser::{Parser, Payload, WasmFeatures};

use crate::panics::leave_the_validators_alone;

/// A component: what is read of it is the same each time, every import that it has is told, and where something may be asked for
/// that nobody granted, it is refused.
pub fn component(bytes: &[u8]) {
    leave_the_validators_alone();
    let Ok(inspection) = inspect(bytes) else { return };
    assert_eq!(inspect(bytes).as_ref().ok(), Some(&inspection), "it is the same file");
    let told: Vec<&str> = inspection.imports.iter().map(|import| import.name.as_str()).collect();
    for name in imports(bytes) {
        assert!(
            told.contains(&name.as_str()),
            "the import `{name}` is not told: {told:?}"
        );
    }
    if check_imports(&inspection, &Permissions::default()).is_ok() {
        for import in &inspection.imports {
            let is_open = matches!(import.role, Role::Shared { .. } | Role::Harmless { .. } | Role::Types);
            assert!(is_open, "`{}` needs a permission, or is not linked", import.name);
        }
    }
}

/// The imports of the outermost component, read by somebody else.
fn imports(bytes: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let mut depth = 0_u32;
    let mut parser = Parser::new(0);
    parser.set_features(WasmFeatures::default());
    for payload in parser.parse_all(bytes) {
        match payload.expect("what was inspected is read") {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    names.push(import.expect("what was inspected is read").name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    names
}
