//! `nin`: what there is to do with networks beside training them. See `nin --help`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use nin_cli::cli::{
    BenchArgs, CompareArgs, EvalArgs, ExportArgs, InspectArgs, PlotArgs, PredictArgs, SummaryArgs, bench,
    compare, evaluate, export, fail, inspect, parse, plot, predict, summarize,
};

/// Evaluate, inspect, measure and compare Network in Network models.
#[derive(Debug, Parser)]
#[command(name = "nin", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Eval(EvalArgs),
    Export(ExportArgs),
    Summary(SummaryArgs),
    Bench(BenchArgs),
    Compare(CompareArgs),
    // In a box: it has a place for every setting.
    Inspect(Box<InspectArgs>),
    Plot(PlotArgs),
    Predict(PredictArgs),
}

fn main() -> ExitCode {
    let result = match parse::<Arguments>() {
        Ok(Arguments { command: Command::Eval(args) }) => evaluate(&args),
        Ok(Arguments { command: Command::Export(args) }) => export(&args),
        Ok(Arguments { command: Command::Summary(args) }) => summarize(&args),
        Ok(Arguments { command: Command::Bench(args) }) => bench(&args),
        Ok(Arguments { command: Command::Compare(args) }) => compare(&args),
        Ok(Arguments { command: Command::Inspect(args) }) => inspect(&args),
        Ok(Arguments { command: Command::Plot(args) }) => plot(&args),
        Ok(Arguments { command: Command::Predict(args) }) => predict(&args),
        Err(code) => return code,
    };
    result.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}
