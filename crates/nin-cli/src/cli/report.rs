//! `report.html` of a run folder, and `nin report`: what a run came to, as one page that needs nothing else.

mod side_by_side;

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use nin::data::{DataRecord, Picture};
use nin::disk;
use nin::names::{quoted, shown};
use nin::nn::{Module, parameter_count};
use nin::train::{
    EpochMetrics, Overrides, Prediction, RunDir, Settings, TrainError, Trainer, is_of_a_command,
};
use nin::{Classifier, JudgedBy, ModelCard};
use tensor::Shape;
use tensor::conv::ConvAlgorithm;

use side_by_side::side_by_side;

use super::data::DataArgs;
use super::eval::{Judged, OpenRun, accuracy, counts, of_class};
use super::figures::{Figure, RATE, SPEED, TEST_ACC, TEST_LOSS, TRAIN_ACC, TRAIN_LOSS};
use super::flags::weights_file;
use super::predict::picture;
use super::runs::{groups, name, read_epochs};
use super::settings::of_run;
use super::summary::{layer_table, plan_table};
use super::table::{Table, grouped};
use super::trained::trained;
use super::{ThreadArgs, check_file, log, write_file};
use crate::chart::{self, Line, Panel};

/// The page of a run: settings, curves, layers, confusion matrix, accuracy by class and the most confident mistakes.
///
/// One file without anything from elsewhere, DIR/report.html, which `train` writes after each epoch, too, and with all of it at
/// the end. With several runs, one page with all of them side by side.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  nin report runs/nin-20260101-120000              its report.html anew
  nin report runs/chapter runs/robust              both in runs/report.html")]
pub(super) struct ReportArgs {
    /// Folder of a run, or of one run for each seed
    #[arg(value_name = "DIR", required = true)]
    runs: Vec<PathBuf>,
    /// File for the page [default: DIR/report.html, of several runs/report.html]
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    threads: ThreadArgs,
}

/// The name of the page in a run's folder.
const PAGE: &str = "report.html";
/// The most confident mistakes that are shown.
const MISTAKES: usize = 12;
/// The most classes of a matrix; of more, the pairs that are mixed up most.
const MATRIX: usize = 20;
/// The name of weights that are not those of an epoch's end.
const INSIDE: &str = "weights that were saved inside of an epoch";
/// Pixels of the longer side of a picture, at most.
const SIDE: usize = 168;

const CSS: &str = include_str!("report.css");

/// Runs `nin report`.
pub(super) fn report(args: &ReportArgs) -> Result<(), TrainError> {
    let threads = args.threads.read()?;
    let path = match (&args.html, &args.runs[..]) {
        (Some(path), _) => path.clone(),
        (None, [run]) => run.join(PAGE),
        (None, _) => Path::new("runs").join(PAGE),
    };
    let folders = groups(&args.runs, "config.toml")?.into_iter().flat_map(|group| group.runs);
    let runs = folders.map(|folder| Ok((Report::read(&folder)?, read_epochs(&folder)?)));
    let runs = runs.collect::<Result<Vec<_>, TrainError>>()?;
    refuse_other_file(&path)?;
    check_file(&path)?;
    let mut whole = Vec::new();
    for (run, epochs) in runs {
        // A page without its images is better than none. The weights of a run without an epoch are those that it began with.
        let verdict = match epochs.last() {
            None => Err("no epoch is finished".to_owned()),
            Some(_) => run.verdict(&args.data, threads).map_err(|error| error.to_string()),
        };
        if let Err(why) = &verdict {
            log(&format!("warning: {}: without what it answers: {why}", run.folder.display()));
        }
        whole.push((run, epochs, verdict));
    }
    let page = match &whole[..] {
        [(run, epochs, verdict)] => run.page(epochs, verdict.as_ref().map_err(String::as_str)),
        _ => side_by_side(&whole),
    };
    write_file(&path, &page.into_string())?;
    print_line!("the page is {}", path.display());
    Ok(())
}

