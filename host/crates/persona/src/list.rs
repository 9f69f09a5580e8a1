//! Lists of what an agent may use, none of which may be longer than [`LIST_ITEMS_MAX`].

use std::fmt;
use std::str::FromStr;

use aral_contract::{AllowList, HostPattern};
use serde::{Deserialize as _, Deserializer, de};

use crate::constraints::LIST_ITEMS_MAX;

/// Reads a list of texts, one of which may be `"*"`.
pub(crate) fn allowed<'de, D, T>(deserializer: D) -> Result<AllowList<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    let list = AllowList::deserialize(deserializer)?;
    check::<D::Error>(list.count())?;
    Ok(list)
}

/// Reads a list of hosts.
pub(crate) fn hosts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<HostPattern>, D::Error> {
    let list = Vec::deserialize(deserializer)?;
    check::<D::Error>(list.len())?;
    Ok(list)
}

fn check<E: de::Error>(count: usize) -> Result<(), E> {
    if count > LIST_ITEMS_MAX {
        return Err(de::Error::custom(format_args!(
            "a list of {count} items is longer than {LIST_ITEMS_MAX}"
        )));
    }
    Ok(())
}
