//! [`Server`]: connections, from the first to the last.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nin::Classifier;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::api::{App, router};
use crate::batch::work;
use crate::error::ServeError;
use crate::guard::Guard;
use crate::stream::Patient;
use crate::{Limits, Sample};

/// Time until a connection is tried again that the system could not give, as when the process has too many files open.
const AGAIN: Duration = Duration::from_millis(50);

/// Bytes of the head of a request.
const HEAD: usize = 16 << 10;

/// A server that listens, and answers once it is [run](Server::run).
#[derive(Debug)]
pub struct Server {
    app: Arc<App>,
    listener: std::net::TcpListener,
    address: SocketAddr,
    stop: watch::Sender<bool>,
}

/// Ends a server, from any thread.
#[derive(Debug, Clone)]
pub struct Stopper(watch::Sender<bool>);

impl Stopper {
    /// Has the server take no more connections, answer what it took, and end, at the latest after [`Limits::stop_time`].
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// Ends a server when it is dropped.
struct Stopping(Stopper);

impl Drop for Stopping {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Server {
    /// A server of this network at an address; port 0 takes one that is free. `samples` are offered on the page.
    ///
    /// # Errors
    /// [`ServeError`] if the address is not to be had.
    pub fn bind(
        classifier: Classifier,
        samples: &[Sample],
        address: SocketAddr,
        limits: Limits,
    ) -> Result<Self, ServeError> {
        let refuse = |source| ServeError::Listen { address, source };
        let listener = std::net::TcpListener::bind(address).map_err(refuse)?;
        listener.set_nonblocking(true).map_err(refuse)?;
        let address = listener.local_addr().map_err(refuse)?;
        let app = Arc::new(App::new(classifier, samples, Guard::new(address), limits));
        Ok(Self { app, listener, address, stop: watch::Sender::new(false) })
    }

    /// The address, with the port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A handle that ends the server.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(self.stop.clone())
    }

    /// Answers until the server is [stopped](Stopper::stop).
    ///
    /// # Errors
    /// [`ServeError::Start`] if the system gives no threads, [`ServeError::Panicked`] if the network's did.
    pub fn run(self) -> Result<(), ServeError> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::Start)?;
        let (app, stopping) = (Arc::clone(&self.app), Stopping(self.stopper()));
        let network = move || {
            // Whatever ends it, a server without a network is of no use.
            let _stopping = stopping;
            work(&app.classifier, &app.queue, &app.metrics);
        };
        let network = std::thread::Builder::new()
            .name("network".to_owned())
            .spawn(network)
            .map_err(ServeError::Start)?;
        let app = Arc::clone(&self.app);
        let ended = runtime.block_on(self.accept());
        app.queue.close();
        // An image that is still read is nobody's any more.
        runtime.shutdown_background();
        network.join().map_err(|_| ServeError::Panicked)?;
        ended
    }

    async fn accept(self) -> Result<(), ServeError> {
        let Self { app, listener, stop, .. } = self;
        let listener = TcpListener::from_std(listener).map_err(ServeError::Start)?;
        let router = router(&app);
        let places = Arc::new(Semaphore::new(app.limits.connections));
        let (mut stopped, mut connections) = (stop.subscribe(), JoinSet::new());
        loop {
            let next = async {
                let place = Arc::clone(&places).acquire_owned().await.expect("it is never closed");
                (listener.accept().await, place)
            };
            tokio::select! {
                biased;
                _ = stopped.wait_for(|&stopped| stopped) => break,
                (accepted, place) = next => match accepted {
                    Ok((stream, _)) => {
                        let connection = connection(Arc::clone(&app), router.clone(), stream, stop.subscribe());
                        connections.spawn(async move {
                            connection.await;
                            drop(place);
                        });
                    }
                    Err(_) => sleep(AGAIN).await,
                },
            }
            while connections.try_join_next().is_some() {}
        }
        drop(listener);
        app.queue.hurry();
        let ended = async { while connections.join_next().await.is_some() {} };
        // Those that are left are dropped.
        let _ = timeout(app.limits.stop_time, ended).await;
        Ok(())
    }
}

/// Answers the requests of a connection. What ends it early, such as a client that leaves, is nobody's error.
async fn connection(app: Arc<App>, router: Router, stream: TcpStream, mut stopped: watch::Receiver<bool>) {
    let _connected = app.metrics.connection();
    // Answers are small, and not held back for more. Where that cannot be, they come a little later.
    let _ = stream.set_nodelay(true);
    let stream = TokioIo::new(Patient::new(stream, app.limits.write_time));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(app.limits.head_time).max_buf_size(HEAD);
    let (asked, answer) = (AtomicBool::new(false), TowerToHyperService::new(router));
    let service = service_fn(|request| {
        asked.store(true, Ordering::Relaxed);
        answer.call(request)
    });
    let mut served = pin!(http.serve_connection(stream, service));
    tokio::select! {
        _ = served.as_mut() => return,
        _ = stopped.wait_for(|&stopped| stopped) => {}
    }
    // A connection that a browser made for later, or half a head, is nothing that was taken.
    if !asked.load(Ordering::Relaxed) {
        return;
    }
    served.as_mut().graceful_shutdown();
    let _ = served.await;
}
