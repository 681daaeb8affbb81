//! What the answers of models are worth: against labels, and against those of the first model.

use super::answers::{Answers, Best, Form};
use super::samples::Samples;
use crate::metric::{Confusion, Drop, Metric};
use crate::table::table;
use serde_json::{Map, Value, json};

/// What is right, item by item.
pub enum Truth {
    /// Classes; none for an item that does not count.
    Classes(Vec<Option<i64>>),
    /// Sequences.
    Sequences(Vec<Vec<i64>>),
    /// Nothing is known.
    None,
}

impl Truth {
    /// The labels of `samples`, as the metric takes them.
    pub fn of(metric: Metric, samples: &Samples) -> Truth {
        let n = samples.names.len();
        match &samples.labels {
            Some(_) if metric.is_of_numbers() => Truth::None,
            Some(labels) if metric == Metric::Ctc => {
                Truth::Sequences((0..n).map(|i| labels.of(i).flatten().collect()).collect())
            }
            Some(labels) => Truth::Classes((0..n).flat_map(|i| labels.of(i)).collect()),
            None => Truth::None,
        }
    }

    /// The items that count.
    fn counted(&self) -> usize {
        match self {
            Truth::Classes(labels) => labels.iter().flatten().count(),
            Truth::Sequences(labels) => labels.len(),
            Truth::None => 0,
        }
    }

    /// Whether item `i` counts.
    fn counts(&self, i: usize) -> bool {
        !matches!(self, Truth::Classes(labels) if labels.get(i).is_some_and(Option::is_none))
    }

    /// Whether an answer to item `i` is right, or one of its best `k` classes.
    pub fn holds(&self, i: usize, best: &Best, k: usize) -> bool {
        match self {
            Truth::Classes(labels) => {
                labels.get(i).copied().flatten().is_some_and(|label| best.classes.iter().take(k).any(|c| *c == label))
            }
            Truth::Sequences(labels) => labels.get(i) == Some(&best.classes),
            Truth::None => false,
        }
    }

    fn f1(&self, best: &[Best]) -> f64 {
        let mut seen = Confusion::default();
        if let Truth::Classes(labels) = self {
            for (label, best) in labels.iter().zip(best) {
                if let (Some(right), Some(got)) = (label, best.classes.first()) {
                    seen.observe(*right, *got);
                }
            }
        }
        seen.f1()
    }

    /// How many items are right if one of the best classes of each is drawn blindly.
    fn drawn(&self, best: &[Best]) -> f64 {
        let Truth::Classes(labels) = self else { return 0.0 };
        let chance = |(label, b): (&Option<i64>, &Best)| match label {
            Some(class) if b.tied.contains(class) => 1.0 / b.tied.len() as f64,
            _ => 0.0,
        };
        labels.iter().zip(best).map(chance).sum()
    }
}

/// What one model is compared with another.
#[derive(Clone, Copy, Debug)]
pub struct Against {
    /// Items whose answers are the same, in percent; none where the metric is of numbers.
    pub agreement: Option<f64>,
    /// How much worse it is, in points of the metric.
    pub points: Option<f64>,
    /// The 95 % interval of that, where the metric counts right answers.
    pub interval: Option<[f64; 2]>,
}

/// What the answers of one model are worth.
pub struct Graded<'a> {
    pub form: &'a Form<'a>,
    pub answers: &'a Answers,
    /// Right answers among the best k.
    pub right: Vec<(u8, usize)>,
    /// Items that count.
    pub n: usize,
    /// The metric.
    pub score: Option<f64>,
    /// Items whose best score several classes have.
    pub ties: usize,
    /// Right answers, each counting by the chance that one of its best classes, drawn blindly, is the right one.
    pub drawn: f64,
    /// Against the first model.
    pub against: Option<Against>,
}

/// Grades all models.
pub struct Grader<'a> {
    pub metric: Metric,
    pub truth: &'a Truth,
    /// Which accuracies to report.
    pub topk: &'a [u8],
    /// Runs at once.
    pub workers: usize,
}

impl<'a> Grader<'a> {
    /// What the answers of each of the forms are worth; the first is what the others are compared with.
    pub fn all(&self, forms: &'a [Form<'a>], answers: &'a [Answers]) -> Vec<Graded<'a>> {
        let mut all: Vec<Graded<'a>> = Vec::new();
        for (form, answers) in forms.iter().zip(answers) {
            let right = |k: u8| {
                let held = |(i, best): &(usize, &Best)| self.truth.holds(*i, best, usize::from(k));
                (k, answers.best.iter().enumerate().filter(held).count())
            };
            let mut graded = Graded {
                form,
                answers,
                right: self.topk.iter().map(|&k| right(k)).collect(),
                n: self.truth.counted(),
                score: self.score(answers, right(1).1, all.is_empty()),
                ties: answers.best.iter().filter(|b| b.tied.len() > 1).count(),
                drawn: self.truth.drawn(&answers.best),
                against: None,
            };
            graded.against = all.first().map(|first| self.against(first, &graded));
            all.push(graded);
        }
        all
    }

    fn score(&self, answers: &Answers, right: usize, is_first: bool) -> Option<f64> {
        match (self.metric, self.truth) {
            (Metric::Cosine, _) if is_first => Some(100.0),
            (Metric::Cosine | Metric::Snr, _) => (!is_first).then(|| answers.apart.score(self.metric)),
            (_, Truth::None) => None,
            (Metric::F1, _) => Some(self.truth.f1(&answers.best)),
            (Metric::Top1 | Metric::Ctc, _) => Some(percent(right, self.truth.counted())),
        }
    }

