//! Notices, while a run goes on, what it recovers from late or never: class maps that are dead, and a loss on a plateau.
//!
//! The last convolution of a Network in Network makes a map for each class, and a ReLU ends it. Where every pixel of a map is at
//! or below 0 for every image, the class's logit is exactly 0 whatever the image, and no gradient passes the ReLU to the weights
//! that could open it: it opens again only if the layers before happen to change what comes in. The sign of it is free of
//! charge: the gradient of the map's bias, a sum over all pixels and images, is exactly 0. A good map may be 0 as well on a batch
//! without its class, so only images of the class are counted.

use serde::{Deserialize, Serialize};
use tensor::Tensor;

/// Images of a class, one after the other, on all of which its map is 0 before it is called dead.
const PATIENCE: usize = 64;
/// Steps in a row at ln(classes) before it is called a plateau: an epoch, but no fewer and no more than these.
const PLATEAU_STEPS: [u64; 2] = [20, 200];
/// Steps without a further line about dead maps after one: an epoch, but no more than these. Maps that die meanwhile wait.
const QUIET_STEPS: u64 = 50;
/// The relative distance from ln(classes) within which a loss is near it.
const PLATEAU_WITHIN: f64 = 0.01;

/// A warning of a run. A line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "warning", rename_all = "snake_case")]
pub enum Warning {
    /// The maps of these classes are 0 for every image.
    DeadClassMaps {
        /// The step of the run, counted from 1.
        at_step: u64,
        /// The classes that are dead since the last warning.
        classes: Vec<usize>,
        /// The number of class maps that are dead now, and of all.
        dead: [usize; 2],
    },
    /// The loss stays where a network is that says the same of every image.
    #[serde(rename = "stuck_loss")]
    LossPlateau {
        /// The step of the run, counted from 1.
        at_step: u64,
        /// Steps in a row so far.
        steps: u64,
        /// The natural logarithm of the number of classes.
        ln_classes: f64,
    },
}

impl std::fmt::Display for Warning {
    /// One line of what was seen.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::DeadClassMaps { at_step, classes, dead: [dead, all] } => {
                let names: Vec<String> = classes.iter().map(usize::to_string).collect();
                let [maps, are, their] =
                    if classes.len() == 1 { ["map", "is", "its"] } else { ["maps", "are", "their"] };
                write!(
                    f,
                    "step {at_step}: the class {maps} of {} {are} 0 for every image, so that no gradient reaches {their} weights \
                     ({dead} of {all} dead)",
                    names.join(", ")
                )
            }
            Self::LossPlateau { at_step, steps, ln_classes } => write!(
                f,
                "step {at_step}: the loss has stayed at {ln_classes:.3}, a guess's, for {steps} steps"
            ),
        }
    }
}

/// The counts of the steps so far, which a checkpoint holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCounts {
    /// Of each class.
    maps: Vec<ClassMap>,
    /// Classes that are to be reported.
    waiting: Vec<usize>,
    /// The step before which there is no further line about dead maps.
    quiet_until: u64,
    /// Steps in a row with a loss at ln(classes).
    #[serde(rename = "stuck")]
    plateau: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct ClassMap {
    /// Images of the class on which it was 0, since it last was not.
    silent: usize,
    /// True if that is enough to call it dead.
    dead: bool,
    /// The epoch in which it was last reported.
    reported: Option<u64>,
}

/// Knowledge of the steps so far, and what it takes to warn.
#[derive(Debug)]
pub struct HealthMonitor {
    counts: HealthCounts,
    /// Of each class, images that its map must be 0 on.
    patience: Vec<usize>,
    quiet_steps: u64,
    ln_classes: f64,
    /// Steps in a row before the first line about the loss, and between two.
    plateau_steps: [u64; 2],
}

impl HealthMonitor {
    /// For a training set with this many images of each class, and epochs of this many steps.
    #[must_use]
    pub fn new(class_counts: &[usize], steps_per_epoch: u64) -> Self {
        Self {
            counts: HealthCounts {
                maps: vec![ClassMap::default(); class_counts.len()],
                ..HealthCounts::default()
            },
            patience: class_counts.iter().map(|&count| count.clamp(1, PATIENCE)).collect(),
            quiet_steps: steps_per_epoch.min(QUIET_STEPS),
            ln_classes: (class_counts.len() as f64).ln(),
            plateau_steps: [
                steps_per_epoch.clamp(PLATEAU_STEPS[0], PLATEAU_STEPS[1]),
                steps_per_epoch.max(PLATEAU_STEPS[0]),
            ],
        }
    }

