//! The types in a section, read declaration by declaration: a reader of whole types calls itself for each that is inside another.

use wasmparser::{
    BinaryReader, ComponentDefinedType, ComponentExternName, ComponentImport, ComponentType, ComponentTypeRef,
    ComponentValType, CoreType, InstanceTypeDeclaration, ModuleTypeDeclaration,
};

use super::item::{Item, Scope, at, count, names};
use super::{SCOPES_MAX, TooHeavy, Weight};

/// First bytes of the types that hold declarations: of a component, of an instance.
const SCOPES: [u8; 2] = [0x41, 0x42];
/// First byte of a declaration of a type.
const TYPE: u8 = 0x01;
/// First byte of a declaration of an import.
const IMPORT: u8 = 0x03;

impl<'a> Weight<'a> {
    /// All types of a section.
    pub(super) fn types(&mut self, mut reader: BinaryReader<'a>) -> Result<(), TooHeavy> {
        for _ in 0..reader.read_var_u32()? {
            self.ty(&mut reader)?;
        }
        Ok(())
    }

    /// The next type, which gets a number in the innermost scope.
    fn ty(&mut self, reader: &mut BinaryReader<'a>) -> Result<(), TooHeavy> {
        let mut ahead = reader.clone();
        let item = if SCOPES.contains(&ahead.read_u8()?) {
            *reader = ahead;
            self.scope(reader)?
        } else {
            match reader.read::<ComponentType<'a>>()? {
                ComponentType::Defined(defined) => self.defined(&defined)?,
                ComponentType::Func(func) => {
                    let named = names(func.params.iter().map(|(name, _)| *name));
                    let values = func.params.iter().map(|(_, value)| *value).chain(func.result);
                    self.holding(named, values)?
                }
                ComponentType::Resource { .. } => {
                    self.spend(1)?;
                    Item::resource()
                }
                // Are read above.
                ComponentType::Component(_) | ComponentType::Instance(_) => self.holding(0, [])?,
            }
        };
        if let Some(scope) = self.scopes.last_mut() {
            scope.types.push(item);
        }
        Ok(())
    }

    /// The type of a component or an instance.
    fn scope(&mut self, reader: &mut BinaryReader<'a>) -> Result<Item<'a>, TooHeavy> {
        if self.scopes.len() >= SCOPES_MAX {
            return Err(TooHeavy::Depth);
        }
        // What there is of each takes some hundred bytes, also if nothing is in it.
        self.spend(2)?;
        self.scopes.push(Scope::new(false));
        for _ in 0..reader.read_var_u32()? {
            self.declaration(reader)?;
        }
        Ok(self.scopes.pop().map_or_else(|| Item::new(1), Scope::end))
    }

    fn declaration(&mut self, reader: &mut BinaryReader<'a>) -> Result<(), TooHeavy> {
        self.spend(1)?;
        let mut ahead = reader.clone();
        match ahead.read_u8()? {
            TYPE => {
                *reader = ahead;
                return self.ty(reader);
            }
            IMPORT => {
                *reader = ahead;
                let import: ComponentImport<'a> = reader.read()?;
                return self.import(&import);
            }
            _ => {}
        }
        match reader.read::<InstanceTypeDeclaration<'a>>()? {
            InstanceTypeDeclaration::CoreType(ty) => self.core_type(&ty),
            InstanceTypeDeclaration::Alias(alias) => self.alias(&alias),
            InstanceTypeDeclaration::Export { name, ty } => self.declare(name, ty),
            // Is read above.
            InstanceTypeDeclaration::Type(_) => Ok(()),
        }
    }

    pub(super) fn import(&mut self, import: &ComponentImport<'a>) -> Result<(), TooHeavy> {
        let item = self.of(import.ty);
        self.put(import.ty.kind(), import.name, item).map(|_| ())
    }

    fn declare(&mut self, name: ComponentExternName<'a>, ty: ComponentTypeRef) -> Result<(), TooHeavy> {
        let item = self.of(ty);
        self.export(ty.kind(), name, item)
    }

    fn of(&self, ty: ComponentTypeRef) -> Item<'a> {
        let scope = self.scopes.last();
        scope.map_or_else(|| Item::new(1), |scope| scope.of(ty))
    }

    pub(super) fn core_type(&mut self, ty: &CoreType<'a>) -> Result<(), TooHeavy> {
        let found = match ty {
            CoreType::Rec(group) => vec![Item::new(1); group.types().len()],
            CoreType::Module(declarations) => {
                let mut size = 1u64;
                for declaration in declarations {
                    let of_one = match declaration {
                        ModuleTypeDeclaration::Type(group) => count(group.types().len()),
                        ModuleTypeDeclaration::Export { name, .. } => names([*name]),
                        ModuleTypeDeclaration::Import(import) => names([import.module, import.name]),
                        ModuleTypeDeclaration::OuterAlias { .. } => 0,
                    };
                    size = size.saturating_add(1).saturating_add(of_one);
                }
                self.spend(size)?;
                vec![Item::new(size)]
            }
        };
        self.spend(count(found.len()))?;
        if let Some(scope) = self.scopes.last_mut() {
            scope.core_types.extend(found);
        }
        Ok(())
    }

    fn defined(&mut self, defined: &ComponentDefinedType<'a>) -> Result<Item<'a>, TooHeavy> {
        let labels = |labels: &[&str]| names(labels.iter().copied()).saturating_add(count(labels.len()));
        match defined {
            ComponentDefinedType::Primitive(_) | ComponentDefinedType::Own(_) | ComponentDefinedType::Borrow(_) => {
                self.holding(0, [])
            }
            ComponentDefinedType::Record(fields) => {
                let named = names(fields.iter().map(|(name, _)| *name));
                self.holding(named, fields.iter().map(|(_, value)| *value))
            }
            ComponentDefinedType::Variant(cases) => {
                let named = names(cases.iter().map(|case| case.name)).saturating_add(count(cases.len()));
                self.holding(named, cases.iter().filter_map(|case| case.ty))
            }
            ComponentDefinedType::Tuple(values) => self.holding(0, values.iter().copied()),
            ComponentDefinedType::Flags(names) | ComponentDefinedType::Enum(names) => self.holding(labels(names), []),
            ComponentDefinedType::List(value)
            | ComponentDefinedType::FixedLengthList(value, _)
            | ComponentDefinedType::Option(value) => self.holding(0, [*value]),
            ComponentDefinedType::Map(key, value) => self.holding(0, [*key, *value]),
            ComponentDefinedType::Result { ok, err } => self.holding(0, ok.iter().chain(err).copied()),
            ComponentDefinedType::Future(value) | ComponentDefinedType::Stream(value) => self.holding(0, *value),
        }
    }

    /// A type of these values and so many items more. What is written down of it is paid for here.
    fn holding(&mut self, more: u64, values: impl IntoIterator<Item = ComponentValType>) -> Result<Item<'a>, TooHeavy> {
        let mut item = Item::new(more.saturating_add(1));
        let mut written = item.size;
        for value in values {
            written = written.saturating_add(1);
            match (value, self.scopes.last()) {
                (ComponentValType::Type(index), Some(scope)) => item.hold(&at(&scope.types, index))?,
                _ => item.hold(&Item::new(1))?,
            }
        }
        self.spend(written)?;
        Ok(item)
    }
}
