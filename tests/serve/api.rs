//! Questions of programs, and the answers.

use nin::data::Picture;
use nin::models::Model;
use nin_serve::{Limits, Sample, Server};
use serde_json::{Value, json};

use crate::common::{Running, agent, assert_answers, classifier, decoded, lenet, picture};

#[test]
fn answers_are_the_classifiers() {
    let (server, classifier) = (Running::new(Limits::default()), lenet());
    let color = (0..3 * 50 * 31).map(|i: usize| (i * 7919 % 251) as u8).collect();
    let large = (0..1100 * 1000).map(|i: usize| (i / 999 % 256) as u8).collect();
    let pictures = [
        picture(0),
        Picture::new([3, 50, 31], color).unwrap(),
        // More pixels than are read beside others.
        Picture::new([1, 1100, 1000], large).unwrap(),
        Picture::new([1, 1, 1], vec![255]).unwrap(),
    ];
    for picture in &pictures {
        let expected = classifier.classify(picture).unwrap();
        let (status, found) = server.post("/api/classify", &picture.to_png());
        assert_eq!(status, 200, "{found}");
        assert_answers(&found["answers"], &expected);
        assert_eq!(found.as_object().unwrap().len(), 2, "what was not asked for is not there: {found}");
        let (_, found) = server.post("/api/classify?top=1&maps=false&blocks=false", &picture.to_png());
        assert_answers(&found["answers"], &expected[..1]);
    }
    let (_, all) = server.post("/api/classify?top=1000", &pictures[0].to_png());
    assert_eq!(all["answers"].as_array().unwrap().len(), 3);
    assert_eq!(server.metric("nin_requests_total{outcome=\"answered\"}"), 9.0);
    assert_eq!(server.metric("nin_classify_seconds_count"), 9.0);
}

#[test]
fn maps_are_drawn_over_the_very_image() {
    let net = || classifier(Model::NinCifar, [3, 28, 28], &["a", "b", "c"]);
    let (server, classifier) = (Running::of(net(), &[], Limits::default()), net());
    let picture =
        Picture::new([3, 28, 20], (0..1680).map(|i: usize| (i * 31 % 256) as u8).collect()).unwrap();
    let (status, found) = server.post("/api/classify?top=2&maps=true&blocks=true", &picture.to_png());
    assert_eq!(status, 200, "{found}");
    let (maps, enlarged) = (classifier.class_maps(&picture).unwrap(), picture.enlarged(11).unwrap());
    for (index, answer) in classifier.classify(&picture).unwrap()[..2].iter().enumerate() {
        let map = &found["maps"][index];
        assert_eq!(map["class"], json!(answer.class));
        assert_eq!(decoded(&map["image"]), maps.drawn_over(answer.class, &enlarged));
    }
    assert_eq!(found["maps"].as_array().unwrap().len(), 2);
    let expected = classifier.block_maps(&picture, 16).unwrap();
    let blocks = found["blocks"].as_array().unwrap();
    assert_eq!(blocks.len(), expected.len());
    for (block, expected) in blocks.iter().zip(&expected) {
        assert_eq!((&block["name"], &block["shape"]), (&json!(expected.name), &json!(expected.shape)));
        assert_eq!(block["ops"], json!(expected.ops));
        let maps = block["maps"].as_array().unwrap();
        assert_eq!(maps.len(), expected.shape[0].min(16));
        assert_eq!(decoded(&maps[1]), expected.drawn(1));
    }
    let (_, one) = server.post("/api/classify?maps=2", &picture.to_png());
    assert_eq!(one["maps"].as_array().unwrap().len(), 1);
    assert_eq!(decoded(&one["maps"][0]["image"]), maps.drawn_over(2, &enlarged));
}

