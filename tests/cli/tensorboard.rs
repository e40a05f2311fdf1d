//! `train --tensorboard`: files of events, read by a parser that is not ours, and where Python has it by TensorBoard's own
//! (`tests/tensorboard/check.py`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use nin::data::{Dataset, DatasetKind, Image, Picture, load};
use nin::{Classifier, checkpoint};
use prost::Message;
use serde_json::{Value, json};

use crate::common::{Place, failed, succeeded};

// The messages of TensorFlow's event.proto, summary.proto, graph.proto, node_def.proto, attr_value.proto and tensor_shape.proto,
// as far as they are looked at.

#[derive(PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(bytes = "vec", optional, tag = "4")]
    graph_def: Option<Vec<u8>>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionLog>,
}

#[derive(PartialEq, Message)]
struct SessionLog {
    /// 1 is START.
    #[prost(int32, tag = "1")]
    status: i32,
}

#[derive(PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<SummaryValue>,
}

#[derive(PartialEq, Message)]
struct SummaryValue {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
    #[prost(message, optional, tag = "4")]
    image: Option<SummaryImage>,
}

#[derive(PartialEq, Message)]
struct SummaryImage {
    #[prost(int32, tag = "1")]
    height: i32,
    #[prost(int32, tag = "2")]
    width: i32,
    #[prost(int32, tag = "3")]
    colorspace: i32,
    #[prost(bytes = "vec", tag = "4")]
    encoded_image_string: Vec<u8>,
}

#[derive(PartialEq, Message)]
struct GraphDef {
    #[prost(message, repeated, tag = "1")]
    node: Vec<NodeDef>,
}

#[derive(PartialEq, Message)]
struct NodeDef {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    op: String,
    #[prost(string, repeated, tag = "3")]
    input: Vec<String>,
    #[prost(btree_map = "string, message", tag = "5")]
    attr: BTreeMap<String, AttrValue>,
}

#[derive(PartialEq, Message)]
struct AttrValue {
    #[prost(message, optional, tag = "1")]
    list: Option<ListValue>,
    #[prost(string, tag = "2")]
    s: String,
}

#[derive(PartialEq, Message)]
struct ListValue {
    #[prost(message, repeated, tag = "7")]
    shape: Vec<TensorShape>,
}

#[derive(PartialEq, Message)]
struct TensorShape {
    #[prost(message, repeated, tag = "2")]
    dim: Vec<Dim>,
}

#[derive(PartialEq, Message)]
struct Dim {
    #[prost(int64, tag = "1")]
    size: i64,
}

/// The masked CRC-32C, bit by bit.
fn checksum(data: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for bit in data.iter().flat_map(|byte| (0..8).map(move |bit| u32::from(byte >> bit & 1))) {
        let odd = (crc ^ bit) & 1 == 1;
        crc >>= 1;
        if odd {
            crc ^= 0x1edc_6f41_u32.reverse_bits();
        }
    }
    let crc = !crc;
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The events of a file, all of whose checksums are right.
fn events(path: &Path) -> Vec<Event> {
    let bytes = fs::read(path).unwrap();
    let (mut rest, mut events) = (&bytes[..], Vec::new());
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        assert_eq!(number(&rest[8..12]), checksum(&rest[..8]));
        let data = &rest[12..12 + length];
        assert_eq!(number(&rest[12 + length..16 + length]), checksum(data));
        events.push(Event::decode(data).unwrap());
        rest = &rest[16 + length..];
    }
    events
}

