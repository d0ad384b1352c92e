//! Measured runs by name, in the order they were first measured.

/// Rows of a table; each has one or more runs.
pub struct Rows<T> {
    rows: Vec<(String, Vec<T>)>,
}

impl<T> Rows<T> {
    pub fn new() -> Self {
        Self { rows: Vec::new() }
    }

    /// Adds a run.
    pub fn add(&mut self, name: &str, run: T) {
        match self.rows.iter_mut().find(|(known, _)| known == name) {
            Some((_, runs)) => runs.push(run),
            None => self.rows.push((name.to_owned(), vec![run])),
        }
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().map(|(name, _)| name.as_str())
    }

    /// The median of a figure over the runs of a row; of two, the greater.
    pub fn median(&self, name: &str, figure: impl Fn(&T) -> f64) -> Option<f64> {
        let (_, runs) = self.rows.iter().find(|(known, _)| known == name)?;
        let mut figures: Vec<f64> = runs.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        Some(figures[figures.len() / 2])
    }
}
