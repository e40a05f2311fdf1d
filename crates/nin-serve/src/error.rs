//! [`ServeError`], and what a request is refused with.

use std::net::SocketAddr;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use nin::data::resize::MAX_SIDE;
use nin::disk::FileError;
use nin::train::TrainError;
use serde_json::json;

/// A server that cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is not to be had: another program has it, or it is not this machine's.
    #[error("{address}: cannot listen: {source}")]
    Listen {
        /// Address and port.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The system gives no threads, or nothing that tells of connections.
    #[error("cannot start the server: {0}")]
    Start(#[source] std::io::Error),
    /// The thread that has the network ended by a panic, which is a mistake in this program.
    #[error("the network's thread panicked")]
    Panicked,
}

/// The reason for which a request gets no answer. Its text goes to the client, as `{"error": ...}`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the body is empty: expected the bytes of a PNG or JPEG image")]
    Empty,
    #[error(
        "the body is a form: expected the bytes of the image alone, as `curl --data-binary @FILE` sends them"
    )]
    Form,
    #[error("query: {0}")]
    Query(String),
    #[error("top: expected at least 1, found 0")]
    NoTop,
    #[error("maps: expected true, false or the number of a class, 0 to {last}, found {found:?}")]
    NoClass { last: usize, found: String },
    #[error("maps: {network} makes no maps for its classes")]
    NoMaps { network: String },
    #[error("{0}")]
    Image(#[from] FileError),
    #[error("{0}")]
    Fitted(TrainError),
    #[error("the body ended before it was whole")]
    CutOff,
    #[error("host {0:?} is not this server's: expected localhost or the address that it printed")]
    Host(String),
    #[error("a page of {0:?} asked for this, and the server answers its own page alone")]
    Origin(String),
    #[error("there is nothing at this path")]
    NotFound,
    #[error("another network is served here by now")]
    OtherServer,
    #[error("this path takes another method, which the header Allow names")]
    Method,
    #[error("the body did not come within {0} s")]
    Slow(f64),
    #[error("the body is larger than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the image has {width} x {height} pixels, more than {limit}")]
    TooManyPixels { width: usize, height: usize, limit: u64 },
    #[error("the image has {width} x {height} pixels, more than {MAX_SIDE} a side")]
    TooLong { width: usize, height: usize },
    #[error("too many requests wait already: try again in a second")]
    Busy,
    #[error("the server is about to end")]
    Stopping,
    #[error("{0}")]
    Failed(String),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Empty
            | Self::Form
            | Self::Query(_)
            | Self::NoTop
            | Self::NoClass { .. }
            | Self::NoMaps { .. }
            | Self::Image(_)
            | Self::Fitted(_)
            | Self::CutOff => StatusCode::BAD_REQUEST,
            Self::Host(_) | Self::Origin(_) => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::OtherServer => StatusCode::CONFLICT,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Slow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge { .. } | Self::TooManyPixels { .. } | Self::TooLong { .. } => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            Self::Busy | Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Self::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status(), Json(&json!({ "error": self.to_string() }))).into_response();
        let headers = response.headers_mut();
        match self {
            Self::Busy => drop(headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"))),
            // What is left of the body is not read.
            Self::Slow(_) | Self::TooLarge { .. } | Self::Stopping => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}

/// A value as a JSON answer.
pub(crate) struct Json<'a, T>(pub(crate) &'a T);

impl<T: serde::Serialize> IntoResponse for Json<'_, T> {
    fn into_response(self) -> Response {
        let text = serde_json::to_vec(self.0).expect("names are text and the rest are numbers");
        ([(header::CONTENT_TYPE, "application/json")], text).into_response()
    }
}
