//! How one item of a scope shrinks under what somebody allows: to itself, to something smaller, or to nothing.
//! Nothing here can make an item reach further than it did.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::hash::Hash;

use aral_contract::HostPattern;
use aral_contract::scope::{AbsolutePath, ArgumentPattern, ProgramScope, ReadPath, WritePath};

use crate::policy::{POLICY_ITEMS_MAX, Policy, in_order};

/// How much of an item somebody lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    Nothing,
    Part,
    Whole,
}

impl Share {
    /// Of several, of which one is enough.
    pub(super) fn of_all(shares: &[Self]) -> Self {
        if shares.iter().all(|one| *one == Self::Nothing) {
            Self::Nothing
        } else if shares.iter().all(|one| *one == Self::Whole) {
            Self::Whole
        } else {
            Self::Part
        }
    }

    /// Of an item of which this is left.
    pub(super) fn of<T: PartialEq>(item: &T, left: &[T]) -> Self {
        match left {
            [] => Self::Nothing,
            [one] if one == item => Self::Whole,
            _ => Self::Part,
        }
    }
}

/// The hosts that somebody allows, without those that others of them include, in the order of the tree, each with its place in
/// the list. Patterns are nested or have nothing in common, so that one look decides about each that is asked for: of personas and
/// capabilities that list as many as they may, each pair would take too long.
#[derive(Debug)]
pub(super) struct Hosts<'a>(Vec<Placed<'a>>);

/// A host, and its place in the list.
type Placed<'a> = (usize, &'a HostPattern);

impl<'a> Hosts<'a> {
    pub(super) fn new(allowed: impl IntoIterator<Item = &'a HostPattern>) -> Self {
        Self(in_order(allowed))
    }

    /// Those of a policy, which has them in order: it may list many, of which a decision needs a few.
    pub(super) fn of_policy(policy: &'a Policy) -> Self {
        Self(policy.hosts_in_order().collect())
    }

    /// How much of this one they cover.
    pub(super) fn share(&self, asked: &HostPattern) -> Share {
        let (before, after) = self.around(asked);
        let includes = |one: Option<&(usize, &HostPattern)>| one.is_some_and(|(_, one)| one.includes(asked));
        if includes(before.last()) || includes(after.first()) {
            Share::Whole
        } else if after.first().is_some_and(|(_, one)| asked.includes(one)) {
            Share::Part
        } else {
            Share::Nothing
        }
    }

    /// The parts of those that are asked for that they cover, each once: first those that they cover whole.
    pub(super) fn narrow(&self, asked: &'a [HostPattern]) -> Vec<&'a HostPattern> {
        let (mut whole, mut parted) = (Vec::new(), Vec::new());
        for one in asked {
            match self.share(one) {
                Share::Whole => whole.push(one),
                Share::Part => parted.push(one),
                Share::Nothing => {}
            }
        }
        // Of those that lie in each other the widest alone: what they have below them is the same.
        let parted = Hosts::new(parted);
        let inside = parted.0.iter().flat_map(|(_, one)| {
            let (_, after) = self.around(one);
            after.iter().take_while(move |(_, other)| one.includes(other)).copied()
        });
        let mut inside: Vec<(usize, &HostPattern)> = inside.collect();
        inside.sort_by_key(|(place, _)| *place);
        whole.extend(inside.into_iter().map(|(_, one)| one));
        once(whole)
    }

    /// What stands before this one in the order of the tree, where whatever includes it is the last one, and what does not.
    fn around(&self, asked: &HostPattern) -> (&[Placed<'a>], &[Placed<'a>]) {
        let before = self.0.partition_point(|(_, one)| one.tree_cmp(asked) == Ordering::Less);
        self.0.split_at(before)
    }
}

/// The hosts that persona and policy allow, each alone and both together.
pub(super) struct Reach<'a> {
    pub(super) persona: Hosts<'a>,
    pub(super) policy: Hosts<'a>,
    pub(super) both: Hosts<'a>,
}

