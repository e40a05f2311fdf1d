//! Run-time detection of the processor's vector instructions, without any compiler flag.
//!
//! A kernel written with AVX-512 intrinsics must never run on a processor that lacks them. Detection therefore hands
//! out *proof tokens*: [`Avx512`] and [`Avx2`] have a private field, so the only way to own one is to have asked the
//! processor. A function that takes a token needs no further check.
//!
//! [`Isa`] is the choice as a plain value: what a kernel is selected by, and what a test iterates over
//! ([`Isa::available`]).

pub(crate) mod dispatch;

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

/// Name of the environment variable that forces an instruction set: `portable`, `avx2` or `avx512`.
pub const ISA_VARIABLE: &str = "NIN_ISA";

/// Proof that this processor executes AVX-512 (F, VL, DQ, BW) as well as AVX2 and FMA.
#[derive(Clone, Copy, Debug)]
pub struct Avx512(());

impl Avx512 {
    /// The proof, or `None` where the processor lacks one of the extensions.
    #[must_use]
    pub fn detect() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        {
            let all = std::arch::is_x86_feature_detected!("avx512f")
                && std::arch::is_x86_feature_detected!("avx512vl")
                && std::arch::is_x86_feature_detected!("avx512dq")
                && std::arch::is_x86_feature_detected!("avx512bw");
            (all && Avx2::detect().is_some()).then_some(Self(()))
        }
        #[cfg(not(target_arch = "x86_64"))]
        None
    }
}

/// Proof that this processor executes AVX2 and FMA.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

impl Avx2 {
    /// The proof, or `None` where the processor lacks one of the two extensions.
    #[must_use]
    pub fn detect() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        {
            (std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma"))
                .then_some(Self(()))
        }
        #[cfg(not(target_arch = "x86_64"))]
        None
    }
}

/// An instruction set this process may use; the vector variants carry their proof.
#[derive(Clone, Copy, Debug)]
pub enum Isa {
    /// Plain Rust, vectorised by the compiler for the baseline of the target.
    Portable,
    /// 8 lanes of f32, fused multiply-add.
    Avx2(Avx2),
    /// 16 lanes of f32, 32 registers, masks.
    Avx512(Avx512),
}

/// Why an instruction set asked for by name cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    /// The name is none of those known.
    #[error("unknown instruction set {name:?}: expected portable, avx2 or avx512")]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The name is known, but this processor cannot execute it.
    #[error("this processor has no {name}; available: {available}")]
    Unavailable {
        /// What was asked for.
        name: String,
        /// Names of what can be used, separated by commas.
        available: String,
    },
}

impl Isa {
    /// The fastest instruction set of this processor.
    #[must_use]
    pub fn best() -> Self {
        if let Some(token) = Avx512::detect() {
            return Self::Avx512(token);
        }
        Avx2::detect().map_or(Self::Portable, Self::Avx2)
    }

    /// Every instruction set of this processor, the slowest (always [`Isa::Portable`]) first. Tests run over all.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let mut all = vec![Self::Portable];
        all.extend(Avx2::detect().map(Self::Avx2));
        all.extend(Avx512::detect().map(Self::Avx512));
        all
    }

    /// What the environment variable `NIN_ISA` asks for, or [`Isa::best`] where it is unset or empty.
    ///
    /// # Errors
    /// [`IsaError`] if the name is unknown or the processor lacks it. A command-line program should call this first and
    /// report the error; [`Isa::current`] falls back instead.
    pub fn from_environment() -> Result<Self, IsaError> {
        match std::env::var_os(ISA_VARIABLE) {
            Some(name) if !name.is_empty() => name.to_string_lossy().parse(),
            _ => Ok(Self::best()),
        }
    }

    /// The instruction set of this process: [`Isa::from_environment`], asked once. If `NIN_ISA` names something that
    /// cannot be used, a line on standard error says so, once, and [`Isa::best`] is used.
    #[must_use]
    pub fn current() -> Self {
        static CURRENT: OnceLock<Isa> = OnceLock::new();
        *CURRENT.get_or_init(|| {
            Self::from_environment().unwrap_or_else(|error| {
                let best = Self::best();
                eprintln!("{ISA_VARIABLE}: {error}; using {best}");
                best
            })
        })
    }

    /// The name by which [`ISA_VARIABLE`] knows this instruction set.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2(_) => "avx2",
            Self::Avx512(_) => "avx512",
        }
    }
}

impl PartialEq for Isa {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Isa {}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isa {
    type Err = IsaError;

    fn from_str(name: &str) -> Result<Self, IsaError> {
        let found = match name {
            "portable" => Some(Self::Portable),
            "avx2" => Avx2::detect().map(Self::Avx2),
            "avx512" => Avx512::detect().map(Self::Avx512),
            _ => return Err(IsaError::Unknown { name: name.to_owned() }),
        };
        found.ok_or_else(|| IsaError::Unavailable {
            name: name.to_owned(),
            available: Self::available().iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portable_is_always_first_and_best_is_always_last() {
        let all = Isa::available();
        assert_eq!(all.first(), Some(&Isa::Portable));
        assert_eq!(all.last(), Some(&Isa::best()));
    }

    #[test]
    fn names_of_available_sets_parse_back() {
        for isa in Isa::available() {
            assert_eq!(isa.name().parse(), Ok(isa));
        }
    }

    #[test]
    fn unknown_name_is_refused_with_the_names_known() {
        let error = "sse9".parse::<Isa>().unwrap_err();
        assert_eq!(error, IsaError::Unknown { name: "sse9".into() });
        assert!(error.to_string().contains("portable, avx2 or avx512"));
    }
}
