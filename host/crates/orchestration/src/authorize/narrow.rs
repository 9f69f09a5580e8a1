//! How one item of a scope shrinks under what somebody allows: to itself, to something smaller, or to nothing.
//! Nothing here can make an item reach further than it did.

use aral_contract::HostPattern;
use aral_contract::scope::{AbsolutePath, ArgumentPattern, ProgramScope, ReadPath, WritePath};

/// The parts of `asked` that one of `allowed` covers.
pub(super) fn host(asked: &HostPattern, allowed: &[HostPattern]) -> Vec<HostPattern> {
    widest(
        allowed.iter().filter_map(|one| one.intersect(asked)),
        HostPattern::includes,
    )
}

/// Several hosts at once, for the hosts of a secret.
pub(super) fn hosts(asked: &[HostPattern], allowed: &[HostPattern]) -> Vec<HostPattern> {
    widest(asked.iter().flat_map(|one| host(one, allowed)), HostPattern::includes)
}

/// The programs that both `asked` and one of `allowed` cover.
pub(super) fn program(asked: &ProgramScope, allowed: &[ProgramScope]) -> Vec<ProgramScope> {
    let both = allowed.iter().filter_map(|one| program_with(asked, one));
    widest(both, |one, other| {
        let pairs = || one.args.iter().zip(&other.args);
        one.path == other.path && one.args.len() == other.args.len() && pairs().all(|(one, other)| one.includes(other))
    })
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

/// Leaves out what another item includes.
fn widest<T>(items: impl Iterator<Item = T>, includes: impl Fn(&T, &T) -> bool) -> Vec<T> {
    let mut kept: Vec<T> = Vec::new();
    for item in items {
        if !kept.iter().any(|one| includes(one, &item)) {
            kept.retain(|one| !includes(&item, one));
            kept.push(item);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let asked: HostPattern = "https://*.example.org".parse().unwrap();
        assert_eq!(host(&asked, &allowed), list(&["https://*.example.org"]));
        assert_eq!(host(&"*".parse().unwrap(), &allowed), list(&["https://*.example.org"]));
        assert_eq!(host(&"https://c.com".parse().unwrap(), &allowed), []);
    }
}
