//! `nin predict`: what images are of.

use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use nin::data::folder::image_files;
use nin::data::picture::LARGEST_FILE;
use nin::data::{Dataset, DatasetName, Image, Picture, Target, open};
use nin::disk::make_folder;
use nin::names::shown;
use nin::train::TrainError;
use nin::{Answer, ClassMaps, Classifier, ModelCard};
use serde_json::json;

use super::data::folder_of;
use super::downloads::sources;
use super::trained::trained;
use super::{FolderArgs, JsonArgs, ThreadArgs, WeightsArgs, log, print, print_json, write_file};

/// Images that are classified together.
const TOGETHER: usize = 32;

/// Pixels of the longer side below which a picture of class maps is drawn larger, by a whole factor.
const DRAWN: usize = 224;

/// The most pixels of a side of a sheet of class maps.
const SHEET: usize = 4096;

/// The most likely classes of images by a trained network, with their probabilities.
///
/// Without --weights, the network is the program's own: it tells the ten kinds of clothing of Fashion-MNIST, bright on black. PNG
/// and JPEG, in color or gray, of any size. Of a folder, all of them in it and below, in the order of their names. What cannot be
/// read is named and left out; the exit code is 1 then.
#[derive(Debug, Args)]
#[command(mut_arg("weights", |flag| flag.alias("model")))]
#[command(mut_arg("data_dir", |flag| flag.requires("dataset")), after_help = "Examples:
  nin predict photo.png                                         by the program's own network, of Fashion-MNIST
  nin predict photo.png --weights runs/nin-20260101-120000
  nin predict photos --weights model.safetensors --json
  nin predict --dataset fashion-mnist-mini --index 7 --weights runs/nin-20260101-120000 --cam maps
  curl -s http://localhost/photo.jpg | nin predict - --weights model.safetensors")]
pub(super) struct PredictArgs {
    /// Images, or folders of images; - for one from standard input
    #[arg(value_name = "PATH", required_unless_present = "dataset")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    weights: WeightsArgs,
    /// Take a test image of this data set instead, NAME or NAME:FOLDER
    #[arg(long, value_name = "NAME", requires = "index", conflicts_with = "paths")]
    dataset: Option<DatasetName>,
    /// The number of that image, counted from 0
    #[arg(long, value_name = "I", requires = "dataset", allow_negative_numbers = true)]
    index: Option<usize>,
    #[command(flatten)]
    folder: FolderArgs,
    /// The most likely classes that are shown
    #[arg(long, value_name = "K", default_value_t = 3, allow_negative_numbers = true)]
    top: usize,
    #[command(flatten)]
    json: JsonArgs,
    /// Draw where the classes were seen (figure 4 of the paper): NAME.cam.png with the most likely class's map over the image,
    /// and NAME.maps.png with the maps of all classes, in rows of five
    #[arg(long, value_name = "DIR")]
    cam: Option<PathBuf>,
    #[command(flatten)]
    threads: ThreadArgs,
}

/// An image with the name that it is shown by, and, if it is known, what it is of.
struct Named {
    name: String,
    picture: Picture,
    label: Option<usize>,
}

/// Runs `nin predict`.
pub(super) fn predict(args: &PredictArgs) -> Result<(), TrainError> {
    if args.top == 0 {
        return Err(TrainError::setting("top", "at least 1", args.top));
    }
    let classifier = trained(args.weights.weights.as_deref(), args.threads.read()?)?;
    if args.weights.weights.is_none() {
        let ModelCard { network, data, .. } = classifier.card();
        let data = data.as_ref().map_or("", |data| &data.dataset);
        log(&format!("no --weights: the program's own {network}, trained on {data}"));
    }
    if args.cam.is_some() && !classifier.has_class_maps() {
        let network = classifier.card().network_with_head();
        return Err(TrainError::Config(format!("cam: {network} makes no maps for its classes")));
    }
    let (mut all, mut failed) = (Vec::new(), 0);
    match (&args.dataset, args.index) {
        (Some(name), Some(index)) => {
            all.push(Source::Image(Box::new(of_dataset(name, index, args, classifier.card().image)?)));
        }
        _ => {
            for path in &args.paths {
                images(path, &mut all)?;
            }
        }
    }
    if all.is_empty() {
        let paths: Vec<_> = args.paths.iter().map(|path| path.display().to_string()).collect();
        return Err(TrainError::Config(format!("{}: no .png, .jpg or .jpeg files there", paths.join(", "))));
    }
    if let Some(folder) = &args.cam {
        make_folder(folder)?;
    }
    let (count, mut drawn) = (all.len(), HashSet::new());
    let mut all = all.into_iter();
    while all.len() > 0 {
        let mut batch = Vec::new();
        for source in all.by_ref().take(TOGETHER) {
            match source.read() {
                Ok(named) => batch.push(named),
                Err(error) if count == 1 => return Err(error),
                Err(error) => {
                    log(&format!("warning: {error}"));
                    failed += 1;
                }
            }
        }
        let pictures: Vec<Picture> = batch.iter().map(|named| named.picture.clone()).collect();
        if pictures.is_empty() {
            continue;
        }
        for (named, answers) in batch.iter().zip(classifier.classify_all(&pictures)?) {
            show(named, &answers, args, &classifier)?;
            if let Some(folder) = &args.cam {
                let name = drawn_as(&named.name, &mut drawn);
                let maps = classifier.class_maps(&named.picture)?;
                draw(&folder.join(name), &named.picture, answers[0].class, &maps)?;
            }
        }
    }
    match failed {
        0 => Ok(()),
        // The others were answered: what was asked for can be, and failed in part.
        _ => {
            let which = std::io::Error::other(format!("{failed} of {count} failed"));
            Err(TrainError::io(Path::new("images"), "read all of them")(which))
        }
    }
}

