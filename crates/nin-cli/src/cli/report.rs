//! `report.html` of a run folder, and `nin report`: what a run came to, as one page that needs nothing else.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use nin::data::{DataRecord, Picture};
use nin::names::{quoted, shown};
use nin::nn::{Sequential, parameter_count};
use nin::train::{EpochMetrics, Overrides, Prediction, RunDir, Settings, TrainError, Trainer};
use nin::{Classifier, ModelCard};
use tensor::Shape;

use super::data::DataArgs;
use super::eval::{Judged, OpenRun, accuracy, counts};
use super::predict::picture;
use super::runs::groups;
use super::settings::of_run;
use super::summary::{layer_table, plan_table};
use super::table::{Table, grouped};
use super::{ThreadArgs, check_file, tell, write_file};
use crate::chart::{self, Line, Panel};

/// The page of a run: settings, curves, layers, confusion matrix, accuracy by class and the most confident mistakes.
///
/// One file without anything from elsewhere, DIR/report.html, which `train` writes after each epoch, too, and with all of it at the end.
/// With several runs, one page with all of them side by side.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  nin report runs/nin-20260101-120000              its report.html anew
  nin report runs/chapter runs/robust              both in runs/report.html")]
pub struct ReportArgs {
    /// Folder of a run, or of one run for each seed
    #[arg(value_name = "DIR", required = true)]
    pub runs: Vec<PathBuf>,
    /// Where the page goes [default: DIR/report.html, of several runs/report.html]
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// The data sets' files.
    #[command(flatten)]
    pub data: DataArgs,
    /// Threads.
    #[command(flatten)]
    pub threads: ThreadArgs,
}

/// The name of the page in a run's folder.
const PAGE: &str = "report.html";
/// The most confident mistakes that are shown.
const MISTAKES: usize = 12;
/// The most classes of a matrix; of more, the pairs that are mixed up most.
const MATRIX: usize = 20;
/// Pixels of the longer side of a picture, at least and at most.
const SIDES: [usize; 2] = [112, 224];

const CSS: &str = include_str!("report.css");

/// Runs `nin report`.
///
/// # Errors
/// [`TrainError`] for the binary to print.
pub fn report(args: &ReportArgs) -> Result<(), TrainError> {
    let threads = args.threads.read()?;
    let path = match (&args.html, &args.runs[..]) {
        (Some(path), _) => path.clone(),
        (None, [run]) => run.join(PAGE),
        (None, _) => Path::new("runs").join(PAGE),
    };
    let folders = groups(&args.runs, "config.toml")?.into_iter().flat_map(|group| group.runs);
    let runs = folders.map(|folder| Ok((Report::read(&folder)?, RunDir::read_epochs(&folder)?)));
    let runs = runs.collect::<Result<Vec<_>, TrainError>>()?;
    check_file(&path)?;
    let mut whole = Vec::new();
    for (run, epochs) in runs {
        // A page without its images is better than none.
        let verdict = run.verdict(&args.data, threads);
        let verdict = verdict
            .inspect_err(|error| tell(&format!("warning: without what it answers: {error}")))
            .map_err(|error| error.to_string());
        whole.push((run, epochs, verdict));
    }
    let page = match &whole[..] {
        [(run, epochs, verdict)] => run.page(epochs, verdict.as_ref().map_err(String::as_str)),
        _ => side_by_side(&whole),
    };
    write_file(&path, &page.into_string())?;
    say!("the page is {}", path.display());
    Ok(())
}

/// What is known of a run but for its epochs and its answers.
#[derive(Debug)]
pub(super) struct Report {
    folder: PathBuf,
    settings: Settings,
    parameters: usize,
    layers: Table,
    plan: Table,
}

impl Report {
    /// Of a run that goes on.
    ///
    /// # Errors
    /// [`TrainError`] if the network does not fit its images.
    pub(super) fn of(trainer: &Trainer, folder: &Path) -> Result<Self, TrainError> {
        Self::new(folder, trainer.settings().clone(), trainer.model(), trainer.input_shape())
    }

