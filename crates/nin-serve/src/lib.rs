//! A trained network as a page in a browser and an HTTP API: what `nin serve` does.
//!
//! Requests come in on one thread, images are decoded on others, and one more has the network: it takes the requests that wait,
//! up to [`Limits::batch`] at once, so that many clients get more answers in a second than one by one. Everything that a client
//! can ask for has a bound, in [`Limits`].
//!
//! ```no_run
//! use nin::Classifier;
//! use nin_serve::{Limits, Server};
//!
//! let classifier = Classifier::load("runs/nin-20260101-120000/model.safetensors".as_ref())?;
//! let server = Server::bind(classifier, &[], ([127, 0, 0, 1], 8080).into(), Limits::default())?;
//! let stopper = server.stopper(); // for another thread: `stopper.stop()`
//! server.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod api;
mod batch;
mod body;
mod error;
mod guard;
mod metrics;
mod page;
mod server;
mod stream;
mod views;

use std::time::Duration;

use nin::data::Picture;

pub use error::ServeError;
pub use server::{Server, Stopper};

/// Limits of the work that a server takes on at once, and of the time that it waits for others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Connections at a time; further ones wait until one ends.
    pub connections: usize,
    /// Bytes of a request's body; 413 beyond.
    pub body: usize,
    /// Bytes of all bodies that are held at a time; 503 beyond.
    pub bodies: usize,
    /// Pixels of an image; 413 beyond, and beyond [`MAX_SIDE`](nin::data::resize::MAX_SIDE) of a side.
    pub pixels: u64,
    /// Time for the head of a request to come, from the connection's beginning or the last answer on. The connection is closed
    /// then.
    pub head_time: Duration,
    /// Time for a body to come; 408 then.
    pub body_time: Duration,
    /// Time for a client to take something of an answer. The connection is closed then.
    pub write_time: Duration,
    /// Time for what was taken to be answered once the server is to stop.
    pub stop_time: Duration,
    /// Requests that may wait for the network, small images that may wait to be read, and large ones; 503 beyond.
    pub waiting: usize,
    /// Requests that are answered together.
    pub batch: usize,
    /// Time that the first of a batch waits for others.
    pub gather: Duration,
}

impl Default for Limits {
    /// 256 connections, 16 MiB a body and 256 MiB of all, 50 million pixels, 5 s for a head and 10 s for a body, 32 waiting, and
    /// 32 a batch within 3 ms.
    fn default() -> Self {
        Self {
            connections: 256,
            body: 16 << 20,
            bodies: 256 << 20,
            pixels: 50_000_000,
            head_time: Duration::from_secs(5),
            body_time: Duration::from_secs(10),
            write_time: Duration::from_secs(10),
            stop_time: Duration::from_secs(5),
            waiting: 32,
            batch: 32,
            gather: Duration::from_millis(3),
        }
    }
}

/// An image that the page offers to try the network with.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The name of its class, if that is known.
    pub label: Option<String>,
    /// The image.
    pub picture: Picture,
}
