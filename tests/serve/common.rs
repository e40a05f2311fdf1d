//! Tools that the tests of the server share: a small network, a server of it, and clients.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use nin::data::Picture;
use nin::models::Model;
use nin::nn::initialize;
use nin::tensor::init::Init;
use nin::{Classifier, JudgedBy, ModelCard};
use nin_serve::{Limits, Sample, ServeError, Server, Stopper};
use serde_json::Value;

/// Longer than anything takes: a client that waits for it has been forgotten.
pub(crate) const EVER: Duration = Duration::from_secs(240);

/// A network with weights by chance.
pub(crate) fn classifier(model: Model, image: [usize; 3], classes: &[&str]) -> Classifier {
    let card = ModelCard {
        version: "0".to_owned(),
        network: model.to_string(),
        head: None,
        image,
        classes: classes.iter().map(|&name| name.to_owned()).collect(),
        normalization: None,
        whitening: None,
        recipe: "default".to_owned(),
        data: None,
        epoch: Some(3),
        test_acc: Some(0.25),
        judged_by: Some(JudgedBy::HeldOut),
    };
    let mut network = card.network().unwrap();
    initialize(&mut network, Init::HeNormal, Init::Constant(0.1), 3);
    let file = card.file(&network);
    Classifier::from_bytes(&file, Path::new("test")).unwrap().with_threads(2).unwrap()
}

pub(crate) fn lenet() -> Classifier {
    classifier(Model::LeNet, [1, 28, 28], &["boot", "<b>bag</b>", "coat"])
}

/// A gray image that is not like another of another `seed`.
pub(crate) fn picture(seed: usize) -> Picture {
    let pixels = (0..784).map(|i| ((i + 31 * seed) * 7919 % 251) as u8).collect();
    Picture::new([1, 28, 28], pixels).unwrap()
}

/// A server that runs.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) stopper: Stopper,
    thread: Option<JoinHandle<Result<(), ServeError>>>,
}

impl Running {
    pub(crate) fn new(limits: Limits) -> Self {
        Self::of(lenet(), &[], limits)
    }

    pub(crate) fn of(classifier: Classifier, samples: &[Sample], limits: Limits) -> Self {
        Self::at(([127, 0, 0, 1], 0).into(), classifier, samples, limits)
    }

    /// At an address, such as that of a server that has ended.
    pub(crate) fn at(
        address: SocketAddr,
        classifier: Classifier,
        samples: &[Sample],
        limits: Limits,
    ) -> Self {
        let server = Server::bind(classifier, samples, address, limits).unwrap();
        let (address, stopper) = (server.address(), server.stopper());
        Self { address, stopper, thread: Some(std::thread::spawn(move || server.run())) }
    }

    /// Waits for the server's end, which something else asks for.
    pub(crate) fn ended(mut self) {
        let (thread, began) = (self.thread.take().unwrap(), Instant::now());
        while !thread.is_finished() {
            assert!(began.elapsed() < EVER, "the server goes on");
            std::thread::sleep(Duration::from_millis(5));
        }
        thread.join().unwrap().unwrap();
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let response = agent().get(self.url(path)).call().unwrap();
        read(response)
    }

    /// Asks what an image is of.
    pub(crate) fn post(&self, path: &str, body: &[u8]) -> (u16, Value) {
        let (status, text) = read(agent().post(self.url(path)).send(body).unwrap());
        (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The head of a request such as `GET /`, with more lines.
    pub(crate) fn head(&self, request: &str, more: &str) -> String {
        format!("{request} HTTP/1.1\r\nHost: {}\r\n{more}\r\n", self.address)
    }

    /// The answer to a request without a body, up to the connection's end.
    pub(crate) fn alone(&self, request: &str) -> String {
        self.raw(self.head(request, "Connection: close\r\n"))
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(EVER)).unwrap();
        stream.write_all(bytes.as_ref()).unwrap();
        stream
    }

    /// The whole answer to bytes as they are, up to the connection's end.
    pub(crate) fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        rest(self.send(bytes))
    }

    /// A number of `/metrics`.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics");
        let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        found.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
    }

    /// Waits until a number of `/metrics` is as expected.
    pub(crate) fn wait_for(&self, name: &str, expected: f64) {
        for _ in 0..EVER.as_millis() / 10 {
            if self.metric(name) == expected {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{name}: expected {expected}, found {}", self.metric(name));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(std::thread::panicking() || matches!(ended, Ok(Ok(()))), "{ended:?}");
        }
    }
}

/// Reads all that comes until the connection's end, however it ends.
pub(crate) fn rest(mut stream: TcpStream) -> String {
    let (mut all, mut some) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut some) {
            Ok(0) => break,
            Ok(count) => all.extend_from_slice(&some[..count]),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
                break;
            }
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

pub(crate) fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(EVER)).http_status_as_error(false).build().into()
}

fn read(mut response: ureq::http::Response<ureq::Body>) -> (u16, String) {
    (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
}

/// The bytes of a picture in an address that holds them.
pub(crate) fn decoded(url: &Value) -> Picture {
    let text = url.as_str().unwrap().strip_prefix("data:image/png;base64,").unwrap();
    let bytes = BASE64_STANDARD.decode(text).unwrap();
    Picture::decode(&bytes, Path::new("answer")).unwrap()
}

/// Asserts that an API's answers are those of a classifier, the most likely first.
pub(crate) fn assert_answers(found: &Value, expected: &[nin::Answer]) {
    let found = found.as_array().unwrap();
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(
            (&found["class"], &found["name"]),
            (&expected.class.into(), &expected.name.clone().into())
        );
        let probability = found["probability"].as_f64().unwrap();
        assert!((probability - expected.probability).abs() < 1e-12, "{found} and {expected:?}");
    }
}
