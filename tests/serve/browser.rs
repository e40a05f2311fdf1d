//! The page in a real browser, by WebDriver, where there is chromedriver. `NIN_SCREENSHOTS=DIR` keeps pictures of it.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use nin::data::{DataSources, Dataset, DatasetKind, Image, Picture, load};
use nin::models::Model;
use nin::{Answer, Classifier};
use nin_serve::{Limits, Sample};
use serde_json::{Value, json};

use crate::common::{EVER, Running, agent, classifier, decoded, lenet};

/// The program's own network.
fn own() -> Classifier {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../nin-cli/model/nin-cifar.safetensors");
    Classifier::load(file.as_ref()).unwrap().with_threads(2).unwrap()
}

/// A browser with one page.
struct Browser {
    driver: Child,
    session: String,
}

impl Browser {
    /// `None`, with a message, where there is no chromedriver.
    fn new() -> Option<Self> {
        let driver =
            Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let Ok(mut driver) = driver else {
            // Not by a macro, whose text the tests keep to themselves.
            let text =
                b"skipped: the page in a browser (no chromedriver; Debian has it in chromium-driver)\n";
            std::io::stderr().write_all(text).unwrap();
            return None;
        };
        let lines = BufReader::new(driver.stdout.take().unwrap()).lines().map(|line| line.unwrap());
        let port = |line: String| line.rsplit_once("successfully on port ").map(|(_, port)| port.to_owned());
        let port = lines.into_iter().find_map(port).expect("chromedriver says its port");
        let base = format!("http://127.0.0.1:{}/session", port.trim_end_matches('.'));
        // As root, chromium has no sandbox.
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--window-size=1000,1200",
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": arguments }, "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let mut browser = Self { driver, session: base };
        let answer = browser.ask("", &wanted);
        browser.session = format!("{}/{}", browser.session, answer["sessionId"].as_str().unwrap());
        Some(browser)
    }

    /// A command of WebDriver.
    fn ask(&self, path: &str, value: &Value) -> Value {
        let url = format!("{}{path}", self.session);
        let request = agent().post(url).content_type("application/json");
        let mut response = request.send(value.to_string().as_bytes()).unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        let mut answer: Value = serde_json::from_str(&text).unwrap();
        assert!(response.status().is_success(), "{path}: {}", answer["value"]["message"]);
        answer["value"].take()
    }

    fn open(&self, url: &str) {
        self.ask("/url", &json!({ "url": url }));
    }

    /// Has JavaScript run before the program of each page that is opened.
    fn early(&self, script: &str) {
        self.devtools("Page.addScriptToEvaluateOnNewDocument", &json!({ "source": script }));
    }