    /// Of the run in a folder.
    fn read(folder: &Path) -> Result<Self, TrainError> {
        let settings = of_run(folder, &Overrides::default())?;
        let weights = folder.join("model.safetensors");
        let Some(card) = ModelCard::read(&weights)? else {
            return Err(TrainError::of(&weights, "it does not say what network it is of"));
        };
        let [c, h, w] = card.image;
        // With the run's dropout, of which weights know nothing.
        let network = settings.network(c, card.classes.len())?;
        Self::new(folder, settings, &network, Shape::from([1, c, h, w]))
    }

    fn new(
        folder: &Path,
        settings: Settings,
        network: &Sequential<f32>,
        image: Shape,
    ) -> Result<Self, TrainError> {
        Ok(Self {
            folder: folder.to_path_buf(),
            parameters: parameter_count(network),
            layers: layer_table(network, image)?,
            plan: plan_table(network, image, settings.conv)?,
            settings,
        })
    }

    /// What the run's weights answer to its test images.
    fn verdict(&self, data: &DataArgs, threads: usize) -> Result<Verdict, TrainError> {
        let weights = self.folder.join("model.safetensors");
        let judged = OpenRun::new(&self.folder, weights.clone(), None, data, threads)?.judge("test")?;
        Verdict::of(&judged, &Classifier::load(&weights)?.with_threads(threads)?)
    }

    /// Writes the page of a run that goes on, with its epochs so far.
    ///
    /// # Errors
    /// [`TrainError`] if it cannot be written.
    pub(super) fn write(&self) -> Result<(), TrainError> {
        let epochs = RunDir::read_epochs(&self.folder)?;
        if epochs.is_empty() {
            return Ok(());
        }
        let why = "The run goes on, or was stopped: its answers are added when it ends, or by nin report.";
        write_file(&self.folder.join(PAGE), &self.page(&epochs, Err(why)).into_string())
    }

    /// Writes the page of a run that is over.
    ///
    /// # Errors
    /// [`TrainError`] if an answer is none or the page cannot be written.
    pub(super) fn write_last(&self, trainer: &Trainer, threads: usize) -> Result<(), TrainError> {
        let weights = self.folder.join("model.safetensors");
        let images = trainer.judged_by().clone();
        let judged = Judged { images, predictions: trainer.predictions(&weights)? };
        let verdict = Verdict::of(&judged, &Classifier::load(&weights)?.with_threads(threads)?)?;
        let epochs = RunDir::read_epochs(&self.folder)?;
        write_file(&self.folder.join(PAGE), &self.page(&epochs, Ok(&verdict)).into_string())
    }

    fn name(&self) -> String {
        let name = self.folder.file_name().map(|name| name.to_string_lossy().into_owned());
        shown(&name.unwrap_or_else(|| self.folder.display().to_string()))
    }

