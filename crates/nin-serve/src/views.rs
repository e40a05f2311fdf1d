//! Work on images beside the network, on threads of its own: reading them, and drawing maps.

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use nin::data::Picture;
use nin::data::resize::MAX_SIDE;
use nin::{BlockMaps, ClassMaps, Classifier};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::Limits;
use crate::body::Received;
use crate::error::Refusal;

/// The longer side of an image under its class maps, in pixels: small ones are enlarged by a whole factor up to this, large ones
/// are made smaller.
const SHOWN: usize = 320;

/// Bytes of a file, and pixels of its image, up to which it is read beside others.
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
    small: Pool,
    large: Pool,
    /// For maps.
    pub(crate) draw: Pool,
    pixels: u64,
}

/// A pool of threads: so many things at a time, and so many more that may wait.
#[derive(Debug)]
pub(crate) struct Pool {
    places: Semaphore,
    running: Arc<Semaphore>,
}

impl Pool {
    fn new(running: usize, waiting: usize) -> Self {
        Self { places: Semaphore::new(running + waiting), running: Arc::new(Semaphore::new(running)) }
    }

    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
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
            small: Pool::new(THREADS, limits.waiting),
            // What waits here are files, which have a bound together.
            large: Pool::new(1, limits.waiting),
            // Who waits here had a place before the network, so that they are no more than connections.
            draw: Pool::new(THREADS, limits.connections),
            pixels: limits.pixels,
        }
    }

    /// Reads a PNG or JPEG image.
    pub(crate) async fn read(&self, classifier: &Arc<Classifier>, bytes: Received) -> Result<Read, Refusal> {
        let own = Arc::clone(classifier);
        self.decode(bytes, move |bytes| read(&own, bytes)).await
    }

    /// Has a file decoded on the thread that is for its size.
    async fn decode<T: Send + 'static>(
        &self,
        bytes: Received,
        decode: impl Fn(&[u8]) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let limit = self.pixels;
        if bytes.bytes.len() as u64 > SMALL {
            let work = move || checked(&bytes.bytes, limit).and_then(|_| decode(&bytes.bytes));
            return self.large.run(work).await?;
        }
        let first = self.small.run(move || match checked(&bytes.bytes, limit)? {
            pixels if pixels > SMALL => Ok(Err((bytes, decode))),
            _ => decode(&bytes.bytes).map(Ok),
        });
        match first.await?? {
            Ok(read) => Ok(read),
            Err((bytes, decode)) => self.large.run(move || decode(&bytes.bytes)).await?,
        }
    }
}

/// The name that errors carry.
fn source() -> &'static Path {
    Path::new("image")
}

/// The pixels of an image that is not too large.
fn checked(bytes: &[u8], limit: u64) -> Result<u64, Refusal> {
    let [height, width] = Picture::sides(bytes, source())?;
    match (height as u64).saturating_mul(width as u64) {
        _ if height.max(width) > MAX_SIDE => Err(Refusal::TooLong { width, height }),
        pixels if pixels > limit => Err(Refusal::TooManyPixels { width, height, limit }),
        pixels => Ok(pixels),
    }
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
pub(crate) struct DrawnBlock {
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
pub(crate) fn blocks(blocks: &[BlockMaps]) -> Vec<DrawnBlock> {
    let draw = |block: &BlockMaps| DrawnBlock {
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
    use std::pin::pin;

    use axum::body::Body;
    use axum::http::HeaderMap;

    use super::*;
    use crate::body::Store;

    /// A file of many bytes may take long, however few its pixels are.
    #[test]
    fn large_files_keep_no_small_ones_waiting() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (studio, waiting) = (Studio::new(&Limits::default()), Limits::default().waiting);
        let small = Picture::new([1, 4, 4], vec![7; 16]).unwrap().to_png();
        let large_file = [&small[..], &[0; SMALL as usize]].concat();
        let large_image = Picture::new([1, 1025, 1024], vec![7; 1025 * 1024]).unwrap().to_png();
        runtime.block_on(async {
            let held = Arc::clone(&studio.large.running).acquire_owned().await.unwrap();
            let read = |bytes: &[u8]| {
                let store = Store::new(Limits::default());
                let body = Body::from(bytes.to_vec());
                let studio = &studio;
                async move {
                    let received = store.receive(&HeaderMap::new(), body).await.unwrap();
                    studio.decode(received, |bytes| Ok(bytes.len())).await
                }
            };
            assert_eq!(read(&small).await.unwrap(), small.len());
            let mut both = pin!(async { (read(&large_file).await, read(&large_image).await) });
            let waits = async {
                while studio.large.places.available_permits() > waiting {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                _ = both.as_mut() => panic!("it did not wait"),
                () = waits => {}
            }
            drop(held);
            let (file, image) = both.await;
            assert_eq!((file.unwrap(), image.unwrap()), (large_file.len(), large_image.len()));
        });
    }

    #[test]
    fn large_images_keep_no_small_ones_waiting() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let studio = Arc::new(Studio::new(&Limits { waiting: 4, ..Limits::default() }));
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