/// A file that is there and is no page stays: a name that was meant for something else must not cost a run its weights.
fn refuse_other_file(path: &Path) -> Result<(), TrainError> {
    let Some(bytes) = Some(path).filter(|path| path.is_file()).map(disk::read).transpose()? else {
        return Ok(());
    };
    if bytes.is_empty() || bytes.starts_with(DOCTYPE.0.as_bytes()) {
        return Ok(());
    }
    Err(TrainError::setting("html", "the name of a page, or of nothing yet", path.display()))
}

/// All that is known of a run but for its epochs and its answers.
#[derive(Debug)]
pub(super) struct Report {
    folder: PathBuf,
    settings: Settings,
    /// The version that trained it.
    version: Option<String>,
    /// The network, or why it is not known.
    network: Result<Layers, String>,
    /// Why the page could not be written last, which is said once.
    complaint: Option<String>,
}

/// The layers of a network.
#[derive(Debug)]
struct Layers {
    parameters: usize,
    layers: Table,
    plan: Table,
}

impl Layers {
    fn of(network: &dyn Module<f32>, image: Shape, conv: ConvAlgorithm) -> Result<Self, TrainError> {
        Ok(Self {
            parameters: parameter_count(network),
            layers: layer_table(network, image)?,
            plan: plan_table(network, image, conv)?,
        })
    }
}

impl Report {
    /// Of a run that goes on.
    ///
    /// # Errors
    /// [`TrainError`] if the network does not fit its images.
    pub(super) fn of(trainer: &Trainer, folder: &Path) -> Result<Self, TrainError> {
        let settings = trainer.settings().clone();
        Ok(Self {
            folder: folder.to_path_buf(),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            network: Ok(Layers::of(trainer.model(), trainer.input_shape(), settings.conv)?),
            settings,
            complaint: None,
        })
    }

    /// Of the run in a folder. What a run of an earlier version, or one that is damaged, does not say is left out.
    fn read(folder: &Path) -> Result<Self, TrainError> {
        let settings = of_run(folder, &Overrides::default())?;
        let weights = weights_file(folder);
        let card = ModelCard::read(&weights).map_err(|error| error.to_string());
        let card = card.and_then(|card| {
            card.ok_or_else(|| format!("{}: it does not say what network it is of", weights.display()))
        });
        let layers = |card: &ModelCard| {
            let [c, h, w] = card.image;
            // With the run's dropout, of which weights know nothing.
            let network = settings.network(c, card.classes.len())?;
            Layers::of(&network, Shape::from([1, c, h, w]), settings.conv)
        };
        let network = card.as_ref().map_err(Clone::clone);
        let network = network.and_then(|card| layers(card).map_err(|error| error.to_string()));
        let version = card.ok().map(|card| card.version);
        Ok(Self { folder: folder.to_path_buf(), version, network, settings, complaint: None })
    }

    /// Lets the run's weights answer to the images that it is judged by.
    fn verdict(&self, data: &DataArgs, threads: usize) -> Result<Verdict, TrainError> {
        let judged = OpenRun::new(&self.folder, None, None, data, threads)?.judge("test")?;
        Verdict::of(&judged, self.settings.judged_by(), &trained(Some(&self.folder), threads)?)
    }

    /// Writes the page of a run with its epochs so far, and why there is nothing about its answers. A run does not end for its
    /// page: an error is reported, and the same one not again after the next epoch.
    pub(super) fn write(&mut self, epochs: &[EpochMetrics], why: &str) {
        if !epochs.is_empty() {
            self.put(&self.page(epochs, Err(why)));
        }
    }

    /// Writes the page of a run that is over, with what it answered when it was tested last. As [`Report::write`].
    pub(super) fn write_last(&mut self, trainer: &Trainer, threads: usize) {
        // A run that was over before has its page.
        if trainer.predictions().is_empty() {
            return;
        }
        let judged =
            Judged { images: trainer.judged_by().clone(), predictions: trainer.predictions().to_vec() };
        let verdict = || -> Result<_, TrainError> {
            let classifier = trained(Some(&self.folder), threads)?;
            let verdict = Verdict::of(&judged, self.settings.judged_by(), &classifier)?;
            Ok((verdict, RunDir::read_epochs(&self.folder)?))
        };
        match verdict() {
            Ok((verdict, epochs)) => self.put(&self.page(&epochs, Ok(&verdict))),
            Err(error) => log(&format!("warning: {PAGE}: without what the run answers: {error}")),
        }
    }