    /// The page, with what the run answers or why that is missing.
    fn page(&self, epochs: &[EpochMetrics], verdict: Result<&Verdict, &str>) -> Markup {
        let name = self.name();
        let about = format!(
            "{} on {} at {side} x {side}, {} parameters; epoch {} of {}",
            self.settings.model,
            shown(&self.settings.dataset.to_string()),
            grouped(self.parameters),
            epochs.last().map_or(0, |last| last.epoch),
            self.settings.epochs,
            side = self.settings.image_size,
        );
        let mut repeat = format!("nin train --config {}", quoted(&self.folder.join("config.toml")));
        let record = DataRecord::read(&self.folder).ok().flatten();
        if let (None, Some(folder)) =
            (&self.settings.dataset.folder, record.as_ref().and_then(|record| record.folder.as_ref()))
        {
            repeat += &format!(" --data-dir {}", quoted(folder));
        }
        let body = html! {
            h1 { (name) }
            p.soft { (about) }
            (figures(epochs))
            h2 #curves { "Curves" }
            (curves(epochs))
            @match verdict {
                Ok(verdict) => (verdict.html()),
                Err(why) => { h2 #answers { "Answers" } p.soft { (shown(why)) } }
            }
            h2 #layers { "Layers" }
            p.soft { "Of one image. The plan is what an evaluation computes: ops after fusion, with the algorithms of convolutions." }
            details { summary { "Layers, outputs, parameters, work" } (self.layers.html()) }
            details { summary { "Plan" } (self.plan.html()) }
            h2 #settings { "Settings" }
            pre { (shown_lines(&self.settings.to_toml())) }
            h2 #repeat { "Once more" }
            p { "The same bits on any number of threads of a processor with the same instruction set, in this version (" (env!("CARGO_PKG_VERSION")) "):" }
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

/// Lines of text in which no character is obeyed.
fn shown_lines(text: &str) -> String {
    text.lines().map(shown).collect::<Vec<_>>().join("\n")
}

/// The figures that matter most.
fn figures(epochs: &[EpochMetrics]) -> Markup {
    let Some(last) = epochs.last() else { return html! { p { "No epoch is finished." } } };
    let best = epochs.iter().rev().max_by(|a, b| a.test_acc.total_cmp(&b.test_acc)).unwrap_or(last);
    let speed = epochs.iter().map(|epoch| epoch.images_per_s).sum::<f64>() / epochs.len() as f64;
    html! {
        div.figures {
            div { b { (format!("{:.4}", last.test_acc)) } "test acc" }
            div { b { (format!("{:.4}", last.train_acc)) } "train acc" }
            div { b { (format!("{:.4}", last.train_loss)) } "train loss" }
            div { b { (format!("{:.4}", best.test_acc)) } "best test acc, epoch " (best.epoch) }
            div { b { (format!("{speed:.1}")) } "images/s, mean of the epochs" }
            @if last.dead_maps > 0 { div { b.bad { (last.dead_maps) } "dead class maps" } }
        }
    }
}

/// A figure of an epoch, if it has it.
type Figure = fn(&EpochMetrics) -> Option<f64>;

/// The charts of a run: title, and the curves with their names.
const CHARTS: [(&str, &[(&str, Figure)]); 4] = [
    ("loss", &[("train loss", |epoch| Some(epoch.train_loss)), ("test loss", |epoch| epoch.test_loss)]),
    ("accuracy", &[("train acc", |epoch| Some(epoch.train_acc)), ("test acc", |epoch| Some(epoch.test_acc))]),
    ("learning rate", &[("learning rate", |epoch| epoch.lr)]),
    ("images per second", &[("images/s", |epoch| Some(epoch.images_per_s))]),
];

fn line(epochs: &[EpochMetrics], figure: Figure) -> Line {
    epochs.iter().filter_map(|epoch| Some((epoch.epoch as f64, figure(epoch)?))).collect()
}

fn panel(title: &str, groups: impl IntoIterator<Item = (String, Line)>) -> PreEscaped<String> {
    let (names, groups): (Vec<String>, Vec<Vec<Line>>) = groups
        .into_iter()
        .filter(|(_, line)| !line.is_empty())
        .map(|(name, line)| (name, vec![line]))
        .unzip();
    let values = || groups.iter().flatten().flatten().map(|point| point.1);
    // From 0, so that a curve is as steep as it is; accuracies, which may all be close to 1, from the tenth below the least.
    let range = if title.contains("accuracy") {
        ((values().fold(1.0, f64::min) * 10.0 - 1e-9).floor().max(0.0) / 10.0, 1.0)
    } else {
        (0.0, 1.05 * values().fold(0.0, f64::max))
    };
    let (title, across) = (title.to_owned(), "epoch".to_owned());
    let panel = Panel { title, across, groups, range: Some(range), ..Panel::default() };
    PreEscaped(chart::inline(&names, &panel))
}

fn curves(epochs: &[EpochMetrics]) -> Markup {
    let chart = |title, curves: &[(&str, Figure)]| {
        panel(title, curves.iter().map(|(name, figure)| ((*name).to_owned(), line(epochs, *figure))))
    };
    html! { div.charts { @for (title, curves) in CHARTS { (chart(title, curves)) } } }
}

/// What a run's weights answer to its test images.
#[derive(Debug)]
struct Verdict {
    classes: Vec<String>,
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
    fn of(judged: &Judged, classifier: &Classifier) -> Result<Self, TrainError> {
        let mut wrong: Vec<(usize, Prediction)> = (0..).zip(judged.predictions.iter().copied()).collect();
        wrong.retain(|(_, prediction)| prediction.class != prediction.label);
        wrong.sort_by(|a, b| b.1.probability.total_cmp(&a.1.probability));
        let mut mistakes = Vec::new();
        for (index, prediction) in wrong.into_iter().take(MISTAKES) {
            let Some(picture) = picture(&*judged.images, index)? else { break };
            let image = sized(&picture)?;
            let maps = classifier.has_class_maps().then(|| classifier.class_maps(&picture)).transpose()?;
            let map = maps.map(|maps| maps.drawn_over(prediction.class, &image));
            mistakes.push(Mistake { index, prediction, image, map });
        }
        let (classes, confusion) = (judged.images.class_names().to_vec(), judged.confusion());
        Ok(Self { classes, confusion, mistakes })
    }

    /// The share of a class's images that were found, and how many there are.
    fn of_class(&self, class: usize) -> (f64, usize) {
        let images: usize = self.confusion[class].iter().sum();
        (self.confusion[class][class] as f64 / images.max(1) as f64, images)
    }

    fn name(&self, class: usize) -> String {
        self.classes.get(class).map_or_else(|| class.to_string(), |name| shown(name))
    }

    fn html(&self) -> Markup {
        let (correct, images) = counts(&self.confusion);
        let mistakes = self.mistakes.len();
        html! {
            h2 #answers { "Answers to the test images" }
            p { (correct) " of " (images) " images are answered correctly, " (format!("{:.4}", accuracy(&self.confusion))) "." }
            h2 { "Accuracy by class" }
            div.wide { table {
                tr { th { "class" } th.number { "found" } th {} th.number { "images" } }
                @for class in 0..self.classes.len() {
                    @let (share, images) = self.of_class(class);
                    tr {
                        td { (self.name(class)) } td.number { (format!("{share:.3}")) }
                        td { div.bar { i style={ "width:" (format!("{:.1}", 100.0 * share)) "%" } {} } }
                        td.number { (images) }
                    }
                }
            } }
            h2 { "What is taken for what" }
            (if self.classes.len() <= MATRIX { self.matrix() } else { self.pairs() })
            @if mistakes > 0 {
                h2 #mistakes { "The most confident mistakes" }
                div.mistakes { @for mistake in &self.mistakes { (self.figure(mistake)) } }
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
        pairs.truncate(2 * MATRIX);
        html! {
            div.wide { table {
                tr { th { "it is" } th { "answered" } th.number { "images" } }
                @for (count, label, class) in pairs {
                    tr { td { (self.name(label)) } td { (self.name(class)) } td.number { (count) } }
                }
            } }
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
                    (picture(image, &format!("test image {index}: {label}")))
                    @if let Some(map) = map { (picture(map, &format!("where {answer} was seen in it"))) }
                }
                figcaption {
                    span.bad { (answer) } " " (format!("{:.3}", prediction.probability)) ", it is " b { (label) }
                    span.soft { " (number " (index) ")" }
                }
            }
        }
    }
}

/// A picture at a size for eyes.
fn sized(picture: &Picture) -> Result<Picture, TrainError> {
    let ([_, h, w], [least, most]) = (picture.shape(), SIDES);
    let longest = h.max(w);
    Ok(if longest > most {
        picture.resized([h, w].map(|side| (side * most / longest).max(1)))?
    } else {
        picture.enlarged(least.div_ceil(longest))?
    })
}

/// A run with its epochs, and what it answers or why that is missing.
type Whole = (Report, Vec<EpochMetrics>, Result<Verdict, String>);

/// The page of several runs.
fn side_by_side(runs: &[Whole]) -> Markup {
    // Runs of one name are told apart by their folders.
    let same = |name: &str| runs.iter().filter(|(run, ..)| run.name() == name).count() > 1;
    let name = |run: &Report| {
        let name = run.name();
        if same(&name) { shown(&run.folder.display().to_string()) } else { name }
    };
    let names: Vec<String> = runs.iter().map(|(run, ..)| name(run)).collect();
    let last = |figure: Figure| {
        runs.iter()
            .map(|(_, epochs, _)| {
                epochs.last().and_then(figure).map_or_else(String::new, |v| format!("{v:.4}"))
            })
            .collect::<Vec<_>>()
    };
    let mut rows: Vec<(&str, Vec<String>)> = vec![
        ("test acc", last(|epoch| Some(epoch.test_acc))),
        ("train acc", last(|epoch| Some(epoch.train_acc))),
        ("train loss", last(|epoch| Some(epoch.train_loss))),
        ("test loss", last(|epoch| epoch.test_loss)),
        ("epochs", runs.iter().map(|(_, epochs, _)| epochs.len().to_string()).collect()),
        ("parameters", runs.iter().map(|(run, ..)| grouped(run.parameters)).collect()),
    ];
    let settings: Vec<Vec<(String, String)>> = runs.iter().map(|(run, ..)| pairs_of(&run.settings)).collect();
    let mut keys: Vec<&str> = Vec::new();
    for (key, _) in settings.iter().flatten() {
        if !keys.contains(&key.as_str()) {
            keys.push(key);
        }
    }
    let value = |own: &[(String, String)], key: &str| {
        own.iter().find(|(name, _)| name == key).map_or_else(String::new, |(_, value)| value.clone())
    };
    let others =
        keys.into_iter().map(|key| (key, settings.iter().map(|own| value(own, key)).collect::<Vec<_>>()));
    let (same, other): (Vec<_>, Vec<_>) =
        others.partition(|(_, values)| values.iter().all(|own| *own == values[0]));
    let results = rows.len();
    rows.extend(other);
    let curve = |title, figure: Figure| {
        panel(
            title,
            names.iter().zip(runs).map(|(name, (_, epochs, _))| (name.clone(), line(epochs, figure))),
        )
    };
    let table = |rows: &[(&str, Vec<String>)]| {
        html! {
            div.wide { table {
                tr { th {} @for name in &names { th.number { (name) } } }
                @for (key, values) in rows {
                    tr { td { (key) } @for value in values { td.number { (shown(value)) } } }
                }
            } }
        }
    };
    let body = html! {
        h1 { (runs.len()) " runs" }
        h2 #results { "Results" }
        (table(&rows[..results]))
        h2 #curves { "Curves" }
        div.charts {
            (curve("test accuracy", |epoch| Some(epoch.test_acc)))
            (curve("train loss", |epoch| Some(epoch.train_loss)))
            (curve("test loss", |epoch| epoch.test_loss))
            (curve("images per second", |epoch| Some(epoch.images_per_s)))
        }
        h2 #answers { "Accuracy by class" }
        (by_class(runs, &names))
        h2 #settings { "Settings that differ" }
        @if rows.len() > results { (table(&rows[results..])) } @else { p { "None." } }
        details { summary { "Settings that are the same" }
            pre { @for (key, values) in &same { (key) " = " (shown(&values[0])) "\n" } }
        }
    };
    let links = [
        ("results", "Results"),
        ("curves", "Curves"),
        ("answers", "Accuracy by class"),
        ("settings", "Settings"),
    ];
    whole_page(&names.join(", "), &links, &body)
}

/// The settings, name and value.
fn pairs_of(settings: &Settings) -> Vec<(String, String)> {
    let toml = settings.to_toml();
    let pairs = toml.lines().filter_map(|line| line.split_once(" = "));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// How much of each class each run finds.
fn by_class(runs: &[Whole], names: &[String]) -> Markup {
    let mut classes: Vec<&String> = Vec::new();
    let verdicts: Vec<Option<&Verdict>> = runs.iter().map(|(.., verdict)| verdict.as_ref().ok()).collect();
    for class in verdicts.iter().flatten().flat_map(|verdict| &verdict.classes) {
        if !classes.contains(&class) {
            classes.push(class);
        }
    }
    let share = |verdict: &Option<&Verdict>, class: &String| {
        let verdict = (*verdict)?;
        let found = verdict.classes.iter().position(|own| own == class)?;
        Some(format!("{:.3}", verdict.of_class(found).0))
    };
    html! {
        @for (name, (.., verdict)) in names.iter().zip(runs) {
            @if let Err(why) = verdict { p.soft { (name) ": " (shown(why)) } }
        }
        div.wide { table {
            tr { th { "class" } @for name in names { th.number { (name) } } }
            @for class in classes {
                tr { td { (shown(class)) } @for verdict in &verdicts { td.number { (share(verdict, class).unwrap_or_default()) } } }
            }
        } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::curves::tests::epoch;

    fn verdict(classes: &[&str], confusion: Vec<Vec<usize>>) -> Verdict {
        let picture = Picture::new([1, 2, 2], vec![0, 80, 160, 255]).unwrap();
        let image = sized(&picture).unwrap();
        assert_eq!(image.shape(), [1, 112, 112]);
        let prediction = Prediction { label: 0, class: 1, probability: 0.875 };
        let mistakes = vec![Mistake { index: 7, prediction, map: Some(image.clone()), image }];
        Verdict { classes: classes.iter().map(|name| (*name).to_owned()).collect(), confusion, mistakes }
    }

    fn run(folder: &str, lr: f64) -> Report {
        let settings = Settings { lr, ..Settings::default() };
        let network = nin::models::Model::LeNet.build::<f32>(1, 3, 0.5);
        Report::new(Path::new(folder), settings, &network, Shape::from([1, 1, 28, 28])).unwrap()
    }

    /// What comes from file names is text, whatever it looks like.
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
            "number 7",
            "lr = 0.1",
            "nin train --config runs/one/config.toml",
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
        let verdict = Verdict { classes: names, confusion, mistakes: Vec::new() };
        let html = verdict.html().into_string();
        let most = html.find("<td>class 5</td><td>class 6</td><td class=\"number\">9</td>").unwrap();
        let less = html.find("<td>class 3</td><td>class 4</td><td class=\"number\">2</td>").unwrap();
        assert!(most < less);
        assert!(!html.contains("table class=\"matrix\""));
    }

    #[test]
    fn runs_stand_side_by_side() {
        let verdict = verdict(&["a", "b", "c"], vec![vec![3, 1, 0], vec![0, 4, 0], vec![0, 2, 2]]);
        let runs = [
            (run("runs/one", 0.1), vec![epoch(1, 0.5, 0)], Ok(verdict)),
            (run("other/one", 0.2), vec![epoch(1, 0.25, 0), epoch(2, 0.75, 0)], Err("no images".to_owned())),
        ];
        let page = side_by_side(&runs).into_string();
        for text in [
            "<th class=\"number\">runs/one</th><th class=\"number\">other/one</th>",
            "<td>test acc</td><td class=\"number\">0.5000</td><td class=\"number\">0.7500</td>",
            "<td>lr</td><td class=\"number\">0.1</td><td class=\"number\">0.2</td>",
            "other/one: no images",
            "<td>a</td><td class=\"number\">0.750</td><td class=\"number\"></td>",
            "epochs = 10\n",
        ] {
            assert!(page.contains(text), "no {text:?} in {page}");
        }
    }
}