/// The events of a run, file after file in the order of their names.
fn files(place: &Place, run: &str) -> Vec<Vec<Event>> {
    let entries = fs::read_dir(place.path(run).join("events")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in &paths {
        assert!(path.file_name().unwrap().to_str().unwrap().starts_with("events.out.tfevents."), "{path:?}");
    }
    paths.iter().map(|path| events(path)).collect()
}

/// The events of files that count: where a session begins, what was told of its first step and of later ones is void.
fn valid(files: Vec<Vec<Event>>) -> Vec<Event> {
    let mut all: Vec<Event> = Vec::new();
    for event in files.into_iter().flatten() {
        if event.session_log.as_ref().is_some_and(|log| log.status == 1) {
            all.retain(|before| before.step < event.step);
        }
        all.push(event);
    }
    all
}

/// All scalars: tag, step, value.
fn scalars(events: &[Event]) -> BTreeSet<(String, i64, String)> {
    let mut all = BTreeSet::new();
    for event in events {
        for value in event.summary.iter().flat_map(|summary| &summary.value) {
            if let Some(number) = value.simple_value {
                assert!(
                    all.insert((value.tag.clone(), event.step, format!("{number:?}"))),
                    "{value:?} twice"
                );
            }
        }
    }
    all
}

/// The same as `metrics.jsonl` has it, but for the learning rates of steps.
fn expected(metrics: &[Value]) -> BTreeSet<(String, i64, String)> {
    let (mut all, mut step) = (BTreeSet::new(), 0);
    for line in metrics {
        let number = |value: &Value| format!("{:?}", value.as_f64().unwrap() as f32);
        if let Some(own) = line.get("step") {
            step = own.as_i64().unwrap();
            all.insert(("step/loss".to_owned(), step, number(&line["loss"])));
        } else if line.get("epoch").is_some() {
            for (name, value) in line.as_object().unwrap().iter().filter(|(name, _)| *name != "epoch") {
                all.insert((format!("epoch/{name}"), step, number(value)));
            }
        }
    }
    all
}

fn without_rates(all: BTreeSet<(String, i64, String)>) -> BTreeSet<(String, i64, String)> {
    let (rates, rest): (BTreeSet<_>, _) = all.into_iter().partition(|(tag, ..)| tag == "step/lr");
    let losses = rest.iter().filter(|(tag, ..)| tag == "step/loss");
    assert!(
        losses.map(|(_, step, _)| step).eq(rates.iter().map(|(_, step, _)| step)),
        "a rate for each loss"
    );
    rest
}

/// A run of two epochs of five steps that is stopped after three, dies after seven without having saved anything since, and goes
/// on.
#[test]
fn events_are_those_of_the_run() {
    let place = Place::of_nin();
    let more = ["--epochs", "2", "--tensorboard"];
    succeeded(place.train("run", &[&more[..], &["--max-steps", "3"]].concat()));
    let checkpoint = place.path("run/checkpoint.safetensors");
    let saved = fs::read(&checkpoint).unwrap();
    succeeded(place.resume("run", &["--threads", "2", "--tensorboard", "--max-steps", "7"]));
    fs::write(&checkpoint, saved).unwrap();
    succeeded(place.resume("run", &["--threads", "2", "--tensorboard"]));
    let files = files(&place, "run");
    assert_eq!(files.len(), 3, "a file for each command");
    for (events, step) in files.iter().zip([1, 4, 4]) {
        assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
        let begun = &events[1];
        assert_eq!((begun.step, begun.session_log.as_ref().unwrap().status), (step, 1));
        assert!(events.iter().all(|event| event.wall_time > 1e9));
    }
    let all = valid(files);
    let metrics = place.metrics("run");
    assert_eq!(metrics.len(), 12);
    let found = scalars(&all);
    assert_eq!(without_rates(found.clone()), expected(&metrics));

    // The first of each class, whose map is drawn by the weights of that time.
    let images: Vec<_> = all
        .iter()
        .flat_map(|event| event.summary.iter().map(|summary| (event.step, summary)))
        .flat_map(|(step, summary)| summary.value.iter().map(move |value| (step, value)))
        .filter_map(|(step, value)| Some((step, &value.tag, value.image.as_ref()?)))
        .collect();
    let at = |step: i64| images.iter().filter(move |(own, ..)| *own == step);
    assert_eq!((images.len(), at(5).count(), at(10).count()), (20, 10, 10));
    let classifier = Classifier::load(&place.path("run/model.safetensors")).unwrap();
    let sources = nin::data::DataSources::new(Some(place.path("data")));
    let test = load(DatasetKind::FashionMnistMini, &sources).unwrap().test;
    for (class, (_, tag, image)) in at(10).enumerate() {
        assert_eq!(**tag, format!("class maps/{class} {}", test.class_names()[class]));
        let drawn = Picture::decode(&image.encoded_image_string, Path::new("image")).unwrap();
        assert_eq!((image.colorspace, drawn.shape()), (3, [3, image.height as usize, image.width as usize]));
        // Image `i` of the small data set is of class `i`.
        let (Image::Bytes(pixels), _) = test.get(class).unwrap() else { panic!("bytes") };
        let picture = Picture::new([1, 28, 28], pixels.into_owned()).unwrap();
        let maps = classifier.class_maps(&picture).unwrap();
        assert_eq!(drawn, maps.drawn_over(class, &picture.enlarged(8).unwrap()), "{tag}");
    }
    assert!(
        at(5)
            .zip(at(10))
            .any(|((.., before), (.., after))| { before.encoded_image_string != after.encoded_image_string })
    );

    let graphs: Vec<_> = all.iter().filter_map(|event| event.graph_def.as_deref()).collect();
    assert!(graphs.len() == 3 && graphs.iter().all(|graph| *graph == graphs[0]), "one in each file");
    check_graph(&GraphDef::decode(graphs[0]).unwrap(), &place);
    in_tensorboard(&place, &found, "[5, 10]");

    // Nobody but a reader knows of it.
    succeeded(place.train("whole", &["--epochs", "2"]));
    assert_eq!(place.weights("whole"), place.weights("run"));
    assert!(!place.path("whole/events").exists());
}

/// The graph of `nin-cifar` for images of 14 x 14.
fn check_graph(graph: &GraphDef, place: &Place) {
    let nodes: BTreeMap<&str, &NodeDef> = graph.node.iter().map(|node| (node.name.as_str(), node)).collect();
    assert_eq!(nodes.len(), graph.node.len(), "names are unique");
    let of = |op: &str| graph.node.iter().filter(|node| node.op == op).count();
    assert_eq!((of("Placeholder"), of("Conv2d"), of("MaxPool2d"), of("Parameter")), (1, 9, 1, 18));
    for (index, node) in graph.node.iter().enumerate() {
        for input in &node.input {
            assert!(graph.node[..index].iter().any(|before| before.name == *input), "{input} of {node:?}");
        }
    }
    let (tensors, _) = checkpoint::load_tensors(&place.path("run/model.safetensors")).unwrap();
    let shape = |node: &NodeDef| {
        let [shape] = &node.attr["_output_shapes"].list.as_ref().unwrap().shape[..] else {
            panic!("{node:?}")
        };
        shape.dim.iter().map(|dim| dim.size as usize).collect::<Vec<_>>()
    };
    for (name, tensor) in &tensors {
        assert_eq!(shape(nodes[name.replace('.', "/").as_str()]), tensor.shape().to_vec(), "{name}");
    }
    let conv = nodes["0/0/Conv2d"];
    assert_eq!(conv.input, ["input", "0/0/weight", "0/0/bias"]);
    assert_eq!(conv.attr["settings"].s, "Conv2d(1, 192, 5x5, padding 2)");
    assert_eq!((shape(nodes["input"]), shape(conv)), (vec![1, 1, 14, 14], vec![1, 192, 14, 14]));
    assert_eq!(shape(graph.node.last().unwrap()), [1, 10]);
}

/// Checks what TensorBoard itself reads; says so if there is none.
fn in_tensorboard(place: &Place, scalars: &BTreeSet<(String, i64, String)>, images: &str) {
    let import = "from tensorboard.backend.event_processing import event_accumulator";
    let has = Command::new("python3").args(["-c", import]).output();
    if !has.is_ok_and(|answer| answer.status.success()) {
        let _ = writeln!(std::io::stderr(), "not read by TensorBoard: python3 has no tensorboard");
        return;
    }
    let scalars: Vec<_> =
        scalars.iter().map(|(tag, step, value)| json!([tag, step, value.parse::<f32>().unwrap()])).collect();
    fs::write(place.path("scalars.json"), json!(scalars).to_string()).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/tensorboard/check.py");
    let mut python = place.command("python3", &[script, "run/events", "scalars.json", images]);
    let answer = python.output().unwrap();
    let text = [answer.stdout, answer.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(answer.status.success(), "{}", text.concat());
}

/// A run of three epochs of five steps whose first command writes no events, whose second stops at an epoch's end, and whose
/// third stops before the last step, which is then made without events: as if a process had died between a save and its events.
#[test]
fn what_was_before_and_what_was_lost_is_logged_once_when_a_run_goes_on() {
    let place = Place::of_nin();
    succeeded(place.train("run", &["--epochs", "3", "--max-steps", "7"]));
    for more in [
        &["--tensorboard", "--max-steps", "10"][..],
        &["--tensorboard", "--max-steps", "14"],
        &[],
        &["--tensorboard"],
    ] {
        succeeded(place.resume("run", more));
    }
    let files = files(&place, "run");
    let begun: Vec<_> = files.iter().map(|events| events[1].step).collect();
    assert_eq!(begun, [8, 10, 15], "the step of an epoch that is over is logged anew");
    let all = valid(files);
    let found = scalars(&all);
    in_tensorboard(&place, &found, "[10, 15]");
    let (rates, rest): (BTreeSet<_>, _) = found.into_iter().partition(|(tag, ..)| tag == "step/lr");
    assert_eq!(rest, expected(&place.metrics("run")));
    let steps: BTreeSet<_> = rates.iter().map(|(_, step, _)| *step).collect();
    assert_eq!(steps, [5].into_iter().chain(8..=15).collect(), "those that are known");
    let images = |step: i64| {
        let summaries =
            all.iter().filter(|event| event.step == step).filter_map(|event| event.summary.as_ref());
        summaries.flat_map(|summary| &summary.value).filter(|value| value.image.is_some()).count()
    };
    assert_eq!([5, 10, 15].map(images), [0, 10, 10], "the weights of the first epoch are gone");
}

/// Without maps of the classes there are no images of them.
#[test]
fn a_network_without_class_maps_has_curves_and_a_graph() {
    let place = Place::of_nin();
    for (number, network) in
        [&["--model", "lenet", "--image-size", "16"][..], &["--head", "fc"]].into_iter().enumerate()
    {
        let run = format!("run-{number}");
        let more = [network, &["--epochs", "1", "--tensorboard", "--seeds", "3..4"]].concat();
        succeeded(place.train(&run, &more));
        let seed = format!("{run}/seed-3");
        let all = valid(files(&place, &seed));
        assert_eq!(without_rates(scalars(&all)), expected(&place.metrics(&seed)));
        let values = all.iter().flat_map(|event| &event.summary).flat_map(|summary| &summary.value);
        assert!(values.filter(|value| value.image.is_some()).count() == 0);
        assert!(all.iter().any(|event| event.graph_def.is_some()));
    }
}

#[test]
fn events_that_cannot_be_written_end_the_run_and_cost_nothing_that_was_saved() {
    let place = Place::of_nin();
    place.steps("run", 2, &[]);
    let before = place.saved("run");
    fs::write(place.path("run/events"), "").unwrap();
    failed(place.resume("run", &["--tensorboard"]), 2, &["run/events: cannot make the folder"]);
    assert_eq!(place.saved("run"), before);
}
