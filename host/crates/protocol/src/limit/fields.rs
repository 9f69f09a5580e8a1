//! `RateLimit` and `RateLimit-Policy` of draft-ietf-httpapi-ratelimit-headers, revision 10: lists of structured fields (RFC
//! 9651). What is left of what others use too is not told until it is used up, and cost, whose unit the draft has no word
//! for, never.

use std::fmt::{self, Write as _};

use axum::response::Response;
use http::{HeaderName, HeaderValue};

use super::charge::Level;
use super::rates::Limit;

/// What is left: `r`, and after how many seconds there is more: `t`.
pub(crate) const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// What there may be: `q` at once, all of it again after `w` seconds.
pub(crate) const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

const SECOND_NS: u128 = 1_000_000_000;
/// Room for an ordinary field.
const FIELD_BYTES: usize = 128;

/// What an answer tells of limits, until its fields are written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told(Vec<Level>);

impl Told {
    /// How full the keys are of a request that passed.
    pub(crate) fn passed(levels: &[Level]) -> Self {
        let own = levels.iter().filter(|level| !level.limit.is_common());
        Self(own.copied().collect())
    }

    /// What a request did not pass.
    pub(crate) fn refused(level: Level) -> Self {
        Self(vec![level])
    }

    /// Tells it with the answer, before what the answer tells already.
    pub(crate) fn with(mut self, response: &mut Response) {
        let inner = response.extensions_mut().remove::<Self>().unwrap_or_default();
        for new in inner.0 {
            // Where several servers count together an address is counted twice; where less is left, that is told.
            match self.0.iter_mut().find(|old| old.limit == new.limit) {
                Some(old) if old.ns < new.ns => *old = new,
                Some(_) => {}
                None => self.0.push(new),
            }
        }
        response.extensions_mut().insert(self);
    }
}

/// Writes the fields of an answer that tells of limits.
pub(crate) fn write(response: &mut Response) {
    let Some(Told(levels)) = response.extensions_mut().remove::<Told>() else {
        return;
    };
    let told = || levels.iter().filter(|level| level.limit != Limit::Cost);
    set(response, RATE_LIMIT, told(), left);
    set(response, RATE_LIMIT_POLICY, told(), policy);
}

/// A list of what `item` writes of each level.
fn set<'a>(
    response: &mut Response,
    name: HeaderName,
    levels: impl Iterator<Item = &'a Level>,
    item: fn(&mut String, &Level) -> fmt::Result,
) {
    let mut list = String::with_capacity(FIELD_BYTES);
    for level in levels {
        if !list.is_empty() {
            list.push_str(", ");
        }
        // Writing to memory does not fail.
        let _written = item(&mut list, level);
    }
    if let Ok(value) = HeaderValue::try_from(list)
        && !value.is_empty()
    {
        response.headers_mut().insert(name, value);
    }
}

fn left(list: &mut String, level: &Level) -> fmt::Result {
    let next = level.next().as_nanos().div_ceil(SECOND_NS);
    write!(list, "\"{}\";r={};t={next}", level.limit.as_str(), level.remaining())
}

fn policy(list: &mut String, level: &Level) -> fmt::Result {
    let window = level.rate.refill_ns().div_ceil(SECOND_NS);
    write!(list, "\"{}\";q={};w={window}", level.limit.as_str(), level.rate.burst())
}

#[cfg(test)]
mod tests {
    use sfv::{BareItem, List, ListEntry, Parser};

    use super::super::rate::{Rate, RateRequest};
    use super::*;

    fn level(limit: Limit, ns: u64) -> Level {
        let request = RateRequest {
            per_second: Some(2),
            burst: Some(5),
            ..RateRequest::default()
        };
        Level {
            limit,
            rate: Rate::resolve(&request, limit.count_max()).unwrap(),
            ns,
        }
    }

    /// Names and parameters, as somebody else's parser reads them.
    fn read(response: &Response, name: &HeaderName) -> Vec<(String, Vec<(String, i64)>)> {
        let value = response.headers()[name].to_str().unwrap();
        let list: List = Parser::new(value).parse().unwrap();
        let read = |entry: ListEntry| {
            let ListEntry::Item(item) = entry else {
                panic!("{value}")
            };
            let BareItem::String(name) = item.bare_item else {
                panic!("{value}")
            };
            let number = |value: BareItem| match value {
                BareItem::Integer(number) => i64::from(number),
                other => panic!("{other:?}"),
            };
            let parameters = item.params.into_iter();
            let parameters = parameters.map(|(key, value)| (String::from(key), number(value)));
            (String::from(name), parameters.collect())
        };
        list.into_iter().map(read).collect()
    }

    #[test]
    fn the_fields_are_lists_that_say_what_is_left() {
        let mut response = Response::default();
        Told::passed(&[
            level(Limit::Global, 1),
            level(Limit::Persona, 500_000_001),
            level(Limit::Cost, 1),
        ])
        .with(&mut response);
        Told::passed(&[level(Limit::Address, 0)]).with(&mut response);
        Told::passed(&[level(Limit::Persona, 1)]).with(&mut response);
        write(&mut response);
        let number = |name: &str, value| (name.to_owned(), value);
        assert_eq!(
            read(&response, &RATE_LIMIT),
            [
                ("persona".to_owned(), vec![number("r", 3), number("t", 1)]),
                ("address".to_owned(), vec![number("r", 5), number("t", 0)]),
            ]
        );
        assert_eq!(
            read(&response, &RATE_LIMIT_POLICY),
            [
                ("persona".to_owned(), vec![number("q", 5), number("w", 3)]),
                ("address".to_owned(), vec![number("q", 5), number("w", 3)]),
            ]
        );
    }

    #[test]
    fn the_window_is_that_of_the_numbers_also_where_one_comes_back_after_no_whole_nanosecond() {
        for (per_second, per_minute, window) in [(Some(3), None, 1), (None, Some(7), 60)] {
            let request = RateRequest {
                per_second,
                per_minute,
                ..RateRequest::default()
            };
            let rate = Rate::resolve(&request, Limit::Persona.count_max()).unwrap();
            let mut response = Response::default();
            Told::passed(&[Level {
                rate,
                ..level(Limit::Persona, 0)
            }])
            .with(&mut response);
            write(&mut response);
            let told = read(&response, &RATE_LIMIT_POLICY);
            assert_eq!(told[0].1[1], ("w".to_owned(), window));
        }
    }

    #[test]
    fn what_is_common_is_told_once_it_is_used_up_and_cost_never() {
        for (limit, fields) in [(Limit::Global, 1), (Limit::Capability, 1), (Limit::Cost, 0)] {
            let mut response = Response::default();
            Told::refused(level(limit, 2_500_000_000)).with(&mut response);
            write(&mut response);
            assert_eq!(
                response.headers().get_all(RATE_LIMIT).iter().count(),
                fields,
                "{limit:?}"
            );
        }
    }
}
