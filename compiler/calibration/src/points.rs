//! The values of a tensor in their order, each with how often it was there.

/// Finite numbers with counts, in ascending order, no number twice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Points {
    points: Vec<(f64, u64)>,
}

impl Points {
    /// Counts numbers in any order; those that are not finite are left out.
    pub fn new(numbers: impl IntoIterator<Item = (f64, u64)>) -> Points {
        let mut points: Vec<(f64, u64)> = numbers.into_iter().filter(|(x, n)| x.is_finite() && *n > 0).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut joined: Vec<(f64, u64)> = Vec::with_capacity(points.len());
        for (x, n) in points {
            match joined.last_mut() {
                Some(last) if last.0 == x => last.1 += n,
                _ => joined.push((x, n)),
            }
        }
        Points { points: joined }
    }

    /// Counts the values of a tensor.
    pub fn of(values: &[f32]) -> Points {
        Points::new(values.iter().map(|&x| (f64::from(x), 1)))
    }

    /// Numbers and counts.
    pub fn iter(&self) -> impl Iterator<Item = (f64, u64)> {
        self.points.iter().copied()
    }

    /// The magnitudes.
    pub fn magnitudes(&self) -> Points {
        Points::new(self.iter().map(|(x, n)| (x.abs(), n)))
    }

    /// How many values there are.
    pub fn total(&self) -> u64 {
        self.points.iter().map(|(_, n)| n).sum()
    }

    /// The smallest and the largest number; nothing if there is none.
    pub fn ends(&self) -> Option<(f64, f64)> {
        Some((self.points.first()?.0, self.points.last()?.0))
    }

    /// The largest magnitude; nothing if there is no number.
    pub fn largest(&self) -> Option<f64> {
        self.ends().map(|(low, high)| low.abs().max(high.abs()))
    }

    /// Whether nothing but 0 is there.
    pub fn is_zero(&self) -> bool {
        self.largest().is_none_or(|x| x == 0.0)
    }
}
