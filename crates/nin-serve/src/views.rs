//! What is done with images beside the network, on threads of its own: reading them, and drawing maps.

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use nin::data::Picture;
use nin::{BlockMaps, ClassMaps, Classifier};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::Limits;
use crate::body::Received;
use crate::error::Refusal;

/// The longer side of an image under its class maps, in pixels: small ones are enlarged by a whole factor up to this, large ones are
/// made smaller.
const SHOWN: usize = 320;

/// Pixels up to which an image is read beside others.
const SMALL: u64 = 1 << 20;

/// Threads that read small images and draw.
const THREADS: usize = 2;

/// An image as it was sent, in the two forms that are of use.
#[derive(Debug)]
pub(crate) struct Read {
    /// As the network sees it.
    pub(crate) fitted: Picture,
    /// As maps are drawn over it.
    pub(crate) shown: Picture,
}

/// Threads for images. Large ones have one of their own, so that small ones need not wait for them.
#[derive(Debug)]
pub(crate) struct Studio {
    small: Lane,
    large: Lane,
    draw: Lane,
    pixels: u64,
}

/// So many things at a time, and so many more that may wait.
#[derive(Debug)]
struct Lane {
    places: Semaphore,
    running: Arc<Semaphore>,
}

impl Lane {
    fn new(running: usize, waiting: usize) -> Self {
        Self { places: Semaphore::new(running + waiting), running: Arc::new(Semaphore::new(running)) }
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
        let _place = self.places.try_acquire().map_err(|_| Refusal::Busy)?;
        let running = Arc::clone(&self.running).acquire_owned().await.expect("it is never closed");
        // Work goes on when its client has left, and counts until it ends.
        let done = spawn_blocking(move || {
            let _running = running;
            work()
        });
        done.await.map_err(|error| Refusal::Failed(format!("an image could not be worked on: {error}")))
    }
}

impl Studio {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            small: Lane::new(THREADS, limits.waiting),
            large: Lane::new(1, 4),
            // Who waits here had a place before the network, so that they are no more than connections.
            draw: Lane::new(THREADS, limits.connections),
            pixels: limits.pixels,
        }
    }

    /// Reads a PNG or JPEG image.
    pub(crate) async fn read(&self, classifier: &Arc<Classifier>, bytes: Received) -> Result<Read, Refusal> {
        let limit = self.pixels;
        let own = Arc::clone(classifier);
        let first = self.small.run(move || {
            let [height, width] = Picture::sides(&bytes.bytes, source())?;
            match (height as u64).saturating_mul(width as u64) {
                pixels if pixels > limit => Err(Refusal::TooManyPixels { width, height, limit }),
                pixels if pixels > SMALL => Ok(Err(bytes)),
                _ => read(&own, &bytes.bytes).map(Ok),
            }
        });
        match first.await?? {
            Ok(read) => Ok(read),
            Err(bytes) => {
                let own = Arc::clone(classifier);
                self.large.run(move || read(&own, &bytes.bytes)).await?
            }
        }
    }

    /// Draws.
    pub(crate) async fn draw<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        self.draw.run(work).await
    }
}

/// The name that errors carry.
fn source() -> &'static Path {
    Path::new("image")
}

fn read(classifier: &Classifier, bytes: &[u8]) -> Result<Read, Refusal> {
    let picture = Picture::decode(bytes, source())?;
    let shown = picture.within(SHOWN).map_err(|error| Refusal::Fitted(error.into()))?;
    Ok(Read { shown, fitted: classifier.fitted(picture).map_err(Refusal::Fitted)? })
}

/// A class's map over the image.
#[derive(Debug, Serialize)]
pub(crate) struct ClassMap {
    class: usize,
    image: String,
}

/// The first maps of a block.
#[derive(Debug, Serialize)]
pub(crate) struct Block {
    name: String,
    ops: Vec<String>,
    shape: [usize; 3],
    maps: Vec<String>,
}

/// The maps of these classes over the image, each a picture of its size.
pub(crate) fn class_maps(maps: &ClassMaps, shown: &Picture, classes: &[usize]) -> Vec<ClassMap> {
    let draw = |&class| ClassMap { class, image: url(&maps.drawn_over(class, shown)) };
    classes.iter().map(draw).collect()
}

/// The first maps of each block, each a picture of its own.
pub(crate) fn blocks(blocks: &[BlockMaps]) -> Vec<Block> {
    let draw = |block: &BlockMaps| Block {
        name: block.name.clone(),
        ops: block.ops.clone(),
        shape: block.shape,
        maps: (0..block.maps.shape()[0]).map(|map| url(&block.drawn(map))).collect(),
    };
    blocks.iter().map(draw).collect()
}

/// A picture as an address that holds it.
fn url(picture: &Picture) -> String {
    format!("data:image/png;base64,{}", BASE64_STANDARD.encode(picture.to_png()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_images_keep_no_small_ones_waiting() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let studio = Arc::new(Studio::new(&Limits::default()));
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let large = Arc::clone(&studio);
        let held = runtime.spawn(async move { large.large.run(move || ended.recv().is_err()).await });
        runtime.block_on(async {
            // The one that runs and four that wait are all that there is room for.
            let waiting: Vec<_> = (0..4)
                .map(|_| {
                    let studio = Arc::clone(&studio);
                    tokio::spawn(async move { studio.large.run(|| true).await })
                })
                .collect();
            tokio::task::yield_now().await;
            assert!(matches!(studio.large.run(|| true).await, Err(Refusal::Busy)));
            for _ in 0..100 {
                assert!(studio.small.run(|| true).await.unwrap());
            }
            drop(end);
            for one in [held].into_iter().chain(waiting) {
                assert!(one.await.unwrap().unwrap());
            }
        });
    }
}
