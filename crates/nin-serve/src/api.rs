//! The paths that are answered, and how.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use nin::nn::parameters;
use nin::{Answer, Classifier};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::batch::{Queue, Reply, Wanted};
use crate::body::Store;
use crate::error::{Json, Refusal};
use crate::guard::Guard;
use crate::metrics::Metrics;
use crate::page::Page;
use crate::views::{self, ClassMap, DrawnBlock, Studio};
use crate::{Limits, Sample};

/// All that requests share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) classifier: Arc<Classifier>,
    pub(crate) limits: Limits,
    pub(crate) queue: Queue,
    pub(crate) metrics: Metrics,
    pub(crate) guard: Guard,
    /// By which a page notices that another network answers it.
    id: String,
    store: Store,
    studio: Studio,
    page: Page,
    /// Labels and PNG files.
    samples: Vec<(Option<String>, Vec<u8>)>,
}

impl App {
    pub(crate) fn new(classifier: Classifier, samples: &[Sample], guard: Guard, limits: Limits) -> Self {
        let file = |sample: &Sample| (sample.label.clone(), sample.picture.to_png());
        let samples: Vec<_> = samples.iter().map(file).collect();
        Self {
            id: id_of(&classifier, &samples),
            classifier: Arc::new(classifier),
            limits,
            queue: Queue::new(&limits),
            metrics: Metrics::default(),
            guard,
            store: Store::new(limits),
            studio: Studio::new(&limits),
            page: Page::new(),
            samples,
        }
    }
}

/// A name of what is served, of 16 characters: servers of the same network and samples, as behind a balancer, are one to a page.
fn id_of(classifier: &Classifier, samples: &[(Option<String>, Vec<u8>)]) -> String {
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(classifier.card()).expect("a card is JSON"));
    for (_, own) in parameters(classifier.network()) {
        let bits = |values: &[f32]| {
            values.iter().flat_map(|value| value.to_bits().to_le_bytes()).collect::<Vec<u8>>()
        };
        own.value.data().chunks(1 << 16).for_each(|values| hash.update(bits(values)));
    }
    for (label, file) in samples {
        hash.update(format!("{label:?} {} ", file.len()));
        hash.update(file);
    }
    hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

type Shared = State<Arc<App>>;

pub(crate) fn router(app: &Arc<App>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/api/model", get(model))
        .route("/api/samples", get(samples))
        .route("/api/samples/{index}", get(sample))
        .route("/api/classify", post(classify))
        .route("/healthz", get(health))
        .route("/metrics", get(metrics))
        .fallback(|| async { Refusal::NotFound })
        .method_not_allowed_fallback(|| async { Refusal::Method })
        .layer(from_fn_with_state(Arc::clone(app), around))
        .with_state(Arc::clone(app))
}

/// Counts a request, also one whose client leaves before it is answered.
struct Counted<'a> {
    metrics: &'a Metrics,
    status: Option<StatusCode>,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.metrics.request(self.status);
    }
}

/// Guards and counts every request, and gives headers to its answer.
async fn around(State(app): Shared, request: Request, next: Next) -> Response {
    let mut counted = Counted { metrics: &app.metrics, status: None };
    let mut response = match app.guard.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    counted.status = Some(response.status());
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

async fn page(State(app): Shared) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, app.page.policy.clone()),
    ];
    (headers, app.page.html.clone()).into_response()
}

async fn model(State(app): Shared) -> Response {
    let card = app.classifier.card();
    Json(&json!({
        "server": app.id,
        "network": card.network,
        "classes": card.classes,
        "image": card.image,
        "data": card.data.as_ref().map(|data| &data.dataset),
        "epoch": card.epoch,
        "test_acc": card.test_acc,
        "judged_by": card.judged_by,
        "version": card.version,
        "class_maps": app.classifier.has_class_maps(),
        "limits": { "body": app.limits.body, "pixels": app.limits.pixels },
    }))
    .into_response()
}

async fn samples(State(app): Shared) -> Response {
    let all = app.samples.iter().enumerate();
    let all: Vec<_> = all.map(|(index, (label, _))| json!({ "index": index, "label": label })).collect();
    Json(&json!({ "samples": all })).into_response()
}