    /// The value of some JavaScript.
    fn run(&self, script: &str) -> Value {
        self.ask("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    fn text(&self, script: &str) -> String {
        self.run(script).as_str().unwrap_or_default().to_owned()
    }

    /// A command of Chromium's own protocol.
    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.ask("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// Waits until some JavaScript is true.
    fn wait(&self, script: &str) {
        let began = Instant::now();
        while self.run(&format!("return Boolean({script})")) != json!(true) {
            let state = self.text(
                "return document.body.dataset.state + ': ' + document.getElementById('status').textContent",
            );
            assert!(began.elapsed() < EVER, "never: {script}; {state}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Draws lines on the canvas, each from point to point, in shares of its sides.
    fn draw(&self, kind: &str, lines: &[&[[f64; 2]]]) {
        let corner = self.run(
            "document.getElementById('canvas').scrollIntoView({ block: 'center' });
             const box = document.getElementById('canvas').getBoundingClientRect();
             return [box.left, box.top, box.width, box.height]",
        );
        let number = |index: usize| corner[index].as_f64().unwrap();
        let mut actions = Vec::new();
        for line in lines {
            let at = |[x, y]: [f64; 2]| {
                [number(0) + x * number(2), number(1) + y * number(3)].map(|side| side as i64)
            };
            for (index, &point) in line.iter().enumerate() {
                let [x, y] = at(point);
                actions.push(json!({ "type": "pointerMove", "duration": 40, "x": x, "y": y }));
                if index == 0 {
                    actions.push(json!({ "type": "pointerDown", "button": 0 }));
                }
            }
            actions.push(json!({ "type": "pointerUp", "button": 0 }));
        }
        let pointer = json!({ "type": "pointer", "id": kind, "parameters": { "pointerType": kind }, "actions": actions });
        self.ask("/actions", &json!({ "actions": [pointer] }));
    }

    /// The picture on the canvas.
    fn canvas(&self) -> Picture {
        decoded(&self.run("return document.getElementById('canvas').toDataURL('image/png')"))
    }

    /// Waits until the page shows these answers, with their names and shares, and no others.
    fn shows(&self, expected: &[Answer]) {
        let began = Instant::now();
        loop {
            let found = self.run(
                "return [document.body.dataset.state, ...[...document.querySelectorAll('#answers li')].map((item) =>
                 [item.querySelector('.name').textContent, Number(item.dataset.probability), item.querySelector('.share').textContent])]",
            );
            let found = found.as_array().unwrap();
            let fits = |(found, expected): (&Value, &Answer)| {
                found[0] == json!(expected.name)
                    && (found[1].as_f64().unwrap() - expected.probability).abs() < 1e-9
                    && found[2] == json!(format!("{:.1} %", 100.0 * expected.probability))
            };
            let whole = found.len() == expected.len().min(10) + 1 && found[0] == json!("shown");
            if whole && found[1..].iter().zip(expected).all(fits) {
                return;
            }
            assert!(began.elapsed() < EVER, "expected {expected:?}, found {found:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asserts that the page shows this picture over the canvas, to the pixel.
    fn overlays(&self, expected: &Picture) {
        self.wait(
            "!document.getElementById('overlay').hidden && document.getElementById('overlay').complete",
        );
        let found = self.run(
            "const own = document.getElementById('overlay'), canvas = document.getElementById('canvas');
             const box = (element) => { const { x, y, width, height } = element.getBoundingClientRect(); return [x, y, width, height] };
             return [own.src, box(own), box(canvas), [own.naturalWidth, own.naturalHeight], [canvas.width, canvas.height]]",
        );
        assert_eq!(decoded(&found[0]), *expected);
        assert_eq!((&found[1], &found[3]), (&found[2], &found[4]), "it lies where the canvas does");
        assert!(found[1][2].as_f64().unwrap() > 10.0, "{found}");
    }

    /// Drops or pastes a file.
    fn give(&self, how: &str, name: &str, kind: &str, bytes: &[u8]) {
        let event = match how {
            "drop" => "new DragEvent('drop', { dataTransfer: given, bubbles: true, cancelable: true })",
            _ => "new ClipboardEvent('paste', { clipboardData: given, bubbles: true, cancelable: true })",
        };
        self.run(&format!(
            "const given = new DataTransfer();
             given.items.add(new File([new Uint8Array({bytes:?})], '{name}', {{ type: '{kind}' }}));
             document.body.dispatchEvent({event})"
        ));
    }

    /// Has questions about images wait, each until it is [let go](Browser::let_go).
    fn hold(&self) {
        self.run(
            "window.held = [];
             const real = window.fetch;
             window.fetch = (path, options) => !window.held || !String(path).startsWith('api/classify') ? real(path, options)
                 : new Promise((done) => window.held.push(() => done(real(path, options))))",
        );
    }

    /// Lets the first question that waits go on.
    fn let_go(&self) {
        self.wait("window.held.length > 0");
        self.run("window.held.shift()()");
    }

    /// The status line; asserts that nothing of an answer is seen above or below it.
    fn answerless(&self) -> String {
        let seen = self.run(
            "return [document.querySelectorAll('#answers li').length, document.querySelectorAll('#blocks img').length,
             document.getElementById('overlay').hidden, document.getElementById('see-label').hidden]",
        );
        assert_eq!(seen, json!([0, 0, true, true]));
        self.status()
    }

    fn status(&self) -> String {
        self.text("return document.getElementById('status').textContent")
    }

    /// The note about the image.
    fn note(&self) -> String {
        self.text("return document.getElementById('note').textContent")
    }

    /// A click on a sample.
    fn sample(&self, index: usize) {
        self.run(&format!("document.querySelectorAll('#samples button')[{index}].click()"));
    }

    /// Entries of the console, if they are more than remarks.
    fn complaints(&self) -> Vec<Value> {
        let log = self.ask("/se/log", &json!({ "type": "browser" }));
        log.as_array().unwrap().clone()
    }

    /// Keeps a picture of what is seen.
    fn screenshot(&self, name: &str) {
        let Some(folder) = std::env::var_os("NIN_SCREENSHOTS") else { return };
        let shot = self.devtools("Page.captureScreenshot", &json!({ "format": "png" }));
        let bytes = BASE64_STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(Path::new(&folder).join(name), bytes).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = agent().delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// A dress, of some lines.
const SHAPE: [&[[f64; 2]]; 3] = [
    &[[0.5, 0.2], [0.5, 0.85]],
    &[[0.42, 0.2], [0.38, 0.85], [0.62, 0.85], [0.58, 0.2]],
    &[[0.34, 0.2], [0.66, 0.2]],
];

/// A line that a pen needs a second for.
fn zigzag() -> Vec<[f64; 2]> {
    (0..25).map(|i| [0.3 + 0.4 * f64::from(i % 2), 0.1 + 0.03 * f64::from(i)]).collect()
}

/// Rows and columns between which a picture is brighter than black.
fn bounds(picture: &Picture, channel: usize) -> [usize; 4] {
    let [_, h, w] = picture.shape();
    let plane = &picture.pixels()[channel * h * w..(channel + 1) * h * w];
    let bright: Vec<usize> = (0..h * w).filter(|&i| plane[i] > 8).collect();
    let columns = || bright.iter().map(|i| i % w);
    [bright[0] / w, bright[bright.len() - 1] / w, columns().min().unwrap(), columns().max().unwrap()]
}

/// Test images of Fashion-MNIST.
fn samples(classes: &[String]) -> Vec<Sample> {
    let set = load(DatasetKind::FashionMnistMini, &DataSources::new(None)).unwrap().test;
    let sample = |index| {
        let Image::Bytes(pixels) = set.get(index).unwrap().0 else { panic!("bytes") };
        let label = set.labels()[index];
        Sample {
            label: Some(classes[label].clone()),
            picture: Picture::new([1, 28, 28], pixels.into()).unwrap(),
        }
    };
    (0..20).map(sample).collect()
}

#[test]
fn the_page_draws_drops_and_shows_where() {
    let Some(browser) = Browser::new() else { return };
    let classifier = own();
    let samples = samples(&classifier.card().classes);
    let server = Running::of(own(), &samples, Limits::default());
    browser.open(&server.url("/"));
    browser.wait("document.querySelectorAll('#samples img').length === 20");
    assert_eq!(browser.text("return document.getElementById('network').textContent"), "nin-cifar");
    assert!(browser.run("return document.getElementById('overlay').hidden").as_bool().unwrap());

    // While a pen is on its way the network is asked before the last move, a second after the first.
    browser.run(
        "document.getElementById('canvas').addEventListener('pointermove', () => { window.moved = performance.now(); });
         performance.clearResourceTimings()",
    );
    browser.draw("mouse", &[&zigzag()]);
    browser.wait("document.body.dataset.state === 'shown' && !document.getElementById('overlay').hidden");
    let asked = browser.run(
        "return performance.getEntriesByType('resource').filter((own) => own.name.includes('classify') && own.startTime < window.moved).length",
    );
    assert!(asked.as_u64().unwrap() > 0, "no question before the last move");
    browser.run("document.getElementById('clear').click()");

    // Drawn by a mouse: the answers are those of what is on the canvas, and so is the map.
    browser.run("document.getElementById('pen').value = 36");
    browser.draw("mouse", &SHAPE);
    browser.wait("document.body.dataset.state === 'shown' && !document.getElementById('overlay').hidden");
    let drawn = browser.canvas();
    let answers = classifier.classify(&drawn).unwrap();
    browser.shows(&answers);
    let maps = classifier.class_maps(&drawn).unwrap();
    browser.overlays(&maps.drawn_over(answers[0].class, &drawn));
    // Blue is what the drawing has and the map has not.
    let (on_canvas, on_overlay) = (bounds(&drawn, 2), bounds(&maps.drawn_over(answers[0].class, &drawn), 2));
    assert!(
        on_canvas.iter().zip(on_overlay).all(|(&a, b)| a.abs_diff(b) <= 1),
        "{on_canvas:?} and {on_overlay:?}"
    );
    assert!(on_canvas[0] > 20 && on_canvas[1] < 275, "{on_canvas:?}");

    // A click on an answer shows that class, a second one the most likely again.
    let click =
        |index: usize| browser.run(&format!("document.querySelectorAll('#answers button')[{index}].click()"));
    click(2);
    browser.overlays(&maps.drawn_over(answers[2].class, &drawn));
    click(2);
    browser.overlays(&maps.drawn_over(answers[0].class, &drawn));
    let blocks = classifier.block_maps(&drawn, 16).unwrap();
    let tiles = browser.run(
        "return [...document.querySelectorAll('.block')].map((block) => [...block.querySelectorAll('img')].map((tile) => tile.src))",
    );
    assert_eq!(tiles.as_array().unwrap().len(), blocks.len());
    for (tiles, block) in tiles.as_array().unwrap().iter().zip(&blocks) {
        assert_eq!(tiles.as_array().unwrap().len(), block.maps.shape()[0]);
        assert_eq!(decoded(&tiles[5]), block.drawn(5));
    }

    // A file that is chosen, one that is dropped, one that is pasted, a sample.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    std::fs::write(&path, samples[3].picture.to_png()).unwrap();
    let input = browser.ask("/element", &json!({ "using": "css selector", "value": "#file" }));
    let (_, id) = input.as_object().unwrap().iter().next().unwrap();
    browser.ask(&format!("/element/{}/value", id.as_str().unwrap()), &json!({ "text": path }));
    browser.shows(&classifier.classify(&samples[3].picture).unwrap());
    for (how, index) in [("drop", 4), ("paste", 5), ("drop", 6)] {
        let picture = &samples[index].picture;
        browser.give(how, "a.png", "image/png", &picture.to_png());
        let answers = classifier.classify(picture).unwrap();
        browser.shows(&answers);
        let maps = classifier.class_maps(picture).unwrap();
        browser.overlays(&maps.drawn_over(answers[0].class, &picture.enlarged(11).unwrap()));
    }
    // A kind of file that the server does not read, but the browser does.
    browser.run(
        "document.getElementById('canvas').toBlob((blob) => {
             const given = new DataTransfer();
             given.items.add(new File([blob], 'a.webp', { type: blob.type }));
             document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: given, bubbles: true }));
         }, 'image/webp', 0.2)",
    );
    let began = Instant::now();
    let former = samples[6].picture.enlarged(11).unwrap().with_channels(3).unwrap();
    while browser.canvas() == former {
        assert!(began.elapsed() < EVER, "the dropped image is not shown");
    }
    browser.shows(&classifier.classify(&browser.canvas()).unwrap());
    // Of many that are picked in one breath, the last counts, whatever comes first.
    browser.run("document.querySelectorAll('#samples button').forEach((button) => button.click())");
    for _ in 0..2 {
        browser.shows(&classifier.classify(&samples[19].picture).unwrap());
        std::thread::sleep(Duration::from_millis(200));
    }
    // Wide and in color, it is shown smaller.
    let pixels = (0..3 * 400 * 800).map(|i: usize| (i / 977 % 256) as u8).collect();
    let photo = Picture::new([3, 400, 800], pixels).unwrap();
    browser.give("drop", "photo.png", "image/png", &photo.to_png());
    let answers = classifier.classify(&photo).unwrap();
    browser.shows(&answers);
    let shown = photo.resized([160, 320]).unwrap();
    browser.overlays(&classifier.class_maps(&photo).unwrap().drawn_over(answers[0].class, &shown));

    // A tall one leaves room on any screen, and has its map where it lies.
    let pixels = (0..2000 * 100).map(|i: usize| (i / 977 % 256) as u8).collect();
    let tall = Picture::new([1, 2000, 100], pixels).unwrap();
    browser.give("drop", "tall.png", "image/png", &tall.to_png());
    let answers = classifier.classify(&tall).unwrap();
    browser.shows(&answers);
    let over =
        classifier.class_maps(&tall).unwrap().drawn_over(answers[0].class, &tall.resized([320, 16]).unwrap());
    browser.overlays(&over);
    for (width, height) in [(1000, 1200), (360, 740), (740, 360)] {
        let screen = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": true });
        browser.devtools("Emulation.setDeviceMetricsOverride", &screen);
        let sides = browser.run(
            "const { width, height } = document.getElementById('canvas').getBoundingClientRect();
             return [width, height, document.getElementById('stage').getBoundingClientRect().width]",
        );
        let [w, h, stage] = [0, 1, 2].map(|side| sides[side].as_f64().unwrap());
        let largest = f64::from(height * 7 / 10).min(320.0);
        assert!((h - largest).abs() < 1.0 && (w - h / 20.0).abs() < 0.1 && stage == w, "{height}: {sides}");
        browser.overlays(&over);
    }
    browser.devtools("Emulation.clearDeviceMetricsOverride", &json!({}));

    // What is no image is told in words; the image that is there stays, and so do its answers.
    let pasted = "new ClipboardEvent('paste', { clipboardData: new DataTransfer(), bubbles: true })";
    let (nothing, unread) = ("There was no image file in this.", "This is no image that can be read here");
    browser.run(&format!("document.body.dispatchEvent({pasted})"));
    assert_eq!(browser.note(), nothing);
    browser.give("drop", "a.png", "image/png", b"no image");
    browser.wait("document.getElementById('note').textContent.startsWith('This is no image')");
    assert!(browser.note().starts_with(unread));
    browser.give("drop", "a.txt", "text/plain", b"no image");
    assert_eq!(browser.note(), nothing);
    browser.shows(&answers);
    browser.overlays(&over);
    assert!(browser.run("return document.getElementById('again').hidden").as_bool().unwrap());
    assert_eq!(
        browser.run("return getComputedStyle(document.getElementById('answers')).opacity"),
        json!("1")
    );
    // The first image among several files.
    browser.run(&format!(
        "const given = new DataTransfer();
         given.items.add(new File(['no image'], 'a.txt', {{ type: 'text/plain' }}));
         given.items.add(new File([new Uint8Array({:?})], 'b.png', {{ type: 'image/png' }}));
         document.body.dispatchEvent(new DragEvent('drop', {{ dataTransfer: given, bubbles: true }}))",
        samples[8].picture.to_png()
    ));
    browser.shows(&classifier.classify(&samples[8].picture).unwrap());
    assert_eq!(browser.note(), "");
    browser.run("document.querySelectorAll('#samples button')[9].click()");
    browser.shows(&classifier.classify(&samples[9].picture).unwrap());
    let label = samples[9].label.as_ref().unwrap();
    assert_eq!(
        browser.text("return document.getElementById('label').textContent"),
        format!("It is: {label}")
    );
    browser.wait("!document.getElementById('overlay').hidden");
    assert_eq!(browser.complaints(), [] as [Value; 0]);
    browser.screenshot("light.png");

    // Dark, by the system's wish.
    let light = browser.text("return getComputedStyle(document.body).backgroundColor");
    let scheme = json!({ "features": [{ "name": "prefers-color-scheme", "value": "dark" }] });
    browser.devtools("Emulation.setEmulatedMedia", &scheme);
    let channel = |color: &str| color.split(['(', ',']).nth(1).unwrap().parse::<u8>().unwrap();
    let dark = browser.text("return getComputedStyle(document.body).backgroundColor");
    let ink = browser.text("return getComputedStyle(document.querySelector('#answers .name')).color");
    assert!(channel(&light) > 200 && channel(&dark) < 60 && channel(&ink) > 180, "{light}, {dark}, {ink}");
    browser.screenshot("dark.png");

    // A phone: 360 pixels wide, drawn on with a finger.
    browser.devtools("Emulation.setEmulatedMedia", &json!({ "features": [] }));
    let phone = json!({ "width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": true });
    browser.devtools("Emulation.setDeviceMetricsOverride", &phone);
    browser.run("document.getElementById('clear').click()");
    browser.wait(
        "document.body.dataset.state === 'empty' && document.querySelectorAll('#answers li').length === 0",
    );
    browser.draw("touch", &SHAPE[..2]);
    browser.wait("document.body.dataset.state === 'shown' && !document.getElementById('overlay').hidden");
    browser.shows(&classifier.classify(&browser.canvas()).unwrap());
    let wide = browser.run(
        "const beyond = [...document.body.querySelectorAll('*')].filter((element) => element.getBoundingClientRect().right > 360);
         return [document.documentElement.scrollWidth, innerWidth, beyond.map((element) => element.outerHTML.slice(0, 80))]",
    );
    assert_eq!(wide, json!([360, 360, []]));
    browser.run("scrollTo(0, 0)");
    browser.screenshot("phone.png");
    // Of two fingers the first draws, as if it were alone.
    let finger = |id: &str, x: f64| {
        let corner = browser.run(
            "const { left, top, width } = document.getElementById('canvas').getBoundingClientRect(); return [left, top, width]",
        );
        let [left, top, width] = [0, 1, 2].map(|side| corner[side].as_f64().unwrap());
        let at = |y: f64| {
            let [x, y] = [left + x * width, top + y * width].map(|side| side as i64);
            json!({ "type": "pointerMove", "duration": 40, "x": x, "y": y })
        };
        let (down, up) =
            (json!({ "type": "pointerDown", "button": 0 }), json!({ "type": "pointerUp", "button": 0 }));
        let actions = [at(0.2), down, at(0.4), at(0.6), at(0.8), up];
        json!({ "type": "pointer", "id": id, "parameters": { "pointerType": "touch" }, "actions": actions })
    };
    let drawn_by = |fingers: &[Value]| {
        browser.run("document.getElementById('clear').click()");
        browser.ask("/actions", &json!({ "actions": fingers }));
        browser.wait("document.body.dataset.state === 'shown' && !document.getElementById('overlay').hidden");
        browser.canvas()
    };
    let alone = drawn_by(&[finger("one", 0.3)]);
    assert!(bounds(&alone, 0)[3] < 140, "{:?}", bounds(&alone, 0));
    assert!(drawn_by(&[finger("one", 0.3), finger("two", 0.7)]) == alone, "the second finger draws, too");
    assert_eq!(browser.complaints(), [] as [Value; 0]);

    // A server that is gone is told in words, of an image that does not come and of one that is asked about.
    drop(server);
    browser.sample(2);
    let gone = "The server cannot be reached. Is it still running?";
    browser.wait("document.getElementById('note').textContent");
    assert_eq!(browser.note(), format!("The image was not opened: {gone}"));
    assert_eq!(browser.text("return document.body.dataset.state"), "shown");
    browser.draw("touch", &SHAPE[..1]);
    browser.wait("document.body.dataset.state === 'error' && !document.getElementById('again').hidden");
    assert_eq!(browser.status(), gone);
}

/// Whatever is seen beside an image is of this image, also while decoding and answers take their time.
#[test]
fn answers_are_those_of_the_image_beside_them() {
    let Some(browser) = Browser::new() else { return };
    let classifier = own();
    let samples = samples(&classifier.card().classes);
    let answers = |picture: &Picture| classifier.classify(picture).unwrap();
    let server = Running::of(own(), &samples, Limits::default());
    browser.open(&server.url("/"));
    browser.wait("document.querySelectorAll('#samples img').length === 20");
    browser.sample(1);
    browser.shows(&answers(&samples[1].picture));
    browser.wait("!document.getElementById('overlay').hidden");

    // An image whose answer is on its way has none of the former one's; the page keeps its height.
    let height = || browser.run("return document.documentElement.scrollHeight");
    let before = height();
    browser.hold();
    browser.sample(0);
    browser.wait("window.held.length === 1");
    let label = browser.text("return document.getElementById('label').textContent");
    assert_eq!(label, format!("It is: {}", samples[0].label.as_ref().unwrap()));
    assert_eq!(browser.answerless(), "Asking the network ...");
    assert_eq!(height(), before);
    browser.let_go();
    browser.shows(&answers(&samples[0].picture));
    assert_eq!(height(), before);

    // What is drawn on an image has the answers of a moment ago, marked when that moment is long.
    let clarity = || browser.run("return getComputedStyle(document.getElementById('answers')).opacity");
    browser.draw("mouse", &SHAPE[..1]);
    browser.wait("document.body.dataset.state === 'updating'");
    assert_eq!((clarity(), browser.status()), (json!("1"), String::new()));
    browser.wait("document.body.dataset.state === 'late'");
    assert_eq!(clarity(), json!("0.45"));
    assert!(browser.status().starts_with("Asking the network again"));
    browser.run("window.held.splice(0).forEach((go) => go()); window.held = null");
    browser.shows(&answers(&browser.canvas()));
    assert_eq!((clarity(), browser.status()), (json!("1"), String::new()));

    // While the pen is down there are answers, and no map over what is drawn.
    browser.run("document.getElementById('clear').click()");
    let middle = browser.run(
        "const { left, top, width, height } = document.getElementById('canvas').getBoundingClientRect();
         return [left + width / 2, top + height / 2].map(Math.round)",
    );
    let act = |actions: Value| {
        let parameters = json!({ "pointerType": "mouse" });
        let mouse = json!({ "type": "pointer", "id": "mouse", "parameters": parameters, "actions": actions });
        browser.ask("/actions", &json!({ "actions": [mouse] }));
    };
    let to = |x: i64| json!({ "type": "pointerMove", "duration": 40, "x": middle[0].as_i64().unwrap() + x, "y": middle[1] });
    act(json!([to(0), { "type": "pointerDown", "button": 0 }, to(40)]));
    browser.shows(&answers(&browser.canvas()));
    assert!(browser.run("return document.getElementById('overlay').hidden").as_bool().unwrap());
    act(json!([{ "type": "pointerUp", "button": 0 }]));
    browser.wait("!document.getElementById('overlay').hidden");

    // An image that is dropped with a stroke still to be asked about, and takes its time to open.
    browser.run(
        "document.getElementById('clear').click();
         window.held = [];
         const real = window.createImageBitmap;
         window.createImageBitmap = async (blob) => { await new Promise((done) => window.opens = done); return real(blob) }",
    );
    let give = "const given = new DataTransfer();
         given.items.add(new File([window.photo], 'photo.png', { type: 'image/png' }));
         document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: given, bubbles: true }))";
    let pixels = (0..3 * 256 * 320).map(|i: usize| (i / 977 % 256) as u8).collect();
    let photo = Picture::new([3, 256, 320], pixels).unwrap();
    browser.run(&format!(
        "window.photo = new Uint8Array({:?});
         document.getElementById('canvas').addEventListener('pointerdown', () => {{ {give} }}, {{ once: true }})",
        photo.to_png()
    ));
    browser.draw("mouse", &SHAPE[..1]);
    browser.wait("window.held.length > 0 && window.opens");
    browser.run("window.opens()");
    browser.wait("window.held.length > 1");
    assert_eq!(browser.canvas().shape(), [3, 256, 320]);
    browser.let_go();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(browser.answerless(), "Asking the network ...");
    browser.let_go();
    browser.shows(&answers(&photo));
    assert_eq!(browser.complaints(), [] as [Value; 0]);

    // Nor is there a former one's answer if its own does not come.
    drop(server);
    browser.run(give);
    browser.wait("window.opens");
    browser.run("window.held = null; window.opens()");
    browser.wait("document.body.dataset.state === 'error'");
    assert_eq!(browser.answerless(), "The server cannot be reached. Is it still running?");
}

