//! Plain Rust loops, compiled once per instruction set.
//!
//! The compiler vectorises a simple loop well, but for the baseline of the target (SSE2 on x86-64). A [`Kernel`] run by
//! [`run`] is compiled three times, and the processor's best is picked at run time. No result depends on which: Rust never
//! contracts or reorders floating-point operations.
#![allow(unsafe_code)]

use super::Isa;

/// A loop worth compiling per instruction set. `run`, and what it calls, should be `#[inline(always)]`.
pub(crate) trait Kernel {
    /// Does the work.
    fn run(self);
}

/// Runs the kernel, compiled for the instruction set of this process.
pub(crate) fn run<K: Kernel>(kernel: K) {
    match Isa::current() {
        // SAFETY: the variant carries the proof that the processor has the function's instructions.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(_) => unsafe { with_avx512(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(_) => unsafe { with_avx2(kernel) },
        _ => kernel.run(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
fn with_avx512<K: Kernel>(kernel: K) {
    kernel.run();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn with_avx2<K: Kernel>(kernel: K) {
    kernel.run();
}
