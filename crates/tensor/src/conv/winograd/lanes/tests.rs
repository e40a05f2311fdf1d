use super::*;

/// Checks every method of the vector unit lane by lane.
struct CheckLanes;

impl Job for CheckLanes {
    #[inline(always)]
    fn run<S: Lanes>(self, lanes: S) {
        let n = S::LANES;
        let a: Vec<f32> = (0..n).map(|i| i as f32 * 1.5 - 4.0).collect();
        let b: Vec<f32> = (0..n).map(|i| 3.0 - i as f32).collect();
        let (va, vb) = (lanes.load(&a), lanes.load(&b));
        let stored = |v: S::Vector| {
            let mut out = vec![f32::NAN; n];
            v.store(&mut out);
            out
        };
        let zip = |op: fn(f32, f32) -> f32| a.iter().zip(&b).map(|(&a, &b)| op(a, b)).collect::<Vec<_>>();
        assert_eq!(stored(va + vb), zip(|a, b| a + b));
        assert_eq!(stored(va - vb), zip(|a, b| a - b));
        assert_eq!(stored(va * vb), zip(|a, b| a * b));
        assert_eq!(stored(va.mul_add(vb, va)), zip(|a, b| a * b + a));
        assert_eq!(stored(va.neg_mul_add(vb, va)), zip(|a, b| a - a * b));
        assert_eq!(stored(va.mul_sub(vb, va)), zip(|a, b| a * b - a));
        assert_eq!(stored(va.max(vb)), zip(f32::max));
        assert_eq!(stored(va.where_positive(vb)), zip(|a, b| if b > 0.0 { a } else { 0.0 }));
        let nan = lanes.splat(f32::NAN);
        assert_eq!(stored(va.where_positive(nan)), vec![0.0; n]);
        assert_eq!(stored(nan.max(va)), a);
        for count in 0..=n {
            let mut expected = vec![0.0; n];
            expected[..count].copy_from_slice(&a[..count]);
            assert_eq!(stored(lanes.load_partial(&a[..count])), expected, "{count} of {n} lanes read");
            let mut out = vec![-1.0; n];
            va.store_partial(&mut out[..count]);
            expected[count..].fill(-1.0);
            assert_eq!(out, expected, "{count} of {n} lanes written");
        }
        let mut square = lanes.zeros();
        for (i, row) in square.as_mut().iter_mut().enumerate() {
            let values: Vec<f32> = (0..n).map(|j| (i * n + j) as f32).collect();
            *row = lanes.load(&values);
        }
        for (j, row) in lanes.transpose(square).as_ref().iter().enumerate() {
            let expected: Vec<f32> = (0..n).map(|i| (i * n + j) as f32).collect();
            assert_eq!(stored(*row), expected, "row {j} of the transposed square");
        }
    }
}

#[test]
fn every_vector_unit_agrees_with_scalars() {
    for isa in Isa::available() {
        dispatch(isa, CheckLanes);
    }
}