impl<'a> Reach<'a> {
    pub(super) fn new(persona: &'a [HostPattern], policy: &'a Policy) -> Self {
        let by_policy = Hosts::of_policy(policy);
        Self {
            persona: Hosts::new(persona),
            both: Hosts::new(by_policy.narrow(persona)),
            policy: by_policy,
        }
    }
}

/// The programs that both `asked` and one of `allowed` cover, each once.
pub(super) fn program(asked: &ProgramScope, allowed: &[ProgramScope]) -> Vec<ProgramScope> {
    let both: Vec<ProgramScope> = allowed.iter().filter_map(|one| program_with(asked, one)).collect();
    if both.contains(asked) {
        vec![asked.clone()]
    } else {
        once(both)
    }
}

/// What is left of several, each once; nothing, which is a denial, where that is more than a policy may list. Two arguments of
/// which each side says one make a program for every pair, and each of them is looked at whenever one is run.
pub(super) fn programs(asked: &[ProgramScope], allowed: &[ProgramScope]) -> Vec<ProgramScope> {
    let mut left = Vec::new();
    for one in asked {
        left.extend(program(one, allowed));
        if left.len() > POLICY_ITEMS_MAX {
            left = once(left);
        }
        if left.len() > POLICY_ITEMS_MAX {
            return Vec::new();
        }
    }
    once(left)
}

fn program_with(asked: &ProgramScope, allowed: &ProgramScope) -> Option<ProgramScope> {
    if asked.path != allowed.path || asked.args.len() != allowed.args.len() {
        return None;
    }
    let args: Option<Vec<ArgumentPattern>> = asked
        .args
        .iter()
        .zip(&allowed.args)
        .map(|(one, two)| argument(one, two))
        .collect();
    Some(ProgramScope {
        path: asked.path.clone(),
        args: args?,
    })
}

fn argument(one: &ArgumentPattern, two: &ArgumentPattern) -> Option<ArgumentPattern> {
    if one.includes(two) {
        Some(two.clone())
    } else if two.includes(one) {
        Some(one.clone())
    } else {
        None
    }
}

/// The folder, if it lies below one of the roots.
pub(super) fn read_path(asked: &ReadPath, roots: &[AbsolutePath]) -> Vec<ReadPath> {
    let inside = roots.iter().any(|root| asked.host.is_within(root));
    inside.then(|| asked.clone()).into_iter().collect()
}

/// The folder with at most these quotas, if it lies below one of the roots and any quota is left.
pub(super) fn write_path(asked: &WritePath, roots: &[AbsolutePath], bytes_max: u64, files_max: u64) -> Vec<WritePath> {
    let inside = roots.iter().any(|root| asked.host.is_within(root));
    let narrowed = WritePath {
        bytes_max: asked.bytes_max.min(bytes_max),
        files_max: asked.files_max.min(files_max),
        ..asked.clone()
    };
    let anything = narrowed.bytes_max > 0 || narrowed.files_max > 0;
    (inside && anything).then_some(narrowed).into_iter().collect()
}

