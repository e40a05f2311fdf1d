//! Work that rayon's threads share, where a [`Context`](crate::Context) allows it: one rule for how it is cut, and by whom it is
//! done. A cut decides nothing but the time.

use rayon::prelude::*;

/// The threads that work may be spread over.
pub(crate) fn count(parallel: bool) -> usize {
    if parallel { rayon::current_num_threads() } else { 1 }
}

/// The units that each thread takes of so many, at least one: all, unless `parallel`.
pub(crate) fn units_each(parallel: bool, units: usize) -> usize {
    units.div_ceil(count(parallel)).max(1)
}

/// Does pieces of work: several of them on rayon's threads, one alone on this.
pub(crate) fn spread<P: Send>(pieces: impl Iterator<Item = P>, work: impl Fn(P) + Send + Sync) {
    let pieces: Vec<P> = pieces.collect();
    if pieces.len() > 1 {
        pieces.into_par_iter().for_each(work);
    } else {
        pieces.into_iter().for_each(work);
    }
}
