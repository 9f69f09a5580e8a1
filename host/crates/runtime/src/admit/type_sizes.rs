//! How large the types of a component are once all that they name is written out, as the compiler does each time that it
//! meets one. Each is measured once.

use std::collections::HashMap;

use wasmparser::component_types::{
    ComponentAnyTypeId, ComponentDefinedType, ComponentEntityType, ComponentItem, ComponentValType,
};
use wasmparser::types::TypesRef;

/// Types inside each other. Validation allows 100.
const DEPTH_MAX: u32 = 128;
/// Bytes of a name that count as one item.
const NAME_BYTES_PER_ITEM: usize = 64;

/// The sizes that are known.
#[derive(Debug, Default)]
pub(super) struct TypeSizes(HashMap<ComponentAnyTypeId, u64>);

impl TypeSizes {
    /// Items in this type, itself included.
    pub(super) fn of(&mut self, types: TypesRef<'_>, id: ComponentAnyTypeId) -> u64 {
        self.any(types, id, DEPTH_MAX)
    }

    fn any(&mut self, types: TypesRef<'_>, id: ComponentAnyTypeId, depth_left: u32) -> u64 {
        if let Some(size) = self.0.get(&id) {
            return *size;
        }
        let Some(depth_left) = depth_left.checked_sub(1) else {
            return u64::MAX;
        };
        // Whoever validated the component has all its types; one that is not there is as large as can be.
        let inner = match id {
            ComponentAnyTypeId::Resource(_) => Some(0),
            ComponentAnyTypeId::Defined(id) => types.get(id).map(|ty| self.defined(types, ty, depth_left)),
            ComponentAnyTypeId::Func(id) => types.get(id).map(|ty| {
                let params = ty.params.iter().map(|(_, ty)| ty);
                self.values(types, params.chain(&ty.result), depth_left)
            }),
            ComponentAnyTypeId::Instance(id) => {
                types.get(id).map(|ty| self.items(types, ty.exports.iter(), depth_left))
            }
            ComponentAnyTypeId::Component(id) => types.get(id).map(|ty| {
                let imports = self.items(types, ty.imports.iter(), depth_left);
                imports.saturating_add(self.items(types, ty.exports.iter(), depth_left))
            }),
        }
        .unwrap_or(u64::MAX);
        let size = inner.saturating_add(1);
        self.0.insert(id, size);
        size
    }

    fn items<'a>(
        &mut self,
        types: TypesRef<'_>,
        items: impl Iterator<Item = (&'a String, &'a ComponentItem)>,
        depth_left: u32,
    ) -> u64 {
        let mut sum: u64 = 0;
        for (name, item) in items {
            sum = sum
                .saturating_add(count(name.len() / NAME_BYTES_PER_ITEM))
                .saturating_add(self.entity(types, item.ty, depth_left));
        }
        sum
    }

    fn entity(&mut self, types: TypesRef<'_>, entity: ComponentEntityType, depth_left: u32) -> u64 {
        match entity {
            ComponentEntityType::Module(id) => types.get(id).map_or(u64::MAX, |module| {
                count(module.imports.len())
                    .saturating_add(count(module.exports.len()))
                    .saturating_add(1)
            }),
            ComponentEntityType::Func(id) => self.any(types, ComponentAnyTypeId::Func(id), depth_left),
            ComponentEntityType::Value(value) => self.values(types, [&value], depth_left),
            ComponentEntityType::Type { created, .. } => self.any(types, created, depth_left),
            ComponentEntityType::Instance(id) => self.any(types, ComponentAnyTypeId::Instance(id), depth_left),
            ComponentEntityType::Component(id) => self.any(types, ComponentAnyTypeId::Component(id), depth_left),
        }
    }

    fn defined(&mut self, types: TypesRef<'_>, defined: &ComponentDefinedType, depth_left: u32) -> u64 {
        match defined {
            ComponentDefinedType::Primitive(_) | ComponentDefinedType::Own(_) | ComponentDefinedType::Borrow(_) => 0,
            ComponentDefinedType::Record(record) => self.values(types, record.fields.values(), depth_left),
            ComponentDefinedType::Variant(variant) => {
                let cases = count(variant.cases.len());
                let payloads = variant.cases.values().filter_map(|case| case.ty.as_ref());
                cases.saturating_add(self.values(types, payloads, depth_left))
            }
            ComponentDefinedType::Tuple(tuple) => self.values(types, tuple.types.iter(), depth_left),
            ComponentDefinedType::Flags(names) | ComponentDefinedType::Enum(names) => count(names.len()),
            ComponentDefinedType::List { element, .. } | ComponentDefinedType::FixedLengthList { element, .. } => {
                self.values(types, [element], depth_left)
            }
            ComponentDefinedType::Map { key, value, .. } => self.values(types, [key, value], depth_left),
            ComponentDefinedType::Option { ty, .. } => self.values(types, [ty], depth_left),
            ComponentDefinedType::Result { ok, err, .. } => self.values(types, ok.iter().chain(err), depth_left),
            ComponentDefinedType::Future { ty, .. } | ComponentDefinedType::Stream { ty, .. } => {
                self.values(types, ty, depth_left)
            }
        }
    }

    fn values<'a>(
        &mut self,
        types: TypesRef<'_>,
        values: impl IntoIterator<Item = &'a ComponentValType>,
        depth_left: u32,
    ) -> u64 {
        let mut sum: u64 = 0;
        for value in values {
            sum = sum.saturating_add(match value {
                ComponentValType::Primitive(_) => 1,
                ComponentValType::Type(id) => self.any(types, ComponentAnyTypeId::Defined(*id), depth_left),
            });
        }
        sum
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