/// Leaves out what is there already.
pub(super) fn once<T: Eq + Hash>(items: Vec<T>) -> Vec<T> {
    let mut seen = HashSet::with_capacity(items.len());
    let is_new: Vec<bool> = items.iter().map(|item| seen.insert(item)).collect();
    drop(seen);
    let items = items.into_iter().zip(is_new);
    items.filter_map(|(item, is_new)| is_new.then_some(item)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::PolicyParts;

    #[test]
    fn programs_shrink_to_the_narrower_shape_of_arguments() {
        let program = |args: &[&str]| ProgramScope {
            path: "/usr/bin/git".parse().unwrap(),
            args: args
                .iter()
                .map(|arg| ArgumentPattern::try_from((*arg).to_owned()).unwrap())
                .collect(),
        };
        for (asked, allowed, expected) in [
            (
                &["log", "{word}"][..],
                &["log", "{word}"][..],
                Some(&["log", "{word}"][..]),
            ),
            (&["log", "{word}"], &["log", "HEAD"], Some(&["log", "HEAD"])),
            (&["log", "HEAD"], &["log", "{word}"], Some(&["log", "HEAD"])),
            (&["log", "HEAD"], &["push", "HEAD"], None),
            (&["log"], &["log", "{word}"], None),
            (&["{integer}"], &["{path}"], None),
        ] {
            let narrowed = super::program(&program(asked), &[program(allowed)]);
            let expected: Vec<_> = expected.into_iter().map(program).collect();
            assert_eq!(narrowed, expected, "{asked:?} under {allowed:?}");
        }
        let other = ProgramScope {
            path: "/usr/bin/rm".parse().unwrap(),
            args: Vec::new(),
        };
        assert_eq!(super::program(&other, &[program(&[])]), []);
    }

    #[test]
    fn hosts_shrink_to_what_both_cover_without_repeats() {
        let list = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| text.parse().unwrap())
                .collect::<Vec<HostPattern>>()
        };
        let allowed = list(&[
            "https://a.example.org",
            "https://*.example.org",
            "https://b.example.org",
        ]);
        let narrowed = |asked: &[&str]| {
            let asked = list(asked);
            let hosts = Hosts::new(&allowed).narrow(&asked).into_iter().cloned();
            hosts.collect::<Vec<HostPattern>>()
        };
        assert_eq!(narrowed(&["https://*.example.org"]), list(&["https://*.example.org"]));
        assert_eq!(narrowed(&["*"]), list(&["https://*.example.org"]));
        assert_eq!(narrowed(&["*", "*"]), list(&["https://*.example.org"]));
        assert_eq!(narrowed(&["https://c.com"]), []);
    }

    #[test]
    fn what_is_left_of_hosts_is_what_each_pair_has_in_common() {
        let texts = [
            "*",
            "https://*.a.org",
            "https://a.org",
            "https://*.b.a.org",
            "https://c.b.a.org",
            "https://x-b.a.org",
            "https://*.ba.org",
            "http://*.a.org",
            "https://127.0.0.1",
        ];
        let all: Vec<HostPattern> = texts.iter().map(|text| text.parse().unwrap()).collect();
        let of = |bits: usize| -> Vec<HostPattern> {
            let there = all.iter().enumerate().filter(|(place, _)| (bits >> place) & 1 == 1);
            there.map(|(_, one)| one.clone()).rev().collect()
        };
        for bits in 0..1 << texts.len() {
            let (allowed, hosts) = (of(bits), all.clone());
            let index = Hosts::new(&allowed);
            let policy = Policy::new(PolicyParts {
                hosts: allowed.clone(),
                ..PolicyParts::default()
            });
            let policy = policy.unwrap();
            assert_eq!(
                Hosts::of_policy(&policy).0,
                index.0,
                "a policy puts {allowed:?} in another order"
            );
            for asked in &hosts {
                // Patterns are nested or disjoint, so that what both cover is one of the two.
                let both = |one: &HostPattern| {
                    let mut pair = [(one, asked), (asked, one)].into_iter();
                    let nested = pair.find(|(wide, narrow)| wide.includes(narrow));
                    nested.map(|(_, narrow)| narrow.clone())
                };
                let pairs: Vec<HostPattern> = allowed.iter().filter_map(both).collect();
                let is_widest = |one: &&HostPattern| !pairs.iter().any(|other| other != *one && other.includes(one));
                let expected = once(pairs.iter().filter(is_widest).collect());
                assert_eq!(
                    index.narrow(std::slice::from_ref(asked)),
                    expected,
                    "{asked} under {allowed:?}"
                );
                let left: Vec<HostPattern> = expected.into_iter().cloned().collect();
                assert_eq!(index.share(asked), Share::of(asked, &left), "{asked} under {allowed:?}");
            }
            // Everything at once: what is asked for and lies in something else of it that is asked for is given once.
            let together = index.narrow(&hosts);
            for asked in &hosts {
                for one in index.narrow(std::slice::from_ref(asked)) {
                    assert!(
                        together.iter().any(|other| other.includes(one)),
                        "{one} under {allowed:?}"
                    );
                }
            }
            for one in together {
                assert!(
                    allowed.iter().any(|other| other.includes(one)),
                    "{one} under {allowed:?}"
                );
            }
        }
    }
}