    fn put(&mut self, page: &Markup) {
        let complaint = write_file(&self.folder.join(PAGE), &page.0).err().map(|error| error.to_string());
        if let Some(error) = complaint.as_ref().filter(|_| self.complaint != complaint) {
            log(&format!("warning: {error}"));
        }
        self.complaint = complaint;
    }

    fn name(&self) -> String {
        shown(&name(&self.folder))
    }

    /// The number of parameters, if it is known.
    fn parameters(&self) -> Option<String> {
        self.network.as_ref().ok().map(|network| grouped(network.parameters))
    }

    /// The page, with what the run answers or why that is missing.
    fn page(&self, epochs: &[EpochMetrics], verdict: Result<&Verdict, &str>) -> Markup {
        let name = self.name();
        let about = format!(
            "{} on {} at {side} x {side}{}; epoch {} of {}",
            self.settings.model,
            shown(&self.settings.dataset.to_string()),
            self.parameters().map_or_else(String::new, |count| format!(", {count} parameters")),
            epochs.last().map_or(0, |last| last.epoch),
            self.settings.epochs,
            side = self.settings.image_size,
        );
        let mut repeat = "nin train --config config.toml".to_owned();
        let record = DataRecord::read(&self.folder).ok().flatten();
        if let (None, Some(folder)) =
            (&self.settings.dataset.folder, record.as_ref().and_then(|record| record.folder.as_ref()))
        {
            repeat += &format!(" --data-dir {}", quoted(folder));
        }
        let body = html! {
            h1 { (name) }
            p.soft { (about) }
            @if self.settings.judged_by() == JudgedBy::HeldOut {
                p { "Images were held out of training (hold_out = " (self.settings.hold_out) "): \"test acc\" and \"test loss\" are measured on them." }
            }
            (figures(epochs))
            h2 #curves { "Curves" }
            (curves(epochs))
            details { summary { "The figures of each epoch" } (table_of(epochs).html()) }
            @match verdict {
                Ok(verdict) => (verdict.html(epochs)),
                Err(why) => { h2 #answers { "Answers" } p.soft { (shown(why)) } }
            }
            h2 #layers { "Layers" }
            @match &self.network {
                Ok(network) => {
                    p.soft { "Of one image. The plan is what an evaluation computes: ops after fusion, with the algorithms of convolutions." }
                    details { summary { "Layers, outputs, parameters, work" } (network.layers.html()) }
                    details { summary { "Plan" } (network.plan.html()) }
                }
                Err(why) => p.soft { (shown(why)) }
            }
            h2 #settings { "Settings" }
            pre { @for (name, value) in pairs_of(&self.settings) { (name) " = " (shown(&value)) "\n" } }
            h2 #repeat { "Once more" }
            p {
                "With the settings above in a file config.toml: the same bits on any number of threads of a processor with the same "
                "instruction set, in the version of the program that trained it"
                @if let Some(version) = &self.version { ", " (shown(version)) }
                ". Settings that were changed while the run went on are as they were at its end."
            }
            pre { (repeat) }
            @if let Some(record) = &record { p.soft { "Data: " (shown(&record.to_string())) } }
        };
        let links = [
            ("curves", "Curves"),
            ("answers", "Answers"),
            ("layers", "Layers"),
            ("settings", "Settings"),
            ("repeat", "Once more"),
        ];
        whole_page(&name, &links, &body)
    }
}

fn whole_page(title: &str, links: &[(&str, &str)], body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                // Whatever the page may hold, it loads nothing and runs nothing.
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'";
                title { (title) " - nin" }
                style { (PreEscaped(CSS)) (PreEscaped(chart::STYLE)) }
            }
            body {
                nav { @for (place, name) in links { a href={ "#" (place) } { (name) } } }
                (body)
            }
        }
    }
}