    /// The counts of the steps so far.
    #[must_use]
    pub fn counts(&self) -> &HealthCounts {
        &self.counts
    }

    /// Goes on from counts; tells whether they are of as many classes.
    #[must_use]
    pub fn restore(&mut self, counts: HealthCounts) -> bool {
        let fits = counts.maps.len() == self.patience.len()
            && counts.waiting.iter().all(|&class| class < self.patience.len());
        if fits {
            self.counts = counts;
        }
        fits
    }

    /// The class maps that are dead.
    #[must_use]
    pub fn dead(&self) -> usize {
        self.counts.maps.iter().filter(|map| map.dead).count()
    }

    /// Looks at the gradient of the class maps' biases after a step on images with these labels. Each class is reported when it
    /// dies, at most once in an epoch, and several together where they die within a few steps. `bias_gradient` has a number for
    /// each class. The label of images that are mixed is the class of the larger share: the other is not counted, though its map
    /// may well be open.
    ///
    /// # Panics
    /// If a label is no class, or the gradient has more numbers than there are classes.
    pub fn class_maps(
        &mut self,
        epoch: u64,
        at_step: u64,
        labels: &[usize],
        bias_gradient: &Tensor<f32>,
    ) -> Option<Warning> {
        let counts = &mut self.counts;
        for &label in labels {
            let silent = &mut counts.maps[label].silent;
            *silent = silent.saturating_add(1);
        }
        for (class, &gradient) in bias_gradient.data().iter().enumerate() {
            let map = &mut counts.maps[class];
            if gradient != 0.0 {
                map.silent = 0;
                if std::mem::take(&mut map.dead) {
                    counts.waiting.retain(|&waiting| waiting != class);
                }
            } else if map.silent >= self.patience[class] && !map.dead {
                map.dead = true;
                if map.reported.replace(epoch) != Some(epoch) {
                    counts.waiting.push(class);
                }
            }
        }
        if counts.waiting.is_empty() || at_step < counts.quiet_until {
            return None;
        }
        counts.quiet_until = at_step + self.quiet_steps;
        let mut classes = std::mem::take(&mut counts.waiting);
        classes.sort_unstable();
        Some(Warning::DeadClassMaps { at_step, classes, dead: [self.dead(), self.patience.len()] })
    }

