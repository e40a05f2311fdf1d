//! [`Context`]: what an op may know of its surroundings: where memory comes from, whether a backward pass will follow,
//! whether it may use other threads, and which random numbers belong to the samples at hand.

use std::sync::Arc;

use crate::buffer_pool::BufferPool;
use crate::conv::ConvAlgorithm;
use crate::rng::{Purpose, RandomStream};

/// The surroundings of a forward or backward pass.
#[derive(Debug, Clone)]
pub struct Context {
    /// The source of storage.
    pub pool: Arc<BufferPool>,
    /// Has ops keep what their backward pass needs.
    pub grad_enabled: bool,
    /// Has dropout drop.
    pub training: bool,
    /// Allows kernels to spread one image's work over rayon's threads. Off inside a micro-batch that has one worker to
    /// itself. Results do not depend on it.
    pub parallel: bool,
    /// The convolution algorithm that is used.
    pub conv: ConvAlgorithm,
    /// The seed of the run.
    pub seed: u64,
    /// The epoch, counted from 0.
    pub epoch: u64,
    /// The data set's index of each image in the batch at hand; empty where nothing random is drawn.
    pub samples: Vec<u64>,
}

impl Context {
    /// A context that records and trains, with memory from `pool`.
    #[must_use]
    pub fn training(pool: Arc<BufferPool>) -> Self {
        Self {
            pool,
            grad_enabled: true,
            training: true,
            parallel: false,
            conv: ConvAlgorithm::Auto,
            seed: 0,
            epoch: 0,
            samples: Vec::new(),
        }
    }

    /// A context that keeps nothing for a backward pass and drops nothing out.
    #[must_use]
    pub fn evaluation(pool: Arc<BufferPool>) -> Self {
        Self { grad_enabled: false, training: false, ..Self::training(pool) }
    }

    /// The source of storage.
    #[must_use]
    pub fn pool(&self) -> &Arc<BufferPool> {
        &self.pool
    }

    /// The random numbers of the batch's image `row` for `purpose`.
    ///
    /// Images beyond [`Context::samples`] count as samples of their own row, so that a forward pass outside of a training run
    /// needs no bookkeeping.
    #[must_use]
    pub fn random(&self, purpose: Purpose, row: usize) -> RandomStream {
        let sample = self.samples.get(row).copied().unwrap_or(row as u64);
        RandomStream::new(self.seed, self.epoch, purpose, sample)
    }
}

impl Default for Context {
    /// [`Context::training`] with the process's pool.
    fn default() -> Self {
        Self::training(Arc::clone(BufferPool::global()))
    }
}
