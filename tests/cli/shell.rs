//! `nin` as the one program: `nin train` is `train`; what shells and `man` are told of its commands.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use crate::common::{NIN, Place, TRAIN, refused, succeeded, text};

/// The commands of `nin`, as it names them to somebody who gave none.
fn commands(place: &Place) -> Vec<String> {
    let stderr = text(&place.nin(&[]).output().unwrap().stderr);
    let list = stderr.split_once("expected a command (").unwrap().1.split_once(')').unwrap().0;
    let commands: Vec<String> = list.split(", ").map(str::to_owned).collect();
    assert!(
        ["train", "eval", "completions", "man"].iter().all(|name| commands.contains(&(*name).to_owned()))
    );
    commands
}

#[test]
fn nin_train_is_train() {
    let place = Place::new();
    let settings = ["--epochs", "1"];
    succeeded(place.train("a", &settings));
    succeeded(place.nin(&[&["train"], &place.arguments("b", &settings)[..]].concat()));
    assert_eq!(place.saved("a"), place.saved("b"));
    refused(place.nin(&["train", "--resume", "a", "--lr", "1"]), 2, &["--lr", "(try nin train --help)"]);

    // The help is the same, of a command that is typed otherwise.
    for help in ["-h", "--help"] {
        let words = |command: Command, name: &str| -> Vec<String> {
            succeeded(command).replace(name, "COMMAND").split_whitespace().map(str::to_owned).collect()
        };
        let train = words(place.command(TRAIN, &[help]), "  train");
        assert_eq!(
            words(place.nin(&["train", help]), "  nin train").join(" "),
            train.join(" ").replace("Usage: train", "Usage: nin train")
        );
        assert!(train.iter().filter(|word| *word == "COMMAND").count() >= 5);
    }
}

/// Each page, by its command: each flag with what stands for its value, and its help.
fn pages(place: &Place) -> BTreeMap<String, BTreeMap<String, (String, String)>> {
    let mut pages = BTreeMap::new();
    for entry in fs::read_dir(place.path("man")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let page = place.read(&format!("man/{name}")).replace("\\-", "-");
        assert!(page.contains(".SH NAME") && page.contains(".SH DESCRIPTION"), "{page}");
        let plain = |line: &str| {
            ["\\fB", "\\fI", "\\fR"].iter().fold(line.to_owned(), |line, font| line.replace(font, ""))
        };
        let mut flags = BTreeMap::new();
        for item in page.split(".TP\n").skip(1) {
            let mut lines = item.lines().map(plain);
            let (header, help) = (lines.next().unwrap(), lines.next().unwrap());
            let mut words = header.split(' ');
            let flag = words.find(|word| word.starts_with("--"));
            let value = words.find(|word| word.starts_with('<')).unwrap_or_default();
            flags.extend(flag.map(|flag| (flag.to_owned(), (value.to_owned(), help))));
        }
        pages.insert(name, flags);
    }
    pages
}

/// Flags that are not the same in all commands, and why.
const DIFFERENT: [(&str, &str); 5] = [
    ("--output", "a file, or the beginning of the names of `compare`'s two"),
    ("--classes", "of `import`: their names"),
    ("--recipe", "one of a run, several of `inspect`"),
    ("--dataset", "of `predict`: one image of it"),
    ("--help", "has two forms where there is a long one"),
];

#[test]
fn a_flag_is_the_same_in_every_command_and_every_command_has_a_page() {
    let place = Place::empty();
    succeeded(place.nin(&["man", "man"]));
    let pages = pages(&place);
    let expected =
        commands(&place).into_iter().map(|name| format!("nin-{name}.1")).chain(["nin.1".to_owned()]);
    assert_eq!(pages.keys().cloned().collect::<BTreeSet<_>>(), expected.collect());
    assert_eq!(succeeded(place.nin(&["man"])), place.read("man/nin.1"));

    let mut known: BTreeMap<&str, BTreeMap<&(String, String), Vec<&str>>> = BTreeMap::new();
    for (page, flags) in &pages {
        for (flag, meaning) in flags {
            known.entry(flag).or_default().entry(meaning).or_default().push(page);
        }
    }
    assert!(known["--threads"].values().next().unwrap().len() >= 7, "{known:#?}");
    let different: Vec<_> = known.iter().filter(|(_, meanings)| meanings.len() > 1).collect();
    let listed = DIFFERENT.map(|(flag, _)| flag);
    let names: BTreeSet<_> = different.iter().map(|(flag, _)| **flag).collect();
    assert_eq!(names, BTreeSet::from(listed), "{different:#?}");
}

#[test]
fn completions_know_every_command() {
    let place = Place::empty();
    let commands = commands(&place);
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = succeeded(place.nin(&["completions", shell]));
        for name in &commands {
            assert!(script.contains(name.as_str()), "{shell}: no {name}");
        }
    }
    refused(place.nin(&["completions", "csh"]), 2, &["csh", "bash, elvish, fish, powershell or zsh"]);

    // What bash makes of it, where there is one.
    if Command::new("bash").arg("--version").output().is_err() {
        return;
    }
    let script = r#"eval "$("$0" completions bash)"; COMP_WORDS=(nin "$@"); COMP_CWORD=$#
        _nin nin "${@: -1}" nin; echo "${COMPREPLY[*]}""#;
    let completed =
        |words: &[&str]| succeeded(place.command("bash", &[&["-c", script, NIN], words].concat()));
    assert_eq!(completed(&["tr"]), "train\n");
    assert_eq!(completed(&["train", "--data"]), "--dataset --data-dir\n");
    let all = completed(&[""]);
    assert!(commands.iter().all(|name| all.split_whitespace().any(|word| word == name)), "{all}");
}
