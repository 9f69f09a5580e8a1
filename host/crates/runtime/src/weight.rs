//! What it comes to that a validator follows the types of a component, counted from the bytes before it does. It copies a type wherever
//! something is imported, exported or instantiated that names a resource, and keeps the copy; it walks through types wherever it compares
//! them, and calls itself for each that is inside another. None of its own bounds is on the sum: with some kilobytes it fills the memory,
//! and types deep inside each other end the process.

mod item;
mod types;

#[cfg(test)]
mod tests;

use wasmparser::{
    BinaryReader, BinaryReaderError, CanonicalFunction, ComponentAlias, ComponentExport, ComponentExternName,
    ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind, Imports, Instance, Payload,
};

use item::{Item, Scope, at, count, names};

/// What all copies and walks may come to, in types, fields, imports, exports and so on. A copy takes some hundred bytes. Real components
/// come to some ten thousand.
pub const WEIGHT_MAX: u64 = 1_000_000;
/// Types inside each other. A validator takes 127 to be more than there can be.
pub const DEPTH_MAX: u32 = 100;
/// Components, and types of components and instances, inside each other.
const SCOPES_MAX: usize = 100;
/// At the end of each module and component the list of all before it is copied: so many of them cost as much as one item.
const PARTS_PER_ITEM: u64 = 4;
/// The same for types with a name.
const NAMED_PER_ITEM: u64 = 64;
/// Bytes of the types of a module that count as one item.
const TYPE_BYTES_PER_ITEM: usize = 16;
/// Bytes of the imports or exports of a module that count as one item, beside their number.
const EXTERN_BYTES_PER_ITEM: usize = 64;

/// Why a component is not given to a validator.
#[derive(Debug, thiserror::Error)]
pub enum TooHeavy {
    /// Malformed.
    #[error("{0}")]
    Invalid(#[from] BinaryReaderError),
    /// Too much in all.
    #[error("its types, imports and exports come to more than {WEIGHT_MAX} items, each copy counted")]
    Sum,
    /// Too deep.
    #[error("its types are more than {DEPTH_MAX} levels deep")]
    Depth,
}

/// Counts while a component is read, each part before a validator sees it.
#[derive(Debug)]
pub struct Weight<'a> {
    bytes: &'a [u8],
    /// Outermost first.
    scopes: Vec<Scope<'a>>,
    spent: u64,
    /// Modules and components so far.
    parts: u64,
    /// Types so far that got a name by an import or an export.
    named: u64,
}

