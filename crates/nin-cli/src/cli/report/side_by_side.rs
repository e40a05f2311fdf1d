//! The page of several runs, side by side.

use maud::{Markup, html};
use nin::JudgedBy;
use nin::data::DataRecord;
use nin::names::shown;
use nin::train::EpochMetrics;

use super::{Axis, Report, Verdict, judges_of, pairs_of, panel, whole_page};
use crate::cli::eval::of_class;
use crate::cli::figures::{Figure, SPEED, TEST_ACC, TEST_LOSS, TRAIN_ACC, TRAIN_LOSS};
use crate::cli::table::is_number;

/// A run with its epochs, and what it answers or why that is missing.
pub(super) type Whole = (Report, Vec<EpochMetrics>, Result<Verdict, String>);

/// What there is to say of a run, each with its name.
type Pairs = Vec<(String, String)>;

/// The page of several runs.
pub(super) fn side_by_side(runs: &[Whole]) -> Markup {
    // Runs of one name are told apart by their folders.
    let same = |name: &str| runs.iter().filter(|(run, ..)| run.name() == name).count() > 1;
    let name = |(run, ..): &Whole| match run.name() {
        name if same(&name) => shown(&run.folder.display().to_string()),
        name => name,
    };
    let names: Vec<String> = runs.iter().map(name).collect();
    // What is in a folder may change from run to run, and the same may be in two: by their marks, if all have some.
    let named = |(run, ..): &Whole| judged_by(run, &run.settings.dataset.to_string());
    let marked = |(run, ..): &Whole| Some(judged_by(run, &DataRecord::read(&run.folder).ok()??.marks.sha256));
    let judges: Option<Vec<_>> = runs.iter().map(marked).collect();
    let judges = judges.unwrap_or_else(|| runs.iter().map(named).collect());
    let of_each = |pairs: &dyn Fn(&Whole) -> Pairs| rows(&runs.iter().map(pairs).collect::<Vec<_>>());
    let settings = of_each(&|(run, ..)| pairs_of(&run.settings));
    let (same, other): (Vec<_>, Vec<_>) =
        settings.into_iter().partition(|(_, values)| values.iter().all(|own| *own == values[0]));
    let curve = |title, axis, figure: Figure| {
        let curves = runs.iter().map(|(_, epochs, _)| figure.curve(epochs));
        panel(title, axis, names.iter().cloned().zip(curves))
    };
    let body = html! {
        h1 { (runs.len()) " runs" }
        h2 #results { "Results" }
        (table(&names, of_each(&|(run, epochs, _)| results(run, epochs))))
        @if judges.iter().any(|own| *own != judges[0]) {
            p {
                "The runs are judged by different images, or of different data: "
                "\"test acc\" and \"test loss\" are not of the same."
            }
        }
        h2 #curves { "Curves" }
        div.charts {
            (curve("test accuracy", Axis::ToOne, TEST_ACC))
            (curve("train loss", Axis::FromZero, TRAIN_LOSS))
            (curve("test loss", Axis::FromZero, TEST_LOSS))
            (curve("images per second", Axis::FromZero, SPEED))
        }
        h2 #answers { "Accuracy by class" }
        @for (name, (_, epochs, verdict)) in names.iter().zip(runs) {
            @match verdict {
                Err(why) => p.soft { (name) ": " (shown(why)) },
                Ok(verdict) => @if let Some(other) = verdict.of_other_weights(epochs) { p.soft { (name) ": by " (other) } },
            }
        }
        (table(&names, of_each(&|(.., verdict)| verdict.as_ref().map_or_else(|_| Vec::new(), shares))))
        h2 #settings { "Settings that differ" }
        @if other.is_empty() { p { "None." } } @else { (table(&names, other)) }
        details { summary { "Settings that are the same" }
            pre { @for (key, values) in &same { (key) " = " (shown(&values[0])) "\n" } }
        }
    };
    let links = [
        ("results", "Results"),
        ("curves", "Curves"),
        ("answers", "Accuracy by class"),
        ("settings", "Settings"),
    ];
    whole_page(&names.join(", "), &links, &body)
}

/// A row for each name that any of the runs has something by, with each run's; nothing where it has none.
fn rows(runs: &[Pairs]) -> Vec<(String, Vec<String>)> {
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in runs.iter().flatten() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let value = |run: &Pairs, name: &String| run.iter().find(|own| own.0 == *name).map(|own| own.1.clone());
    let row = |name| runs.iter().map(|run| value(run, name).unwrap_or_default()).collect();
    names.into_iter().map(|name| (name.clone(), row(name))).collect()
}

