//! The macros that the files of instruction sets are made with: the token, and methods of [`Simd`](super::Simd) by the
//! instructions.
#![allow(unused_macros, reason = "a target may have plain Rust alone")]

/// Makes the token of an instruction set from its one list of features, which detection and compilation share.
macro_rules! token {
    ($(#[$doc:meta])* $token:ident, $detected:ident: $($feature:tt)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $token(());

        impl $token {
            /// The proof, or `None` where the processor lacks one of the features.
            #[must_use]
            pub fn detect() -> Option<Self> {
                ($(std::arch::$detected!($feature))&&*).then_some(Self(()))
            }

            /// See [`Simd::call`](super::Simd::call).
            fn compiled<K: super::Kernel>(self, kernel: K) {
                #[inline(never)]
                $(#[target_feature(enable = $feature)])*
                fn run<K: super::Kernel>(kernel: K, s: $token) {
                    kernel.run(s);
                }
                // SAFETY: only `detect` makes the token, and only where the processor has all of these features.
                unsafe { run(kernel, self) }
            }
        }
    };
}

/// Methods of [`Simd`] that are an expression of instructions each and touch no memory but by a hint; after `plain:`, of plain
/// Rust.
macro_rules! instructions {
    (plain: $($name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? { $body:expr })*) => {$(
        #[inline(always)]
        fn $name(self $(, $argument: $type)*) $(-> $result)? {
            $body
        }
    )*};
    ($($name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? { $body:expr })*) => {$(
        #[inline(always)]
        fn $name(self $(, $argument: $type)*) $(-> $result)? {
            // SAFETY: `self` is made by detection alone, so the processor has the instructions; they work on registers, or
            // are hints that are without effect on the program for any address.
            unsafe { $body }
        }
    )*};
}

/// The unsafe methods of [`Simd`]: an expression of instructions each that reads or writes what the caller answers for.
macro_rules! memory_instructions {
    ($($name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? { $body:expr })*) => {$(
        #[inline(always)]
        unsafe fn $name(self $(, $argument: $type)*) $(-> $result)? {
            // SAFETY: `self` is made by detection alone, so the processor has the instructions; the caller promises what the
            // method's own Safety section says of its addresses: no other lanes are touched.
            unsafe { $body }
        }
    )*};
}