    /// One model against another.
    pub fn against(&self, base: &Graded<'_>, other: &Graded<'_>) -> Against {
        let pairs =
            || base.answers.best.iter().zip(&other.answers.best).enumerate().filter(|(i, _)| self.truth.counts(*i));
        // Scores of integers are often equal: the same class is among the best of both.
        let same = |(_, (base, other)): &(usize, (&Best, &Best))| match self.metric {
            Metric::Ctc => base.classes == other.classes,
            _ => base.classes.first().is_some_and(|class| other.tied.contains(class)),
        };
        let n = pairs().count();
        let agreement = (n > 0).then(|| percent(pairs().filter(same).count(), n));
        let held = |i: usize, best: &Best| self.truth.holds(i, best, 1);
        let count = |lost: bool| {
            let is = |(i, (base, other)): &(usize, (&Best, &Best))| held(*i, base) == lost && held(*i, other) != lost;
            pairs().filter(is).count()
        };
        match self.metric {
            Metric::Top1 | Metric::Ctc if self.truth.counted() > 0 => {
                let drop = Drop::of(count(true), count(false), n);
                Against { agreement, points: Some(drop.points), interval: Some([drop.low, drop.high]) }
            }
            Metric::Snr => Against { agreement, points: None, interval: None },
            _ => {
                let points = base.score.zip(other.score).map(|(base, other)| base - other);
                Against { agreement, points, interval: None }
            }
        }
    }

    /// Median of the runs in milliseconds, and samples per second of all runs at once.
    pub fn speed(&self, graded: &Graded<'_>) -> [f64; 2] {
        let runs = &graded.answers.runs;
        let mut times: Vec<f64> = runs.iter().map(|(_, seconds)| *seconds).collect();
        times.sort_by(f64::total_cmp);
        let (samples, seconds): (usize, f64) = runs.iter().fold((0, 0.0), |(n, s), (m, t)| (n + m, s + t));
        let median = times.get(times.len() / 2).copied().unwrap_or(0.0);
        [1e3 * median, samples as f64 * self.workers as f64 / seconds.max(1e-9)]
    }

    /// All models side by side.
    pub fn table(&self, all: &[Graded<'_>]) -> String {
        let show = |x: Option<f64>, unit: &str| x.map_or("-".to_string(), |x| format!("{x:.2}{unit}"));
        let mut headings = vec!["".to_string()];
        let is_top = self.metric == Metric::Top1;
        match is_top {
            true => headings.extend(self.topk.iter().map(|k| format!(">top-{k}"))),
            false => headings.push(format!(">{}", self.metric.name())),
        }
        headings.extend([">agreement", ">drop", ">95 % interval", ">ms/run", ">samples/s", "file"].map(String::from));
        let row = |graded: &Graded<'_>| {
            let mut cells = vec![graded.form.name.to_string()];
            match is_top {
                true => cells.extend(graded.right.iter().map(|(_, n)| show(Some(percent(*n, graded.n)), " %"))),
                false => cells.push(show(graded.score, if self.metric == Metric::Snr { " dB" } else { " %" })),
            }
            cells.extend(against_cells(graded.against));
            let [median, speed] = self.speed(graded);
            cells.extend([format!("{median:.3}"), format!("{speed:.0}"), graded.form.path.display().to_string()]);
            cells
        };
        let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
        table(&headings, all.iter().map(row))
    }

    /// One model, for programs.
    pub fn json(&self, graded: &Graded<'_>) -> Value {
        let mut all = Map::new();
        all.insert("name".into(), json!(graded.form.name));
        all.insert("file".into(), json!(graded.form.path));
        if matches!(self.truth, Truth::Classes(_)) {
            all.extend(graded.right.iter().map(|(k, right)| (format!("top{k}"), json!(percent(*right, graded.n)))));
        }
        all.insert(self.metric.name().replace('-', ""), json!(graded.score.filter(|score| score.is_finite())));
        if let Some(against) = graded.against {
            all.insert("against".into(), against.json());
        }
        let [median, speed] = self.speed(graded);
        all.extend([
            ("batch".into(), json!(graded.form.rows)),
            ("median_ms".into(), json!(median)),
            ("samples_per_s".into(), json!(speed)),
        ]);
        Value::Object(all)
    }
}

/// Agreement, drop and interval as a table has them.
fn against_cells(against: Option<Against>) -> [String; 3] {
    let show = |x: Option<f64>| x.map_or("-".to_string(), |x| format!("{x:.2}"));
    match against {
        None => ["-"; 3].map(String::from),
        Some(a) => [
            a.agreement.map_or("-".into(), |x| format!("{x:.2} %")),
            show(a.points),
            a.interval.map_or("-".into(), |[low, high]| format!("{low:.2} to {high:.2}")),
        ],
    }
}

impl Against {
    /// For programs.
    pub fn json(&self) -> Value {
        json!({ "agreement": self.agreement, "drop": self.points, "interval": self.interval })
    }

    /// For people.
    pub fn text(&self) -> String {
        let [agreement, points, interval] = against_cells(Some(*self));
        format!("agreement {agreement}, drop {points} ({interval})")
    }
}

/// `part` of `whole` in percent.
pub fn percent(part: usize, whole: usize) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tied_classes_share_a_right_answer() {
        let truth = Truth::Classes(vec![Some(3); 3]);
        let best = [vec![3], vec![1, 3], vec![1, 2]].map(|tied| Best { classes: tied.clone(), tied });
        assert_eq!(truth.drawn(&best), 1.5);
    }
}