/// A column for each run in every table of the page, and nothing without rows. What a row says of the runs is numbers, or is not.
fn table(names: &[String], rows: Vec<(String, Vec<String>)>) -> Markup {
    let class = |values: &[String]| values.iter().all(|value| is_number(value)).then_some("number");
    html! {
        @if !rows.is_empty() {
            div.wide tabindex="0" { table {
                tr { td {} @for name in names { th.number scope="col" { (shown(name)) } } }
                @for (name, values) in rows {
                    @let class = class(&values);
                    tr { td { (shown(&name)) } @for value in &values { td class=[class] { (shown(value)) } } }
                }
            } }
        }
    }
}

/// The images that a run is judged by, of these data.
fn judged_by(run: &Report, data: &str) -> String {
    let judges = run.settings.judged_by();
    let held_out = match judges {
        JudgedBy::Test => String::new(),
        JudgedBy::HeldOut => format!(" (hold_out = {})", run.settings.hold_out),
    };
    format!("{} of {data}{held_out}", judges_of(judges))
}

/// The figures of a run's last epoch, and what they are of.
fn results(run: &Report, epochs: &[EpochMetrics]) -> Pairs {
    let last =
        |figure: Figure| (figure.name, epochs.last().map(|last| figure.text(last)).unwrap_or_default());
    let others = [
        ("judged by", judged_by(run, &run.settings.dataset.to_string())),
        ("epochs", epochs.len().to_string()),
        ("parameters", run.parameters().unwrap_or_default()),
    ];
    let all = [TEST_ACC, TRAIN_ACC, TRAIN_LOSS, TEST_LOSS].map(last).into_iter().chain(others);
    all.filter(|(_, text)| !text.is_empty()).map(|(name, text)| (name.to_owned(), text)).collect()
}

/// The share of each class that a run finds.
fn shares(verdict: &Verdict) -> Pairs {
    let share = |class: usize| of_class(&verdict.confusion, class).0.map(|share| format!("{share:.3}"));
    let all = verdict.classes.iter().enumerate();
    all.map(|(class, name)| (name.clone(), share(class).unwrap_or_default())).collect()
}

#[cfg(test)]
mod tests {
    use nin::data::HoldOut;

    use super::super::tests::{run, verdict};
    use super::*;
    use crate::cli::figures::tests::epoch;

    #[test]
    fn runs_stand_side_by_side() {
        let verdict = verdict(&["a", "b", "c"], vec![vec![3, 1, 0], vec![0, 4, 0], vec![0, 2, 2]]);
        let runs = [
            (run("runs/one", 0.1), vec![epoch(1, 0.5, 0)], Ok(verdict)),
            (run("other/one", 0.2), vec![epoch(1, 0.25, 0), epoch(2, 0.75, 0)], Err("no images".to_owned())),
        ];
        let page = side_by_side(&runs).into_string();
        for text in [
            "<th class=\"number\" scope=\"col\">runs/one</th><th class=\"number\" scope=\"col\">other/one</th>",
            "<td>test acc</td><td class=\"number\">0.5000</td><td class=\"number\">0.7500</td>",
            "<td>lr</td><td class=\"number\">0.1</td><td class=\"number\">0.2</td>",
            "other/one: no images",
            // It has no answers, and its column all the same.
            "<td>a</td><td class=\"number\">0.750</td><td class=\"number\"></td></tr>",
            "epochs = 10\n",
            "<td>judged by</td><td>test images of fashion-mnist-mini</td>",
        ] {
            assert!(page.contains(text), "no {text:?} in {page}");
        }
        let different = "judged by different images";
        assert!(!page.contains(different) && !page.contains("inside of an epoch"), "{page}");
        // Its first run went on while the page was made.
        assert!(page.contains("runs/one: by the weights after epoch 2"), "{page}");
        assert_eq!(page.matches("<div class=\"wide\"").count(), 3, "{page}");
        let [mut first, mut second] = runs;
        first.2 = Err("no images".to_owned());
        first.0.settings.hold_out = HoldOut::Last(1000);
        second.0.settings.hold_out = HoldOut::Last(500);
        let page = side_by_side(&[first, second]).into_string();
        assert!(page.contains(different));
        assert_eq!(page.matches("<div class=\"wide\"").count(), 2, "no table of no answers: {page}");
    }
}
