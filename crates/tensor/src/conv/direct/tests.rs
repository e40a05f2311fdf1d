//! Products whose packing reads the image, against the naive loop.

use proptest::prelude::*;

use super::*;
use crate::conv::reference::{Case, geometries};
use crate::conv::{Chain, ConvAlgorithm, Convolution, chain};
use crate::gemm::reference::random;
use crate::shape::Shape;
use crate::sink::{GradientSum, Sinks};
use crate::tensor::Tensor;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn all_passes_agree_with_the_naive_loop(
        g in geometries([1..4, 1..5, 1..4], [1..15, 1..15]), seed: u64, with: [bool; 2], parallel: bool,
    ) {
        let (pool, case) = (BufferPool::poisoning(), Case::new(g, random, seed, with));
        for isa in Isa::available() {
            let [mut y, mut dx, ..] = case.places();
            let packed = |pass| {
                let mut packed = PackedWeights::default();
                packed.fill(&pool, isa, &g, pass, &case.w);
                Arc::new(packed)
            };
            convolve(&pool, &packed(Pass::Forward), &g, &case.x, case.epilogue(), parallel, &mut y);

            let packed = packed(Pass::InputGradient);
            if g.is_pointwise() || g.flips() {
                convolve(&pool, &packed, &g.of(Pass::InputGradient), &case.dy, Epilogue::default(), parallel, &mut dx);
            } else {
                scatter(&pool, &packed, &g, &case.dy, parallel, &mut dx);
            }

            let [x, w] = [(g.input_shape(), &case.x), (g.weight_shape(), &case.w)]
                .map(|(shape, data)| Tensor::from_slice(shape, data).unwrap());
            let (geometry, algorithm) = (g, ConvAlgorithm::Direct);
            let layers = [Convolution { geometry, algorithm, weight: &w, bias: None, relu: false }];
            let chain = Chain { layers: &layers, x: &x, outputs: &[] };
            let gradients = |weights| {
                let mut sums = [GradientSum::new(), GradientSum::new()];
                let sinks = &mut Sinks::new(&mut sums, &[Some(0), Some(1)]);
                let dx = chain::backward(&pool, isa, &chain, &[weights], &case.dy, sinks);
                (dx, sums.map(|sum| sum.finish(&pool).unwrap()))
            };
            let (none, [dw, db]) = gradients(None);
            prop_assert!(none.is_none());
            case.check([&y, &dx, dw.data(), db.data()], isa.name());
            if g.is_pointwise() {
                let (all, sums) = gradients(Some(packed));
                let all = all.unwrap();
                prop_assert_eq!(all.data(), &*dx, "{}: dx at once", isa);
                prop_assert_eq!(&sums, &[dw, db], "{}: all at once", isa);
            }
        }
    }
}

/// Of other groups of the same size: of fewer, weights of before would be left behind them.
#[test]
fn packed_weights_stay_of_as_many_groups() {
    let pool = BufferPool::new();
    let geometry = |groups: usize| {
        let (x, w) = (Shape::from([1, 2 * groups, 3, 3]), Shape::from([2 * groups, 2, 1, 1]));
        ConvGeometry::new(x, w, [1; 2], [0; 2], [1; 2], groups).unwrap()
    };
    for [before, after] in [[4, 2], [2, 4]] {
        let fill = |packed: &mut PackedWeights, groups: usize| {
            let g = geometry(groups);
            packed.fill(&pool, Isa::available()[0], &g, Pass::Forward, &vec![1.0; g.weight_len()]);
        };
        let mut packed = PackedWeights::default();
        fill(&mut packed, before);
        fill(&mut packed, before);
        let other = std::panic::AssertUnwindSafe(|| fill(&mut packed, after));
        assert!(std::panic::catch_unwind(other).is_err(), "{before} groups, then {after}");
    }
}
