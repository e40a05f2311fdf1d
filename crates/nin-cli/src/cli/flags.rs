//! Flags that several commands have, each defined once.

use std::path::{Path, PathBuf};

use clap::Args;
use nin::train::TrainError;
use nin::train::workers::check_threads;

/// Declares flags for some of the settings of a run, each as `train` has it.
macro_rules! some_settings {
    ($(#[doc = $about:literal])+ $name:ident: $($setting:literal),+) => {
        $(#[doc = $about])+
        #[derive(Debug)]
        pub(crate) struct $name(pub(crate) nin::train::Overrides);

        impl clap::Args for $name {
            fn augment_args(command: clap::Command) -> clap::Command {
                let all = <nin::train::Overrides as clap::Args>::augment_args(clap::Command::new("all"));
                command.args(all.get_arguments().filter(|flag| [$($setting),+].contains(&flag.get_id().as_str())))
            }

            fn augment_args_for_update(command: clap::Command) -> clap::Command {
                Self::augment_args(command)
            }
        }

        impl clap::FromArgMatches for $name {
            fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
                nin::train::Overrides::from_arg_matches(matches).map(Self)
            }

            fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
                self.0.update_from_arg_matches(matches)
            }
        }
    };
}
pub(super) use some_settings;

/// The number of threads.
#[derive(Debug, Args)]
pub(super) struct ThreadArgs {
    /// Threads [default: one for each core]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    threads: Option<usize>,
}

impl ThreadArgs {
    /// The number that was asked for, or as many as the machine has cores.
    ///
    /// # Errors
    /// [`TrainError::Config`] of a number that cannot be.
    pub(super) fn read(&self) -> Result<usize, TrainError> {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = self.threads.unwrap_or_else(cores);
        check_threads(threads)?;
        Ok(threads)
    }
}

/// The place of the data.
#[derive(Debug, Clone, Args)]
pub(super) struct FolderArgs {
    /// Folder of the data set's files
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
}

/// Weights that are not a run's, or not those that a command would take.
#[derive(Debug, Args)]
pub(super) struct WeightsArgs {
    /// Weights: a file such as model.safetensors of a run, or the run's folder
    #[arg(long, value_name = "PATH")]
    pub(super) weights: Option<PathBuf>,
}

impl WeightsArgs {
    /// The file.
    pub(super) fn file(&self) -> Option<PathBuf> {
        self.weights.as_deref().map(weights_file)
    }
}

/// The file of weights that a path stands for: itself, or that of a run's folder.
pub(super) fn weights_file(path: &Path) -> PathBuf {
    if path.is_dir() { path.join("model.safetensors") } else { path.to_path_buf() }
}

/// The output for other programs.
#[derive(Debug, Args)]
pub(super) struct JsonArgs {
    /// A line of JSON for each result instead of text
    #[arg(long)]
    pub(super) json: bool,
}

/// The time that the speed is measured for.
#[derive(Debug, Args)]
pub(super) struct SecondsArgs {
    /// Seconds that each measurement goes on after its warm-up
    #[arg(long, value_name = "S", default_value_t = 10.0, allow_negative_numbers = true)]
    pub(super) seconds: f64,
}

impl SecondsArgs {
    /// The time.
    ///
    /// # Errors
    /// [`TrainError::Config`] of none, and of more than a day.
    pub(super) fn read(&self) -> Result<f64, TrainError> {
        match self.seconds {
            seconds if seconds > 0.0 && seconds <= 86_400.0 => Ok(seconds),
            other => Err(TrainError::setting("seconds", "more than 0 and at most 86400", other)),
        }
    }
}

/// A picture of many runs.
#[derive(Debug, Args)]
pub(super) struct PictureArgs {
    /// File for a picture (SVG): a line for each seed, a color for each recipe or folder
    #[arg(long, value_name = "FILE")]
    pub(super) picture: Option<PathBuf>,
}