/// The figures of each epoch.
fn table_of(epochs: &[EpochMetrics]) -> Table {
    let four = [TRAIN_LOSS, TRAIN_ACC, TEST_ACC, TEST_LOSS];
    let names = four.iter().chain(&[RATE, SPEED]).map(|figure| figure.name);
    let mut table = Table::new(["epoch"].into_iter().chain(names));
    for own in epochs {
        let rate = own.lr.map(chart::figure).unwrap_or_default();
        let figures = four.map(|figure| figure.text(own));
        let [epoch, speed] = [own.epoch.to_string(), format!("{:.1}", own.images_per_s)];
        table.push([epoch].into_iter().chain(figures).chain([rate, speed]).collect());
    }
    table
}

/// The figures that matter most.
fn figures(epochs: &[EpochMetrics]) -> Markup {
    let Some(last) = epochs.last() else { return html! { p { "No epoch is finished." } } };
    let best = EpochMetrics::best(epochs).unwrap_or(last);
    let (score, of_best) = (last.score(), best.score());
    let speed = epochs.iter().map(|epoch| epoch.images_per_s).sum::<f64>() / epochs.len() as f64;
    html! {
        div.figures {
            div { b { (format!("{:.4}", score.value())) } (score.name()) }
            @for Figure { name, of } in [TRAIN_ACC, TRAIN_LOSS] {
                @if let Some(value) = of(last) { div { b { (format!("{value:.4}")) } (name) } }
            }
            div { b { (format!("{:.4}", of_best.value())) } "best " (of_best.name()) ", epoch " (best.epoch) }
            div { b { (format!("{speed:.1}")) } "images/s, mean of the epochs" }
            @if last.dead_maps > 0 { div { b.bad { (last.dead_maps) } "dead class maps" } }
        }
    }
}

/// The charts of a run: title, axis and curves.
const CHARTS: [(&str, Axis, &[Figure]); 4] = [
    ("loss", Axis::FromZero, &[TRAIN_LOSS, TEST_LOSS]),
    ("accuracy", Axis::ToOne, &[TRAIN_ACC, TEST_ACC]),
    ("learning rate", Axis::FromZero, &[RATE]),
    ("images per second", Axis::FromZero, &[SPEED]),
];

/// The ends of the vertical axis of a chart of these lines.
#[derive(Debug, Clone, Copy)]
enum Axis {
    /// From 0, so that a curve is as steep as it is.
    FromZero,
    /// To 1, from a round number below all of them: accuracies may all be close to 1.
    ToOne,
}

impl Axis {
    fn ends(self, values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
        match self {
            Self::FromZero => {
                (0.0, 1.05 * values.filter(|value| value.is_finite()).fold(0.0, f64::max).min(1e300))
            }
            Self::ToOne => {
                let least = values.fold(1.0, f64::min);
                // As far apart as the numbers on the axis are.
                let step = if least < 0.6 { 5.0 } else { 10.0 };
                (((least * step - 1e-9).floor() / step).max(0.0), 1.0)
            }
        }
    }
}

fn panel(title: &str, axis: Axis, groups: impl IntoIterator<Item = (String, Line)>) -> PreEscaped<String> {
    // A group without a value keeps its color.
    let named = |(name, line): (String, Line)| {
        (if line.is_empty() { format!("{name} (none)") } else { name }, vec![line])
    };
    let (names, groups): (Vec<String>, Vec<Vec<Line>>) = groups.into_iter().map(named).unzip();
    let range = Some(axis.ends(groups.iter().flatten().flatten().map(|point| point.1)));
    let (title, across) = (title.to_owned(), "epoch".to_owned());
    PreEscaped(chart::inline(&names, &Panel { title, across, groups, range, ..Panel::default() }))
}

fn curves(epochs: &[EpochMetrics]) -> Markup {
    let named = |figure: &Figure| (figure.name.to_owned(), figure.curve(epochs));
    html! { div.charts { @for (title, axis, figures) in CHARTS { (panel(title, axis, figures.iter().map(named))) } } }
}

/// The name of the images that a run is judged by.
fn judges_of(judges: JudgedBy) -> &'static str {
    match judges {
        JudgedBy::Test => "test images",
        JudgedBy::HeldOut => "images held out of training",
    }
}