/// Of which server something is asked, if that matters.
#[derive(Debug, Deserialize)]
struct OfServer {
    server: Option<String>,
}

async fn sample(
    State(app): Shared,
    Path(index): Path<String>,
    query: Result<Query<OfServer>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(of) = query.map_err(|error| Refusal::Query(error.body_text()))?;
    if of.server.is_some_and(|server| server != app.id) {
        return Err(Refusal::OtherServer);
    }
    let index: usize = index.parse().map_err(|_| Refusal::NotFound)?;
    let (_, file) = app.samples.get(index).ok_or(Refusal::NotFound)?;
    Ok(([(header::CONTENT_TYPE, "image/png")], file.clone()).into_response())
}

async fn health(State(app): Shared) -> Result<Response, Refusal> {
    if app.queue.is_open() {
        Ok(Json(&json!({ "status": "ok" })).into_response())
    } else {
        Err(Refusal::Stopping)
    }
}

async fn metrics(State(app): Shared) -> Response {
    let text = app.metrics.text(app.queue.len());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// The query of a request about an image.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    top: Option<usize>,
    maps: Option<String>,
    #[serde(default)]
    blocks: bool,
}

/// The body of the answer about an image.
#[derive(Debug, Serialize)]
struct Answered {
    server: String,
    answers: Vec<Answer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    maps: Option<Vec<ClassMap>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blocks: Option<Vec<DrawnBlock>>,
}

/// The classes whose maps are drawn.
#[derive(Debug, Clone, Copy)]
enum Maps {
    None,
    Answers,
    Class(usize),
}

async fn classify(
    State(app): Shared,
    asked: Result<Query<Asked>, QueryRejection>,
    request: Request,
) -> Result<Response, Refusal> {
    let began = Instant::now();
    let (parts, body): (_, Body) = request.into_parts();
    let received = app.store.receive(&parts.headers, body).await?;
    // Once the body is here, as most clients listen only then.
    let Query(asked) = asked.map_err(|rejection| {
        let text = rejection.body_text();
        Refusal::Query(text.trim_start_matches("Failed to deserialize query string: ").to_owned())
    })?;
    let maps = asked.maps(&app.classifier)?;
    let top = asked.top.unwrap_or(3);
    if top == 0 {
        return Err(Refusal::NoTop);
    }
    let read = app.studio.read(&app.classifier, received).await?;
    let wanted = Wanted { maps: !matches!(maps, Maps::None), blocks: asked.blocks };
    let reply = app.queue.ask(read.fitted, wanted).await?;
    let (shown, server) = (read.shown, app.id.clone());
    let draw = move || {
        let Reply { mut answers, maps: class_maps, blocks } = reply;
        answers.truncate(top);
        let classes = match maps {
            Maps::None => Vec::new(),
            Maps::Answers => answers.iter().map(|answer| answer.class).collect(),
            Maps::Class(class) => vec![class],
        };
        let answered = Answered {
            server,
            answers,
            maps: class_maps.map(|maps| views::class_maps(&maps, &shown, &classes)),
            blocks: blocks.map(|blocks| views::blocks(&blocks)),
        };
        Json(&answered).into_response()
    };
    let response = if wanted.maps || wanted.blocks { app.studio.draw.run(draw).await? } else { draw() };
    app.metrics.classified(began.elapsed());
    Ok(response)
}

impl Asked {
    fn maps(&self, classifier: &Classifier) -> Result<Maps, Refusal> {
        let classes = classifier.card().classes.len();
        let maps = match self.maps.as_deref() {
            None | Some("false") => return Ok(Maps::None),
            Some("true") => Maps::Answers,
            Some(text) => match text.parse() {
                Ok(class) if class < classes => Maps::Class(class),
                _ => return Err(Refusal::NoClass { last: classes - 1, found: text.to_owned() }),
            },
        };
        if !classifier.has_class_maps() {
            return Err(Refusal::NoMaps { network: classifier.card().network_with_head() });
        }
        Ok(maps)
    }
}
