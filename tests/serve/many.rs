//! Many clients at once.

use std::sync::Barrier;
use std::thread;

use nin_serve::Limits;

use crate::common::{EVER, Running, assert_answers, lenet, picture};

#[test]
fn each_of_200_clients_gets_its_own_answer_or_is_told_to_come_again() {
    let (server, classifier) = (Running::new(Limits::default()), lenet());
    let at_once = Barrier::new(200);
    let answered: usize = thread::scope(|scope| {
        let clients: Vec<_> = (0..200)
            .map(|client| {
                let (server, classifier, at_once) = (&server, &classifier, &at_once);
                scope.spawn(move || {
                    let picture = picture(client);
                    let (png, expected) = (picture.to_png(), classifier.classify(&picture).unwrap());
                    at_once.wait();
                    let (mut answered, mut rejected) = (0, 0);
                    for _ in 0..3 {
                        match server.post("/api/classify", &png) {
                            (200, value) => {
                                assert_answers(&value["answers"], &expected);
                                answered += 1;
                            }
                            (503, value) => {
                                assert!(
                                    value["error"].as_str().unwrap().starts_with("too many requests wait")
                                );
                                rejected += 1;
                            }
                            (status, value) => panic!("{status}: {value}"),
                        }
                    }
                    assert_eq!(answered + rejected, 3);
                    answered
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert!(answered > 0);
    assert_eq!(server.metric("nin_classify_seconds_count"), answered as f64);
    assert_eq!(server.metric("nin_batch_size_sum"), answered as f64);
    assert_eq!(server.metric("nin_queue_length"), 0.0);
    assert_eq!(server.post("/api/classify", &picture(0).to_png()).0, 200);
}

/// No batch begins before it is full here, so that its size is known.
#[test]
fn requests_are_answered_together() {
    let server = Running::new(Limits { batch: 4, gather: EVER, ..Limits::default() });
    let classifier = lenet();
    thread::scope(|scope| {
        for client in 0..8 {
            let (server, classifier) = (&server, &classifier);
            scope.spawn(move || {
                let picture = picture(client);
                let (status, value) = server.post("/api/classify?top=3", &picture.to_png());
                assert_eq!(status, 200);
                assert_answers(&value["answers"], &classifier.classify(&picture).unwrap());
            });
        }
    });
    assert_eq!(server.metric("nin_batch_size_count"), 2.0);
    assert_eq!(server.metric("nin_batch_size_bucket{le=\"4\"}"), 2.0);
    assert_eq!(server.metric("nin_batch_size_bucket{le=\"2\"}"), 0.0);
}
