//! Downloads from a server on the loopback interface that answers rightly, and in every wrong way.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::*;
use crate::testing::noise;

/// The server's answer to one request.
#[derive(Clone, Copy)]
enum Answer {
    /// The file, or the range of it that was asked for.
    Right,
    /// The whole file, whatever was asked for.
    Whole,
    /// As `Right`, but the connection closes after this many bytes of it.
    Cut(usize),
    /// The file with one byte changed.
    Corrupt,
    /// More bytes than the file has, with their true length announced or without any.
    Longer { announced: bool },
    /// A range that was not asked for.
    WrongRange,
    /// A status without a file.
    Status(u16),
    /// Nothing, until the client gives up.
    Silence,
}

/// Gives one answer to each request in turn, and notes what was asked: the path and the first byte.
struct Server {
    url: String,
    asked: Arc<Mutex<Vec<(String, u64)>>>,
}

impl Server {
    fn start(contents: Vec<u8>, answers: Vec<Answer>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/data", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                let request = read_request(&stream);
                log.lock().unwrap().push(request.clone());
                // A client that hangs up in the middle, as it should on too long a file, is no fault of the
                // server.
                let _ = respond(stream, &contents, request.1, answer);
            }
        });
        Server { url, asked }
    }

    fn downloader(&self) -> Downloader {
        Downloader {
            use_proxy: false,
            read_timeout: Duration::from_millis(300),
            ..Downloader::new(&self.url)
        }
    }

    fn asked_from(&self) -> Vec<u64> {
        self.asked.lock().unwrap().iter().map(|(_, from)| *from).collect()
    }
}

fn read_request(stream: &TcpStream) -> (String, u64) {
    let mut path = String::new();
    let mut from = 0;
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap().to_lowercase();
        if let Some(rest) = line.strip_prefix("get ") {
            path = rest.split(' ').next().unwrap().to_owned();
        } else if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().unwrap();
        } else if line.is_empty() {
            break;
        }
    }
    (path, from)
}

fn respond(mut stream: TcpStream, contents: &[u8], from: u64, answer: Answer) -> std::io::Result<()> {
    let total = contents.len();
    let from = from as usize;
    let (status, from, mut body) = match answer {
        Answer::Status(status) => (status, from, b"no such thing".to_vec()),
        Answer::Whole => (200, 0, contents.to_vec()),
        Answer::Longer { .. } => (200, 0, [contents, b"!"].concat()),
        _ if from > 0 => (206, from, contents[from..].to_vec()),
        _ => (200, 0, contents.to_vec()),
    };
    if matches!(answer, Answer::Corrupt) {
        body[0] ^= 1;
    }
    let mut head = format!("HTTP/1.1 {status} Whatever\r\nConnection: close\r\n");
    if !matches!(answer, Answer::Longer { announced: false }) {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    if status == 206 {
        let first = if matches!(answer, Answer::WrongRange) { from - 1 } else { from };
        head += &format!("Content-Range: bytes {first}-{}/{total}\r\n", total - 1);
    }
    match answer {
        Answer::Silence => {
            // Waits for the client to close its side.
            let _ = stream.read(&mut [0; 1])?;
            return Ok(());
        }
        Answer::Cut(at) => body.truncate(at),
        _ => {}
    }
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"\r\n")?;
    stream.write_all(&body)
}

fn contents() -> Vec<u8> {
    noise(200_000)
}

fn file() -> RemoteFile {
    RemoteFile {
        folder: String::new(),
        name: "thing.gz".into(),
        size: 200_000,
        sha256: hex(&Sha256::digest(contents())),
    }
}

/// An observer that does nothing.
fn nobody() -> Observer {
    Arc::new(|_| ())
}

/// Fetches the file from below a URL without a server that would send it.
fn fetch(url: &str, dir: &Path) -> Result<PathBuf, String> {
    let downloader = Downloader { use_proxy: false, ..Downloader::new(url) };
    downloader.fetch(&file(), dir, &nobody()).map_err(|error| error.to_string())
}

/// The outcome of a download: the file's contents or the error, the first byte of each request, the part that
/// is left.
type Outcome = (Result<Vec<u8>, String>, Vec<u64>, Option<Vec<u8>>);

/// Runs one download against a server with these answers, over a part with these contents.
fn run(answers: &[Answer], part: Option<&[u8]>) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let into = dir.path().join("deep/cache");
    let part_path = into.join("thing.gz.part");
    if let Some(bytes) = part {
        fs::create_dir_all(&into).unwrap();
        fs::write(&part_path, bytes).unwrap();
    }
    let server = Server::start(contents(), answers.to_vec());
    let result = server.downloader().fetch(&file(), &into, &nobody());
    assert_eq!(into.join("thing.gz").exists(), result.is_ok(), "a file under its final name is a whole one");
    if result.is_ok() {
        assert!(!part_path.exists());
    }
    let result = result.map(|path| fs::read(path).unwrap()).map_err(|error| {
        let message = error.to_string();
        assert!(message.starts_with(&server.url) && !message.contains('\n'), "{message}");
        message.replace(&server.url, "URL")
    });
    assert!(server.asked.lock().unwrap().iter().all(|(path, _)| path == "/data/thing.gz"));
    (result, server.asked_from(), fs::read(part_path).ok())
}

#[test]
fn a_file_that_is_there_is_not_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thing.gz"), "here").unwrap();
    assert_eq!(fetch("http://127.0.0.1:1", dir.path()).unwrap(), dir.path().join("thing.gz"));
}