    /// Looks at a step's mean loss. Reported when it has been at ln(classes) for long, then every epoch that it stays.
    pub fn loss(&mut self, at_step: u64, loss: f64) -> Option<Warning> {
        let near = (loss / self.ln_classes - 1.0).abs() <= PLATEAU_WITHIN;
        if !near {
            self.counts.plateau = 0;
            return None;
        }
        self.counts.plateau = self.counts.plateau.saturating_add(1);
        let [first, every] = self.plateau_steps;
        if self.counts.plateau < first || !(self.counts.plateau - first).is_multiple_of(every) {
            return None;
        }
        Some(Warning::LossPlateau { at_step, steps: self.counts.plateau, ln_classes: self.ln_classes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient(values: [f32; 3]) -> Tensor<f32> {
        Tensor::from_slice([3], &values).unwrap()
    }

    #[test]
    fn a_map_is_dead_after_enough_images_of_its_class() {
        let mut monitor = HealthMonitor::new(&[1000, 1000, 5], 100);
        let live = gradient([0.1, -0.2, 1e-30]);
        let silent = gradient([0.1, 0.0, 0.0]);
        // Without images of its class a silent map means nothing.
        for step in 0..50 {
            assert_eq!(monitor.class_maps(0, step, &[0; 8], &silent), None);
        }
        assert_eq!(monitor.dead(), 0);
        // 60 images of class 1, then life, then 64 of them: only the last ones count.
        assert_eq!(monitor.class_maps(0, 51, &[1; 60], &silent), None);
        assert_eq!(monitor.class_maps(0, 52, &[1; 60], &live), None);
        assert_eq!(monitor.class_maps(0, 53, &[1; 60], &silent), None);
        let warning = monitor.class_maps(0, 54, &[1; 4], &silent);
        assert_eq!(warning, Some(Warning::DeadClassMaps { at_step: 54, classes: vec![1], dead: [1, 3] }));
        // Reported once, while it stays dead; class 2, of which there are only five images, dies later.
        assert_eq!(monitor.class_maps(0, 55, &[1, 2], &silent), None);
        assert_eq!(monitor.class_maps(1, 56, &[1, 2, 2, 2, 2], &silent), None);
        assert_eq!(monitor.dead(), 2);
        // It is reported after a while, so that maps that die together make one line.
        assert_eq!(monitor.class_maps(1, 103, &[1], &silent), None);
        let warning = monitor.class_maps(1, 104, &[1], &silent);
        assert_eq!(warning, Some(Warning::DeadClassMaps { at_step: 104, classes: vec![2], dead: [2, 3] }));
        assert_eq!(monitor.class_maps(1, 105, &[1, 2, 0, 0], &live), None);
        assert_eq!(monitor.dead(), 0);
    }

    #[test]
    fn a_map_that_dies_again_is_reported_once_in_an_epoch() {
        let mut monitor = HealthMonitor::new(&[4, 4, 4], 100);
        let silent = gradient([0.0, 1.0, 1.0]);
        let mut reports = |epoch| {
            (0..300)
                .filter(|step| {
                    monitor.class_maps(epoch, 300 * epoch + step, &[0; 4], &gradient([1.0; 3]));
                    monitor.class_maps(epoch, 300 * epoch + step, &[0; 4], &silent).is_some()
                })
                .count()
        };
        assert_eq!([reports(0), reports(1)], [1, 1]);
    }

    #[test]
    fn a_loss_that_stays_is_reported_once_in_an_epoch() {
        let near = 10f64.ln() * 1.009;
        let reports = |steps_per_epoch, losses: &[f64]| {
            let mut monitor = HealthMonitor::new(&[9; 10], steps_per_epoch);
            let warnings = losses.iter().zip(1..).filter_map(|(&loss, step)| monitor.loss(step, loss));
            warnings
                .map(|warning| match warning {
                    Warning::LossPlateau { at_step, steps, ln_classes } => {
                        assert_eq!(ln_classes, 10f64.ln());
                        (at_step, steps)
                    }
                    other => panic!("{other}"),
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(reports(30, &[near; 100]), [(30, 30), (60, 60), (90, 90)]);
        assert_eq!(reports(469, &[near; 1000]), [(200, 200), (669, 669)]);
        assert_eq!(reports(5, &[near; 45]), [(20, 20), (40, 40)]);
        for other in [2.0, 2.4, f64::NAN] {
            let losses = [&[near; 29][..], &[other], &[near; 30]].concat();
            assert_eq!(reports(30, &losses), [(60, 30)], "{other}");
        }
    }

    #[test]
    fn warnings_are_one_line() {
        let dead = Warning::DeadClassMaps { at_step: 7, classes: vec![2, 5], dead: [3, 10] };
        assert_eq!(
            dead.to_string(),
            "step 7: the class maps of 2, 5 are 0 for every image, so that no gradient reaches their weights (3 of 10 dead)"
        );
        let plateau = Warning::LossPlateau { at_step: 200, steps: 200, ln_classes: 10f64.ln() };
        assert_eq!(plateau.to_string(), "step 200: the loss has stayed at 2.303, a guess's, for 200 steps");
        assert_eq!(
            serde_json::to_string(&dead).unwrap(),
            "{\"warning\":\"dead_class_maps\",\"at_step\":7,\"classes\":[2,5],\"dead\":[3,10]}"
        );
        let plateau = Warning::LossPlateau { at_step: 9, steps: 8, ln_classes: 0.5 };
        assert_eq!(
            serde_json::to_string(&plateau).unwrap(),
            "{\"warning\":\"stuck_loss\",\"at_step\":9,\"steps\":8,\"ln_classes\":0.5}"
        );
    }
}
