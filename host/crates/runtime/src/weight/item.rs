//! How much is in a type, as far as a validator copies or walks through it.

use std::collections::HashMap;
use std::rc::Rc;

use wasmparser::{ComponentExport, ComponentExternalKind, ComponentTypeRef, ComponentValType, TypeBounds};

use super::{DEPTH_MAX, TooHeavy};

/// Bytes of a name that count as one item.
const NAME_BYTES_PER_ITEM: usize = 64;

/// Instances on the way to a resource that count as one item.
const WAY_PER_ITEM: u32 = 8;

/// What is exported, by name.
type Exports<'a> = HashMap<&'a str, Item<'a>>;

/// A type, or something that has one.
#[derive(Debug, Clone)]
pub(super) struct Item<'a> {
    /// Items in it once all that it names is written out, itself included.
    pub(super) size: u64,
    /// What comparing another one with it comes to: a component in a component is gone through for each that holds it.
    pub(super) compared: u64,
    /// Types inside each other.
    depth: u32,
    /// The largest instance or component type that it imports or exports as a type, 0 if there is none: where it is instantiated, a
    /// larger one may take its place.
    open: u64,
    /// It is an instance or a component itself.
    is_open: bool,
    /// Resources that it exports, also by the instances that it exports: each of these has a list of all in it.
    pub(super) resources: u64,
    /// None: of what is in it no more is known than that it is not larger.
    exports: Option<Rc<Exports<'a>>>,
}

impl Item<'_> {
    pub(super) fn new(size: u64) -> Self {
        Self {
            size,
            compared: size,
            depth: 1,
            open: 0,
            is_open: false,
            resources: 0,
            exports: None,
        }
    }

    pub(super) fn resource() -> Self {
        Self {
            resources: 1,
            ..Self::new(1)
        }
    }

    /// How many resources are listed once more where this is imported or exported.
    pub(super) fn listed(&self, kind: ComponentExternalKind) -> u64 {
        match kind {
            ComponentExternalKind::Type => self.resources.min(1),
            ComponentExternalKind::Instance => self.resources,
            ComponentExternalKind::Module
            | ComponentExternalKind::Func
            | ComponentExternalKind::Value
            | ComponentExternalKind::Component => 0,
        }
    }

    /// What that list comes to: it holds the way to each resource through the instances in between.
    pub(super) fn listing(&self, kind: ComponentExternalKind) -> u64 {
        let each = u64::from(self.depth / WAY_PER_ITEM).saturating_add(1);
        self.listed(kind).saturating_mul(each)
    }

    /// Takes in one more type.
    pub(super) fn hold(&mut self, other: &Item<'_>) -> Result<(), TooHeavy> {
        self.size = self.size.saturating_add(other.size);
        self.compared = self.compared.saturating_add(other.compared);
        self.open = self.open.max(other.open);
        self.deepen(other.depth.saturating_add(1))
    }

    fn deepen(&mut self, depth: u32) -> Result<(), TooHeavy> {
        self.depth = self.depth.max(depth);
        if self.depth > DEPTH_MAX {
            return Err(TooHeavy::Depth);
        }
        Ok(())
    }
}

impl<'a> Item<'a> {
    /// The same where it is imported or exported as a type.
    pub(super) fn into_type(mut self) -> Self {
        if self.is_open {
            self.open = self.open.max(self.size);
        }
        self
    }

    /// What is exported by that name. An export that is not there is for the validator to refuse.
    pub(super) fn export(&self, name: &str) -> Self {
        match &self.exports {
            Some(exports) => exports.get(name).cloned().unwrap_or_else(|| Self::new(1)),
            None => self.clone(),
        }
    }

    /// An instance of this component that is given these.
    pub(super) fn instance(&self, given: &[Self]) -> Result<Self, TooHeavy> {
        let largest = given.iter().map(|item| item.open).max().unwrap_or_default();
        if self.open == 0 || largest == 0 {
            return Ok(self.clone());
        }
        // Each type in it may have become as large as the largest that was given.
        let size = self.size.saturating_mul(largest.saturating_add(1));
        let mut instance = Self {
            size,
            compared: size,
            open: size,
            resources: size,
            exports: None,
            ..self.clone()
        };
        let deepest = given.iter().map(|item| item.depth).max().unwrap_or_default();
        instance.deepen(self.depth.saturating_add(deepest))?;
        Ok(instance)
    }
}

