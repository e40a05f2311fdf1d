//! `nin completions` and `nin man`: what a shell and `man` read of the commands.

use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use nin::train::TrainError;

use super::{print, write_file};

/// Completions of a shell, on standard output.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  nin completions bash > ~/.local/share/bash-completion/completions/nin
  nin completions fish > ~/.config/fish/completions/nin.fish")]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Manual pages: one for nin and one for each command.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  nin man > nin.1                         the page of nin
  nin man ~/.local/share/man/man1         all pages, for man nin-train and others")]
pub(super) struct ManArgs {
    /// Folder for all of them [default: nin's alone, to standard output]
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Runs `nin completions`, of this command.
pub(super) fn completions(args: &CompletionsArgs, mut nin: Command) -> Result<(), TrainError> {
    let (name, mut text) = (nin.get_name().to_owned(), Vec::new());
    clap_complete::generate(args.shell, &mut nin, name, &mut text);
    print(&String::from_utf8_lossy(&text))
}

/// Runs `nin man`, of this command.
pub(super) fn manual(args: &ManArgs, nin: Command) -> Result<(), TrainError> {
    let mut nin = nin.disable_help_subcommand(true);
    nin.build();
    let Some(folder) = &args.folder else {
        return print(&String::from_utf8_lossy(&page(&Man::new(nin))));
    };
    let commands = nin.get_subcommands().cloned().chain([nin.clone()]);
    for man in commands.map(Man::new) {
        write_file(&folder.join(man.get_filename()), &page(&man))?;
    }
    Ok(())
}

fn page(man: &Man) -> Vec<u8> {
    let mut page = Vec::new();
    man.render(&mut page).expect("memory takes all that is written");
    page
}
