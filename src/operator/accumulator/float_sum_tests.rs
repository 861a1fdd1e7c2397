use proptest::prelude::*;

use super::*;

fn sum(values: &[f64]) -> FloatSum {
    let mut sum = FloatSum::default();
    let grown: usize = values.iter().map(|&value| sum.add(value)).sum();
    assert_eq!(grown, sum.heap());
    sum
}

/// Shewchuk's partials and the final rounding of CPython's `math.fsum`: nothing in common with chunks.
pub(in crate::operator::accumulator) fn fsum(values: &[f64]) -> f64 {
    let mut partials: Vec<f64> = Vec::new();
    for &value in values {
        let mut x = value;
        let mut kept = 0;
        for i in 0..partials.len() {
            let mut y = partials[i];
            if x.abs() < y.abs() {
                std::mem::swap(&mut x, &mut y);
            }
            let high = x + y;
            let low = y - (high - x);
            if low != 0.0 {
                partials[kept] = low;
                kept += 1;
            }
            x = high;
        }
        partials.truncate(kept);
        partials.push(x);
    }
    let Some(mut high) = partials.pop() else { return 0.0 };
    let mut low = 0.0;
    while let Some(y) = partials.pop() {
        let x = high;
        high = x + y;
        low = y - (high - x);
        if low != 0.0 {
            break;
        }
    }
    // Half-way cases: what is left below decides.
    if let Some(rest) = partials.iter().rev().find(|rest| **rest != 0.0)
        && (low < 0.0) == (*rest < 0.0)
        && low != 0.0
    {
        let y = low * 2.0;
        let x = high + y;
        if y == x - high {
            high = x;
        }
    }
    high + 0.0
}

#[test]
fn known_sums() {
    let max = f64::MAX;
    let least = 5e-324;
    let half_place = 2_f64.powi(970); // half of the last place of MAX
    let cases: &[(&[f64], f64)] = &[
        (&[0.1; 10], 1.0),
        (&[1e308, 1e308, -1e308], 1e308),
        (&[max, max, -max], max),
        (&[max, max], f64::INFINITY),
        (&[-max, -max], f64::NEG_INFINITY),
        (&[max, half_place], f64::INFINITY), // ties to even, and the even one is 2^1024
        (&[max, half_place, -least], max),
        (&[max, 2_f64.powi(969)], max),
        (&[least; 3], 1.5e-323),
        (&[least, -1.0, 1.0], least),
        (&[f64::MIN_POSITIVE, -least], f64::MIN_POSITIVE - least),
        (&[f64::MIN_POSITIVE, f64::MIN_POSITIVE, -least], 2.0 * f64::MIN_POSITIVE - least),
        (&[1.0, 2_f64.powi(-53)], 1.0),
        (&[1.0, 2_f64.powi(-53), least], 1.0 + f64::EPSILON),
        (&[1.0, 2_f64.powi(-53), -least], 1.0),
        (&[1.0 + f64::EPSILON, 2_f64.powi(-53)], 1.0 + 2.0 * f64::EPSILON),
        (&[2.0 - f64::EPSILON, 2_f64.powi(-53)], 2.0),
        (&[1e16, 1.0, 1e-16], 10000000000000002.0),
        (&[-0.0], 0.0),
        (&[-0.0, -0.0], 0.0),
        (&[], 0.0),
        (&[1e100, 1.0, -1e100, 1e-50], 1.0),
    ];
    for (values, expected) in cases {
        assert_eq!(sum(values).round().to_bits(), expected.to_bits(), "{values:?}");
        let negated: Vec<f64> = values.iter().map(|value| -value).collect();
        assert_eq!(sum(&negated).round(), -expected, "{negated:?}");
    }
}

#[test]
fn what_is_not_finite_follows_ieee_in_every_order() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    for (values, expected) in [
        (vec![inf, 1.0], inf),
        (vec![-inf, f64::MAX, f64::MAX], -inf),
        (vec![inf, -inf], nan),
        (vec![-nan, 1.0], nan),
        (vec![nan, inf], nan),
    ] {
        let mut reversed = values.clone();
        reversed.reverse();
        assert_eq!(sum(&values).round().to_bits(), expected.to_bits(), "{values:?}");
        assert_eq!(sum(&reversed).round().to_bits(), expected.to_bits(), "{values:?}");
    }
}

#[test]
fn carries_are_moved_before_a_chunk_overflows() {
    for value in [f64::from_bits(0x3fff_ffff_ffff_ffff), -f64::from_bits(0x3fff_ffff_ffff_ffff), f64::MAX / 4.0] {
        let mut total = sum(&[value]);
        // As if it had been added so often: every chunk is as large as it can get.
        for chunk in &mut total.window {
            *chunk *= i64::from(LIMIT);
        }
        total.pending = LIMIT;
        let mut twice = total.clone();
        twice.add(value);
        twice.add(-value);
        assert_eq!(twice.round(), value * f64::from(LIMIT), "{value}");
        assert_eq!(twice.digits(), total.digits());
        assert!(twice.pending <= 3 && twice.wide.is_some());
        let mut merged = total.clone();
        merged.add_digits(&total.digits());
        assert_eq!(merged.round(), value * 2.0 * f64::from(LIMIT), "{value}");
    }
}

fn any_float() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (-1_000_000i64..1_000_000).prop_map(|cents| cents as f64 / 100.0),
        2 => (any::<u64>(), 0u64..1984).prop_map(|(bits, exponent)| f64::from_bits(bits & 0x800f_ffff_ffff_ffff | exponent << 52)),
        2 => (any::<bool>(), -60i32..60).prop_map(|(negative, power)| if negative { -1.0 } else { 1.0 } * 2_f64.powi(power)),
        1 => (any::<u64>()).prop_map(|bits| f64::from_bits(bits & 0x800f_ffff_ffff_ffff)),
        1 => Just(-0.0),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn sums_are_those_of_fsum(mut values in proptest::collection::vec(any_float(), 0..40), cancel in any::<bool>(), turn in 0usize..40) {
        if cancel {
            let negated: Vec<f64> = values.iter().skip(1).map(|value| -value).collect();
            values.extend(negated);
        }
        let expected = fsum(&values);
        let whole = sum(&values);
        prop_assert_eq!(whole.round().to_bits(), expected.to_bits());
        let turn = turn.min(values.len());
        values.rotate_left(turn);
        // In two partials, one of them taken apart and put together again.
        let (a, b) = values.split_at(values.len() / 3);
        let (mut merged, other) = (sum(a), sum(b).digits());
        let (first, digits) = other.parts();
        let other = Digits::read(other.negative, first, digits.iter().copied()).expect("what was written");
        merged.add_digits(&other);
        prop_assert_eq!(merged.round().to_bits(), expected.to_bits());
        prop_assert_eq!(merged.digits(), whole.digits());
    }
}
