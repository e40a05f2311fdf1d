//! Changes to try in a run with dead class maps or a loss on a plateau.

use nin::train::{Recipe, Settings, Warning};

/// Flags to try, of what the run's settings do not have already: the settings of the robust recipe that keep class maps open,
/// then the learning rate, then the seed. It is the end of the line that begins with the warning itself.
pub(super) fn suggestion(warning: &Warning, settings: &Settings) -> String {
    let mut tries = Vec::new();
    if settings.recipe == Recipe::Chapter {
        tries.push("--recipe robust".to_owned());
    }
    tries.extend(missing(settings));
    let rate = match warning {
        Warning::DeadClassMaps { .. } => "a smaller --lr",
        Warning::LossPlateau { .. } => "another --lr",
    };
    format!("try {rate} or another --seed", rate = [&tries[..], &[rate.to_owned()]].concat().join(", "))
}

/// The flags that bring the settings to the robust recipe's start and clipping (`docs/lottery.md`).
fn missing(settings: &Settings) -> Option<String> {
    let model = settings.model;
    let robust = Settings::for_model(Recipe::Robust, model);
    let starts = settings.init_from.is_none();
    let maps = starts && model.has_class_maps();
    let flags = [
        (starts && settings.init != robust.init).then(|| format!("--init {}", robust.init)),
        (maps && settings.head_bias < robust.head_bias).then(|| format!("--head-bias {}", robust.head_bias)),
        (maps && settings.head_scale > robust.head_scale)
            .then(|| format!("--head-scale {}", robust.head_scale)),
        (settings.clip_norm == 0.0 || settings.clip_norm > robust.clip_norm)
            .then(|| format!("--clip-norm {}", robust.clip_norm)),
    ];
    let flags: Vec<String> = flags.into_iter().flatten().collect();
    (!flags.is_empty()).then(|| flags.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nin::models::Model;
    use nin::train::InitialWeights;

    const DEAD: Warning = Warning::DeadClassMaps { at_step: 7, classes: Vec::new(), dead: [3, 10] };
    const PLATEAU: Warning = Warning::LossPlateau { at_step: 200, steps: 200, ln_classes: 2.3 };

    #[test]
    fn only_what_the_run_does_not_have_is_advised() {
        let chapter = Settings::of(Recipe::Chapter);
        assert_eq!(
            suggestion(&DEAD, &chapter),
            "try --recipe robust, --init data-dependent --head-bias 1 --head-scale 0.1 --clip-norm 1, a smaller --lr or another \
             --seed"
        );
        let half = Settings { clip_norm: 5.0, init: InitialWeights::He, ..Settings::of(Recipe::Robust) };
        assert_eq!(
            suggestion(&PLATEAU, &half),
            "try --init data-dependent --clip-norm 1, another --lr or another --seed"
        );
        for recipe in [Recipe::Robust, Recipe::Default] {
            let settings = Settings { clip_norm: 0.5, ..Settings::of(recipe) };
            assert_eq!(suggestion(&DEAD, &settings), "try a smaller --lr or another --seed");
        }
        // What begins with Xavier weights on purpose and has no class maps is not advised Network in Network's start.
        let lenet = Settings::for_model(Recipe::Robust, Model::LeNet);
        assert_eq!(suggestion(&PLATEAU, &lenet), "try another --lr or another --seed");
        let chapter = Settings::for_model(Recipe::Chapter, Model::LeNet);
        assert_eq!(
            suggestion(&PLATEAU, &chapter),
            "try --recipe robust, --clip-norm 1, another --lr or another --seed"
        );
    }
}