#[test]
fn the_file_comes_whole_whatever_breaks_on_the_way() {
    use Answer::{Cut, Right, Status, Whole};

    let (all, long) = (contents(), [7; 200_001]);
    for (answers, part, from) in [
        (&[Right][..], None, &[0][..]),
        // A broken connection is taken up again where it broke.
        (&[Cut(70_000), Cut(50_000), Right], None, &[0, 70_000, 120_000]),
        // The part of an earlier run is gone on with; a complete one needs no server, one that is too long is of no use.
        (&[Right], Some(&all[..1234]), &[1234]),
        (&[], Some(&all), &[]),
        (&[Right], Some(&long), &[0]),
        // Servers without ranges, and with another file, send it all again.
        (&[Whole], Some(&all[..1234]), &[1234]),
        (&[Status(416), Right], Some(&all[..1234]), &[1234, 0]),
    ] {
        assert_eq!(run(answers, part), (Ok(all.clone()), from.to_vec(), None));
    }
}

#[test]
fn a_connection_that_gets_no_further_is_an_error_and_the_part_is_kept() {
    let (result, asked, part) = run(&[Answer::Cut(70_000), Answer::Cut(0)], None);
    let message = result.unwrap_err();
    assert!(message.starts_with("URL/thing.gz: download stopped at byte 70000 of 200000: "), "{message}");
    assert!(message.ends_with("run it again to go on, or give the files with --data-dir"), "{message}");
    assert_eq!((asked, part.as_deref()), (vec![0, 70_000], Some(&contents()[..70_000])));

    let (result, asked, _) = run(&[Answer::Silence], None);
    let message = result.unwrap_err();
    assert!(message.starts_with("URL/thing.gz: download stopped at byte 0 of 200000: timeout"), "{message}");
    assert_eq!(asked, [0]);
}

/// With what is left of the part: nothing of what was not the file, and no empty one.
#[test]
fn other_files_and_statuses_are_refused() {
    use Answer::{Corrupt, Longer, Status, WrongRange};

    let (all, mut wrong) = (contents(), contents());
    wrong[0] ^= 1;
    let corrupt = "downloaded file is corrupt and was removed: expected SHA-256";
    let [expected, found] = [&all, &wrong].map(|bytes| hex(&Sha256::digest(bytes)));
    let corrupt = format!("{corrupt} {expected}, found {found}");
    let size = |found| format!("refused: expected a file of 200000 bytes, the server sends {found}");
    let status =
        |status| format!("cannot download: expected the file, the server answered with status {status}");
    let range = size("the range \"bytes 1233-199999/200000\" when asked from byte 1234");
    for (answer, part, expected, left) in [
        (Corrupt, None, corrupt, None),
        (Longer { announced: true }, None, size("200001"), None),
        (Longer { announced: false }, None, size("more"), None),
        (WrongRange, Some(&all[..1234]), range, Some(&all[..1234])),
        (Status(403), Some(&all[..10]), status(403), Some(&all[..10])),
        (Status(500), Some(&all[..10]), status(500), Some(&all[..10])),
        (Status(404), None, status(404), None),
    ] {
        let (result, asked, found) = run(&[answer], part);
        assert_eq!(result.unwrap_err(), format!("URL/thing.gz: {expected}"));
        assert_eq!((asked, found.as_deref()), (vec![part.map_or(0, <[u8]>::len) as u64], left));
    }
}

#[test]
fn a_refused_connection_says_so() {
    let dir = tempfile::tempdir().unwrap();
    // A port that was free a moment ago and that nobody listens on.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    let message = fetch(&url, dir.path()).unwrap_err();
    assert!(
        message.starts_with(&format!("{url}/thing.gz: download stopped at byte 0 of 200000: ")),
        "{message}"
    );
    assert!(message.to_lowercase().contains("refused"), "{message}");
}

#[test]
fn two_writers_of_one_part_are_kept_apart() {
    let dir = tempfile::tempdir().unwrap();
    let part = dir.path().join("thing.gz.part");
    let held = File::create(&part).unwrap();
    held.lock().unwrap();
    let error = fetch("http://127.0.0.1:1", dir.path()).unwrap_err();
    assert_eq!(
        error,
        format!("{}: another process is writing this file; wait for it to end", part.display())
    );
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let blocked = dir.path().join("file");
    fs::write(&blocked, "").unwrap();
    let into = blocked.join("cache");
    let error = fetch("http://127.0.0.1:1", &into).unwrap_err();
    assert!(error.starts_with(&format!("{}: cannot create: ", into.display())), "{error}");
}

#[test]
fn the_official_files_are_the_four() {
    for kind in DatasetKind::ALL {
        let files = remote_files(kind);
        let published = matches!(kind.definition().source, Source::Published { .. });
        assert_eq!(files.len(), if published { 4 } else { 0 }, "{kind}");
        for file in &files {
            assert!(file.sha256.len() == 64 && file.sha256.chars().all(|c| c.is_ascii_hexdigit()), "{kind}");
            assert!(file.folder.starts_with("http://") && !file.folder.ends_with('/'), "{kind}");
        }
    }
    let files = remote_files(DatasetKind::FashionMnist);
    assert_eq!(files[0].name, "train-images-idx3-ubyte.gz");
    assert_eq!(files.iter().map(|f| f.size).sum::<u64>(), 30_878_645);
}
