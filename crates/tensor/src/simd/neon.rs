//! NEON: four lanes, 32 registers, multiply-adds with one lane of a register.
#![allow(clippy::pointers_in_nomem_asm_block, reason = "a hint is given an address and reads nothing there")]

use std::arch::aarch64::*;

use super::{Kernel, Registers, Simd};

token! {
    /// Proof that this processor executes NEON, as every one of 64 bits does.
    Neon, is_aarch64_feature_detected: "neon"
}

impl Simd for Neon {
    type Vector = float32x4_t;
    type Square = [float32x4_t; 4];
    type Mask = usize;
    const REGISTERS: Registers = Registers { lanes: 4, tile_rows: [0, 12, 12, 8, 6], tile_vectors: 3, rows_by_row: 7 };

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) {
        self.compiled(kernel);
    }

    #[inline(always)]
    fn mask(self, count: usize) -> usize {
        count.min(4)
    }

    instructions! {
        splat(value: f32) -> float32x4_t { vdupq_n_f32(value) }
        add(a: float32x4_t, b: float32x4_t) -> float32x4_t { vaddq_f32(a, b) }
        sub(a: float32x4_t, b: float32x4_t) -> float32x4_t { vsubq_f32(a, b) }
        mul(a: float32x4_t, b: float32x4_t) -> float32x4_t { vmulq_f32(a, b) }
        mul_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t { vfmaq_f32(c, b, a) }
        neg_mul_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t { vfmsq_f32(c, b, a) }
        mul_sub(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t { vfmaq_f32(vnegq_f32(c), b, a) }
        // Not the instruction of that name, which answers NaN if either is.
        max(a: float32x4_t, b: float32x4_t) -> float32x4_t { vbslq_f32(vcgtq_f32(a, b), a, b) }
        square() -> [float32x4_t; 4] { [vdupq_n_f32(0.0); 4] }
        // There is no intrinsic for these in stable Rust.
        prefetch(at: *const f32) {
            std::arch::asm!("prfm pldl1keep, [{}]", in(reg) at, options(nomem, nostack, preserves_flags))
        }
        prefetch_far(at: *const f32) {
            std::arch::asm!("prfm pldl2keep, [{}]", in(reg) at, options(nomem, nostack, preserves_flags))
        }
        transpose(s: [float32x4_t; 4]) -> [float32x4_t; 4] {{
            let [a, b, c, d] = s;
            // Lanes of neighboring rows change places, then halves of those that are two apart.
            let (ab_even, ab_odd) = (vtrn1q_f32(a, b), vtrn2q_f32(a, b));
            let (cd_even, cd_odd) = (vtrn1q_f32(c, d), vtrn2q_f32(c, d));
            [
                vcombine_f32(vget_low_f32(ab_even), vget_low_f32(cd_even)),
                vcombine_f32(vget_low_f32(ab_odd), vget_low_f32(cd_odd)),
                vcombine_f32(vget_high_f32(ab_even), vget_high_f32(cd_even)),
                vcombine_f32(vget_high_f32(ab_odd), vget_high_f32(cd_odd)),
            ]
        }}
    }

    /// Loads four neighbors at once, of which each multiply-add then takes a lane.
    #[inline(always)]
    unsafe fn broadcast_at<const N: usize>(self, from: *const f32, i: usize) -> float32x4_t {
        let group = i / 4 * 4;
        // SAFETY: the token proves the instruction set; the caller promises `N` values, and `i < N`.
        unsafe {
            if group + 4 > N {
                return vld1q_dup_f32(from.add(i));
            }
            let four = vld1q_f32(from.add(group));
            match i % 4 {
                0 => vdupq_laneq_f32::<0>(four),
                1 => vdupq_laneq_f32::<1>(four),
                2 => vdupq_laneq_f32::<2>(four),
                _ => vdupq_laneq_f32::<3>(four),
            }
        }
    }

    memory_instructions! {
        load_at(from: *const f32) -> float32x4_t { vld1q_f32(from) }
        // By cases: a copy of so many bytes would be a call, before which a loop spills all that it holds in registers.
        load_masked_at(from: *const f32, count: usize) -> float32x4_t {{
            match count {
                0 => vdupq_n_f32(0.0),
                1 => vld1q_lane_f32::<0>(from, vdupq_n_f32(0.0)),
                2 => vcombine_f32(vld1_f32(from), vdup_n_f32(0.0)),
                3 => vld1q_lane_f32::<2>(from.add(2), vcombine_f32(vld1_f32(from), vdup_n_f32(0.0))),
                _ => vld1q_f32(from),
            }
        }}
        store_at(to: *mut f32, value: float32x4_t) { vst1q_f32(to, value) }
        store_masked_at(to: *mut f32, count: usize, value: float32x4_t) {{
            match count {
                0 => {}
                1 => vst1q_lane_f32::<0>(to, value),
                2 => vst1_f32(to, vget_low_f32(value)),
                3 => {
                    vst1_f32(to, vget_low_f32(value));
                    vst1q_lane_f32::<2>(to.add(2), value);
                }
                _ => vst1q_f32(to, value),
            }
        }}
    }
}
