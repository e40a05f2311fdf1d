//! Plain Rust: four lanes, which the compiler turns into whatever vectors the target always has (SSE2, simd128).

use super::{Kernel, Registers, Simd};

/// The vector unit that every target has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portable(());

impl Portable {
    /// Plain Rust runs everywhere.
    #[must_use]
    pub fn detect() -> Option<Self> {
        Some(Self(()))
    }
}

/// Four f32.
type F32x4 = [f32; 4];

/// `f` of each pair of lanes.
#[inline(always)]
fn lanewise(a: F32x4, b: F32x4, f: impl Fn(f32, f32) -> f32) -> F32x4 {
    [f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])]
}

/// `a b + c`: fused where the target always has the instruction (elsewhere it is a call into the mathematics library, some fifty
/// times slower), else rounded twice.
#[inline(always)]
fn multiply_add(a: F32x4, b: F32x4, c: F32x4) -> F32x4 {
    if Portable::FUSED {
        let one = |i: usize| a[i].mul_add(b[i], c[i]);
        return [one(0), one(1), one(2), one(3)];
    }
    lanewise(lanewise(a, b, |a, b| a * b), c, |product, c| product + c)
}

impl Simd for Portable {
    type Vector = F32x4;
    type Square = [F32x4; 4];
    type Mask = usize;
    const REGISTERS: Registers = Registers { lanes: 4, tile_rows: [0, 4, 4, 0, 0], tile_vectors: 2, rows_by_row: 4 };
    const FUSED: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));

    fn call<K: Kernel>(self, kernel: K) {
        #[inline(never)]
        fn run<K: Kernel>(kernel: K, s: Portable) {
            kernel.run(s);
        }
        run(kernel, self);
    }

    instructions! {
        plain:
        splat(value: f32) -> F32x4 { [value; 4] }
        add(a: F32x4, b: F32x4) -> F32x4 { lanewise(a, b, |a, b| a + b) }
        sub(a: F32x4, b: F32x4) -> F32x4 { lanewise(a, b, |a, b| a - b) }
        mul(a: F32x4, b: F32x4) -> F32x4 { lanewise(a, b, |a, b| a * b) }
        mul_add(a: F32x4, b: F32x4, c: F32x4) -> F32x4 { multiply_add(a, b, c) }
        neg_mul_add(a: F32x4, b: F32x4, c: F32x4) -> F32x4 { multiply_add(lanewise(a, a, |a, _| -a), b, c) }
        mul_sub(a: F32x4, b: F32x4, c: F32x4) -> F32x4 { multiply_add(a, b, lanewise(c, c, |c, _| -c)) }
        max(a: F32x4, b: F32x4) -> F32x4 { lanewise(a, b, |a, b| if a > b { a } else { b }) }
        transpose(s: [F32x4; 4]) -> [F32x4; 4] {{
            let [a, b, c, d] = s;
            let column = |i: usize| [a[i], b[i], c[i], d[i]];
            [column(0), column(1), column(2), column(3)]
        }}
        square() -> [F32x4; 4] { [[0.0; 4]; 4] }
        mask(count: usize) -> usize { count.min(4) }
        prefetch(_at: *const f32) {{}}
        prefetch_far(_at: *const f32) {{}}
    }

    memory_instructions! {
        // An array of f32 needs no more alignment than one.
        load_at(from: *const f32) -> F32x4 { from.cast::<F32x4>().read() }
        load_masked_at(from: *const f32, count: usize) -> F32x4 {
            std::array::from_fn(|i| if i < count { *from.add(i) } else { 0.0 })
        }
        store_at(to: *mut f32, value: F32x4) { to.cast::<F32x4>().write(value) }
        store_masked_at(to: *mut f32, count: usize, value: F32x4) {
            for (i, value) in value.into_iter().enumerate().take(count) {
                to.add(i).write(value);
            }
        }
    }
}
