//! Clients that are slow, large, gone, or too many.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use nin_serve::Limits;

use crate::common::{EVER, Running, picture, rest};

/// Times that are long enough for a client that is not slow, and short enough for a test.
fn short() -> Limits {
    let time = Duration::from_millis(400);
    Limits { head_time: time, body_time: time, write_time: time, ..Limits::default() }
}

/// The head of a request with so many bytes of body.
fn head(server: &Running, length: usize, more: &str) -> String {
    server.head("POST /api/classify", &format!("Content-Length: {length}\r\n{more}"))
}

#[test]
fn a_head_that_does_not_come_costs_the_connection() {
    let server = Running::new(short());
    for begun in ["", "POST /api/cl", "GET / HTTP/1.1\r\nHost: a\r\nX: "] {
        assert_eq!(
            rest(server.send(begun)),
            "",
            "{begun:?}: nothing can be said to a request that is not there"
        );
    }
    // A client that has its answer and keeps the connection.
    let asked = server.send(server.head("GET /healthz", ""));
    assert!(rest(asked).starts_with("HTTP/1.1 200 "));
    let many = "X: y\r\n".repeat(10_000);
    let answer = server.raw(format!("GET / HTTP/1.1\r\n{many}\r\n"));
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert!(server.raw("nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
    server.wait_for("nin_connections", 1.0);
}

#[test]
fn a_body_that_does_not_come_is_told_so() {
    let server = Running::new(short());
    let png = picture(0).to_png();
    let mut stream = server.send(head(&server, png.len(), ""));
    stream.write_all(&png[..20]).unwrap();
    let answer = rest(stream);
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("did not come within 0.4 s"), "{answer}");
    // Drop by drop is no faster.
    let mut stream = server.send(head(&server, png.len(), ""));
    for byte in &png {
        std::thread::sleep(Duration::from_millis(50));
        if stream.write_all(&[*byte]).is_err() {
            break;
        }
    }
    drop(stream);
    server.wait_for("nin_requests_total{outcome=\"timed_out\"}", 2.0);
    server.wait_for("nin_connections", 1.0);
    assert_eq!(server.post("/api/classify", &png).0, 200);
}

#[test]
fn a_body_that_is_too_large_is_told_so() {
    let server = Running::new(Limits { body: 100_000, ..Limits::default() });
    // Who sends it all.
    let (status, value) = server.post("/api/classify", &vec![0; 300_000]);
    assert_eq!((status, value["error"].as_str().unwrap()), (413, "the body is larger than 100000 bytes"));
    // Who asks first is told before it sends anything.
    let answer = rest(server.send(head(&server, 1 << 40, "Expect: 100-continue\r\n")));
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    // Who says how much comes need not send it all to be told.
    let mut stream = server.send(head(&server, 300_000, ""));
    let mut answer = [0; 13];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413 ");
    drop(stream);
    // Who does not say how much comes.
    let chunk = format!("C350\r\n{}\r\n", "x".repeat(50_000)).repeat(3);
    let chunks = server.head("POST /api/classify", "Transfer-Encoding: chunked\r\n");
    let answer = server.raw(format!("{chunks}{chunk}0\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("connection: close"), "{answer}");
    assert!(server.raw(chunks + "no number\r\n").starts_with("HTTP/1.1 400 "));
    assert_eq!(server.post("/api/classify", &picture(0).to_png()).0, 200);
}

/// Requests wait for others that never come, so that the queue is as full as they make it.
fn waiting(places: usize) -> Running {
    Running::new(Limits { waiting: places, batch: places + 1, gather: EVER, ..Limits::default() })
}

#[test]
fn a_full_queue_says_so_and_who_leaves_frees_the_place() {
    let server = waiting(2);
    let png = picture(0).to_png();
    let request = [head(&server, png.len(), "Connection: close\r\n").as_bytes(), &png].concat();
    let (first, second) = (server.send(&request), server.send(&request));
    server.wait_for("nin_queue_length", 2.0);
    let answer = server.raw(&request);
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("retry-after: 1\r\n") && answer.contains("try again in a second"), "{answer}");

    drop(first);
    server.wait_for("nin_queue_length", 1.0);
    let third = server.send(&request);
    server.wait_for("nin_queue_length", 2.0);
    server.stopper.stop();
    for stream in [second, third] {
        let answer = rest(stream);
        assert!(answer.starts_with("HTTP/1.1 200 "), "what was taken is answered: {answer}");
    }
    server.ended();
}

#[test]
fn who_leaves_in_the_middle_is_counted_and_forgotten() {
    let server = waiting(4);
    let png = picture(0).to_png();
    // In the middle of the head, of the body, and of the wait for an answer.
    drop(server.send("POST /api/classify HTTP/1.1\r\nHo"));
    let mut stream = server.send(head(&server, png.len(), ""));
    stream.write_all(&png[..30]).unwrap();
    drop(stream);
    let mut stream = server.send(head(&server, png.len(), ""));
    stream.write_all(&png).unwrap();
    server.wait_for("nin_queue_length", 1.0);
    drop(stream);
    server.wait_for("nin_queue_length", 0.0);
    server.wait_for("nin_requests_total{outcome=\"disconnected\"}", 1.0);
    // A body that is cut off can still be answered: half of the connection is open.
    let mut stream = server.send(head(&server, png.len(), ""));
    stream.write_all(&png[..30]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let answer = rest(stream);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    server.wait_for("nin_connections", 1.0);
}

#[test]
fn connections_beyond_the_most_wait_for_a_place() {
    let server = Running::new(Limits { connections: 2, ..short() });
    let held = [server.send(""), server.send("")];
    // Those that say nothing lose their places.
    assert_eq!(server.get("/healthz").0, 200);
    drop(held);
}

/// A client that asks and does not read.
#[test]
fn an_answer_that_is_not_taken_costs_the_connection() {
    let server = Running::new(short());
    let page = server.head("GET /", "");
    let mut stream = server.send("");
    stream.set_write_timeout(Some(EVER)).unwrap();
    // More than the buffers on the way hold. The server stops reading, and then it ends the connection.
    while stream.write_all(page.repeat(100).as_bytes()).is_ok() {}
    server.wait_for("nin_connections", 1.0);
    let mut some = [0; 16];
    let _ = stream.read(&mut some);
}

/// A request whose body does not come is waited for, but not for ever; what has not asked is not waited for at all.
#[test]
fn the_end_does_not_wait_for_clients_that_hang() {
    for (stop_time, asks) in [(Duration::from_millis(300), true), (10 * EVER, false)] {
        let limits = Limits { stop_time, head_time: 10 * EVER, body_time: 10 * EVER, ..Limits::default() };
        let server = Running::new(limits);
        let mut kept = server.send(server.head("GET /healthz", ""));
        assert_ne!(kept.read(&mut [0; 1024]).unwrap(), 0);
        let mut hanging = vec![kept, server.send(""), server.send("GET /")];
        if asks {
            hanging.push(server.send(head(&server, 1000, "")));
        }
        server.wait_for("nin_connections", hanging.len() as f64 + 1.0);
        server.stopper.stop();
        server.ended();
        for stream in hanging {
            let answer = rest(stream);
            assert!(answer.is_empty(), "{answer}");
        }
    }
}