/// The origin of an image.
enum Source {
    File(PathBuf),
    Stdin,
    Image(Box<Named>),
}

impl Source {
    fn read(self) -> Result<Named, TrainError> {
        let (path, picture) = match self {
            Self::Image(named) => return Ok(*named),
            Self::File(path) => (path.clone(), Picture::open(&path)?),
            Self::Stdin => {
                let (path, mut bytes) = (PathBuf::from("-"), Vec::new());
                let read = std::io::stdin().take(LARGEST_FILE + 1).read_to_end(&mut bytes);
                read.map_err(TrainError::io(&path, "read"))?;
                let picture = Picture::decode(&bytes, &path)?;
                (path, picture)
            }
        };
        Ok(Named { name: path.display().to_string(), picture, label: None })
    }
}

/// The images of a path: itself, or all in a folder and below.
fn images(path: &Path, all: &mut Vec<Source>) -> Result<(), TrainError> {
    if path == Path::new("-") {
        all.push(Source::Stdin);
    } else if path.is_dir() {
        all.extend(image_files(path)?.into_iter().map(Source::File));
    } else {
        all.push(Source::File(path.to_path_buf()));
    }
    Ok(())
}

/// A test image of a data set; of a folder of photos at the height and width that the network sees.
fn of_dataset(
    name: &DatasetName,
    index: usize,
    args: &PredictArgs,
    [_, h, w]: [usize; 3],
) -> Result<Named, TrainError> {
    let kind = name.kind;
    let sources = sources(folder_of(name, args.folder.data_dir.as_deref())?);
    let set = open(kind, [h, w], &sources)?.0.test;
    if index >= set.len() {
        return Err(TrainError::setting("index", format!("below {}, the test images", set.len()), index));
    }
    let label = if let Target::Class(class) = set.target(index)? { Some(class) } else { None };
    let picture = picture(&*set, index)?;
    let picture = picture.ok_or_else(|| TrainError::Config(format!("{kind}: its images are no pictures")))?;
    Ok(Named { name: format!("{kind}-{index}"), picture, label })
}

/// An image of a data set; `None` if it is numbers and not bytes, or neither gray nor in color.
pub(super) fn picture(set: &dyn Dataset, index: usize) -> Result<Option<Picture>, TrainError> {
    let (image, _) = set.get(index)?;
    Ok(match image {
        Image::Bytes(pixels) => Picture::new(set.image_shape(), pixels.into_owned()).ok(),
        Image::Floats(_) => None,
    })
}

/// The first images of each class, so many of each of the first `classes` classes. None of numbers that are no picture.
pub(super) fn first_of_each(
    set: &dyn Dataset,
    classes: usize,
    each: usize,
) -> Result<Vec<(usize, Picture)>, TrainError> {
    let mut found = vec![Vec::new(); set.class_names().len().min(classes)];
    for index in 0..set.len() {
        if found.iter().all(|own| own.len() == each) {
            break;
        }
        if let Target::Class(class) = set.target(index)?
            && let Some(own) = found.get_mut(class).filter(|own| own.len() < each)
        {
            own.push(index);
        }
    }
    let all = found
        .into_iter()
        .enumerate()
        .flat_map(|(class, own)| own.into_iter().map(move |index| (class, index)));
    let pictures = all.map(|(class, index)| Ok(picture(set, index)?.map(|picture| (class, picture))));
    pictures.filter_map(Result::transpose).collect()
}

