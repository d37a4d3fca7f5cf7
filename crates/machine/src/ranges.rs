//! Algebra of sets of bytes, each a sorted list of disjoint ranges.
//!
//! [`normalise`] makes such a list out of any; the other functions take lists
//! in that form and return lists in that form, by one linear merge of the parts that meet. Fed with
//! other lists they return something useless, but they return.

use identmap::PhysRange;

/// Sorts, and merges what overlaps or touches.
#[must_use]
pub fn normalise(mut ranges: Vec<PhysRange>) -> Vec<PhysRange> {
    ranges.sort_unstable();
    let mut out: Vec<PhysRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        push(&mut out, range);
    }
    out
}

/// The bytes in `a` or in `b`.
#[must_use]
pub fn union(a: &[PhysRange], b: &[PhysRange]) -> Vec<PhysRange> {
    let mut out = Vec::with_capacity(a.len() + b.len());
    let (mut rest_a, mut rest_b) = (a, b);
    loop {
        match (rest_a.split_first(), rest_b.split_first()) {
            (Some((&x, tail)), Some((&y, _))) if x <= y => {
                push(&mut out, x);
                rest_a = tail;
            }
            (_, Some((&y, tail))) => {
                push(&mut out, y);
                rest_b = tail;
            }
            (Some((&x, tail)), None) => {
                push(&mut out, x);
                rest_a = tail;
            }
            (None, None) => return out,
        }
    }
}

/// The bytes in `a` and in `b`.
#[must_use]
pub fn intersect(a: &[PhysRange], b: &[PhysRange]) -> Vec<PhysRange> {
    let mut out = Vec::new();
    let mut rest_a = near(a, b);
    let mut rest_b = near(b, rest_a);
    while let (Some((&x, tail_a)), Some((&y, tail_b))) =
        (rest_a.split_first(), rest_b.split_first())
    {
        out.extend(x.intersection(y));
        if x.end() <= y.end() {
            rest_a = tail_a;
        } else {
            rest_b = tail_b;
        }
    }
    out
}

/// The bytes in `a` that are not in `b`.
#[must_use]
pub fn subtract(a: &[PhysRange], b: &[PhysRange]) -> Vec<PhysRange> {
    let mut out = Vec::with_capacity(a.len());
    let mut rest_b = near(b, a);
    for &whole in a {
        let mut left = Some(whole);
        while let (Some(current), Some((&hole, tail))) = (left, rest_b.split_first()) {
            if hole.start() >= current.end() {
                break;
            }
            let (below, above) = current.subtract(hole);
            if hole.end() > current.start() {
                out.extend(below);
            }
            left = above;
            // A hole that reaches past this range may reach into the next one.
            if hole.end() > whole.end() {
                break;
            }
            rest_b = tail;
        }
        out.extend(left);
    }
    out
}

/// The bytes in the set. At most 2^52, so the sum cannot overflow where the list is disjoint; it saturates elsewhere.
#[must_use]
pub fn total(ranges: &[PhysRange]) -> u64 {
    ranges.iter().fold(0, |sum, range| sum.saturating_add(range.len()))
}

/// The part of `list` between the ends of `other`: a few ranges are held against a long list in no time.
fn near<'a>(list: &'a [PhysRange], other: &[PhysRange]) -> &'a [PhysRange] {
    let (Some(first), Some(end)) = (other.first(), other.last().map(|range| range.end())) else {
        return &[];
    };
    let from = list.partition_point(|range| range.end() <= first.start());
    let to = list.partition_point(|range| range.start() < end);
    list.get(from..to).unwrap_or_default()
}

/// Appends a range that starts at or after the last one's start.
fn push(out: &mut Vec<PhysRange>, range: PhysRange) {
    if let Some(last) = out.last_mut()
        && let Some(merged) = last.merged(range)
    {
        *last = merged;
    } else {
        out.push(range);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    /// The set as a bitmap of 64 bytes of memory.
    fn bits(set: &[PhysRange]) -> u64 {
        set.iter().flat_map(|r| r.start().get()..r.end().get()).fold(0, |m, b| m | 1 << b)
    }

    fn well_formed(set: &[PhysRange]) -> bool {
        set.windows(2).all(|w| w[0].end() < w[1].start())
    }

    fn any_list(random: &mut Random) -> Vec<PhysRange> {
        (0..random.below(9))
            .map(|_| {
                let start = random.below(64);
                PhysRange::from_len(start, 1 + random.below((64 - start).min(20))).unwrap()
            })
            .collect()
    }

    #[test]
    fn agrees_with_bitmaps() {
        let mut random = Random::new(1);
        for _ in 0..20_000 {
            let (raw_a, raw_b) = (any_list(&mut random), any_list(&mut random));
            let (a, b) = (normalise(raw_a.clone()), normalise(raw_b.clone()));
            assert_eq!(bits(&a), bits(&raw_a));
            assert!(well_formed(&a));
            let (ba, bb) = (bits(&a), bits(&b));
            for (name, got, want) in [
                ("union", union(&a, &b), ba | bb),
                ("intersect", intersect(&a, &b), ba & bb),
                ("subtract", subtract(&a, &b), ba & !bb),
            ] {
                assert_eq!(bits(&got), want, "{name} of {a:?} and {b:?}");
                assert!(well_formed(&got), "{name} of {a:?} and {b:?} is {got:?}");
                assert_eq!(total(&got), u64::from(want.count_ones()));
            }
        }
    }

    #[test]
    fn one_hole_cuts_several_ranges() {
        let r = |s, e| PhysRange::new(s, e).unwrap();
        let a = [r(0, 10), r(20, 30), r(40, 50)];
        assert_eq!(subtract(&a, &[r(5, 45)]), [r(0, 5), r(45, 50)]);
        assert_eq!(
            subtract(&a, &[r(9, 21), r(22, 23)]),
            [r(0, 9), r(21, 22), r(23, 30), r(40, 50)]
        );
        assert_eq!(subtract(&a, &[]), a);
    }

    #[test]
    fn unsorted_lists_do_no_harm() {
        let mut random = Random::new(2);
        for _ in 0..5_000 {
            let (a, b) = (any_list(&mut random), any_list(&mut random));
            let _ = (union(&a, &b), intersect(&a, &b), subtract(&a, &b), total(&a));
        }
    }
}
