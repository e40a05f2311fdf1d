//! A server under load: answers in a second, latencies and memory, with requests one by one and in batches.
//!
//! `cargo run --release -p nin-serve --example load -- model.safetensors [SECONDS]`. Each server is a process of its own, so that
//! the memory is its alone; clients are threads that ask again as soon as they are answered, or, told that too many wait, 100 ms
//! later.
#![allow(clippy::print_stdout, reason = "an example has a reader")]

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nin::Classifier;
use nin::data::Picture;
use nin_serve::{Limits, Server};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--server", model, batch] => serve(model.as_ref(), batch.parse()?),
        [model] => measure(model, Duration::from_secs(10)),
        [model, seconds] => measure(model, Duration::from_secs_f64(seconds.parse()?)),
        _ => Err("expected model.safetensors and, if need be, the seconds of each measurement".into()),
    }
}

/// A server with batches of so many images, until its process is ended.
fn serve(model: &Path, batch: usize) -> Result<(), Box<dyn Error>> {
    let own = Limits::default();
    let gather = if batch > 1 { own.gather } else { Duration::ZERO };
    let limits = Limits { batch, gather, ..own };
    let server = Server::bind(Classifier::load(model)?, &[], ([127, 0, 0, 1], 0).into(), limits)?;
    println!("{}", server.address());
    Ok(server.run()?)
}

fn measure(model: &str, time: Duration) -> Result<(), Box<dyn Error>> {
    println!(
        "{:<8} {:>8} {:>10} {:>9} {:>9} {:>9} {:>9} {:>11} {:>10}",
        "batches", "clients", "answers/s", "p50, ms", "p99, ms", "max, ms", "503s", "MiB before", "MiB after"
    );
    let mut servers = [1, 32].map(|batch| Running::new(model, batch).map_err(|error| error.to_string()));
    // In turn, as the machine may have other work. What memory 200 clients take once, they do not take again.
    for clients in [1, 32, 32, 200, 200] {
        for server in &mut servers {
            let server = server.as_ref().map_err(String::as_str)?;
            let before = memory(server.process.id())?;
            let (mut times, rejected) = run(&server.url, clients, time)?;
            times.sort_unstable();
            let share = |share: f64| 1e3 * times[(share * (times.len() - 1) as f64) as usize].as_secs_f64();
            println!(
                "{:<8} {clients:>8} {:>10.1} {:>9.1} {:>9.1} {:>9.1} {rejected:>9} {before:>11.1} {:>10.1}",
                server.batch,
                times.len() as f64 / time.as_secs_f64(),
                share(0.5),
                share(0.99),
                share(1.0),
                memory(server.process.id())?
            );
        }
    }
    Ok(())
}

/// A server in a process of its own, which ends with this.
struct Running {
    batch: usize,
    process: Child,
    url: String,
}

impl Running {
    fn new(model: &str, batch: usize) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--server", model, &batch.to_string()]).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let mut address = String::new();
        BufReader::new(process.stdout.take().ok_or("no output")?).read_line(&mut address)?;
        let url = format!("http://{}/api/classify", address.trim());
        let running = Self { batch, process, url };
        // The first answers are slower: the network is planned for each size of batch.
        run(&running.url, 32, Duration::from_secs(1))?;
        Ok(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The time that each answer took, and how often a client was told to come again.
fn run(url: &str, clients: usize, time: Duration) -> Result<(Vec<Duration>, usize), Box<dyn Error>> {
    let end = Instant::now() + time;
    let client = |client: usize| -> Result<(Vec<Duration>, usize), ureq::Error> {
        let pixels = (0..784).map(|i| ((i + 31 * client) * 7919 % 251) as u8).collect();
        let png = Picture::new([1, 28, 28], pixels).expect("784 pixels").to_png();
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        let agent: ureq::Agent = config.timeout_global(Some(Duration::from_secs(60))).build().into();
        let (mut times, mut rejected) = (Vec::new(), 0);
        while Instant::now() < end {
            let began = Instant::now();
            let mut response = agent.post(url).send(&png)?;
            response.body_mut().read_to_vec()?;
            match response.status().as_u16() {
                200 => times.push(began.elapsed()),
                503 => {
                    rejected += 1;
                    thread::sleep(Duration::from_millis(100));
                }
                status => return Err(ureq::Error::StatusCode(status)),
            }
        }
        Ok((times, rejected))
    };
    let all = thread::scope(|scope| {
        let clients: Vec<_> = (0..clients).map(|index| scope.spawn(move || client(index))).collect();
        clients.into_iter().map(|client| client.join().expect("a client panicked")).collect::<Vec<_>>()
    });
    let (mut times, mut rejected) = (Vec::new(), 0);
    for client in all {
        let (own, own_rejected) = client?;
        times.extend(own);
        rejected += own_rejected;
    }
    Ok((times, rejected))
}

/// MiB of memory that a process holds, where the system tells as Linux does.
fn memory(process: u32) -> Result<f64, Box<dyn Error>> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
