//! Sizes of components whose parts come from outside: what is given to one is known where it is instantiated.

/// A number of items in a component that does not know yet what it will be given: `own + given * x`, where `x` is the size of
/// the largest thing among that. The type of an import says little of it: more may be given than is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Size {
    pub(super) own: u64,
    pub(super) given: u64,
}

impl Size {
    pub(super) const ONE: Self = Self { own: 1, given: 0 };
    /// Something that was given.
    pub(super) const GIVEN: Self = Self { own: 1, given: 1 };
    /// What is not known here: too much.
    pub(super) const UNKNOWN: Self = Self {
        own: u64::MAX,
        given: u64::MAX,
    };

    pub(super) fn plus(self, more: Self) -> Self {
        Self {
            own: self.own.saturating_add(more.own),
            given: self.given.saturating_add(more.given),
        }
    }

    /// At least both.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            own: self.own.max(other.own),
            given: self.given.max(other.given),
        }
    }

    /// The same once the largest that is given is known.
    pub(super) fn with(self, largest: Self) -> Self {
        Self {
            own: self.own.saturating_add(self.given.saturating_mul(largest.own)),
            given: self.given.saturating_mul(largest.given),
        }
    }
}