/// A page stays open when its server ends and another one, of another network, comes to its address.
#[test]
fn another_server_at_the_address_is_noticed() {
    let Some(browser) = Browser::new() else { return };
    let samples = samples(&own().card().classes);
    let server = Running::of(lenet(), &samples[..1], Limits::default());
    let address = server.address;
    browser.open(&server.url("/"));
    browser.wait("document.querySelectorAll('#samples img').length === 1");
    browser.draw("mouse", &SHAPE[..1]);
    browser.shows(&lenet().classify(&browser.canvas()).unwrap());

    drop(server);
    let server = Running::at(address, own(), &samples[..3], Limits::default());
    browser.draw("mouse", &SHAPE[1..2]);
    browser.wait("document.querySelectorAll('#samples img').length === 3");
    browser.shows(&own().classify(&browser.canvas()).unwrap());
    assert_eq!(browser.text("return document.title"), "nin-cifar - nin");
    browser.wait("!document.getElementById('overlay').hidden");
    assert_eq!(browser.complaints(), [] as [Value; 0]);

    // Nor does it wait for ever when the other server is gone again before it says what it is.
    browser.run(
        "window.whole = fetch;
         fetch = async (path, ...all) => {
             if (path === 'api/model') throw new TypeError();
             return new Response(JSON.stringify({ ...(await (await window.whole(path, ...all)).json()), server: 'another' }));
         }",
    );
    browser.draw("mouse", &SHAPE[1..2]);
    browser.wait("document.body.dataset.state === 'error'");
    assert_eq!(browser.status(), "The server cannot be reached. Is it still running?");
    browser.run("fetch = window.whole");

    // A network without class maps refuses the question after them.
    drop(server);
    let server = Running::at(address, lenet(), &samples[..2], Limits::default());
    browser.draw("mouse", &SHAPE[2..]);
    browser.wait("document.querySelectorAll('#samples img').length === 2");
    browser.shows(&lenet().classify(&browser.canvas()).unwrap());
    assert_eq!(browser.text("return document.title"), "lenet - nin");
    assert!(browser.run("return document.getElementById('overlay').hidden").as_bool().unwrap());

    // Its samples are not those of the next one, whatever the browser kept, and have not the labels of others.
    drop(server);
    let server = Running::at(address, lenet(), &samples[2..4], Limits::default());
    browser.run(
        "window.before = document.querySelector('#samples img').src;
         document.querySelector('#samples button').click()",
    );
    browser.wait("document.getElementById('note').textContent.includes('another network is served here')");
    browser.wait("document.querySelector('#samples img').src !== window.before");
    assert!(browser.run("return document.getElementById('label').hidden").as_bool().unwrap());

    // On the black sheet of a network of gray images, the pen of one in color is not black.
    drop(server);
    let color = || classifier(Model::LeNet, [3, 28, 28], &["a", "b"]);
    let _server = Running::at(address, color(), &[], Limits::default());
    browser.draw("mouse", &SHAPE[..1]);
    browser.shows(&color().classify(&browser.canvas()).unwrap());
    browser.wait("!document.getElementById('color-label').hidden");
    let before = browser.canvas();
    browser.draw("mouse", &[&[[0.1, 0.1], [0.9, 0.1]]]);
    assert!(browser.canvas() != before, "what is drawn is seen");
}