/// A class's map over an image, which is drawn larger if it is small.
pub(super) fn over(picture: &Picture, class: usize, maps: &ClassMaps) -> Result<Picture, TrainError> {
    let [_, h, w] = picture.shape();
    Ok(maps.drawn_over(class, &picture.enlarged(DRAWN.div_ceil(h.max(w)))?))
}

fn show(
    named: &Named,
    answers: &[Answer],
    args: &PredictArgs,
    classifier: &Classifier,
) -> Result<(), TrainError> {
    let top = &answers[..args.top.min(answers.len())];
    if args.json.json {
        let mut line = json!({ "image": named.name, "answers": top });
        if let Some(label) = named.label {
            line["label"] = label.into();
        }
        return print_json(&line);
    }
    let text: Vec<String> =
        top.iter().map(|answer| format!("{} {:.3}", shown(&answer.name), answer.probability)).collect();
    let label = named.label.and_then(|label| classifier.card().classes.get(label));
    let label = label.map_or_else(String::new, |name| format!(" (it is {})", shown(name)));
    print(&format!("{}: {}{label}\n", shown(&named.name), text.join(", ")))
}

/// The beginning of the names of an image's pictures: its file's name without what is behind the dot, with a number if another
/// image of this command has it.
fn drawn_as(name: &str, drawn: &mut HashSet<String>) -> String {
    let own = Path::new(name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let numbered = (2..).map(|number| format!("{own}-{number}"));
    let free = std::iter::once(own.clone()).chain(numbered).find(|name| drawn.insert(name.clone()));
    free.expect("there is a number for each")
}

/// Draws the class maps of an image.
fn draw(beginning: &Path, picture: &Picture, class: usize, maps: &ClassMaps) -> Result<(), TrainError> {
    let write =
        |what: &str, drawn: &Picture| write_file(&beginning.with_added_extension(what), &drawn.to_png());
    write("cam.png", &over(picture, class, maps)?)?;
    write("maps.png", &sheet(picture, maps)?)
}

/// The maps of all classes over the image, at most [`DRAWN`] pixels a side each, in rows of five, of more than 25 classes in as
/// many rows as columns, a line of white between two.
fn sheet(picture: &Picture, maps: &ClassMaps) -> Result<Picture, TrainError> {
    let classes = maps.maps.shape()[0];
    let columns = if classes <= 25 { classes.min(5) } else { classes.isqrt() + 1 };
    let picture = picture.within(DRAWN.min(SHEET / columns - 2))?;
    let [_, height, width] = picture.shape();
    let [rows_high, columns_wide] = [classes.div_ceil(columns) * (height + 2) - 2, columns * (width + 2) - 2];
    let mut pixels = vec![255; 3 * rows_high * columns_wide];
    for class in 0..classes {
        let (top, left) = (class / columns * (height + 2), class % columns * (width + 2));
        for (line, own) in maps.drawn_over(class, &picture).pixels().chunks(width).enumerate() {
            let at = (line / height * rows_high + top + line % height) * columns_wide + left;
            pixels[at..at + width].copy_from_slice(own);
        }
    }
    Ok(Picture::new([3, rows_high, columns_wide], pixels)?)
}

#[cfg(test)]
mod tests {
    use tensor::Tensor;

    use super::*;

    /// A sheet takes no more memory for larger photos, and has room for any number of classes.
    #[test]
    fn a_sheet_has_a_tile_for_each_class() {
        for (classes, [h, w], [height, width], columns) in [
            (3, [28, 28], [224, 224], 3),
            (10, [28, 28], [224, 224], 5),
            (2, [3000, 1500], [224, 112], 2),
            (26, [4, 4], [224, 224], 6),
            (1000, [32, 16], [96, 48], 32),
            (6000, [1, 1], [50, 50], 78),
        ] {
            let maps = ClassMaps {
                maps: Tensor::from_fn([classes, 1, 1], |class| (class % 2) as f32),
                image: [h, w],
                places: [(h as f64 / 2.0, 1.0), (w as f64 / 2.0, 1.0)],
            };
            let picture = Picture::new([1, h, w], vec![0; h * w]).unwrap();
            let drawn = sheet(&picture, &maps).unwrap();
            let rows = classes.div_ceil(columns);
            assert_eq!(drawn.shape(), [3, rows * (height + 2) - 2, columns * (width + 2) - 2]);
            // Black, white between, and the strongest red.
            assert_eq!([0, width, width + 2].map(|column| drawn.pixels()[column]), [0, 255, 179]);
        }
    }
}