/// The answers of a run's weights to the images that it is judged by.
#[derive(Debug)]
struct Verdict {
    judges: JudgedBy,
    classes: Vec<String>,
    /// The epoch after which the weights were saved; `None` inside of one, of whose end no figure is.
    epoch: Option<u64>,
    /// Rows are the labels.
    confusion: Vec<Vec<usize>>,
    mistakes: Vec<Mistake>,
}

/// An image that was taken for something else.
#[derive(Debug)]
struct Mistake {
    index: usize,
    prediction: Prediction,
    image: Picture,
    /// The map of the class that was answered over the image, if the network makes any.
    map: Option<Picture>,
}

impl Verdict {
    fn of(judged: &Judged, judges: JudgedBy, classifier: &Classifier) -> Result<Self, TrainError> {
        let mut wrong: Vec<(usize, Prediction)> = (0..).zip(judged.predictions.iter().copied()).collect();
        wrong.retain(|(_, prediction)| prediction.class != prediction.label);
        wrong.sort_by(|a, b| b.1.probability.total_cmp(&a.1.probability));
        let mut mistakes = Vec::new();
        for (index, prediction) in wrong.into_iter().take(MISTAKES) {
            let Some(picture) = picture(&*judged.images, index)? else { break };
            let image = picture.within(SIDE)?;
            let maps = classifier.has_class_maps().then(|| classifier.class_maps(&picture)).transpose()?;
            let map = maps.map(|maps| maps.drawn_over(prediction.class, &image));
            mistakes.push(Mistake { index, prediction, image, map });
        }
        let (classes, confusion) = (judged.images.class_names().to_vec(), judged.confusion());
        Ok(Self { judges, classes, epoch: classifier.card().epoch, confusion, mistakes })
    }

    fn name(&self, class: usize) -> String {
        self.classes.get(class).map_or_else(|| class.to_string(), |name| shown(name))
    }

    /// A note if the weights are not those of the last of the epochs: of a run that goes on, too, which may save them at any
    /// moment.
    fn of_other_weights(&self, epochs: &[EpochMetrics]) -> Option<String> {
        match self.epoch {
            None => Some(INSIDE.to_owned()),
            Some(epoch) if epochs.last().is_some_and(|last| last.epoch != epoch) => {
                Some(format!("the weights after epoch {epoch}"))
            }
            Some(_) => None,
        }
    }

    fn html(&self, epochs: &[EpochMetrics]) -> Markup {
        let (correct, images) = counts(&self.confusion);
        let mistakes = self.mistakes.len();
        html! {
            h2 #answers { "Answers to the " (judges_of(self.judges)) }
            p { (correct) " of " (images) " images are answered correctly, " (format!("{:.4}", accuracy(&self.confusion))) "." }
            @if let Some(other) = self.of_other_weights(epochs) {
                p { "The answers are those of " (other) ": the figures of the last epoch are of other weights." }
            }
            h2 { "Accuracy by class" }
            div.wide { table {
                tr { th { "class" } th.number { "found" } th {} th.number { "images" } }
                @for class in 0..self.classes.len() {
                    @let (share, images) = of_class(&self.confusion, class);
                    tr {
                        td { (self.name(class)) } td.number { (share.map_or_else(String::new, |share| format!("{share:.3}"))) }
                        td { @if let Some(share) = share { div.bar { i style={ "width:" (format!("{:.1}", 100.0 * share)) "%" } {} } } }
                        td.number { (images) }
                    }
                }
            } }
            h2 { "What is taken for what" }
            (if self.classes.len() <= MATRIX { self.matrix() } else { self.pairs() })
            @if mistakes > 0 {
                h2 #mistakes { "The most confident mistakes" }
                div.mistakes { @for mistake in &self.mistakes { (self.figure(mistake)) } }
            } @else if correct < images {
                p.soft { "The images are no pictures of one or three channels, so that mistakes are not shown." }
            }
        }
    }