#[test]
fn what_is_no_request_gets_one_sentence() {
    let server = Running::new(Limits { pixels: 5000, ..Limits::default() });
    let png = picture(0).to_png();
    let large = Picture::new([1, 2, 2501], vec![0; 5002]).unwrap().to_png();
    // A side as the header has it.
    let long = [&png[..16], &20_000u32.to_be_bytes(), &png[20..]].concat();
    for (path, body, status, expected) in [
        ("/api/classify", &b""[..], 400, "the body is empty: expected the bytes of a PNG or JPEG image"),
        ("/api/classify", b"plain text", 400, "image: neither a PNG nor a JPEG image"),
        ("/api/classify", b"GIF89a", 400, "image: neither a PNG nor a JPEG image"),
        ("/api/classify", &png[..png.len() / 2], 400, "image: not a whole image: "),
        ("/api/classify", &large, 413, "the image has 2501 x 2 pixels, more than 5000"),
        ("/api/classify", &long, 413, "the image has 20000 x 28 pixels, more than 16384 a side"),
        ("/api/classify?top=0", &png, 400, "top: expected at least 1, found 0"),
        ("/api/classify?top=-1", &png, 400, "query: top: invalid digit"),
        ("/api/classify?tops=1", &png, 400, "query: tops: unknown field"),
        ("/api/classify?top=1&top=2", &png, 400, "query: duplicate field"),
        ("/api/classify?blocks=yes", &png, 400, "query: blocks: "),
        (
            "/api/classify?maps=3",
            &png,
            400,
            "maps: expected true, false or the number of a class, 0 to 2, found \"3\"",
        ),
        ("/api/classify?maps=all", &png, 400, "maps: expected true, false or the number of a class"),
        ("/api/classify?maps=true", &png, 400, "maps: lenet makes no maps for its classes"),
        ("/api/model/", &png, 404, "there is nothing at this path"),
    ] {
        let (found, value) = server.post(path, body);
        let text = value["error"].as_str().unwrap();
        assert!(
            found == status && text.starts_with(expected) && !text.contains('\n'),
            "{path}: {found} {text}"
        );
    }
    assert_eq!(server.post("/api/classify", &png).0, 200);
}

#[test]
fn a_form_is_told_what_to_send_instead() {
    let server = Running::new(Limits::default());
    let ask = |kind: &str| {
        let png = picture(0).to_png();
        let more = format!("Connection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n", png.len());
        server.raw([server.head("POST /api/classify", &more).as_bytes(), &png].concat())
    };
    let answer = ask("Multipart/form-data; boundary=x");
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("the body is a form: expected the bytes"),
        "{answer}"
    );
    // What curl says of any bytes.
    assert!(ask("application/x-www-form-urlencoded").starts_with("HTTP/1.1 200 "));
}

#[test]
fn other_methods_are_told_which_to_use() {
    let server = Running::new(Limits::default());
    for (method, path, allowed) in [
        ("GET", "/api/classify", "POST"),
        ("PUT", "/api/classify", "POST"),
        ("POST", "/", "GET,HEAD"),
        ("DELETE", "/api/samples/0", "GET,HEAD"),
        ("BREW", "/healthz", "GET,HEAD"),
    ] {
        let answer = server.alone(&format!("{method} {path}")).to_lowercase();
        assert!(answer.starts_with("http/1.1 405 "), "{method} {path}: {answer}");
        assert!(answer.contains(&format!("\r\nallow: {}\r\n", allowed.to_lowercase())), "{answer}");
    }
    assert!(server.alone("HEAD /").starts_with("HTTP/1.1 200 "));
}

#[test]
fn no_path_leads_to_a_file() {
    let server = Running::of(lenet(), &samples(), Limits::default());
    for path in [
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/api/samples/../../Cargo.toml",
        "/api/samples/..%2f..%2fCargo.toml",
        "/api/samples/2",
        "/api/samples/-1",
        "/api/samples/99999999999999999999999",
        "/api/samples/0/",
        "/api/samples/0%00",
        "//api/model",
        "/page.js",
    ] {
        let answer = server.alone(&format!("GET {path}"));
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
    }
}

fn samples() -> [Sample; 2] {
    [
        Sample { label: Some("</script>".to_owned()), picture: picture(1) },
        Sample { label: None, picture: picture(2) },
    ]
}