/// The page's line about the network, by what the server says about it.
#[test]
fn the_line_about_the_network_is_true() {
    let Some(browser) = Browser::new() else { return };
    let server = Running::of(lenet(), &[], Limits::default());
    // The address has what the server's answer has instead.
    browser.early(
        "const real = fetch;
         fetch = async (path, ...all) => {
             const response = await real(path, ...all);
             if (path !== 'api/model') return response;
             const own = JSON.parse(decodeURIComponent(location.hash.slice(1)));
             return new Response(JSON.stringify({ ...(await response.json()), ...own }));
         }",
    );
    let said = |own: &str| {
        browser.open("about:blank");
        browser.open(&server.url(&format!("/#{own}")));
        browser.wait("document.getElementById('about').textContent");
        browser.text("return document.getElementById('about').textContent")
    };
    let sizes = "1 \u{d7} 28 \u{d7} 28 pixels, 3 classes";
    for (own, expected) in [
        (r#"{"judged_by":null}"#, "accuracy 0.2500"),
        (
            r#"{"data":"cloth","judged_by":"held_out"}"#,
            "trained on cloth, accuracy on held-out training images 0.2500",
        ),
        (r#"{"data":"cloth","judged_by":"test"}"#, "trained on cloth, test accuracy 0.2500"),
        (
            r#"{"data":"cloth","epoch":null,"test_acc":null}"#,
            "for cloth, not the weights of a finished epoch, not tested",
        ),
    ] {
        assert_eq!(said(own), format!("{sizes}, {expected}"));
    }
}

/// The page can ask about all that it can show, if need be as it shows it, and then it says so.
#[test]
fn files_that_the_server_does_not_take_are_asked_about_as_they_are_shown() {
    let Some(browser) = Browser::new() else { return };
    let limits = Limits { body: 40_000, pixels: 110_000, ..Limits::default() };
    let server = Running::of(lenet(), &[], limits);
    browser.open(&server.url("/"));
    browser.wait("document.body.dataset.state === 'empty' && document.title !== 'nin'");
    let flat = |[h, w]: [usize; 2]| {
        Picture::new([1, h, w], (0..h * w).map(|i| (i / w) as u8).collect()).unwrap().to_png()
    };
    let given = |bytes: &[u8], canvas: [usize; 2]| {
        browser.give("drop", "a.png", "image/png", bytes);
        let [h, w] = canvas;
        browser.wait(&format!(
            "document.getElementById('canvas').width === {w} && document.getElementById('canvas').height === {h}"
        ));
        browser.wait("document.body.dataset.state === 'shown'");
        browser.note()
    };
    let shown = |canvas: &str| {
        browser.shows(&lenet().classify(&browser.canvas()).unwrap());
        format!("The answers are about the image as it is shown here, {canvas} pixels.")
    };

    assert_eq!(given(&flat([200, 300]), [200, 300]), "");
    browser.shows(&lenet().classify(&Picture::decode(&flat([200, 300]), "a".as_ref()).unwrap()).unwrap());
    let long = [flat([250, 300]), vec![0; limits.body]].concat();
    let text = given(&long, [250, 300]);
    let expected = shown("300 \u{d7} 250");
    assert_eq!(text, format!("The file is larger than the server takes. {expected}"));
    let text = given(&flat([300, 640]), [150, 320]);
    let expected = shown("320 \u{d7} 150");
    assert_eq!(text, format!("The image has more pixels than the server takes. {expected}"));
    // Another kind of file under the name of a PNG file.
    let made = |[h, w]: [usize; 2], kind: &str| -> Vec<u8> {
        browser.run(&format!(
            "window.made = null;
             const other = document.createElement('canvas');
             [other.width, other.height] = [{w}, {h}];
             other.getContext('2d').fillRect(0, 0, 20, 20);
             other.toBlob(async (blob) => {{ window.made = [...new Uint8Array(await blob.arrayBuffer())] }}, '{kind}', 0.2)"
        ));
        browser.wait("window.made");
        serde_json::from_value(browser.run("return window.made")).unwrap()
    };
    let webp = made([64, 160], "image/webp");
    let text = given(&webp, [128, 320]);
    let expected = shown("320 \u{d7} 128");
    assert_eq!(text, format!("The server reads PNG and JPEG files, which this is not. {expected}"));
    assert_eq!(browser.complaints(), [] as [Value; 0]);
    // What only the server can tell: a side of 20,000 pixels.
    let text = given(&made([4, 20_000], "image/png"), [1, 320]);
    let expected = shown("320 \u{d7} 1");
    assert!(text.starts_with("The server cannot read the file (") && text.ends_with(&expected), "{text}");

    // The note goes with the image.
    assert_eq!(given(&flat([200, 300]), [200, 300]), "");
    given(&webp, [128, 320]);
    browser.run("document.getElementById('clear').click()");
    assert_eq!(browser.note(), "");
}

/// Samples that were refused are asked for again: at a click, and with the next answer.
#[test]
fn samples_that_did_not_come_are_asked_for_again() {
    let Some(browser) = Browser::new() else { return };
    let sample = Sample { label: None, picture: crate::common::picture(1) };
    let server = Running::of(lenet(), std::slice::from_ref(&sample), Limits::default());
    browser.early(
        "const real = fetch;
         window.refused = true;
         fetch = async (path, ...all) => window.refused && String(path).includes('api/samples')
             ? new Response('{\"error\": \"busy\"}', { status: 503 }) : real(path, ...all)",
    );
    let count = "document.querySelectorAll('#samples img').length";
    let refused = || {
        browser.open("about:blank");
        browser.open(&server.url("/"));
        browser.wait("document.body.dataset.state === 'error' && document.title !== 'nin'");
        assert_eq!(browser.status(), "busy");
        assert_eq!(browser.run(&format!("return {count}")), json!(0));
    };
    refused();
    browser.run("window.refused = false; document.getElementById('again').click()");
    browser.wait(&format!("{count} === 1 && document.body.dataset.state === 'empty'"));

    refused();
    browser.draw("mouse", &SHAPE[..1]);
    browser.shows(&lenet().classify(&browser.canvas()).unwrap());
    browser.run("window.refused = false");
    browser.draw("mouse", &SHAPE[1..]);
    browser.wait(&format!("{count} === 1"));
    browser.shows(&lenet().classify(&browser.canvas()).unwrap());

    // A sample that is refused is not taken for an image.
    browser.run("window.refused = true");
    browser.sample(0);
    browser.wait("document.getElementById('note').textContent");
    assert_eq!(browser.note(), "The image was not opened: busy");
    browser.shows(&lenet().classify(&browser.canvas()).unwrap());
    assert_eq!(browser.complaints(), [] as [Value; 0]);
}

/// A browser without what came in 2024 and later draws and asks, too. What fails is named for what it is.
#[test]
fn older_browsers_ask_and_failures_have_their_words() {
    let Some(browser) = Browser::new() else { return };
    let sample = Sample { label: None, picture: crate::common::picture(1) };
    let server = Running::of(lenet(), std::slice::from_ref(&sample), Limits::default());
    browser.early(
        "delete AbortSignal.any; delete AbortSignal.timeout; delete PointerEvent.prototype.getCoalescedEvents;
         window.patience = 20000;
         const real = setTimeout; setTimeout = (what, time) => real(what, time === 20000 ? window.patience : time)",
    );
    browser.open(&server.url("/"));
    browser.wait("document.querySelectorAll('#samples img').length === 1");
    browser.sample(0);
    browser.shows(&lenet().classify(&sample.picture).unwrap());
    browser.run("document.getElementById('clear').click()");
    browser.draw("mouse", &SHAPE);
    browser.shows(&lenet().classify(&browser.canvas()).unwrap());

    let fails = |expected: &str| {
        browser.wait(&format!(
            "document.body.dataset.state === 'error' && document.getElementById('status').textContent === {expected:?}"
        ));
    };
    browser.run(
        "window.real = window.fetch; window.asked = 0;
         window.fetch = async () => { window.asked += 1; return new Response('<html>'); }",
    );
    let began = Instant::now();
    browser.draw("mouse", &[&zigzag()]);
    let seconds = began.elapsed().as_secs();
    fails("The server's answer could not be read.");
    // At first, once in a second, when the pen is lifted, and of what changed meanwhile.
    let asked = browser.run("return window.asked").as_u64().unwrap();
    assert!(asked <= seconds + 4, "{asked} questions in {seconds} seconds");
    browser.run("window.fetch = async () => { throw new TypeError('Failed to fetch') }");
    browser.run("document.getElementById('again').click()");
    fails("The server cannot be reached. Is it still running?");
    browser.run("window.fetch = async () => new Response('{\"error\": \"not so\"}', { status: 500 })");
    browser.run("document.getElementById('again').click()");
    fails("not so");
    browser.run("window.fetch = window.real; window.patience = 1");
    browser.hold();
    browser.run("document.getElementById('again').click()");
    browser.wait("window.held.length === 1");
    std::thread::sleep(Duration::from_millis(50));
    browser.let_go();
    fails("No answer came within 20 seconds.");
    browser.run("window.held = null; window.patience = 20000; document.getElementById('again').click()");
    browser.shows(&lenet().classify(&browser.canvas()).unwrap());
    assert_eq!(browser.complaints(), [] as [Value; 0]);
}

/// Names of classes come from names of folders.
#[test]
fn names_are_text_and_no_markup() {
    let Some(browser) = Browser::new() else { return };
    let names = ["<img src=x onerror=document.title='run'>", "</script><script>alert(1)</script>", "a & b"];
    let own = || classifier(Model::LeNet, [3, 28, 28], &names);
    let sample = Sample { label: Some(names[0].to_owned()), picture: crate::common::picture(1) };
    let server = Running::of(own(), std::slice::from_ref(&sample), Limits::default());
    browser.open(&server.url("/"));
    browser.wait("document.querySelectorAll('#samples button').length === 1");
    browser.run("document.querySelector('#samples button').click()");
    browser.shows(&own().classify(&sample.picture).unwrap());
    assert_eq!(browser.text("return document.title"), "lenet - nin");
    assert_eq!(browser.run("return document.querySelectorAll('#answers img').length"), json!(0));
    // A network of color is drawn for on white, with a color.
    browser.run("document.getElementById('clear').click()");
    assert_eq!(browser.canvas().pixels()[0], 255);
    assert_eq!(browser.run("return document.getElementById('color-label').hidden"), json!(false));
    assert_eq!(browser.complaints(), [] as [Value; 0]);
}