    fn matrix(&self) -> Markup {
        let cell = |label: usize, class: usize| {
            let (count, row) = (self.confusion[label][class], self.confusion[label].iter().sum::<usize>());
            let share = format!("--share:{:.3}", count as f64 / row.max(1) as f64);
            html! { td class=(if label == class { "right" } else { "wrong" }) style=(share) { @if count > 0 { (count) } } }
        };
        html! {
            p.soft { "Rows are what the images are of, columns what was answered." }
            div.wide { table.matrix {
                tr { th {} @for class in 0..self.classes.len() { th { (self.name(class)) } } }
                @for label in 0..self.classes.len() {
                    tr { th { (self.name(label)) } @for class in 0..self.classes.len() { (cell(label, class)) } }
                }
            } }
        }
    }

    /// The pairs of classes that are mixed up most, of which there are too many for a matrix.
    fn pairs(&self) -> Markup {
        let classes = self.classes.len();
        let mut pairs: Vec<(usize, usize, usize)> = (0..classes)
            .flat_map(|label| (0..classes).map(move |class| (label, class)))
            .filter(|(label, class)| label != class)
            .map(|(label, class)| (self.confusion[label][class], label, class))
            .filter(|(count, _, _)| *count > 0)
            .collect();
        pairs.sort_by_key(|pair| std::cmp::Reverse(pair.0));
        let (all, most) = (pairs.len(), 2 * MATRIX);
        let mut table = Table::new(["it is", "answered", "images"]);
        for (count, label, class) in pairs.into_iter().take(most) {
            table.push(vec![self.name(label), self.name(class), count.to_string()]);
        }
        html! {
            p.soft {
                @if all == 0 { "Nothing." } @else if all > most { "The " (most) " most frequent of " (all) " pairs." }
                @else { "All " (all) " pairs." }
            }
            (table.html())
        }
    }

    fn figure(&self, Mistake { index, prediction, image, map }: &Mistake) -> Markup {
        let picture = |picture: &Picture, what: &str| {
            let data = format!("data:image/png;base64,{}", STANDARD.encode(picture.to_png()));
            html! { img src=(data) alt=(what) loading="lazy"; }
        };
        let (answer, label) = (self.name(prediction.class), self.name(prediction.label));
        html! {
            figure {
                div {
                    (picture(image, &format!("image {index}: {label}")))
                    @if let Some(map) = map { (picture(map, &format!("where {answer} was seen in it"))) }
                }
                figcaption {
                    span.bad { (answer) } " " (format!("{:.3}", prediction.probability)) ", it is " b { (label) }
                    // By it, `nin predict --index` has the image.
                    @if self.judges == JudgedBy::Test { span.soft { " (test image " (index) ")" } }
                }
            }
        }
    }
}