#[test]
fn a_server_says_what_it_is_of() {
    let server = Running::of(lenet(), &samples(), Limits::default());
    let (status, model) = server.get("/api/model");
    let model: Value = serde_json::from_str(&model).unwrap();
    let id = &model["server"];
    assert!(id.as_str().is_some_and(|id| !id.is_empty()), "{id}");
    assert_eq!(server.post("/api/classify", &picture(0).to_png()).1["server"], *id);
    let id_of = |samples: &[Sample]| {
        let other = Running::of(lenet(), samples, Limits::default()).get("/api/model").1;
        serde_json::from_str::<Value>(&other).unwrap()["server"].clone()
    };
    assert_eq!(id_of(&samples()), *id, "one of the same network and samples answers the same");
    assert_ne!(id_of(&samples()[..1]), *id);
    let path = |server: &str| format!("/api/samples/1?server={server}");
    assert_eq!(agent().get(server.url(&path(id.as_str().unwrap()))).call().unwrap().status(), 200);
    let refused = (409, "{\"error\":\"another network is served here by now\"}".to_owned());
    assert_eq!(server.get(&path("another")), refused);
    let expected = json!({
        "server": id, "network": "lenet", "classes": ["boot", "<b>bag</b>", "coat"], "image": [1, 28, 28], "data": null, "epoch": 3,
        "test_acc": 0.25, "judged_by": "held_out", "version": "0", "class_maps": false, "limits": { "body": 16 << 20, "pixels": 50_000_000 },
    });
    assert_eq!((status, model), (200, expected));
    let (_, list) = server.get("/api/samples");
    let expected =
        json!({ "samples": [{ "index": 0, "label": "</script>" }, { "index": 1, "label": null }] });
    assert_eq!(serde_json::from_str::<Value>(&list).unwrap(), expected);
    let mut sample = agent().get(server.url("/api/samples/1")).call().unwrap();
    assert_eq!(sample.headers()["content-type"], "image/png");
    assert_eq!(sample.body_mut().read_to_vec().unwrap(), picture(2).to_png());
    assert_eq!(server.get("/healthz"), (200, "{\"status\":\"ok\"}".to_owned()));

    // What a network is named like is nothing that a page runs.
    let mut page = agent().get(server.url("/")).call().unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'sha256-") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert_eq!(page.headers()["x-content-type-options"], "nosniff");
    assert!(page.body_mut().read_to_string().unwrap().starts_with("<!doctype html>"));
}

/// A page from elsewhere can have a browser ask, by a name of its own that leads here (DNS rebinding) or across origins.
#[test]
fn pages_from_elsewhere_are_refused() {
    let server = Running::new(Limits::default());
    let port = server.address.port();
    let ask =
        |headers: &str| server.raw(format!("GET /api/model HTTP/1.1\r\nConnection: close\r\n{headers}\r\n"));
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        for host in [host.to_owned(), format!("{host}:{port}"), format!("{host}:1")] {
            assert!(ask(&format!("Host: {host}\r\n")).starts_with("HTTP/1.1 200 "), "{host}");
        }
    }
    for host in [format!("example.org:{port}"), format!("localhost.example.org:{port}"), String::new()] {
        let answer = ask(&format!("Host: {host}\r\n"));
        assert!(
            answer.starts_with("HTTP/1.1 403 ") && answer.contains("is not this server's"),
            "{host}: {answer}"
        );
    }
    let own = format!("Host: localhost:{port}\r\nOrigin: http://localhost:{port}\r\n");
    assert!(ask(&own).starts_with("HTTP/1.1 200 "));
    for origin in ["http://example.org", "http://localhost:1"] {
        let other = format!("Host: localhost:{port}\r\nOrigin: {origin}\r\n");
        assert!(ask(&other).starts_with("HTTP/1.1 403 "), "{origin}");
    }
}

#[test]
fn an_address_that_is_taken_is_an_error() {
    let server = Running::new(Limits::default());
    let error = Server::bind(lenet(), &[], server.address, Limits::default()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}: cannot listen: ", server.address)), "{error}");
}