impl<'a> Weight<'a> {
    /// For a component that a parser reads which begins at its first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            scopes: vec![Scope::new(false)],
            spent: 0,
            parts: 0,
            named: 0,
        }
    }

    /// Counts the next part.
    ///
    /// # Errors
    /// No validator may see this part.
    pub fn see(&mut self, payload: &Payload<'a>) -> Result<(), TooHeavy> {
        match payload {
            Payload::ModuleSection { .. } => self.begin(true),
            Payload::ComponentSection { .. } => self.begin(false),
            Payload::End(_) => self.end(),
            Payload::TypeSection(section) => self.spend(count(section.range().len() / TYPE_BYTES_PER_ITEM)),
            Payload::ImportSection(section) => {
                let mut imports = count(section.range().len() / EXTERN_BYTES_PER_ITEM);
                for group in section.clone() {
                    let (imported, module) = match group? {
                        Imports::Single(..) => (1, ""),
                        Imports::Compact1 { module, items } => (items.count(), module),
                        Imports::Compact2 { module, names, .. } => (names.count(), module),
                    };
                    // Each of a group gets its own copy of the name that all have.
                    let of_each = names([module]).saturating_add(1);
                    imports = imports.saturating_add(of_each.saturating_mul(imported.into()));
                }
                self.list(imports)
            }
            Payload::ExportSection(section) => {
                let bytes = count(section.range().len() / EXTERN_BYTES_PER_ITEM);
                self.list(bytes.saturating_add(section.count().into()))
            }
            Payload::CoreTypeSection(section) => section.clone().into_iter().try_for_each(|ty| self.core_type(&ty?)),
            Payload::InstanceSection(section) => section.clone().into_iter().try_for_each(|instance| {
                self.spend(match instance? {
                    Instance::Instantiate { module_index, args } => {
                        let module = self.get(ComponentExternalKind::Module, module_index);
                        count(args.len()).saturating_add(module.size)
                    }
                    Instance::FromExports(exports) => count(exports.len()).saturating_add(1),
                })
            }),
            Payload::ComponentTypeSection(section) => {
                let range = section.range();
                let offset = range.start;
                let reader = BinaryReader::new(self.bytes.get(range).unwrap_or_default(), offset);
                self.types(reader)
            }
            Payload::ComponentImportSection(section) => {
                section.clone().into_iter().try_for_each(|import| self.import(&import?))
            }
            Payload::ComponentExportSection(section) => section
                .clone()
                .into_iter()
                .try_for_each(|export| self.export_of(&export?)),
            Payload::ComponentAliasSection(section) => {
                section.clone().into_iter().try_for_each(|alias| self.alias(&alias?))
            }
            Payload::ComponentInstanceSection(section) => section
                .clone()
                .into_iter()
                .try_for_each(|instance| self.instance(&instance?)),
            Payload::ComponentCanonicalSection(section) => section
                .clone()
                .into_iter()
                .try_for_each(|function| self.canonical(&function?)),
            _ => Ok(()),
        }
    }

    fn spend(&mut self, items: u64) -> Result<(), TooHeavy> {
        self.spent = self.spent.saturating_add(items);
        if self.spent > WEIGHT_MAX {
            return Err(TooHeavy::Sum);
        }
        Ok(())
    }

    fn begin(&mut self, is_module: bool) -> Result<(), TooHeavy> {
        if self.scopes.len() >= SCOPES_MAX {
            return Err(TooHeavy::Depth);
        }
        self.scopes.push(Scope::new(is_module));
        self.parts = self.parts.saturating_add(1);
        let lists = (self.parts / PARTS_PER_ITEM).saturating_add(self.named / NAMED_PER_ITEM);
        self.spend(lists.saturating_add(2))
    }

    /// The part that was begun last has ended, and has a number in the one around it.
    fn end(&mut self) -> Result<(), TooHeavy> {
        if self.scopes.len() < 2 {
            return Ok(());
        }
        let Some(ended) = self.scopes.pop() else { return Ok(()) };
        let kind = if ended.is_module {
            ComponentExternalKind::Module
        } else {
            ComponentExternalKind::Component
        };
        self.push(kind, ended.end());
        Ok(())
    }

    /// So many imports or exports of a module.
    fn list(&mut self, externs: u64) -> Result<(), TooHeavy> {
        if let Some(scope) = self.scopes.last_mut() {
            scope.whole.hold(&Item::new(externs))?;
        }
        self.spend(externs)
    }

    fn get(&self, kind: ComponentExternalKind, index: u32) -> Item<'a> {
        let scope = self.scopes.last();
        scope.map_or_else(|| Item::new(1), |scope| scope.get(kind, index))
    }

    fn push(&mut self, kind: ComponentExternalKind, item: Item<'a>) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.list(kind).push(item);
        }
    }

    /// Something that is imported or exported: it gets a number, and what is in it is copied and walked through.
    fn put(
        &mut self,
        kind: ComponentExternalKind,
        name: ComponentExternName<'a>,
        item: Item<'a>,
    ) -> Result<Item<'a>, TooHeavy> {
        if kind == ComponentExternalKind::Type {
            self.named = self.named.saturating_add(1);
        }
        let written = [Some(name.name), name.implements, name.version_suffix, name.external_id];
        let named = names(written.into_iter().flatten()).saturating_add(1);
        let beside = named.saturating_add(item.listing(kind));
        self.spend(beside.saturating_add(item.size))?;
        if let Some(scope) = self.scopes.last_mut() {
            scope.whole.hold(&item)?;
            scope.whole.hold(&Item::new(beside))?;
        }
        self.push(kind, item.clone());
        Ok(item)
    }

    fn export(
        &mut self,
        kind: ComponentExternalKind,
        name: ComponentExternName<'a>,
        item: Item<'a>,
    ) -> Result<(), TooHeavy> {
        let item = self.put(kind, name, item)?;
        if let Some(scope) = self.scopes.last_mut() {
            let resources = &mut scope.whole.resources;
            *resources = resources.saturating_add(item.listed(kind));
            scope.exports.insert(name.name, item);
        }
        Ok(())
    }

    /// An export of a component, which may be of another type than what it exports: then the two are compared.
    fn export_of(&mut self, export: &ComponentExport<'a>) -> Result<(), TooHeavy> {
        let actual = self.get(export.kind, export.index);
        let Some(ty) = export.ty else {
            return self.export(export.kind, export.name, actual);
        };
        let scope = self.scopes.last();
        let declared = scope.map_or_else(|| Item::new(1), |scope| scope.of(ty));
        self.spend(actual.compared.saturating_add(declared.compared))?;
        self.export(export.kind, export.name, declared)
    }

    fn instance(&mut self, instance: &ComponentInstance<'a>) -> Result<(), TooHeavy> {
        let item = match instance {
            ComponentInstance::Instantiate { component_index, args } => {
                let component = self.get(ComponentExternalKind::Component, *component_index);
                self.spend(component.compared)?;
                let mut given = Vec::new();
                for arg in args {
                    let item = self.get(arg.kind, arg.index);
                    self.spend(item.compared.saturating_add(1))?;
                    given.push(item);
                }
                component.instance(&given)?
            }
            ComponentInstance::FromExports(exports) => {
                let Some(scope) = self.scopes.last() else { return Ok(()) };
                let gathered = scope.gather(exports)?;
                self.spend(gathered.size)?;
                gathered
            }
        };
        self.push(ComponentExternalKind::Instance, item);
        Ok(())
    }

    fn alias(&mut self, alias: &ComponentAlias<'a>) -> Result<(), TooHeavy> {
        self.spend(1)?;
        match alias {
            ComponentAlias::InstanceExport {
                kind,
                instance_index,
                name,
            } => {
                let item = self.get(ComponentExternalKind::Instance, *instance_index).export(name);
                self.push(*kind, item);
            }
            ComponentAlias::CoreInstanceExport { .. } => {}
            ComponentAlias::Outer { kind, count, index } => {
                let outward = usize::try_from(*count).unwrap_or(usize::MAX);
                let Some(outer) = self.scopes.iter().rev().nth(outward) else {
                    return Ok(());
                };
                match kind {
                    ComponentOuterAliasKind::CoreModule => {
                        let item = outer.get(ComponentExternalKind::Module, *index);
                        self.push(ComponentExternalKind::Module, item);
                    }
                    ComponentOuterAliasKind::Component => {
                        let item = outer.get(ComponentExternalKind::Component, *index);
                        self.push(ComponentExternalKind::Component, item);
                    }
                    ComponentOuterAliasKind::CoreType => {
                        let item = at(&outer.core_types, *index);
                        if let Some(scope) = self.scopes.last_mut() {
                            scope.core_types.push(item);
                        }
                    }
                    // Searched for resources, which may not leave their component.
                    ComponentOuterAliasKind::Type => {
                        let item = at(&outer.types, *index);
                        self.spend(item.size)?;
                        self.push(ComponentExternalKind::Type, item);
                    }
                }
            }
        }
        Ok(())
    }

    /// Translating a function into one of a module walks through its type.
    fn canonical(&mut self, function: &CanonicalFunction) -> Result<(), TooHeavy> {
        let Some(scope) = self.scopes.last_mut() else {
            return Ok(());
        };
        let walked = match function {
            CanonicalFunction::Lift { type_index, .. } => {
                let func = at(&scope.types, *type_index);
                scope.funcs.push(func.clone());
                func.size
            }
            CanonicalFunction::Lower { func_index, .. } => at(&scope.funcs, *func_index).size,
            CanonicalFunction::TaskReturn {
                result: Some(value), ..
            } => scope.value(*value).size,
            CanonicalFunction::StreamRead { ty, .. }
            | CanonicalFunction::StreamWrite { ty, .. }
            | CanonicalFunction::FutureRead { ty, .. }
            | CanonicalFunction::FutureWrite { ty, .. } => at(&scope.types, *ty).size,
            _ => 0,
        };
        self.spend(walked.saturating_add(1))
    }
}