/// The settings, name and value, without those of a command: a run goes on without them, and no bit depends on them.
fn pairs_of(settings: &Settings) -> Vec<(String, String)> {
    let toml = settings.to_toml();
    let pairs = toml.lines().filter_map(|line| line.split_once(" = "));
    let pairs = pairs.filter(|(name, _)| !is_of_a_command(name));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use nin::train::Recipe;

    use super::*;
    use crate::cli::figures::tests::epoch;

    pub(super) fn verdict(classes: &[&str], confusion: Vec<Vec<usize>>) -> Verdict {
        let picture = Picture::new([1, 2, 2], vec![0, 80, 160, 255]).unwrap();
        let image = picture.within(SIDE).unwrap();
        let prediction = Prediction { label: 0, class: 1, probability: 0.875 };
        let mistakes = vec![Mistake { index: 7, prediction, map: Some(image.clone()), image }];
        let classes = classes.iter().map(|name| (*name).to_owned()).collect();
        Verdict { judges: JudgedBy::Test, classes, epoch: Some(2), confusion, mistakes }
    }

    pub(super) fn run(folder: &str, lr: f64) -> Report {
        let settings = Settings { lr, ..Settings::of(Recipe::Chapter) };
        let network = nin::models::Model::LeNet.build::<f32>(1, 3, 0.5);
        let network = Layers::of(&network, Shape::from([1, 1, 28, 28]), settings.conv);
        let version = Some("0.1.0".to_owned());
        Report { folder: folder.into(), settings, version, network: Ok(network.unwrap()), complaint: None }
    }

    /// Nothing is right or wrong of dense targets.
    #[test]
    fn a_run_without_classes_has_no_accuracy() {
        let dense = |own, test_loss| EpochMetrics {
            train_acc: None,
            test_acc: None,
            test_loss: Some(test_loss),
            ..epoch(own, 0.0, 0)
        };
        let text = figures(&[dense(1, 0.25), dense(2, 0.5)]).into_string();
        for part in ["<b>0.5000</b>test loss", "<b>0.2500</b>best test loss, epoch 1"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("acc"), "{text}");
    }

    /// Names of files are text, whatever they look like.
    #[test]
    fn names_are_no_markup() {
        let evil = "<script>alert(1)</script>\u{1b}[2J";
        let verdict = verdict(&[evil, "b\"&", "c"], vec![vec![3, 1, 0], vec![0, 4, 0], vec![0, 2, 2]]);
        let run = run(&format!("runs/{}", evil.replace('/', ":")), 0.1);
        let page = run.page(&[epoch(1, 0.5, 0), epoch(2, 0.75, 2)], Ok(&verdict)).into_string();
        let other = run.page(&[], Err(evil)).into_string();
        let both = side_by_side(&[(run, vec![epoch(1, 0.5, 0)], Ok(verdict))]).into_string();
        for page in [&page, &other, &both] {
            assert!(!page.contains("<script") && !page.contains('\u{1b}'), "{page}");
            assert!(page.contains("&lt;script&gt;"), "{page}");
            assert!(
                !page.contains("http://")
                    || page.matches("http://").count()
                        == page.matches("xmlns=\"http://www.w3.org/2000/svg\"").count()
            );
            assert!(!page.contains("https://") && !page.contains("src=\"/"));
        }
        assert!(page.contains("b&quot;&amp;"));
    }

    #[test]
    fn a_page_has_what_the_run_came_to() {
        let verdict = verdict(&["a", "b", "c"], vec![vec![3, 1, 0], vec![0, 4, 0], vec![0, 2, 2]]);
        let page =
            run("runs/one", 0.1).page(&[epoch(1, 0.5, 0), epoch(2, 0.75, 2)], Ok(&verdict)).into_string();
        for text in [
            "<h1>one</h1>",
            "nin on fashion-mnist-mini",
            "0.7500</b>test acc",
            "2</b>dead class maps",
            "9 of 12 images are answered correctly, 0.7500.",
            "epoch 2 of 10",
            "<td class=\"right\" style=\"--share:0.750\">3</td><td class=\"wrong\" style=\"--share:0.250\">1</td>",
            "src=\"data:image/png;base64,iVBOR",
            "test image 7",
            "lr = 0.1",
            "nin train --config config.toml",
            "trained it, 0.1.0.",
            "Conv2d(",
        ] {
            assert!(page.contains(text), "no {text:?} in {page}");
        }
        assert_eq!(page.matches("<svg").count(), 4);
    }

    #[test]
    fn many_classes_are_pairs() {
        let names: Vec<String> = (0..30).map(|class| format!("class {class}")).collect();
        let mut confusion = vec![vec![0; 30]; 30];
        (confusion[3][4], confusion[5][6], confusion[7][7]) = (2, 9, 50);
        let (judges, mistakes) = (JudgedBy::HeldOut, Vec::new());
        let verdict = Verdict { judges, classes: names, epoch: None, confusion, mistakes };
        let html = verdict.html(&[]).into_string();
        let most = html.find("<td>class 5</td><td>class 6</td><td class=\"number\">9</td>").unwrap();
        let less = html.find("<td>class 3</td><td>class 4</td><td class=\"number\">2</td>").unwrap();
        assert!(most < less);
        // A class without images has no share of them.
        let none = "<td>class 0</td><td class=\"number\"></td><td></td><td class=\"number\">0</td>";
        assert!(html.contains(none) && html.contains("All 2 pairs.") && html.contains("held out"), "{html}");
        assert!(html.contains("saved inside of an epoch"), "{html}");
        assert!(!html.contains("table class=\"matrix\""));
    }
}
