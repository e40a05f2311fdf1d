//! `nin serve`: a trained network as a page in a browser and an HTTP API.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Args;
use nin::data::folder::labeled_files;
use nin::data::{DataRecord, DataSources, Dataset, DatasetKind, Picture, Splits, load, open};
use nin::train::TrainError;
use nin::{Classifier, ModelCard};
use nin_serve::{Limits, Sample, ServeError, Server};

use super::import::IMPORTED;
use super::predict::first_of_each;
use super::signals::at_first;
use super::trained::trained;
use super::{ThreadArgs, log};

/// Images that the page offers to try the network with.
const SAMPLES: usize = 20;

/// Pixels of the longer side of those images at the most.
const SAMPLE_SIDE: usize = 512;

/// Answers in a browser, and to programs: a page on which one draws, drops or pastes an image, and a JSON API (docs/serve.md).
///
/// The page shows live what the network takes an image for, where it sees each class, and the first maps of every block. Without
/// RUN, the network is the program's own: it tells the ten kinds of clothing of Fashion-MNIST, bright on black. Only this machine
/// is answered, unless --address says otherwise. Ctrl-C answers what was taken, and ends.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  nin serve                                   the program's own network, at http://127.0.0.1:8080
  nin serve runs/nin-20260101-120000 --port 0
  nin serve model.safetensors --address 0.0.0.0
  curl -s --data-binary @photo.png 'http://127.0.0.1:8080/api/classify?top=3'")]
pub(super) struct ServeArgs {
    /// The network: a run's folder, or a file such as its model.safetensors
    #[arg(value_name = "RUN")]
    run: Option<PathBuf>,
    /// The address to listen at; 0.0.0.0 answers every machine that reaches this one
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    address: IpAddr,
    /// The port to listen at; 0 takes one that is free
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    port: u16,
    #[command(flatten)]
    threads: ThreadArgs,
}

/// Runs `nin serve` until a signal ends it.
pub(super) fn serve(args: &ServeArgs) -> Result<(), TrainError> {
    let run = args.run.as_deref();
    let classifier = trained(run, args.threads.read()?)?;
    let ModelCard { network, recipe, epoch, .. } = classifier.card();
    let network = network.clone();
    // Of what was imported nobody knows.
    if epoch.is_none() && recipe != IMPORTED {
        log(
            "warning: the weights are those of the run's beginning or of inside of an epoch, and were not tested",
        );
    }
    let samples = samples(&classifier, run).unwrap_or_else(|error| {
        log(&format!("warning: the page has no samples: {error}"));
        Vec::new()
    });
    let address = SocketAddr::new(args.address, args.port);
    let server = Server::bind(classifier, &samples, address, Limits::default()).map_err(refused)?;
    // The server has files of them.
    drop(samples);
    let (address, stopper) = (server.address(), server.stopper());
    at_first("answering what was taken", move || stopper.stop())?;
    if !address.ip().is_loopback() {
        log(&format!("warning: every machine that reaches {address} is answered, whoever asks"));
    }
    print_line!("serving {network} at http://{address}, Ctrl-C ends");
    server.run().map_err(refused)
}

fn refused(error: ServeError) -> TrainError {
    match error {
        ServeError::Listen { address, source } => {
            TrainError::io(Path::new(&address.to_string()), "listen")(source)
        }
        ServeError::Start(source) => TrainError::io(Path::new("the server"), "start")(source),
        ServeError::Panicked => {
            TrainError::io(Path::new("the server"), "go on")(std::io::Error::other(error.to_string()))
        }
    }
}

/// Images of the kind that the network was trained on, as far as they are at hand: those of Fashion-MNIST in the program, or the
/// run's own. Nothing is downloaded for them.
fn samples(classifier: &Classifier, run: Option<&Path>) -> Result<Vec<Sample>, TrainError> {
    let ModelCard { classes, data, image, .. } = classifier.card();
    let Some(kind) = data.as_ref().and_then(|data| data.dataset.parse::<DatasetKind>().ok()) else {
        return Ok(Vec::new());
    };
    let nowhere = DataSources { cache_dir: None, ..DataSources::new(None) };
    if let DatasetKind::FashionMnist | DatasetKind::FashionMnistMini = kind {
        return chosen(&load(DatasetKind::FashionMnistMini, &nowhere)?.test, classes);
    }
    let Some(run) = run.filter(|run| run.is_dir()) else { return Ok(Vec::new()) };
    let record = DataRecord::read_for(run, data.as_ref()).map_err(TrainError::refused)?;
    let Some(folder) = record.and_then(|record| record.folder) else { return Ok(Vec::new()) };
    if kind == DatasetKind::ImageFolder {
        return of_folder(&folder, classes);
    }
    let there = DataSources { data_dir: Some(folder), ..nowhere };
    let (splits, _) = open(kind, [image[1], image[2]], &there)?;
    chosen(&*splits.test, classes)
}

/// The first images of each class, as many of each.
fn chosen(set: &dyn Dataset, classes: &[String]) -> Result<Vec<Sample>, TrainError> {
    let each = SAMPLES / classes.len().clamp(1, SAMPLES);
    let all = first_of_each(set, SAMPLES.min(classes.len()), each)?.into_iter();
    Ok(all.map(|(class, picture)| Sample { label: Some(classes[class].clone()), picture }).collect())
}

/// Some images of a folder, from all over it, as large as a page has a use for; test images where it has them.
fn of_folder(folder: &Path, classes: &[String]) -> Result<Vec<Sample>, TrainError> {
    let Splits { train, test } = labeled_files(folder)?;
    let files = if test.is_empty() { train } else { test };
    let count = files.len().min(SAMPLES);
    let some = (0..count).map(|index| &files[index * files.len() / count]);
    let read = |(class, path): &(String, PathBuf)| {
        // A broken file is no sample.
        let picture = Picture::open(path).ok()?;
        let large = picture.shape().iter().any(|&side| side > SAMPLE_SIDE);
        let picture = if large { picture.within(SAMPLE_SIDE).ok()? } else { picture };
        // The folder may have other classes by now.
        Some(Sample { label: classes.contains(class).then(|| class.clone()), picture })
    };
    Ok(some.filter_map(read).collect())
}
