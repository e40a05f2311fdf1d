//! The two programs: `nin` with its commands, and `train`, which is one of them by itself.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use super::bench::{BenchArgs, bench};
use super::compare::{CompareArgs, compare};
use super::eval::{EvalArgs, evaluate};
use super::export::{ExportArgs, export};
use super::fail;
use super::import::{ImportArgs, import};
use super::inspect::{InspectArgs, inspect};
use super::plot::{PlotArgs, plot};
use super::predict::{PredictArgs, predict};
use super::report::{ReportArgs, report};
use super::serve::{ServeArgs, serve};
use super::shell::{CompletionsArgs, ManArgs, completions, manual};
use super::summary::{SummaryArgs, summarize};
use super::train::{TrainArgs, examples, more_help, train as train_as};
use super::usage::parse;

/// Train, evaluate, inspect, measure and compare Network in Network models.
#[derive(Debug, Parser)]
#[command(name = "nin", version)]
struct Nin {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    // What has a place for every setting is in a box.
    #[command(after_help = examples("nin train"), after_long_help = more_help("nin train"))]
    Train(Box<TrainArgs>),
    Eval(EvalArgs),
    Export(ExportArgs),
    Import(ImportArgs),
    Summary(SummaryArgs),
    Bench(Box<BenchArgs>),
    Compare(CompareArgs),
    Inspect(Box<InspectArgs>),
    Plot(PlotArgs),
    Predict(PredictArgs),
    Report(ReportArgs),
    Serve(ServeArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// Runs `nin` with the arguments of this process.
pub fn nin() -> ExitCode {
    let command = match parse::<Nin>() {
        Ok(nin) => nin.command,
        Err(code) => return code,
    };
    let done = match &command {
        Command::Train(args) => return train_as(args, "nin train").unwrap_or_else(|error| fail(&error)),
        Command::Eval(args) => evaluate(args),
        Command::Export(args) => export(args),
        Command::Import(args) => import(args),
        Command::Summary(args) => summarize(args),
        Command::Bench(args) => bench(args),
        Command::Compare(args) => compare(args),
        Command::Inspect(args) => inspect(args),
        Command::Plot(args) => plot(args),
        Command::Predict(args) => predict(args),
        Command::Report(args) => report(args),
        Command::Serve(args) => serve(args),
        Command::Completions(args) => completions(args, Nin::command()),
        Command::Man(args) => manual(args, Nin::command()),
    };
    done.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}

/// Runs `train` with the arguments of this process.
pub fn train() -> ExitCode {
    match parse::<TrainArgs>() {
        Ok(args) => train_as(&args, "train").unwrap_or_else(|error| fail(&error)),
        Err(code) => code,
    }
}
