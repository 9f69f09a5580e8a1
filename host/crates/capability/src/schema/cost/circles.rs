//! Which steps from one subschema to another lead back to where they began.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use serde_json::Value;

use super::own::Own;
use super::{Cost, Target, TooCostly};

/// Refuses subschemas that lead back to themselves without a step into the value. A validator cuts such a circle at what
/// references lead to and nowhere else: where they lead to several subschemas on one way, it goes all ways that there are, which
/// are more than any bound counts. No schema needs one, as the specification gives it no meaning.
pub(super) fn refuse_in_place<'a>(cost: &'a Cost, schemas: &[(&'a Value, u64)]) -> Result<(), TooCostly> {
    let mut steps = Vec::new();
    for &(schema, _) in schemas {
        let parts = cost.parts(schema)?.list.into_iter();
        let in_place = parts.filter(|part| part.target.is_in_place());
        steps.extend(in_place.map(|part| (std::ptr::from_ref(schema), std::ptr::from_ref(part.schema))));
    }
    let circles = circles(&steps);
    if steps.iter().any(|(from, to)| circles.get(from) == circles.get(to)) {
        return Err(TooCostly::Circle);
    }
    Ok(())
}

/// A subschema as it is compiled, or as what it evaluated is asked.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Piece {
    Compiled(*const Value),
    Asked(*const Value),
}

/// Refuses what `unevaluated…` keywords keep if a reference leads back to it from within: a validator never gives such a circle
/// back, as each part of it is kept by another.
pub(super) fn refuse_asked<'a>(cost: &'a Cost, schemas: &[(&'a Value, u64)]) -> Result<(), TooCostly> {
    let mut steps = Vec::new();
    let mut followed = Vec::new();
    for &(schema, _) in schemas {
        let here = std::ptr::from_ref(schema);
        let (compiled, asked) = (Piece::Compiled(here), Piece::Asked(here));
        if Own::of(schema).unevaluated > 0 {
            steps.push((compiled, asked));
        }
        for part in cost.parts(schema)?.list {
            let to = std::ptr::from_ref(part.schema);
            steps.push((compiled, Piece::Compiled(to)));
            match part.target {
                Target::Referred => followed.push((asked, Piece::Asked(to))),
                Target::Itself | Target::Branch => {
                    steps.extend([(asked, Piece::Compiled(to)), (asked, Piece::Asked(to))]);
                }
                Target::Members | Target::Elements => steps.push((asked, Piece::Compiled(to))),
                // What is compiled for a pattern is not kept, and of the others the names and places say enough.
                Target::Member(_) | Target::Matching | Target::Names | Target::Element(_) | Target::Items => {}
            }
        }
    }
    steps.extend_from_slice(&followed);
    let circles = circles(&steps);
    if followed.iter().any(|(from, to)| circles.get(from) == circles.get(to)) {
        return Err(TooCostly::Asked);
    }
    Ok(())
}

/// A number for each node. Two have the same one if steps lead from one to the other and back. Looks at each step twice, and needs
/// no stack: ways may be longer than subschemas are deep.
fn circles<N: Copy + Eq + Hash>(steps: &[(N, N)]) -> HashMap<N, usize> {
    let mut ahead: HashMap<N, Vec<N>> = HashMap::new();
    let mut back: HashMap<N, Vec<N>> = HashMap::new();
    for &(from, to) in steps {
        ahead.entry(from).or_default().push(to);
        back.entry(to).or_default().push(from);
    }
    // In the order in which all that they lead to was seen.
    let mut done = Vec::new();
    let mut seen = HashSet::new();
    for &(from, _) in steps {
        let mut open = vec![(from, false)];
        while let Some((node, is_done)) = open.pop() {
            if is_done {
                done.push(node);
            } else if seen.insert(node) {
                open.push((node, true));
                open.extend(ahead.get(&node).into_iter().flatten().map(|next| (*next, false)));
            }
        }
    }
    let mut circles = HashMap::new();
    for (circle, node) in done.into_iter().rev().enumerate() {
        let mut open = vec![node];
        while let Some(node) = open.pop() {
            if let Entry::Vacant(entry) = circles.entry(node) {
                entry.insert(circle);
                open.extend(back.get(&node).into_iter().flatten());
            }
        }
    }
    circles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_have_one_number_that_lead_to_each_other() {
        let steps = [
            (1, 2),
            (2, 3),
            (3, 2),
            (3, 4),
            (4, 5),
            (5, 6),
            (6, 4),
            (7, 7),
            (1, 7),
            (8, 1),
        ];
        let circles = circles(&steps);
        assert_eq!(circles.len(), 8);
        let together = [[2, 3].as_slice(), &[4, 5, 6]];
        for one in 1..=8 {
            for other in 1..=8 {
                let expected = one == other
                    || together
                        .iter()
                        .any(|those| those.contains(&one) && those.contains(&other));
                assert_eq!(circles[&one] == circles[&other], expected, "{one} {other}");
            }
        }
        let long: Vec<(u32, u32)> = (0..100_000).map(|n| (n, (n + 1) % 100_000)).collect();
        assert!(super::circles(&long).values().all(|circle| *circle == 0));
    }
}
