//! The [`Queue`] of requests that wait for the network, and the thread that has it.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nin::data::Picture;
use nin::tensor::lock;
use nin::train::TrainError;
use nin::{Answer, BlockMaps, ClassMaps, Classifier};
use tokio::sync::oneshot;

use crate::Limits;
use crate::error::Refusal;
use crate::metrics::Metrics;

/// The most maps of a block that are shown.
const MAPS: usize = 16;

/// A request that waits for its turn.
#[derive(Debug)]
pub(crate) struct Job {
    /// The image as the network sees it.
    picture: Picture,
    wanted: Wanted,
    since: Instant,
    reply: oneshot::Sender<Result<Reply, TrainError>>,
}

/// Maps that a request asks for beside answers.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    pub(crate) maps: bool,
    pub(crate) blocks: bool,
}

/// The network's reply to an image.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) answers: Vec<Answer>,
    pub(crate) maps: Option<ClassMaps>,
    pub(crate) blocks: Option<Vec<BlockMaps>>,
}

/// The state behind the queue's lock.
#[derive(Debug)]
struct State {
    jobs: VecDeque<Job>,
    /// More may come.
    open: bool,
    /// The first of a batch waits for others.
    gathers: bool,
}

/// Requests that wait for the network, in the order in which they came.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    waiting: usize,
    batch: usize,
    gather: Duration,
}

impl Queue {
    pub(crate) fn new(limits: &Limits) -> Self {
        let &Limits { waiting, batch, gather, .. } = limits;
        let state = State { jobs: VecDeque::with_capacity(waiting), open: true, gathers: true };
        Self { state: Mutex::new(state), changed: Condvar::new(), waiting, batch: batch.max(1), gather }
    }

    /// Has an image wait for its turn, if there is a place. Who no longer wants what comes has left its place.
    pub(crate) async fn ask(&self, picture: Picture, wanted: Wanted) -> Result<Reply, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.push(Job { picture, wanted, since: Instant::now(), reply })?;
        match answer.await {
            Ok(reply) => reply.map_err(|error| Refusal::Failed(error.to_string())),
            // The thread that has the network is gone.
            Err(_) => Err(Refusal::Failed("the network can no longer be asked".to_owned())),
        }
    }

    fn push(&self, job: Job) -> Result<(), Refusal> {
        let mut state = lock(&self.state);
        let State { jobs, open, .. } = &mut *state;
        if !*open {
            return Err(Refusal::Stopping);
        }
        if jobs.len() >= self.waiting {
            jobs.retain(|job| !job.reply.is_closed());
        }
        if jobs.len() >= self.waiting {
            return Err(Refusal::Busy);
        }
        jobs.push_back(job);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// The jobs of the next batch, once they are as many as go together, or the first has waited long enough, or no more will
    /// come; `None` if there are none and never will be.
    fn next(&self) -> Option<Vec<Job>> {
        let mut state = lock(&self.state);
        loop {
            let State { jobs, open, gathers } = &mut *state;
            jobs.retain(|job| !job.reply.is_closed());
            let Some(first) = jobs.front() else {
                if !*open {
                    return None;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = self.gather.saturating_sub(first.since.elapsed());
            if !*gathers || jobs.len() >= self.batch || left.is_zero() {
                let count = jobs.len().min(self.batch);
                return Some(jobs.drain(..count).collect());
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Has the first of a batch no longer wait for others: the server is about to end.
    pub(crate) fn hurry(&self) {
        lock(&self.state).gathers = false;
        self.changed.notify_all();
    }

    /// Lets no more requests wait.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        (state.open, state.gathers) = (false, false);
        drop(state);
        self.changed.notify_all();
    }

    /// Tells whether requests may wait.
    pub(crate) fn is_open(&self) -> bool {
        lock(&self.state).open
    }

    /// Requests that wait and are still wanted.
    pub(crate) fn len(&self) -> usize {
        lock(&self.state).jobs.iter().filter(|job| !job.reply.is_closed()).count()
    }
}

/// Closes a queue whose thread has ended, whatever ended it.
struct Closing<'a>(&'a Queue);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
        // Nobody waits for what will not come.
        lock(&self.0.state).jobs.clear();
    }
}

/// Answers what waits in the queue until it is closed and empty.
pub(crate) fn work(classifier: &Classifier, queue: &Queue, metrics: &Metrics) {
    let _closing = Closing(queue);
    while let Some(jobs) = queue.next() {
        metrics.batch(jobs.len());
        let mut views = Vec::new();
        for (job, answers) in answer(classifier, jobs) {
            match answers {
                Ok(answers) if job.wanted.maps || job.wanted.blocks => views.push((job, answers)),
                answers => {
                    // Who has left is no failure.
                    let _ =
                        job.reply.send(answers.map(|answers| Reply { answers, maps: None, blocks: None }));
                }
            }
        }
        // Maps take longer; those who do not want any do not wait for them.
        for (job, answers) in views {
            if !job.reply.is_closed() {
                let _ = job.reply.send(look(classifier, &job.picture, job.wanted, answers));
            }
        }
    }
}

/// The answers to a batch; one by one if there are none to all of them together.
fn answer(classifier: &Classifier, jobs: Vec<Job>) -> Vec<(Job, Result<Vec<Answer>, TrainError>)> {
    let pictures: Vec<Picture> = jobs.iter().map(|job| job.picture.clone()).collect();
    match classifier.classify_all(&pictures) {
        Ok(all) => jobs.into_iter().zip(all.into_iter().map(Ok)).collect(),
        Err(_) => jobs.into_iter().zip(pictures.iter().map(|picture| classifier.classify(picture))).collect(),
    }
}

fn look(
    classifier: &Classifier,
    picture: &Picture,
    wanted: Wanted,
    answers: Vec<Answer>,
) -> Result<Reply, TrainError> {
    let maps = wanted.maps.then(|| classifier.class_maps(picture)).transpose()?;
    let blocks = wanted.blocks.then(|| classifier.block_maps(picture, MAPS)).transpose()?;
    Ok(Reply { answers, maps, blocks })
}
