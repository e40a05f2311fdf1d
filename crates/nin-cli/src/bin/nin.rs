//! `nin`: what there is to do with networks. See `nin --help`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use nin_cli::cli::{
    BenchArgs, CompareArgs, CompletionsArgs, EvalArgs, ExportArgs, ImportArgs, InspectArgs, ManArgs,
    PlotArgs, PredictArgs, ReportArgs, ServeArgs, SummaryArgs, TrainArgs, bench, compare, completions,
    evaluate, examples, export, fail, import, inspect, manual, more_help, parse, plot, predict, report,
    serve, summarize, train,
};

/// Train, evaluate, inspect, measure and compare Network in Network models.
#[derive(Debug, Parser)]
#[command(name = "nin", version)]
struct Arguments {
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

fn main() -> ExitCode {
    let result = match parse::<Arguments>() {
        Ok(Arguments { command: Command::Train(args) }) => {
            return train(&args, "nin train").unwrap_or_else(|error| fail(&error));
        }
        Ok(Arguments { command: Command::Eval(args) }) => evaluate(&args),
        Ok(Arguments { command: Command::Export(args) }) => export(&args),
        Ok(Arguments { command: Command::Import(args) }) => import(&args),
        Ok(Arguments { command: Command::Summary(args) }) => summarize(&args),
        Ok(Arguments { command: Command::Bench(args) }) => bench(&args),
        Ok(Arguments { command: Command::Compare(args) }) => compare(&args),
        Ok(Arguments { command: Command::Inspect(args) }) => inspect(&args),
        Ok(Arguments { command: Command::Plot(args) }) => plot(&args),
        Ok(Arguments { command: Command::Predict(args) }) => predict(&args),
        Ok(Arguments { command: Command::Report(args) }) => report(&args),
        Ok(Arguments { command: Command::Serve(args) }) => serve(&args),
        Ok(Arguments { command: Command::Completions(args) }) => completions(&args, Arguments::command()),
        Ok(Arguments { command: Command::Man(args) }) => manual(&args, Arguments::command()),
        Err(code) => return code,
    };
    result.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}