/// Everything in a component, or in the type of a component or an instance, that has a number there.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    pub(super) types: Vec<Item<'a>>,
    pub(super) core_types: Vec<Item<'a>>,
    pub(super) funcs: Vec<Item<'a>>,
    instances: Vec<Item<'a>>,
    components: Vec<Item<'a>>,
    modules: Vec<Item<'a>>,
    values: Vec<Item<'a>>,
    /// Of a module: its imports and exports alone.
    pub(super) whole: Item<'a>,
    pub(super) exports: Exports<'a>,
    pub(super) is_module: bool,
}

impl<'a> Scope<'a> {
    pub(super) fn new(is_module: bool) -> Self {
        Self {
            types: Vec::new(),
            core_types: Vec::new(),
            funcs: Vec::new(),
            instances: Vec::new(),
            components: Vec::new(),
            modules: Vec::new(),
            values: Vec::new(),
            whole: Item::new(1),
            exports: HashMap::new(),
            is_module,
        }
    }

    pub(super) fn list(&mut self, kind: ComponentExternalKind) -> &mut Vec<Item<'a>> {
        match kind {
            ComponentExternalKind::Module => &mut self.modules,
            ComponentExternalKind::Func => &mut self.funcs,
            ComponentExternalKind::Value => &mut self.values,
            ComponentExternalKind::Type => &mut self.types,
            ComponentExternalKind::Instance => &mut self.instances,
            ComponentExternalKind::Component => &mut self.components,
        }
    }

    /// What has that number.
    pub(super) fn get(&self, kind: ComponentExternalKind, index: u32) -> Item<'a> {
        match kind {
            ComponentExternalKind::Module => at(&self.modules, index),
            ComponentExternalKind::Func => at(&self.funcs, index),
            ComponentExternalKind::Value => at(&self.values, index),
            ComponentExternalKind::Type => at(&self.types, index).into_type(),
            ComponentExternalKind::Instance => at(&self.instances, index),
            ComponentExternalKind::Component => at(&self.components, index),
        }
    }

    /// What is declared to be of that type.
    pub(super) fn of(&self, ty: ComponentTypeRef) -> Item<'a> {
        match ty {
            ComponentTypeRef::Module(index) => at(&self.core_types, index),
            ComponentTypeRef::Func(index) | ComponentTypeRef::Instance(index) | ComponentTypeRef::Component(index) => {
                at(&self.types, index)
            }
            ComponentTypeRef::Value(value) => self.value(value),
            ComponentTypeRef::Type(TypeBounds::Eq(index)) => at(&self.types, index).into_type(),
            ComponentTypeRef::Type(TypeBounds::SubResource) => Item::resource(),
        }
    }

    pub(super) fn value(&self, value: ComponentValType) -> Item<'a> {
        match value {
            ComponentValType::Primitive(_) => Item::new(1),
            ComponentValType::Type(index) => at(&self.types, index),
        }
    }

    /// The component or the type that ends here.
    pub(super) fn end(self) -> Item<'a> {
        let mut whole = self.whole;
        if !self.is_module {
            // Comparing replaces resources first, in what is asked for and in what is given.
            whole.compared = whole.compared.saturating_add(whole.size.saturating_mul(2));
            whole.is_open = true;
            whole.exports = Some(Rc::new(self.exports));
        }
        whole
    }

    /// An instance of what is in this component already.
    pub(super) fn gather(&self, exports: &[ComponentExport<'a>]) -> Result<Item<'a>, TooHeavy> {
        let mut gathered = Item::new(1);
        let mut by_name = Exports::new();
        for export in exports {
            let item = self.get(export.kind, export.index);
            gathered.size = gathered.size.saturating_add(names([export.name.name]));
            gathered.hold(&item)?;
            gathered.hold(&Item::new(item.listing(export.kind)))?;
            gathered.resources = gathered.resources.saturating_add(item.listed(export.kind));
            by_name.insert(export.name.name, item);
        }
        gathered.is_open = true;
        gathered.exports = Some(Rc::new(by_name));
        Ok(gathered)
    }
}

/// A number that stands for nothing is for the validator to refuse, which then reads no further.
pub(super) fn at<'a>(list: &[Item<'a>], index: u32) -> Item<'a> {
    let item = usize::try_from(index).ok().and_then(|index| list.get(index));
    item.cloned().unwrap_or_else(|| Item::new(1))
}

/// What names count for.
pub(super) fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> u64 {
    let bytes = names
        .into_iter()
        .fold(0usize, |sum, name| sum.saturating_add(name.len()));
    count(bytes / NAME_BYTES_PER_ITEM)
}

pub(super) fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
